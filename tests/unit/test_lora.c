/* LoRAs coming and going on one pipeline: what was used before leaves no trace, failures use none,
 * and every lack of memory is told.  What they compute is compared in tests/golden/test_lora.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "engine/lora.h"
#include "engine/pipeline.h"

enum { SIDE = 64, BYTES = SIDE * SIDE * 3, WIDTH = 128, TOKEN = 64 };

static char folder[] = "/tmp/reverie-lora-XXXXXX", good[64], bad[64];
static rv__device *device;
static rv__weights *weights;

/* A LoRA of rank 1 for x_embedder.proj; rows is 128 in the model. */
static void write_lora(const char *path, int rows)
{
    static float data[TOKEN + 2 * WIDTH];
    char header[512];
    int n = snprintf(header, sizeof header,
                     "{\"transformer.x_embedder.proj.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":"
                     "[1,%d],\"data_offsets\":[0,%d]},"
                     "\"transformer.x_embedder.proj.lora_B.weight\":{\"dtype\":\"F32\",\"shape\":"
                     "[%d,1],\"data_offsets\":[%d,%d]}}",
                     TOKEN, 4 * TOKEN, rows, 4 * TOKEN, 4 * (TOKEN + rows));
    while (n % 8)
        header[n++] = ' ';
    for (int i = 0; i < TOKEN + rows; i++)
        data[i] = 0.05f * (float)(i % 7 - 3);
    uint64_t length = (uint64_t)n;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(&length, 8, 1, f);
    fwrite(header, 1, (size_t)n, f);
    fwrite(data, 4, (size_t)(TOKEN + rows), f);
    assert_int_equal(fclose(f), 0);
}

static int open_all(void **state)
{
    char model[512];
    rv_error err;
    (void)state;
    snprintf(model, sizeof model, "%s/tests/golden/tiny-hidream", getenv("SOURCE_ROOT"));
    if (!mkdtemp(folder) || rv__device_open(2, &device, &err) != RV_OK ||
        rv__weights_open(model, &weights, &err) != RV_OK)
        return -1;
    snprintf(good, sizeof good, "%s/good.safetensors", folder);
    snprintf(bad, sizeof bad, "%s/bad.safetensors", folder);
    write_lora(good, WIDTH);
    write_lora(bad, WIDTH / 2);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    rv__weights_close(weights);
    rv__device_close(device);
    return unlink(good) || unlink(bad) || rmdir(folder);
}

static void paint(rv__pipeline *p, uint8_t *out)
{
    rv__picture_request r = {.prompt = "a red fox",
                             .sequence = 16,
                             .steps = 1,
                             .width = SIDE,
                             .height = SIDE,
                             .seed = 5};
    rv_error err;
    assert_int_equal(rv__pipeline_run(p, &r, out, NULL, &err), RV_OK);
}

static void leaves_no_trace(void **state)
{
    static uint8_t plain[BYTES], with[BYTES], out[BYTES];
    rv__lora_use one = {good, 2}, two[] = {{good, 1}, {good, 1}}, none[] = {{good, 1}, {good, -1}},
                 broken[] = {{good, 1}, {bad, 1}};
    rv__pipeline *p;
    rv_error err = {0};
    (void)state;
    assert_int_equal(rv__pipeline_open(device, weights, &p, &err), RV_OK);
    paint(p, plain);
    assert_int_equal(rv__pipeline_loras(p, &one, 1, &err), RV_OK);
    paint(p, with);
    assert_int_not_equal(memcmp(plain, with, BYTES), 0);
    assert_int_equal(rv__pipeline_loras(p, none, 2, &err), RV_OK);
    paint(p, out);
    assert_memory_equal(out, plain, BYTES);
    assert_int_equal(rv__pipeline_loras(p, two, 2, &err), RV_OK);
    paint(p, out);
    assert_memory_equal(out, with, BYTES);
    assert_int_equal(rv__pipeline_loras(p, two, 2, &err), RV_OK); /* nothing changes */
    paint(p, out);
    assert_memory_equal(out, with, BYTES);
    assert_int_equal(rv__pipeline_loras(p, broken, 2, &err), RV_FORMAT);
    assert_non_null(strstr(err.message, "x_embedder.proj.lora_B.weight"));
    paint(p, out);
    assert_memory_equal(out, plain, BYTES);
    assert_int_equal(rv__pipeline_loras(p, &one, 1, &err), RV_OK);
    assert_int_equal(rv__pipeline_loras(p, NULL, 0, &err), RV_OK);
    paint(p, out);
    assert_memory_equal(out, plain, BYTES);
    rv__pipeline_close(p);
}

static void survives_no_memory(void **state)
{
    rv__lora_use one = {good, 1};
    rv__pipeline *p;
    rv_error err = {0};
    (void)state;
    assert_int_equal(rv__pipeline_open(device, weights, &p, &err), RV_OK);
    assert_int_equal(rv__pipeline_load(p, &err), RV_OK);
    for (long n = 1;; n++) {
        rv__alloc_fail_after(n);
        rv_status status = rv__pipeline_loras(p, &one, 1, &err);
        rv__alloc_fail_after(0);
        assert_true(status == RV_OK || status == RV_MEMORY);
        if (status == RV_OK)
            break;
    }
    rv__pipeline_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_no_trace),
        cmocka_unit_test(survives_no_memory),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
