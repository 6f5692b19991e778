/* Attention, exact in float32: tiles of query rows, two sgemm calls and a softmax per tile and
 * head.  Must never hold more of the score matrix than one tile per thread. */
#include <cblas.h>
#include <math.h>

#include "attention_int8.h"
#include "graph_op.h"
#include "vector_math.h"

typedef struct attention {
    rv__op base;
    int heads, kv_heads;
    float scale;
    int64_t head, tile;
} attention;

/* Turns scores into e^(score - max), row by row, and returns one over their sum. */
static RV__VECTOR float exponentials(float *row, int64_t n)
{
    float lane[16], max = row[0], sum;
    int64_t i = 0;

    for (int k = 0; k < 16; k++)
        lane[k] = max;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++)
            lane[k] = row[i + k] > lane[k] ? row[i + k] : lane[k];
    for (; i < n; i++)
        max = row[i] > max ? row[i] : max;
    for (int k = 0; k < 16; k++)
        max = lane[k] > max ? lane[k] : max;
    /* Below e^-87 there is nothing left to add; -INFINITY must become exactly 0. */
    for (i = 0; i < n; i++) {
        float d = row[i] - max, e = rv__exp(d);
        row[i] = d < -87.0f ? 0.0f : e;
    }
    sum = rv__sum(row, n);
    return 1.0f / sum;
}

static RV__VECTOR void add_row(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

static void add_mask(const struct ggml_tensor *mask, float *scores, int64_t nk, int64_t row,
                     int64_t rows, int64_t head, int64_t batch)
{
    const char *base = (const char *)mask->data;

    base += (mask->ne[2] > 1 ? (size_t)head : 0) * mask->nb[2] +
            (mask->ne[3] > 1 ? (size_t)batch : 0) * mask->nb[3];
    for (int64_t r = 0; r < rows; r++) {
        const char *from = base + (mask->ne[1] > 1 ? (size_t)(row + r) : 0) * mask->nb[1];
        add_row(scores + r * nk, (const float *)(const void *)from, nk);
    }
}

static void run_tile(const attention *a, struct ggml_tensor *dst, int64_t batch, int64_t head,
                     int64_t row, float *scores)
{
    const struct ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2],
                             *mask = dst->src[3];
    int64_t nk = k->ne[1], d = a->head, kv = head * a->kv_heads / a->heads;
    int64_t rows = q->ne[1] - row < a->tile ? q->ne[1] - row : a->tile;
    int ldq = (int)(q->nb[1] / sizeof(float)), ldk = (int)(k->nb[1] / sizeof(float));
    int ldv = (int)(v->nb[1] / sizeof(float)), ldo = (int)(dst->nb[1] / sizeof(float));
    const float *qp =
        (const float *)q->data + (size_t)batch * q->nb[2] / sizeof(float) + row * ldq + head * d;
    const float *kp = (const float *)k->data + (size_t)batch * k->nb[2] / sizeof(float) + kv * d;
    const float *vp = (const float *)v->data + (size_t)batch * v->nb[2] / sizeof(float) + kv * d;
    float *op =
        (float *)dst->data + (size_t)batch * dst->nb[2] / sizeof(float) + row * ldo + head * d;

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)nk, (int)d, a->scale, qp,
                ldq, kp, ldk, 0.0f, scores, (int)nk);
    if (mask)
        add_mask(mask, scores, nk, row, rows, head, batch);
    /* Dividing the result by the sum instead of the scores touches d numbers per row, not nk. */
    float *inverse = scores + a->tile * nk;
    for (int64_t r = 0; r < rows; r++)
        inverse[r] = exponentials(scores + r * nk, nk);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)d, (int)nk, 1.0f, scores,
                (int)nk, vp, ldv, 0.0f, op, ldo);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < d; i++)
            op[r * ldo + i] *= inverse[r];
}

static void run_attention(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    attention *a = user;
    int64_t tiles = (dst->ne[1] + a->tile - 1) / a->tile;
    int64_t total = tiles * a->heads * dst->ne[2];
    int task;

    while (rv__op_next(&a->base, thread, (int)total, &task)) {
        int64_t tile = task % tiles, head = task / tiles % a->heads,
                batch = task / tiles / a->heads;
        run_tile(a, dst, batch, head, tile * a->tile, rv__op_scratch(&a->base, thread));
    }
    rv__op_done(&a->base, threads);
}

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

/* Rows of scores per tile: enough that packing the keys pays, few enough that the tile stays near
 * the core. */
static int64_t tile_rows(int64_t nq, int64_t nk)
{
    enum { MOST = 128, LEAST = 16, FLOATS = 1 << 19 };
    int64_t rows = FLOATS / nk;

    rows = rows < LEAST ? LEAST : rows > MOST ? MOST : rows;
    return rows < nq ? rows : nq;
}

struct ggml_tensor *rv__attention(rv__graph *g, struct ggml_tensor *q, struct ggml_tensor *k,
                                  struct ggml_tensor *v, struct ggml_tensor *mask, int heads,
                                  int kv_heads, float scale)
{
    struct ggml_tensor *args[4] = {q, k, v, mask};
    attention *a;

    if (!q || !k || !v)
        return NULL;
    if (!fits(q, k, v, mask, heads, kv_heads)) {
        rv__graph_refuse(g, "attention's inputs do not fit each other");
        return NULL;
    }
    if (rv__attention_int8_fits(g, q, k, mask, heads))
        return rv__attention_int8(g, q, k, v, mask, heads, kv_heads, scale);
    a = rv__graph_alloc(g, sizeof *a);
    if (!a)
        return NULL;
    a->heads = heads;
    a->kv_heads = kv_heads;
    a->scale = scale;
    a->head = q->ne[0] / heads;
    a->tile = tile_rows(q->ne[1], k->ne[1]);
    rv__graph_scratch(g, (size_t)(a->tile * (k->ne[1] + 1)) * sizeof(float));
    return rv__op_node(g, GGML_TYPE_F32, q->ne, args, mask ? 4 : 3, run_attention, &a->base);
}
