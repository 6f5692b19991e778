/* Solvers of the flow's differential equation with memory: DPM-Solver++, DEIS and linear multistep
 * methods.  Formulas as in diffusers and k-diffusion, in flow
 * form (alpha = 1 - sigma); where those do not reach sigma 0, the last step goes to the picture
 * seen.  Must never divide by a step of length 0. */
#include "scheduler_internal.h"

#include <math.h>
#include <string.h>

static void remember_picture(rv__scheduler *s, double sigma, const float *v, const float *x)
{
    rv__scheduler_push(s);
    for (size_t k = 0; k < s->n; k++)
        s->seen[0][k] = (float)(x[k] - sigma * v[k]);
}

/* x' = keep * x + sum weights[k] * seen[k] + fresh * noise. */
static void combine(const rv__scheduler *s, double keep, const double *weights, int n, double fresh,
                    const float *noise, float *x)
{
    for (size_t k = 0; k < s->n; k++) {
        double sum = keep * x[k];
        for (int j = 0; j < n; j++)
            sum += weights[j] * s->seen[j][k];
        x[k] = (float)(noise ? sum + fresh * noise[k] : sum);
    }
}

/* ---- DPM-Solver++ multistep (Lu et al. 2022), data prediction, midpoint ---- */

static int dpm_order(const rv__scheduler *s, int i)
{
    int order = s->config.order, left = s->steps - i;
    if (left == 2 && order > 2 && s->config.lower_order_final && s->steps < 15)
        order = 2;
    return order < s->known ? order : s->known;
}

void rv__scheduler_dpm(rv__scheduler *s, int i, const float *v, float *x, const float *noise)
{
    double sigma = s->sigmas[i], next = s->sigmas[i + 1], alpha = 1.0 - next;
    remember_picture(s, sigma, v, x);
    s->known += s->known < s->config.order;
    if (next == 0.0) {
        memcpy(x, s->seen[0], s->n * sizeof *x);
        return;
    }
    double now = rv__half_log_snr(sigma), h = rv__half_log_snr(next) - now;
    if (h <= 0.0)
        return;
    bool sde = s->config.stochastic;
    double toward = -alpha * expm1(sde ? -2.0 * h : -h); /* weight of the picture seen */
    double w[3] = {toward, 0, 0};
    int order = dpm_order(s, i);
    double h0 = order > 1 ? now - rv__half_log_snr(s->sigmas[i - 1]) : 0.0;
    double h1 =
        order > 2 ? rv__half_log_snr(s->sigmas[i - 1]) - rv__half_log_snr(s->sigmas[i - 2]) : 0.0;
    if (order > 2 && h0 > 0.0 && h1 > 0.0) {
        double r0 = h0 / h, r1 = h1 / h, span = sde ? 2.0 * h : h, e = expm1(-span);
        double first = alpha * (e / span + 1.0),
               second = -alpha * ((e + span) / (span * span) - 0.5);
        /* D1 and D2 as sums of a = (m0 - m1) / r0 and b = (m1 - m2) / r1. */
        double a = first * (1.0 + r0 / (r0 + r1)) + second / (r0 + r1);
        double b = -first * r0 / (r0 + r1) - second / (r0 + r1);
        w[0] += a / r0;
        w[1] = b / r1 - a / r0;
        w[2] = -b / r1;
    } else if (order > 1 && h0 > 0.0) {
        double half = 0.5 * toward * h / h0;
        w[0] += half;
        w[1] = -half;
    }
    double keep = next / sigma * (sde ? exp(-h) : 1.0),
           fresh = sde ? next * sqrt(-expm1(-2.0 * h)) : 0.0;
    combine(s, keep, w, order, fresh, sde ? noise : NULL, x);
}

/* The same as singlestep: every second step, but for the last, starts again where the one before
 * began and goes by what both saw. */
void rv__scheduler_dpm_single(rv__scheduler *s, int i, const float *v, float *x)
{
    double sigma = s->sigmas[i], next = s->sigmas[i + 1], alpha = 1.0 - next;
    bool second = i % 2 == 1 && s->known && i + 1 < s->steps;
    remember_picture(s, sigma, v, x);
    s->known = 1;
    if (next == 0.0) {
        memcpy(x, s->seen[0], s->n * sizeof *x);
        return;
    }
    double now = rv__half_log_snr(sigma), from = sigma, h = rv__half_log_snr(next) - now, h0 = 0.0;
    if (second) {
        from = s->sigmas[i - 1];
        h0 = now - rv__half_log_snr(from);
        h += h0;
        memcpy(x, s->start, s->n * sizeof *x);
    } else {
        memcpy(s->start, x, s->n * sizeof *x);
    }
    if (h <= 0.0)
        return;
    double toward = -alpha * expm1(-h), newest = h0 > 0.0 ? 0.5 * toward * h / h0 : 0.0;
    double w[2] = {newest, toward - newest};
    if (!second || h0 <= 0.0) {
        w[0] = toward;
        w[1] = 0.0;
    }
    combine(s, next / from, w, second ? 2 : 1, 0.0, NULL, x);
}

/* ---- DEIS (Zhang and Chen 2022), noise prediction, order 2 in rho = sigma / alpha ---- */

/* Antiderivative over rho, at t, of the line in log(rho) that is 1 at b and 0 at c. */
static double deis_integral(double t, double b, double c)
{
    return t * (log(t) - log(c) - 1.0) / (log(b) - log(c));
}

void rv__scheduler_deis(rv__scheduler *s, int i, const float *v, float *x)
{
    double sigma = s->sigmas[i], next = s->sigmas[i + 1], alpha = 1.0 - sigma, to = 1.0 - next;
    if (next == 0.0) {
        for (size_t k = 0; k < s->n; k++)
            x[k] = (float)(x[k] - sigma * v[k]);
        return;
    }
    rv__scheduler_push(s);
    for (size_t k = 0; k < s->n; k++)
        s->seen[0][k] = (float)(x[k] + alpha * v[k]);
    s->known += s->known < 2;
    double rho = sigma / alpha, target = next / to;
    double before = s->known > 1 ? s->sigmas[i - 1] / (1.0 - s->sigmas[i - 1]) : rho;
    double w[2] = {to * (target - rho), 0};
    if (before > rho) {
        w[0] = to * (deis_integral(target, rho, before) - deis_integral(rho, rho, before));
        w[1] = to * (deis_integral(target, before, rho) - deis_integral(rho, before, rho));
    }
    combine(s, to / alpha, w, s->known, 0.0, NULL, x);
}

/* ---- linear multistep: seen are directions ---- */

/* Integral over [from, to] of the polynomial that is 1 at at[j] and 0 at the other n - 1 points:
 * Simpson's rule, exact up to the third degree, which is all there is. */
static double lagrange_integral(const double *at, int n, int j, double from, double to)
{
    double x[3] = {from, 0.5 * (from + to), to}, y[3];
    for (int p = 0; p < 3; p++) {
        y[p] = 1.0;
        for (int k = 0; k < n; k++) {
            if (k != j)
                y[p] *= (x[p] - at[k]) / (at[j] - at[k]);
        }
    }
    return (to - from) * (y[0] + 4.0 * y[1] + y[2]) / 6.0;
}

void rv__scheduler_adams(rv__scheduler *s, int i, const float *v, float *x)
{
    static const double even[4][4] = {{1, 0, 0, 0},
                                      {3.0 / 2, -1.0 / 2, 0, 0},
                                      {23.0 / 12, -16.0 / 12, 5.0 / 12, 0},
                                      {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24}};
    /* PNDM's second call made no step of its own. */
    const double *level = s->levels + (s->calls > s->steps && i > 1 ? i - 1 : i);
    double from = level[0], to = level[1], at[4], w[4];
    rv__scheduler_push(s);
    memcpy(s->seen[0], v, s->n * sizeof *v);
    s->known += s->known < 4;
    int n = to == 0.0
                ? 1
                : s->known; /* the last step may be much longer: no polynomial reaches that far */
    for (int k = 0; k < n; k++) {
        at[k] = level[-k];
        if (k > 0 && !(at[k] > at[k - 1]))
            n = k; /* older sigmas that float cannot tell apart say nothing */
    }
    for (int k = 0; k < n; k++)
        w[k] = s->config.sampler != RV_SAMPLER_LMS ? even[n - 1][k] * (to - from)
                                                  : lagrange_integral(at, n, k, from, to);
    combine(s, 1.0, w, n, 0.0, NULL, x);
}

/* PNDM (Liu et al. 2022) as it is used with pictures, without the Runge-Kutta start: the first step
 * is made twice, the second time by the mean of the slopes at its ends; then as IPNDM. */
void rv__scheduler_pndm(rv__scheduler *s, int i, const float *v, float *x)
{
    if (i == 1 && s->known) {
        double half = 0.5 * (s->sigmas[1] - s->sigmas[0]);
        for (size_t k = 0; k < s->n; k++)
            x[k] = (float)(s->start[k] + half * ((double)s->seen[0][k] + v[k]));
        return;
    }
    if (i == 0)
        memcpy(s->start, x, s->n * sizeof *x);
    rv__scheduler_adams(s, i, v, x);
}
