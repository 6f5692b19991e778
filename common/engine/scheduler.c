/* One run of a scheduler: from noise to picture, call by call.  Scalars are double, latents float.
 * Must never look at anything but its numbers: the same input gives the same output on every
 * machine. */
#include "scheduler_internal.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

#define MAX_ORDER 3

/* How a sampler works. */
static const struct {
    int history; /* what it remembers of earlier calls; negative: the order of the configuration and
                    -n more */
    bool has_start;                       /* whether it goes back to where a step began */
    enum { ONE, TWO, FIRST_TWICE } calls; /* of a step; the last always has one */
    bool noise;                           /* fresh noise at every call */
} rules[] = {
    [RV_SAMPLER_EULER] = {0, false, ONE, false},
    [RV_SAMPLER_LCM] = {0, false, ONE, true},
    [RV_SAMPLER_UNIPC] = {-1, true, ONE, false},
    [RV_SAMPLER_DPM] = {-1, false, ONE, false},
    [RV_SAMPLER_DEIS] = {2, false, ONE, false},
    [RV_SAMPLER_EULER_ANCESTRAL] = {0, false, ONE, true},
    [RV_SAMPLER_HEUN] = {1, true, TWO, false},
    [RV_SAMPLER_DPM2] = {1, true, TWO, false},
    [RV_SAMPLER_DPM2_ANCESTRAL] = {1, true, TWO, true},
    [RV_SAMPLER_LMS] = {4, false, ONE, false},
    [RV_SAMPLER_IPNDM] = {4, false, ONE, false},
    [RV_SAMPLER_PNDM] = {4, true, FIRST_TWICE, false},
    [RV_SAMPLER_DPM_SINGLE] = {2, true, ONE, false},
    [RV_SAMPLER_DPM_SDE] = {1, true, TWO, true},
    [RV_SAMPLER_TCD] = {0, false, ONE, true},
};

static bool make_buffers(rv__scheduler *s)
{
    rv__sampler sampler = s->config.sampler;
    s->calls = s->steps;
    if (rules[sampler].calls == TWO)
        s->calls = 2 * s->steps - 1;
    else if (rules[sampler].calls == FIRST_TWICE && s->steps > 1)
        s->calls++;
    s->levels = rv__calloc((size_t)s->steps + 1, sizeof *s->levels);
    s->sigmas = rv__calloc((size_t)s->calls + 1, sizeof *s->sigmas);
    s->timesteps = rv__calloc((size_t)s->calls, sizeof *s->timesteps);
    if (!s->levels || !s->sigmas || !s->timesteps)
        return false;
    int history = rules[sampler].history < 0 ? s->config.order - rules[sampler].history
                                             : rules[sampler].history;
    for (int i = 0; i < history; i++) {
        s->seen[i] = rv__calloc(s->n, sizeof(float));
        if (!s->seen[i])
            return false;
    }
    if (rules[sampler].has_start)
        s->start = rv__calloc(s->n, sizeof(float));
    return s->start || !rules[sampler].has_start;
}

/* Where the second call of a step evaluates. */
static double second_level(const rv__scheduler *s, int step)
{
    double from = s->levels[step], to = s->levels[step + 1];
    if (s->config.sampler == RV_SAMPLER_HEUN)
        return to;
    if (s->config.sampler == RV_SAMPLER_DPM_SDE)
        return rv__sigma_between(from, to);
    if (s->config.sampler == RV_SAMPLER_DPM2_ANCESTRAL)
        to *= to / from;
    return sqrt(from * to);
}

/* Sigma and timestep of every call from those of the steps. */
static void spread(rv__scheduler *s)
{
    if (s->calls == s->steps) {
        memcpy(s->sigmas, s->levels, ((size_t)s->steps + 1) * sizeof *s->sigmas);
        return;
    }
    bool two = rules[s->config.sampler].calls == TWO;
    for (int i = s->calls - 1; i >= 0; i--) {
        if (two)
            s->sigmas[i] = i % 2 ? second_level(s, i / 2) : s->levels[i / 2];
        else
            s->sigmas[i] = s->levels[i > 1 ? i - 1 : i];
        s->timesteps[i] = s->sigmas[i] * s->config.train_timesteps;
    }
}

rv_status rv__scheduler_new(const rv__scheduler_config *config, int steps, size_t n,
                            rv__scheduler **out, rv_error *err)
{
    *out = NULL;
    if (steps < 1 || steps > RV_SCHEDULER_MAX_STEPS)
        return rv__fail_code(err, RV_VALIDATION, NULL, "steps", "steps must be from 1 to %d",
                             RV_SCHEDULER_MAX_STEPS);
    bool sane = config->sampler < sizeof rules / sizeof *rules && isfinite(config->shift) &&
                config->shift > 0.0 && config->train_timesteps > 1 && config->order >= 1 &&
                config->order <= MAX_ORDER;
    if (!sane)
        return rv__fail(err, RV_MISUSE, "a scheduler configuration that was not checked");
    rv__scheduler *s = rv__calloc(1, sizeof *s);
    if (s) {
        s->config = *config;
        s->steps = steps;
        s->n = n;
        s->expected = -1;
    }
    if (!s || !make_buffers(s)) {
        rv__scheduler_free(s);
        return rv__fail(err, RV_MEMORY, "out of memory for the scheduler");
    }
    rv__scheduler_sigmas(config, steps, s->levels, s->timesteps);
    spread(s);
    *out = s;
    return RV_OK;
}

void rv__scheduler_free(rv__scheduler *s)
{
    if (!s)
        return;
    rv__free(s->levels);
    rv__free(s->sigmas);
    rv__free(s->timesteps);
    for (int i = 0; i < RV_SCHEDULER_HISTORY; i++)
        rv__free(s->seen[i]);
    rv__free(s->start);
    rv__free(s);
}

int rv__scheduler_calls(const rv__scheduler *s)
{
    return s->calls;
}

double rv__scheduler_sigma(const rv__scheduler *s, int i)
{
    return i >= 0 && i < s->calls ? s->sigmas[i] : 0.0;
}

double rv__scheduler_timestep(const rv__scheduler *s, int i)
{
    return i >= 0 && i < s->calls ? s->timesteps[i] : 0.0;
}

bool rv__scheduler_draws_noise(const rv__scheduler_config *c)
{
    return rules[c->sampler].noise || c->stochastic;
}

bool rv__scheduler_needs_noise(const rv__scheduler *s)
{
    return rv__scheduler_draws_noise(&s->config);
}

const float *rv__scheduler_corrected(const rv__scheduler *s)
{
    return s->config.sampler == RV_SAMPLER_UNIPC ? s->start : NULL;
}

int rv__scheduler_begin(const rv__scheduler *s, double strength)
{
    if (!(strength > 0.0))
        return s->calls;
    double run = s->steps * strength;
    int step = run >= s->steps ? 0 : (int)(s->steps - run);
    if (rules[s->config.sampler].calls == TWO)
        return 2 * step;
    return step && s->calls > s->steps ? step + 1 : step;
}

void rv__scheduler_add_noise(const rv__scheduler *s, int i, const float *sample, const float *noise,
                             float *out)
{
    float sigma = (float)rv__scheduler_sigma(s, i);
    for (size_t k = 0; k < s->n; k++)
        out[k] = (1.0f - sigma) * sample[k] + sigma * noise[k];
}

double rv__half_log_snr(double sigma)
{
    return log1p(-sigma) - log(sigma);
}

double rv__sigma_between(double a, double b)
{
    return 1.0 / (1.0 + exp(0.5 * (rv__half_log_snr(a) + rv__half_log_snr(b))));
}

void rv__scheduler_push(rv__scheduler *s)
{
    int last = 0;
    while (last + 1 < RV_SCHEDULER_HISTORY && s->seen[last + 1])
        last++;
    float *oldest = s->seen[last];
    for (int k = last; k > 0; k--)
        s->seen[k] = s->seen[k - 1];
    s->seen[0] = oldest;
}

/* ---- samplers without memory: float as in the reference ---- */

static void step_euler(const rv__scheduler *s, int i, const float *v, float *x)
{
    float by = (float)s->sigmas[i + 1] - (float)s->sigmas[i];
    for (size_t k = 0; k < s->n; k++)
        x[k] += by * v[k];
}

static void step_renoise(const rv__scheduler *s, int i, const float *v, float *x,
                         const float *noise)
{
    float sigma = (float)s->sigmas[i], next = (float)s->sigmas[i + 1];
    for (size_t k = 0; k < s->n; k++)
        x[k] = (1.0f - next) * (x[k] - sigma * v[k]) + next * noise[k];
}

/* From sigma `from` further down than `to`, and back up to it with fresh noise. */
void rv__scheduler_ancestral(const rv__scheduler *s, double from, double to, float *x,
                             const float *noise)
{
    double down = to * (to / from), scale = (1.0 - to) / (1.0 - down);
    double fresh = to * to - down * down * scale * scale;
    fresh = fresh > 0.0 ? sqrt(fresh) : 0.0;
    for (size_t k = 0; k < s->n; k++)
        x[k] = (float)(scale * x[k] + fresh * noise[k]);
}

static void step_euler_ancestral(const rv__scheduler *s, int i, const float *v, float *x,
                                 const float *noise)
{
    double sigma = s->sigmas[i], next = s->sigmas[i + 1], down = next * (next / sigma);
    for (size_t k = 0; k < s->n; k++)
        x[k] = (float)(x[k] + (down - sigma) * v[k]);
    if (next > 0.0)
        rv__scheduler_ancestral(s, sigma, next, x, noise);
}

#define TCD_ETA 0.3 /* Zheng et al. 2024: how much of the way is noise */

/* Along the straight line beyond the next sigma, and back up to it with fresh noise. */
static void step_tcd(const rv__scheduler *s, int i, const float *v, float *x, const float *noise)
{
    double sigma = s->sigmas[i], next = s->sigmas[i + 1], down = (1.0 - TCD_ETA) * next;
    double scale = (1.0 - next) / (1.0 - down);
    double fresh = sqrt(next * next - down * down * scale * scale);
    for (size_t k = 0; k < s->n; k++)
        x[k] = (float)(scale * (x[k] + (down - sigma) * v[k]) + fresh * noise[k]);
}

static void step(rv__scheduler *s, int i, const float *v, float *x, const float *noise)
{
    switch (s->config.sampler) {
    case RV_SAMPLER_EULER:
    case RV_SAMPLER_LCM:
        if (rv__scheduler_needs_noise(s))
            step_renoise(s, i, v, x, noise);
        else
            step_euler(s, i, v, x);
        break;
    case RV_SAMPLER_UNIPC:
        rv__scheduler_unipc(s, i, v, x);
        break;
    case RV_SAMPLER_DPM:
        rv__scheduler_dpm(s, i, v, x, noise);
        break;
    case RV_SAMPLER_DEIS:
        rv__scheduler_deis(s, i, v, x);
        break;
    case RV_SAMPLER_EULER_ANCESTRAL:
        step_euler_ancestral(s, i, v, x, noise);
        break;
    case RV_SAMPLER_HEUN:
    case RV_SAMPLER_DPM2:
    case RV_SAMPLER_DPM2_ANCESTRAL:
        rv__scheduler_two_stage(s, i, v, x, noise);
        break;
    case RV_SAMPLER_LMS:
    case RV_SAMPLER_IPNDM:
        rv__scheduler_adams(s, i, v, x);
        break;
    case RV_SAMPLER_PNDM:
        rv__scheduler_pndm(s, i, v, x);
        break;
    case RV_SAMPLER_DPM_SINGLE:
        rv__scheduler_dpm_single(s, i, v, x);
        break;
    case RV_SAMPLER_DPM_SDE:
        rv__scheduler_dpm_sde(s, i, v, x, noise);
        break;
    case RV_SAMPLER_TCD:
        step_tcd(s, i, v, x, noise);
        break;
    case RV_SAMPLERS:
        break;
    }
}

rv_status rv__scheduler_step(rv__scheduler *s, int i, const float *v, float *x, const float *noise,
                             float *x0, rv_error *err)
{
    if (i < 0 || i >= s->calls || (s->expected >= 0 && i != s->expected))
        return rv__fail(err, RV_MISUSE, "scheduler call %d is out of order", i);
    if (rv__scheduler_needs_noise(s) && !noise)
        return rv__fail(err, RV_MISUSE, "this scheduler needs noise at every step");
    s->expected = i + 1;
    float sigma = (float)s->sigmas[i];
    for (size_t k = 0; x0 && k < s->n; k++)
        x0[k] = x[k] - sigma * v[k];
    step(s, i, v, x, noise);
    return RV_OK;
}
