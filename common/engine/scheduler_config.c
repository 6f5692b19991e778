/* Reading scheduler_config.json of a model.  Every setting that would change the result and that we
 * do not have is refused by name; must never fall back silently. */
#include "scheduler.h"

#include <math.h>
#include <string.h>

static rv_status unsupported(rv_error *err, const char *field, const char *what)
{
    return rv__fail(err, RV_UNSUPPORTED, "scheduler_config.json: %s: %s", field, what);
}

static rv_status wrong(rv_error *err, const char *field, const char *what)
{
    return rv__fail(err, RV_FORMAT, "scheduler_config.json: %s: expected %s", field, what);
}

/* Absent and null both mean the default. */
static const rv__value *setting(const rv__value *json, const char *field)
{
    const rv__value *v = rv__json_get(json, field);
    return rv__json_is_null(v) ? NULL : v;
}

static rv_status get_number(const rv__value *json, const char *field, double min, double max,
                            double *out, rv_error *err)
{
    const rv__value *v = setting(json, field);
    double x;
    if (!v)
        return RV_OK;
    if (!rv__json_number(v, &x) || !(x >= min && x <= max))
        return wrong(err, field, "a number in range");
    *out = x;
    return RV_OK;
}

static rv_status get_bool(const rv__value *json, const char *field, bool *out, rv_error *err)
{
    const rv__value *v = setting(json, field);
    return !v || rv__json_bool(v, out) ? RV_OK : wrong(err, field, "true or false");
}

static rv_status get_int(const rv__value *json, const char *field, int min, int max, int *out,
                         rv_error *err)
{
    double x = *out;
    rv_status status = get_number(json, field, min, max, &x, err);
    if (status == RV_OK && x != floor(x))
        return wrong(err, field, "a whole number");
    *out = (int)x;
    return status;
}

/* A switch that must have this position. */
static rv_status demand_bool(const rv__value *json, const char *field, bool fallback, bool demanded,
                             rv_error *err)
{
    bool v = fallback;
    rv_status status = get_bool(json, field, &v, err);
    if (status == RV_OK && v != demanded)
        return unsupported(err, field,
                           demanded ? "only true is supported" : "only false is supported");
    return status;
}

static rv_status demand_text(const rv__value *json, const char *field, const char *fallback,
                             const char *demanded, rv_error *err)
{
    const char *v = rv__json_string(setting(json, field));
    if (strcmp(v ? v : fallback, demanded) != 0)
        return rv__fail(err, RV_UNSUPPORTED, "scheduler_config.json: %s: only \"%s\" is supported",
                        field, demanded);
    return RV_OK;
}

static rv_status read_spacing(const rv__value *json, rv__scheduler_config *c, rv_error *err)
{
    static const struct {
        const char *field;
        rv__spacing spacing;
    } fields[] = {{"use_karras_sigmas", RV_SPACING_KARRAS},
                  {"use_exponential_sigmas", RV_SPACING_EXPONENTIAL},
                  {"use_beta_sigmas", RV_SPACING_BETA}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        bool on = false;
        rv_status status = get_bool(json, fields[i].field, &on, err);
        if (status != RV_OK)
            return status;
        if (on && c->spacing != RV_SPACING_UNIFORM)
            return wrong(err, fields[i].field, "at most one kind of sigmas");
        if (on)
            c->spacing = fields[i].spacing;
    }
    return RV_OK;
}

static rv_status read_flow_match(const rv__value *json, rv__scheduler_config *c, rv_error *err)
{
    rv_status status = get_number(json, "shift", 1e-3, 1e3, &c->shift, err);
    if (status == RV_OK)
        status = demand_bool(json, "use_dynamic_shifting", false, false, err);
    if (status == RV_OK)
        status = demand_bool(json, "invert_sigmas", false, false, err);
    if (status == RV_OK)
        status = get_number(json, "shift_terminal", 0.0, 0.999, &c->shift_terminal, err);
    if (status == RV_OK && setting(json, "scale_factors"))
        status =
            unsupported(err, "scale_factors", "changing the size between steps is not supported");
    if (status == RV_OK && c->sampler == RV_SAMPLER_EULER)
        status = get_bool(json, "stochastic_sampling", &c->stochastic, err);
    return status;
}

static rv_status read_solver(const rv__value *json, rv__scheduler_config *c, rv_error *err)
{
    const char *type = rv__json_get_string(json, "solver_type", "bh2");
    if (strcmp(type, "bh1") != 0 && strcmp(type, "bh2") != 0)
        return unsupported(err, "solver_type", "only \"bh1\" and \"bh2\" are supported");
    c->bh1 = strcmp(type, "bh1") == 0;
    c->order = 2;
    rv_status status = get_int(json, "solver_order", 1, 3, &c->order, err);
    if (status == RV_OK)
        status = get_bool(json, "lower_order_final", &c->lower_order_final, err);
    if (status == RV_OK && setting(json, "solver_p"))
        status = unsupported(err, "solver_p", "another solver inside is not supported");
    if (status == RV_OK && rv__json_size(setting(json, "disable_corrector")) > 0)
        status =
            unsupported(err, "disable_corrector", "switching the corrector off is not supported");
    return status;
}

static rv_status read_unipc(const rv__value *json, rv__scheduler_config *c, rv_error *err)
{
    rv_status status = read_solver(json, c, err);
    if (status == RV_OK)
        status = get_number(json, "flow_shift", 1e-3, 1e3, &c->shift, err);
    if (status == RV_OK)
        status = demand_text(json, "prediction_type", "epsilon", "flow_prediction", err);
    if (status == RV_OK)
        status = demand_text(json, "final_sigmas_type", "zero", "zero", err);
    if (status == RV_OK)
        status = demand_bool(json, "use_flow_sigmas", false, true, err);
    if (status == RV_OK)
        status = demand_bool(json, "predict_x0", true, true, err);
    if (status == RV_OK)
        status = demand_bool(json, "thresholding", false, false, err);
    if (status == RV_OK)
        status = demand_bool(json, "use_dynamic_shifting", false, false, err);
    if (status == RV_OK && setting(json, "shift_terminal"))
        status = unsupported(err, "shift_terminal", "not supported with UniPC");
    return status;
}

/* The sampler of a configuration, by its class or by a field that only one class has. */
static bool find_sampler(const rv__value *json, rv__sampler *out)
{
    const char *class = rv__json_get_string(json, "_class_name", NULL);
    if (class ? strcmp(class, "UniPCMultistepScheduler") == 0
              : rv__json_get(json, "solver_order") != NULL)
        *out = RV_SAMPLER_UNIPC;
    else if (class ? strcmp(class, "FlowMatchLCMScheduler") == 0
                   : rv__json_get(json, "scale_factors") != NULL)
        *out = RV_SAMPLER_LCM;
    else if (class ? strcmp(class, "FlowMatchEulerDiscreteScheduler") == 0
                   : rv__json_get(json, "shift") != NULL)
        *out = RV_SAMPLER_EULER;
    else
        return false;
    return true;
}

rv_status rv__scheduler_config_read(const rv__value *json, rv__scheduler_config *out, rv_error *err)
{
    rv__scheduler_config c = {
        .shift = 1.0, .train_timesteps = 1000, .order = 1, .lower_order_final = true};
    if (!find_sampler(json, &c.sampler))
        return rv__fail(err, RV_UNSUPPORTED,
                        "scheduler_config.json: no support for the class \"%.100s\"",
                        rv__json_get_string(json, "_class_name", ""));
    rv_status status = get_int(json, "num_train_timesteps", 2, 100000, &c.train_timesteps, err);
    if (status == RV_OK)
        status = c.sampler == RV_SAMPLER_UNIPC ? read_unipc(json, &c, err)
                                               : read_flow_match(json, &c, err);
    if (status == RV_OK)
        status = read_spacing(json, &c, err);
    if (status == RV_OK)
        *out = c;
    return status;
}
