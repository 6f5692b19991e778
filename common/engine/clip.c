/* CLIP text encoder (transformers' CLIPTextModelWithProjection), in float32. */
#include "clip.h"

#include <math.h>

#define LAYER "text_model.encoder.layers.%d.%s"

typedef struct norm {
    struct ggml_tensor *weight, *bias;
} norm;

typedef struct linear {
    struct ggml_tensor *weight, *bias;
} linear;

typedef struct layer {
    norm before_attention, before_mlp;
    linear q, k, v, out, up, down;
} layer;

struct rv__clip {
    rv__device *device;
    const char *part;
    rv__params *params;
    int64_t vocabulary, hidden, mlp, projection, positions, layer_count, heads, end_id;
    float eps;
    rv__activation activation;
    struct ggml_tensor *token_table, *position_table, *text_projection;
    layer *layers;
    norm last;
    rv__text_graph graph;
    struct ggml_tensor *places, *end, *result; /* inputs and output of the graph */
};

static rv_status read_config(rv__clip *c, const rv__weights *w, rv_error *err)
{
    rv__config config;
    rv_status status = rv__config_open(&config, w, c->part, "clip_text_model", err);
    if (!status) {
        c->vocabulary = rv__config_int(&config, "vocab_size", 1, 1 << 24, 0);
        c->hidden = rv__config_int(&config, "hidden_size", 1, 1 << 16, 0);
        c->mlp = rv__config_int(&config, "intermediate_size", 1, 1 << 18, 0);
        c->projection = rv__config_int(&config, "projection_dim", 1, 1 << 16, 512);
        c->positions = rv__config_int(&config, "max_position_embeddings", 1, 1 << 20, 0);
        c->layer_count = rv__config_int(&config, "num_hidden_layers", 1, 256, 0);
        c->heads = rv__config_int(&config, "num_attention_heads", 1, 1024, 0);
        c->end_id = rv__config_int(&config, "eos_token_id", 0, INT32_MAX, 49407);
        c->eps = (float)rv__config_number(&config, config.json, "layer_norm_eps", 0, 1, 1e-5);
        c->activation = rv__config_activation(&config, "hidden_act", "quick_gelu");
        if (!config.status && c->hidden % c->heads)
            rv__config_fail(&config, "num_attention_heads", "does not divide hidden_size");
        status = config.status;
    }
    rv__config_close(&config);
    return status;
}

static linear load_linear(rv__clip *c, int64_t out, int64_t in, int index, const char *name)
{
    return (linear){rv__param_matrix(c->params, out, in, LAYER ".weight", index, name),
                    rv__param_vector(c->params, out, LAYER ".bias", index, name)};
}

static norm load_norm(rv__clip *c, int index, const char *name)
{
    return (norm){rv__param_vector(c->params, c->hidden, LAYER ".weight", index, name),
                  rv__param_vector(c->params, c->hidden, LAYER ".bias", index, name)};
}

static void load_tensors(rv__clip *c)
{
    int64_t d = c->hidden;
    rv__params *p = c->params;
    c->token_table =
        rv__param_matrix(p, c->vocabulary, d, "text_model.embeddings.token_embedding.weight");
    c->position_table =
        rv__param_matrix(p, c->positions, d, "text_model.embeddings.position_embedding.weight");
    for (int i = 0; i < c->layer_count; i++)
        c->layers[i] = (layer){.before_attention = load_norm(c, i, "layer_norm1"),
                               .before_mlp = load_norm(c, i, "layer_norm2"),
                               .q = load_linear(c, d, d, i, "self_attn.q_proj"),
                               .k = load_linear(c, d, d, i, "self_attn.k_proj"),
                               .v = load_linear(c, d, d, i, "self_attn.v_proj"),
                               .out = load_linear(c, d, d, i, "self_attn.out_proj"),
                               .up = load_linear(c, c->mlp, d, i, "mlp.fc1"),
                               .down = load_linear(c, d, c->mlp, i, "mlp.fc2")};
    c->last.weight = rv__param_vector(p, d, "text_model.final_layer_norm.weight");
    c->last.bias = rv__param_vector(p, d, "text_model.final_layer_norm.bias");
    c->text_projection = rv__param_matrix(p, c->projection, d, "text_projection.weight");
}

rv_status rv__clip_open(rv__device *d, const rv__weights *w, const char *part, rv__clip **out,
                        rv_error *err)
{
    *out = NULL;
    rv__clip *c = rv__calloc(1, sizeof *c);
    if (!c)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", part);
    c->device = d;
    c->part = part;
    rv_status status = read_config(c, w, err);
    if (!status)
        status = rv__params_open(w, part, &c->params, err);
    if (!status) {
        c->layers = rv__calloc((size_t)c->layer_count, sizeof *c->layers);
        if (!c->layers)
            status = rv__fail(err, RV_MEMORY, "%s: out of memory", part);
    }
    if (!status) {
        load_tensors(c);
        status = rv__params_check(c->params, err);
    }
    if (status)
        rv__clip_close(c);
    else
        *out = c;
    return status;
}

void rv__clip_close(rv__clip *c)
{
    if (!c)
        return;
    rv__text_graph_free(&c->graph);
    rv__params_close(c->params);
    rv__free(c->layers);
    rv__free(c);
}

rv__params *rv__clip_params(rv__clip *c)
{
    return c->params;
}

int64_t rv__clip_channels(const rv__clip *c)
{
    return c->projection;
}

static struct ggml_tensor *add_attention(const rv__clip *c, const layer *l, struct ggml_tensor *x)
{
    rv__graph *g = c->graph.graph;
    struct ggml_tensor *y =
        rv__layer_norm(g, x, l->before_attention.weight, l->before_attention.bias, c->eps);
    struct ggml_tensor *q = rv__linear(g, l->q.weight, l->q.bias, y);
    struct ggml_tensor *k = rv__linear(g, l->k.weight, l->k.bias, y);
    struct ggml_tensor *v = rv__linear(g, l->v.weight, l->v.bias, y);
    float scale = 1.0f / sqrtf((float)(c->hidden / c->heads));
    y = rv__attention(g, q, k, v, c->graph.mask, (int)c->heads, (int)c->heads, scale);
    return rv__add(g, x, rv__linear(g, l->out.weight, l->out.bias, y));
}

static struct ggml_tensor *add_mlp(const rv__clip *c, const layer *l, struct ggml_tensor *x)
{
    rv__graph *g = c->graph.graph;
    struct ggml_tensor *y = rv__layer_norm(g, x, l->before_mlp.weight, l->before_mlp.bias, c->eps);
    y = rv__activate(g, rv__linear(g, l->up.weight, l->up.bias, y), c->activation);
    return rv__add(g, x, rv__linear(g, l->down.weight, l->down.bias, y));
}

static rv_status build(rv__clip *c, size_t length, const rv__text_run *run, rv_error *err)
{
    rv_status status =
        rv__text_graph_begin(&c->graph, c->device, length, c->layer_count, 1, run, err);
    if (status)
        return status;
    rv__graph *g = c->graph.graph;
    c->places = rv__graph_input(g, GGML_TYPE_I32, (int64_t)length, 1, 1, 1);
    c->end = rv__graph_input(g, GGML_TYPE_I32, 1, 1, 1, 1);
    struct ggml_tensor *x = rv__add(g, rv__rows(g, c->token_table, c->graph.ids),
                                    rv__rows(g, c->position_table, c->places));
    rv__tap(g, x, "embeddings");
    for (int i = 0; i < c->layer_count; i++) {
        x = add_mlp(c, &c->layers[i], add_attention(c, &c->layers[i], x));
        rv__tap(g, x, "layer.%d", i);
    }
    x = rv__layer_norm(g, x, c->last.weight, c->last.bias, c->eps);
    rv__tap(g, x, "last_hidden_state");
    c->result = rv__linear(g, c->text_projection, NULL, rv__rows(g, x, c->end));
    rv__graph_output(g, c->result);
    status = rv__graph_build(g, err);
    return status ? status : rv__text_graph_causal(&c->graph, NULL, err);
}

/* Where the result is read: at the first end-of-text id.  A configuration with id 2 is of the time
 * when the largest id was taken instead, and is still read that way. */
static size_t end_place(const rv__clip *c, const rv__token_ids *tokens)
{
    size_t best = 0;
    for (size_t i = 0; i < tokens->length; i++) {
        if (c->end_id != 2 && tokens->ids[i] == c->end_id)
            return i;
        if (c->end_id == 2 && tokens->ids[i] > tokens->ids[best])
            best = i;
    }
    return best;
}

static rv_status run_graph(rv__clip *c, const rv__text_run *run, size_t length, int32_t end,
                           float *out, rv_error *err)
{
    int32_t places[RV__TEXT_LENGTH_MAX];
    for (size_t i = 0; i < length; i++)
        places[i] = (int32_t)i;
    rv__graph *g = c->graph.graph;
    rv__graph_set(g, c->graph.ids, run->tokens->ids, length * sizeof(int32_t));
    rv__graph_set(g, c->places, places, length * sizeof(int32_t));
    rv__graph_set(g, c->end, &end, sizeof end);
    rv_status status = rv__graph_run(g, run->cancelled, run->cancelled_user, err);
    if (!status)
        rv__graph_get(g, c->result, out, (size_t)c->projection * sizeof *out);
    return status;
}

rv_status rv__clip_run(rv__clip *c, const rv__text_run *run, float *out, rv_error *err)
{
    rv_status status = rv__text_check(run->tokens, c->vocabulary, c->part, err);
    if (status)
        return status;
    if ((int64_t)run->tokens->length > c->positions)
        return rv__fail(err, RV_UNSUPPORTED, "%s: %zu tokens, but %lld positions", c->part,
                        run->tokens->length, (long long)c->positions);
    size_t end = end_place(c, run->tokens), length = run->taps ? run->tokens->length : end + 1;
    if (!rv__text_graph_fits(&c->graph, length, run))
        status = build(c, length, run, err);
    if (!status)
        status = run_graph(c, run, length, (int32_t)end, out, err);
    if (status)
        rv__text_graph_free(&c->graph);
    return status;
}
