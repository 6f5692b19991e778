/* Words to a picture: text encoders, transformer, scheduler and autoencoder of one model, in the
 * order diffusers' HiDreamImagePipeline has.  Parts are opened when they are first needed.  Same
 * seed, same picture as the reference on a CPU.  Everything belongs to the device's thread. */
#ifndef RV_PIPELINE_H
#define RV_PIPELINE_H

#include "engine/graph.h"
#include "engine/rpc_machines.h"
#include "engine/scheduler.h"
#include "engine/step_cache.h"
#include "engine/weighting.h"

typedef struct rv__pipeline rv__pipeline;

/* Device and weights must outlive it; reads model_index.json and the scheduler's settings.  out
 * (rv__pipeline_close).  RV_NOT_FOUND, RV_FORMAT, RV_UNSUPPORTED (another kind of pipeline),
 * RV_MEMORY. */
rv_status rv__pipeline_open(rv__device *d, const rv__weights *w, rv__pipeline **out, rv_error *err);
void rv__pipeline_close(rv__pipeline *p);

/* Opens all parts now instead of with the first picture. */
rv_status rv__pipeline_load(rv__pipeline *p, rv_error *err);

/* Pictures from now on may be made with products in eight bits where the processor is faster with
 * them (rv__transformer_fast); texts and autoencoder stay in float32. */
void rv__pipeline_fast(rv__pipeline *p, bool fast);

/* The last blocks of the transformer run on these machines; NULL (the default): all run here.
 * Borrowed until it is told others, or closed.  RV_FORMAT: they cannot be split as asked. */
rv_status rv__pipeline_machines(rv__pipeline *p, rv__machines *machines, rv_error *err);

/* Bytes that weights and activations may take together; 0 (the default): no limit.  With one, parts
 * give their weights back when they have done their work, and a picture that cannot fit is refused
 * before it begins (memory_plan.h). */
void rv__pipeline_memory(rv__pipeline *p, double bytes);

/* A LoRA file and how strongly it acts. */
typedef struct rv__lora_use {
    const char *path;
    double weight;
} rv__lora_use;

/* Pictures from now on are made with exactly these (lora_set.h).  Errors name the file and the key.
 */
rv_status rv__pipeline_loras(rv__pipeline *p, const rv__lora_use *list, size_t count,
                             rv_error *err);

/* The model's own scheduler. */
const rv__scheduler_config *rv__pipeline_scheduler(const rv__pipeline *p);

/* Sides of a picture are multiples of this; 0 when the model's configuration cannot be read (err
 * says why). */
int64_t rv__pipeline_side_step(rv__pipeline *p, rv_error *err);

/* The size rule of the reference: scales to about `area` pixels (its own: the square of 1024), each
 * side cut to a multiple of step. */
void rv__pipeline_size(int64_t width, int64_t height, int64_t area, int64_t step,
                       int64_t *out_width, int64_t *out_height);

/* What somebody may watch or stop; every member may be NULL. */
typedef struct rv__pipeline_hooks {
    /* `step` of `steps` is done; latents [channels][height][width] after it. */
    void (*step)(void *user, int step, int steps, const float *latents, size_t n);
    /* Before `step`, at every preview_every-th and the last one (0: never): the picture that the
     * model sees behind the noise, roughly, one pixel per latent: width * height * 3 bytes,
     * borrowed. */
    void (*preview)(void *user, const uint8_t *rgb, int64_t width, int64_t height);
    int preview_every;
    /* What went into the transformer at a call and what came out: rows [negative, positive] with
     * guidance. */
    void (*call)(void *user, int call, const float *in, const float *timesteps, const float *out,
                 size_t rows, size_t n);
    /* Noise the scheduler drew for a step. */
    void (*noise)(void *user, int step, const float *noise, size_t n);
    rv__cancel_fn *cancelled;
    void *user;
} rv__pipeline_hooks;

/* A picture to start from instead of noise alone. */
typedef struct rv__picture_input {
    const uint8_t *rgb;  /* width * height * 3 */
    const uint8_t *mask; /* width * height, 255 where all may change, 0 nothing; NULL: everywhere */
    double strength; /* 0 .. 1: which part of the steps runs, the last ones; 0: rgb is the result */
} rv__picture_input;

typedef struct rv__picture_request {
    const char *prompt, *negative; /* UTF-8; negative NULL: "" */
    rv__weighting weighting;       /* how both are to be read  */
    size_t sequence;               /* tokens per text encoder; 0: 128 or what they allow */
    double guidance;               /* above 1: two evaluations per step */
    int steps;
    const rv__scheduler_config *scheduler; /* NULL: the model's */
    int64_t width, height;                 /* pixels, multiples of the side step */
    uint64_t seed;
    const float *initial;           /* noise to begin with; NULL: drawn from seed */
    const rv__picture_input *input; /* NULL: none */
    const rv__cache_options *cache; /* which steps may be skipped; NULL: none */
    /* Samplers that draw noise while they run go on with the generator of `seed`, so that a seed
     * tells the whole picture.  The reference draws from a global generator instead; with
     * separate_noise one seeded with noise_seed stands for it. */
    bool separate_noise;
    uint64_t noise_seed;
    rv__pipeline_hooks hooks;
} rv__picture_request;

/* Evaluations of the transformer that the last picture would have had, and how many of them the step
 * cache skipped. */
void rv__pipeline_evaluations(const rv__pipeline *p, int *all, int *skipped);

/* Where the prompt, or the negative one, is too long: a sentence (out; rv__free), see text_cut.h;
 * NULL when it is not. */
char *rv__pipeline_cut(rv__pipeline *p, const rv__picture_request *r, bool negative);

/* Makes one picture: bytes gets width * height * 3 values, rows top to bottom.  decoded (may be
 * NULL) gets the autoencoder's planes [3][height][width] before they become bytes. RV_VALIDATION,
 * RV_FORMAT, RV_UNSUPPORTED, RV_MEMORY, RV_CANCELLED. */
rv_status rv__pipeline_run(rv__pipeline *p, const rv__picture_request *r, uint8_t *bytes,
                           float *decoded, rv_error *err);

#endif
