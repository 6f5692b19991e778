/* UniPC (Zhao et al. 2023): a multistep predictor and a corrector that costs no network call; data
 * prediction, on flow sigmas (alpha = 1 - sigma).  Must start from nothing: the first calls of a
 * run have a lower order. */
#include "scheduler_internal.h"

#include <math.h>
#include <string.h>

#define MAX_ORDER 3

/* Solves the n by n system a * x = b (n at most 3) by elimination with pivots; false when it is
 * singular. */
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

/* The numbers of one update from sigma s0 to sigma t: x' = keep * x + toward * m0 + sum weight[k] *
 * (m_k - m0), where m_1, m_2 are older pictures and, for the corrector, the last weight belongs to
 * the newest one. */
typedef struct update {
    double keep, toward;
    double weight[MAX_ORDER];
} update;

/* points[0 .. order - 2] are the sigmas of the older pictures.  A corrector of order p fits p
 * points, a predictor p - 1.  A wrong grid (two equal sigmas) falls back to order 1. */
static update make_update(const rv__scheduler_config *c, double s0, double t, int order,
                          const double *points, bool corrector)
{
    double h = rv__half_log_snr(t) - rv__half_log_snr(s0), hh = -h, e = expm1(hh),
           b_h = c->bh1 ? hh : e;
    update u = {.keep = t / s0, .toward = -(1.0 - t) * e};
    if (h == 0.0) /* two sigmas that float cannot tell apart: nothing to do */
        return u;
    double r[MAX_ORDER], matrix[MAX_ORDER][MAX_ORDER], b[MAX_ORDER], rho[MAX_ORDER] = {0.5, 0, 0};
    int n = corrector ? order : order - 1;
    for (int k = 0; k + 1 < order; k++)
        r[k] = (rv__half_log_snr(points[k]) - rv__half_log_snr(s0)) / h;
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
static void apply_update(const rv__scheduler *s, const update *u, int order, float *const *seen,
                         const float *newest, const float *x, float *out)
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

static int prediction_order(const rv__scheduler *s, int i)
{
    int order = s->config.order, left = s->steps - i;
    if (s->config.lower_order_final && order > left)
        order = left;
    if (left == 1)
        order = 1; /* the step to sigma 0 has no higher order */
    return order < s->known ? order : s->known;
}

void rv__scheduler_unipc(rv__scheduler *s, int i, const float *v, float *x)
{
    double sigma = s->sigmas[i], next = s->sigmas[i + 1];
    rv__scheduler_push(s); /* seen[0] is free now, seen[1] the newest picture known */
    for (size_t k = 0; k < s->n; k++)
        s->seen[0][k] = (float)(x[k] - sigma * v[k]);
    const double *older =
        s->sigmas + i; /* older[-1], older[-2] … are the sigmas of earlier calls */
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
