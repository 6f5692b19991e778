/* Convolutions and group norms against plain loops in double precision; the autoencoder's
 * configuration and its conversions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "engine/picture_op.h"
#include "engine/vae.h"

static rv__device *device;

static float noise(void)
{
    static uint32_t state = 7;

    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static float *noises(size_t n)
{
    float *x = rv__alloc(n * sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = noise();
    return x;
}

static double at(const float *plane, int w, int h, int x, int y, bool doubled)
{
    if (x < 0 || y < 0 || x >= w << doubled || y >= h << doubled)
        return 0;
    return plane[(y >> doubled) * w + (x >> doubled)];
}

static void check_conv(int w, int h, int in, int out, int k, rv__conv c)
{
    enum { BATCH = 2 };
    rv__graph *g = rv__graph_new(device, 32);
    struct ggml_tensor *x = rv__graph_input(g, GGML_TYPE_F32, w, h, in, BATCH), *y;
    int ow = ((w << c.doubled) + c.before + c.after - k) / c.stride + 1;
    int oh = ((h << c.doubled) + c.before + c.after - k) / c.stride + 1;
    size_t n = (size_t)(ow * oh * out * BATCH);
    float *xf = noises((size_t)(w * h * in * BATCH)), *wf = noises((size_t)(k * k * in * out));
    float *bf = noises((size_t)out), *have = rv__alloc(n * sizeof *have);
    rv_error err;

    c.weight = rv__graph_input(g, GGML_TYPE_F32, k, k, in, out);
    c.bias = rv__graph_input(g, GGML_TYPE_F32, out, 1, 1, 1);
    y = rv__conv2d(g, &c, x);
    assert_non_null(y);
    assert_true(y->ne[0] == ow && y->ne[1] == oh && y->ne[2] == out);
    rv__graph_output(g, y);
    assert_int_equal(rv__graph_build(g, &err), RV_OK);
    rv__graph_set(g, x, xf, ggml_nbytes(x));
    rv__graph_set(g, c.weight, wf, ggml_nbytes(c.weight));
    rv__graph_set(g, c.bias, bf, ggml_nbytes(c.bias));
    for (int i = 0; i < 2; i++)
        assert_int_equal(rv__graph_run(g, NULL, NULL, &err), RV_OK);
    rv__graph_get(g, y, have, ggml_nbytes(y));
    for (size_t i = 0; i < n; i++) {
        int px = (int)i % ow, py = (int)i / ow % oh, o = (int)i / ow / oh % out,
            b = (int)i / ow / oh / out;
        double sum = bf[o];

        for (int ch = 0; ch < in; ch++)
            for (int t = 0; t < k * k; t++)
                sum += wf[(o * in + ch) * k * k + t] *
                       at(xf + (b * in + ch) * w * h, w, h, px * c.stride + t % k - c.before,
                          py * c.stride + t / k - c.before, c.doubled);
        assert_true(fabs(have[i] - sum) < 2e-5);
    }
    rv__graph_free(g);
    rv__free(xf), rv__free(wf), rv__free(bf), rv__free(have);
}

static void convolutions_are_exact(void **state)
{
    const rv__conv same = {.stride = 1, .before = 1, .after = 1},
                   halved = {.stride = 2, .after = 1};
    const rv__conv doubled = {.stride = 1, .before = 1, .after = 1, .doubled = true},
                   plain = {.stride = 1};

    check_conv(17, 9, 5, 3, 3, same);
    check_conv(1, 1, 2, 2, 3, same);
    check_conv(2, 40, 64, 8, 3, same);
    check_conv(50, 40, 3, 4, 3, same); /* several tiles */
    check_conv(16, 10, 4, 6, 3, halved);
    check_conv(9, 7, 4, 6, 3, halved);
    check_conv(7, 5, 6, 4, 3, doubled);
    check_conv(1, 2, 3, 3, 3, doubled);
    check_conv(8, 6, 7, 9, 1, plain);
    check_conv(40, 50, 2, 2, 1, plain);
}

static void group_norms_are_exact(void **state)
{
    enum { W = 37, H = 41, C = 12, GROUPS = 3, BATCH = 2, EACH = W * H * C / GROUPS };

    for (int with_silu = 0; with_silu < 2; with_silu++) {
        rv__graph *g = rv__graph_new(device, 32);
        struct ggml_tensor *x = rv__graph_input(g, GGML_TYPE_F32, W, H, C, BATCH), *y;
        struct ggml_tensor *w = rv__graph_input(g, GGML_TYPE_F32, C, 1, 1, 1);
        struct ggml_tensor *b = rv__graph_input(g, GGML_TYPE_F32, C, 1, 1, 1);
        float *xf = noises(W * H * C * BATCH), *wf = noises(C), *bf = noises(C);
        float *have = rv__alloc(sizeof(float) * W * H * C * BATCH);
        rv_error err;

        for (int i = 0; i < W * H * C * BATCH; i++)
            xf[i] = xf[i] * 3 + 50; /* a mean far from zero */
        y = rv__group_norm(g, x, w, b, GROUPS, 1e-6f, with_silu, NULL);
        rv__graph_output(g, y);
        assert_int_equal(rv__graph_build(g, &err), RV_OK);
        rv__graph_set(g, x, xf, ggml_nbytes(x));
        rv__graph_set(g, w, wf, sizeof(float) * C);
        rv__graph_set(g, b, bf, sizeof(float) * C);
        assert_int_equal(rv__graph_run(g, NULL, NULL, &err), RV_OK);
        rv__graph_get(g, y, have, ggml_nbytes(y));
        for (int s = 0; s < GROUPS * BATCH; s++) {
            double mean = 0, var = 0;

            for (int i = 0; i < EACH; i++)
                mean += xf[s * EACH + i] / (double)EACH;
            for (int i = 0; i < EACH; i++)
                var += (xf[s * EACH + i] - mean) * (xf[s * EACH + i] - mean) / EACH;
            for (int i = 0; i < EACH; i++) {
                int c = (s * EACH + i) / (W * H) % C;
                double v = (xf[s * EACH + i] - mean) / sqrt(var + 1e-6) * wf[c] + bf[c];
                v = with_silu ? v / (1 + exp(-v)) : v;
                assert_true(fabs(have[s * EACH + i] - v) < 2e-5);
            }
        }
        rv__graph_free(g);
        rv__free(xf), rv__free(wf), rv__free(bf), rv__free(have);
    }
}

static void misfits_are_errors(void **state)
{
    rv__graph *g = rv__graph_new(device, 32);
    struct ggml_tensor *x = rv__graph_input(g, GGML_TYPE_F32, 4, 4, 3, 1);
    rv__conv c = {.stride = 1,
                  .weight = rv__graph_input(g, GGML_TYPE_F32, 3, 3, 4, 2),
                  .bias = rv__graph_input(g, GGML_TYPE_F32, 2, 1, 1, 1)};
    rv_error err;

    assert_null(rv__conv2d(g, &c, x));
    assert_int_equal(rv__graph_build(g, &err), RV_INTERNAL);
    rv__graph_free(g);
}

static void bytes_round_half_to_even(void **state)
{
    const float planes[9] = {-2, -1, 0.0f, 1, 1.5f, 0.999f, NAN, INFINITY, -INFINITY};
    uint8_t out[9];

    rv__vae_bytes(planes, 3, 1, 3, out);
    assert_int_equal(out[0], 0); /* red of the first pixel: clamped */
    assert_int_equal(out[3], 0);
    assert_int_equal(out[6], 128); /* 127.5 goes to the even 128 */
    assert_int_equal(out[1], 255);
    assert_int_equal(out[4], 255);
    assert_int_equal(out[7], 255); /* 254.87 */
    assert_int_equal(out[2], 0);
    assert_int_equal(out[5], 255);
    assert_int_equal(out[8], 0);
}

static void scaling_is_undone(void **state)
{
    rv__vae_config c = {.scaling = 0.3611, .shift = 0.1159};
    float x[3] = {-3, 0, 2}, y[3], z[3], m[6] = {1, 2, 3, 0, -100, 40}, one[3] = {1, 1, 1};

    rv__vae_unscale(&c, x, 3, y);
    assert_true(fabs(y[2] - (2 / 0.3611 + 0.1159)) < 1e-6);
    rv__vae_scale(&c, y, 3, z);
    for (int i = 0; i < 3; i++)
        assert_true(fabsf(z[i] - x[i]) < 1e-6f);
    rv__vae_sample(m, one, 3, y);
    assert_true(y[0] == 2 && fabs(y[1] - (2 + exp(-15))) < 1e-6 &&
                fabs(y[2] / (3 + exp(10)) - 1) < 1e-6);
    rv__vae_sample(m, NULL, 3, y);
    assert_true(y[0] == 1 && y[1] == 2 && y[2] == 3);
}

static void impossible_configurations_are_refused(void **state)
{
    static const char *const cases[] = {
        "{}",
        "{\"block_out_channels\":[]}",
        "{\"block_out_channels\":[32],\"norm_num_groups\":0}",
        "{\"block_out_channels\":[33]}",
        "{\"block_out_channels\":[32],\"latent_channels\":0}",
        "{\"block_out_channels\":[32],\"latent_channels\":-4}",
        "{\"block_out_channels\":[32],\"layers_per_block\":99}",
        "{\"block_out_channels\":[32],\"scaling_factor\":0}",
        "{\"block_out_channels\":[32],\"out_channels\":4}",
        "{\"block_out_channels\":[32],\"act_fn\":\"relu\"}",
        "{\"block_out_channels\":[32,32,32,32,32,32,32,32,32]}",
        "{\"block_out_channels\":[-32]}",
        "{\"block_out_channels\":\"32\"}",
    };
    rv__vae_config out;
    rv_error err;
    rv__value *json;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json = rv__json_parse(cases[i], strlen(cases[i]), NULL);
        assert_non_null(json);
        assert_int_not_equal(rv__vae_parse(json, &out, &err), RV_OK);
        rv__json_free(json);
    }
    json = rv__json_parse("{\"block_out_channels\":[32,64]}", 30, NULL);
    assert_int_equal(rv__vae_parse(json, &out, &err), RV_OK);
    assert_int_equal(out.factor, 2);
    rv__json_free(json);
}

static int setup(void **state)
{
    return rv__device_open(3, &device, NULL) == RV_OK ? 0 : -1;
}

static int teardown(void **state)
{
    rv__device_close(device);
    return 0;
}

/* ---- tiles ---- */

static double difference(const uint8_t *a, const uint8_t *b, int64_t width, int64_t height,
                         int64_t column)
{
    double sum = 0;
    int64_t n = 0;

    for (int64_t y = 0; y < height; y++)
        for (int64_t x = column < 0 ? 0 : column; x < (column < 0 ? width : column + 1); x++)
            for (int c = 0; c < 3; c++, n++) {
                double d = (double)a[(y * width + x) * 3 + c] - b[(y * width + x) * 3 + c];

                sum += d * d;
            }
    return sum / (double)n;
}

/* The autoencoder that ships, whole and in tiles: the same picture to far below a level, also in
 * the columns where tiles meet. */
static void tiles_leave_no_seam(void **state)
{
    enum { W = 72, H = 40 };
    static float latents[16 * W * H];
    char path[512];
    rv__weights *w;
    rv__vae *v;
    rv_error err;
    int64_t pw, ph;
    size_t n;

    snprintf(path, sizeof path, "%s/config/models/reverie-demo.gguf",
             getenv("SOURCE_ROOT") ? getenv("SOURCE_ROOT") : ".");
    assert_int_equal(rv__weights_open(path, &w, &err), RV_OK);
    assert_int_equal(rv__vae_open(device, w, &v, &err), RV_OK);
    pw = W * rv__vae_about(v)->factor;
    ph = H * rv__vae_about(v)->factor;
    n = (size_t)(pw * ph * 3);
    /* A bright, smooth half and a rough one: tiles with statistics of their own would differ. */
    for (int c = 0; c < 16; c++)
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++)
                latents[(c * H + y) * W + x] =
                    x < W / 2 ? 0.8f * sinf((float)(c + y) * 0.2f) : 1.2f * noise();
    float *planes = rv__alloc(n * sizeof *planes);
    uint8_t *whole = rv__alloc(n), *tiled = rv__alloc(n);
    assert_int_equal(rv__vae_decode(v, latents, W, H, planes, NULL, NULL, &err), RV_OK);
    rv__vae_bytes(planes, pw, ph, 3, whole);
    rv__vae_limit(v, (size_t)rv__vae_whole_bytes(rv__vae_about(v), 52, 52)); /* three by two */
    memset(planes, 0, n * sizeof *planes);
    assert_int_equal(rv__vae_decode(v, latents, W, H, planes, NULL, NULL, &err), RV_OK);
    rv__vae_bytes(planes, pw, ph, 3, tiled);
    double all = difference(whole, tiled, pw, ph, -1);
    print_message("# tiles: %.1f dB\n", 10 * log10(65025 / all));
    assert_true(all > 0 && 10 * log10(65025 / all) > 40);
    for (int64_t x = 0; x < pw; x++)
        if (difference(whole, tiled, pw, ph, x) > 8 * all + 0.1)
            fail_msg("column %lld is off", (long long)x);
    rv__free(planes), rv__free(whole), rv__free(tiled);
    rv__vae_close(v);
    rv__weights_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_are_exact),
        cmocka_unit_test(group_norms_are_exact),
        cmocka_unit_test(tiles_leave_no_seam),
        cmocka_unit_test(misfits_are_errors),
        cmocka_unit_test(bytes_round_half_to_even),
        cmocka_unit_test(scaling_is_undone),
        cmocka_unit_test(impossible_configurations_are_refused),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
