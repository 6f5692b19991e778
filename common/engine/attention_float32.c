/* Attention exact in float32 with keys and values packed once per head (float32.h), for processors
 * that have it.  Must give the sums of the way with sgemm. */
#include "attention_op.h"
#include "float32.h"
#include "vector_math.h"

/* Panels of keys, then panels of values; both fill whole cache lines. */
static float *values_of(const rv__heads *a, void *packed)
{
    return (float *)packed + rv__float32_room(a->head, a->keys);
}

static void pack(const rv__heads *a, const struct ggml_tensor *from, int64_t batch, int64_t kv,
                 bool is_value, void *packed, void *scratch)
{
    const float *rows = rv__head_at(from, batch, kv, a->head);

    (void)scratch;
    if (is_value)
        rv__float32_pack_columns(rows, a->head, rv__head_stride(from), a->keys,
                                 values_of(a, packed));
    else
        rv__float32_pack(rows, a->keys, rv__head_stride(from), a->head, packed);
}

static RV__VECTOR float total(const float *x, int64_t n)
{
    return rv__sum(x, n);
}

static void run(const rv__heads *a, struct ggml_tensor *dst, const rv__tile *at, void *scratch)
{
    const struct ggml_tensor *q = dst->src[0];
    int64_t ldq = rv__head_stride(q), ldo = rv__head_stride(dst);
    float *keys = rv__head_packed(a, dst->src[1], at->batch, at->kv), *scores = scratch;
    float *out = rv__head_at(dst, at->batch, at->head, a->head) + at->row * ldo;

    rv__float32_multiply(rv__head_at(q, at->batch, at->head, a->head) + at->row * ldq, ldq,
                         at->rows, keys, a->head, a->keys, a->scale, scores, a->keys, false);
    rv__heads_mask(a, dst, at, scores, a->keys);
    for (int64_t r = 0; r < at->rows; r++)
        rv__heads_exp(scores + r * a->keys, a->keys);
    rv__float32_multiply(scores, a->keys, at->rows, values_of(a, keys), a->keys, a->head, 1, out,
                         ldo, false);
    /* Dividing the result by the sum instead of the scores touches few numbers per row. */
    for (int64_t r = 0; r < at->rows; r++)
        rv__heads_scale(out + r * ldo, out + r * ldo,
                        1.0f / total(scores + r * a->keys, a->keys), a->head);
}

bool rv__attention_float32_fits(const rv__heads *a, const struct ggml_tensor *q)
{
    enum { LEAST_ROWS = 16 };

    return rv__float32_usable() && q->ne[1] >= LEAST_ROWS && a->keys >= LEAST_ROWS &&
           a->head >= RV__FLOAT32_PANEL;
}

/* Few enough rows that their scores stay in the second cache. */
void rv__attention_float32(rv__heads *a)
{
    enum { FLOATS = 80 << 10, MOST = 8 };
    int64_t fit = FLOATS / a->keys / RV__FLOAT32_ROWS;

    a->tile = (fit < 1 ? 1 : fit > MOST ? MOST : fit) * RV__FLOAT32_ROWS;
    a->scratch = (size_t)(a->tile * a->keys) * sizeof(float);
    a->packed = (size_t)(rv__float32_room(a->head, a->keys) + rv__float32_room(a->keys, a->head)) *
                sizeof(float);
    a->run = run;
    a->pack = pack;
}
