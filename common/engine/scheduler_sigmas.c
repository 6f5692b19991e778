/* Noise levels and timesteps, as diffusers 0.37 and later lay them out.  Plain arithmetic in
 * double, rounded to float at the end.  Must never be handed an unchecked configuration. */
#include "scheduler_internal.h"

#include <math.h>

/* The shift of flow matching: larger k spends more steps at high noise. */
static double shifted(double sigma, double k)
{
    return k * sigma / (1.0 + (k - 1.0) * sigma);
}

/* Point i of n evenly spaced ones from a to b, both included; the only one is a. */
static double even(double a, double b, int i, int n)
{
    return n > 1 ? a + (b - a) * i / (n - 1) : a;
}

/* Continued fraction of the incomplete beta function for a = b (Lentz's method; Abramowitz and
 * Stegun 26.5.8). */
static double beta_fraction(double x, double a)
{
    double c = 1.0, d = 1.0 - 2.0 * a * x / (a + 1.0);
    d = 1.0 / (fabs(d) < 1e-300 ? 1e-300 : d);
    double h = d;
    for (int m = 1; m <= 300; m++) {
        double even_term = m * (a - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        double odd_term = -(a + m) * (2.0 * a + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / (1.0 + even_term * d);
        c = 1.0 + even_term / c;
        h *= d * c;
        d = 1.0 / (1.0 + odd_term * d);
        c = 1.0 + odd_term / c;
        h *= d * c;
        if (fabs(d * c - 1.0) < 1e-15)
            break;
    }
    return h;
}

/* Distribution function of Beta(a, a). */
static double beta_cdf(double x, double a)
{
    if (x <= 0.0 || x >= 1.0)
        return x <= 0.0 ? 0.0 : 1.0;
    double front = exp(lgamma(2.0 * a) - 2.0 * lgamma(a) + a * log(x) + a * log1p(-x));
    return x < 0.5 ? front * beta_fraction(x, a) / a : 1.0 - front * beta_fraction(1.0 - x, a) / a;
}

/* Its inverse, by halving: fast enough for some hundred values once per picture. */
static double beta_quantile(double p, double a)
{
    double low = 0.0, high = 1.0;
    for (int i = 0; i < 60; i++) {
        double mid = 0.5 * (low + high);
        if (beta_cdf(mid, a) < p)
            low = mid;
        else
            high = mid;
    }
    return 0.5 * (low + high);
}

#define KARRAS_RHO 7.0 /* Karras et al. 2022 */
#define BETA_SHAPE 0.6 /* "Beta sampling is all you need", as diffusers sets it */

/* Point i of n between the first and the last sigma, by the rule of a spacing. */
static double respaced(rv__spacing spacing, double first, double last, int i, int n)
{
    if (spacing == RV_SPACING_KARRAS)
        return pow(even(pow(first, 1.0 / KARRAS_RHO), pow(last, 1.0 / KARRAS_RHO), i, n),
                   KARRAS_RHO);
    if (spacing == RV_SPACING_EXPONENTIAL)
        return exp(even(log(first), log(last), i, n));
    return last + beta_quantile(1.0 - even(0.0, 1.0, i, n), BETA_SHAPE) * (first - last);
}

static bool is_respaced(rv__spacing spacing)
{
    return spacing != RV_SPACING_UNIFORM && spacing != RV_SPACING_EDM &&
           spacing != RV_SPACING_SIGNAL;
}

static void respace(const rv__scheduler_config *c, int steps, double *sigmas)
{
    if (!is_respaced(c->spacing))
        return;
    double first = sigmas[0], last = sigmas[steps - 1];
    for (int i = 0; i < steps; i++)
        sigmas[i] = respaced(c->spacing, first, last, i, steps);
}

/* Euler and LCM.  The smallest sigma is shifted twice: once in the table it is read from, once
 * here. */
static void flow_match_sigmas(const rv__scheduler_config *c, int steps, double *sigmas)
{
    double smallest = shifted(1.0 / c->train_timesteps, c->shift);
    for (int i = 0; i < steps; i++)
        sigmas[i] = shifted(even(1.0, smallest, i, steps), c->shift);
    double left = 1.0 - sigmas[steps - 1];
    if (c->shift_terminal > 0.0 && left > 0.0) {
        for (int i = 0; i < steps; i++)
            sigmas[i] = 1.0 - (1.0 - sigmas[i]) * (1.0 - c->shift_terminal) / left;
    }
    respace(c, steps, sigmas);
}

/* Sigma (noise over signal) of the linear beta schedule after `step` of n training steps; betas
 * 0.0001 to 0.02. In float, because the reference is: near the first step 1 - alpha has few digits
 * left, and they show. */
static double diffusion_sigma(int step, int n)
{
    float alpha = 1.0f;
    for (int i = 0; i < step; i++)
        alpha *= 1.0f - (float)even(0.0001, 0.02, i, n);
    return sqrtf((1.0f - alpha) / alpha);
}

/* DPM-Solver and DEIS: even in the signal, not in the noise. */
static void dpm_sigmas(const rv__scheduler_config *c, int steps, double *sigmas)
{
    for (int i = 0; i < steps; i++)
        sigmas[i] =
            shifted(1.0 - even(1.0, 1.0 / c->train_timesteps, steps - i, steps + 1), c->shift);
    respace(c, steps, sigmas);
}

/* UniPC.  With Karras spacing diffusers spaces the sigmas of the diffusion schedule, converts them
 * and ignores the shift; its exponential and beta forms do not run on flow sigmas, so these use the
 * rule of Euler. */
static void unipc_sigmas(const rv__scheduler_config *c, int steps, double *sigmas)
{
    int n = c->train_timesteps;
    if (c->spacing == RV_SPACING_KARRAS) {
        double first = diffusion_sigma(n, n), last = diffusion_sigma(1, n);
        for (int i = 0; i < steps; i++) {
            double sigma = respaced(c->spacing, first, last, i, steps);
            sigmas[i] = sigma / (1.0 + sigma);
        }
        return;
    }
    if (c->spacing == RV_SPACING_SIGNAL) {
        dpm_sigmas(c, steps, sigmas);
        return;
    }
    for (int i = 0; i < steps; i++)
        sigmas[i] = shifted(even(1.0, 1.0 / n, i, steps + 1), c->shift);
    respace(c, steps, sigmas);
}

#define EDM_FIRST 80.0 /* noise over signal; Karras et al. 2022, table 1 */
#define EDM_LAST  0.002

/* A flow's shift is a factor of noise over signal, so that here, too, shifted() applies it. */
static void edm_sigmas(const rv__scheduler_config *c, int steps, double *sigmas)
{
    for (int i = 0; i < steps; i++) {
        double ratio = respaced(RV_SPACING_KARRAS, EDM_FIRST, EDM_LAST, i, steps);
        sigmas[i] = shifted(ratio / (1.0 + ratio), c->shift);
    }
}

/* Samplers that work with log((1 - sigma) / sigma); theirs are also the timesteps that are cut to
 * whole numbers, but for those of EDM, which knows no numbered steps. */
static bool is_logarithmic(rv__sampler sampler)
{
    return sampler == RV_SAMPLER_UNIPC || sampler == RV_SAMPLER_DPM || sampler == RV_SAMPLER_DEIS ||
           sampler == RV_SAMPLER_DPM_SINGLE || sampler == RV_SAMPLER_DPM_SDE;
}

void rv__scheduler_sigmas(const rv__scheduler_config *c, int steps, double *levels,
                          double *timesteps)
{
    bool logarithmic = is_logarithmic(c->sampler);
    if (c->spacing == RV_SPACING_EDM)
        edm_sigmas(c, steps, levels);
    else if (c->sampler == RV_SAMPLER_UNIPC)
        unipc_sigmas(c, steps, levels);
    else if (logarithmic)
        dpm_sigmas(c, steps, levels);
    else
        flow_match_sigmas(c, steps, levels);
    for (int i = 0; i < steps; i++) {
        if (logarithmic && levels[i] > 1.0 - 1e-6)
            levels[i] = 1.0 - 1e-6; /* the logarithm must stay finite */
        timesteps[i] = trunc(levels[i] * c->train_timesteps);
        levels[i] = (float)levels[i];
        if (!logarithmic || c->spacing == RV_SPACING_EDM)
            timesteps[i] = (float)levels[i] * (float)c->train_timesteps;
    }
    levels[steps] = 0.0;
}
