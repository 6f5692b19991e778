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
    bool has_start; /* whether it goes back to where a step began */
    bool two_calls; /* two network calls per step, but for the last */
    bool noise;     /* fresh noise at every call */
} rules[] = {
    [RV_SAMPLER_EULER] = {0, false, false, false},
    [RV_SAMPLER_LCM] = {0, false, false, true},
    [RV_SAMPLER_UNIPC] = {-1, true, false, false},
    [RV_SAMPLER_DPM] = {-1, false, false, false},
    [RV_SAMPLER_DEIS] = {2, false, false, false},
    [RV_SAMPLER_EULER_ANCESTRAL] = {0, false, false, true},
    [RV_SAMPLER_HEUN] = {1, true, true, false},
    [RV_SAMPLER_DPM2] = {1, true, true, false},
    [RV_SAMPLER_DPM2_ANCESTRAL] = {1, true, true, true},
    [RV_SAMPLER_LMS] = {4, false, false, false},
    [RV_SAMPLER_IPNDM] = {4, false, false, false},
};

static bool make_buffers(rv__scheduler *s)
{
    rv__sampler sampler = s->config.sampler;
    s->calls = rules[sampler].two_calls ? 2 * s->steps - 1 : s->steps;
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
    for (int i = s->calls - 1; i >= 0; i--) {
        s->sigmas[i] = i % 2 ? second_level(s, i / 2) : s->levels[i / 2];
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

bool rv__scheduler_needs_noise(const rv__scheduler *s)
{
    return rules[s->config.sampler].noise || s->config.stochastic;
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
    return rules[s->config.sampler].two_calls ? 2 * step : step;
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
