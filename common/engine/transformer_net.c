/* See transformer_net.h.  Names are those of diffusers. */
#include "transformer_net.h"

#include <stdio.h>

#include "base/memory.h"

/* Channels of the sinusoidal time features; fixed in the reference. */
enum { TIME_FEATURES = 256 };

static rv__layer layer(rv__params *p, int64_t out, int64_t in, const char *prefix, const char *name)
{
    return (rv__layer){rv__param_matrix(p, out, in, "%s%s.weight", prefix, name),
                       rv__param_vector(p, out, "%s%s.bias", prefix, name)};
}

static rv__stream stream(rv__params *p, int64_t d, const char *prefix, const char *suffix)
{
    char name[32];
    rv__stream s;

    snprintf(name, sizeof name, "attn1.to_q%s", suffix);
    s.q = layer(p, d, d, prefix, name);
    snprintf(name, sizeof name, "attn1.to_k%s", suffix);
    s.k = layer(p, d, d, prefix, name);
    snprintf(name, sizeof name, "attn1.to_v%s", suffix);
    s.v = layer(p, d, d, prefix, name);
    snprintf(name, sizeof name, "attn1.to_out%s", suffix);
    s.out = layer(p, d, d, prefix, name);
    s.q_norm = rv__param_vector(p, d, "%sattn1.q_rms_norm%s.weight", prefix, suffix);
    s.k_norm = rv__param_vector(p, d, "%sattn1.k_rms_norm%s.weight", prefix, suffix);
    return s;
}

/* w1, w2, w3 of a SwiGLU; its inner width is whatever w1 says (hidden >= 0: must be this). */
static int64_t swiglu(rv__params *p, int64_t d, int64_t hidden, const char *prefix,
                      const char *name, struct ggml_tensor **w1, struct ggml_tensor **w2,
                      struct ggml_tensor **w3)
{
    *w1 = rv__param_matrix(p, hidden, d, "%s%s.w1.weight", prefix, name);
    if (*w1)
        hidden = (*w1)->ne[1];
    *w3 = rv__param_matrix(p, hidden, d, "%s%s.w3.weight", prefix, name);
    *w2 = rv__param_matrix(p, d, hidden, "%s%s.w2.weight", prefix, name);
    return hidden;
}

static void experts(rv__params *p, const rv__transformer_config *c, const char *prefix,
                    struct ggml_tensor **room, rv__experts *e)
{
    int64_t hidden = -1;
    char name[48];

    e->count = (int)c->experts;
    e->chosen = (int)c->chosen;
    e->w1 = room;
    e->w2 = room + c->experts;
    e->w3 = room + 2 * c->experts;
    e->gate = rv__param_matrix(p, c->experts, c->width, "%sff_i.gate.weight", prefix);
    swiglu(p, c->width, -1, prefix, "ff_i.shared_experts", &e->shared_w1, &e->shared_w2,
           &e->shared_w3);
    for (int i = 0; i < e->count; i++) {
        snprintf(name, sizeof name, "ff_i.experts.%d", i);
        hidden = swiglu(p, c->width, hidden, prefix, name, &e->w1[i], &e->w2[i], &e->w3[i]);
    }
}

static void block(rv__transformer_net *net, int64_t i)
{
    const rv__transformer_config *c = &net->config;
    rv__params *p = net->params;
    rv__block *b = &net->blocks[i];
    bool is_double = i < c->double_blocks;
    char prefix[64];

    snprintf(prefix, sizeof prefix, "%s_stream_blocks.%lld.block.", is_double ? "double" : "single",
             (long long)(is_double ? i : i - c->double_blocks));
    b->adaln = layer(p, (is_double ? 12 : 6) * c->width, c->width, prefix, "adaLN_modulation.1");
    b->image = stream(p, c->width, prefix, "");
    experts(p, c, prefix, net->expert_room + 3 * c->experts * i, &b->experts);
    if (!is_double)
        return;
    b->text = stream(p, c->width, prefix, "_t");
    swiglu(p, c->width, -1, prefix, "ff_t", &b->text_w1, &b->text_w2, &b->text_w3);
}

static void outer_layers(rv__transformer_net *net)
{
    const rv__transformer_config *c = &net->config;
    rv__params *p = net->params;
    int64_t d = c->width, token = c->patch * c->patch * c->channels;

    net->patches = layer(p, d, token, "", "x_embedder.proj");
    net->time1 = layer(p, d, TIME_FEATURES, "t_embedder.timestep_embedder.", "linear_1");
    net->time2 = layer(p, d, d, "t_embedder.timestep_embedder.", "linear_2");
    net->pooled1 = layer(p, d, c->pooled_channels, "p_embedder.pooled_embedder.", "linear_1");
    net->pooled2 = layer(p, d, d, "p_embedder.pooled_embedder.", "linear_2");
    net->final_adaln = layer(p, 2 * d, d, "final_layer.", "adaLN_modulation.1");
    net->final = layer(p, token, d, "final_layer.", "linear");
}

static rv_status read_config(rv__transformer_net *net, const rv__weights *w, rv_error *err)
{
    rv__value *json;
    rv_status status = rv__weights_json(w, "transformer/config.json", &json, err);

    if (status == RV_OK) {
        status = rv__transformer_parse(json, &net->config, err);
        rv__json_free(json);
    }
    return status;
}

rv_status rv__transformer_net_open(rv__transformer_net *net, const rv__weights *w, rv_error *err)
{
    const rv__transformer_config *c = &net->config;
    rv_status status = read_config(net, w, err);
    int64_t blocks = c->double_blocks + c->single_blocks;

    if (status == RV_OK)
        status = rv__params_open(w, "transformer", &net->params, err);
    if (status != RV_OK)
        return status;
    net->captions = rv__calloc((size_t)blocks + 1, sizeof *net->captions);
    net->blocks = rv__calloc((size_t)blocks, sizeof *net->blocks);
    net->expert_room = rv__calloc((size_t)(3 * c->experts * blocks), sizeof *net->expert_room);
    if (!net->captions || !net->blocks || !net->expert_room)
        return rv__fail(err, RV_MEMORY, "out of memory");
    outer_layers(net);
    for (int64_t i = 0; i <= blocks; i++)
        net->captions[i] =
            rv__param_matrix(net->params, c->width, i < blocks ? c->llama_channels : c->t5_channels,
                             "caption_projection.%lld.linear.weight", (long long)i);
    for (int64_t i = 0; i < blocks; i++)
        block(net, i);
    return rv__params_check(net->params, err);
}

void rv__transformer_net_close(rv__transformer_net *net)
{
    rv__params_close(net->params);
    rv__free(net->captions);
    rv__free(net->blocks);
    rv__free(net->expert_room);
}
