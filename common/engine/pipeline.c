/* See pipeline.h. */
#include "pipeline.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "memory_plan.h"
#include "picture_start.h"
#include "preview.h"
#include "lora_set.h"
#include "prompt_cache.h"
#include "rng.h"
#include "text_cut.h"
#include "transformer.h"
#include "vae.h"

enum {
    PROMPT_BYTES = 256 << 20, /* text states that are kept */
    IDLE_BYTES = 512 << 20    /* larger activations are given back before the picture is decoded */
};

struct rv__pipeline {
    rv__device *device;
    const rv__weights *weights;
    rv__scheduler_config scheduler;
    size_t sequence; /* tokens per text encoder unless told otherwise */
    rv__text *text;
    rv__transformer *transformer;
    rv__vae *vae;
    rv__prompt_cache *prompts;
    rv__lora_set *loras;
    int calls, skipped;   /* of the last picture */
    bool is_fast;
    bool has_new_machines; /* that the transformer does not know yet */
    double memory_limit; /* bytes; 0: none */
    rv__machines *machines; /* borrowed; NULL: the whole transformer runs here */
    rv__preview *preview; /* NULL until somebody wants to watch */
};

/* ---- opening ---- */

static rv_status read_index(const rv__weights *w, rv_error *err)
{
    rv__value *json;
    rv_status status = rv__weights_json(w, "model_index.json", &json, err);
    const char *name;

    if (status != RV_OK)
        return status;
    name = rv__json_get_string(json, "_class_name", "");
    if (strcmp(name, "HiDreamImagePipeline") != 0)
        status = rv__fail(err, RV_UNSUPPORTED,
                          "%s: pipeline '%.80s' is not known, HiDreamImagePipeline is",
                          rv__weights_path(w), name);
    rv__json_free(json);
    return status;
}

static rv_status read_scheduler(rv__pipeline *p, rv_error *err)
{
    rv__value *json;
    rv_status status = rv__weights_json(p->weights, "scheduler/scheduler_config.json", &json, err);

    if (status == RV_OK) {
        status = rv__scheduler_config_read(json, &p->scheduler, err);
        rv__json_free(json);
    }
    return status;
}

/* The reference's own length, or less when a text encoder has fewer positions. */
static rv_status read_sequence(rv__pipeline *p, rv_error *err)
{
    static const char *const files[] = {"text_encoder/config.json", "text_encoder_2/config.json"};

    p->sequence = RV__TEXT_LENGTH;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        rv__value *json;
        rv_status status = rv__weights_json(p->weights, files[i], &json, err);
        int64_t positions;

        if (status != RV_OK)
            return status;
        positions = rv__json_get_int(json, "max_position_embeddings", RV__TEXT_LENGTH);
        rv__json_free(json);
        if (positions > 0 && (size_t)positions < p->sequence)
            p->sequence = (size_t)positions;
    }
    return RV_OK;
}

rv_status rv__pipeline_open(rv__device *d, const rv__weights *w, rv__pipeline **out, rv_error *err)
{
    rv__pipeline *p = rv__calloc(1, sizeof *p);
    rv_status status = RV_OK;

    *out = NULL;
    if (!p)
        return rv__fail(err, RV_MEMORY, "out of memory");
    p->device = d;
    p->weights = w;
    p->prompts = rv__prompt_cache_new(PROMPT_BYTES);
    if (!p->prompts)
        status = rv__fail(err, RV_MEMORY, "out of memory");
    if (status == RV_OK)
        status = rv__weights_check(w, err);
    if (status == RV_OK)
        status = read_index(w, err);
    if (status == RV_OK)
        status = read_scheduler(p, err);
    if (status == RV_OK)
        status = read_sequence(p, err);
    if (status != RV_OK) {
        rv__pipeline_close(p);
        return status;
    }
    *out = p;
    return RV_OK;
}

void rv__pipeline_close(rv__pipeline *p)
{
    if (!p)
        return;
    rv__prompt_cache_free(p->prompts);
    rv__text_close(p->text);
    rv__transformer_close(p->transformer);
    rv__lora_set_free(p->loras);
    rv__vae_close(p->vae);
    rv__free(p->preview);
    rv__free(p);
}

rv_status rv__pipeline_loras(rv__pipeline *p, const rv__lora_use *list, size_t count, rv_error *err)
{
    rv_status status = rv__pipeline_load(p, err);
    bool texts = false;

    if (status == RV_OK)
        status = rv__lora_set_use(&p->loras, p->weights, p->transformer, p->text, list, count,
                                  &texts, err);
    if (texts)
        rv__prompt_cache_clear(p->prompts);
    return status;
}

const rv__scheduler_config *rv__pipeline_scheduler(const rv__pipeline *p)
{
    return &p->scheduler;
}

rv_status rv__pipeline_load(rv__pipeline *p, rv_error *err)
{
    rv_status status = RV_OK;

    if (!p->text)
        status = rv__text_open(p->device, p->weights, &p->text, err);
    if (status == RV_OK && !p->transformer)
        status = rv__transformer_open(p->device, p->weights, &p->transformer, err);
    if (status == RV_OK && p->has_new_machines) {
        status = rv__transformer_machines(p->transformer, p->machines, err);
        p->has_new_machines = status != RV_OK;
        if (p->machines)
            rv__memory_rest(p->weights, "transformer"); /* blocks that others have are not needed here */
    }
    if (status == RV_OK && !p->vae)
        status = rv__vae_open(p->device, p->weights, &p->vae, err);
    if (status == RV_OK &&
        rv__vae_about(p->vae)->latent_channels != rv__transformer_about(p->transformer)->channels)
        status = rv__fail(err, RV_FORMAT, "%s: transformer has %lld latent channels, vae has %lld",
                          rv__weights_path(p->weights),
                          (long long)rv__transformer_about(p->transformer)->channels,
                          (long long)rv__vae_about(p->vae)->latent_channels);
    return status;
}

int64_t rv__pipeline_side_step(rv__pipeline *p, rv_error *err)
{
    if (rv__pipeline_load(p, err) != RV_OK)
        return 0;
    return rv__vae_about(p->vae)->factor * rv__transformer_about(p->transformer)->patch;
}

void rv__pipeline_size(int64_t width, int64_t height, int64_t area, int64_t step,
                       int64_t *out_width, int64_t *out_height)
{
    double scale = sqrt((double)area / ((double)width * (double)height)), by = (double)step;

    *out_width = (int64_t)(floor((double)width * scale / by) * by);
    *out_height = (int64_t)(floor((double)height * scale / by) * by);
}

/* ---- one picture ---- */

/* A picture in the making. */
typedef struct job {
    rv__pipeline *p;
    const rv__picture_request *r;
    rv__scheduler *scheduler;
    rv__rng rng;
    int64_t width, height;           /* of the latents */
    size_t n, rows;                  /* values of the latents; rows of the batch */
    float *x, *in, *out, *v, *noise; /* in and out: rows * n */
    float *x0;                       /* the picture seen behind the noise */
    uint8_t *rgb;                    /* its preview; NULL: nobody watches */
    rv__picture_start start;         /* all zero: from noise alone */
} job;

static bool is_cancelled(const job *j)
{
    const rv__pipeline_hooks *h = &j->r->hooks;

    return h->cancelled && h->cancelled(h->user);
}

static rv_status check_request(const rv__pipeline *p, const rv__picture_request *r, rv_error *err)
{
    int64_t step = rv__vae_about(p->vae)->factor * rv__transformer_about(p->transformer)->patch;

    if (r->width < step || r->height < step || r->width > RV__VAE_MAX_SIDE ||
        r->height > RV__VAE_MAX_SIDE || r->width % step || r->height % step)
        return rv__fail_code(err, RV_VALIDATION, NULL, r->width % step ? "width" : "height",
                             "this model's sides are multiples of %lld from %lld to %d",
                             (long long)step, (long long)step, RV__VAE_MAX_SIDE);
    if (r->steps < 1 || r->steps > RV_SCHEDULER_MAX_STEPS)
        return rv__fail_code(err, RV_VALIDATION, NULL, "steps", "steps must be from 1 to %d",
                             RV_SCHEDULER_MAX_STEPS);
    if (!isfinite(r->guidance))
        return rv__fail_code(err, RV_VALIDATION, NULL, "CFGScale", "guidance must be a number");
    if (r->input && !(r->input->strength >= 0 && r->input->strength <= 1))
        return rv__fail_code(err, RV_VALIDATION, NULL, "strength", "strength must be from 0 to 1");
    return RV_OK;
}

/* Tokens per text encoder: never more than a small model's CLIP has positions. */
static size_t sequence_of(const rv__pipeline *p, const rv__picture_request *r)
{
    size_t most = p->sequence, asked = r->sequence;

    return asked && (asked < most || most == RV__TEXT_LENGTH) ? asked : most;
}

static rv_status check_memory(const job *j, rv_error *err)
{
    const rv__pipeline *p = j->p;
    int64_t step = rv__vae_about(p->vae)->factor * rv__transformer_about(p->transformer)->patch;

    return rv__memory_check(p->weights, rv__transformer_elsewhere(p->transformer),
                            (double)rv__transformer_bytes(p->transformer), p->memory_limit, j->r->width, j->r->height, step, err);
}

/* Texts in the order of the batch: with guidance the negative one first. */
static rv_status encode_texts(job *j, rv_error *err)
{
    const rv__picture_request *r = j->r;
    const char *prompts[2] = {r->negative ? r->negative : "", r->prompt};
    const rv__text_embeds *embeds[2];
    rv__condition conditions[2];
    size_t skip = 2 - j->rows;
    rv_status status;

    status = rv__prompt_cache_get(j->p->prompts, j->p->text, prompts + skip, j->rows, r->weighting,
                                  sequence_of(j->p, r), embeds, r->hooks.cancelled, r->hooks.user, err);
    if (status != RV_OK)
        return status;
    for (size_t i = 0; i < j->rows; i++) {
        const rv__transformer_config *c = rv__transformer_about(j->p->transformer);
        const rv__text_embeds *e = embeds[i];

        if (e->t5_channels != c->t5_channels || e->llama_channels != c->llama_channels ||
            e->pooled_channels != c->pooled_channels)
            return rv__fail(err, RV_FORMAT,
                            "%s: the text encoders' widths are not those the transformer wants",
                            rv__weights_path(j->p->weights));
        conditions[i] = (rv__condition){.t5 = e->t5,
                                        .llama = e->llama,
                                        .pooled = e->pooled,
                                        .t5_tokens = e->t5_tokens,
                                        .llama_tokens = e->llama_tokens,
                                        .llama_layers = e->llama_layers};
    }
    rv__transformer_fast(j->p->transformer, j->p->is_fast);
    rv__transformer_reuse(j->p->transformer, r->cache);
    status = rv__transformer_prepare(j->p->transformer, j->width, j->height, conditions, (int)j->rows,
                                   err);
    if (j->p->memory_limit > 0) {
        rv__memory_rest(j->p->weights, "text_encoder");
        if (status == RV_OK)
            status = check_memory(j, err);
    }
    return status;
}

static rv_status begin(job *j, rv_error *err)
{
    const rv__picture_request *r = j->r;
    rv_status status;

    j->x = rv__alloc((2 * j->rows + 4) * j->n * sizeof *j->x);
    if (!j->x)
        return rv__fail(err, RV_MEMORY, "out of memory");
    j->in = j->x + j->n;
    j->out = j->in + j->rows * j->n;
    j->v = j->out + j->rows * j->n;
    j->noise = j->v + j->n;
    j->x0 = j->noise + j->n;
    status = rv__scheduler_new(r->scheduler ? r->scheduler : &j->p->scheduler, r->steps, j->n,
                               &j->scheduler, err);
    if (status != RV_OK)
        return status;
    rv__rng_seed(&j->rng, r->seed);
    if (r->initial)
        memcpy(j->x, r->initial, j->n * sizeof *j->x);
    else
        rv__rng_normal(&j->rng, j->x, j->n);
    if (r->separate_noise)
        rv__rng_seed(&j->rng, r->noise_seed);
    return r->input ? rv__picture_start_begin(r, j->p->vae, j->scheduler, j->x, &j->start, err)
                    : RV_OK;
}

/* v = -(u + g * (c - u)): the transformer points to the picture, schedulers want the way to the
 * noise. */
static void direction(const job *j, float *v)
{
    const float *u = j->out, *c = j->out + (j->rows - 1) * j->n, g = (float)j->r->guidance;

    for (size_t i = 0; i < j->n; i++)
        v[i] = j->rows == 1 ? -u[i] : -u[i] + g * (-c[i] - -u[i]);
}

static bool may_skip(const job *j, int call)
{
    const rv__cache_options *c = j->r->cache;
    int step = call * j->r->steps / rv__scheduler_calls(j->scheduler);

    return c && step >= c->first && step < c->end;
}

static rv_status one_call(job *j, int call, rv_error *err)
{
    const rv__pipeline_hooks *h = &j->r->hooks;
    float times[2];
    bool skipped;
    rv_status status;

    for (size_t row = 0; row < j->rows; row++) {
        memcpy(j->in + row * j->n, j->x, j->n * sizeof *j->x);
        times[row] = (float)rv__scheduler_timestep(j->scheduler, call);
    }
    status = rv__transformer_run_cached(j->p->transformer, j->in, times, j->out,
                                        may_skip(j, call), &skipped, h->cancelled, h->user, err);
    if (status != RV_OK)
        return status;
    j->p->calls++;
    j->p->skipped += skipped;
    if (h->call)
        h->call(h->user, call, j->in, times, j->out, j->rows, j->n);
    direction(j, j->v);
    if (rv__scheduler_needs_noise(j->scheduler)) {
        rv__rng_normal(&j->rng, j->noise, j->n);
        if (h->noise)
            h->noise(h->user, call, j->noise, j->n);
    }
    status =
        rv__scheduler_step(j->scheduler, call, j->v, j->x, j->noise, j->rgb ? j->x0 : NULL, err);
    if (status == RV_OK)
        rv__picture_start_keep(&j->start, j->scheduler, call, j->x);
    return status;
}

/* Previews are a help, not a result: a model that has none is watched without. */
static rv_status begin_preview(job *j, rv_error *err)
{
    const rv__pipeline_hooks *h = &j->r->hooks;
    rv__pipeline *p = j->p;
    rv_status status = RV_OK;

    if (!h->preview || h->preview_every < 1)
        return RV_OK;
    if (!p->preview) {
        p->preview = rv__alloc(sizeof *p->preview);
        status = p->preview ? rv__preview_fit(p->vae, p->preview, h->cancelled, h->user, err)
                            : rv__fail(err, RV_MEMORY, "out of memory");
        if (status != RV_OK) {
            rv__free(p->preview);
            p->preview = NULL;
        }
        if (status == RV_UNSUPPORTED)
            return RV_OK;
    }
    if (status == RV_OK && !(j->rgb = rv__alloc((size_t)(j->width * j->height) * 3)))
        status = rv__fail(err, RV_MEMORY, "out of memory");
    return status;
}

static void tell_step(const job *j, int step)
{
    const rv__pipeline_hooks *h = &j->r->hooks;

    if (j->rgb && (step % h->preview_every == 0 || step == j->r->steps)) {
        rv__preview_paint(j->p->preview, j->x0, j->width, j->height, j->rgb);
        h->preview(h->user, j->rgb, j->width, j->height);
    }
    if (h->step)
        h->step(h->user, step, j->r->steps, j->x, j->n);
}

static rv_status sample(job *j, rv_error *err)
{
    int calls = rv__scheduler_calls(j->scheduler);

    for (int i = j->start.first; i < calls; i++) {
        rv_status status =
            is_cancelled(j) ? rv__fail(err, RV_CANCELLED, "cancelled") : one_call(j, i, err);

        if (status != RV_OK)
            return status;
        tell_step(j, (i + 1) * j->r->steps / calls);
    }
    return RV_OK;
}

static rv_status decode(job *j, uint8_t *bytes, float *decoded, rv_error *err)
{
    const rv__picture_request *r = j->r;
    float *planes = decoded;
    rv_status status;

    if (rv__transformer_bytes(j->p->transformer) > IDLE_BYTES)
        rv__transformer_release(j->p->transformer);
    if (j->p->memory_limit > 0)
        rv__memory_rest(j->p->weights, "transformer");
    rv__vae_limit(j->p->vae, (size_t)(j->p->memory_limit / 2));
    if (!planes)
        planes = rv__alloc((size_t)(r->width * r->height) * 3 * sizeof *planes);
    if (!planes)
        return rv__fail(err, RV_MEMORY, "out of memory");
    rv__vae_unscale(rv__vae_about(j->p->vae), j->x, j->n, j->x);
    status = rv__vae_decode(j->p->vae, j->x, j->width, j->height, planes, r->hooks.cancelled,
                            r->hooks.user, err);
    if (status == RV_OK)
        rv__vae_bytes(planes, r->width, r->height, 3, bytes);
    if (!decoded)
        rv__free(planes);
    return status;
}

void rv__pipeline_memory(rv__pipeline *p, double bytes)
{
    p->memory_limit = bytes > 0 ? bytes : 0;
}

void rv__pipeline_fast(rv__pipeline *p, bool fast)
{
    p->is_fast = fast;
}

rv_status rv__pipeline_machines(rv__pipeline *p, rv__machines *machines, rv_error *err)
{
    p->has_new_machines = p->has_new_machines || p->machines != machines;
    p->machines = machines;
    return rv__pipeline_load(p, err);
}

void rv__pipeline_evaluations(const rv__pipeline *p, int *all, int *skipped)
{
    *all = p->calls;
    *skipped = p->skipped;
}

char *rv__pipeline_cut(rv__pipeline *p, const rv__picture_request *r, bool negative)
{
    const char *text = negative ? r->negative : r->prompt;

    if (!text || (negative && r->guidance <= 1) || rv__pipeline_load(p, NULL) != RV_OK)
        return NULL;
    rv__weighted w;
    if (rv__weighted_parse(r->weighting, text, "positivePrompt", &w, NULL) != RV_OK)
        return NULL;
    char *note = rv__weighted_cut(p->text, &w, sequence_of(p, r));
    rv__weighted_free(&w);
    return note;
}

rv_status rv__pipeline_run(rv__pipeline *p, const rv__picture_request *r, uint8_t *bytes,
                           float *decoded, rv_error *err)
{
    job j = {.p = p, .r = r, .rows = r->guidance > 1 ? 2 : 1};
    rv_status status = rv__pipeline_load(p, err);

    p->calls = p->skipped = 0;
    if (status == RV_OK)
        status = check_request(p, r, err);
    if (status == RV_OK && r->input && r->input->strength == 0 && !decoded) {
        memcpy(bytes, r->input->rgb, (size_t)(r->width * r->height) * 3);
        return RV_OK;
    }
    if (status != RV_OK)
        return status;
    j.width = r->width / rv__vae_about(p->vae)->factor;
    j.height = r->height / rv__vae_about(p->vae)->factor;
    j.n = (size_t)(j.width * j.height * rv__vae_about(p->vae)->latent_channels);
    status = encode_texts(&j, err);
    if (status == RV_OK)
        status = begin(&j, err);
    if (status == RV_OK)
        status = begin_preview(&j, err);
    if (status == RV_OK)
        status = sample(&j, err);
    if (p->machines)
        rv__machines_rest(p->machines);
    if (status == RV_OK)
        status = decode(&j, bytes, decoded, err);
    rv__scheduler_free(j.scheduler);
    rv__free(j.x);
    rv__free(j.rgb);
    rv__picture_start_free(&j.start);
    return status;
}
