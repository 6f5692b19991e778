/* Small layers: norms, rotations, activations, and the plain ggml operations with the checks that
 * keep ggml from asserting.  Must not use ggml's table-driven half-precision activations. */
#include <math.h>
#include <string.h>

#include "graph_op.h"
#include "vector_math.h"

/* Row r of a tensor whose rows may lie apart. */
static float *row_of(const struct ggml_tensor *t, int64_t r)
{
    int64_t i1 = r % t->ne[1], i2 = r / t->ne[1] % t->ne[2], i3 = r / t->ne[1] / t->ne[2];

    return (float *)(void *)((char *)t->data + (size_t)i1 * t->nb[1] + (size_t)i2 * t->nb[2] +
                             (size_t)i3 * t->nb[3]);
}

/* ---- norms ---- */

typedef struct norm {
    rv__op base;
    float eps;
    bool centred;     /* subtract the mean: layer norm */
    int weight, bias; /* places among the sources, 0: none */
} norm;

static RV__VECTOR void normalise(const float *restrict x, const float *weight, const float *bias,
                                 float *restrict y, int64_t n, float eps, bool centred)
{
    float mean = centred ? rv__sum(x, n) / (float)n : 0.0f;
    float inverse = 1.0f / sqrtf(rv__sum_squares(x, n, mean) / (float)n + eps);

    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * inverse;
    if (weight)
        for (int64_t i = 0; i < n; i++)
            y[i] *= weight[i];
    if (bias)
        for (int64_t i = 0; i < n; i++)
            y[i] += bias[i];
}

static void run_norm(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    const norm *p = user;
    const struct ggml_tensor *x = dst->src[0];
    const float *weight = p->weight ? dst->src[p->weight]->data : NULL;
    const float *bias = p->bias ? dst->src[p->bias]->data : NULL;
    int64_t first, last;

    rv__op_share(ggml_nrows(dst), thread, threads, &first, &last);
    for (int64_t r = first; r < last; r++)
        normalise(row_of(x, r), weight, bias, row_of(dst, r), x->ne[0], p->eps, p->centred);
}

static struct ggml_tensor *add_norm(rv__graph *g, struct ggml_tensor *x, struct ggml_tensor *weight,
                                    struct ggml_tensor *bias, float eps, bool centred)
{
    struct ggml_tensor *args[3] = {x};
    int n = 1;
    norm *p;

    if (!x)
        return NULL;
    if (x->nb[0] != sizeof(float) || (weight && ggml_nelements(weight) != x->ne[0]) ||
        (bias && ggml_nelements(bias) != x->ne[0])) {
        rv__graph_refuse(g, "a norm's weight does not fit its input");
        return NULL;
    }
    p = rv__graph_alloc(g, sizeof *p);
    if (!p)
        return NULL;
    p->eps = eps;
    p->centred = centred;
    if (weight)
        args[p->weight = n++] = weight;
    if (bias)
        args[p->bias = n++] = bias;
    return rv__op_node(g, GGML_TYPE_F32, x->ne, args, n, run_norm, &p->base);
}

struct ggml_tensor *rv__layer_norm(rv__graph *g, struct ggml_tensor *x, struct ggml_tensor *weight,
                                   struct ggml_tensor *bias, float eps)
{
    return add_norm(g, x, weight, bias, eps, true);
}

struct ggml_tensor *rv__rms_norm(rv__graph *g, struct ggml_tensor *x, struct ggml_tensor *weight,
                                 float eps)
{
    return add_norm(g, x, weight, NULL, eps, false);
}

/* ---- rotation ---- */

typedef struct rope {
    rv__op base;
    int64_t head;
    bool adjacent;
} rope;

static RV__VECTOR void rotate(const float *restrict x, float *restrict y, const float *cosine,
                              const float *sine, int64_t pairs, int64_t step, int64_t other)
{
    for (int64_t p = 0; p < pairs; p++) {
        float a = x[p * step], b = x[p * step + other];

        y[p * step] = cosine[p] * a - sine[p] * b;
        y[p * step + other] = sine[p] * a + cosine[p] * b;
    }
}

static void run_rope(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    const rope *p = user;
    const struct ggml_tensor *x = dst->src[0], *cosine = dst->src[1], *sine = dst->src[2];
    int64_t first, last, pairs = cosine->ne[0];

    rv__op_share(ggml_nrows(dst), thread, threads, &first, &last);
    for (int64_t r = first; r < last; r++) {
        const float *from = row_of(x, r), *c = row_of(cosine, r % x->ne[1]),
                    *s = row_of(sine, r % x->ne[1]);
        float *to = row_of(dst, r);

        memcpy(to, from, (size_t)x->ne[0] * sizeof *to);
        for (int64_t h = 0; h < x->ne[0]; h += p->head)
            rotate(from + h, to + h, c, s, pairs, p->adjacent ? 2 : 1,
                   p->adjacent ? 1 : p->head / 2);
    }
}

struct ggml_tensor *rv__rope(rv__graph *g, struct ggml_tensor *x, int heads,
                             struct ggml_tensor *cosine, struct ggml_tensor *sine, bool adjacent)
{
    struct ggml_tensor *args[3] = {x, cosine, sine};
    rope *p;

    if (!x || !cosine || !sine)
        return NULL;
    if (heads < 1 || x->ne[0] % heads != 0 || cosine->ne[0] > x->ne[0] / heads / 2 ||
        cosine->ne[1] != x->ne[1] || !ggml_are_same_shape(cosine, sine) ||
        x->nb[0] != sizeof(float)) {
        rv__graph_refuse(g, "a rotation's tables do not fit its input");
        return NULL;
    }
    p = rv__graph_alloc(g, sizeof *p);
    if (!p)
        return NULL;
    p->head = x->ne[0] / heads;
    p->adjacent = adjacent;
    return rv__op_node(g, GGML_TYPE_F32, x->ne, args, 3, run_rope, &p->base);
}

/* ---- activations ---- */

typedef struct activation {
    rv__op base;
    rv__activation kind;
} activation;

static RV__VECTOR void silu(const float *restrict x, float *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = rv__silu(x[i]);
}

static RV__VECTOR void gelu_quick(const float *restrict x, float *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * rv__sigmoid(1.702f * x[i]);
}

static RV__VECTOR void gelu_tanh(const float *restrict x, float *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] =
            0.5f * x[i] * (1.0f + rv__tanh(0.79788456f * (x[i] + 0.044715f * x[i] * x[i] * x[i])));
}

static void gelu_erf(const float *x, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
}

static void run_activation(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    const activation *p = user;
    const float *x = dst->src[0]->data;
    float *y = dst->data;
    int64_t first, last;

    rv__op_share(ggml_nelements(dst), thread, threads, &first, &last);
    x += first;
    y += first;
    switch (p->kind) {
    case RV__SILU:
        silu(x, y, last - first);
        break;
    case RV__GELU_QUICK:
        gelu_quick(x, y, last - first);
        break;
    case RV__GELU_TANH:
        gelu_tanh(x, y, last - first);
        break;
    case RV__GELU_ERF:
        gelu_erf(x, y, last - first);
        break;
    }
}

struct ggml_tensor *rv__activate(rv__graph *g, struct ggml_tensor *x, rv__activation kind)
{
    activation *p;

    if (!x)
        return NULL;
    if (!ggml_is_contiguous(x)) {
        if (!rv__graph_room(g, 1))
            return NULL;
        x = ggml_cont(rv__graph_context(g), x);
    }
    p = rv__graph_alloc(g, sizeof *p);
    if (!p)
        return NULL;
    p->kind = kind;
    return rv__op_node(g, GGML_TYPE_F32, x->ne, &x, 1, run_activation, &p->base);
}

/* ---- plain operations ---- */

static bool can_broadcast(rv__graph *g, const struct ggml_tensor *a, const struct ggml_tensor *b)
{
    if (!a || !b || !rv__graph_room(g, 3))
        return false;
    if (ggml_can_repeat(b, a) && a->type == GGML_TYPE_F32 && b->type == GGML_TYPE_F32)
        return true;
    rv__graph_refuse(g, "two tensors of a sum or product do not fit");
    return false;
}

struct ggml_tensor *rv__add(rv__graph *g, struct ggml_tensor *a, struct ggml_tensor *b)
{
    return can_broadcast(g, a, b) ? ggml_add(rv__graph_context(g), a, b) : NULL;
}

struct ggml_tensor *rv__mul(rv__graph *g, struct ggml_tensor *a, struct ggml_tensor *b)
{
    return can_broadcast(g, a, b) ? ggml_mul(rv__graph_context(g), a, b) : NULL;
}

static void run_rows(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    const struct ggml_tensor *table = dst->src[0];
    const int32_t *ids = dst->src[1]->data;
    int64_t first, last;

    (void)user;
    rv__op_share(dst->ne[1], thread, threads, &first, &last);
    for (int64_t r = first; r < last; r++)
        rv__weight_rows(table, ids[r], 1, row_of(dst, r));
}

struct ggml_tensor *rv__rows(rv__graph *g, struct ggml_tensor *table, struct ggml_tensor *ids)
{
    if (!table || !ids || ids->type != GGML_TYPE_I32 || !rv__graph_room(g, 3))
        return NULL;
    if (!rv__weight_is_plain(table)) {
        struct ggml_tensor *args[2] = {table, ids};
        int64_t ne[4] = {table->ne[0], ids->ne[0], 1, 1};
        rv__op *op = rv__graph_alloc(g, sizeof *op);

        return op ? rv__op_node(g, GGML_TYPE_F32, ne, args, 2, run_rows, op) : NULL;
    }
    return ggml_get_rows(rv__graph_context(g), table, ids);
}

static struct ggml_tensor *part(rv__graph *g, struct ggml_tensor *x, int axis, int64_t first,
                                int64_t count)
{
    int64_t ne[4];

    if (!x || !rv__graph_room(g, 1))
        return NULL;
    if (first < 0 || count < 1 || first > x->ne[axis] - count) {
        rv__graph_refuse(g, "a view leaves its tensor");
        return NULL;
    }
    memcpy(ne, x->ne, sizeof ne);
    ne[axis] = count;
    return ggml_view_4d(rv__graph_context(g), x, ne[0], ne[1], ne[2], ne[3], x->nb[1], x->nb[2],
                        x->nb[3], (size_t)first * x->nb[axis]);
}

struct ggml_tensor *rv__tokens(rv__graph *g, struct ggml_tensor *x, int64_t first, int64_t count)
{
    return part(g, x, 1, first, count);
}

struct ggml_tensor *rv__channels(rv__graph *g, struct ggml_tensor *x, int64_t first, int64_t count)
{
    return part(g, x, 0, first, count);
}
