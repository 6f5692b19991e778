/* The scheduler names of requests.  The list is the protocol's and complete; what we cannot run yet
 * names the nearest thing that we can.  Must never run one scheduler under the name of another. */
#include "scheduler.h"

#include <string.h>
#include <strings.h>

typedef struct row {
    const char *name;
    const char *nearest; /* NULL: works */
    rv__sampler sampler;
    rv__spacing spacing;
    int order;
    bool stochastic; /* draws noise while it runs */
} row;

/* On a flow from noise to picture DDIM without extra noise is Euler's method. */
static const row rows[] = {
    {"DDIM", NULL, RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1, false},
    {"DDIMScheduler", NULL, RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1, false},
    {"DDPMScheduler", "Euler a", RV_SAMPLER_EULER_ANCESTRAL, RV_SPACING_UNIFORM, 1, true},
    {"DEISMultistepScheduler", NULL, RV_SAMPLER_DEIS, RV_SPACING_UNIFORM, 1, false},
    {"Default", NULL, RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1, false},
    {"DPM++", NULL, RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2, false},
    {"DPM++ 2M", NULL, RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2, false},
    {"DPM++ 2M Beta", NULL, RV_SAMPLER_DPM, RV_SPACING_BETA, 2, false},
    {"DPM++ 2M Exponential", NULL, RV_SAMPLER_DPM, RV_SPACING_EXPONENTIAL, 2, false},
    {"DPM++ 2M Karras", NULL, RV_SAMPLER_DPM, RV_SPACING_KARRAS, 2, false},
    {"DPM++ 2M SDE", NULL, RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2, true},
    {"DPM++ 2M SDE Beta", NULL, RV_SAMPLER_DPM, RV_SPACING_BETA, 2, true},
    {"DPM++ 2M SDE Exponential", NULL, RV_SAMPLER_DPM, RV_SPACING_EXPONENTIAL, 2, true},
    {"DPM++ 2M SDE Karras", NULL, RV_SAMPLER_DPM, RV_SPACING_KARRAS, 2, true},
    {"DPM++ 2M SDE Uniform", NULL, RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2, true},
    {"DPM++ 2M Uniform", NULL, RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2, false},
    {"DPM++ 3M", NULL, RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 3, false},
    {"DPM++ 3M Beta", NULL, RV_SAMPLER_DPM, RV_SPACING_BETA, 3, false},
    {"DPM++ 3M Exponential", NULL, RV_SAMPLER_DPM, RV_SPACING_EXPONENTIAL, 3, false},
    {"DPM++ 3M Karras", NULL, RV_SAMPLER_DPM, RV_SPACING_KARRAS, 3, false},
    {"DPM++ 3M SDE Uniform", "DPM++ 2M SDE Uniform", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 1, true},
    {"DPM++ 3M Uniform", NULL, RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 3, false},
    {"DPM++ Beta", NULL, RV_SAMPLER_DPM, RV_SPACING_BETA, 2, false},
    {"DPM++ Exponential", NULL, RV_SAMPLER_DPM, RV_SPACING_EXPONENTIAL, 2, false},
    {"DPM++ Karras", NULL, RV_SAMPLER_DPM, RV_SPACING_KARRAS, 2, false},
    {"DPM++ SDE", "DPM++ 2M SDE", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 1, true},
    {"DPM++ SDE Beta", "DPM++ 2M SDE Beta", RV_SAMPLER_DPM, RV_SPACING_BETA, 1, true},
    {"DPM++ SDE Exponential", "DPM++ 2M SDE Exponential", RV_SAMPLER_DPM, RV_SPACING_EXPONENTIAL, 1,
     true},
    {"DPM++ SDE Karras", "DPM++ 2M SDE Karras", RV_SAMPLER_DPM, RV_SPACING_KARRAS, 1, true},
    {"DPM++ Uniform", NULL, RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2, false},
    {"DPM++ Uniform Beta", NULL, RV_SAMPLER_DPM, RV_SPACING_BETA, 2, false},
    {"DPM++ Uniform Exponential", NULL, RV_SAMPLER_DPM, RV_SPACING_EXPONENTIAL, 2, false},
    {"DPM++ Uniform Karras", NULL, RV_SAMPLER_DPM, RV_SPACING_KARRAS, 2, false},
    {"DPMSolverMultistepInverse", "DPM++ 2M", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 1, false},
    {"DPMSolverMultistepScheduler", NULL, RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 2, false},
    {"DPMSolverSinglestepScheduler", "DPM++ 2M", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 1, false},
    {"EDMDPMSolverMultistepScheduler", "DPM++ 2M Karras", RV_SAMPLER_DPM, RV_SPACING_UNIFORM, 1,
     false},
    {"EDMEulerScheduler", "Euler Karras", RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1, false},
    {"Euler", NULL, RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1, false},
    {"Euler a", NULL, RV_SAMPLER_EULER_ANCESTRAL, RV_SPACING_UNIFORM, 1, true},
    {"Euler Beta", NULL, RV_SAMPLER_EULER, RV_SPACING_BETA, 1, false},
    {"Euler DiscreteScheduler", NULL, RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1, false},
    {"Euler Exponential", NULL, RV_SAMPLER_EULER, RV_SPACING_EXPONENTIAL, 1, false},
    {"Euler Karras", NULL, RV_SAMPLER_EULER, RV_SPACING_KARRAS, 1, false},
    {"EulerAncestralDiscreteScheduler", NULL, RV_SAMPLER_EULER_ANCESTRAL, RV_SPACING_UNIFORM, 1,
     true},
    {"FlowMatchEulerDiscreteScheduler", NULL, RV_SAMPLER_EULER, RV_SPACING_UNIFORM, 1, false},
    {"Heun", NULL, RV_SAMPLER_HEUN, RV_SPACING_UNIFORM, 1, false},
    {"HeunDiscreteScheduler", NULL, RV_SAMPLER_HEUN, RV_SPACING_UNIFORM, 1, false},
    {"Heun Karras", NULL, RV_SAMPLER_HEUN, RV_SPACING_KARRAS, 1, false},
    {"IPNDMScheduler", NULL, RV_SAMPLER_IPNDM, RV_SPACING_UNIFORM, 1, false},
    {"IPNDM Uniform", NULL, RV_SAMPLER_IPNDM, RV_SPACING_UNIFORM, 1, false},
    {"IPNDM Uniform Beta", NULL, RV_SAMPLER_IPNDM, RV_SPACING_BETA, 1, false},
    {"IPNDM Uniform Exponential", NULL, RV_SAMPLER_IPNDM, RV_SPACING_EXPONENTIAL, 1, false},
    {"IPNDM Uniform Karras", NULL, RV_SAMPLER_IPNDM, RV_SPACING_KARRAS, 1, false},
    {"KDPM2AncestralDiscreteScheduler", NULL, RV_SAMPLER_DPM2_ANCESTRAL, RV_SPACING_UNIFORM, 1,
     true},
    {"KDPM2DiscreteScheduler", NULL, RV_SAMPLER_DPM2, RV_SPACING_UNIFORM, 1, false},
    {"LCM", NULL, RV_SAMPLER_LCM, RV_SPACING_UNIFORM, 1, true},
    {"LCMScheduler", NULL, RV_SAMPLER_LCM, RV_SPACING_UNIFORM, 1, true},
    {"LMS", NULL, RV_SAMPLER_LMS, RV_SPACING_UNIFORM, 1, false},
    {"LMSDiscreteScheduler", NULL, RV_SAMPLER_LMS, RV_SPACING_UNIFORM, 1, false},
    {"LMS Karras", NULL, RV_SAMPLER_LMS, RV_SPACING_KARRAS, 1, false},
    {"PNDMScheduler", "IPNDMScheduler", RV_SAMPLER_IPNDM, RV_SPACING_UNIFORM, 1, false},
    {"TCDScheduler", "LCM", RV_SAMPLER_LCM, RV_SPACING_UNIFORM, 1, true},
    {"UniPC", NULL, RV_SAMPLER_UNIPC, RV_SPACING_UNIFORM, 2, false},
    {"UniPC 2M", NULL, RV_SAMPLER_UNIPC, RV_SPACING_UNIFORM, 2, false},
    {"UniPC 2M Karras", NULL, RV_SAMPLER_UNIPC, RV_SPACING_KARRAS, 2, false},
    {"UniPC 2M Uniform", NULL, RV_SAMPLER_UNIPC, RV_SPACING_UNIFORM, 2, false},
    {"UniPC 3M", NULL, RV_SAMPLER_UNIPC, RV_SPACING_UNIFORM, 3, false},
    {"UniPC 3M Karras", NULL, RV_SAMPLER_UNIPC, RV_SPACING_KARRAS, 3, false},
    {"UniPC 3M Uniform", NULL, RV_SAMPLER_UNIPC, RV_SPACING_UNIFORM, 3, false},
    {"UniPC Karras", NULL, RV_SAMPLER_UNIPC, RV_SPACING_KARRAS, 2, false},
    {"UniPC Uniform", NULL, RV_SAMPLER_UNIPC, RV_SPACING_UNIFORM, 2, false},
    {"UniPC Uniform Beta", NULL, RV_SAMPLER_UNIPC, RV_SPACING_BETA, 2, false},
    {"UniPC Uniform Exponential", NULL, RV_SAMPLER_UNIPC, RV_SPACING_EXPONENTIAL, 2, false},
    {"UniPC Uniform Karras", NULL, RV_SAMPLER_UNIPC, RV_SPACING_KARRAS, 2, false},
};

static const row *find(const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcasecmp(rows[i].name, name) == 0)
            return &rows[i];
    }
    return NULL;
}

static bool is_default(const char *name)
{
    return !name || !*name || strcasecmp(name, "Default") == 0;
}

const char *rv__scheduler_canonical(const char *name, bool *stochastic, bool *works)
{
    const row *r = find(is_default(name) ? "Default" : name);
    if (r && stochastic)
        *stochastic = r->stochastic;
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
    const row *r = find(name);
    if (!r)
        return rv__fail_code(err, RV_VALIDATION, "invalidScheduler", "scheduler",
                             "there is no scheduler \"%.100s\"", name);
    if (r->nearest)
        return rv__fail_code(err, RV_UNSUPPORTED, "unsupportedScheduler", "scheduler",
                             "scheduler \"%s\" does not run here, the nearest that does is \"%s\"",
                             r->name, r->nearest);
    *out = (rv__scheduler_config){.sampler = r->sampler,
                                  .spacing = r->spacing,
                                  .shift = model->shift,
                                  .train_timesteps = model->train_timesteps,
                                  .order = r->order,
                                  .lower_order_final = true,
                                  .stochastic = r->stochastic && r->sampler == RV_SAMPLER_DPM};
    return RV_OK;
}
