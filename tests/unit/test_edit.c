/* Pictures made from pictures, through the public interface on the small model of tests/golden: what
 * must stay stays to the byte, what a seed tells is told again, and errors name the parameter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "http_fixture.h"

#include "base/base64.h"
#include "base/memory.h"
#include "engine/edit_seam.h"
#include "engine/weights_write.h"
#include "image/raster.h"
#include "reverie.h"

enum { SIDE = 128 };

static rv *context;
static char model[256];

static char folder[512], quantised[] = "/tmp/reverie-edit-XXXXXX.gguf";

static void open_model(const char *path)
{
    rv_error err;
    assert_int_equal(rv_open(&context), RV_OK);
    assert_int_equal(rv_set(context, "model", path, &err), RV_OK);
    assert_int_equal(rv_set(context, "threads", "2", &err), RV_OK);
    assert_int_equal(rv_set(context, "fetch_allow", "127.0.0.1", &err), RV_OK);
    assert_int_equal(rv_set(context, "fetch_ports", "*", &err), RV_OK);
    char *json = rv_models_json(context);
    const char *at = strstr(json, "\"id\":\"") + 6;
    snprintf(model, sizeof model, "%.*s", (int)strcspn(at, "\""), at);
    rv_free(json);
}

static int open_context(void **state)
{
    open_model(folder);
    return 0;
}

static void no_note(void *user, const char *part, const rv__tensor *t, enum ggml_type to, size_t n)
{
}

/* The same model in four bits, from the first test on that wants it. */
static int open_quantised(void **state)
{
    rv_close(context);
    rv__weights *w;
    rv_error err;
    int fd = mkstemps(quantised, 5);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(rv__weights_open(folder, &w, &err), RV_OK);
    assert_int_equal(rv__weights_write(w, quantised, GGML_TYPE_Q4_0, 1, no_note, NULL, &err), RV_OK);
    rv__weights_close(w);
    open_model(quantised);
    return 0;
}

static int close_context(void **state)
{
    rv_close(context);
    unlink(quantised);
    return 0;
}

/* ---- pictures ---- */

/* Waves of colour; black and white by columns for masks: white from column `from` to `to`. */
static rv__raster waves(int w, int h)
{
    rv__raster r;
    rv_error err;
    assert_int_equal(rv__raster_make(w, h, 3, &r, &err), RV_OK);
    for (int i = 0; i < w * h; i++) {
        r.pixels[3 * i] = (uint8_t)(i % w * 255 / w);
        r.pixels[3 * i + 1] = (uint8_t)(i / w * 255 / h);
        r.pixels[3 * i + 2] = (uint8_t)(i * 7);
    }
    return r;
}

static rv__raster stripe(int w, int h, int from, int to)
{
    rv__raster r;
    rv_error err;
    assert_int_equal(rv__raster_make(w, h, 3, &r, &err), RV_OK);
    for (int i = 0; i < w * h; i++)
        memset(r.pixels + 3 * i, i % w >= from && i % w < to ? 255 : 0, 3);
    return r;
}

/* The picture as the text of a lossless file; freed with it. */
static char *text_of(rv__raster r)
{
    rv_image *image = NULL;
    void *bytes = NULL;
    size_t len = 0;
    rv_error err;
    assert_int_equal(rv_image_from_pixels(r.pixels, r.width, r.height, r.channels, &image), RV_OK);
    assert_int_equal(rv_image_encode(image, "PNG", 95, &bytes, &len, &err), RV_OK);
    size_t size = rv__base64_size(len);
    char *text = malloc(size + 1);
    rv__base64_encode(bytes, len, text);
    text[size] = '\0';
    rv_free(bytes);
    rv_image_unref(image);
    rv__raster_free(&r);
    return text;
}

/* ---- tasks ---- */

/* Runs a task; its picture (width * 128 * 3 bytes, free), or NULL and what went wrong in *why. */
static uint8_t *run(int width, int seed, const char *members, rv_error *why)
{
    char *body = NULL;
    uint8_t *pixels = NULL;
    rv_job *j = NULL;
    assert_true(
        asprintf(&body,
                 "[{\"taskType\":\"imageInference\","
                 "\"taskUUID\":\"50836053-a0ee-4cf5-b9d6-ae7c5d140ada\",\"positivePrompt\":\"a red "
                 "fox\",\"model\":\"%s\",\"width\":%d,\"height\":%d,\"steps\":3,\"seed\":%d%s}]",
                 model, width, SIDE, seed, members) > 0);
    rv_batch *b = rv_batch_parse(context, body, strlen(body));
    const rv_issue *issue;
    if (rv_batch_issues(b, &issue))
        fail_msg("%s", issue->message);
    assert_int_equal(rv_submit(context, rv_batch_task(b, 0), NULL, &j), RV_OK);
    assert_int_equal(rv_wait(context, j, -1), RV_OK);
    if (rv_job_state(j) == RV_DONE) {
        rv_image *image = rv_job_image(j, 0);
        rv_image_info info = rv_image_facts(image);
        assert_true(info.width == width && info.height == SIDE && info.channels == 3);
        size_t size = (size_t)(width * SIDE * 3);
        pixels = malloc(size);
        memcpy(pixels, rv_image_pixels(image), size);
        char *recipe = rv_image_recipe(image);
        assert_true(recipe && strlen(recipe) < 2000 && !strstr(recipe, "Image\""));
        rv_free(recipe);
    } else {
        *why = *rv_job_error(j);
    }
    rv_job_unref(j);
    rv_batch_unref(b);
    free(body);
    return pixels;
}

/* The same with input pictures (taken over; NULL: none). */
static uint8_t *run_with(int width, int seed, char *seed_image, char *mask_image, const char *more)
{
    char *members = NULL;
    rv_error why = {0};
    assert_true(asprintf(&members, ",\"seedImage\":\"%s\"%s%s%s%s", seed_image,
                         mask_image ? ",\"maskImage\":\"data:image/png;base64," : "",
                         mask_image ? mask_image : "", mask_image ? "\"" : "", more) > 0);
    uint8_t *pixels = run(width, seed, members, &why);
    if (!pixels)
        fail_msg("%s: %s", why.parameter, why.message);
    free(members);
    free(seed_image);
    free(mask_image);
    return pixels;
}

/* Whether columns [from, to) of two pictures of a width are the same. */
static bool same_columns(const uint8_t *a, const uint8_t *b, int width, int from, int to)
{
    for (int y = 0; y < SIDE; y++) {
        size_t at = (size_t)(y * width + from) * 3;
        if (memcmp(a + at, b + at, (size_t)(to - from) * 3) != 0)
            return false;
    }
    return true;
}

static void strength_0_returns_the_picture(void **state)
{
    rv__raster in = waves(SIDE, SIDE), large = waves(200, 77), small;
    rv_error err;
    uint8_t *out = run_with(SIDE, 1, text_of(waves(SIDE, SIDE)), NULL, ",\"strength\":0");
    assert_memory_equal(out, in.pixels, SIDE * SIDE * 3);
    free(out);
    assert_int_equal(rv__raster_resize(&large, SIDE, SIDE, &small, &err), RV_OK);
    out = run_with(SIDE, 1, text_of(waves(200, 77)), NULL, ",\"strength\":0");
    assert_memory_equal(out, small.pixels, SIDE * SIDE * 3);
    free(out);
    rv__raster_free(&in), rv__raster_free(&large), rv__raster_free(&small);
}

/* Euler begins with nothing but noise; less strength is nearer to the start picture. */
static void strength_1_forgets_the_picture(void **state)
{
    const char *more[] = {",\"strength\":1,\"scheduler\":\"Euler\"",
                          ",\"strength\":0.34,\"scheduler\":\"Euler\""};
    rv_error why = {0};
    uint8_t *words = run(SIDE, 3, ",\"scheduler\":\"Euler\"", &why);
    uint8_t *full = run_with(SIDE, 3, text_of(waves(SIDE, SIDE)), NULL, more[0]);
    uint8_t *little = run_with(SIDE, 3, text_of(waves(SIDE, SIDE)), NULL, more[1]);
    uint8_t *again = run_with(SIDE, 3, text_of(waves(SIDE, SIDE)), NULL, more[1]);
    uint8_t *other = run_with(SIDE, 4, text_of(waves(SIDE, SIDE)), NULL, more[1]);
    assert_non_null(words);
    assert_memory_equal(words, full, SIDE * SIDE * 3);
    assert_memory_equal(little, again, SIDE * SIDE * 3);
    assert_int_not_equal(memcmp(little, full, SIDE * SIDE * 3), 0);
    assert_int_not_equal(memcmp(little, other, SIDE * SIDE * 3), 0);
    free(words), free(full), free(little), free(again), free(other);
}

static void a_black_mask_returns_the_picture(void **state)
{
    rv__raster in = waves(SIDE, SIDE);
    uint8_t *out = run_with(SIDE, 1, text_of(waves(SIDE, SIDE)), text_of(stripe(64, 64, 0, 0)), "");
    assert_memory_equal(out, in.pixels, SIDE * SIDE * 3);
    free(out);
    rv__raster_free(&in);
}

/* With every kind of sampler: one call per step, two calls, memory, fresh noise. */
static void only_what_is_masked_changes(void **state)
{
    static const char *const more[] = {"", ",\"maskMargin\":32", ",\"scheduler\":\"Heun\"",
                                       ",\"scheduler\":\"LCM\"", ",\"scheduler\":\"DPM++ 2M\"",
                                       ",\"strength\":1,\"scheduler\":\"Euler\",\"CFGScale\":2"};
    rv__raster in = waves(SIDE, SIDE);
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        uint8_t *out[3];
        for (int k = 0; k < 3; k++)
            out[k] = run_with(SIDE, 7 + k / 2, text_of(waves(SIDE, SIDE)),
                              text_of(stripe(SIDE, SIDE, 90, 101)), more[i]);
        assert_true(same_columns(out[0], in.pixels, SIDE, 0, 90));
        assert_true(same_columns(out[0], in.pixels, SIDE, 101, SIDE));
        assert_false(same_columns(out[0], in.pixels, SIDE, 90, 101));
        assert_memory_equal(out[0], out[1], SIDE * SIDE * 3);
        assert_false(same_columns(out[0], out[2], SIDE, 90, 101));
        free(out[0]), free(out[1]), free(out[2]);
    }
    rv__raster_free(&in);
}

static void outpainting_keeps_the_old_part(void **state)
{
    enum { WIDE = SIDE + 64 };
    rv__raster in = waves(SIDE, SIDE);
    for (int blur = 0; blur <= 16; blur += 16) {
        char more[128];
        snprintf(more, sizeof more, ",\"outpaint\":{\"left\":64,\"blur\":%d}", blur);
        uint8_t *out = run_with(WIDE, 5, text_of(waves(SIDE, SIDE)), NULL, more);
        for (int y = 0; y < SIDE; y++)
            assert_memory_equal(out + (y * WIDE + 64 + blur) * 3,
                                in.pixels + (y * SIDE + blur) * 3, (size_t)(SIDE - blur) * 3);
        bool is_soft = memcmp(out + 64 * 3, in.pixels, 3) != 0 ||
                       memcmp(out + (SIDE / 2 * WIDE + 64) * 3, in.pixels + SIDE / 2 * SIDE * 3, 3);
        assert_int_equal(is_soft, blur > 0);
        free(out);
    }
    rv__raster_free(&in);
}

/* By URL they give the same result as inside the request. */
static void pictures_by_url(void **state)
{
    static char answers[2][1 << 16];
    route routes[] = {{"/seed", answers[0]}, {"/mask", answers[1]}, {NULL}};
    char *texts[2] = {text_of(waves(SIDE, SIDE)), text_of(stripe(SIDE, SIDE, 90, 101))};
    for (int i = 0; i < 2; i++) {
        static uint8_t file[1 << 16];
        size_t len = 0;
        assert_true(strlen(texts[i]) < 60000);
        assert_true(rv__base64_decode(texts[i], strlen(texts[i]), file, &len));
        int n = snprintf(answers[i], 200, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len);
        memcpy(answers[i] + n, file, len);
        routes[i].len = (size_t)n + len;
    }
    server s;
    char *urls[2];
    server_start(&s, routes);
    for (int i = 0; i < 2; i++)
        assert_true(asprintf(&urls[i], "http://127.0.0.1:%d%s?key=x", s.port, routes[i].path) > 0);
    char *named = NULL;
    rv_error why = {0};
    assert_true(asprintf(&named, ",\"seedImage\":\"%s\",\"maskImage\":\"%s\"", urls[0], urls[1]) > 0);
    uint8_t *inside = run_with(SIDE, 7, texts[0], texts[1], "");
    uint8_t *fetched = run(SIDE, 7, named, &why);
    if (!fetched)
        fail_msg("%s", why.message);
    assert_memory_equal(inside, fetched, SIDE * SIDE * 3);
    assert_int_equal(atomic_load(&s.requests), 2);
    free(inside), free(fetched), free(named), free(urls[0]), free(urls[1]);
    server_stop(&s);
}

/* ---- seams ---- */

/* How far two pictures are apart in a column, on the mean. */
static double column_distance(const uint8_t *a, const uint8_t *b, int width, int column)
{
    double sum = 0;
    for (int y = 0; y < SIDE; y++)
        for (int c = 0; c < 3; c++)
            sum += abs(a[(y * width + column) * 3 + c] - b[(y * width + column) * 3 + c]);
    return sum / (3 * SIDE);
}

/* What is painted begins at the edge with the colours that stay there, but for the grain that a model
 * of random weights paints. */
static void masks_leave_no_seam(void **state)
{
    static const char *const more[] = {"", ",\"maskMargin\":32", ",\"strength\":1"};
    rv__raster in = waves(SIDE, SIDE);
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        uint8_t *out = run_with(SIDE, 7, text_of(waves(SIDE, SIDE)),
                                text_of(stripe(SIDE, SIDE, 30, 100)), more[i]);
        double inside = column_distance(out, in.pixels, SIDE, 65);
        for (int edge = 30; edge <= 99; edge += 69) {
            double there = column_distance(out, in.pixels, SIDE, edge);
            if (!(inside > 10 && there > 0 && there < 0.8 * inside))
                fail_msg("row %zu: %f at column %d, %f inside", i, there, edge, inside);
        }
        free(out);
    }
    rv__raster_free(&in);
}

/* A constant difference fades from the edge on; kept pixels, and those far away, stay. */
static void seams_fade(void **state)
{
    enum { WIDE = 160, REACH = 6 };
    rv__raster made = waves(WIDE, SIDE), kept = waves(WIDE, SIDE), was = waves(WIDE, SIDE), mask;
    rv_error err;
    assert_int_equal(rv__raster_make(WIDE, SIDE, 1, &mask, &err), RV_OK);
    for (int i = 0; i < WIDE * SIDE; i++) {
        mask.pixels[i] = i % WIDE < 20 ? 0 : 255;
        for (int c = 0; c < 3; c++) {
            kept.pixels[3 * i + c] = (uint8_t)(60 + was.pixels[3 * i + c] / 2);
            was.pixels[3 * i + c] = made.pixels[3 * i + c] =
                (uint8_t)(20 + was.pixels[3 * i + c] / 2);
        }
    }
    assert_int_equal(rv__edit_seam(&made, &kept, &mask, REACH, &err), RV_OK);
    double before = 41;
    for (int x = 20; x < WIDE; x++) {
        double moved = column_distance(made.pixels, was.pixels, WIDE, x);
        assert_true(moved <= before + 0.5);
        before = moved;
        if (x == 20)
            assert_true(moved > 30);
        if (x == 20 + REACH)
            assert_true(moved > 5 && moved < 25);
        if (x > 20 + 8 * REACH)
            assert_true(moved < 1);
    }
    for (int x = 0; x < 20; x++)
        assert_true(column_distance(made.pixels, was.pixels, WIDE, x) == 0);
    for (long n = 1; n <= 3; n++) {
        rv__alloc_fail_after(n);
        rv_status status = rv__edit_seam(&made, &kept, &mask, REACH, &err);
        rv__alloc_fail_after(0);
        assert_int_equal(status, RV_MEMORY);
    }
    rv__raster_free(&made), rv__raster_free(&kept), rv__raster_free(&was), rv__raster_free(&mask);
}

static void bad_pictures_name_their_parameter(void **state)
{
    static const struct {
        const char *members;
        rv_status status;
        const char *parameter;
    } rows[] = {
        {",\"seedImage\":\"50836053-a0ee-4cf5-b9d6-ae7c5d140ada\"", RV_UNSUPPORTED, "seedImage"},
        {",\"seedImage\":\"iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB\"", RV_VALIDATION, "seedImage"},
        {",\"seedImage\":\"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMB"
         "AQDJ/pLvAAAAAElFTkSuQmCC\",\"maskImage\":\"/9j/4AAQSkZJRgABAQAAAQABAAD/\"",
         RV_VALIDATION, "maskImage"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv_error why = {0};
        assert_null(run(SIDE, 1, rows[i].members, &why));
        if (why.status != rows[i].status || strcmp(why.parameter, rows[i].parameter) != 0)
            fail_msg("%s: %d %s %s", rows[i].members, why.status, why.parameter, why.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strength_0_returns_the_picture),
        cmocka_unit_test(strength_1_forgets_the_picture),
        cmocka_unit_test(a_black_mask_returns_the_picture),
        cmocka_unit_test(only_what_is_masked_changes),
        cmocka_unit_test(outpainting_keeps_the_old_part),
        cmocka_unit_test(pictures_by_url),
        cmocka_unit_test(masks_leave_no_seam),
        cmocka_unit_test(seams_fade),
        cmocka_unit_test(bad_pictures_name_their_parameter),
        {"quantised: strength 0", strength_0_returns_the_picture, open_quantised, NULL, NULL},
        {"quantised: strength 1", strength_1_forgets_the_picture, NULL, NULL, NULL},
        {"quantised: a black mask", a_black_mask_returns_the_picture, NULL, NULL, NULL},
        {"quantised: a mask", only_what_is_masked_changes, NULL, NULL, NULL},
        {"quantised: outpaint", outpainting_keeps_the_old_part, NULL, NULL, NULL},
    };
    const char *root = getenv("SOURCE_ROOT");
    snprintf(folder, sizeof folder, "%s/tests/golden/tiny-hidream", root ? root : ".");
    return cmocka_run_group_tests(tests, open_context, close_context);
}
