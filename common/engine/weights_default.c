/* Configurations of the published HiDream-I1, for files that come without any.  Must never stand in
 * for another model's: a part gets one only when its tensors have the published shapes. */
#include "weights_internal.h"

#include <stdio.h>
#include <string.h>

#define COUNT(list) (sizeof(list) / sizeof *(list))

static const char transformer[] =
    "{\"patch_size\":2,\"in_channels\":16,\"out_channels\":16,\"num_layers\":16,"
    "\"num_single_layers\":32,\"attention_head_dim\":128,\"num_attention_heads\":20,"
    "\"caption_channels\":[4096,4096],\"text_emb_dim\":2048,\"num_routed_experts\":4,"
    "\"num_activated_experts\":2,\"axes_dims_rope\":[64,32,32],\"max_resolution\":[128,128],"
    "\"llama_layers\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,"
    "28,29,30,31,31,31,31,31,31,31,31,31,31,31,31,31,31,31,31,31]}";

static const char vae[] =
    "{\"in_channels\":3,\"out_channels\":3,\"latent_channels\":16,\"layers_per_block\":2,"
    "\"norm_num_groups\":32,\"block_out_channels\":[128,256,512,512],\"act_fn\":\"silu\","
    "\"scaling_factor\":0.3611,\"shift_factor\":0.1159}";

static const char clip_l[] =
    "{\"model_type\":\"clip_text_model\",\"vocab_size\":49408,\"hidden_size\":768,"
    "\"intermediate_size\":3072,\"num_hidden_layers\":12,\"num_attention_heads\":12,"
    "\"max_position_embeddings\":248,\"projection_dim\":768,\"hidden_act\":\"quick_gelu\","
    "\"layer_norm_eps\":1e-5,\"eos_token_id\":49407}";

static const char clip_g[] =
    "{\"model_type\":\"clip_text_model\",\"vocab_size\":49408,\"hidden_size\":1280,"
    "\"intermediate_size\":5120,\"num_hidden_layers\":32,\"num_attention_heads\":20,"
    "\"max_position_embeddings\":218,\"projection_dim\":1280,\"hidden_act\":\"gelu\","
    "\"layer_norm_eps\":1e-5,\"eos_token_id\":49407}";

static const char t5[] =
    "{\"model_type\":\"t5\",\"vocab_size\":32128,\"d_model\":4096,\"d_kv\":64,\"num_heads\":64,"
    "\"d_ff\":10240,\"num_layers\":24,\"relative_attention_num_buckets\":32,"
    "\"relative_attention_max_distance\":128,\"layer_norm_epsilon\":1e-6,"
    "\"feed_forward_proj\":\"gated-gelu\"}";

static const char llama[] =
    "{\"model_type\":\"llama\",\"vocab_size\":128256,\"hidden_size\":4096,"
    "\"intermediate_size\":14336,\"num_hidden_layers\":32,\"num_attention_heads\":32,"
    "\"num_key_value_heads\":8,\"max_position_embeddings\":131072,\"rms_norm_eps\":1e-5,"
    "\"rope_theta\":500000,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
    "\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}}";

/* Two tensors tell a part: the last block, and one that has the width (and the positions). */
static const struct {
    const char *part, *last, *name;
    int64_t shape[2];
    const char *config;
} known[] = {
    {"transformer", "single_stream_blocks.31.block.ff_i.experts.3.w2.weight",
     "caption_projection.48.linear.weight", {2560, 4096}, transformer},
    {"vae", "decoder.up_blocks.3.resnets.2.conv2.weight", "decoder.conv_in.weight", {512, 16}, vae},
    {"text_encoder", "text_model.encoder.layers.11.mlp.fc2.weight",
     "text_model.embeddings.position_embedding.weight", {248, 768}, clip_l},
    {"text_encoder_2", "text_model.encoder.layers.31.mlp.fc2.weight",
     "text_model.embeddings.position_embedding.weight", {218, 1280}, clip_g},
    {"text_encoder_3", "encoder.block.23.layer.1.DenseReluDense.wo.weight",
     "encoder.block.0.layer.0.SelfAttention.q.weight", {4096, 4096}, t5},
    {"text_encoder_4", "model.layers.31.mlp.down_proj.weight",
     "model.layers.0.self_attn.k_proj.weight", {1024, 4096}, llama},
};

static rv_status add_file(rv__weights *w, const char *path, const char *text, rv_error *err)
{
    if (rv__weights_file(w, path, NULL))
        return RV_OK;
    char *copy = rv__strdup(text);
    return copy ? rv__weights_add_file(w, path, copy, strlen(text), err)
                : rv__fail(err, RV_MEMORY, "%.100s: out of memory", w->path);
}

/* Parts are not sorted yet, so the look-up goes through all tensors. */
static const rv__tensor *find(const rv__weights *w, const char *part, const char *name)
{
    size_t count;
    const rv__tensor *list = rv__weights_list(w, part, &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    return NULL;
}

rv_status rv__weights_add_defaults(rv__weights *w, rv_error *err)
{
    rv_status status = RV_OK;
    for (size_t i = 0; i < COUNT(known) && status == RV_OK; i++) {
        char path[64];
        const rv__tensor *t = find(w, known[i].part, known[i].name);
        if (!t || !find(w, known[i].part, known[i].last) || t->shape[0] != known[i].shape[0] ||
            t->shape[1] != known[i].shape[1])
            continue;
        snprintf(path, sizeof path, "%s/config.json", known[i].part);
        status = add_file(w, path, known[i].config, err);
    }
    if (status == RV_OK && find(w, "transformer", "caption_projection.0.linear.weight"))
        status = add_file(w, "model_index.json", "{\"_class_name\":\"HiDreamImagePipeline\"}", err);
    return status;
}
