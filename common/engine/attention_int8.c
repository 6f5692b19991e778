/* Attention with both products in eight bits (int8.h): keys and values are packed once per head,
 * queries and the exponentials of scores where they are used.  The mean of the keys is taken away
 * first, which changes no softmax and leaves smaller numbers to round.  Must never hold more of the
 * score matrix than one tile per thread. */
#include "attention_op.h"

#include <string.h>

#include "int8.h"
#include "vector_math.h"

enum { TILE = 48, LEAST_HEAD = 64, LEAST_KEYS = 128 };

/* ---- keys and values of a head ---- */

/* Panels of keys (inputs are channels), then panels of values (inputs are keys). */
static int64_t key_blocks(const rv__heads *a)
{
    return rv__int8_panels(a->keys) * rv__int8_blocks(a->head);
}

static int64_t value_blocks(const rv__heads *a)
{
    return rv__int8_panels(a->head) * rv__int8_blocks(a->keys);
}

static RV__VECTOR void subtract(float *restrict to, const float *restrict from,
                                const float *restrict mean, float by, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = from[i] - mean[i] * by;
}

/* room: some keys and the mean of all. */
static void pack_keys(const rv__heads *a, const float *from, int64_t stride, float *room,
                      rv__int8_block *out)
{
    float *mean = room + RV__INT8_ROWS * a->head;

    memset(mean, 0, (size_t)a->head * sizeof *mean);
    for (int64_t r = 0; r < a->keys; r++)
        rv__heads_add(mean, from + r * stride, a->head);
    for (int64_t at = 0; at < a->keys; at += RV__INT8_PANEL) {
        for (int i = 0; i < RV__INT8_PANEL; i += RV__INT8_ROWS) {
            int64_t rows = a->keys - at - i;

            rows = rows < 0 ? 0 : rows > RV__INT8_ROWS ? RV__INT8_ROWS : rows;
            for (int64_t r = 0; r < rows; r++)
                subtract(room + r * a->head, from + (at + i + r) * stride, mean,
                         1.0f / (float)a->keys, a->head);
            rv__int8_pack(room, rows, a->head, a->head, false, i, out);
        }
        out += rv__int8_blocks(a->head);
    }
}

static void pack_values(const rv__heads *a, const float *from, int64_t stride, rv__int8_block *out)
{
    for (int64_t at = 0; at < a->head; at += RV__INT8_PANEL) {
        int64_t columns = a->head - at < RV__INT8_PANEL ? a->head - at : RV__INT8_PANEL;

        rv__int8_pack_columns(from + at, columns, stride, a->keys, true, out);
        out += rv__int8_blocks(a->keys);
    }
}

static void pack(const rv__heads *a, const struct ggml_tensor *from, int64_t batch, int64_t kv,
                 bool is_value, void *packed, void *scratch)
{
    const float *rows = rv__head_at(from, batch, kv, a->head);
    rv__int8_block *out = packed;

    if (is_value)
        pack_values(a, rows, rv__head_stride(from), out + key_blocks(a));
    else
        pack_keys(a, rows, rv__head_stride(from), scratch, out);
}

/* ---- attention ---- */

/* Scratch of a thread: scores, queries and results as floats, then both inputs as bytes. */
typedef struct scratch {
    float *scores, *floats, *result;
    uint8_t *queries, *shares;
} scratch;

static int64_t score_stride(const rv__heads *a)
{
    return rv__int8_panels(a->keys) * RV__INT8_PANEL;
}

static size_t scratch_bytes(const rv__heads *a)
{
    size_t floats = (size_t)(score_stride(a) + a->head) + RV__INT8_PANEL;

    return TILE * (floats * sizeof(float) + rv__int8_row_bytes(a->head) +
                   rv__int8_row_bytes(a->keys));
}

static scratch scratch_at(const rv__heads *a, void *room)
{
    scratch s = {.scores = room};

    s.floats = s.scores + TILE * score_stride(a);
    s.result = s.floats + TILE * a->head;
    s.queries = (uint8_t *)(s.result + TILE * RV__INT8_PANEL);
    s.shares = s.queries + TILE * rv__int8_row_bytes(a->head);
    return s;
}

static void run(const rv__heads *a, struct ggml_tensor *dst, const rv__tile *at, void *room)
{
    const struct ggml_tensor *q = dst->src[0];
    const rv__int8_block *keys = rv__head_packed(a, dst->src[1], at->batch, at->kv);
    const rv__int8_block *values = keys + key_blocks(a);
    int64_t stride = score_stride(a), ldq = rv__head_stride(q), ldo = rv__head_stride(dst);
    const float *from = rv__head_at(q, at->batch, at->head, a->head) + at->row * ldq;
    float *to = rv__head_at(dst, at->batch, at->head, a->head) + at->row * ldo;
    scratch s = scratch_at(a, room);
    float inverse[TILE];

    for (int64_t r = 0; r < at->rows; r++) {
        rv__heads_scale(s.floats, from + r * ldq, a->scale, a->head);
        rv__int8_row(s.floats, a->head, s.queries + (size_t)r * rv__int8_row_bytes(a->head));
    }
    for (int64_t p = 0; p < rv__int8_panels(a->keys); p++)
        rv__int8_multiply(s.queries, at->rows, keys + p * rv__int8_blocks(a->head),
                          rv__int8_blocks(a->head), s.scores + p * RV__INT8_PANEL, stride);
    rv__heads_mask(a, dst, at, s.scores, stride);
    for (int64_t r = 0; r < at->rows; r++) {
        float *scores = s.scores + r * stride;
        int64_t sum;

        rv__heads_exp(scores, a->keys);
        sum = rv__int8_shares(scores, a->keys, s.shares + (size_t)r * rv__int8_row_bytes(a->keys));
        inverse[r] = 255.0f / (float)sum; /* the largest share is 255 */
    }
    for (int64_t p = 0; p < rv__int8_panels(a->head); p++) {
        int64_t first = p * RV__INT8_PANEL,
                n = a->head - first < RV__INT8_PANEL ? a->head - first : RV__INT8_PANEL;

        rv__int8_multiply(s.shares, at->rows, values + p * rv__int8_blocks(a->keys),
                          rv__int8_blocks(a->keys), s.result, RV__INT8_PANEL);
        for (int64_t r = 0; r < at->rows; r++)
            rv__heads_scale(to + r * ldo + first, s.result + r * RV__INT8_PANEL, inverse[r], n);
    }
}

/* ---- choosing ---- */

bool rv__attention_int8_fits(rv__graph *g, const rv__heads *a, const struct ggml_tensor *mask)
{
    /* Of masks only one row for all queries, heads and batches: that of padding. */
    return rv__graph_is_fast(g) && a->head >= LEAST_HEAD && a->keys >= LEAST_KEYS &&
           a->keys < 1 << 22 &&
           (!mask || (mask->ne[1] == 1 && mask->ne[2] == 1 && mask->ne[3] == 1));
}

void rv__attention_int8(rv__heads *a)
{
    size_t packing = (size_t)((RV__INT8_ROWS + 1) * a->head) * sizeof(float);

    a->tile = TILE;
    a->scratch = scratch_bytes(a) > packing ? scratch_bytes(a) : packing;
    a->packed = (size_t)(key_blocks(a) + value_blocks(a)) * sizeof(rv__int8_block);
    a->run = run;
    a->pack = pack;
}
