/* What the files of the scheduler share.  Nobody else includes it. */
#ifndef RV_SCHEDULER_INTERNAL_H
#define RV_SCHEDULER_INTERNAL_H

#include "scheduler.h"

#define RV_SCHEDULER_HISTORY 4 /* most values a sampler remembers */

struct rv__scheduler {
    rv__scheduler_config config;
    int                  steps, calls;
    size_t               n;
    double              *levels;             /* sigma before each step, steps + 1; the last is 0 */
    double              *sigmas, *timesteps; /* of each call                                     */
    int                  expected;           /* the next call; -1 before the first               */

    /* Pictures, noises or directions seen at earlier calls, newest first; what they are is the
     * sampler's affair. */
    float *seen[RV_SCHEDULER_HISTORY];
    float *start;      /* where the running step began                    */
    int    known;      /* how many of `seen` count                        */
    int    last_order; /* UniPC: of the prediction before                 */
};

/* A name of requests; the list ends with a row without one. */
typedef struct rv__scheduler_row {
    const char *name;
    rv__sampler  sampler;
    rv__spacing  spacing;
    int          order;
    bool         sde;     /* DPM: the stochastic form */
    const char  *nearest; /* what to take instead; NULL: works */
} rv__scheduler_row;

extern const rv__scheduler_row rv__scheduler_rows[];

/* The configuration of a row that works, with the model's shift and timesteps. */
rv__scheduler_config rv__scheduler_row_config(const rv__scheduler_row *r,
                                              const rv__scheduler_config *model);

/* Whether steps with this configuration want fresh noise. */
bool rv__scheduler_draws_noise(const rv__scheduler_config *c);

/* Fills levels[0 .. steps] (the last is 0) for a checked configuration, rounded to float as the
 * reference keeps them, and the timestep of each of the first `steps`. */
void rv__scheduler_sigmas(const rv__scheduler_config *c, int steps, double *levels,
                          double *timesteps);

/* log(alpha / sigma): the natural time of exponential integrators; infinite at 0. */
double rv__half_log_snr(double sigma);

/* The sigma where that is the mean of those at a and b. */
double rv__sigma_between(double a, double b);

/* Forgets the oldest of `seen`: [0] is free to be written, [1] is the newest known. */
void rv__scheduler_push(rv__scheduler *s);

/* One call each; x is updated in place. */
void rv__scheduler_unipc(rv__scheduler *s, int call, const float *v, float *x);
void rv__scheduler_dpm(rv__scheduler *s, int call, const float *v, float *x, const float *noise);
void rv__scheduler_deis(rv__scheduler *s, int call, const float *v, float *x);
void rv__scheduler_adams(rv__scheduler *s, int call, const float *v, float *x);
void rv__scheduler_two_stage(rv__scheduler *s, int call, const float *v, float *x,
                             const float *noise);
void rv__scheduler_dpm_single(rv__scheduler *s, int call, const float *v, float *x);
void rv__scheduler_dpm_sde(rv__scheduler *s, int call, const float *v, float *x,
                           const float *noise);
void rv__scheduler_pndm(rv__scheduler *s, int call, const float *v, float *x);
void rv__scheduler_ancestral(const rv__scheduler *s, double from, double to, float *x,
                             const float *noise);

#endif
