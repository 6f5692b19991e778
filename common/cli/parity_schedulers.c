/* Parity of the schedulers.  The names of the tensors say what was run:
 * CONFIG.STEPS.{timesteps,sigmas}, traj.CONFIG.STEPS.{x,v,noise,corrected},
 * noising.CONFIG.STEPS.atCALL; CONFIG is an entry of the manifest's scheduler_configs. */
#include "parity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/scheduler.h"

/* CONFIG.STEPS.WHAT, taken apart. */
typedef struct named_run {
    char config[64];
    int steps;
    const char *what;
} named_run;

static bool parse_name(const char *name, named_run *out)
{
    const char *dot = strchr(name, '.');
    if (!dot || dot == name || (size_t)(dot - name) >= sizeof out->config)
        return false;
    memcpy(out->config, name, (size_t)(dot - name));
    out->config[dot - name] = '\0';
    char *end;
    long steps = strtol(dot + 1, &end, 10);
    out->what = end + 1;
    out->steps = (int)steps;
    return end != dot + 1 && *end == '.' && steps > 0 && steps <= RV_SCHEDULER_MAX_STEPS;
}

/* The scheduler of a golden's name over n values; NULL and a FAIL when there is none. */
static rv__scheduler *make(rv__parity *p, rv__golden *g, const char *name, const named_run *run,
                           size_t n)
{
    const rv__value *configs = rv__json_get(rv__parity_manifest(p), "scheduler_configs");
    const rv__value *json = rv__json_get(configs, run->config);
    rv__scheduler_config config;
    rv__scheduler *s = NULL;
    rv_error err = {0};
    rv_status status =
        json ? rv__scheduler_config_read(json, &config, &err)
             : rv__fail(&err, RV_NOT_FOUND, "the manifest has no scheduler \"%s\"", run->config);
    if (status == RV_OK)
        status = rv__scheduler_new(&config, run->steps, n, &s, &err);
    if (status != RV_OK)
        rv__parity_fail_golden(g, name, "%s", err.message);
    return s;
}

static void check_list(rv__parity *p, rv__golden *g, const rv__tensor *t, const named_run *run)
{
    bool sigmas = strcmp(run->what, "sigmas") == 0;
    rv__scheduler *s = make(p, g, t->name, run, 1);
    size_t n = s ? (size_t)rv__scheduler_calls(s) + sigmas : 0;
    float *got = rv__alloc(n * sizeof *got);
    for (size_t i = 0; got && i < n; i++)
        got[i] =
            (float)(sigmas ? rv__scheduler_sigma(s, (int)i) : rv__scheduler_timestep(s, (int)i));
    rv__tolerance by = sigmas                     ? RV_TOL_SIGMAS
                       : t->type == GGML_TYPE_F32 ? RV_TOL_TIMESTEPS
                                                  : RV_TOL_EXACT;
    if (got && s)
        rv__parity_check(g, t->name, got, n, by);
    rv__free(got);
    rv__scheduler_free(s);
}

/* A golden of a trajectory: traj.CONFIG.STEPS.what with `states` states of n values each. */
static const rv__tensor *part(rv__golden *g, const named_run *run, const char *what, int states,
                              size_t n)
{
    char name[128];
    snprintf(name, sizeof name, "traj.%s.%d.%s", run->config, run->steps, what);
    const rv__tensor *t = rv__golden_input(g, name, GGML_TYPE_F32, 0);
    if (t && rv__tensor_elements(t) != (size_t)states * n) {
        rv__parity_fail_golden(g, name, "not the expected number of states");
        return NULL;
    }
    return t;
}

static bool has(const rv__golden *g, const named_run *run, const char *what)
{
    char name[128];
    snprintf(name, sizeof name, "traj.%s.%d.%s", run->config, run->steps, what);
    return rv__golden_find(g, name) != NULL;
}

/* All steps from the golden's first state, with its model outputs and noise but our own states. */
static void run_trajectory(rv__golden *g, const named_run *run, const rv__tensor *xs,
                           rv__scheduler *s, size_t n, float *states, float *corrected)
{
    const rv__tensor *v = part(g, run, "v", run->steps, n);
    const rv__tensor *noise =
        rv__scheduler_needs_noise(s) ? part(g, run, "noise", run->steps, n) : NULL;
    if (!v || (rv__scheduler_needs_noise(s) && !noise))
        return;
    memcpy(states, xs->data, n * sizeof *states);
    for (int i = 0; i < run->steps; i++) {
        float *x = states + (size_t)(i + 1) * n;
        memcpy(x, x - n, n * sizeof *x);
        rv_error err = {0};
        if (rv__scheduler_step(s, i, (const float *)v->data + (size_t)i * n, x,
                               noise ? (const float *)noise->data + (size_t)i * n : NULL, NULL,
                               &err) != RV_OK) {
            rv__parity_fail_golden(g, xs->name, "%s", err.message);
            return;
        }
        if (rv__scheduler_corrected(s))
            memcpy(corrected + (size_t)i * n, rv__scheduler_corrected(s), n * sizeof *x);
    }
    rv__parity_check(g, xs->name, states, n * ((size_t)run->steps + 1), RV_TOL_TRAJECTORY);
    if (has(g, run, "corrected")) {
        char name[128];
        snprintf(name, sizeof name, "traj.%s.%d.corrected", run->config, run->steps);
        if (rv__scheduler_corrected(s))
            rv__parity_check(g, name, corrected, n * (size_t)run->steps, RV_TOL_TRAJECTORY);
        else
            rv__parity_fail_golden(g, name, "this scheduler has no corrector");
    }
}

static void check_trajectory(rv__parity *p, rv__golden *g, const rv__tensor *xs,
                             const named_run *run)
{
    size_t all = rv__tensor_elements(xs), n = all / ((size_t)run->steps + 1);
    if (xs->type != GGML_TYPE_F32 || n == 0 || n * ((size_t)run->steps + 1) != all) {
        rv__parity_fail_golden(g, xs->name, "not one state more than steps");
        return;
    }
    rv__scheduler *s = make(p, g, xs->name, run, n);
    float *states = rv__alloc(all * sizeof *states),
          *corrected = rv__alloc(all * sizeof *corrected);
    if (s && states && corrected)
        run_trajectory(g, run, xs, s, n, states, corrected);
    rv__free(states);
    rv__free(corrected);
    rv__scheduler_free(s);
}

/* run->what is atCALL. */
static void check_noising(rv__parity *p, rv__golden *g, const rv__tensor *t, const named_run *run)
{
    const rv__tensor *sample = rv__golden_input(g, "noising.sample", GGML_TYPE_F32, 0);
    const rv__tensor *noise = rv__golden_input(g, "noising.noise", GGML_TYPE_F32, 0);
    size_t n = rv__tensor_elements(t);
    if (!sample || !noise || rv__tensor_elements(sample) != n || rv__tensor_elements(noise) != n) {
        rv__parity_fail_golden(g, t->name, "sample and noise are of another size");
        return;
    }
    rv__scheduler *s = make(p, g, t->name, run, n);
    float *got = rv__alloc(n * sizeof *got);
    if (s && got) {
        rv__scheduler_add_noise(s, (int)strtol(run->what + 2, NULL, 10), sample->data, noise->data,
                                got);
        rv__parity_check(g, t->name, got, n, RV_TOL_TRAJECTORY);
    }
    rv__free(got);
    rv__scheduler_free(s);
}

void rv__parity_schedulers(rv__parity *p, rv__golden *g)
{
    size_t count;
    const rv__tensor *list = rv__golden_list(g, &count);
    for (size_t i = 0; i < count; i++) {
        const rv__tensor *t = &list[i];
        named_run run;
        if (strncmp(t->name, "traj.", 5) == 0) {
            if (parse_name(t->name + 5, &run) && strcmp(run.what, "x") == 0)
                check_trajectory(p, g, t, &run);
        } else if (strncmp(t->name, "noising.", 8) == 0) {
            if (parse_name(t->name + 8, &run) && strncmp(run.what, "at", 2) == 0)
                check_noising(p, g, t, &run);
        } else if (parse_name(t->name, &run) &&
                   (strcmp(run.what, "sigmas") == 0 || strcmp(run.what, "timesteps") == 0)) {
            check_list(p, g, t, &run);
        }
    }
}
