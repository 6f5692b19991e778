/* Words to pictures on the small model of tests/golden: sizes, repeatability, cancelling, and what
 * the executor refuses.  Numbers are compared with the reference elsewhere (the parity suite). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "engine/pipeline.h"
#include "reverie.h"

enum { SIDE = 64, BYTES = SIDE * SIDE * 3 };

static char model_path[512];

typedef struct fixture {
    rv__device *device;
    rv__weights *weights;
    rv__pipeline *pipeline;
} fixture;

static void open_fixture(fixture *f, int threads)
{
    rv_error err = {0};

    assert_int_equal(rv__device_open(threads, &f->device, &err), RV_OK);
    assert_int_equal(rv__weights_open(model_path, &f->weights, &err), RV_OK);
    assert_int_equal(rv__pipeline_open(f->device, f->weights, &f->pipeline, &err), RV_OK);
}

static void close_fixture(fixture *f)
{
    rv__pipeline_close(f->pipeline);
    rv__weights_close(f->weights);
    rv__device_close(f->device);
}

static rv__picture_request simple(void)
{
    return (rv__picture_request){.prompt = "a red fox",
                                 .sequence = 16,
                                 .steps = 2,
                                 .width = SIDE,
                                 .height = SIDE,
                                 .seed = 5};
}

static void sizes_follow_the_reference(void **state)
{
    static const int rows[][4] = {{1024, 1024, 1024, 1024}, {512, 512, 1024, 1024},
                                  {1920, 1080, 1360, 768},  {333, 777, 656, 1552},
                                  {16, 16, 1024, 1024},     {1023, 1025, 1008, 1024}};
    int64_t w, h;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv__pipeline_size(rows[i][0], rows[i][1], 1024 * 1024, 16, &w, &h);
        assert_int_equal(w, rows[i][2]);
        assert_int_equal(h, rows[i][3]);
    }
}

static void pictures_do_not_depend_on_threads_or_history(void **state)
{
    static uint8_t one[BYTES], other[BYTES];
    rv__picture_request r = simple(), between = simple();
    rv_error err;
    fixture f;

    r.guidance = 3;
    open_fixture(&f, 1);
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, one, NULL, &err), RV_OK);
    close_fixture(&f);
    open_fixture(&f, 3);
    between.prompt = "a blue whale";
    between.width = 2 * SIDE;
    uint8_t *wide = rv__alloc(2 * BYTES);
    assert_int_equal(rv__pipeline_run(f.pipeline, &between, wide, NULL, &err), RV_OK);
    rv__free(wide);
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, other, NULL, &err), RV_OK);
    assert_memory_equal(one, other, BYTES);
    r.seed++;
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, other, NULL, &err), RV_OK);
    assert_int_not_equal(memcmp(one, other, BYTES), 0);
    close_fixture(&f);
}

/* Samplers that draw noise go on with the picture's own generator. */
static void a_seed_tells_a_whole_lcm_picture(void **state)
{
    static uint8_t one[BYTES], other[BYTES];
    rv__scheduler_config lcm;
    rv__picture_request r = simple();
    rv_error err;
    fixture f;

    open_fixture(&f, 2);
    lcm = *rv__pipeline_scheduler(f.pipeline);
    lcm.sampler = RV_SAMPLER_LCM;
    r.scheduler = &lcm;
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, one, NULL, &err), RV_OK);
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, other, NULL, &err), RV_OK);
    assert_memory_equal(one, other, BYTES);
    close_fixture(&f);
}

typedef struct stopper {
    int steps, asked, stop_after_step, stop_after_asking;
} stopper;

static void on_step(void *user, int step, int steps, const float *latents, size_t n)
{
    stopper *s = user;

    assert_int_equal(step, s->steps + 1);
    assert_int_equal(steps, 4);
    s->steps = step;
}

static bool on_cancelled(void *user)
{
    stopper *s = user;

    s->asked++;
    return s->steps >= s->stop_after_step || s->asked >= s->stop_after_asking;
}

typedef struct viewer {
    int previews, steps;
    uint8_t last[SIDE * SIDE / 4];
} viewer;

static void on_preview(void *user, const uint8_t *rgb, int64_t width, int64_t height)
{
    viewer *v = user;

    assert_true(width * height * 3 <= (int64_t)sizeof v->last && width < SIDE && height < SIDE);
    memcpy(v->last, rgb, (size_t)(width * height * 3));
    v->previews++;
}

static void on_viewer_step(void *user, int step, int steps, const float *latents, size_t n)
{
    viewer *v = user;

    assert_int_equal(v->previews, step == steps ? 3 : step / 2); /* told before their step */
    v->steps++;
}

/* Every second step and the last one; the picture is the same as without. */
static void previews_change_nothing(void **state)
{
    static uint8_t one[BYTES], other[BYTES];
    rv__picture_request r = simple();
    viewer v = {0};
    rv_error err;
    fixture f;

    open_fixture(&f, 2);
    r.steps = 5;
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, one, NULL, &err), RV_OK);
    r.hooks = (rv__pipeline_hooks){
        .step = on_viewer_step, .preview = on_preview, .preview_every = 2, .user = &v};
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, other, NULL, &err), RV_OK);
    assert_int_equal(v.steps, 5);
    assert_int_equal(v.previews, 3);
    assert_memory_equal(one, other, BYTES);
    close_fixture(&f);
}

static void cancelling_works_between_and_inside_steps(void **state)
{
    static uint8_t bytes[BYTES];
    rv__picture_request r = simple();
    stopper s = {.stop_after_step = 2, .stop_after_asking = 1 << 30};
    rv_error err;
    fixture f;

    open_fixture(&f, 2);
    r.steps = 4;
    r.hooks = (rv__pipeline_hooks){.step = on_step, .cancelled = on_cancelled, .user = &s};
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, bytes, NULL, &err), RV_CANCELLED);
    assert_int_equal(s.steps, 2);
    for (int after = 1; after < 2000; after = after * 2 + 1) {
        s = (stopper){.stop_after_step = 4, .stop_after_asking = after};
        assert_int_equal(rv__pipeline_run(f.pipeline, &r, bytes, NULL, &err), RV_CANCELLED);
    }
    s = (stopper){.stop_after_step = 1 << 30, .stop_after_asking = 1 << 30};
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, bytes, NULL, &err), RV_OK);
    close_fixture(&f);
}

static void impossible_requests_are_refused(void **state)
{
    static uint8_t bytes[BYTES];
    rv__picture_request r;
    rv_error err;
    fixture f;

    open_fixture(&f, 1);
    r = simple(), r.width = 60;
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, bytes, NULL, &err), RV_VALIDATION);
    assert_string_equal(err.parameter, "width");
    r = simple(), r.height = 0;
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, bytes, NULL, &err), RV_VALIDATION);
    r = simple(), r.height = 1 << 20;
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, bytes, NULL, &err), RV_VALIDATION);
    r = simple(), r.steps = 0;
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, bytes, NULL, &err), RV_VALIDATION);
    r = simple(), r.prompt = "\xff\xfe";
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, bytes, NULL, &err), RV_VALIDATION);
    close_fixture(&f);
}

/* ---- the executor, through the public interface ---- */

/* The identifier that the folder's card got. */
static void read_model_id(rv *r, char *out, size_t size)
{
    char *json = rv_models_json(r);
    const char *at;

    assert_non_null(json);
    at = strstr(json, "\"id\":\"");
    assert_non_null(at);
    at += strlen("\"id\":\"");
    snprintf(out, size, "%.*s", (int)strcspn(at, "\""), at);
    rv_free(json);
}

/* Runs one task with these extra members; its status, and the parameter blamed in *blamed. */
static rv_status run_task(rv *r, const char *model, const char *members, char *blamed, size_t size,
                          size_t *pictures)
{
    char body[1024];
    rv_batch *b;
    rv_job *j = NULL;
    rv_status status = RV_VALIDATION;

    snprintf(
        body, sizeof body,
        "[{\"taskType\":\"imageInference\",\"taskUUID\":\"50836053-a0ee-4cf5-b9d6-ae7c5d140ada\","
        "\"positivePrompt\":\"a red "
        "fox\",\"model\":\"%s\",\"width\":128,\"height\":128,\"steps\":1%s}]",
        model, members);
    b = rv_batch_parse(r, body, strlen(body));
    assert_non_null(b);
    *blamed = '\0';
    *pictures = 0;
    if (rv_batch_issues(b, NULL) == 0) {
        assert_int_equal(rv_submit(r, rv_batch_task(b, 0), NULL, &j), RV_OK);
        assert_int_equal(rv_wait(r, j, 120000), RV_OK);
        status = rv_job_error(j) ? rv_job_error(j)->status : RV_OK;
        for (size_t i = 0; i < rv_job_images(j); i++)
            *pictures += rv_job_image(j, i) != NULL;
        if (rv_job_error(j))
            snprintf(blamed, size, "%s", rv_job_error(j)->parameter);
        if (status == RV_OK) {
            rv_image_info info = rv_image_facts(rv_job_image(j, 0));
            assert_true(info.width == 128 && info.height == 128 && info.channels == 3);
        }
    } else {
        char *json = rv_batch_issues_json(b);
        print_message("%s\n", json);
        rv_free(json);
    }
    rv_job_unref(j);
    rv_batch_unref(b);
    return status;
}

static void the_executor_ignores_nothing(void **state)
{
    static const struct {
        const char *members;
        rv_status status;
        const char *parameter;
        size_t pictures;
    } cases[] = {
        {"", RV_OK, "", 1},
        {",\"seed\":7,\"numberResults\":2,\"CFGScale\":3,\"negativePrompt\":\"rain\"", RV_OK, "",
         2},
        {",\"scheduler\":\"Euler\",\"acceleratorOptions\":{\"teaCache\":false}", RV_OK, "", 1},
        {",\"acceleratorOptions\":{\"teaCache\":true}", RV_OK, "", 1},
        {",\"acceleratorOptions\":{\"fbCache\":true}", RV_OK, "", 1},
        {",\"acceleratorOptions\":{\"dbCache\":true}", RV_OK, "", 1},
        {",\"safety\":{\"checkContent\":true}", RV_UNSUPPORTED, "safety.", 0},
        {",\"safety\":{\"mode\":\"none\"}", RV_OK, "", 1},
        {",\"lora\":[{\"model\":\"civitai:1@1\",\"weight\":1}]", RV_NOT_FOUND, "lora[0].model", 0},
        {",\"lora\":[{\"model\":\"civitai:1@1\",\"transformer\":\"low\"}]", RV_UNSUPPORTED,
         "lora[0].transformer", 0},
    };
    char blamed[128], model[256];
    size_t pictures;
    rv_error err;
    rv *r;

    assert_int_equal(rv_open(&r), RV_OK);
    assert_int_equal(rv_set(r, "model", model_path, &err), RV_OK);
    assert_int_equal(rv_set(r, "threads", "2", &err), RV_OK);
    read_model_id(r, model, sizeof model);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rv_status status = run_task(r, model, cases[i].members, blamed, sizeof blamed, &pictures);

        if (status != cases[i].status ||
            strncmp(blamed, cases[i].parameter, strlen(cases[i].parameter)) != 0)
            fail_msg("%s: status %d, parameter '%s'", cases[i].members, (int)status, blamed);
        assert_int_equal(pictures, cases[i].pictures);
    }
    rv_close(r);
}

/* ---- step caches ---- */

static rv__cache_options reading(const char *options, const char *card, int first, int end)
{
    rv__value *json = rv__json_parse(options, strlen(options), NULL);
    rv__value *own = card ? rv__json_parse(card, strlen(card), NULL) : NULL;
    rv__cache_options out;

    assert_non_null(json);
    rv__cache_read(json, own, first, end, &out);
    rv__json_free(json);
    rv__json_free(own);
    return out;
}

static void thresholds_have_the_request_s_direction(void **state)
{
    static const char card[] = "{\"teaCache\":{\"limit\":2,\"signal\":\"time\","
                               "\"polynomial\":[0,0,0,3,1]},\"dbCache\":{\"limit\":0.5}}";
    rv__cache_options o;

    assert_int_equal(reading("{}", NULL, 0, 9).kind, RV__NO_CACHE);
    assert_int_equal(reading("{\"fbCache\":false}", NULL, 0, 9).kind, RV__NO_CACHE);
    o = reading("{\"teaCache\":true,\"teaCacheDistance\":0.25}", card, 2, 7);
    assert_true(o.kind == RV__TEA_CACHE && o.by_time && o.most == 3 && o.first == 2 && o.end == 7);
    assert_true(fabs(o.limit - 0.5) < 1e-9 && o.polynomial[3] == 3 && o.polynomial[4] == 1);
    /* Off at their careful ends, and outside an empty window. */
    assert_int_equal(reading("{\"teaCache\":true,\"teaCacheDistance\":0}", card, 0, 9).kind,
                     RV__NO_CACHE);
    assert_int_equal(reading("{\"fbCache\":true,\"fbCacheThreshold\":1}", card, 0, 9).kind,
                     RV__NO_CACHE);
    assert_int_equal(reading("{\"dbCache\":true,\"dbCacheThreshold\":1}", card, 0, 9).kind,
                     RV__NO_CACHE);
    assert_int_equal(reading("{\"dbCache\":true}", card, 4, 4).kind, RV__NO_CACHE);
    /* Lower reuses more. */
    assert_true(reading("{\"fbCache\":true,\"fbCacheThreshold\":0.1}", card, 0, 9).limit >
                reading("{\"fbCache\":true,\"fbCacheThreshold\":0.6}", card, 0, 9).limit);
    o = reading("{\"dbCache\":true,\"dbCacheThreshold\":0.5,\"dbCacheSkipInterval\":2,"
                "\"cacheMaxConsecutiveSteps\":5}",
                card, 0, 9);
    assert_true(o.kind == RV__DUAL_BLOCK_CACHE && fabs(o.limit - 0.25) < 1e-9 && o.most == 2);
    o = reading("{\"dbCache\":true,\"cacheMaxConsecutiveSteps\":4}", card, 0, 9);
    assert_int_equal(o.most, 4);
}

/* A signal that does not change is skipped as often in a row as the options say, and never where
 * that is not allowed. */
static void rows_of_skipped_steps_are_bounded(void **state)
{
    rv__cache_options o = {.kind = RV__FIRST_BLOCK_CACHE, .limit = 0.1, .end = 99, .most = 2};
    rv__step_cache c = {0};
    rv_error err;
    int skipped = 0;

    assert_int_equal(rv__step_cache_begin(&c, &o, 2, 4, 8, &err), RV_OK);
    for (int i = 0; i < 10; i++) {
        for (int k = 0; k < 8; k++)
            c.now[k] = 1 + (float)k;
        skipped += rv__step_cache_skips(&c, i != 4);
        c.has_kept = true;
    }
    /* computed: 0, 3, 4 (not allowed), 7 */
    assert_int_equal(skipped, 6);
    /* One row of the batch that changes is enough. */
    for (int k = 0; k < 8; k++)
        c.now[k] = 1 + (float)k;
    assert_false(rv__step_cache_skips(&c, true)); /* two in a row were skipped */
    for (int k = 0; k < 8; k++)
        c.now[k] = k < 4 ? 1 + (float)k : 9;
    assert_false(rv__step_cache_skips(&c, true));
    for (int k = 0; k < 8; k++)
        c.now[k] = NAN;
    assert_false(rv__step_cache_skips(&c, true));
    rv__step_cache_free(&c);
}

static void caches_skip_and_are_exact_when_they_do_not(void **state)
{
    static uint8_t plain[BYTES], cached[BYTES];
    rv__picture_request r = simple();
    rv_error err;
    fixture f;
    int all, skipped;

    r.guidance = 3;
    r.steps = 8;
    open_fixture(&f, 2);
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, plain, NULL, &err), RV_OK);
    rv__pipeline_evaluations(f.pipeline, &all, &skipped);
    assert_true(all == 8 && skipped == 0);
    for (int kind = RV__TEA_CACHE; kind <= RV__DUAL_BLOCK_CACHE; kind++)
        for (int by_time = 0; by_time <= (kind == RV__TEA_CACHE); by_time++) {
            rv__cache_options o = {.kind = kind,
                                   .limit = 1e-12,
                                   .by_time = by_time,
                                   .end = 8,
                                   .most = 3,
                                   .polynomial = {0, 0, 0, 1, 0}};

            /* A limit that nothing keeps: the sections give the very same picture. */
            r.cache = &o;
            assert_int_equal(rv__pipeline_run(f.pipeline, &r, cached, NULL, &err), RV_OK);
            rv__pipeline_evaluations(f.pipeline, &all, &skipped);
            assert_true(all == 8 && skipped == 0);
            assert_memory_equal(plain, cached, BYTES);
            /* One that everything keeps, from step 2 to 7. */
            o.limit = 1e9;
            o.first = 2;
            o.end = 7;
            assert_int_equal(rv__pipeline_run(f.pipeline, &r, cached, NULL, &err), RV_OK);
            rv__pipeline_evaluations(f.pipeline, &all, &skipped);
            assert_true(all == 8 && skipped == 4); /* 2 3 4, not 5, 6 */
            assert_int_not_equal(memcmp(plain, cached, BYTES), 0);
        }
    r.cache = NULL;
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, cached, NULL, &err), RV_OK);
    assert_memory_equal(plain, cached, BYTES);
    close_fixture(&f);
}

/* Models of the generic family take parameters that only other models can serve: those are refused
 * by name, too. */
static void features_of_other_models(void **state)
{
    char path[] = "/tmp/reverie-card-XXXXXX.json", blamed[128];
    size_t pictures;
    rv_error err;
    rv *r;
    int fd = mkstemps(path, 5);

    (void)state;
    assert_true(fd >= 0);
    dprintf(fd,
            "{\"id\":\"local:any@1\",\"name\":\"any\",\"family\":\"generic\",\"executors\":"
            "[{\"name\":\"engine\"}],\"engine\":{\"weights\":\"%s\"}}",
            model_path);
    close(fd);
    assert_int_equal(rv_open(&r), RV_OK);
    assert_int_equal(rv_set(r, "model", path, &err), RV_OK);
    assert_int_equal(
        run_task(r, "local:any@1",
                 ",\"outputFormat\":\"PNG\",\"advancedFeatures\":{\"layerDiffuse\":true}", blamed,
                 sizeof blamed, &pictures),
        RV_UNSUPPORTED);
    assert_string_equal(blamed, "advancedFeatures.layerDiffuse");
    assert_int_equal(run_task(r, "local:any@1",
                              ",\"advancedFeatures\":{\"layerDiffuse\":false},"
                              "\"promptWeighting\":\"compel\",\"negativePrompt\":\"(a)99\"",
                              blamed, sizeof blamed, &pictures),
                     RV_VALIDATION);
    assert_string_equal(blamed, "negativePrompt");
    rv_close(r);
    unlink(path);
}

/* ---- prompts
 * ------------------------------------------------------------------------------------------------
 */

static void long_prompts_say_where_they_are_cut(void **state)
{
    char text[4096] = "";
    rv__picture_request r = simple();
    fixture f;
    char *note;
    size_t least = 1000;

    open_fixture(&f, 1);
    assert_null(rv__pipeline_cut(f.pipeline, &r, false));
    for (int i = 1; i <= 400; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "w%d ", i % 10);
    r.prompt = text;
    r.negative = "rain";
    note = rv__pipeline_cut(f.pipeline, &r, false);
    assert_non_null(note);
    assert_true(strlen(note) < 500);
    assert_non_null(strstr(note, "T5 stops after word "));
    assert_non_null(strstr(note, " of 400"));
    for (const char *at = note; (at = strstr(at, "after word ")); at++) {
        size_t word = (size_t)strtoul(at + strlen("after word "), NULL, 10), letter;

        assert_int_equal(sscanf(at, "after word %*u (\"w%zu\")", &letter), 1);
        assert_int_equal(letter, word % 10);
        least = word < least ? word : least;
    }
    rv__free(note);
    assert_null(rv__pipeline_cut(f.pipeline, &r, true));
    /* What is told to fit does fit. */
    assert_true(least > 0 && least < 400);
    text[3 * least] = '\0';
    assert_null(rv__pipeline_cut(f.pipeline, &r, false));
    memset(text, 'x', 2000);
    text[2000] = '\0';
    note = rv__pipeline_cut(f.pipeline, &r, false);
    assert_non_null(note);
    assert_non_null(strstr(note, "inside word 1"));
    rv__free(note);
    close_fixture(&f);
}

/* The token for no words is the empty prompt, and guidance from nothing to nothing is none. */
static void blank_is_no_prompt(void **state)
{
    static uint8_t one[BYTES], other[BYTES];
    rv__picture_request r = simple();
    rv_error err;
    fixture f;

    open_fixture(&f, 2);
    r.prompt = "";
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, one, NULL, &err), RV_OK);
    r.guidance = 5;
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, other, NULL, &err), RV_OK);
    for (size_t i = 0; i < BYTES; i++)
        assert_true(abs(one[i] - other[i]) <= 1);
    r.prompt = "__BLANK__"; /* four ordinary words to the encoders */
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, other, NULL, &err), RV_OK);
    assert_int_not_equal(memcmp(one, other, BYTES), 0);
    close_fixture(&f);
}

static void get_picture(rv *r, const char *model, const char *prompt, const char *more,
                        uint8_t *out, char *warning, size_t size)
{
    char *body = rv__format(
        "[{\"taskType\":\"imageInference\","
        "\"taskUUID\":\"50836053-a0ee-4cf5-b9d6-ae7c5d140ada\",\"positivePrompt\":\"%s\","
        "\"model\":\"%s\",\"width\":128,\"height\":128,\"steps\":1,\"seed\":3%s}]",
        prompt, model, more);
    rv_batch *b = rv_batch_parse(r, body, strlen(body));
    rv_job *j;

    assert_int_equal(rv_submit(r, rv_batch_task(b, 0), NULL, &j), RV_OK);
    assert_int_equal(rv_wait(r, j, -1), RV_OK);
    assert_int_equal(rv_job_state(j), RV_DONE);
    memcpy(out, rv_image_pixels(rv_job_image(j, 0)), 128 * 128 * 3);
    snprintf(warning, size, "%s", rv_job_warning(j, 0) ? rv_job_warning(j, 0) : "");
    rv_job_unref(j);
    rv_batch_unref(b);
    rv__free(body);
}

static void the_executor_warns(void **state)
{
    static uint8_t one[128 * 128 * 3], other[128 * 128 * 3];
    char model[256], warning[512], prompt[2001];
    rv_error err;
    rv *r;

    assert_int_equal(rv_open(&r), RV_OK);
    assert_int_equal(rv_set(r, "model", model_path, &err), RV_OK);
    read_model_id(r, model, sizeof model);
    for (int i = 0; i < 2000; i++)
        prompt[i] = i % 2 ? ' ' : 'a';
    prompt[2000] = '\0';
    get_picture(r, model, prompt, "", one, warning, sizeof warning);
    assert_int_equal(
        strncmp(warning, "positivePrompt is longer than the model reads: CLIP-L stops", 59), 0);
    get_picture(r, model, "__BLANK__", "", one, warning, sizeof warning);
    assert_string_equal(warning, "");
    get_picture(r, model, "__BLANK__", ",\"CFGScale\":7", other, warning, sizeof warning);
    assert_memory_equal(one, other, sizeof one);
    get_picture(r, model, "__BLANK__", ",\"CFGScale\":7,\"negativePrompt\":\"rain\"", other,
                warning, sizeof warning);
    assert_int_not_equal(memcmp(one, other, sizeof one), 0);
    rv_close(r);
}

/* ---- memory ---- */

static void a_memory_limit_names_the_size_that_fits(void **state)
{
    static uint8_t plain[BYTES], limited[BYTES];
    rv__picture_request r = simple();
    rv_error err = {0};
    fixture f;
    int width = 0, height = 0;
    const char *nearest;

    open_fixture(&f, 2);
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, plain, NULL, &err), RV_OK);
    /* Room enough: parts rest in turn, and the picture is the same. */
    rv__pipeline_memory(f.pipeline, 1e9);
    for (int i = 0; i < 2; i++) {
        memset(limited, 0, BYTES);
        assert_int_equal(rv__pipeline_run(f.pipeline, &r, limited, NULL, &err), RV_OK);
        assert_memory_equal(plain, limited, BYTES);
    }
    /* Too little for this size; a smaller one is named. */
    r.width = r.height = 8 * SIDE;
    uint8_t *large = rv__alloc(64 * BYTES);
    rv__pipeline_memory(f.pipeline, 1.2e7);
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, large, NULL, &err), RV_VALIDATION);
    assert_string_equal(err.parameter, "width");
    nearest = strstr(err.message, "nearest: ");
    if (!nearest || sscanf(nearest, "nearest: %dx%d", &width, &height) != 2)
        fail_msg("%s", err.message);
    assert_true(width > 0 && width < 8 * SIDE && height == width);
    /* Too little for anything. */
    rv__pipeline_memory(f.pipeline, 1000);
    assert_int_equal(rv__pipeline_run(f.pipeline, &r, large, NULL, &err), RV_VALIDATION);
    assert_non_null(strstr(err.message, "any picture"));
    rv__free(large);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_follow_the_reference),
        cmocka_unit_test(pictures_do_not_depend_on_threads_or_history),
        cmocka_unit_test(a_seed_tells_a_whole_lcm_picture),
        cmocka_unit_test(previews_change_nothing),
        cmocka_unit_test(cancelling_works_between_and_inside_steps),
        cmocka_unit_test(impossible_requests_are_refused),
        cmocka_unit_test(the_executor_ignores_nothing),
        cmocka_unit_test(thresholds_have_the_request_s_direction),
        cmocka_unit_test(rows_of_skipped_steps_are_bounded),
        cmocka_unit_test(caches_skip_and_are_exact_when_they_do_not),
        cmocka_unit_test(a_memory_limit_names_the_size_that_fits),
        cmocka_unit_test(features_of_other_models),
        cmocka_unit_test(long_prompts_say_where_they_are_cut),
        cmocka_unit_test(blank_is_no_prompt),
        cmocka_unit_test(the_executor_warns),
    };
    const char *root = getenv("SOURCE_ROOT");

    snprintf(model_path, sizeof model_path, "%s/tests/golden/tiny-hidream", root ? root : ".");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
