/* What the ways to make attention share: heads, tiles of query rows as tasks, keys and values
 * packed once per head, and the softmax of a row.  A way fills an rv__heads; attention.c builds and runs
 * it.  Only attention*.c include this. */
#ifndef RV_ATTENTION_OP_H
#define RV_ATTENTION_OP_H

#include "graph_op.h"

/* Some query rows of one head; kv: the head of keys and values that it reads. */
typedef struct rv__tile {
    int64_t batch, head, kv, row, rows;
} rv__tile;

typedef struct rv__heads rv__heads;
struct rv__heads {
    rv__op base;
    int heads, kv_heads;
    float scale;
    int64_t head, keys; /* channels of a head; rows of keys and values */

    /* Filled by the way: */
    int64_t tile;   /* most query rows of a task */
    size_t scratch; /* bytes of a thread */
    void (*run)(const rv__heads *a, struct ggml_tensor *dst, const rv__tile *at, void *scratch);
    size_t packed; /* bytes of keys and values of one head; 0: read where they are */
    void (*pack)(const rv__heads *a, const struct ggml_tensor *from, int64_t batch, int64_t kv,
                 bool is_value, void *packed, void *scratch);
};

/* Is it a way for these? */
bool rv__attention_int8_fits(rv__graph *g, const rv__heads *a, const struct ggml_tensor *mask);
bool rv__attention_float32_fits(const rv__heads *a, const struct ggml_tensor *q);
void rv__attention_int8(rv__heads *a);
void rv__attention_float32(rv__heads *a);

/* Where the rows of a head begin, in queries, keys, values or results; how far they are apart. */
static inline float *rv__head_at(const struct ggml_tensor *t, int64_t batch, int64_t head,
                                 int64_t width)
{
    return (float *)t->data + (size_t)batch * t->nb[2] / sizeof(float) + head * width;
}

static inline int64_t rv__head_stride(const struct ggml_tensor *t)
{
    return (int64_t)(t->nb[1] / sizeof(float));
}

/* Packed keys and values of a head, of 64-byte alignment. */
void *rv__head_packed(const rv__heads *a, const struct ggml_tensor *packed, int64_t batch,
                      int64_t kv);

/* Adds the mask, if there is one, to the scores of a tile, whose rows are stride apart. */
void rv__heads_mask(const rv__heads *a, const struct ggml_tensor *dst, const rv__tile *at,
                    float *scores, int64_t stride);

/* to += from; to = from * by, also in place. */
void rv__heads_add(float *to, const float *from, int64_t n);
void rv__heads_scale(float *to, const float *from, float by, int64_t n);

/* Turns scores into e^(score - max). */
void rv__heads_exp(float *scores, int64_t n);

#endif
