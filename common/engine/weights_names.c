/* See weights_names.h. */
#include "weights_names.h"

#include <stdio.h>
#include <string.h>

typedef struct pair {
    const char *theirs, *ours;
} pair;

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* What name has behind start; NULL when it does not begin so. */
static const char *behind(const char *name, const char *start)
{
    size_t n = strlen(start);
    return strncmp(name, start, n) == 0 ? name + n : NULL;
}

const char *rv__name_without_prefix(const char *part, const char *name)
{
    static const pair prefixes[] = {
        {"model.diffusion_model.", "transformer"}, /* theirs, the part they stand in */
        {"diffusion_model.", "transformer"},
        {"first_stage_model.", "vae"},
    };
    for (size_t i = 0; i < COUNT(prefixes); i++) {
        const char *rest = behind(name, prefixes[i].theirs);
        if (rest && *rest && strcmp(part, prefixes[i].ours) == 0)
            return rest;
    }
    return name;
}

/* ---- LDM ---- */

bool rv__name_is_ldm(const char *name)
{
    return strstr(name, ".mid.block_1.") || strstr(name, ".mid.attn_1.");
}

int rv__name_ldm_up(const char *name)
{
    int up;
    return sscanf(name, "decoder.up.%2d.", &up) == 1 && up >= 0 ? up : -1;
}

/* Members of a block: the first row whose beginning fits is used. */
static const pair members[] = {
    {"block_1.", "resnets.0."},
    {"block_2.", "resnets.1."},
    {"attn_1.norm.", "attentions.0.group_norm."},
    {"attn_1.q.", "attentions.0.to_q."},
    {"attn_1.k.", "attentions.0.to_k."},
    {"attn_1.v.", "attentions.0.to_v."},
    {"attn_1.proj_out.", "attentions.0.to_out.0."},
};

static void write_member(const char *start, const char *rest, char *out)
{
    const char *shortcut = strstr(rest, "nin_shortcut.");
    for (size_t i = 0; i < COUNT(members); i++) {
        const char *more = behind(rest, members[i].theirs);
        if (more) {
            snprintf(out, RV_NAME_BYTES, "%s%s%s", start, members[i].ours, more);
            return;
        }
    }
    if (shortcut)
        snprintf(out, RV_NAME_BYTES, "%s%.*sconv_shortcut.%s", start, (int)(shortcut - rest), rest,
                 shortcut + strlen("nin_shortcut."));
    else
        snprintf(out, RV_NAME_BYTES, "%s%s", start, rest);
}

void rv__name_from_ldm(const char *name, int ups, char *out)
{
    char side[8], start[80];
    int stage, block, at = 0, end = 0;
    snprintf(out, RV_NAME_BYTES, "%s", name);
    if (sscanf(name, "%7[a-z].%n", side, &at) != 1 || !at ||
        (strcmp(side, "encoder") != 0 && strcmp(side, "decoder") != 0))
        return;
    const char *rest = name + at;
    bool is_up = strncmp(rest, "up.", 3) == 0, is_down = strncmp(rest, "down.", 5) == 0;
    const char *way = is_up ? "up" : "down";
    if (behind(rest, "mid.")) {
        snprintf(start, sizeof start, "%s.mid_block.", side);
        write_member(start, rest + 4, out);
    } else if (behind(rest, "norm_out.")) {
        snprintf(out, RV_NAME_BYTES, "%s.conv_%s", side, rest);
    } else if ((is_up && sscanf(rest, "up.%2d.block.%2d.%n", &stage, &block, &end) == 2 && end) ||
               (is_down && sscanf(rest, "down.%2d.block.%2d.%n", &stage, &block, &end) == 2 &&
                end)) {
        snprintf(start, sizeof start, "%s.%s_blocks.%d.resnets.%d.", side, way,
                 is_up ? ups - 1 - stage : stage, block);
        write_member(start, rest + end, out);
    } else if ((is_up && sscanf(rest, "up.%2d.upsample.%n", &stage, &end) == 1 && end) ||
               (is_down && sscanf(rest, "down.%2d.downsample.%n", &stage, &end) == 1 && end)) {
        snprintf(out, RV_NAME_BYTES, "%s.%s_blocks.%d.%ssamplers.0.%s", side, way,
                 is_up ? ups - 1 - stage : stage, way, rest + end);
    }
}

/* ---- llama.cpp ---- */

static const pair t5_names[] = {
    {"token_embd.weight", "shared.weight"},
    {"enc.output_norm.weight", "encoder.final_layer_norm.weight"},
};
static const pair t5_members[] = {
    {"attn_q.weight", "0.SelfAttention.q.weight"},
    {"attn_k.weight", "0.SelfAttention.k.weight"},
    {"attn_v.weight", "0.SelfAttention.v.weight"},
    {"attn_o.weight", "0.SelfAttention.o.weight"},
    {"attn_rel_b.weight", "0.SelfAttention.relative_attention_bias.weight"},
    {"attn_norm.weight", "0.layer_norm.weight"},
    {"ffn_gate.weight", "1.DenseReluDense.wi_0.weight"},
    {"ffn_up.weight", "1.DenseReluDense.wi_1.weight"},
    {"ffn_down.weight", "1.DenseReluDense.wo.weight"},
    {"ffn_norm.weight", "1.layer_norm.weight"},
};
static const pair llama_names[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};
static const pair llama_members[] = {
    {"attn_norm.weight", "input_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_k.weight", "self_attn.k_proj.weight"},
    {"attn_v.weight", "self_attn.v_proj.weight"},
    {"attn_output.weight", "self_attn.o_proj.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},
    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"},
};

static const char *look_up(const pair *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].theirs, name) == 0)
            return list[i].ours;
    return NULL;
}

bool rv__name_from_llama(const char *name, bool is_t5, char *out)
{
    int layer, end = 0;
    const char *ours = is_t5 ? look_up(t5_names, COUNT(t5_names), name)
                             : look_up(llama_names, COUNT(llama_names), name);
    if (ours) {
        snprintf(out, RV_NAME_BYTES, "%s", ours);
        return true;
    }
    /* The decoder of a whole T5 is not used here; rope_freqs follows from the configuration. */
    if (behind(name, "dec.") || strcmp(name, "rope_freqs.weight") == 0)
        return false;
    if (is_t5 && sscanf(name, "enc.blk.%4d.%n", &layer, &end) == 1 && end)
        ours = look_up(t5_members, COUNT(t5_members), name + end);
    else if (!is_t5 && sscanf(name, "blk.%4d.%n", &layer, &end) == 1 && end)
        ours = look_up(llama_members, COUNT(llama_members), name + end);
    if (ours && is_t5)
        snprintf(out, RV_NAME_BYTES, "encoder.block.%d.layer.%s", layer, ours);
    else if (ours)
        snprintf(out, RV_NAME_BYTES, "model.layers.%d.%s", layer, ours);
    else
        snprintf(out, RV_NAME_BYTES, "%s", name);
    return true;
}
