/* See vae.h. */
#include "vae.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "picture_op.h"

#define NORM_EPS      1e-6f
#define DEFAULT_LIMIT ((size_t)4 << 30)

struct rv__vae {
    rv__device *device;
    rv__params *params;
    rv__vae_config config;
    rv__tap_fn *tap;
    void *tap_user;
    size_t limit; /* bytes of a decoder's activations */
};

/* ---- configuration ---- */

static rv_status bad(rv_error *err, const char *what)
{
    return rv__fail(err, RV_FORMAT, "vae/config.json: %s", what);
}

static rv_status read_widths(const rv__value *json, rv__vae_config *c, rv_error *err)
{
    const rv__value *list = rv__json_get(json, "block_out_channels"), *v = rv__json_first(list);
    size_t n = rv__json_is_array(list) ? rv__json_size(list) : 0;

    if (n < 1 || n > RV__VAE_STAGES)
        return bad(err, "block_out_channels must have 1 to 8 entries");
    for (size_t i = 0; i < n; i++, v = rv__json_next(v))
        if (!rv__json_int(v, &c->widths[i]) || c->widths[i] < 1 || c->widths[i] > 8192 ||
            c->widths[i] % c->groups != 0)
            return bad(err, "block_out_channels must be multiples of norm_num_groups");
    c->stages = (int64_t)n;
    c->factor = (int64_t)1 << (n - 1);
    return RV_OK;
}

rv_status rv__vae_parse(const rv__value *json, rv__vae_config *out, rv_error *err)
{
    memset(out, 0, sizeof *out);
    out->channels = rv__json_get_int(json, "out_channels", 3);
    out->latent_channels = rv__json_get_int(json, "latent_channels", 4);
    out->layers = rv__json_get_int(json, "layers_per_block", 1);
    out->groups = rv__json_get_int(json, "norm_num_groups", 32);
    out->mid_attention = rv__json_get_bool(json, "mid_block_add_attention", true);
    out->scaling = rv__json_get_number(json, "scaling_factor", 0.18215);
    out->shift =
        rv__json_get(json, "shift_factor") ? rv__json_get_number(json, "shift_factor", 0) : 0;
    if (out->channels != 3 || rv__json_get_int(json, "in_channels", 3) != 3)
        return bad(err, "in_channels and out_channels must be 3");
    if (out->latent_channels < 1 || out->latent_channels > 1024)
        return bad(err, "latent_channels must be from 1 to 1024");
    if (out->layers < 1 || out->layers > 16)
        return bad(err, "layers_per_block must be from 1 to 16");
    if (out->groups < 1 || out->groups > 4096)
        return bad(err, "norm_num_groups must be from 1 to 4096");
    if (!isfinite(out->scaling) || out->scaling == 0 || !isfinite(out->shift))
        return bad(err, "scaling_factor must not be 0");
    if (strcmp(rv__json_get_string(json, "act_fn", "silu"), "silu") != 0)
        return rv__fail(err, RV_UNSUPPORTED, "vae/config.json: act_fn must be silu");
    return read_widths(json, out, err);
}

rv_status rv__vae_open(rv__device *d, const rv__weights *w, rv__vae **out, rv_error *err)
{
    rv__vae *v = rv__calloc(1, sizeof *v);
    rv__value *json = NULL;
    rv_status status;

    *out = NULL;
    if (!v)
        return rv__fail(err, RV_MEMORY, "out of memory");
    v->device = d;
    v->limit = DEFAULT_LIMIT;
    status = rv__weights_json(w, "vae/config.json", &json, err);
    if (status == RV_OK)
        status = rv__vae_parse(json, &v->config, err);
    rv__json_free(json);
    if (status == RV_OK)
        status = rv__params_open(w, "vae", &v->params, err);
    if (status != RV_OK) {
        rv__vae_close(v);
        return status;
    }
    *out = v;
    return RV_OK;
}

void rv__vae_close(rv__vae *v)
{
    if (!v)
        return;
    rv__params_close(v->params);
    rv__free(v);
}

const rv__vae_config *rv__vae_about(const rv__vae *v)
{
    return &v->config;
}

void rv__vae_taps(rv__vae *v, rv__tap_fn *fn, void *user)
{
    v->tap = fn;
    v->tap_user = user;
}

/* ---- blocks ---- */

/* A graph under construction: tensors are looked up where they are used. */
typedef struct work {
    rv__vae *vae;
    rv__graph *graph;
    const char *part; /* "encoder" or "decoder" */
    double *sums, *given; /* of the norms of a tile (rv__norm_share), one after the other */
    int64_t norms;        /* how many were built */
} work;

static struct ggml_tensor *convolve(work *w, struct ggml_tensor *x, int64_t out, int kernel,
                                    rv__conv how, const char *name)
{
    int64_t shape[4] = {out, x ? x->ne[2] : -1, kernel, kernel};

    how.weight = rv__param(w->vae->params, shape, 4, "%s.weight", name);
    how.bias = rv__param_vector(w->vae->params, out, "%s.bias", name);
    return rv__conv2d(w->graph, &how, x);
}

static const rv__conv same_size = {.stride = 1, .before = 1, .after = 1};
static const rv__conv no_border = {.stride = 1};

static struct ggml_tensor *norm(work *w, struct ggml_tensor *x, bool with_silu, const char *name)
{
    int64_t n = x ? x->ne[2] : -1, groups = w->vae->config.groups, at = w->norms++ * groups;
    rv__norm_share share = {w->sums ? w->sums + 3 * at : NULL, w->given ? w->given + 2 * at : NULL};

    return rv__group_norm(w->graph, x, rv__param_vector(w->vae->params, n, "%s.weight", name),
                          rv__param_vector(w->vae->params, n, "%s.bias", name), groups, NORM_EPS,
                          with_silu, &share);
}

static struct ggml_tensor *resnet(work *w, struct ggml_tensor *x, int64_t out, const char *prefix)
{
    struct ggml_tensor *h, *skip = x;
    char name[192];

    if (!x)
        return NULL;
    snprintf(name, sizeof name, "%s.norm1", prefix);
    h = norm(w, x, true, name);
    snprintf(name, sizeof name, "%s.conv1", prefix);
    h = convolve(w, h, out, 3, same_size, name);
    snprintf(name, sizeof name, "%s.norm2", prefix);
    h = norm(w, h, true, name);
    snprintf(name, sizeof name, "%s.conv2", prefix);
    h = convolve(w, h, out, 3, same_size, name);
    if (x->ne[2] != out) {
        snprintf(name, sizeof name, "%s.conv_shortcut", prefix);
        skip = convolve(w, x, out, 1, no_border, name);
    }
    return rv__add(w->graph, h, skip);
}

static struct ggml_tensor *project(work *w, struct ggml_tensor *x, const char *prefix,
                                   const char *name)
{
    rv__params *p = w->vae->params;
    int64_t n = x ? x->ne[0] : -1;

    return rv__linear(w->graph, rv__param_matrix(p, n, n, "%s.%s.weight", prefix, name),
                      rv__param_vector(p, n, "%s.%s.bias", prefix, name), x);
}

/* {a, b} to {b, a}, stored that way. */
static struct ggml_tensor *transposed(work *w, struct ggml_tensor *x, int64_t a, int64_t b)
{
    struct ggml_context *c = rv__graph_context(w->graph);

    if (!x || !rv__graph_room(w->graph, 4))
        return NULL;
    return ggml_cont(c, ggml_transpose(c, ggml_reshape_2d(c, x, a, b)));
}

/* One head over all pixels. */
static struct ggml_tensor *attention(work *w, struct ggml_tensor *x, const char *prefix)
{
    struct ggml_tensor *tokens, *y;
    int64_t pixels, n;
    char name[192];

    if (!x)
        return NULL;
    pixels = x->ne[0] * x->ne[1];
    n = x->ne[2];
    snprintf(name, sizeof name, "%.160s.group_norm", prefix);
    tokens = transposed(w, norm(w, x, false, name), pixels, n);
    y = rv__attention(w->graph, project(w, tokens, prefix, "to_q"),
                      project(w, tokens, prefix, "to_k"), project(w, tokens, prefix, "to_v"), NULL,
                      1, 1, 1.0f / sqrtf((float)n));
    y = transposed(w, project(w, y, prefix, "to_out.0"), n, pixels);
    if (!y || !rv__graph_room(w->graph, 1))
        return NULL;
    y = ggml_reshape_4d(rv__graph_context(w->graph), y, x->ne[0], x->ne[1], n, 1);
    return rv__add(w->graph, y, x);
}

static struct ggml_tensor *middle(work *w, struct ggml_tensor *x)
{
    int64_t n = x ? x->ne[2] : -1;
    char name[192];

    snprintf(name, sizeof name, "%s.mid_block.resnets.0", w->part);
    x = rv__tap(w->graph, resnet(w, x, n, name), "mid.resnet0");
    snprintf(name, sizeof name, "%s.mid_block.attentions.0", w->part);
    if (w->vae->config.mid_attention)
        x = rv__tap(w->graph, attention(w, x, name), "mid.attention");
    snprintf(name, sizeof name, "%s.mid_block.resnets.1", w->part);
    return rv__tap(w->graph, resnet(w, x, n, name), "mid");
}

/* Up to the middle, at the size of the latents: attention sees all of them. */
static struct ggml_tensor *decoder_head(work *w, struct ggml_tensor *x)
{
    const rv__vae_config *c = &w->vae->config;

    if (rv__params_has(w->vae->params, "post_quant_conv.weight"))
        x = convolve(w, x, c->latent_channels, 1, no_border, "post_quant_conv");
    x = convolve(w, x, c->widths[c->stages - 1], 3, same_size, "decoder.conv_in");
    return middle(w, rv__tap(w->graph, x, "conv_in"));
}

/* From there to pixels: convolutions and norms. */
static struct ggml_tensor *decoder_tail(work *w, struct ggml_tensor *x)
{
    const rv__vae_config *c = &w->vae->config;
    char name[192];

    for (int64_t i = 0; i < c->stages; i++) {
        int64_t out = c->widths[c->stages - 1 - i];

        for (int64_t j = 0; j <= c->layers; j++) {
            snprintf(name, sizeof name, "decoder.up_blocks.%lld.resnets.%lld", (long long)i,
                     (long long)j);
            x = resnet(w, x, out, name);
        }
        if (i < c->stages - 1) {
            snprintf(name, sizeof name, "decoder.up_blocks.%lld.upsamplers.0.conv", (long long)i);
            x = convolve(w, x, out, 3,
                         (rv__conv){.stride = 1, .before = 1, .after = 1, .doubled = true}, name);
        }
        rv__tap(w->graph, x, "up.%lld", (long long)i);
    }
    return convolve(w, norm(w, x, true, "decoder.conv_norm_out"), c->channels, 3, same_size,
                    "decoder.conv_out");
}

static struct ggml_tensor *encoder(work *w, struct ggml_tensor *x)
{
    const rv__vae_config *c = &w->vae->config;
    char name[192];

    x = rv__tap(w->graph, convolve(w, x, c->widths[0], 3, same_size, "encoder.conv_in"), "conv_in");
    for (int64_t i = 0; i < c->stages; i++) {
        for (int64_t j = 0; j < c->layers; j++) {
            snprintf(name, sizeof name, "encoder.down_blocks.%lld.resnets.%lld", (long long)i,
                     (long long)j);
            x = resnet(w, x, c->widths[i], name);
        }
        if (i < c->stages - 1) {
            snprintf(name, sizeof name, "encoder.down_blocks.%lld.downsamplers.0.conv",
                     (long long)i);
            x = convolve(w, x, c->widths[i], 3, (rv__conv){.stride = 2, .after = 1}, name);
        }
        rv__tap(w->graph, x, "down.%lld", (long long)i);
    }
    x = norm(w, middle(w, x), true, "encoder.conv_norm_out");
    x = convolve(w, x, 2 * c->latent_channels, 3, same_size, "encoder.conv_out");
    if (rv__params_has(w->vae->params, "quant_conv.weight"))
        x = convolve(w, x, 2 * c->latent_channels, 1, no_border, "quant_conv");
    return x;
}

/* ---- running ---- */

typedef enum stage { ENCODER, DECODER, DECODER_HEAD, DECODER_TAIL } stage;

static struct ggml_tensor *build_stage(work *w, stage s, struct ggml_tensor *x)
{
    if (s == ENCODER)
        return encoder(w, x);
    if (s == DECODER || s == DECODER_HEAD)
        x = decoder_head(w, x);
    return s == DECODER_HEAD ? x : decoder_tail(w, x);
}

/* What may stop a run. */
typedef struct stopper {
    rv__cancel_fn *cancelled;
    void *user;
} stopper;

/* Builds, runs and drops one graph; activations of a large picture take gigabytes and are not kept.
 * sums, given: shared statistics of a tile, or NULL. */
static rv_status run(rv__vae *v, stage s, const float *in, int64_t width, int64_t height,
                     float *out, double *sums, double *given, const stopper *stop, rv_error *err)
{
    const rv__vae_config *c = &v->config;
    size_t nodes = (size_t)(c->stages * (c->layers + 1) * 32 + 200);
    int64_t channels = s == ENCODER        ? c->channels
                       : s == DECODER_TAIL ? c->widths[c->stages - 1]
                                           : c->latent_channels;
    work w = {.vae = v, .part = s == ENCODER ? "encoder" : "decoder", .sums = sums, .given = given};
    struct ggml_tensor *x, *y;
    rv_status status;

    w.graph = rv__graph_new(v->device, nodes);
    if (!w.graph)
        return rv__fail(err, RV_MEMORY, "out of memory");
    rv__graph_taps(w.graph, v->tap, v->tap_user);
    x = rv__graph_input(w.graph, GGML_TYPE_F32, width, height, channels, 1);
    y = build_stage(&w, s, x);
    rv__graph_output(w.graph, y);
    status = rv__params_check(v->params, err);
    if (status == RV_OK)
        status = rv__graph_build(w.graph, err);
    if (status == RV_OK && !y)
        status = rv__fail(err, RV_INTERNAL, "the autoencoder's graph could not be made");
    if (status == RV_OK) {
        rv__graph_set(w.graph, x, in, ggml_nbytes(x));
        status = rv__graph_run(w.graph, stop->cancelled, stop->user, err);
    }
    if (status == RV_OK)
        rv__graph_get(w.graph, y, out, ggml_nbytes(y));
    rv__graph_free(w.graph);
    return status;
}

/* ---- tiles ---- */

/* Each tile sees so many more latent pixels on every side: what the convolutions behind the middle
 * reach (6 at the size of the latents, 6 at twice that, and so on, and one per doubling), so that a
 * pixel does not depend on the tile it is made in. */
enum { MARGIN = 14, LEAST_CORE = 16 };

typedef struct tiling {
    rv__vae *vae;
    const float *middle;   /* [channels][height][width] */
    int64_t width, height; /* of the latents */
    int64_t side;          /* of a tile's own part */
    float *in, *out;       /* of one tile, with margins */
    float *picture;
    double *sums, *given;
    int64_t norms; /* groups of all norms together */
} tiling;

double rv__vae_whole_bytes(const rv__vae_config *c, int64_t width, int64_t height)
{
    double most = 0;

    /* Input, result and shortcut of the first block behind a doubling. */
    for (int64_t i = 0; i < c->stages; i++) {
        double scale = (double)((int64_t)1 << (i + 1 < c->stages ? i + 1 : i));
        double one = (double)c->widths[c->stages - 1 - i] * (double)width * (double)height * scale *
                     scale * sizeof(float);

        most = 3 * one > most ? 3 * one : most;
    }
    return most;
}

void rv__vae_limit(rv__vae *v, size_t bytes)
{
    v->limit = bytes ? bytes : DEFAULT_LIMIT;
}

typedef struct span {
    int64_t first, count, before, all; /* own part; margin before it; with both margins */
} span;

static span span_at(int64_t first, int64_t side, int64_t length)
{
    span s = {.first = first, .count = length - first < side ? length - first : side};
    int64_t from = first > MARGIN ? first - MARGIN : 0,
            to = first + s.count + MARGIN < length ? first + s.count + MARGIN : length;

    s.before = first - from;
    s.all = to - from;
    return s;
}

static void read_tile(const tiling *t, const span *x, const span *y)
{
    const rv__vae_config *c = &t->vae->config;

    for (int64_t ch = 0; ch < c->widths[c->stages - 1]; ch++)
        for (int64_t r = 0; r < y->all; r++)
            memcpy(t->in + (ch * y->all + r) * x->all,
                   t->middle + (ch * t->height + y->first - y->before + r) * t->width + x->first -
                       x->before,
                   (size_t)x->all * sizeof *t->in);
}

static void write_tile(const tiling *t, const span *x, const span *y)
{
    int64_t f = t->vae->config.factor, channels = t->vae->config.channels;

    for (int64_t ch = 0; ch < channels; ch++)
        for (int64_t r = 0; r < y->count * f; r++)
            memcpy(t->picture + (ch * t->height * f + y->first * f + r) * t->width * f +
                       x->first * f,
                   t->out + (ch * y->all * f + y->before * f + r) * x->all * f + x->before * f,
                   (size_t)(x->count * f) * sizeof *t->out);
}

/* One pass over the tiles.  measure: only statistics are wanted, and every other tile will do. */
static rv_status tile_pass(tiling *t, bool measure, bool has_given, const stopper *stop,
                           rv_error *err)
{
    rv_status status = RV_OK;
    int64_t place = 0;

    memset(t->sums, 0, (size_t)(3 * t->norms) * sizeof *t->sums);
    for (int64_t top = 0; top < t->height; top += t->side)
        for (int64_t left = 0; status == RV_OK && left < t->width; left += t->side, place++) {
            span x = span_at(left, t->side, t->width), y = span_at(top, t->side, t->height);

            if (measure && t->height * t->width > 8 * t->side * t->side && place % 2)
                continue;
            read_tile(t, &x, &y);
            status = run(t->vae, DECODER_TAIL, t->in, x.all, y.all, t->out, t->sums,
                         has_given ? t->given : NULL, stop, err);
            if (status == RV_OK && !measure)
                write_tile(t, &x, &y);
        }
    for (int64_t i = 0; status == RV_OK && i < t->norms; i++) {
        double n = t->sums[3 * i + 2], mean = n > 0 ? t->sums[3 * i] / n : 0;
        double variance = n > 0 ? t->sums[3 * i + 1] / n - mean * mean : 1;

        t->given[2 * i] = mean;
        t->given[2 * i + 1] = variance > 0 ? variance : 0;
    }
    return status;
}

/* Two passes find the statistics that a norm of the whole picture would have (the first with each
 * tile's own, the second with the sums of the first), a third one paints. */
static rv_status decode_tiles(tiling *t, const float *latents, float *middle, const stopper *stop,
                              rv_error *err)
{
    rv_status status =
        run(t->vae, DECODER_HEAD, latents, t->width, t->height, middle, NULL, NULL, stop, err);

    t->middle = middle;
    if (status == RV_OK)
        status = tile_pass(t, true, false, stop, err);
    if (status == RV_OK)
        status = tile_pass(t, true, true, stop, err);
    return status == RV_OK ? tile_pass(t, false, true, stop, err) : status;
}

/* The side of a tile's own part, so that a tile with its margins stays within the limit. */
static int64_t tile_side(const rv__vae *v, int64_t width, int64_t height)
{
    int64_t side = width > height ? width : height, parts = 1;

    while (side > LEAST_CORE && rv__vae_whole_bytes(&v->config, side + 2 * MARGIN,
                                                    side + 2 * MARGIN) > (double)v->limit) {
        parts++;
        side = ((width > height ? width : height) + parts - 1) / parts;
    }
    return side;
}

static rv_status decode_in_tiles(rv__vae *v, const float *latents, int64_t width, int64_t height,
                                 float *out, const stopper *stop, rv_error *err)
{
    const rv__vae_config *c = &v->config;
    tiling t = {.vae = v, .width = width, .height = height, .picture = out,
                .side = tile_side(v, width, height),
                .norms = (2 * c->stages * (c->layers + 1) + 1) * c->groups};
    size_t most = (size_t)(t.side + 2 * MARGIN) * (size_t)(t.side + 2 * MARGIN);
    size_t deep = (size_t)c->widths[c->stages - 1], f = (size_t)c->factor;
    float *middle = rv__alloc(deep * (size_t)(width * height) * sizeof *middle);
    rv_status status;

    t.in = rv__alloc(deep * most * sizeof *t.in);
    t.out = rv__alloc((size_t)c->channels * f * f * most * sizeof *t.out);
    t.sums = rv__calloc((size_t)(5 * t.norms), sizeof *t.sums);
    t.given = t.sums ? t.sums + 3 * t.norms : NULL;
    status = middle && t.in && t.out && t.sums
                 ? decode_tiles(&t, latents, middle, stop, err)
                 : rv__fail(err, RV_MEMORY, "out of memory");
    rv__free(middle);
    rv__free(t.in);
    rv__free(t.out);
    rv__free(t.sums);
    return status;
}

rv_status rv__vae_decode(rv__vae *v, const float *latents, int64_t width, int64_t height,
                         float *out, rv__cancel_fn *cancelled, void *user, rv_error *err)
{
    int64_t most = RV__VAE_MAX_SIDE / v->config.factor;
    stopper stop = {cancelled, user};

    if (width < 1 || height < 1 || width > most || height > most)
        return rv__fail(err, RV_VALIDATION, "latents must have sides from 1 to %lld",
                        (long long)most);
    if (!v->tap && rv__vae_whole_bytes(&v->config, width, height) > (double)v->limit)
        return decode_in_tiles(v, latents, width, height, out, &stop, err);
    return run(v, DECODER, latents, width, height, out, NULL, NULL, &stop, err);
}

rv_status rv__vae_encode(rv__vae *v, const float *picture, int64_t width, int64_t height,
                         float *moments, rv__cancel_fn *cancelled, void *user, rv_error *err)
{
    int64_t f = v->config.factor;

    if (width < f || height < f || width % f || height % f || width > RV__VAE_MAX_SIDE ||
        height > RV__VAE_MAX_SIDE)
        return rv__fail(err, RV_VALIDATION,
                        "the picture's sides must be multiples of %lld up to %d", (long long)f,
                        RV__VAE_MAX_SIDE);
    return run(v, ENCODER, picture, width, height, moments, NULL, NULL,
               &(stopper){cancelled, user}, err);
}

/* ---- conversions ---- */

void rv__vae_sample(const float *moments, const float *noise, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        float log_variance = fminf(fmaxf(moments[n + i], -30.0f), 20.0f);
        out[i] = moments[i] + (noise ? expf(0.5f * log_variance) * noise[i] : 0.0f);
    }
}

void rv__vae_unscale(const rv__vae_config *c, const float *latents, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = latents[i] / (float)c->scaling + (float)c->shift;
}

void rv__vae_scale(const rv__vae_config *c, const float *latents, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (latents[i] - (float)c->shift) * (float)c->scaling;
}

void rv__vae_bytes(const float *planes, int64_t width, int64_t height, int64_t channels,
                   uint8_t *out)
{
    int64_t pixels = width * height;

    for (int64_t i = 0; i < pixels; i++)
        for (int64_t c = 0; c < channels; c++) {
            float v = planes[c * pixels + i] / 2.0f + 0.5f;

            v = v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f;
            /* nearbyint would follow the process's rounding mode; adding 2^23 rounds half to even
             * in the default mode, which libraries must not change. */
            v = v * 255.0f + 8388608.0f;
            out[i * channels + c] = (uint8_t)(v - 8388608.0f);
        }
}
