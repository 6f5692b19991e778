/* Schedulers against published sigma lists and toy trajectories (design figures made with
 * diffusers), the names of requests, and refusals. */
#include "base/memory.h"
#include "engine/rng.h"
#include "engine/scheduler.h"
#include "request/rules.h"
#include "request/table.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static rv__scheduler_config config(rv__sampler sampler, double shift, int order)
{
    return (rv__scheduler_config){.sampler = sampler,
                                  .shift = shift,
                                  .train_timesteps = 1000,
                                  .order = order,
                                  .lower_order_final = true};
}

static void near(double got, double want, double by)
{
    if (!(fabs(got - want) <= by))
        fail_msg("%.9f instead of %.9f", got, want);
}

static void check_sigmas(const rv__scheduler_config *c, int steps, const double *want, int n)
{
    rv__scheduler *s;
    assert_int_equal(rv__scheduler_new(c, steps, 1, &s, NULL), RV_OK);
    assert_int_equal(rv__scheduler_calls(s), steps);
    for (int i = 0; i < n; i++) {
        near(rv__scheduler_sigma(s, i), want[i], 1.1e-6);
        double t = 1000.0 * want[i];
        near(rv__scheduler_timestep(s, i), c->sampler == RV_SAMPLER_UNIPC ? floor(t) : t, 1e-3);
    }
    assert_true(rv__scheduler_sigma(s, steps) == 0.0);
    rv__scheduler_free(s);
}

static void sigmas_of_the_models(void **state)
{
    (void)state;
    static const double dev[] = {1,        .9936698, .9869258, .9797260, .9720227, .9637610,
                                 .9548780, .9453009, .9349450, .9237114, .9114832, .8981227,
                                 .8834646, .8673103, .8494186, .8294931, .8071661, .7819757,
                                 .7533333, .7204772, .6824034, .6377622, .5846938, .5205634,
                                 .4415094, .3416370, .2114754, .0347826};
    static const double fast[] = {1,        .9768171, .9513798, .9233425, .8922853, .8576923,
                                  .8189234, .7751736, .7254174, .6683267, .6021506, .5245327,
                                  .4322251, .3206215, .1829653, .0089286};
    static const double full[] = {.999999,  .9932501, .9863154, .9791884,
                                  .9718608, .9643240, .9565690, .9485862};
    rv__scheduler_config c = config(RV_SAMPLER_LCM, 6.0, 1);
    check_sigmas(&c, 28, dev, 28);
    c = config(RV_SAMPLER_EULER, 3.0, 1);
    check_sigmas(&c, 16, fast, 16);
    c = config(RV_SAMPLER_UNIPC, 3.0, 2);
    check_sigmas(&c, 50, full, 8);
}

static void spacings(void **state)
{
    (void)state;
    static const struct {
        rv__sampler sampler;
        rv__spacing spacing;
        double want[6];
    } rows[] = {
        {RV_SAMPLER_EULER, RV_SPACING_KARRAS, {1, .485508, .216886, .087232, .030609, .008929}},
        {RV_SAMPLER_EULER,
         RV_SPACING_EXPONENTIAL,
         {1, .389185, .151465, .058948, .022942, .008929}},
        {RV_SAMPLER_LCM, RV_SPACING_BETA, {1, .878176, .640537, .368391, .130753, .008929}},
        {RV_SAMPLER_UNIPC,
         RV_SPACING_KARRAS,
         {.993687, .980613, .928765, .707849, .208321, .009902}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv__scheduler_config c = config(rows[i].sampler, 3.0, 1);
        c.spacing = rows[i].spacing;
        check_sigmas(&c, 6, rows[i].want, 6);
    }
}

/* The toy model v(x, sigma) = sin(3 x) + sigma - x / 2 from x = 1. */
static void check_toy(const rv__scheduler_config *c, const double *want)
{
    rv__scheduler *s;
    assert_int_equal(rv__scheduler_new(c, 6, 1, &s, NULL), RV_OK);
    float x = 1.0f, v, x0;
    for (int i = 0; i < 6; i++) {
        double sigma = rv__scheduler_sigma(s, i);
        v = (float)(sin(3.0 * x) + sigma - 0.5 * x);
        float before = x;
        assert_int_equal(rv__scheduler_step(s, i, &v, &x, NULL, &x0, NULL), RV_OK);
        near(x0, before - sigma * v, 1e-6);
        near(x, want[i], 3e-6);
    }
    rv__scheduler_free(s);
}

static void toy_trajectories(void **state)
{
    (void)state;
    static const double unipc[3][6] = {{.959976, .900488, .807555, .650487, .372563, -.037422},
                                       {.959976, .900239, .802048, .630645, .316520, -.071667},
                                       {.959976, .900239, .800893, .621680, .305535, -.077335}};
    for (int order = 1; order <= 3; order++) {
        rv__scheduler_config c = config(RV_SAMPLER_UNIPC, 3.0, order);
        check_toy(&c, unipc[order - 1]);
    }
    rv__scheduler_config c = config(RV_SAMPLER_DPM, 3.0, 2);
    check_toy(&c, (const double[]){.959939, .901874, .808561, .644848, .337697, -.057385});
    c = config(RV_SAMPLER_EULER, 3.0, 1);
    check_toy(&c, (const double[]){.950853, .874320, .742178, .484867, -.015914, -.015638});
}

/* Every sampler, order and spacing ends on the picture it sees when the model's answer points
 * straight at one, and never leaves the finite numbers, whatever the number of steps. */
static void straight_flows(void **state)
{
    (void)state;
    static const int steps[] = {1, 2, 3, 4, 7, 28, 50, 1000};
    for (int sampler = 0; sampler < RV_SAMPLERS; sampler++) {
        for (int order = 1; order <= 3; order++) {
            for (int spacing = RV_SPACING_UNIFORM; spacing <= RV_SPACING_SIGNAL; spacing++) {
                rv__scheduler_config c = config((rv__sampler)sampler, 3.0, order);
                c.spacing = (rv__spacing)spacing;
                c.bh1 = order == 2;
                c.lower_order_final = order != 3;
                c.stochastic = sampler == RV_SAMPLER_DPM && order != 2;
                for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
                    rv__scheduler *s;
                    assert_int_equal(rv__scheduler_new(&c, steps[k], 2, &s, NULL), RV_OK);
                    float x[2] = {1.7f, -0.3f}, noise[2] = {0.4f, 1.1f};
                    for (int i = 0; i < rv__scheduler_calls(s); i++) {
                        double sigma = rv__scheduler_sigma(s, i);
                        float v[2];
                        for (int e = 0; e < 2; e++)
                            v[e] = (float)((x[e] - 0.25) / sigma);
                        assert_int_equal(rv__scheduler_step(s, i, v, x, noise, NULL, NULL), RV_OK);
                    }
                    near(x[0], 0.25, 1e-4);
                    near(x[1], 0.25, 1e-4);
                    rv__scheduler_free(s);
                }
            }
        }
    }
}

static double toy(double x, double sigma)
{
    return sin(3.0 * x) + sigma - 0.5 * x;
}

/* Where the toy flow from x = 1 at this sigma really ends. */
static double exact_end(double sigma)
{
    double x = 1.0, h = -sigma / 20000;
    for (int i = 0; i < 20000; i++, sigma += h) {
        double a = toy(x, sigma), b = toy(x + 0.5 * h * a, sigma + 0.5 * h);
        double c = toy(x + 0.5 * h * b, sigma + 0.5 * h), d = toy(x + h * c, sigma + h);
        x += h * (a + 2.0 * b + 2.0 * c + d) / 6.0;
    }
    return x;
}

/* Distance from the exact end. */
static double toy_error(const rv__scheduler_config *c, int steps)
{
    rv__scheduler *s;
    assert_int_equal(rv__scheduler_new(c, steps, 1, &s, NULL), RV_OK);
    int begin = rv__scheduler_begin(
        s, 0.9); /* next to sigma 1 logarithms are too steep for any order to show */
    double end = exact_end(rv__scheduler_sigma(s, begin));
    float x = 1.0f;
    for (int i = begin; i < rv__scheduler_calls(s); i++) {
        float v = (float)toy(x, rv__scheduler_sigma(s, i));
        assert_int_equal(rv__scheduler_step(s, i, &v, &x, NULL, NULL, NULL), RV_OK);
    }
    rv__scheduler_free(s);
    return fabs(x - end);
}

/* Eight times the steps: an eighth of the error for methods of first order, much less for the
 * others. */
static void methods_converge(void **state)
{
    (void)state;
    static const struct {
        rv__sampler sampler;
        int order;
        double gain;
    } rows[] = {
        {RV_SAMPLER_EULER, 1, 7.0}, {RV_SAMPLER_UNIPC, 2, 16.0}, {RV_SAMPLER_UNIPC, 3, 16.0},
        {RV_SAMPLER_DPM, 1, 7.0},   {RV_SAMPLER_DPM, 2, 16.0},   {RV_SAMPLER_DPM, 3, 16.0},
        {RV_SAMPLER_DEIS, 1, 16.0}, {RV_SAMPLER_HEUN, 1, 16.0},  {RV_SAMPLER_DPM2, 1, 16.0},
        {RV_SAMPLER_LMS, 1, 16.0},  {RV_SAMPLER_PNDM, 1, 16.0},  {RV_SAMPLER_DPM_SINGLE, 2, 16.0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv__scheduler_config c = config(rows[i].sampler, 1.0, rows[i].order);
        /* Errors of single runs may cancel out by chance: the larger of two. */
        double coarse = fmax(toy_error(&c, 20), toy_error(&c, 21)), fine = toy_error(&c, 160);
        if (!(coarse / fine >= rows[i].gain))
            fail_msg("row %zu: errors %g and %g", i, coarse, fine);
    }
}

/* Data that is normal with deviation 0.5 has a known flow; whatever the sampler does with noise,
 * what comes out must have that deviation. */
static void noise_keeps_the_distribution(void **state)
{
    (void)state;
    enum { N = 20000 };
    static float x[N], v[N], noise[N];
    for (int sampler = 0; sampler < RV_SAMPLERS; sampler++) {
        /* These go to the mean picture, or some of the way, and back: that narrows, by design. */
        if (sampler == RV_SAMPLER_LCM || sampler == RV_SAMPLER_TCD)
            continue;
        for (int sde = 0; sde <= (sampler == RV_SAMPLER_DPM); sde++) {
            rv__scheduler_config c = config((rv__sampler)sampler, 1.0, 2 + sde);
            c.stochastic = sde;
            rv__scheduler *s;
            assert_int_equal(rv__scheduler_new(&c, 100, N, &s, NULL), RV_OK);
            rv__rng r;
            rv__rng_seed(&r, 7);
            rv__rng_normal(&r, x, N);
            for (int i = 0; i < rv__scheduler_calls(s); i++) {
                double sigma = rv__scheduler_sigma(s, i), data = 0.25 * (1.0 - sigma);
                double slope = (sigma - data) / (data * (1.0 - sigma) + sigma * sigma);
                for (int k = 0; k < N; k++)
                    v[k] = (float)(slope * x[k]);
                rv__rng_normal(&r, noise, N);
                assert_int_equal(rv__scheduler_step(s, i, v, x, noise, NULL, NULL), RV_OK);
            }
            double square = 0;
            for (int k = 0; k < N; k++)
                square += (double)x[k] * x[k];
            if (!(fabs(sqrt(square / N) - 0.5) < 0.02))
                fail_msg("sampler %d: deviation %f", sampler, sqrt(square / N));
            rv__scheduler_free(s);
        }
    }
}

static void image_to_image(void **state)
{
    (void)state;
    rv__scheduler_config c = config(RV_SAMPLER_UNIPC, 3.0, 2);
    rv__scheduler *s;
    assert_int_equal(rv__scheduler_new(&c, 10, 1, &s, NULL), RV_OK);
    assert_int_equal(rv__scheduler_begin(s, 1.0), 0);
    assert_int_equal(rv__scheduler_begin(s, 0.55), 4);
    assert_int_equal(rv__scheduler_begin(s, 0.3), 7);
    assert_int_equal(rv__scheduler_begin(s, 0.0), 10);
    assert_int_equal(rv__scheduler_begin(s, NAN), 10);
    float sample = 2.0f, noise = -1.0f, x;
    rv__scheduler_add_noise(s, 7, &sample, &noise, &x);
    double sigma = rv__scheduler_sigma(s, 7);
    near(x, 2.0 * (1.0 - sigma) - sigma, 1e-6);
    for (int i = 7; i < 10; i++) {
        float v = noise - sample;
        assert_int_equal(rv__scheduler_step(s, i, &v, &x, NULL, NULL, NULL), RV_OK);
    }
    near(x, 2.0, 1e-5);
    rv__scheduler_free(s);
}

static void refuses_misuse(void **state)
{
    (void)state;
    rv__scheduler_config c = config(RV_SAMPLER_LCM, 3.0, 1);
    rv__scheduler *s;
    rv_error err;
    assert_int_equal(rv__scheduler_new(&c, 0, 1, &s, &err), RV_VALIDATION);
    assert_int_equal(rv__scheduler_new(&c, RV_SCHEDULER_MAX_STEPS + 1, 1, &s, &err), RV_VALIDATION);
    assert_int_equal(rv__scheduler_new(&c, 4, 1, &s, &err), RV_OK);
    assert_null(rv__scheduler_corrected(s));
    float v = 0, x = 0, noise = 0;
    assert_true(rv__scheduler_needs_noise(s));
    assert_int_equal(rv__scheduler_step(s, 0, &v, &x, NULL, NULL, &err), RV_MISUSE);
    assert_int_equal(rv__scheduler_step(s, 4, &v, &x, &noise, NULL, &err), RV_MISUSE);
    assert_int_equal(rv__scheduler_step(s, 1, &v, &x, &noise, NULL, &err), RV_OK);
    assert_int_equal(rv__scheduler_step(s, 1, &v, &x, &noise, NULL, &err), RV_MISUSE);
    rv__scheduler_free(s);
    c = config(RV_SAMPLER_UNIPC, 3.0, 3);
    for (long n = 1; n < 20; n++) {
        rv__alloc_fail_after(n);
        rv_status status = rv__scheduler_new(&c, 4, 10, &s, &err);
        rv__alloc_fail_after(0);
        assert_true(status == RV_OK || (status == RV_MEMORY && !s));
        rv__scheduler_free(s);
    }
}

static rv_status read_config(const char *text, rv__scheduler_config *c, rv_error *err)
{
    rv__value *json = rv__json_parse(text, strlen(text), NULL);
    assert_non_null(json);
    rv_status status = rv__scheduler_config_read(json, c, err);
    rv__json_free(json);
    return status;
}

#define UNIPC                                                                                      \
    "\"_class_name\":\"UniPCMultistepScheduler\",\"prediction_type\":\"flow_prediction\",\"use_"   \
    "flow_sigmas\":true"
#define EULER "\"_class_name\":\"FlowMatchEulerDiscreteScheduler\""

static void reads_configurations(void **state)
{
    (void)state;
    rv__scheduler_config c;
    rv_error err = {0};
    assert_int_equal(read_config("{" UNIPC
                                 ",\"flow_shift\":3.0,\"solver_p\":null,\"disable_corrector\":[]}",
                                 &c, &err),
                     RV_OK);
    assert_int_equal(c.sampler, RV_SAMPLER_UNIPC);
    assert_int_equal(c.order, 2);
    assert_true(c.shift == 3.0 && !c.bh1);
    assert_int_equal(
        read_config("{" EULER ",\"shift\":6,\"use_beta_sigmas\":true,\"stochastic_sampling\":true}",
                    &c, &err),
        RV_OK);
    assert_int_equal(c.spacing, RV_SPACING_BETA);
    assert_true(c.stochastic);
    assert_int_equal(read_config("{\"shift\":3,\"scale_factors\":null}", &c, &err), RV_OK);
    assert_int_equal(c.sampler, RV_SAMPLER_LCM);

    static const struct {
        const char *text;
        rv_status status;
        const char *field;
    } bad[] = {
        {"{}", RV_UNSUPPORTED, "class"},
        {"{\"_class_name\":\"DDIMScheduler\"}", RV_UNSUPPORTED, "DDIMScheduler"},
        {"{" EULER ",\"shift\":0}", RV_FORMAT, "shift"},
        {"{" EULER ",\"shift\":\"3\"}", RV_FORMAT, "shift"},
        {"{" EULER ",\"use_dynamic_shifting\":true}", RV_UNSUPPORTED, "use_dynamic_shifting"},
        {"{" EULER ",\"use_dynamic_shifting\":1}", RV_FORMAT, "use_dynamic_shifting"},
        {"{" EULER ",\"invert_sigmas\":true}", RV_UNSUPPORTED, "invert_sigmas"},
        {"{" EULER ",\"scale_factors\":[1]}", RV_UNSUPPORTED, "scale_factors"},
        {"{" EULER ",\"num_train_timesteps\":1}", RV_FORMAT, "num_train_timesteps"},
        {"{" EULER ",\"num_train_timesteps\":10.5}", RV_FORMAT, "num_train_timesteps"},
        {"{" EULER ",\"use_beta_sigmas\":true,\"use_karras_sigmas\":true}", RV_FORMAT,
         "use_beta_sigmas"},
        {"{\"_class_name\":\"UniPCMultistepScheduler\"}", RV_UNSUPPORTED, "prediction_type"},
        {"{" UNIPC ",\"solver_type\":\"midpoint\"}", RV_UNSUPPORTED, "solver_type"},
        {"{" UNIPC ",\"solver_order\":4}", RV_FORMAT, "solver_order"},
        {"{" UNIPC ",\"predict_x0\":false}", RV_UNSUPPORTED, "predict_x0"},
        {"{" UNIPC ",\"thresholding\":true}", RV_UNSUPPORTED, "thresholding"},
        {"{" UNIPC ",\"disable_corrector\":[0]}", RV_UNSUPPORTED, "disable_corrector"},
        {"{" UNIPC ",\"solver_p\":{}}", RV_UNSUPPORTED, "solver_p"},
        {"{" UNIPC ",\"final_sigmas_type\":\"sigma_min\"}", RV_UNSUPPORTED, "final_sigmas_type"},
        {"{" UNIPC ",\"shift_terminal\":0.1}", RV_UNSUPPORTED, "shift_terminal"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(read_config(bad[i].text, &c, &err), bad[i].status);
        if (!strstr(err.message, bad[i].field))
            fail_msg("\"%s\" does not name %s", err.message, bad[i].field);
    }
}

static void names_of_requests(void **state)
{
    (void)state;
    rv__scheduler_config model = config(RV_SAMPLER_LCM, 6.0, 1), c;
    rv_error err;
    assert_int_equal(rv__scheduler_config_named(NULL, &model, &c, &err), RV_OK);
    assert_int_equal(c.sampler, RV_SAMPLER_LCM);
    assert_int_equal(rv__scheduler_config_named("default", &model, &c, &err), RV_OK);
    assert_int_equal(c.sampler, RV_SAMPLER_LCM);
    assert_int_equal(rv__scheduler_config_named("unipc 3m karras", &model, &c, &err), RV_OK);
    assert_int_equal(c.sampler, RV_SAMPLER_UNIPC);
    assert_int_equal(c.spacing, RV_SPACING_KARRAS);
    assert_int_equal(c.order, 3);
    assert_true(c.shift == 6.0);
    assert_int_equal(rv__scheduler_config_named("Nonsense", &model, &c, &err), RV_VALIDATION);
    assert_null(rv__scheduler_canonical("Nonsense", NULL, NULL));
    assert_string_equal(rv__scheduler_canonical("EULER", NULL, NULL), "Euler");
    assert_string_equal(rv__scheduler_canonical("", NULL, NULL), "Default");
    bool stochastic, works;
    assert_string_equal(rv__scheduler_canonical("euler A", &stochastic, &works), "Euler a");
    assert_true(stochastic && works);
    static const char inverse[] = "DPMSolverMultistepInverse";
    assert_string_equal(rv__scheduler_canonical(inverse, &stochastic, &works), inverse);
    assert_false(works);
    assert_int_equal(rv__scheduler_config_named(inverse, &model, &c, &err), RV_UNSUPPORTED);
    assert_string_equal(err.code, "unsupportedScheduler");
    assert_non_null(strstr(err.message, "\"DPM++ 2M\""));
}

/* The names requests may have and those known here are the same; what works makes a scheduler that
 * needs noise if its name says so, and what does not names one that does. */
static void agrees_with_the_request_table(void **state)
{
    (void)state;
    rv__scheduler_config model = config(RV_SAMPLER_EULER, 3.0, 1), c;
    for (const rv__word *w = rv__scheduler_words; w->word; w++) {
        bool stochastic, works;
        rv_error err = {0};
        rv__scheduler *s;
        assert_string_equal(rv__scheduler_canonical(w->word, &stochastic, &works), w->word);
        if (rv__scheduler_is_stochastic(w->word))
            assert_true(stochastic);
        rv_status status = rv__scheduler_config_named(w->word, &model, &c, &err);
        assert_int_equal(status, works ? RV_OK : RV_UNSUPPORTED);
        if (!works) {
            char *nearest = strrchr(err.message, '"');
            *nearest = '\0';
            nearest = strrchr(err.message, '"') + 1;
            assert_int_equal(rv__scheduler_config_named(nearest, &model, &c, &err), RV_OK);
            continue;
        }
        assert_int_equal(rv__scheduler_new(&c, 5, 4, &s, &err), RV_OK);
        assert_int_equal(rv__scheduler_needs_noise(s), stochastic);
        rv__scheduler_free(s);
    }
}

/* ---- every name beside a second computation ---- */

static char *read_source(const char *path)
{
    char *root = getenv("SOURCE_ROOT"), *name = rv__format("%s/%s", root ? root : ".", path);
    FILE *f = fopen(name, "rb");
    if (!f)
        fail_msg("%s cannot be read", name);
    rv__buf b;
    rv__buf_init(&b, 1 << 22);
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;)
        rv__buf_add(&b, part, n);
    fclose(f);
    rv__free(name);
    return rv__buf_take(&b, NULL);
}

static double number(const rv__value *v)
{
    double x = NAN;
    assert_true(rv__json_number(v, &x));
    return x;
}

/* What the stored noise was made of, too. */
static float golden_noise(int call, int k)
{
    return (float)(cos(1.7 * call + 2.3 * k + 0.4) * 1.3);
}

static void walk_one(const rv__value *row, int steps, double shift, const double *start)
{
    enum { N = 3 };
    const char *name = rv__json_get_string(row, "name", "");
    rv__scheduler_config model = config(RV_SAMPLER_LCM, shift, 1), c;
    rv__scheduler *s;
    rv_error err = {0};
    assert_int_equal(rv__scheduler_config_named(name, &model, &c, &err), RV_OK);
    assert_int_equal(rv__scheduler_new(&c, steps, N, &s, &err), RV_OK);
    assert_int_equal(rv__scheduler_calls(s), (int)rv__json_get_int(row, "calls", 0));
    float x[N], v[N], noise[N];
    for (int k = 0; k < N; k++)
        x[k] = (float)start[k];
    const rv__value *want = rv__json_first(rv__json_get(row, "x"));
    for (int call = 0; call < rv__scheduler_calls(s); call++, want = rv__json_next(want)) {
        for (int k = 0; k < N; k++) {
            v[k] = (float)toy(x[k], rv__scheduler_sigma(s, call));
            noise[k] = golden_noise(call, k);
        }
        assert_int_equal(rv__scheduler_step(s, call, v, x, noise, NULL, &err), RV_OK);
        const rv__value *one = rv__json_first(want);
        for (int k = 0; k < N; k++, one = rv__json_next(one)) {
            if (!(fabs(x[k] - number(one)) < 1e-5))
                fail_msg("%s, call %d: %.8f instead of %.8f", name, call, x[k], number(one));
        }
    }
    assert_null(want);
    rv__scheduler_free(s);
}

static void every_name_goes_its_way(void **state)
{
    (void)state;
    char *text = read_source("tests/golden/scheduler_names.json");
    rv__value *json = rv__json_parse(text, strlen(text), NULL);
    assert_non_null(json);
    double start[3];
    const rv__value *one = rv__json_first(rv__json_get(json, "start"));
    for (int k = 0; k < 3; k++, one = rv__json_next(one))
        start[k] = number(one);
    const rv__value *row = rv__json_first(rv__json_get(json, "cases"));
    for (const rv__word *w = rv__scheduler_words; w->word; w++) {
        bool works;
        rv__scheduler_canonical(w->word, NULL, &works);
        if (!works || strcmp(w->word, "Default") == 0)
            continue;
        if (!row || strcmp(rv__json_get_string(row, "name", ""), w->word) != 0)
            fail_msg("no golden for %s", w->word);
        walk_one(row, (int)rv__json_get_int(json, "steps", 0),
                 rv__json_get_number(json, "shift", 0), start);
        row = rv__json_next(row);
    }
    assert_null(row);
    rv__json_free(json);
    rv__free(text);
}

static void page_is_current(void **state)
{
    (void)state;
    char *page = rv__scheduler_page(), *file = read_source("common/engine/schedulers.md");
    bool same = page && strcmp(page, file) == 0;
    rv__free(page);
    rv__free(file);
    if (!same)
        fail_msg("schedulers.md is old: build/reverie schema --schedulers > "
                 "common/engine/schedulers.md");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sigmas_of_the_models),
        cmocka_unit_test(spacings),
        cmocka_unit_test(toy_trajectories),
        cmocka_unit_test(straight_flows),
        cmocka_unit_test(image_to_image),
        cmocka_unit_test(refuses_misuse),
        cmocka_unit_test(reads_configurations),
        cmocka_unit_test(names_of_requests),
        cmocka_unit_test(methods_converge),
        cmocka_unit_test(noise_keeps_the_distribution),
        cmocka_unit_test(agrees_with_the_request_table),
        cmocka_unit_test(every_name_goes_its_way),
        cmocka_unit_test(page_is_current),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
