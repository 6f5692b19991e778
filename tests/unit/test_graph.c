/* Layers of common/engine/graph.h against straightforward double-precision loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "engine/graph_op.h"

static rv__device *device;

static uint32_t noise_state = 1;

static float noise(void)
{
    noise_state = noise_state * 1664525u + 1013904223u;
    return (float)(noise_state >> 8) / 8388608.0f - 1.0f;
}

static float *noises(size_t n)
{
    float *x = rv__alloc(n * sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = noise();
    return x;
}

/* Largest difference relative to the largest expected value. */
static void assert_near(const float *have, const double *want, size_t n, double tolerance)
{
    double most = 0, off = 0;

    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs(want[i]));
        off = fmax(off, fabs(have[i] - want[i]));
        assert_true(isfinite(have[i]));
    }
    if (off > tolerance * most)
        fail_msg("off by %g of %g", off, most);
}

static void run(rv__graph *g, struct ggml_tensor *y)
{
    rv_error err;

    assert_non_null(y);
    rv__graph_output(g, y);
    assert_int_equal(rv__graph_build(g, &err), RV_OK);
}

static struct ggml_tensor *input(rv__graph *g, int64_t a, int64_t b, int64_t c)
{
    return rv__graph_input(g, GGML_TYPE_F32, a, b, c, 1);
}

static void compute(rv__graph *g, struct ggml_tensor *y, float *out)
{
    rv_error err;

    /* Twice: the second run must find every counter rewound. */
    for (int i = 0; i < 2; i++)
        assert_int_equal(rv__graph_run(g, NULL, NULL, &err), RV_OK);
    rv__graph_get(g, y, out, ggml_nbytes(y));
}

static void check_linear(enum ggml_type type, int64_t in, int64_t out, int64_t rows, bool with_bias)
{
    rv__graph *g = rv__graph_new(device, 32);
    struct ggml_tensor *w = rv__graph_input(g, type, in, out, 1, 1), *x = input(g, in, rows, 1);
    struct ggml_tensor *b = with_bias ? input(g, out, 1, 1) : NULL, *y = rv__linear(g, w, b, x);
    float *wf = noises(in * out), *xf = noises(in * rows), *bf = noises(out);
    float *have = rv__alloc(out * rows * sizeof *have);
    double *want = rv__alloc(out * rows * sizeof *want);
    void *packed = rv__alloc(ggml_row_size(type, in) * out);

    if (type == GGML_TYPE_F32)
        memcpy(packed, wf, in * out * sizeof *wf);
    else {
        ggml_quantize_chunk(type, wf, packed, 0, out, in, NULL);
        ggml_get_type_traits(type)->to_float(packed, wf, in * out);
    }
    run(g, y);
    rv__graph_set(g, w, packed, ggml_nbytes(w));
    rv__graph_set(g, x, xf, ggml_nbytes(x));
    if (b)
        rv__graph_set(g, b, bf, ggml_nbytes(b));
    compute(g, y, have);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++) {
            double sum = with_bias ? bf[o] : 0;
            for (int64_t i = 0; i < in; i++)
                sum += (double)wf[o * in + i] * xf[r * in + i];
            want[r * out + o] = sum;
        }
    assert_near(have, want, out * rows, 2e-6);
    rv__graph_free(g);
    rv__free(wf), rv__free(xf), rv__free(bf), rv__free(have), rv__free(want), rv__free(packed);
}

static void linear_is_exact_for_every_weight_type(void **state)
{
    const enum ggml_type types[] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0,
                                    GGML_TYPE_Q4_0};

    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        check_linear(types[i], 64, 48, 1, true);
        check_linear(types[i], 96, 700, 3, false);
        check_linear(types[i], 256, 130, 613, true);
    }
    check_linear(GGML_TYPE_Q4_K, 256, 100, 40, true);
    check_linear(GGML_TYPE_F32, 1, 1, 1, false);
    check_linear(GGML_TYPE_F32, 7, 1100, 1100, false);
}

/* Batches that lie apart, as a view of some tokens does. */
static void linear_reads_views(void **state)
{
    enum { IN = 32, OUT = 20, ALL = 9, FIRST = 2, COUNT = 5, BATCH = 3 };
    rv__graph *g = rv__graph_new(device, 32);
    struct ggml_tensor *w = input(g, IN, OUT, 1), *x = input(g, IN, ALL, BATCH);
    struct ggml_tensor *y = rv__linear(g, w, NULL, rv__tokens(g, x, FIRST, COUNT));
    float *wf = noises(IN * OUT), *xf = noises(IN * ALL * BATCH), have[OUT * COUNT * BATCH];
    double want[OUT * COUNT * BATCH];

    run(g, y);
    rv__graph_set(g, w, wf, ggml_nbytes(w));
    rv__graph_set(g, x, xf, ggml_nbytes(x));
    compute(g, y, have);
    for (int b = 0; b < BATCH; b++)
        for (int r = 0; r < COUNT; r++)
            for (int o = 0; o < OUT; o++) {
                double sum = 0;
                for (int i = 0; i < IN; i++)
                    sum += (double)wf[o * IN + i] * xf[(b * ALL + FIRST + r) * IN + i];
                want[(b * COUNT + r) * OUT + o] = sum;
            }
    assert_near(have, want, OUT * COUNT * BATCH, 1e-6);
    rv__graph_free(g);
    rv__free(wf), rv__free(xf);
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static void groups_use_their_own_weight(void **state)
{
    enum { IN = 32, OUT = 150, ROWS = 400, GROUPS = 3 };
    const int32_t offsets[GROUPS + 1] = {0, 130, 130, ROWS}; /* the second group is empty */
    rv__graph *g = rv__graph_new(device, 32);
    struct ggml_tensor *w[GROUPS], *gate[GROUPS], *x = input(g, IN, ROWS, 1);
    struct ggml_tensor *at = rv__graph_input(g, GGML_TYPE_I32, GROUPS + 1, 1, 1, 1), *y;
    float *wf = noises(2 * GROUPS * IN * OUT), *xf = noises(IN * ROWS);
    float *have = rv__alloc(OUT * ROWS * sizeof *have);
    double *want = rv__alloc(OUT * ROWS * sizeof *want);

    for (int i = 0; i < GROUPS; i++) {
        w[i] = input(g, IN, OUT, 1);
        gate[i] = input(g, IN, OUT, 1);
        rv__graph_output(
            g, rv__add(g, w[i], gate[i])); /* weights are no sources of the product: keep them */
    }
    y = rv__grouped_linear(g, w, gate, GROUPS, x, at);
    run(g, y);
    for (int i = 0; i < GROUPS; i++) {
        rv__graph_set(g, w[i], wf + 2 * i * IN * OUT, ggml_nbytes(w[i]));
        rv__graph_set(g, gate[i], wf + (2 * i + 1) * IN * OUT, ggml_nbytes(gate[i]));
    }
    rv__graph_set(g, x, xf, ggml_nbytes(x));
    rv__graph_set(g, at, offsets, sizeof offsets);
    compute(g, y, have);
    for (int r = 0; r < ROWS; r++)
        for (int o = 0; o < OUT; o++) {
            const float *a = wf + 2 * (r < 130 ? 0 : 2) * IN * OUT + o * IN, *b = a + IN * OUT;
            double up = 0, by = 0;
            for (int i = 0; i < IN; i++)
                up += (double)a[i] * xf[r * IN + i], by += (double)b[i] * xf[r * IN + i];
            want[r * OUT + o] = up * silu(by);
        }
    assert_near(have, want, OUT * ROWS, 1e-6);
    rv__graph_free(g);
    rv__free(wf), rv__free(xf), rv__free(have), rv__free(want);
}

static void check_attention(int head, int heads, int kv_heads, int nq, int nk, int mask_rows,
                            int mask_heads)
{
    enum { BATCH = 2 };
    rv__graph *g = rv__graph_new(device, 32);
    int d = head * heads, dk = head * kv_heads;
    struct ggml_tensor *q = input(g, d, nq, BATCH), *k = input(g, dk, nk, BATCH),
                       *v = input(g, dk, nk, BATCH);
    struct ggml_tensor *m = mask_rows ? input(g, nk, mask_rows, mask_heads) : NULL;
    struct ggml_tensor *y = rv__attention(g, q, k, v, m, heads, kv_heads, 0.7f);
    float *qf = noises(d * nq * BATCH), *kf = noises(dk * nk * BATCH),
          *vf = noises(dk * nk * BATCH);
    float *mf = noises(nk * (mask_rows + 1) * (mask_heads + 1)),
          *have = rv__alloc(d * nq * BATCH * sizeof *have);
    double *want = rv__alloc(d * nq * BATCH * sizeof *want), *p = rv__alloc(nk * sizeof *p);

    for (int i = 0; i < nk * mask_rows * mask_heads; i++)
        mf[i] = i % nk > 0 && i % 5 == 0 ? -INFINITY : 3 * mf[i];
    run(g, y);
    rv__graph_set(g, q, qf, ggml_nbytes(q));
    rv__graph_set(g, k, kf, ggml_nbytes(k));
    rv__graph_set(g, v, vf, ggml_nbytes(v));
    if (m)
        rv__graph_set(g, m, mf, ggml_nbytes(m));
    compute(g, y, have);
    for (int b = 0; b < BATCH; b++)
        for (int h = 0; h < heads; h++)
            for (int r = 0; r < nq; r++) {
                int kv = h * kv_heads / heads;
                double sum = 0, most = -INFINITY;
                for (int c = 0; c < nk; c++) {
                    double s = 0;
                    for (int i = 0; i < head; i++)
                        s += (double)qf[(b * nq + r) * d + h * head + i] *
                             kf[(b * nk + c) * dk + kv * head + i];
                    p[c] = s * 0.7;
                    if (m)
                        p[c] +=
                            mf[((mask_heads > 1 ? h : 0) * mask_rows + (mask_rows > 1 ? r : 0)) *
                                   nk +
                               c];
                    most = fmax(most, p[c]);
                }
                for (int c = 0; c < nk; c++)
                    sum += p[c] = exp(p[c] - most);
                for (int i = 0; i < head; i++) {
                    double o = 0;
                    for (int c = 0; c < nk; c++)
                        o += p[c] / sum * vf[(b * nk + c) * dk + kv * head + i];
                    want[(b * nq + r) * d + h * head + i] = o;
                }
            }
    assert_near(have, want, d * nq * BATCH, 3e-6);
    rv__graph_free(g);
    rv__free(qf), rv__free(kf), rv__free(vf), rv__free(mf), rv__free(have), rv__free(want),
        rv__free(p);
}

static void attention_is_exact(void **state)
{
    check_attention(32, 4, 4, 150, 150, 0, 0);
    check_attention(16, 4, 2, 37, 61, 37, 1);
    check_attention(16, 4, 1, 33, 33, 33, 4);
    check_attention(24, 3, 3, 300, 20, 1, 1);
    check_attention(8, 1, 1, 1, 1, 0, 0);
}

static void norms_and_rotation_are_exact(void **state)
{
    enum { N = 75, ROWS = 11, HEADS = 5, HEAD = 15, PAIRS = 6 };
    float *xf = noises(N * ROWS), *wf = noises(N), *bf = noises(N), *cf = noises(PAIRS * ROWS),
          *sf = noises(PAIRS * ROWS);
    float have[4][N * ROWS];
    double want[4][N * ROWS];
    rv__graph *g = rv__graph_new(device, 64);
    struct ggml_tensor *x = input(g, N, ROWS, 1), *w = input(g, N, 1, 1), *b = input(g, N, 1, 1);
    struct ggml_tensor *c = input(g, PAIRS, ROWS, 1), *s = input(g, PAIRS, ROWS, 1), *y[4];

    y[0] = rv__layer_norm(g, x, w, b, 1e-5f);
    y[1] = rv__rms_norm(g, x, w, 1e-6f);
    y[2] = rv__rope(g, x, HEADS, c, s, true);
    y[3] = rv__rope(g, x, HEADS, c, s, false);
    for (int i = 0; i < 3; i++)
        rv__graph_output(g, y[i]);
    run(g, y[3]);
    rv__graph_set(g, x, xf, ggml_nbytes(x)), rv__graph_set(g, w, wf, ggml_nbytes(w));
    rv__graph_set(g, b, bf, ggml_nbytes(b)), rv__graph_set(g, c, cf, ggml_nbytes(c));
    rv__graph_set(g, s, sf, ggml_nbytes(s));
    for (int i = 0; i < 4; i++)
        compute(g, y[i], have[i]);
    for (int r = 0; r < ROWS; r++) {
        const float *row = xf + r * N;
        double mean = 0, var = 0, square = 0;
        for (int i = 0; i < N; i++)
            mean += row[i] / (double)N, square += (double)row[i] * row[i] / N;
        for (int i = 0; i < N; i++)
            var += (row[i] - mean) * (row[i] - mean) / N;
        for (int i = 0; i < N; i++) {
            want[0][r * N + i] = (row[i] - mean) / sqrt(var + 1e-5) * wf[i] + bf[i];
            want[1][r * N + i] = row[i] / sqrt(square + 1e-6) * wf[i];
            want[2][r * N + i] = want[3][r * N + i] = row[i];
        }
        for (int h = 0; h < N; h += HEAD)
            for (int p = 0; p < PAIRS; p++) {
                double co = cf[r * PAIRS + p], si = sf[r * PAIRS + p];
                for (int form = 0; form < 2; form++) {
                    int i = h + (form ? p : 2 * p), j = form ? i + HEAD / 2 : i + 1;
                    want[2 + form][r * N + i] = co * row[i] - si * row[j];
                    want[2 + form][r * N + j] = si * row[i] + co * row[j];
                }
            }
    }
    for (int i = 0; i < 4; i++)
        assert_near(have[i], want[i], N * ROWS, 1e-6);
    rv__graph_free(g);
    rv__free(xf), rv__free(wf), rv__free(bf), rv__free(cf), rv__free(sf);
}

static void activations_are_exact(void **state)
{
    enum { N = 4001 };
    static float have[N], xf[N];
    static double want[N];

    for (int kind = RV__SILU; kind <= RV__GELU_QUICK; kind++) {
        rv__graph *g = rv__graph_new(device, 16);
        struct ggml_tensor *x = input(g, N, 1, 1), *y = rv__activate(g, x, kind);

        run(g, y);
        for (int i = 0; i < N; i++) {
            double v = xf[i] = (float)(i - N / 2) / 40;
            want[i] = kind == RV__SILU       ? silu(v)
                      : kind == RV__GELU_ERF ? v / 2 * erfc(-v * sqrt(0.5))
                      : kind == RV__GELU_TANH
                          ? v / 2 * (1 + tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)))
                          : v / (1 + exp(-1.702 * v));
        }
        rv__graph_set(g, x, xf, sizeof xf);
        compute(g, y, have);
        for (int i = 0; i < N; i++)
            assert_true(fabs(have[i] - want[i]) < 1e-6 * fabs(want[i]) + 3e-7);
        rv__graph_free(g);
    }
}

static bool always(void *user)
{
    ++*(int *)user;
    return true;
}

static void cancelling_stops_a_run(void **state)
{
    rv__graph *g = rv__graph_new(device, 16);
    struct ggml_tensor *w = input(g, 64, 64, 1), *x = input(g, 64, 64, 1),
                       *y = rv__linear(g, w, NULL, x);
    int asked = 0;
    rv_error err;

    run(g, y);
    assert_int_equal(rv__graph_run(g, always, &asked, &err), RV_CANCELLED);
    assert_true(asked > 0);
    assert_int_equal(rv__graph_run(g, NULL, NULL, &err), RV_OK);
    rv__graph_free(g);
}

static void a_full_graph_or_a_misfit_is_an_error(void **state)
{
    rv__graph *g = rv__graph_new(device, 4);
    struct ggml_tensor *x = input(g, 8, 8, 1);
    rv_error err;

    for (int i = 0; i < 10; i++)
        x = rv__linear(g, x, NULL, x);
    assert_null(x);
    assert_int_equal(rv__graph_build(g, &err), RV_INTERNAL);
    rv__graph_free(g);
    g = rv__graph_new(device, 16);
    assert_null(rv__linear(g, input(g, 8, 8, 1), NULL, input(g, 9, 8, 1)));
    assert_int_equal(rv__graph_build(g, &err), RV_INTERNAL);
    rv__graph_free(g);
}

static void tap(void *user, const char *name, const struct ggml_tensor *t, const void *data)
{
    assert_string_equal(name, "half.1");
    *(float *)user = ((const float *)data)[1];
    assert_int_equal(t->ne[0], 2);
}

static void taps_show_intermediate_values(void **state)
{
    rv__graph *g = rv__graph_new(device, 32);
    struct ggml_tensor *x = input(g, 4, 1, 1), *y;
    float v[4] = {1, 2, 3, 4}, seen = 0;
    rv_error err;

    rv__graph_taps(g, tap, &seen);
    y = rv__add(g, x, x);
    rv__tap(g, rv__channels(g, y, 2, 2), "half.%d", 1);
    run(g, rv__mul(g, y, y));
    rv__graph_set(g, x, v, sizeof v);
    assert_int_equal(rv__graph_run(g, NULL, NULL, &err), RV_OK);
    assert_true(seen == 8);
    rv__graph_free(g);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_is_exact_for_every_weight_type),
        cmocka_unit_test(linear_reads_views),
        cmocka_unit_test(groups_use_their_own_weight),
        cmocka_unit_test(attention_is_exact),
        cmocka_unit_test(norms_and_rotation_are_exact),
        cmocka_unit_test(activations_are_exact),
        cmocka_unit_test(cancelling_stops_a_run),
        cmocka_unit_test(a_full_graph_or_a_misfit_is_an_error),
        cmocka_unit_test(taps_show_intermediate_values),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
