/* Solvers with two calls per step: Heun, DPM2 (k-diffusion's names) and DPM++ SDE, in flow form.
 * The last step has one call and goes to the picture seen.  Must never divide by a step of
 * length 0. */
#include "scheduler_internal.h"

#include <math.h>
#include <string.h>

void rv__scheduler_two_stage(rv__scheduler *s, int call, const float *v, float *x,
                             const float *noise)
{
    int step = call / 2;
    double from = s->levels[step], to = s->levels[step + 1];
    bool ancestral = s->config.sampler == RV_SAMPLER_DPM2_ANCESTRAL;
    double end = ancestral ? to * (to / from) : to;
    if (call % 2 == 0) {
        memcpy(s->start, x, s->n * sizeof *x);
        memcpy(s->seen[0], v, s->n * sizeof *v);
        double by = (to == 0.0 ? 0.0 : s->sigmas[call + 1]) - from; /* the last step is Euler's */
        for (size_t k = 0; k < s->n; k++)
            x[k] = (float)(x[k] + by * v[k]);
        return;
    }
    bool heun = s->config.sampler == RV_SAMPLER_HEUN;
    for (size_t k = 0; k < s->n; k++) {
        double slope = heun ? 0.5 * ((double)s->seen[0][k] + v[k]) : v[k];
        x[k] = (float)(s->start[k] + (end - from) * slope);
    }
    if (ancestral)
        rv__scheduler_ancestral(s, from, to, x, noise);
}

/* ---- DPM++ SDE (Lu et al. 2022, k-diffusion's halfway point) ---- */

/* Weights of one step of the reverse stochastic equation from sigma s to t: x' = keep * x + toward
 * * picture + fresh * noise. */
typedef struct sde {
    double keep, toward, fresh, h;
} sde;

static sde sde_step(double s, double t)
{
    double h = rv__half_log_snr(t) - rv__half_log_snr(s), left = -expm1(-2.0 * h);
    return (sde){t / s * exp(-h), (1.0 - t) * left, h > 0.0 ? t * sqrt(left) : 0.0, h};
}

/* The noise of the whole step and that of its first half belong to one path: what the half drew is
 * part of the whole, by the weight that the equation gives it. */
void rv__scheduler_dpm_sde(rv__scheduler *s, int call, const float *v, float *x, const float *noise)
{
    int step = call / 2;
    double from = s->levels[step], to = s->levels[step + 1], middle = s->sigmas[call];
    if (to == 0.0) {
        for (size_t k = 0; k < s->n; k++)
            x[k] = (float)(x[k] - from * v[k]);
        return;
    }
    if (call % 2 == 0) {
        sde w = sde_step(from, s->sigmas[call + 1]);
        memcpy(s->start, x, s->n * sizeof *x);
        memcpy(s->seen[0], noise, s->n * sizeof *noise);
        for (size_t k = 0; k < s->n; k++)
            x[k] = (float)(w.keep * x[k] + w.toward * (x[k] - from * v[k]) + w.fresh * noise[k]);
        return;
    }
    sde w = sde_step(from, to), late = sde_step(middle, to);
    double early = w.fresh * w.fresh - late.fresh * late.fresh;
    early = early > 0.0 ? sqrt(early) : 0.0;
    for (size_t k = 0; k < s->n; k++)
        x[k] = (float)(w.keep * s->start[k] + w.toward * (x[k] - middle * v[k]) +
                       early * s->seen[0][k] + late.fresh * noise[k]);
}
