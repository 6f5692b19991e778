/* Evaluations of the prepared transformer: numbers in, the graph or the sections of it that a step
 * cache asks for, numbers out. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "transformer_internal.h"

#define TIME_BASE 10000.0 /* fixed in the reference */

/* A token holds a patch row by row, each pixel with all its channels.  into: latents to tokens,
 * else back. */
static void move_patches(const rv__transformer *t, float *tokens, const float *latents, float *out)
{
    const rv__transformer_config *c = &t->net.config;
    int64_t p = c->patch, w = t->shape.width * p, h = t->shape.height * p;
    int64_t row = c->channels * p * p, rows = t->tokens + t->pad;

    for (int64_t b = 0; b < t->shape.batch; b++)
        for (int64_t ch = 0; ch < c->channels; ch++)
            for (int64_t y = 0; y < h; y++)
                for (int64_t x = 0; x < w; x++) {
                    int64_t token = y / p * t->shape.width + x / p,
                            inner = (y % p * p + x % p) * c->channels + ch;
                    float *at = tokens + (b * rows + token) * row + inner;
                    int64_t pixel = ((b * c->channels + ch) * h + y) * w + x;

                    if (out)
                        out[pixel] = *at;
                    else
                        *at = latents[pixel];
                }
}

/* Cosines, then sines; every operation rounded to float32 as the reference does, for t * frequency
 * reaches 1000. */
static void time_features(float t, float *out)
{
    const int half = RV__TIME_FEATURES / 2;

    for (int i = 0; i < half; i++) {
        float exponent = (float)-log(TIME_BASE) * (float)i / (float)half;
        float angle = t * (float)exp((double)exponent);

        out[i] = (float)cos((double)angle);
        out[half + i] = (float)sin((double)angle);
    }
}

/* ---- step cache ---- */

static float *stream_row(const rv__streams *s, int64_t batch, int64_t row)
{
    const struct ggml_tensor *x = s->image;

    if (row >= x->ne[1]) {
        row -= x->ne[1];
        x = s->text;
    }
    return (float *)(void *)((char *)x->data + (size_t)batch * x->nb[2] + (size_t)row * x->nb[1]);
}

/* What the cache compares from step to step: the embedding of time or picture, or what the first
 * blocks added to the picture. */
static void read_signal(rv__transformer *t)
{
    const rv__streams embedded = {t->embedded, NULL};
    int64_t width = t->net.config.width;
    float *to = t->cache.now;

    if (t->caching.kind == RV__TEA_CACHE && t->caching.by_time) {
        rv__graph_get(t->graph, t->time_embedded, to, ggml_nbytes(t->time_embedded));
        return;
    }
    for (int64_t b = 0; b < t->shape.batch; b++)
        for (int64_t r = 0; r < t->tokens; r++, to += width) {
            const float *from = stream_row(&embedded, b, r);

            memcpy(to, from, (size_t)width * sizeof *to);
            if (t->caching.kind == RV__TEA_CACHE)
                continue;
            from = stream_row(&t->before, b, r);
            for (int64_t i = 0; i < width; i++)
                to[i] = from[i] - to[i];
        }
}

/* Rows of which the skipped blocks' part is kept: the text only where blocks follow. */
static int64_t kept_rows(const rv__transformer *t)
{
    return t->tokens + t->pad + (t->shape.tail_blocks > 0 ? t->shape.t5 + t->shape.llama : 0);
}

/* keeps: what the middle section added; else adds what was kept in its place. */
static void exchange(rv__transformer *t, bool keeps)
{
    int64_t rows = kept_rows(t), width = t->net.config.width;
    float *kept = t->cache.kept;

    for (int64_t b = 0; b < t->shape.batch; b++)
        for (int64_t r = 0; r < rows; r++, kept += width) {
            const float *before = stream_row(&t->before, b, r);
            float *after = stream_row(&t->after, b, r);

            for (int64_t i = 0; i < width; i++)
                if (keeps)
                    kept[i] = after[i] - before[i];
                else
                    after[i] = before[i] + kept[i];
        }
    t->cache.has_kept = true;
}

/* Steps [first, end) of the way: sections here, spans of blocks elsewhere. */
static rv_status run_steps(rv__transformer *t, int first, int end, rv__cancel_fn *cancelled,
                           void *user, rv_error *err)
{
    rv_status status = RV_OK;

    for (int i = first; i < end && status == RV_OK; i++)
        status = t->steps[i].machine < 0
                     ? rv__graph_run_section(t->graph, t->steps[i].number, cancelled, user, err)
                     : rv__transformer_run_elsewhere(t, &t->steps[i], cancelled, user, err);
    return status;
}

static rv_status run_cached(rv__transformer *t, bool may_skip, bool *skips,
                            rv__cancel_fn *cancelled, void *user, rv_error *err)
{
    rv_status status = run_steps(t, 0, t->head_steps, cancelled, user, err);

    if (status != RV_OK)
        return status;
    read_signal(t);
    *skips = rv__step_cache_skips(&t->cache, may_skip);
    if (!*skips)
        status = run_steps(t, t->head_steps, t->middle_steps, cancelled, user, err);
    if (status != RV_OK)
        return status;
    exchange(t, !*skips);
    return run_steps(t, t->middle_steps, t->step_count, cancelled, user, err);
}

static rv_status run_all(rv__transformer *t, bool may_skip, bool *skips, rv__cancel_fn *cancelled,
                         void *user, rv_error *err)
{
    if (t->shape.tail_blocks >= 0)
        return run_cached(t, may_skip, skips, cancelled, user, err);
    return t->cut_count > 0 ? run_steps(t, 0, t->step_count, cancelled, user, err)
                            : rv__graph_run(t->graph, cancelled, user, err);
}

/* ---- one evaluation ---- */

rv_status rv__transformer_run_cached(rv__transformer *t, const float *latents,
                                     const float *timesteps, float *out, bool may_skip,
                                     bool *skipped, rv__cancel_fn *cancelled, void *user,
                                     rv_error *err)
{
    float times[8 * RV__TIME_FEATURES], *tokens;
    bool skips = false;
    rv_status status;

    if (!t->graph || t->shape.batch < 1)
        return rv__fail(err, RV_MISUSE, "the transformer was not prepared");
    tokens = rv__calloc(1, ggml_nbytes(t->patches));
    if (!tokens)
        return rv__fail(err, RV_MEMORY, "out of memory");
    for (int64_t b = 0; b < t->shape.batch; b++)
        time_features(timesteps[b], times + b * RV__TIME_FEATURES);
    rv__graph_set(t->graph, t->time, times, ggml_nbytes(t->time));
    move_patches(t, tokens, latents, NULL);
    rv__graph_set(t->graph, t->patches, tokens, ggml_nbytes(t->patches));
    status = run_all(t, may_skip, &skips, cancelled, user, err);
    if (status == RV_OK) {
        rv__graph_get(t->graph, t->out, tokens, ggml_nbytes(t->out));
        move_patches(t, tokens, NULL, out);
    }
    if (skipped)
        *skipped = skips;
    rv__free(tokens);
    return status;
}

rv_status rv__transformer_run(rv__transformer *t, const float *latents, const float *timesteps,
                              float *out, rv__cancel_fn *cancelled, void *user, rv_error *err)
{
    return rv__transformer_run_cached(t, latents, timesteps, out, false, NULL, cancelled, user, err);
}
