/* Schedulers of flow matching: the list of noise levels (sigmas) and the rule that takes the
 * latents from one to the next.  Plain arithmetic; must never know a model or a file.
 *
 * sigma 1 is pure noise, 0 the picture: x = (1 - sigma) * x0 + sigma * noise.  The model output is
 * v = noise - x0, that is the negated output of the transformer. */
#ifndef RV_SCHEDULER_H
#define RV_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"
#include "base/status.h"

typedef enum rv__sampler {
    RV_SAMPLER_EULER, /* FlowMatchEulerDiscreteScheduler                                  */
    RV_SAMPLER_LCM,   /* FlowMatchLCMScheduler: the picture seen and fresh noise          */
    RV_SAMPLER_UNIPC, /* UniPCMultistepScheduler with flow sigmas, order 1..3             */
    RV_SAMPLER_DPM,   /* DPM-Solver++ multistep (midpoint), order 1..3, also as SDE       */
    RV_SAMPLER_DEIS,  /* DEIS, order 2                                                    */
    RV_SAMPLER_EULER_ANCESTRAL, /* Euler with fresh noise, rectified flow form            */
    RV_SAMPLER_HEUN,            /* two calls per step: the mean slope of both ends        */
    RV_SAMPLER_DPM2,            /* two calls per step: the slope in the middle            */
    RV_SAMPLER_DPM2_ANCESTRAL,
    RV_SAMPLER_LMS,        /* linear multistep, order 4, exact for uneven steps          */
    RV_SAMPLER_IPNDM,      /* the same with the weights of even steps                    */
    RV_SAMPLER_PNDM,       /* the same, its first step twice, by the mean slope          */
    RV_SAMPLER_DPM_SINGLE, /* DPM-Solver++ singlestep: orders 1 and 2 in turn            */
    RV_SAMPLER_DPM_SDE,    /* DPM++ SDE: two calls per step, the second halfway in log SNR */
    RV_SAMPLER_TCD,        /* trajectory consistency: down too far, back up with noise   */
    RV_SAMPLERS
} rv__sampler;

/* How the sigmas are spread between the first and the last one. */
typedef enum rv__spacing {
    RV_SPACING_UNIFORM, /* even, then shifted */
    RV_SPACING_KARRAS,
    RV_SPACING_EXPONENTIAL,
    RV_SPACING_BETA,
    RV_SPACING_EDM,   /* Karras et al. 2022 with their end points; then shifted */
    RV_SPACING_SIGNAL /* UniPC: even in the signal, as diffusers up to 0.36; others: uniform */
} rv__spacing;

typedef struct rv__scheduler_config {
    rv__sampler sampler;
    rv__spacing spacing;
    double      shift;           /* flow shift, > 0; 1 is none             */
    int         train_timesteps; /* 1000                                   */
    int         order;           /* UniPC, DPM: 1..3; others 1             */
    bool        bh1;             /* UniPC: B(h) = h instead of expm1(h)    */
    bool        lower_order_final;
    bool        stochastic;     /* Euler: as LCM; DPM: the SDE form        */
    double      shift_terminal; /* stretch so that the last sigma is this; 0: off */
} rv__scheduler_config;

/* Most steps a scheduler takes; the request layer has its own, smaller limit. */
#define RV_SCHEDULER_MAX_STEPS 10000

/* Reads a scheduler_config.json (its _class_name, or, when that is absent, the fields that only one
 * class has).  RV_UNSUPPORTED for classes and options we do not have, RV_FORMAT for wrong values;
 * both name the field. */
rv_status rv__scheduler_config_read(const rv__value *json, rv__scheduler_config *out,
                                    rv_error *err);

/* A scheduler by its name in requests ("Euler", "UniPC 2M Karras"; letters compare without case).
 * NULL, "" and "Default" are the model's own.  Shift and train_timesteps are always the model's.
 * Names that exist but make no picture from noise: RV_UNSUPPORTED with code "unsupportedScheduler"
 * and the nearest working name in the message; other names: RV_VALIDATION. */
rv_status rv__scheduler_config_named(const char *name, const rv__scheduler_config *model,
                                     rv__scheduler_config *out, rv_error *err);

/* The canonical spelling of a request's scheduler name, or NULL; *stochastic (may be NULL) says
 * whether it draws noise while it runs, *works whether rv__scheduler_config_named accepts it. */
const char *rv__scheduler_canonical(const char *name, bool *stochastic, bool *works);

/* What every name of requests means here and why, as a page (out; rv__free; NULL: no memory). */
char *rv__scheduler_page(void);

/* One run over one latent tensor; not shared between threads. */
typedef struct rv__scheduler rv__scheduler;

/* A run of `steps` steps over latents of n values (out; rv__scheduler_free). */
rv_status rv__scheduler_new(const rv__scheduler_config *config, int steps, size_t n,
                            rv__scheduler **out, rv_error *err);
void      rv__scheduler_free(rv__scheduler *s);

/* Network calls of the run, numbered from 0; equal to the steps for every sampler that calls once
 * per step. */
int rv__scheduler_calls(const rv__scheduler *s);

/* Noise level of the latents before call i; i == calls is the end, 0. */
double rv__scheduler_sigma(const rv__scheduler *s, int i);

/* What the transformer gets as its timestep at call i, 0..1000 (UniPC: a whole number, cut off). */
double rv__scheduler_timestep(const rv__scheduler *s, int i);

/* Whether step() wants n fresh standard normal values at every call, the last one included (it then
 * does not use them, but the reference draws them). */
bool rv__scheduler_needs_noise(const rv__scheduler *s);

/* Takes x (n values, updated in place) over call i with the model output v = -transformer(x). Calls
 * go up one by one; the first may be any (img2img).  noise may be NULL unless needed.  x0 (may be
 * NULL) gets the picture the model sees behind the noise, for previews. */
rv_status rv__scheduler_step(rv__scheduler *s, int i, const float *v, float *x, const float *noise,
                             float *x0, rv_error *err);

/* After a step of UniPC: the corrected latents that the prediction started from, n values
 * (borrowed); NULL for samplers without a corrector. */
const float *rv__scheduler_corrected(const rv__scheduler *s);

/* img2img: the call to begin with when `strength` (0..1) of the steps is to run; calls means
 * nothing is left. */
int rv__scheduler_begin(const rv__scheduler *s, double strength);

/* Latents of a clean sample as they would be before call i: (1 - sigma) * sample + sigma * noise.
 * out may be sample. */
void rv__scheduler_add_noise(const rv__scheduler *s, int i, const float *sample, const float *noise,
                             float *out);

#endif
