/* Attention with both products in eight bits (int8.h): keys and values are packed once per head,
 * queries and the exponentials of scores where they are used.  The mean of the keys is taken away
 * first, which changes no softmax and leaves smaller numbers to round.  Must never hold more of the
 * score matrix than one tile per thread. */
#include "attention_int8.h"

#include <string.h>

#include "int8.h"
#include "vector_math.h"

enum { TILE = 48, LEAST_HEAD = 64, LEAST_KEYS = 128 };

typedef struct attention {
    rv__op base;
    int heads, kv_heads;
    float scale;
    int64_t head, keys;
} attention;

/* ---- keys and values of all heads ---- */

/* Per batch and head: panels of keys (inputs are channels), then panels of values (inputs are keys). */
static int64_t key_blocks(const attention *a)
{
    return rv__int8_panels(a->keys) * rv__int8_blocks(a->head);
}

static int64_t value_blocks(const attention *a)
{
    return rv__int8_panels(a->head) * rv__int8_blocks(a->keys);
}

static rv__int8_block *packed_head(const attention *a, const struct ggml_tensor *packed,
                                   int64_t batch, int64_t kv)
{
    rv__int8_block *all =
        (void *)(((uintptr_t)packed->data + RV__INT8_ALIGN - 1) & ~(uintptr_t)(RV__INT8_ALIGN - 1));

    return all + (batch * a->kv_heads + kv) * (key_blocks(a) + value_blocks(a));
}

static const float *head_of(const struct ggml_tensor *t, int64_t batch, int64_t kv, int64_t head)
{
    return (const float *)t->data + (size_t)batch * t->nb[2] / sizeof(float) + kv * head;
}

static RV__VECTOR void add_row(float *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

static RV__VECTOR void subtract(float *restrict to, const float *restrict from,
                                const float *restrict mean, float by, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = from[i] - mean[i] * by;
}

/* room: 64 keys and their mean. */
static void pack_keys(const attention *a, const struct ggml_tensor *k, int64_t batch, int64_t kv,
                      float *room, rv__int8_block *out)
{
    const float *from = head_of(k, batch, kv, a->head);
    int64_t stride = (int64_t)(k->nb[1] / sizeof(float));
    float *mean = room + RV__INT8_PANEL * a->head;

    memset(mean, 0, (size_t)a->head * sizeof *mean);
    for (int64_t r = 0; r < a->keys; r++)
        add_row(mean, from + r * stride, a->head);
    for (int64_t at = 0; at < a->keys; at += RV__INT8_PANEL) {
        int64_t rows = a->keys - at < RV__INT8_PANEL ? a->keys - at : RV__INT8_PANEL;

        for (int64_t r = 0; r < rows; r++)
            subtract(room + r * a->head, from + (at + r) * stride, mean, 1.0f / (float)a->keys,
                     a->head);
        rv__int8_pack(room, rows, a->head, a->head, false, out);
        out += rv__int8_blocks(a->head);
    }
}

static void pack_values(const attention *a, const struct ggml_tensor *v, int64_t batch, int64_t kv,
                        rv__int8_block *out)
{
    const float *from = head_of(v, batch, kv, a->head);

    for (int64_t at = 0; at < a->head; at += RV__INT8_PANEL) {
        int64_t columns = a->head - at < RV__INT8_PANEL ? a->head - at : RV__INT8_PANEL;

        rv__int8_pack_columns(from + at, columns, (int64_t)(v->nb[1] / sizeof(float)), a->keys, true,
                              out);
        out += rv__int8_blocks(a->keys);
    }
}

static void run_pack(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    attention *a = user;
    const struct ggml_tensor *k = dst->src[0], *v = dst->src[1];
    int total = (int)(2 * a->kv_heads * k->ne[2]), task;

    while (rv__op_next(&a->base, thread, total, &task)) {
        int64_t batch = task / 2 / a->kv_heads, kv = task / 2 % a->kv_heads;
        rv__int8_block *out = packed_head(a, dst, batch, kv);

        if (task % 2)
            pack_values(a, v, batch, kv, out + key_blocks(a));
        else
            pack_keys(a, k, batch, kv, rv__op_scratch(&a->base, thread), out);
    }
    rv__op_done(&a->base, threads);
}

/* ---- attention ---- */

static RV__VECTOR void exponentials(float *row, int64_t n)
{
    float lane[16], max = row[0];
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
    for (i = 0; i < n; i++)
        row[i] = rv__exp(row[i] - max);
}

/* Scratch of a thread: scores, queries and results as floats, then both inputs as bytes. */
typedef struct scratch {
    float *scores, *floats, *result;
    uint8_t *queries, *shares;
} scratch;

static int64_t score_stride(const attention *a)
{
    return rv__int8_panels(a->keys) * RV__INT8_PANEL;
}

static size_t scratch_bytes(const attention *a)
{
    size_t floats = (size_t)(score_stride(a) + a->head) + RV__INT8_PANEL;

    return TILE * (floats * sizeof(float) + rv__int8_row_bytes(a->head) +
                   rv__int8_row_bytes(a->keys));
}

static scratch scratch_at(const attention *a, void *room)
{
    scratch s = {.scores = room};

    s.floats = s.scores + TILE * score_stride(a);
    s.result = s.floats + TILE * a->head;
    s.queries = (uint8_t *)(s.result + TILE * RV__INT8_PANEL);
    s.shares = s.queries + TILE * rv__int8_row_bytes(a->head);
    return s;
}

static RV__VECTOR void scale_row(float *restrict to, const float *restrict from, float by,
                                 int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = from[i] * by;
}

static void run_tile(const attention *a, struct ggml_tensor *dst, int64_t batch, int64_t head,
                     int64_t row, const scratch *s)
{
    const struct ggml_tensor *q = dst->src[0], *mask = dst->src[2];
    const rv__int8_block *keys =
        packed_head(a, dst->src[1], batch, head * a->kv_heads / a->heads);
    const rv__int8_block *values = keys + key_blocks(a);
    int64_t rows = q->ne[1] - row < TILE ? q->ne[1] - row : TILE, stride = score_stride(a);
    int64_t ldq = (int64_t)(q->nb[1] / sizeof(float)), ldo = (int64_t)(dst->nb[1] / sizeof(float));
    const float *from = head_of(q, batch, head, a->head) + row * ldq;
    float *to = (float *)dst->data + (size_t)batch * dst->nb[2] / sizeof(float) + row * ldo +
                head * a->head;
    float inverse[TILE];

    for (int64_t r = 0; r < rows; r++) {
        scale_row(s->floats, from + r * ldq, a->scale, a->head);
        rv__int8_row(s->floats, a->head, s->queries + (size_t)r * rv__int8_row_bytes(a->head));
    }
    for (int64_t p = 0; p < rv__int8_panels(a->keys); p++)
        rv__int8_multiply(s->queries, rows, keys + p * rv__int8_blocks(a->head),
                          rv__int8_blocks(a->head), s->scores + p * RV__INT8_PANEL, stride);
    for (int64_t r = 0; r < rows; r++) {
        float *scores = s->scores + r * stride;
        int64_t sum;

        if (mask)
            add_row(scores, mask->data, a->keys);
        exponentials(scores, a->keys);
        sum = rv__int8_shares(scores, a->keys, s->shares + (size_t)r * rv__int8_row_bytes(a->keys));
        inverse[r] = 255.0f / (float)sum; /* the largest share is 255 */
    }
    for (int64_t p = 0; p < rv__int8_panels(a->head); p++) {
        int64_t at = p * RV__INT8_PANEL,
                n = a->head - at < RV__INT8_PANEL ? a->head - at : RV__INT8_PANEL;

        rv__int8_multiply(s->shares, rows, values + p * rv__int8_blocks(a->keys),
                          rv__int8_blocks(a->keys), s->result, RV__INT8_PANEL);
        for (int64_t r = 0; r < rows; r++)
            scale_row(to + r * ldo + at, s->result + r * RV__INT8_PANEL, inverse[r], n);
    }
}

static void run_attention(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    attention *a = user;
    int64_t tiles = (dst->ne[1] + TILE - 1) / TILE;
    int total = (int)(tiles * a->heads * dst->ne[2]), task;
    scratch s = scratch_at(a, rv__op_scratch(&a->base, thread));

    while (rv__op_next(&a->base, thread, total, &task)) {
        int64_t tile = task % tiles, head = task / tiles % a->heads,
                batch = task / tiles / a->heads;

        run_tile(a, dst, batch, head, tile * TILE, &s);
    }
    rv__op_done(&a->base, threads);
}

/* ---- building ---- */

bool rv__attention_int8_fits(rv__graph *g, const struct ggml_tensor *q, const struct ggml_tensor *k,
                             const struct ggml_tensor *mask, int heads)
{
    /* Of masks only one row for all queries, heads and batches: that of padding. */
    return rv__graph_is_fast(g) && q->ne[0] / heads >= LEAST_HEAD && k->ne[1] >= LEAST_KEYS &&
           k->ne[1] < 1 << 22 && (!mask || (mask->ne[1] == 1 && mask->ne[2] == 1 && mask->ne[3] == 1));
}

static attention *new_attention(rv__graph *g, const struct ggml_tensor *q,
                                const struct ggml_tensor *k, int heads, int kv_heads, float scale)
{
    attention *a = rv__graph_alloc(g, sizeof *a);

    if (a) {
        a->heads = heads;
        a->kv_heads = kv_heads;
        a->scale = scale;
        a->head = q->ne[0] / heads;
        a->keys = k->ne[1];
    }
    return a;
}

struct ggml_tensor *rv__attention_int8(rv__graph *g, struct ggml_tensor *q, struct ggml_tensor *k,
                                       struct ggml_tensor *v, struct ggml_tensor *mask, int heads,
                                       int kv_heads, float scale)
{
    attention *pack = new_attention(g, q, k, heads, kv_heads, scale),
              *a = new_attention(g, q, k, heads, kv_heads, scale);
    struct ggml_tensor *both[2] = {k, v}, *args[3] = {q, NULL, mask};
    int64_t ne[4] = {0, 1, 1, 1};

    if (!pack || !a)
        return NULL;
    ne[0] = (key_blocks(a) + value_blocks(a)) * kv_heads * k->ne[2] *
                (int64_t)sizeof(rv__int8_block) + RV__INT8_ALIGN;
    args[1] = rv__op_node(g, GGML_TYPE_I8, ne, both, 2, run_pack, &pack->base);
    rv__graph_scratch(g, (size_t)((RV__INT8_PANEL + 1) * a->head) * sizeof(float));
    rv__graph_scratch(g, scratch_bytes(a));
    return rv__op_node(g, GGML_TYPE_F32, q->ne, args, mask ? 3 : 2, run_attention, &a->base);
}
