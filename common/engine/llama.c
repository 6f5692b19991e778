/* Llama (transformers' LlamaModel) without its head, in float32.  Padding stands on the right: its
 * rows see the text but nothing sees them. */
#include "llama.h"

#include <math.h>
#include <string.h>

#define HEAD_MAX 1024

typedef struct linear {
    struct ggml_tensor *weight, *bias; /* bias may be NULL */
} linear;

typedef struct layer {
    struct ggml_tensor *attention_norm, *mlp_norm, *gate, *up, *down;
    linear q, k, v, o;
    struct ggml_tensor *state; /* in the graph: what leaves the layer */
} layer;

struct rv__llama {
    rv__device *device;
    const char *part;
    rv__params *params;
    int64_t vocabulary, hidden, mlp, heads, kv_heads, head, layer_count, positions;
    float eps, frequencies[HEAD_MAX / 2];
    bool has_bias;
    struct ggml_tensor *table, *last;
    layer *layers;
    rv__text_graph graph;
    struct ggml_tensor *cosine, *sine;
};

/* Slows the rotation of channels whose wave is long against the length the model was first trained
 * on ("llama3"). */
static float slow_down(float frequency, float factor, float low, float high, float length)
{
    float wave = 6.2831855f / frequency;
    if (wave < length / high)
        return frequency;
    if (wave > length / low)
        return frequency / factor;
    float smooth = (length / wave - low) / (high - low);
    return (1 - smooth) * frequency / factor + smooth * frequency;
}

static void read_rope(rv__llama *l, rv__config *c)
{
    const rv__value *rope = rv__json_get(c->json, "rope_scaling");
    if (!rv__json_is_object(rope))
        rope = rv__json_get(c->json, "rope_parameters"); /* newer files keep everything here */
    const char *type =
        rv__json_get_string(rope, "rope_type", rv__json_get_string(rope, "type", "default"));
    bool scaled = strcmp(type, "llama3") == 0, is_linear = strcmp(type, "linear") == 0;
    double theta = rv__config_number(c, c->json, "rope_theta", 1, 1e12, 10000);
    theta = rv__config_number(c, rope, "rope_theta", 1, 1e12, theta);
    double factor = 1, low = 1, high = 4, length = 8192;
    if (scaled || is_linear)
        factor = rv__config_number(c, rope, "factor", 1e-3, 1e6, 0);
    if (scaled) {
        low = rv__config_number(c, rope, "low_freq_factor", 1e-3, 1e6, 0);
        high = rv__config_number(c, rope, "high_freq_factor", 1e-3, 1e6, 0);
        length = rv__config_number(c, rope, "original_max_position_embeddings", 1, 1e9, 0);
        if (!c->status && high <= low)
            rv__config_fail(c, "high_freq_factor", "is not above low_freq_factor");
    } else if (!is_linear && strcmp(type, "default") != 0) {
        rv__config_fail(c, "rope_type", "is not known here");
    }
    for (int64_t i = 0; i < l->head / 2; i++) {
        float exponent = (float)(2 * i) / (float)l->head;
        float frequency = 1.0f / (float)pow(theta, (double)exponent);
        if (scaled)
            frequency = slow_down(frequency, (float)factor, (float)low, (float)high, (float)length);
        l->frequencies[i] = is_linear ? frequency / (float)factor : frequency;
    }
}

static void read_shape(rv__llama *l, rv__config *c)
{
    l->vocabulary = rv__config_int(c, "vocab_size", 1, 1 << 24, 0);
    l->hidden = rv__config_int(c, "hidden_size", 1, 1 << 16, 0);
    l->mlp = rv__config_int(c, "intermediate_size", 1, 1 << 18, 0);
    l->layer_count = rv__config_int(c, "num_hidden_layers", 1, 256, 0);
    l->heads = rv__config_int(c, "num_attention_heads", 1, 1024, 0);
    l->kv_heads = rv__config_int(c, "num_key_value_heads", 1, 1024, l->heads);
    l->positions = rv__config_int(c, "max_position_embeddings", 1, 1 << 30, 2048);
    l->eps = (float)rv__config_number(c, c->json, "rms_norm_eps", 0, 1, 1e-6);
    const rv__value *head = rv__json_get(c->json, "head_dim");
    bool told = head && !rv__json_is_null(head);
    l->head = told ? rv__config_int(c, "head_dim", 2, HEAD_MAX, 0) : l->hidden / l->heads;
    if (!c->status && !told && l->hidden % l->heads)
        rv__config_fail(c, "num_attention_heads", "does not divide hidden_size");
    if (!c->status && l->heads % l->kv_heads)
        rv__config_fail(c, "num_key_value_heads", "does not divide num_attention_heads");
    if (!c->status && (l->head % 2 || l->head < 2 || l->head > HEAD_MAX))
        rv__config_fail(c, "head_dim", "is odd or too large");
}

static rv_status read_config(rv__llama *l, const rv__weights *w, rv_error *err)
{
    rv__config config;
    rv_status status = rv__config_open(&config, w, l->part, "llama", err);
    if (!status) {
        read_shape(l, &config);
        if (!config.status)
            read_rope(l, &config);
        l->has_bias = rv__json_get_bool(config.json, "attention_bias", false);
        if (rv__json_get_bool(config.json, "mlp_bias", false))
            rv__config_fail(&config, "mlp_bias", "is not supported");
        if (rv__config_activation(&config, "hidden_act", "silu") != RV__SILU)
            rv__config_fail(&config, "hidden_act", "is not silu");
        status = config.status;
    }
    rv__config_close(&config);
    return status;
}

static struct ggml_tensor *matrix(rv__llama *l, int64_t out, int64_t in, int index,
                                  const char *name)
{
    return rv__param_matrix(l->params, out, in, "model.layers.%d.%s.weight", index, name);
}

static struct ggml_tensor *norm(rv__llama *l, int index, const char *name)
{
    return rv__param_vector(l->params, l->hidden, "model.layers.%d.%s.weight", index, name);
}

static linear projection(rv__llama *l, int64_t out, int64_t in, int index, const char *name)
{
    linear made = {.weight = matrix(l, out, in, index, name)};
    if (l->has_bias)
        made.bias = rv__param_vector(l->params, out, "model.layers.%d.%s.bias", index, name);
    return made;
}

static void load_tensors(rv__llama *l)
{
    int64_t d = l->hidden, inner = l->heads * l->head, kv = l->kv_heads * l->head;
    l->table = rv__param_matrix(l->params, l->vocabulary, d, "model.embed_tokens.weight");
    for (int i = 0; i < l->layer_count; i++)
        l->layers[i] = (layer){.attention_norm = norm(l, i, "input_layernorm"),
                               .q = projection(l, inner, d, i, "self_attn.q_proj"),
                               .k = projection(l, kv, d, i, "self_attn.k_proj"),
                               .v = projection(l, kv, d, i, "self_attn.v_proj"),
                               .o = projection(l, d, inner, i, "self_attn.o_proj"),
                               .mlp_norm = norm(l, i, "post_attention_layernorm"),
                               .gate = matrix(l, l->mlp, d, i, "mlp.gate_proj"),
                               .up = matrix(l, l->mlp, d, i, "mlp.up_proj"),
                               .down = matrix(l, d, l->mlp, i, "mlp.down_proj")};
    l->last = rv__param_vector(l->params, d, "model.norm.weight");
}

rv_status rv__llama_open(rv__device *d, const rv__weights *w, const char *part, rv__llama **out,
                         rv_error *err)
{
    *out = NULL;
    rv__llama *l = rv__calloc(1, sizeof *l);
    if (!l)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", part);
    l->device = d;
    l->part = part;
    rv_status status = read_config(l, w, err);
    if (!status)
        status = rv__params_open(w, part, &l->params, err);
    if (!status) {
        l->layers = rv__calloc((size_t)l->layer_count, sizeof *l->layers);
        if (!l->layers)
            status = rv__fail(err, RV_MEMORY, "%s: out of memory", part);
    }
    if (!status) {
        load_tensors(l);
        status = rv__params_check(l->params, err);
    }
    if (status)
        rv__llama_close(l);
    else
        *out = l;
    return status;
}

void rv__llama_close(rv__llama *l)
{
    if (!l)
        return;
    rv__text_graph_free(&l->graph);
    rv__params_close(l->params);
    rv__free(l->layers);
    rv__free(l);
}

int64_t rv__llama_layers(const rv__llama *l)
{
    return l->layer_count;
}

rv__params *rv__llama_params(rv__llama *l)
{
    return l->params;
}

int64_t rv__llama_channels(const rv__llama *l)
{
    return l->hidden;
}

const float *rv__llama_frequencies(const rv__llama *l, int64_t *count)
{
    *count = l->head / 2;
    return l->frequencies;
}

static struct ggml_tensor *add_layer(const rv__llama *l, const layer *y, struct ggml_tensor *x)
{
    rv__graph *g = l->graph.graph;
    int heads = (int)l->heads, kv_heads = (int)l->kv_heads;
    struct ggml_tensor *a = rv__rms_norm(g, x, y->attention_norm, l->eps);
    struct ggml_tensor *q =
        rv__rope(g, rv__linear(g, y->q.weight, y->q.bias, a), heads, l->cosine, l->sine, false);
    struct ggml_tensor *k =
        rv__rope(g, rv__linear(g, y->k.weight, y->k.bias, a), kv_heads, l->cosine, l->sine, false);
    struct ggml_tensor *v = rv__linear(g, y->v.weight, y->v.bias, a);
    a = rv__attention(g, q, k, v, l->graph.mask, heads, kv_heads, 1.0f / sqrtf((float)l->head));
    x = rv__add(g, x, rv__linear(g, y->o.weight, y->o.bias, a));
    a = rv__rms_norm(g, x, y->mlp_norm, l->eps);
    return rv__add(g, x, rv__linear(g, y->down, NULL, rv__swiglu(g, y->gate, y->up, a)));
}

/* Tables of the rotation for positions 0, 1, …; the angle is rounded to float32 first, as in the
 * reference. */
static rv_status set_angles(rv__llama *l, rv_error *err)
{
    size_t n = l->graph.length, pairs = (size_t)l->head / 2;
    float *cosine = rv__alloc(n * pairs * sizeof *cosine),
          *sine = rv__alloc(n * pairs * sizeof *sine);
    if (cosine && sine) {
        for (size_t i = 0; i < n * pairs; i++) {
            float angle = (float)(i / pairs) * l->frequencies[i % pairs];
            cosine[i] = (float)cos((double)angle);
            sine[i] = (float)sin((double)angle);
        }
        rv__graph_set(l->graph.graph, l->cosine, cosine, n * pairs * sizeof *cosine);
        rv__graph_set(l->graph.graph, l->sine, sine, n * pairs * sizeof *sine);
    }
    rv_status status =
        cosine && sine ? RV_OK : rv__fail(err, RV_MEMORY, "%s: out of memory", l->part);
    rv__free(cosine);
    rv__free(sine);
    return status;
}

static rv_status build(rv__llama *l, const rv__text_run *run, rv_error *err)
{
    int64_t n = (int64_t)run->tokens->length;
    rv_status status =
        rv__text_graph_begin(&l->graph, l->device, (size_t)n, l->layer_count, 1, run, err);
    if (status)
        return status;
    rv__graph *g = l->graph.graph;
    l->cosine = rv__graph_input(g, GGML_TYPE_F32, l->head / 2, n, 1, 1);
    l->sine = rv__graph_input(g, GGML_TYPE_F32, l->head / 2, n, 1, 1);
    struct ggml_tensor *x = rv__rows(g, l->table, l->graph.ids);
    rv__tap(g, x, "embeddings");
    for (int i = 0; i < l->layer_count; i++) {
        x = add_layer(l, &l->layers[i], x);
        rv__tap(g, x, "layer.%d", i);
        l->layers[i].state = i + 1 < l->layer_count ? x : rv__rms_norm(g, x, l->last, l->eps);
        rv__graph_output(g, l->layers[i].state);
    }
    status = rv__graph_build(g, err);
    return status ? status : set_angles(l, err);
}

rv_status rv__llama_run(rv__llama *l, const rv__text_run *run, float *out, rv_error *err)
{
    size_t n = run->tokens->length, size = n * (size_t)l->hidden;
    rv_status status = rv__text_check(run->tokens, l->vocabulary, l->part, err);
    if (status)
        return status;
    if ((int64_t)n > l->positions)
        return rv__fail(err, RV_UNSUPPORTED, "%s: %zu tokens, but %lld positions", l->part, n,
                        (long long)l->positions);
    if (!rv__text_graph_fits(&l->graph, n, run))
        status = build(l, run, err);
    if (!status)
        status = rv__text_graph_causal(&l->graph, run->tokens->mask, err);
    if (!status) {
        rv__graph_set(l->graph.graph, l->graph.ids, run->tokens->ids, n * sizeof(int32_t));
        status = rv__graph_run(l->graph.graph, run->cancelled, run->cancelled_user, err);
    }
    for (int64_t i = 0; i < l->layer_count && !status; i++)
        rv__graph_get(l->graph.graph, l->layers[i].state, out + (size_t)i * size,
                      size * sizeof *out);
    if (status)
        rv__text_graph_free(&l->graph);
    return status;
}
