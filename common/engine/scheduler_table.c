/* The scheduler names of requests.  The list is the protocol's and complete; what makes no picture
 * from noise names the nearest thing that does.  Must never run one scheduler under the name of
 * another. */
#include "scheduler_internal.h"

#include <string.h>
#include <strings.h>

const rv__scheduler_row rv__scheduler_rows[] = {
    {"DDIM", RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1},
    {"DDIMScheduler", RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1},
    {"DDPMScheduler", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 1, .sde = true},
    {"DEISMultistepScheduler", RV_SAMPLER_DEIS, RV_SPACING_UNIFORM, 2},
    {"Default", RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1},
    {"DPM++", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2},
    {"DPM++ 2M", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2},
    {"DPM++ 2M Beta", RV_SAMPLER_DPM, RV_SPACING_BETA, 2},
    {"DPM++ 2M Exponential", RV_SAMPLER_DPM, RV_SPACING_EXPONENTIAL, 2},
    {"DPM++ 2M Karras", RV_SAMPLER_DPM, RV_SPACING_KARRAS, 2},
    {"DPM++ 2M SDE", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2, .sde = true},
    {"DPM++ 2M SDE Beta", RV_SAMPLER_DPM, RV_SPACING_BETA, 2, .sde = true},
    {"DPM++ 2M SDE Exponential", RV_SAMPLER_DPM, RV_SPACING_EXPONENTIAL, 2, .sde = true},
    {"DPM++ 2M SDE Karras", RV_SAMPLER_DPM, RV_SPACING_KARRAS, 2, .sde = true},
    {"DPM++ 2M SDE Uniform", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2, .sde = true},
    {"DPM++ 2M Uniform", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2},
    {"DPM++ 3M", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 3},
    {"DPM++ 3M Beta", RV_SAMPLER_DPM, RV_SPACING_BETA, 3},
    {"DPM++ 3M Exponential", RV_SAMPLER_DPM, RV_SPACING_EXPONENTIAL, 3},
    {"DPM++ 3M Karras", RV_SAMPLER_DPM, RV_SPACING_KARRAS, 3},
    {"DPM++ 3M SDE Uniform", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 3, .sde = true},
    {"DPM++ 3M Uniform", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 3},
    {"DPM++ Beta", RV_SAMPLER_DPM, RV_SPACING_BETA, 2},
    {"DPM++ Exponential", RV_SAMPLER_DPM, RV_SPACING_EXPONENTIAL, 2},
    {"DPM++ Karras", RV_SAMPLER_DPM, RV_SPACING_KARRAS, 2},
    {"DPM++ SDE", RV_SAMPLER_DPM_SDE, RV_SPACING_UNIFORM, 1},
    {"DPM++ SDE Beta", RV_SAMPLER_DPM_SDE, RV_SPACING_BETA, 1},
    {"DPM++ SDE Exponential", RV_SAMPLER_DPM_SDE, RV_SPACING_EXPONENTIAL, 1},
    {"DPM++ SDE Karras", RV_SAMPLER_DPM_SDE, RV_SPACING_KARRAS, 1},
    {"DPM++ Uniform", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2},
    {"DPM++ Uniform Beta", RV_SAMPLER_DPM, RV_SPACING_BETA, 2},
    {"DPM++ Uniform Exponential", RV_SAMPLER_DPM, RV_SPACING_EXPONENTIAL, 2},
    {"DPM++ Uniform Karras", RV_SAMPLER_DPM, RV_SPACING_KARRAS, 2},
    {.name = "DPMSolverMultistepInverse", .nearest = "DPM++ 2M"},
    {"DPMSolverMultistepScheduler", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2},
    {"DPMSolverSinglestepScheduler", RV_SAMPLER_DPM_SINGLE, RV_SPACING_UNIFORM, 2},
    {"EDMDPMSolverMultistepScheduler", RV_SAMPLER_DPM, RV_SPACING_EDM, 2},
    {"EDMEulerScheduler", RV_SAMPLER_EULER, RV_SPACING_EDM, 1},
    {"Euler", RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1},
    {"Euler a", RV_SAMPLER_EULER_ANCESTRAL, RV_SPACING_UNIFORM, 1},
    {"Euler Beta", RV_SAMPLER_EULER, RV_SPACING_BETA, 1},
    {"Euler DiscreteScheduler", RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1},
    {"Euler Exponential", RV_SAMPLER_EULER, RV_SPACING_EXPONENTIAL, 1},
    {"Euler Karras", RV_SAMPLER_EULER, RV_SPACING_KARRAS, 1},
    {"EulerAncestralDiscreteScheduler", RV_SAMPLER_EULER_ANCESTRAL, RV_SPACING_UNIFORM, 1},
    {"FlowMatchEulerDiscreteScheduler", RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1},
    {"Heun", RV_SAMPLER_HEUN, RV_SPACING_UNIFORM, 1},
    {"HeunDiscreteScheduler", RV_SAMPLER_HEUN, RV_SPACING_UNIFORM, 1},
    {"Heun Karras", RV_SAMPLER_HEUN, RV_SPACING_KARRAS, 1},
    {"IPNDMScheduler", RV_SAMPLER_IPNDM, RV_SPACING_UNIFORM, 1},
    {"IPNDM Uniform", RV_SAMPLER_IPNDM, RV_SPACING_UNIFORM, 1},
    {"IPNDM Uniform Beta", RV_SAMPLER_IPNDM, RV_SPACING_BETA, 1},
    {"IPNDM Uniform Exponential", RV_SAMPLER_IPNDM, RV_SPACING_EXPONENTIAL, 1},
    {"IPNDM Uniform Karras", RV_SAMPLER_IPNDM, RV_SPACING_KARRAS, 1},
    {"KDPM2AncestralDiscreteScheduler", RV_SAMPLER_DPM2_ANCESTRAL, RV_SPACING_UNIFORM, 1},
    {"KDPM2DiscreteScheduler", RV_SAMPLER_DPM2, RV_SPACING_UNIFORM, 1},
    {"LCM", RV_SAMPLER_LCM, RV_SPACING_UNIFORM, 1},
    {"LCMScheduler", RV_SAMPLER_LCM, RV_SPACING_UNIFORM, 1},
    {"LMS", RV_SAMPLER_LMS, RV_SPACING_UNIFORM, 1},
    {"LMSDiscreteScheduler", RV_SAMPLER_LMS, RV_SPACING_UNIFORM, 1},
    {"LMS Karras", RV_SAMPLER_LMS, RV_SPACING_KARRAS, 1},
    {"PNDMScheduler", RV_SAMPLER_PNDM, RV_SPACING_UNIFORM, 1},
    {"TCDScheduler", RV_SAMPLER_TCD, RV_SPACING_UNIFORM, 1},
    {"UniPC", RV_SAMPLER_UNIPC, RV_SPACING_UNIFORM, 2},
    {"UniPC 2M", RV_SAMPLER_UNIPC, RV_SPACING_UNIFORM, 2},
    {"UniPC 2M Karras", RV_SAMPLER_UNIPC, RV_SPACING_KARRAS, 2},
    {"UniPC 2M Uniform", RV_SAMPLER_UNIPC, RV_SPACING_SIGNAL, 2},
    {"UniPC 3M", RV_SAMPLER_UNIPC, RV_SPACING_UNIFORM, 3},
    {"UniPC 3M Karras", RV_SAMPLER_UNIPC, RV_SPACING_KARRAS, 3},
    {"UniPC 3M Uniform", RV_SAMPLER_UNIPC, RV_SPACING_SIGNAL, 3},
    {"UniPC Karras", RV_SAMPLER_UNIPC, RV_SPACING_KARRAS, 2},
    {"UniPC Uniform", RV_SAMPLER_UNIPC, RV_SPACING_SIGNAL, 2},
    {"UniPC Uniform Beta", RV_SAMPLER_UNIPC, RV_SPACING_BETA, 2},
    {"UniPC Uniform Exponential", RV_SAMPLER_UNIPC, RV_SPACING_EXPONENTIAL, 2},
    {"UniPC Uniform Karras", RV_SAMPLER_UNIPC, RV_SPACING_KARRAS, 2},
    {0},
};

static const rv__scheduler_row *find(const char *name)
{
    for (const rv__scheduler_row *r = rv__scheduler_rows; r->name; r++) {
        if (strcasecmp(r->name, name) == 0)
            return r;
    }
    return NULL;
}

static bool is_default(const char *name)
{
    return !name || !*name || strcasecmp(name, "Default") == 0;
}

rv__scheduler_config rv__scheduler_row_config(const rv__scheduler_row *r,
                                              const rv__scheduler_config *model)
{
    return (rv__scheduler_config){.sampler = r->sampler,
                                  .spacing = r->spacing,
                                  .shift = model->shift,
                                  .train_timesteps = model->train_timesteps,
                                  .order = r->order,
                                  .lower_order_final = true,
                                  .stochastic = r->sde};
}

const char *rv__scheduler_canonical(const char *name, bool *stochastic, bool *works)
{
    const rv__scheduler_row *r = find(is_default(name) ? "Default" : name);
    if (r && stochastic) {
        rv__scheduler_config c = rv__scheduler_row_config(r, &(rv__scheduler_config){0});
        *stochastic = rv__scheduler_draws_noise(&c);
    }
    if (r && works)
        *works = r->nearest == NULL;
    return r ? r->name : NULL;
}

rv_status rv__scheduler_config_named(const char *name, const rv__scheduler_config *model,
                                     rv__scheduler_config *out, rv_error *err)
{
    *out = *model;
    if (is_default(name))
        return RV_OK;
    const rv__scheduler_row *r = find(name);
    if (!r)
        return rv__fail_code(err, RV_VALIDATION, "invalidScheduler", "scheduler",
                             "there is no scheduler \"%.100s\"", name);
    if (r->nearest)
        return rv__fail_code(err, RV_UNSUPPORTED, "unsupportedScheduler", "scheduler",
                             "scheduler \"%s\" goes from a picture to noise and makes none, the "
                             "nearest that does is \"%s\"",
                             r->name, r->nearest);
    *out = rv__scheduler_row_config(r, model);
    return RV_OK;
}
