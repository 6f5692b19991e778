/* The page of all scheduler names: what each means here and why.  Everything in it comes from the
 * table; must never tell of a scheduler that the table does not have. */
#include "scheduler_internal.h"

#include <string.h>

#include "base/memory.h"

static const struct {
    const char *title, *rule, *why;
} samplers[RV_SAMPLERS] = {
    [RV_SAMPLER_EULER] = {"Euler", "x' = x + (s' - s) v",
                          "the model's own field, one call per step. DDIM without extra noise is "
                          "the same step on a straight path, and so is EDM's Euler step: both keep "
                          "the noise they see and lower its share."},
    [RV_SAMPLER_LCM] = {"LCM", "x' = (1 - s') x0 + s' noise",
                        "the picture seen, covered with fresh noise; what Dev and Fast were "
                        "distilled for."},
    [RV_SAMPLER_UNIPC] = {"UniPC", "predictor and corrector of order n in log SNR",
                          "diffusers' UniPC (bh2, predicts x0) with flow sigmas; what Full is "
                          "published with."},
    [RV_SAMPLER_DPM] = {"DPM++ multistep", "exponential integrator of order n in log SNR",
                        "DPM-Solver++ (midpoint) with alpha = 1 - s. The SDE form of order 1 is "
                        "the posterior of x' given x and x0, which is what DDPM draws from; EDM's "
                        "solver is this one in other variables."},
    [RV_SAMPLER_DEIS] = {"DEIS", "order 2 in s / (1 - s)",
                         "diffusers' DEIS predicts the noise; its list of sigmas never reaches 0, "
                         "ours ends with the picture seen."},
    [RV_SAMPLER_EULER_ANCESTRAL] = {"Euler ancestral", "Euler below s', then noise up to s'",
                                    "the rectified-flow form: scale and noise are those that keep "
                                    "the level at s'."},
    [RV_SAMPLER_HEUN] = {"Heun", "x' = x + (s' - s) (v + v') / 2",
                         "the mean of the slopes at both ends, two calls per step."},
    [RV_SAMPLER_DPM2] = {"DPM2", "slope at the geometric mean of s and s'",
                         "k-diffusion's DPM-Solver-2, two calls per step."},
    [RV_SAMPLER_DPM2_ANCESTRAL] = {"DPM2 ancestral", "DPM2 below s', then noise up to s'",
                                   "the same with the noise of Euler ancestral."},
    [RV_SAMPLER_LMS] = {"LMS", "Adams-Bashforth of order 4 over the real sigmas",
                        "the slopes of four calls, integrated as one polynomial."},
    [RV_SAMPLER_IPNDM] = {"IPNDM", "Adams-Bashforth of order 4, weights of even steps",
                          "as LMS, with the fixed weights of its paper; starts with lower orders."},
    [RV_SAMPLER_PNDM] = {"PNDM", "as IPNDM, the first step made twice",
                         "the linear multistep part of PNDM, which is how it is used with picture "
                         "models (no Runge-Kutta start); its transfer step is DDIM's, on a flow "
                         "Euler's. One call more than steps."},
    [RV_SAMPLER_DPM_SINGLE] = {"DPM++ singlestep", "orders 1 and 2 in turn, in log SNR",
                               "DPM-Solver++(2S) in diffusers' order of steps; the last step, and "
                               "with an even number the last two, are of order 1."},
    [RV_SAMPLER_DPM_SDE] = {"DPM++ SDE", "reverse SDE, picture seen halfway in log SNR",
                            "two calls per step; the noise of the first half is part of the "
                            "noise of the whole, as along one path."},
    [RV_SAMPLER_TCD] = {"TCD", "Euler to 0.7 s', then noise up to s'",
                        "trajectory consistency with its eta of 0.3: (1 - eta) s' is where the "
                        "line is left, noise lifts it back."},
};

static const struct {
    const char *title, *rule;
} spacings[] = {
    [RV_SPACING_UNIFORM] = {"uniform", "even, then shifted: s = k u / (1 + (k - 1) u). Of "
                                       "Euler's family from 1 to the smallest (shifted twice), "
                                       "of UniPC and DPM++ as in diffusers"},
    [RV_SPACING_KARRAS] = {"Karras", "even in s^(1/7) between the first and last of uniform "
                                     "(UniPC: of the diffusion range 157 to 0.01, turned to flow "
                                     "sigmas, without shift, as in diffusers)"},
    [RV_SPACING_EXPONENTIAL] = {"exponential", "even in log s between the same"},
    [RV_SPACING_BETA] = {"beta", "quantiles of Beta(0.6, 0.6) between the same"},
    [RV_SPACING_EDM] = {"EDM", "noise over signal by Karras' rule from 80 to 0.002, turned to "
                               "flow sigmas and shifted; timesteps are not cut to whole numbers"},
    [RV_SPACING_SIGNAL] = {"signal", "UniPC up to diffusers 0.36: even in the signal, then "
                                     "shifted, which is what DPM++ has as uniform"},
};

static void row(rv__buf *b, const rv__scheduler_row *r)
{
    rv__scheduler_config c = rv__scheduler_row_config(r, &(rv__scheduler_config){0});
    if (!r->nearest && c.sampler == RV_SAMPLER_EULER && strcmp(r->name, "Default") == 0) {
        rv__buf_addf(b, "| `%s` | the model's own | | the model's own | |\n", r->name);
        return;
    }
    if (r->nearest) {
        rv__buf_addf(b,
                     "| `%s` | refused (`unsupportedScheduler`): it walks from a picture to the "
                     "noise that would make it, there is no picture at its end; nearest: `%s` | | "
                     "| |\n",
                     r->name, r->nearest);
        return;
    }
    rv__buf_addf(b, "| `%s` | %s%s | ", r->name, samplers[r->sampler].title, r->sde ? ", SDE" : "");
    if (r->order > 1 && r->sampler != RV_SAMPLER_DEIS && r->sampler != RV_SAMPLER_DPM_SINGLE)
        rv__buf_addf(b, "%d", r->order);
    rv__buf_addf(b, " | %s | %s |\n", spacings[r->spacing].title,
                 rv__scheduler_draws_noise(&c) ? "yes" : "");
}

char *rv__scheduler_page(void)
{
    rv__buf b;
    rv__buf_init(&b, 1 << 20);
    rv__buf_adds(&b, "# Schedulers\n\n"
                     "Generated by `reverie schema --schedulers`; a test compares it with the "
                     "table, and another\ncompares every name's way through a small field with "
                     "`tests/golden/scheduler_names.py`.\n\n"
                     "s is the share of noise (1 to 0), x = (1 - s) x0 + s noise, v = noise - x0 "
                     "what the model says,\nk the model's shift. A name is a sampler with a "
                     "spacing of the sigmas.\n\n"
                     "| sampler | step | why this |\n|---|---|---|\n");
    for (int i = 0; i < RV_SAMPLERS; i++)
        rv__buf_addf(&b, "| %s | %s | %s |\n", samplers[i].title, samplers[i].rule,
                     samplers[i].why);
    rv__buf_adds(&b, "\n| spacing | sigmas |\n|---|---|\n");
    for (size_t i = 0; i < sizeof spacings / sizeof *spacings; i++)
        rv__buf_addf(&b, "| %s | %s |\n", spacings[i].title, spacings[i].rule);
    rv__buf_adds(&b,
                 "\n| name | sampler | order | sigmas | fresh noise |\n|---|---|---|---|---|\n");
    for (const rv__scheduler_row *r = rv__scheduler_rows; r->name; r++)
        row(&b, r);
    return rv__buf_take(&b, NULL);
}
