/* Attention: chooses a way, and makes tiles of query rows the tasks of all threads.  The way that
 * is always there is exact in float32, with two sgemm calls and a softmax per tile and head.  Must
 * never hold more of the score matrix than one tile per thread. */
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "attention_op.h"
#include "vector_math.h"

enum { ALIGN = 64 };

/* ---- what all ways need ---- */

void *rv__head_packed(const rv__heads *a, const struct ggml_tensor *packed, int64_t batch,
                      int64_t kv)
{
    char *all = (char *)(((uintptr_t)packed->data + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));

    return all + (size_t)(batch * a->kv_heads + kv) * a->packed;
}

RV__VECTOR void rv__heads_add(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

RV__VECTOR void rv__heads_scale(float *to, const float *from, float by, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = from[i] * by;
}

void rv__heads_mask(const rv__heads *a, const struct ggml_tensor *dst, const rv__tile *at,
                    float *scores, int64_t stride)
{
    const struct ggml_tensor *mask = dst->src[a->packed ? 2 : 3];
    const char *base;

    if (!mask)
        return;
    base = (const char *)mask->data + (mask->ne[2] > 1 ? (size_t)at->head : 0) * mask->nb[2] +
           (mask->ne[3] > 1 ? (size_t)at->batch : 0) * mask->nb[3];
    for (int64_t r = 0; r < at->rows; r++) {
        const char *from = base + (mask->ne[1] > 1 ? (size_t)(at->row + r) : 0) * mask->nb[1];

        rv__heads_add(scores + r * stride, (const float *)(const void *)from, a->keys);
    }
}

RV__VECTOR void rv__heads_exp(float *scores, int64_t n)
{
    float lane[16], max = scores[0];
    int64_t i = 0;

    for (int k = 0; k < 16; k++)
        lane[k] = max;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++)
            lane[k] = scores[i + k] > lane[k] ? scores[i + k] : lane[k];
    for (; i < n; i++)
        max = scores[i] > max ? scores[i] : max;
    for (int k = 0; k < 16; k++)
        max = lane[k] > max ? lane[k] : max;
    /* Below e^-87 there is nothing left to add; -INFINITY must become exactly 0. */
    for (i = 0; i < n; i++) {
        float d = scores[i] - max, e = rv__exp(d);
        scores[i] = d < -87.0f ? 0.0f : e;
    }
}

static void run_attention(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    rv__heads *a = user;
    int64_t tiles = (dst->ne[1] + a->tile - 1) / a->tile;
    int total = (int)(tiles * a->heads * dst->ne[2]), task;

    while (rv__op_next(&a->base, thread, total, &task)) {
        rv__tile at = {.batch = task / tiles / a->heads,
                       .head = task / tiles % a->heads,
                       .row = task % tiles * a->tile};

        at.kv = at.head * a->kv_heads / a->heads;
        at.rows = dst->ne[1] - at.row < a->tile ? dst->ne[1] - at.row : a->tile;
        a->run(a, dst, &at, rv__op_scratch(&a->base, thread));
    }
    rv__op_done(&a->base, threads);
}

static void run_pack(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    rv__heads *a = user;
    int total = (int)(2 * a->kv_heads * dst->src[0]->ne[2]), task;

    while (rv__op_next(&a->base, thread, total, &task)) {
        int64_t batch = task / 2 / a->kv_heads, kv = task / 2 % a->kv_heads;

        a->pack(a, dst->src[task % 2], batch, kv, task % 2, rv__head_packed(a, dst, batch, kv),
                rv__op_scratch(&a->base, thread));
    }
    rv__op_done(&a->base, threads);
}

/* ---- the way without packing ---- */

static void run_tile(const rv__heads *a, struct ggml_tensor *dst, const rv__tile *at, void *scratch)
{
    const struct ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2];
    int64_t nk = a->keys, d = a->head, ldq = rv__head_stride(q), ldo = rv__head_stride(dst);
    const float *qp = rv__head_at(q, at->batch, at->head, d) + at->row * ldq;
    float *op = rv__head_at(dst, at->batch, at->head, d) + at->row * ldo, *scores = scratch;
    float *inverse = scores + a->tile * nk;

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)at->rows, (int)nk, (int)d, a->scale,
                qp, (int)ldq, rv__head_at(k, at->batch, at->kv, d), (int)rv__head_stride(k), 0.0f,
                scores, (int)nk);
    rv__heads_mask(a, dst, at, scores, nk);
    /* Dividing the result by the sum instead of the scores touches d numbers per row, not nk. */
    for (int64_t r = 0; r < at->rows; r++) {
        rv__heads_exp(scores + r * nk, nk);
        inverse[r] = 1.0f / rv__sum(scores + r * nk, nk);
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)at->rows, (int)d, (int)nk, 1.0f,
                scores, (int)nk, rv__head_at(v, at->batch, at->kv, d), (int)rv__head_stride(v),
                0.0f, op, (int)ldo);
    for (int64_t r = 0; r < at->rows; r++)
        rv__heads_scale(op + r * ldo, op + r * ldo, inverse[r], d);
}

/* Rows of scores per tile: enough that packing the keys pays, few enough that the tile stays near
 * the core. */
static int64_t tile_rows(int64_t nq, int64_t nk)
{
    enum { MOST = 128, LEAST = 16, FLOATS = 1 << 19 };
    int64_t rows = FLOATS / nk;

    rows = rows < LEAST ? LEAST : rows > MOST ? MOST : rows;
    return rows < nq ? rows : nq;
}

/* ---- building ---- */

static bool mask_fits(const struct ggml_tensor *mask, const struct ggml_tensor *q,
                      const struct ggml_tensor *k, int heads)
{
    return mask->type == GGML_TYPE_F32 && mask->nb[0] == sizeof(float) && mask->ne[0] == k->ne[1] &&
           (mask->ne[1] == 1 || mask->ne[1] == q->ne[1]) &&
           (mask->ne[2] == 1 || mask->ne[2] == heads) &&
           (mask->ne[3] == 1 || mask->ne[3] == q->ne[2]);
}

static bool fits(const struct ggml_tensor *q, const struct ggml_tensor *k,
                 const struct ggml_tensor *v, const struct ggml_tensor *mask, int heads,
                 int kv_heads)
{
    if (heads < 1 || kv_heads < 1 || heads % kv_heads != 0 || q->ne[0] % heads != 0)
        return false;
    if (k->ne[0] != q->ne[0] / heads * kv_heads || v->ne[0] != k->ne[0] || k->ne[1] != v->ne[1])
        return false;
    if (k->ne[2] != q->ne[2] || v->ne[2] != q->ne[2] || q->nb[0] != 4 || k->nb[0] != 4 ||
        v->nb[0] != 4)
        return false;
    return !mask || mask_fits(mask, q, k, heads);
}

static struct ggml_tensor *add_node(rv__graph *g, const rv__heads *what, enum ggml_type type,
                                    const int64_t *ne, struct ggml_tensor **args, int n,
                                    ggml_custom_op_t run)
{
    rv__heads *a = rv__graph_alloc(g, sizeof *a);

    if (!a)
        return NULL;
    *a = *what;
    rv__graph_scratch(g, a->scratch);
    return rv__op_node(g, type, ne, args, n, run, &a->base);
}

static struct ggml_tensor *build(rv__graph *g, const rv__heads *a, struct ggml_tensor *q,
                                 struct ggml_tensor *k, struct ggml_tensor *v,
                                 struct ggml_tensor *mask)
{
    struct ggml_tensor *args[4] = {q, k, v, mask}, *both[2] = {k, v};
    int64_t ne[4] = {0, 1, 1, 1};

    if (!a->packed)
        return add_node(g, a, GGML_TYPE_F32, q->ne, args, mask ? 4 : 3, run_attention);
    ne[0] = (int64_t)a->packed * a->kv_heads * k->ne[2] + ALIGN;
    args[1] = add_node(g, a, GGML_TYPE_I8, ne, both, 2, run_pack);
    args[2] = mask;
    return add_node(g, a, GGML_TYPE_F32, q->ne, args, mask ? 3 : 2, run_attention);
}

struct ggml_tensor *rv__attention(rv__graph *g, struct ggml_tensor *q, struct ggml_tensor *k,
                                  struct ggml_tensor *v, struct ggml_tensor *mask, int heads,
                                  int kv_heads, float scale)
{
    rv__heads a = {.heads = heads, .kv_heads = kv_heads, .scale = scale};

    if (!q || !k || !v)
        return NULL;
    if (!fits(q, k, v, mask, heads, kv_heads)) {
        rv__graph_refuse(g, "attention's inputs do not fit each other");
        return NULL;
    }
    a.head = q->ne[0] / heads;
    a.keys = k->ne[1];
    if (rv__attention_int8_fits(g, &a, mask)) {
        rv__attention_int8(&a);
    } else if (rv__attention_float32_fits(&a, q)) {
        rv__attention_float32(&a);
    } else {
        a.tile = tile_rows(q->ne[1], a.keys);
        a.scratch = (size_t)(a.tile * (a.keys + 1)) * sizeof(float);
        a.run = run_tile;
    }
    return build(g, &a, q, k, v, mask);
}
