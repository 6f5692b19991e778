/* See transformer_op.h. */
#include "transformer_op.h"

#include <math.h>
#include <string.h>

#include "vector_math.h"

static float *row_of(const struct ggml_tensor *t, int64_t token, int64_t batch)
{
    return (float *)(void *)((char *)t->data + (size_t)token * t->nb[1] + (size_t)batch * t->nb[2]);
}

static bool rows_are_whole(const struct ggml_tensor *t)
{
    return t->type == GGML_TYPE_F32 && t->nb[0] == sizeof(float) && t->ne[3] == 1;
}

/* ---- modulation ---- */

typedef struct modulation {
    rv__op base;
    int shift, scale, gate;
    float eps;
} modulation;

static RV__VECTOR void modulate(const float *restrict x, const float *restrict shift,
                                const float *restrict scale, float *restrict y, int64_t n,
                                float eps)
{
    float mean = rv__sum(x, n) / (float)n;
    float inverse = 1.0f / sqrtf(rv__sum_squares(x, n, mean) / (float)n + eps);

    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * inverse * (1.0f + scale[i]) + shift[i];
}

static void run_modulate(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    const modulation *p = user;
    const struct ggml_tensor *x = dst->src[0], *m = dst->src[1];
    int64_t first, last, n = x->ne[0];

    rv__op_share(dst->ne[1] * dst->ne[2], thread, threads, &first, &last);
    for (int64_t r = first; r < last; r++) {
        int64_t token = r % dst->ne[1], batch = r / dst->ne[1];
        const float *by = (const float *)m->data + batch * m->ne[0];

        modulate(row_of(x, token, batch), by + p->shift * n, by + p->scale * n,
                 row_of(dst, token, batch), n, p->eps);
    }
}

static RV__VECTOR void gated_add(const float *restrict x, const float *restrict y,
                                 const float *restrict gate, float *restrict out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = x[i] + gate[i] * y[i];
}

static void run_gated_add(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    const modulation *p = user;
    const struct ggml_tensor *x = dst->src[0], *y = dst->src[1], *m = dst->src[2];
    int64_t first, last, n = x->ne[0];

    rv__op_share(dst->ne[1] * dst->ne[2], thread, threads, &first, &last);
    for (int64_t r = first; r < last; r++) {
        int64_t token = r % dst->ne[1], batch = r / dst->ne[1];
        const float *gate = (const float *)m->data + batch * m->ne[0] + p->gate * n;

        gated_add(row_of(x, token, batch), row_of(y, token, batch), gate, row_of(dst, token, batch),
                  n);
    }
}

static modulation *new_modulation(rv__graph *g, const struct ggml_tensor *x,
                                  const struct ggml_tensor *m, int chunk)
{
    if (!x || !m)
        return NULL;
    if (!rows_are_whole(x) || m->ne[0] % x->ne[0] != 0 || chunk >= m->ne[0] / x->ne[0] ||
        m->ne[1] != x->ne[2]) {
        rv__graph_refuse(g, "a modulation does not fit its input");
        return NULL;
    }
    return rv__graph_alloc(g, sizeof(modulation));
}

struct ggml_tensor *rv__modulate(rv__graph *g, struct ggml_tensor *x, struct ggml_tensor *m,
                                 int shift, int scale, float eps)
{
    struct ggml_tensor *args[2] = {x, m};
    modulation *p = new_modulation(g, x, m, shift > scale ? shift : scale);

    if (!p)
        return NULL;
    p->shift = shift;
    p->scale = scale;
    p->eps = eps;
    return rv__op_node(g, GGML_TYPE_F32, x->ne, args, 2, run_modulate, &p->base);
}

struct ggml_tensor *rv__gated_add(rv__graph *g, struct ggml_tensor *x, struct ggml_tensor *y,
                                  struct ggml_tensor *m, int gate)
{
    struct ggml_tensor *args[3] = {x, y, m};
    modulation *p = y ? new_modulation(g, x, m, gate) : NULL;

    if (!p)
        return NULL;
    if (!ggml_are_same_shape(x, y) || !rows_are_whole(y)) {
        rv__graph_refuse(g, "the two sides of a residual sum differ");
        return NULL;
    }
    p->gate = gate;
    return rv__op_node(g, GGML_TYPE_F32, x->ne, args, 3, run_gated_add, &p->base);
}

/* ---- joining streams ---- */

typedef struct join {
    rv__op base;
    int b, norm_a, norm_b, cosine, sine; /* places among the sources, 0: none */
    int64_t head, zero;
    float eps;
} join;

static RV__VECTOR void scale_row(const float *restrict x, const float *restrict weight,
                                 float *restrict y, int64_t n, float eps)
{
    float inverse = 1.0f / sqrtf(rv__sum_squares(x, n, 0.0f) / (float)n + eps);

    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * inverse * weight[i];
}

static RV__VECTOR void turn_row(float *row, const float *restrict cosine,
                                const float *restrict sine, int64_t n, int64_t head, int64_t pairs)
{
    for (int64_t h = 0; h < n; h += head)
        for (int64_t p = 0; p < pairs; p++) {
            float a = row[h + 2 * p], b = row[h + 2 * p + 1];

            row[h + 2 * p] = cosine[p] * a - sine[p] * b;
            row[h + 2 * p + 1] = sine[p] * a + cosine[p] * b;
        }
}

static void run_join(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    const join *p = user;
    const struct ggml_tensor *a = dst->src[0], *b = p->b ? dst->src[p->b] : NULL;
    int64_t first, last, n = dst->ne[0];

    rv__op_share(dst->ne[1] * dst->ne[2], thread, threads, &first, &last);
    for (int64_t r = first; r < last; r++) {
        int64_t token = r % dst->ne[1], batch = r / dst->ne[1];
        bool in_a = token < a->ne[1];
        const float *from = in_a ? row_of(a, token, batch) : row_of(b, token - a->ne[1], batch);
        int norm = in_a ? p->norm_a : p->norm_b;
        float *to = row_of(dst, token, batch);

        if (token == p->zero) {
            memset(to, 0, (size_t)n * sizeof *to);
            continue;
        }
        if (norm)
            scale_row(from, dst->src[norm]->data, to, n, p->eps);
        else
            memcpy(to, from, (size_t)n * sizeof *to);
        if (p->cosine)
            turn_row(to, row_of(dst->src[p->cosine], token, 0), row_of(dst->src[p->sine], token, 0),
                     n, p->head, dst->src[p->cosine]->ne[0]);
    }
}

static bool join_fits(const rv__join *j, int64_t tokens)
{
    int64_t n = j->a->ne[0];

    if (!rows_are_whole(j->a) ||
        (j->b && (!rows_are_whole(j->b) || j->b->ne[0] != n || j->b->ne[2] != j->a->ne[2])))
        return false;
    if ((j->norm_a && j->norm_a->ne[0] != n) || (j->norm_b && j->norm_b->ne[0] != n))
        return false;
    return !j->cosine ||
           (j->heads > 0 && n % j->heads == 0 && j->cosine->ne[0] * 2 <= n / j->heads &&
            j->cosine->ne[1] == tokens && j->sine && ggml_are_same_shape(j->cosine, j->sine));
}

static int add_arg(struct ggml_tensor **args, int *n, struct ggml_tensor *t)
{
    if (!t)
        return 0;
    args[*n] = t;
    return (*n)++;
}

struct ggml_tensor *rv__join_tokens(rv__graph *g, const rv__join *j)
{
    struct ggml_tensor *args[6];
    int64_t ne[4];
    int n = 0;
    join *p;

    if (!j->a)
        return NULL;
    memcpy(ne, j->a->ne, sizeof ne);
    ne[1] += j->b ? j->b->ne[1] : 0;
    if (!join_fits(j, ne[1])) {
        rv__graph_refuse(g, "two streams of tokens do not fit each other");
        return NULL;
    }
    p = rv__graph_alloc(g, sizeof *p);
    if (!p)
        return NULL;
    add_arg(args, &n, j->a);
    p->b = add_arg(args, &n, j->b);
    p->norm_a = add_arg(args, &n, j->norm_a);
    p->norm_b = add_arg(args, &n, j->norm_b);
    p->cosine = add_arg(args, &n, j->cosine);
    p->sine = add_arg(args, &n, j->sine);
    p->head = j->heads > 0 ? ne[0] / j->heads : ne[0];
    p->zero = j->zero;
    p->eps = j->eps;
    return rv__op_node(g, GGML_TYPE_F32, ne, args, n, run_join, &p->base);
}
