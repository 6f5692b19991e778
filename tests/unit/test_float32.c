/* Products in panels: the very sums that float32.h promises, for sizes that fill no panel, block or
 * tile; and that threads change nothing, in products and in attention. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/float32.h"
#include "engine/graph_op.h"

static float noise(void)
{
    static uint32_t state = 5;

    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static float *numbers(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);

    for (int64_t i = 0; i < n; i++)
        x[i] = noise();
    return x;
}

/* One number of the result, one fused operation after another. */
static float sum(const float *x, const float *w, int64_t step, int64_t in, float scale,
                 const float *before)
{
    float y = before ? *before : 0;

    for (int64_t at = 0, n; at < in; at += n) {
        int64_t left = in - at;
        float part = 0;

        n = left >= 896 ? 448 : left > 448 ? (left / 2 + 15) / 16 * 16 : left;
        for (int64_t i = at; i < at + n; i++)
            part = fmaf(x[i], w[i * step], part);
        y = at > 0 || before ? fmaf(part, scale, y) : part * scale;
    }
    return y;
}

static void check_product(int64_t rows, int64_t in, int64_t out, float scale, bool add)
{
    int64_t ldx = in + 3, ldy = out + 5;
    float *x = numbers(rows * ldx), *w = numbers(out * (in + 1));
    float *columns = numbers(in * (out + 2));
    float *y = numbers(rows * ldy), *before = malloc((size_t)(rows * ldy) * sizeof *y);
    float *panels = malloc((size_t)rv__float32_room(in, out) * sizeof *panels);

    for (int turn = 0; turn < 2; turn++) {
        memcpy(before, y, (size_t)(rows * ldy) * sizeof *y);
        if (turn)
            rv__float32_pack_columns(columns, out, out + 2, in, panels);
        else
            rv__float32_pack(w, out, in + 1, in, panels);
        rv__float32_multiply(x, ldx, rows, panels, in, out, scale, y, ldy, add);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t o = 0; o < ldy; o++) {
                const float *was = before + r * ldy + o;
                const float *weights = turn ? columns + o : w + o * (in + 1);
                float want = *was, have = y[r * ldy + o];

                if (o < out)
                    want = sum(x + r * ldx, weights, turn ? out + 2 : 1, in, scale,
                               add ? was : NULL);
                if (memcmp(&have, &want, sizeof want) != 0)
                    fail_msg("%d x %d x %d, turn %d: [%d][%d] is %.9g, not %.9g", (int)rows,
                             (int)in, (int)out, turn, (int)r, (int)o, (double)have, (double)want);
            }
    }
    free(x), free(w), free(columns), free(y), free(before), free(panels);
}

static void sums_have_one_order(void **state)
{
    static const int sizes[][3] = {{1, 1, 1},     {14, 64, 32},  {15, 65, 33},  {13, 447, 31},
                                   {28, 448, 64}, {29, 449, 15}, {16, 896, 17}, {120, 1001, 40}};

    (void)state;
    if (!rv__float32_usable())
        skip();
    for (int rows = 1; rows <= 16; rows++)
        check_product(rows, 20, 48, 1, false);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_product(sizes[i][0], sizes[i][1], sizes[i][2], 1, false);
        check_product(sizes[i][0], sizes[i][1], sizes[i][2], 0.3f, true);
    }
}

/* A linear layer, a SwiGLU and attention over its results, on so many threads. */
static void run_graph(int threads, enum ggml_type type, void *const weights[2], const float *bias,
                      const float *x, float *y)
{
    enum { IN = 256, OUT = 320, ROWS = 500 };
    struct ggml_context *c = ggml_init((struct ggml_init_params){1 << 14, NULL, true});
    struct ggml_tensor *w[2], *b = ggml_new_tensor_1d(c, GGML_TYPE_F32, OUT), *in, *q, *k, *out;
    rv__device *d;
    rv__graph *g;
    rv_error err;

    for (int i = 0; i < 2; i++) {
        w[i] = ggml_new_tensor_2d(c, type, IN, OUT);
        w[i]->data = weights[i];
    }
    b->data = (void *)(uintptr_t)bias;
    assert_int_equal(rv__device_open(threads, &d, &err), RV_OK);
    g = rv__graph_new(d, 64);
    in = rv__graph_input(g, GGML_TYPE_F32, IN, ROWS, 1, 1);
    q = rv__linear(g, w[0], b, in);
    k = rv__swiglu(g, w[0], w[1], in);
    out = rv__attention(g, q, k, k, NULL, 5, 5, 0.1f);
    rv__graph_output(g, out);
    assert_int_equal(rv__graph_build(g, &err), RV_OK);
    rv__graph_set(g, in, x, ggml_nbytes(in));
    assert_int_equal(rv__graph_run(g, NULL, NULL, &err), RV_OK);
    rv__graph_get(g, out, y, ggml_nbytes(out));
    rv__graph_free(g);
    rv__device_close(d);
    ggml_free(c);
}

static void threads_change_nothing(void **state)
{
    enum { IN = 256, OUT = 320, ROWS = 500 };
    static const enum ggml_type types[] = {GGML_TYPE_F32, GGML_TYPE_BF16, GGML_TYPE_Q8_0};
    float *x = numbers(IN * ROWS), *w = numbers(IN * OUT), *v = numbers(IN * OUT),
          *bias = numbers(OUT);
    float *one = malloc(sizeof(float) * OUT * ROWS), *more = malloc(sizeof(float) * OUT * ROWS);

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        size_t bytes = ggml_row_size(types[i], IN) * OUT;
        void *stored[2] = {malloc(bytes), malloc(bytes)};

        for (int k = 0; k < 2; k++)
            if (types[i] == GGML_TYPE_F32)
                memcpy(stored[k], k ? v : w, bytes);
            else
                ggml_quantize_chunk(types[i], k ? v : w, stored[k], 0, OUT, IN, NULL);
        run_graph(1, types[i], stored, bias, x, one);
        for (int threads = 2; threads <= 16; threads *= 2) {
            run_graph(threads, types[i], stored, bias, x, more);
            assert_memory_equal(one, more, sizeof(float) * OUT * ROWS);
        }
        free(stored[0]), free(stored[1]);
    }
    free(x), free(w), free(v), free(bias), free(one), free(more);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_have_one_order),
        cmocka_unit_test(threads_change_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
