/* T5 encoder with gated feed-forward (transformers' T5EncoderModel), in float32: its states leave
 * the range of half precision. */
#include "t5.h"

#include <math.h>
#include <string.h>

typedef struct layer {
    struct ggml_tensor *attention_norm, *q, *k, *v, *o;
    struct ggml_tensor *mlp_norm, *gate, *up, *down;
} layer;

struct rv__t5 {
    rv__device *device;
    const char *part;
    rv__params *params;
    int64_t vocabulary, hidden, head, heads, mlp, layer_count, buckets, distance;
    float eps;
    rv__activation activation;
    struct ggml_tensor *table, *bias, *last;
    layer *layers;
    rv__text_graph graph;
    struct ggml_tensor *result;
};

static void read_activation(rv__t5 *t, rv__config *config)
{
    const char *kind = rv__json_get_string(config->json, "feed_forward_proj", "gated-gelu");
    bool gated = strncmp(kind, "gated-", 6) == 0;
    if (!rv__json_get_bool(config->json, "is_gated_act", gated))
        rv__config_fail(config, "feed_forward_proj", "is not gated, which is not supported");
    /* Of this name T5 means the approximation. */
    t->activation = rv__config_activation(config, "dense_act_fn", gated ? kind + 6 : "gelu_new");
    if (!rv__json_get(config->json, "dense_act_fn") && strcmp(kind, "gated-gelu") == 0)
        t->activation = RV__GELU_TANH;
}

static rv_status read_config(rv__t5 *t, const rv__weights *w, rv_error *err)
{
    rv__config config;
    rv_status status = rv__config_open(&config, w, t->part, "t5", err);
    if (!status) {
        t->vocabulary = rv__config_int(&config, "vocab_size", 1, 1 << 24, 0);
        t->hidden = rv__config_int(&config, "d_model", 1, 1 << 16, 0);
        t->head = rv__config_int(&config, "d_kv", 1, 1 << 12, 0);
        t->heads = rv__config_int(&config, "num_heads", 1, 1024, 0);
        t->mlp = rv__config_int(&config, "d_ff", 1, 1 << 18, 0);
        t->layer_count = rv__config_int(&config, "num_layers", 1, 256, 0);
        t->buckets = rv__config_int(&config, "relative_attention_num_buckets", 4, 1 << 16, 32);
        t->distance = rv__config_int(&config, "relative_attention_max_distance", 1, 1 << 24, 128);
        t->eps = (float)rv__config_number(&config, config.json, "layer_norm_epsilon", 0, 1, 1e-6);
        read_activation(t, &config);
        if (!config.status && (t->buckets % 4 || t->distance <= t->buckets / 4))
            rv__config_fail(&config, "relative_attention_max_distance",
                            "does not fit the number of buckets");
        status = config.status;
    }
    rv__config_close(&config);
    return status;
}

static struct ggml_tensor *matrix(rv__t5 *t, int64_t out, int64_t in, int index, const char *name)
{
    return rv__param_matrix(t->params, out, in, "encoder.block.%d.layer.%s.weight", index, name);
}

static struct ggml_tensor *vector(rv__t5 *t, int index, const char *name)
{
    return rv__param_vector(t->params, t->hidden, "encoder.block.%d.layer.%s.weight", index, name);
}

static void load_tensors(rv__t5 *t)
{
    int64_t d = t->hidden, inner = t->heads * t->head;
    bool shared = rv__params_has(t->params, "shared.weight");
    const char *table = shared ? "shared.weight" : "encoder.embed_tokens.weight";
    t->table = rv__param_matrix(t->params, t->vocabulary, d, "%s", table);
    t->bias = matrix(t, t->buckets, t->heads, 0, "0.SelfAttention.relative_attention_bias");
    for (int i = 0; i < t->layer_count; i++)
        t->layers[i] = (layer){.attention_norm = vector(t, i, "0.layer_norm"),
                               .q = matrix(t, inner, d, i, "0.SelfAttention.q"),
                               .k = matrix(t, inner, d, i, "0.SelfAttention.k"),
                               .v = matrix(t, inner, d, i, "0.SelfAttention.v"),
                               .o = matrix(t, d, inner, i, "0.SelfAttention.o"),
                               .mlp_norm = vector(t, i, "1.layer_norm"),
                               .gate = matrix(t, t->mlp, d, i, "1.DenseReluDense.wi_0"),
                               .up = matrix(t, t->mlp, d, i, "1.DenseReluDense.wi_1"),
                               .down = matrix(t, d, t->mlp, i, "1.DenseReluDense.wo")};
    t->last = rv__param_vector(t->params, d, "encoder.final_layer_norm.weight");
}

rv_status rv__t5_open(rv__device *d, const rv__weights *w, const char *part, rv__t5 **out,
                      rv_error *err)
{
    *out = NULL;
    rv__t5 *t = rv__calloc(1, sizeof *t);
    if (!t)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", part);
    t->device = d;
    t->part = part;
    rv_status status = read_config(t, w, err);
    if (!status)
        status = rv__params_open(w, part, &t->params, err);
    if (!status) {
        t->layers = rv__calloc((size_t)t->layer_count, sizeof *t->layers);
        if (!t->layers)
            status = rv__fail(err, RV_MEMORY, "%s: out of memory", part);
    }
    if (!status) {
        load_tensors(t);
        status = rv__params_check(t->params, err);
    }
    if (status)
        rv__t5_close(t);
    else
        *out = t;
    return status;
}

void rv__t5_close(rv__t5 *t)
{
    if (!t)
        return;
    rv__text_graph_free(&t->graph);
    rv__params_close(t->params);
    rv__free(t->layers);
    rv__free(t);
}

rv__params *rv__t5_params(rv__t5 *t)
{
    return t->params;
}

int64_t rv__t5_channels(const rv__t5 *t)
{
    return t->hidden;
}

int64_t rv__t5_heads(const rv__t5 *t)
{
    return t->heads;
}

/* Which row of the bias table a distance (key - query) reads: near ones have rows of their own, far
 * ones share them on a logarithmic scale; keys behind the query use the upper half.  In float32, as
 * the reference rounds. */
static int64_t bucket(const rv__t5 *t, int64_t distance)
{
    int64_t half = t->buckets / 2, exact = half / 2, first = distance > 0 ? half : 0;
    distance = distance < 0 ? -distance : distance;
    if (distance < exact)
        return first + distance;
    float ratio =
        logf((float)distance / (float)exact) / (float)log((double)t->distance / (double)exact);
    int64_t far = exact + (int64_t)(ratio * (float)(half - exact));
    return first + (far < half ? far : half - 1);
}

rv_status rv__t5_position_bias(const rv__t5 *t, size_t length, float *out, rv_error *err)
{
    int64_t n = (int64_t)length;
    float *table = rv__alloc((size_t)(t->buckets * t->heads) * sizeof *table);
    if (!table)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", t->part);
    rv__param_floats(t->bias, table);
    for (int64_t d = 1 - n; d < n; d++)
        for (int64_t head = 0; head < t->heads; head++)
            out[head * (2 * n - 1) + d + n - 1] = table[bucket(t, d) * t->heads + head];
    rv__free(table);
    return RV_OK;
}

static struct ggml_tensor *add_layer(const rv__t5 *t, const layer *l, struct ggml_tensor *x)
{
    rv__graph *g = t->graph.graph;
    struct ggml_tensor *y = rv__rms_norm(g, x, l->attention_norm, t->eps);
    struct ggml_tensor *q = rv__linear(g, l->q, NULL, y);
    struct ggml_tensor *k = rv__linear(g, l->k, NULL, y);
    struct ggml_tensor *v = rv__linear(g, l->v, NULL, y);
    y = rv__attention(g, q, k, v, t->graph.mask, (int)t->heads, (int)t->heads, 1.0f);
    x = rv__add(g, x, rv__linear(g, l->o, NULL, y));
    y = rv__rms_norm(g, x, l->mlp_norm, t->eps);
    struct ggml_tensor *gate = rv__activate(g, rv__linear(g, l->gate, NULL, y), t->activation);
    y = rv__mul(g, gate, rv__linear(g, l->up, NULL, y));
    return rv__add(g, x, rv__linear(g, l->down, NULL, y));
}

static rv_status build(rv__t5 *t, const rv__text_run *run, rv_error *err)
{
    rv_status status = rv__text_graph_begin(&t->graph, t->device, run->tokens->length,
                                            t->layer_count, t->heads, run, err);
    if (status)
        return status;
    rv__graph *g = t->graph.graph;
    struct ggml_tensor *x = rv__rows(g, t->table, t->graph.ids);
    for (int i = 0; i < t->layer_count; i++) {
        x = add_layer(t, &t->layers[i], x);
        rv__tap(g, x, "layer.%d", i);
    }
    t->result = rv__rms_norm(g, x, t->last, t->eps);
    rv__graph_output(g, t->result);
    return rv__graph_build(g, err);
}

/* Position bias and padding together, [heads][query][key]. */
static rv_status set_mask(rv__t5 *t, const rv__token_ids *tokens, rv_error *err)
{
    size_t n = tokens->length, heads = (size_t)t->heads;
    float *bias = rv__alloc(heads * (2 * n - 1) * sizeof *bias);
    float *mask = rv__alloc(heads * n * n * sizeof *mask);
    rv_status status = bias && mask ? rv__t5_position_bias(t, n, bias, err)
                                    : rv__fail(err, RV_MEMORY, "%s: out of memory", t->part);
    if (!status) {
        float *to = mask;
        for (size_t head = 0; head < heads; head++)
            for (size_t query = 0; query < n; query++)
                for (size_t key = 0; key < n; key++)
                    *to++ = tokens->mask[key] ? bias[head * (2 * n - 1) + key + n - 1 - query]
                                              : -INFINITY;
        rv__graph_set(t->graph.graph, t->graph.mask, mask, heads * n * n * sizeof *mask);
    }
    rv__free(bias);
    rv__free(mask);
    return status;
}

rv_status rv__t5_run(rv__t5 *t, const rv__text_run *run, float *out, rv_error *err)
{
    size_t n = run->tokens->length;
    rv_status status = rv__text_check(run->tokens, t->vocabulary, t->part, err);
    if (status)
        return status;
    if (!rv__text_graph_fits(&t->graph, n, run))
        status = build(t, run, err);
    if (!status)
        status = set_mask(t, run->tokens, err);
    if (!status) {
        rv__graph_set(t->graph.graph, t->graph.ids, run->tokens->ids, n * sizeof(int32_t));
        status = rv__graph_run(t->graph.graph, run->cancelled, run->cancelled_user, err);
    }
    if (status)
        rv__text_graph_free(&t->graph);
    else
        rv__graph_get(t->graph.graph, t->result, out, n * (size_t)t->hidden * sizeof *out);
    return status;
}
