/* One run of a scheduler: from noise to picture, call by call.  Scalars are double, latents float.
 * Must never look at anything but its numbers: the same input gives the same output on every machine. */
#include "scheduler_internal.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

#define MAX_ORDER 3

struct rv__scheduler {
    rv__scheduler_config config;
    int                  steps;
    size_t               n;
    double              *sigmas, *timesteps;
    int                  expected; /* the next call; -1 before the first */

    /* UniPC: pictures seen behind the noise, newest first, of the calls just done; and where the last prediction
     * started.  The newest of `seen` is also written while `known` calls are remembered. */
    float *seen[MAX_ORDER + 1];
    float *start;
    int    known;      /* calls done, at most the order */
    int    last_order; /* of the prediction before      */
};

static bool make_buffers(rv__scheduler *s)
{
    s->sigmas = rv__calloc((size_t)s->steps + 1, sizeof *s->sigmas);
    s->timesteps = rv__calloc((size_t)s->steps, sizeof *s->timesteps);
    if (!s->sigmas || !s->timesteps)
        return false;
    if (s->config.sampler != RV_SAMPLER_UNIPC)
        return true;
    for (int i = 0; i <= s->config.order; i++) {
        s->seen[i] = rv__calloc(s->n, sizeof(float));
        if (!s->seen[i])
            return false;
    }
    s->start = rv__calloc(s->n, sizeof(float));
    return s->start != NULL;
}

rv_status rv__scheduler_new(const rv__scheduler_config *config, int steps, size_t n, rv__scheduler **out,
                            rv_error *err)
{
    *out = NULL;
    if (steps < 1 || steps > RV_SCHEDULER_MAX_STEPS)
        return rv__fail_code(err, RV_VALIDATION, NULL, "steps", "steps must be from 1 to %d", RV_SCHEDULER_MAX_STEPS);
    bool sane = isfinite(config->shift) && config->shift > 0.0 && config->train_timesteps > 1 &&
                config->order >= 1 && config->order <= MAX_ORDER;
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
    rv__scheduler_sigmas(config, steps, s->sigmas, s->timesteps);
    *out = s;
    return RV_OK;
}

void rv__scheduler_free(rv__scheduler *s)
{
    if (!s)
        return;
    rv__free(s->sigmas);
    rv__free(s->timesteps);
    for (int i = 0; i <= MAX_ORDER; i++)
        rv__free(s->seen[i]);
    rv__free(s->start);
    rv__free(s);
}

int rv__scheduler_calls(const rv__scheduler *s)
{
    return s->steps;
}

double rv__scheduler_sigma(const rv__scheduler *s, int i)
{
    return i >= 0 && i < s->steps ? s->sigmas[i] : 0.0;
}

double rv__scheduler_timestep(const rv__scheduler *s, int i)
{
    return i >= 0 && i < s->steps ? s->timesteps[i] : 0.0;
}

bool rv__scheduler_needs_noise(const rv__scheduler *s)
{
    return s->config.sampler == RV_SAMPLER_LCM || (s->config.sampler == RV_SAMPLER_EULER && s->config.stochastic);
}

const float *rv__scheduler_corrected(const rv__scheduler *s)
{
    return s->start;
}

int rv__scheduler_begin(const rv__scheduler *s, double strength)
{
    if (!(strength > 0.0))
        return s->steps;
    double run = s->steps * strength;
    return run >= s->steps ? 0 : (int)(s->steps - run);
}

void rv__scheduler_add_noise(const rv__scheduler *s, int i, const float *sample, const float *noise, float *out)
{
    float sigma = (float)rv__scheduler_sigma(s, i);
    for (size_t k = 0; k < s->n; k++)
        out[k] = (1.0f - sigma) * sample[k] + sigma * noise[k];
}

/* ---- Euler and LCM: float as in the reference ---- */

static void step_euler(const rv__scheduler *s, int i, const float *v, float *x)
{
    float by = (float)s->sigmas[i + 1] - (float)s->sigmas[i];
    for (size_t k = 0; k < s->n; k++)
        x[k] += by * v[k];
}

static void step_renoise(const rv__scheduler *s, int i, const float *v, float *x, const float *noise)
{
    float sigma = (float)s->sigmas[i], next = (float)s->sigmas[i + 1];
    for (size_t k = 0; k < s->n; k++)
        x[k] = (1.0f - next) * (x[k] - sigma * v[k]) + next * noise[k];
}

/* ---- UniPC (Zhao et al. 2023), data prediction, on flow sigmas: alpha = 1 - sigma ---- */

static double lambda(double sigma)
{
    return log1p(-sigma) - log(sigma);
}

/* Solves the n by n system a * x = b (n at most 3) by elimination with pivots; false when it is singular. */
static bool solve(int n, double a[MAX_ORDER][MAX_ORDER], double *b, double *x)
{
    for (int c = 0; c < n; c++) {
        int best = c;
        for (int r = c + 1; r < n; r++)
            best = fabs(a[r][c]) > fabs(a[best][c]) ? r : best;
        if (a[best][c] == 0.0 || !isfinite(a[best][c]))
            return false;
        for (int k = 0; k < n; k++) {
            double t = a[c][k];
            a[c][k] = a[best][k];
            a[best][k] = t;
        }
        double t = b[c];
        b[c] = b[best];
        b[best] = t;
        for (int r = c + 1; r < n; r++) {
            double f = a[r][c] / a[c][c];
            for (int k = c; k < n; k++)
                a[r][k] -= f * a[c][k];
            b[r] -= f * b[c];
        }
    }
    for (int r = n - 1; r >= 0; r--) {
        x[r] = b[r];
        for (int k = r + 1; k < n; k++)
            x[r] -= a[r][k] * x[k];
        x[r] /= a[r][r];
    }
    return true;
}

/* The numbers of one update from sigma s0 to sigma t: x' = keep * x + toward * m0 + sum weight[k] * (m_k - m0), where
 * m_1, m_2 are older pictures and, for the corrector, the last weight belongs to the newest one. */
typedef struct update {
    double keep, toward;
    double weight[MAX_ORDER];
} update;

/* points[0 .. order - 2] are the sigmas of the older pictures.  A corrector of order p fits p points, a predictor
 * p - 1.  A wrong grid (two equal sigmas) falls back to order 1. */
static update make_update(const rv__scheduler_config *c, double s0, double t, int order, const double *points,
                          bool corrector)
{
    double h = lambda(t) - lambda(s0), hh = -h, e = expm1(hh), b_h = c->bh1 ? hh : e;
    update u = {.keep = t / s0, .toward = -(1.0 - t) * e};
    double r[MAX_ORDER], matrix[MAX_ORDER][MAX_ORDER], b[MAX_ORDER], rho[MAX_ORDER] = {0.5, 0, 0};
    int n = corrector ? order : order - 1;
    for (int k = 0; k + 1 < order; k++)
        r[k] = (lambda(points[k]) - lambda(s0)) / h;
    r[order - 1] = 1.0;
    double phi = e / hh - 1.0, factorial = 1.0;
    for (int k = 0; k < n; k++) {
        for (int j = 0; j < n; j++)
            matrix[k][j] = pow(r[j], k);
        b[k] = phi * factorial / b_h;
        factorial *= k + 2;
        phi = phi / hh - 1.0 / factorial;
    }
    /* With one point the reference takes one half, not the solution. */
    if (n > 1 && !solve(n, matrix, b, rho))
        return u;
    for (int k = 0; k < n; k++)
        u.weight[k] = -(1.0 - t) * b_h * rho[k] / r[k];
    return u;
}

/* seen[0] is m0; older ones follow.  newest is NULL for a predictor. */
static void apply_update(const rv__scheduler *s, const update *u, int order, float *const *seen, const float *newest,
                         const float *x, float *out)
{
    for (size_t k = 0; k < s->n; k++) {
        double m0 = seen[0][k], sum = u->keep * x[k] + u->toward * m0;
        for (int j = 0; j + 1 < order; j++)
            sum += u->weight[j] * (seen[j + 1][k] - m0);
        if (newest)
            sum += u->weight[order - 1] * (newest[k] - m0);
        out[k] = (float)sum;
    }
}

static void remember(rv__scheduler *s)
{
    float *oldest = s->seen[s->config.order];
    for (int k = s->config.order; k > 0; k--)
        s->seen[k] = s->seen[k - 1];
    s->seen[0] = oldest;
}

static int prediction_order(const rv__scheduler *s, int i)
{
    int order = s->config.order, left = s->steps - i;
    if (s->config.lower_order_final && order > left)
        order = left;
    if (left == 1)
        order = 1; /* the step to sigma 0 has no higher order */
    return order < s->known ? order : s->known;
}

static void step_unipc(rv__scheduler *s, int i, const float *v, float *x)
{
    double sigma = s->sigmas[i], next = s->sigmas[i + 1];
    remember(s); /* seen[0] is free now, seen[1] the newest picture known */
    for (size_t k = 0; k < s->n; k++)
        s->seen[0][k] = (float)(x[k] - sigma * v[k]);
    const double *older = s->sigmas + i; /* older[-1], older[-2] … are the sigmas of earlier calls */
    if (s->known > 0) {
        double points[MAX_ORDER] = {i >= 2 ? older[-2] : 0, i >= 3 ? older[-3] : 0};
        update u = make_update(&s->config, older[-1], sigma, s->last_order, points, true);
        apply_update(s, &u, s->last_order, s->seen + 1, s->seen[0], s->start, x);
    }
    s->known += s->known < s->config.order;
    memcpy(s->start, x, s->n * sizeof *x);
    int order = s->last_order = prediction_order(s, i);
    if (next == 0.0) {
        memcpy(x, s->seen[0], s->n * sizeof *x);
        return;
    }
    double points[MAX_ORDER] = {i >= 1 ? older[-1] : 0, i >= 2 ? older[-2] : 0};
    update u = make_update(&s->config, sigma, next, order, points, false);
    apply_update(s, &u, order, s->seen, NULL, s->start, x);
}

rv_status rv__scheduler_step(rv__scheduler *s, int i, const float *v, float *x, const float *noise, float *x0,
                             rv_error *err)
{
    if (i < 0 || i >= s->steps || (s->expected >= 0 && i != s->expected))
        return rv__fail(err, RV_MISUSE, "scheduler call %d is out of order", i);
    if (rv__scheduler_needs_noise(s) && !noise)
        return rv__fail(err, RV_MISUSE, "this scheduler needs noise at every step");
    s->expected = i + 1;
    float sigma = (float)s->sigmas[i];
    for (size_t k = 0; x0 && k < s->n; k++)
        x0[k] = x[k] - sigma * v[k];
    if (s->config.sampler == RV_SAMPLER_UNIPC)
        step_unipc(s, i, v, x);
    else if (rv__scheduler_needs_noise(s))
        step_renoise(s, i, v, x, noise);
    else
        step_euler(s, i, v, x);
    return RV_OK;
}
