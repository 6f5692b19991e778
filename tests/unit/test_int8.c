/* Products and attention in eight bits against float32: how far off they are, that neither threads
 * nor the form a weight is stored in matter more than rounding, and sizes that fill no block. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "engine/graph_op.h"
#include "engine/int8.h"

static float noise(void)
{
    static uint32_t state = 1;

    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static float *numbers(size_t n)
{
    float *x = malloc(n * sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = noise();
    return x;
}

/* Root of the mean square of the difference over that of b. */
static double distance(const float *a, const float *b, size_t n)
{
    double d = 0, s = 0;

    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        s += (double)b[i] * b[i];
    }
    return sqrt(d / s);
}

/* A weight that exists without a file. */
typedef struct weight {
    rv__tensor tensor;
    rv__leaf leaf;
    struct ggml_tensor *node;
    void *data;
} weight;

static void make_weight(weight *w, struct ggml_context *c, enum ggml_type type, int64_t in,
                        int64_t out, const float *x)
{
    size_t bytes = ggml_row_size(type, in) * (size_t)out;

    memset(w, 0, sizeof *w);
    w->data = malloc(bytes);
    if (type == GGML_TYPE_F32)
        memcpy(w->data, x, bytes);
    else
        ggml_quantize_chunk(type, x, w->data, 0, out, in, NULL);
    w->tensor = (rv__tensor){.name = "w", .type = type, .n_dims = 2, .shape = {out, in, 1, 1, 1, 1},
                             .size = bytes};
    /* tensor.data stays NULL: what does not lie in a mapped file must not be given back. */
    w->node = ggml_new_tensor_2d(c, type, in, out);
    w->node->data = w->data;
    w->leaf.tensor = &w->tensor;
    w->node->extra = &w->leaf;
}

static void drop_weight(weight *w)
{
    rv__packed_free(w->leaf.packed);
    free(w->data);
}

typedef struct shape {
    int64_t in, out, rows;
    bool gate, bias;
} shape;

static void run_linear(const shape *s, enum ggml_type type, int threads, bool fast, const float *wx,
                       const float *gx, const float *bx, const float *x, float *y)
{
    struct ggml_context *c = ggml_init((struct ggml_init_params){1 << 16, NULL, true});
    struct ggml_tensor *in, *out, *bias;
    rv__device *d;
    rv__graph *g;
    weight w, gate;
    rv_error err;

    assert_int_equal(rv__device_open(threads, &d, &err), RV_OK);
    make_weight(&w, c, type, s->in, s->out, wx);
    make_weight(&gate, c, type, s->in, s->out, gx);
    g = rv__graph_new(d, 64);
    rv__graph_fast(g, fast);
    in = rv__graph_input(g, GGML_TYPE_F32, s->in, s->rows, 1, 1);
    bias = rv__graph_input(g, GGML_TYPE_F32, s->out, 1, 1, 1);
    out = s->gate ? rv__swiglu(g, gate.node, w.node, in)
                  : rv__linear(g, w.node, s->bias ? bias : NULL, in);
    rv__graph_output(g, out);
    rv__graph_output(g, rv__add(g, bias, bias)); /* so that it exists also when nobody reads it */
    assert_int_equal(rv__graph_build(g, &err), RV_OK);
    rv__graph_set(g, in, x, (size_t)(s->in * s->rows) * sizeof *x);
    rv__graph_set(g, bias, bx, (size_t)s->out * sizeof *bx);
    for (int i = 0; i < 2; i++) { /* the second time with packed weights */
        assert_int_equal(rv__graph_run(g, NULL, NULL, &err), RV_OK);
        rv__graph_get(g, out, y, (size_t)(s->out * s->rows) * sizeof *y);
    }
    rv__graph_free(g);
    drop_weight(&w);
    drop_weight(&gate);
    ggml_free(c);
    rv__device_close(d);
}

static void products_are_near_float32(void **state)
{
    static const shape shapes[] = {{256, 192, 100, false, true}, {200, 130, 17, false, false},
                                   {640, 1024, 77, true, false}, {128, 128, 16, false, true},
                                   {1792, 640, 400, false, false}};
    static const enum ggml_type types[] = {GGML_TYPE_F32, GGML_TYPE_BF16, GGML_TYPE_Q8_0,
                                           GGML_TYPE_Q4_0, GGML_TYPE_Q4_K};

    if (!rv__int8_usable())
        skip();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
            const shape *s = &shapes[i];
            size_t n = (size_t)(s->out * s->rows);
            float *w, *gate, *bias, *x, *exact, *one, *three;

            if (s->in % ggml_blck_size(types[k]))
                continue;
            w = numbers((size_t)(s->in * s->out)), gate = numbers((size_t)(s->in * s->out));
            bias = numbers((size_t)s->out), x = numbers((size_t)(s->in * s->rows));
            exact = malloc(n * sizeof *exact), one = malloc(n * sizeof *one);
            three = malloc(n * sizeof *three);
            run_linear(s, types[k], 2, false, w, gate, bias, x, exact);
            run_linear(s, types[k], 1, true, w, gate, bias, x, one);
            run_linear(s, types[k], 3, true, w, gate, bias, x, three);
            assert_memory_equal(one, three, n * sizeof *one);
            if (!(distance(one, exact, n) < (s->gate ? 0.02 : 0.012)) ||
                !(distance(one, exact, n) > 1e-5))
                fail_msg("%zu type %d: %g", i, (int)types[k], distance(one, exact, n));
            free(w), free(gate), free(bias), free(x), free(exact), free(one), free(three);
        }
}

typedef struct heads {
    int64_t nq, nk, head;
    int heads, kv_heads, batch;
    bool mask;
} heads;

static void run_attention(const heads *s, int threads, bool fast, float *const x[4], float *y)
{
    struct ggml_tensor *q, *k, *v, *mask, *out;
    int64_t width = s->head * s->heads, kv = s->head * s->kv_heads;
    rv__device *d;
    rv__graph *g;
    rv_error err;

    assert_int_equal(rv__device_open(threads, &d, &err), RV_OK);
    g = rv__graph_new(d, 64);
    rv__graph_fast(g, fast);
    q = rv__graph_input(g, GGML_TYPE_F32, width, s->nq, s->batch, 1);
    k = rv__graph_input(g, GGML_TYPE_F32, kv, s->nk, s->batch, 1);
    v = rv__graph_input(g, GGML_TYPE_F32, kv, s->nk, s->batch, 1);
    mask = s->mask ? rv__graph_input(g, GGML_TYPE_F32, s->nk, 1, 1, 1) : NULL;
    out = rv__attention(g, q, k, v, mask, s->heads, s->kv_heads, 1.0f / sqrtf((float)s->head));
    rv__graph_output(g, out);
    assert_int_equal(rv__graph_build(g, &err), RV_OK);
    rv__graph_set(g, q, x[0], ggml_nbytes(q));
    rv__graph_set(g, k, x[1], ggml_nbytes(k));
    rv__graph_set(g, v, x[2], ggml_nbytes(v));
    if (mask)
        rv__graph_set(g, mask, x[3], ggml_nbytes(mask));
    assert_int_equal(rv__graph_run(g, NULL, NULL, &err), RV_OK);
    rv__graph_get(g, out, y, ggml_nbytes(out));
    rv__graph_free(g);
    rv__device_close(d);
}

static void attention_is_near_float32(void **state)
{
    static const heads shapes[] = {{300, 300, 128, 2, 2, 1, false}, {70, 201, 64, 4, 2, 2, false},
                                   {129, 129, 80, 1, 1, 1, true}};

    if (!rv__int8_usable())
        skip();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const heads *s = &shapes[i];
        size_t n = (size_t)(s->nq * s->head * s->heads * s->batch);
        size_t kv = (size_t)(s->nk * s->head * s->kv_heads * s->batch);
        float *x[4] = {numbers(n), numbers(kv), numbers(kv), numbers((size_t)s->nk)};
        float *exact = malloc(n * sizeof *exact), *one = malloc(n * sizeof *one),
              *three = malloc(n * sizeof *three);

        for (size_t j = 0; j < n; j++)
            x[0][j] *= 8; /* shares that differ */
        for (size_t j = 0; j < kv; j++)
            x[1][j] += 2; /* keys that are not around zero */
        x[3][0] = -INFINITY;
        run_attention(s, 2, false, x, exact);
        run_attention(s, 1, true, x, one);
        run_attention(s, 3, true, x, three);
        assert_memory_equal(one, three, n * sizeof *one);
        if (!(distance(one, exact, n) < 0.03) || !(distance(one, exact, n) > 1e-5))
            fail_msg("%zu: %g", i, distance(one, exact, n));
        for (int j = 0; j < 4; j++)
            free(x[j]);
        free(exact), free(one), free(three);
    }
}

/* Numbers of a damaged model end as numbers of some kind, not as a crash. */
static void what_is_not_finite_does_no_harm(void **state)
{
    float x[200];
    uint8_t row[4 * RV__INT8_BLOCK + 64];
    _Alignas(RV__INT8_ALIGN) static rv__int8_block blocks[4];

    for (int i = 0; i < 200; i++)
        x[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -1e38f;
    rv__int8_row(x, 200, row);
    rv__int8_pack(x, 1, 200, 200, false, 0, blocks);
    rv__int8_shares(x, 200, row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_near_float32),
        cmocka_unit_test(attention_is_near_float32),
        cmocka_unit_test(what_is_not_finite_does_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
