/* See safety.h.  The encoder is CLIP's for pictures (transformers' CLIPVisionModel): patches, a
 * class token, pre-norm layers as in its text encoder, without a mask. */
#include "engine/safety.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "image/raster.h"

#define VISION "vision_model.vision_model."

enum { MAX_LAYERS = 128, MAX_SIDE = 1024, HEAD = 64, MAX_CONCEPTS = 1000 };

typedef struct pair {
    struct ggml_tensor *weight, *bias;
} pair;

typedef struct layer {
    pair norm1, norm2, q, k, v, out, fc1, fc2;
} layer;

/* Stored concepts: directions, and how near to one is too near. */
typedef struct concepts {
    int64_t count;
    float *directions, *limits; /* directions are of length 1 */
} concepts;

struct rv__safety {
    rv__weights *weights;
    rv__params *params;
    rv__graph *graph;
    int64_t hidden, mlp, patch, grid, projection; /* grid: patches per side */
    int layer_count;
    layer layers[MAX_LAYERS];
    pair before, after;
    struct ggml_tensor *project, *input, *result;
    float *kernel, *class_token, *places;
    concepts special, plain;
};

/* ---- opening ---- */

static const rv__tensor *tensor(const rv__safety *s, const char *name)
{
    return rv__weights_find(s->weights, "safety_checker", name);
}

static rv_status wrong(rv_error *err, const char *name)
{
    return rv__fail(err, RV_FORMAT, "safety_checker: %s is missing or has a shape that cannot be",
                    name);
}

/* What the shapes of the tensors say. */
static rv_status read_sizes(rv__safety *s, rv_error *err)
{
    const rv__tensor *kernel = tensor(s, VISION "embeddings.patch_embedding.weight"),
                     *places = tensor(s, VISION "embeddings.position_embedding.weight"),
                     *mlp = tensor(s, VISION "encoder.layers.0.mlp.fc1.weight"),
                     *project = tensor(s, "visual_projection.weight");
    if (!kernel || kernel->n_dims != 4 || kernel->shape[1] != 3 ||
        kernel->shape[2] != kernel->shape[3] || kernel->shape[2] < 1 || kernel->shape[2] > 64 ||
        kernel->shape[0] < 1 || kernel->shape[0] > 1 << 14)
        return wrong(err, VISION "embeddings.patch_embedding.weight");
    s->hidden = kernel->shape[0];
    s->patch = kernel->shape[2];
    if (!places || places->n_dims != 2 || places->shape[1] != s->hidden)
        return wrong(err, VISION "embeddings.position_embedding.weight");
    s->grid = (int64_t)sqrt((double)(places->shape[0] - 1));
    if (s->grid < 1 || s->grid * s->grid + 1 != places->shape[0] || s->grid * s->patch > MAX_SIDE)
        return wrong(err, VISION "embeddings.position_embedding.weight");
    if (!mlp || mlp->n_dims != 2 || mlp->shape[0] < 1 || mlp->shape[0] > 1 << 16)
        return wrong(err, VISION "encoder.layers.0.mlp.fc1.weight");
    s->mlp = mlp->shape[0];
    if (!project || project->n_dims != 2 || project->shape[0] < 1 || project->shape[0] > 1 << 14)
        return wrong(err, "visual_projection.weight");
    s->projection = project->shape[0];
    while (s->layer_count < MAX_LAYERS &&
           rv__params_has(s->params, VISION "encoder.layers.%d.layer_norm1.weight", s->layer_count))
        s->layer_count++;
    return RV_OK;
}

static pair load_norm(rv__safety *s, const char *name)
{
    return (pair){rv__param_vector(s->params, s->hidden, VISION "%s.weight", name),
                  rv__param_vector(s->params, s->hidden, VISION "%s.bias", name)};
}

static pair load_linear(rv__safety *s, int i, const char *name, int64_t out, int64_t in)
{
    return (pair){
        rv__param_matrix(s->params, out, in, VISION "encoder.layers.%d.%s.weight", i, name),
        rv__param_vector(s->params, out, VISION "encoder.layers.%d.%s.bias", i, name)};
}

static void load_layer(rv__safety *s, int i)
{
    layer *l = &s->layers[i];
    char name[48];
    snprintf(name, sizeof name, "encoder.layers.%d.layer_norm1", i);
    l->norm1 = load_norm(s, name);
    snprintf(name, sizeof name, "encoder.layers.%d.layer_norm2", i);
    l->norm2 = load_norm(s, name);
    l->q = load_linear(s, i, "self_attn.q_proj", s->hidden, s->hidden);
    l->k = load_linear(s, i, "self_attn.k_proj", s->hidden, s->hidden);
    l->v = load_linear(s, i, "self_attn.v_proj", s->hidden, s->hidden);
    l->out = load_linear(s, i, "self_attn.out_proj", s->hidden, s->hidden);
    l->fc1 = load_linear(s, i, "mlp.fc1", s->mlp, s->hidden);
    l->fc2 = load_linear(s, i, "mlp.fc2", s->hidden, s->mlp);
}

static float *floats(const struct ggml_tensor *leaf)
{
    float *x = leaf ? rv__alloc((size_t)ggml_nelements(leaf) * sizeof *x) : NULL;
    if (x)
        rv__param_floats(leaf, x);
    return x;
}

static bool normalise(float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    for (int64_t i = 0; i < n && sum > 0; i++)
        x[i] = (float)(x[i] / sqrt(sum));
    return sum > 0 && isfinite(sum);
}

static rv_status load_concepts(rv__safety *s, const char *name, concepts *c, rv_error *err)
{
    char limits[64];
    snprintf(limits, sizeof limits, "%s_weights", name);
    const rv__tensor *t = tensor(s, name);
    if (!t || t->n_dims != 2 || t->shape[0] < 1 || t->shape[0] > MAX_CONCEPTS)
        return wrong(err, name);
    c->count = t->shape[0];
    struct ggml_tensor *directions =
        rv__param_matrix(s->params, c->count, s->projection, "%s", name);
    struct ggml_tensor *limit = rv__param_vector(s->params, c->count, "%s", limits);
    rv_status status = rv__params_check(s->params, err);
    if (status != RV_OK)
        return status;
    c->directions = floats(directions);
    c->limits = floats(limit);
    if (!c->directions || !c->limits)
        return rv__fail(err, RV_MEMORY, "out of memory");
    for (int64_t i = 0; i < c->count; i++)
        if (!isfinite(c->limits[i]) || !normalise(c->directions + i * s->projection, s->projection))
            return wrong(err, name);
    return RV_OK;
}

static rv_status load(rv__safety *s, rv_error *err)
{
    rv_status status = read_sizes(s, err);
    if (status != RV_OK)
        return status;
    struct ggml_tensor *kernel =
        rv__param(s->params, (const int64_t[]){s->hidden, 3, s->patch, s->patch}, 4,
                  VISION "embeddings.patch_embedding.weight");
    struct ggml_tensor *class =
        rv__param_vector(s->params, s->hidden, VISION "embeddings.class_embedding");
    struct ggml_tensor *places = rv__param_matrix(s->params, s->grid * s->grid + 1, s->hidden,
                                                  VISION "embeddings.position_embedding.weight");
    s->before = load_norm(s, "pre_layrnorm");
    s->after = load_norm(s, "post_layernorm");
    s->project = rv__param_matrix(s->params, s->projection, s->hidden, "visual_projection.weight");
    for (int i = 0; i < s->layer_count; i++)
        load_layer(s, i);
    status = rv__params_check(s->params, err);
    if (status == RV_OK) {
        s->kernel = floats(kernel);
        s->class_token = floats(class);
        s->places = floats(places);
        if (!s->kernel || !s->class_token || !s->places)
            status = rv__fail(err, RV_MEMORY, "out of memory");
    }
    if (status == RV_OK)
        status = load_concepts(s, "special_care_embeds", &s->special, err);
    return status == RV_OK ? load_concepts(s, "concept_embeds", &s->plain, err) : status;
}

static rv_status build(rv__safety *s, rv__device *d, rv_error *err)
{
    int64_t tokens = s->grid * s->grid + 1;
    int heads = s->hidden % HEAD ? 1 : (int)(s->hidden / HEAD);
    float scale = 1.0f / sqrtf((float)(s->hidden / heads));
    rv__graph *g = s->graph = rv__graph_new(d, 64 * (size_t)s->layer_count + 64);
    if (!g)
        return rv__fail(err, RV_MEMORY, "out of memory");
    s->input = rv__graph_input(g, GGML_TYPE_F32, s->hidden, tokens, 1, 1);
    struct ggml_tensor *x = rv__layer_norm(g, s->input, s->before.weight, s->before.bias, 1e-5f);
    for (int i = 0; i < s->layer_count; i++) {
        const layer *l = &s->layers[i];
        struct ggml_tensor *y = rv__layer_norm(g, x, l->norm1.weight, l->norm1.bias, 1e-5f);
        y = rv__attention(g, rv__linear(g, l->q.weight, l->q.bias, y),
                          rv__linear(g, l->k.weight, l->k.bias, y),
                          rv__linear(g, l->v.weight, l->v.bias, y), NULL, heads, heads, scale);
        x = rv__add(g, x, rv__linear(g, l->out.weight, l->out.bias, y));
        y = rv__layer_norm(g, x, l->norm2.weight, l->norm2.bias, 1e-5f);
        y = rv__activate(g, rv__linear(g, l->fc1.weight, l->fc1.bias, y), RV__GELU_QUICK);
        x = rv__add(g, x, rv__linear(g, l->fc2.weight, l->fc2.bias, y));
    }
    x = rv__layer_norm(g, rv__tokens(g, x, 0, 1), s->after.weight, s->after.bias, 1e-5f);
    s->result = rv__linear(g, s->project, NULL, x);
    rv__graph_output(g, s->result);
    return rv__graph_build(g, err);
}

rv_status rv__safety_open(rv__device *d, const char *path, rv__safety **out, rv_error *err)
{
    rv__safety *s = rv__calloc(1, sizeof *s);
    rv_status status = s ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");

    *out = NULL;
    if (status == RV_OK)
        status = rv__weights_open_part(path, "safety_checker", &s->weights, err);
    if (status == RV_OK)
        status = rv__params_open(s->weights, "safety_checker", &s->params, err);
    if (status == RV_OK)
        status = load(s, err);
    if (status == RV_OK)
        status = build(s, d, err);
    if (status == RV_OK)
        *out = s;
    else
        rv__safety_close(s);
    return status;
}

void rv__safety_close(rv__safety *s)
{
    if (!s)
        return;
    rv__graph_free(s->graph);
    rv__params_close(s->params);
    rv__weights_close(s->weights);
    float *all[] = {s->kernel,         s->class_token,      s->places,      s->special.directions,
                    s->special.limits, s->plain.directions, s->plain.limits};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        rv__free(all[i]);
    rv__free(s);
}

/* ---- looking ---- */

/* The middle of the picture, as large a square as there is, at the encoder's size. */
static rv_status fit(const rv__safety *s, const uint8_t *rgb, int width, int height,
                     rv__raster *out, rv_error *err)
{
    int side = (int)(s->grid * s->patch), least = width < height ? width : height;
    int w = (int)((int64_t)width * side / least), h = (int)((int64_t)height * side / least);
    rv__raster in = {(uint8_t *)(uintptr_t)rgb, width, height, 3}, small = {0};
    rv_status status = rv__raster_resize(&in, w, h, &small, err);

    if (status == RV_OK)
        status = rv__raster_crop(&small, (w - side) / 2, (h - side) / 2, side, side, out, err);
    rv__raster_free(&small);
    return status;
}

/* Patch p as CLIP sees its numbers. */
static void read_patch(const rv__safety *s, const rv__raster *r, int64_t p, float *out)
{
    static const float mean[] = {0.48145466f, 0.4578275f, 0.40821073f},
                       deviation[] = {0.26862954f, 0.26130258f, 0.27577711f};
    int64_t left = p % s->grid * s->patch, top = p / s->grid * s->patch;

    for (int64_t c = 0; c < 3; c++)
        for (int64_t y = 0; y < s->patch; y++)
            for (int64_t x = 0; x < s->patch; x++) {
                float v = r->pixels[((top + y) * r->width + left + x) * 3 + c];
                *out++ = (v / 255.0f - mean[c]) / deviation[c];
            }
}

static void embed(const rv__safety *s, const rv__raster *r, float *patch, float *tokens)
{
    int64_t n = 3 * s->patch * s->patch;

    for (int64_t i = 0; i < s->hidden; i++)
        tokens[i] = s->class_token[i] + s->places[i];
    for (int64_t p = 0; p < s->grid * s->grid; p++) {
        float *to = tokens + (p + 1) * s->hidden;
        read_patch(s, r, p, patch);
        for (int64_t i = 0; i < s->hidden; i++) {
            const float *kernel = s->kernel + i * n;
            float sum = s->places[(p + 1) * s->hidden + i];
            for (int64_t k = 0; k < n; k++)
                sum += kernel[k] * patch[k];
            to[i] = sum;
        }
    }
}

/* Whether the direction is nearer to one of the concepts than it may be, rounded to a thousandth as
 * the reference does. */
static bool is_near(const rv__safety *s, const concepts *c, const float *direction, double more)
{
    bool near = false;
    for (int64_t i = 0; i < c->count; i++) {
        double sum = 0;
        for (int64_t k = 0; k < s->projection; k++)
            sum += (double)direction[k] * c->directions[i * s->projection + k];
        near = near || round((sum - c->limits[i] + more) * 1000) > 0;
    }
    return near;
}

rv_status rv__safety_check(rv__safety *s, const uint8_t *rgb, int width, int height, bool *flagged,
                           rv__cancel_fn *cancelled, void *user, rv_error *err)
{
    size_t tokens = (size_t)((s->grid * s->grid + 1) * s->hidden), result = (size_t)s->projection;
    float *x = rv__alloc((tokens + result + (size_t)(3 * s->patch * s->patch)) * sizeof *x);
    rv__raster seen = {0};
    rv_status status = x ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");

    *flagged = true;
    if (status == RV_OK)
        status = fit(s, rgb, width, height, &seen, err);
    if (status == RV_OK) {
        embed(s, &seen, x + tokens + result, x);
        rv__graph_set(s->graph, s->input, x, tokens * sizeof *x);
        status = rv__graph_run(s->graph, cancelled, user, err);
    }
    if (status == RV_OK) {
        float *direction = x + tokens;
        rv__graph_get(s->graph, s->result, direction, result * sizeof *x);
        /* A special concept makes the others stricter; it flags nothing by itself. */
        *flagged =
            !normalise(direction, s->projection) ||
            is_near(s, &s->plain, direction, is_near(s, &s->special, direction, 0) ? 0.01 : 0);
    }
    rv__raster_free(&seen);
    rv__free(x);
    return status;
}
