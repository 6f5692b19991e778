/* Some of the transformer's blocks, run for another machine that has the rest: streams in, streams
 * out.  Same graphs, same kernels, so that a picture does not depend on where its blocks ran. */
#ifndef RV_TRANSFORMER_PART_H
#define RV_TRANSFORMER_PART_H

#include "engine/graph.h"

enum { RV__PART_SPANS = 3, RV__PART_BATCH = 8 }; /* a step cache cuts a machine's blocks twice at most */

/* What a machine is made ready for.  Sizes in patches and tokens. */
typedef struct rv__part_shape {
    int64_t width, height, t5, llama, batch;
    bool is_fast;
    int spans;
    int64_t first[RV__PART_SPANS], end[RV__PART_SPANS]; /* blocks [first, end), ascending */
} rv__part_shape;

typedef struct rv__transformer rv__transformer;

int64_t rv__transformer_block_count(const rv__transformer *t);

/* Of the tensors' names, shapes, types and samples of their values: 64 hexadecimal digits that are
 * equal where the weights are.  Borrowed. */
const char *rv__transformer_fingerprint(rv__transformer *t);

/* Builds a graph for each span, unless the last shape was the same.  Shapes may come from anywhere:
 * RV_VALIDATION, RV_MEMORY. */
rv_status rv__part_prepare(rv__transformer *t, const rv__part_shape *shape, rv_error *err);

/* Numbers that a text, the embedding, and the streams have in the prepared shape; two streams have as
 * many rows as the one that they become. */
size_t rv__part_text_floats(const rv__transformer *t);
size_t rv__part_emb_floats(const rv__transformer *t);
size_t rv__part_stream_floats(const rv__transformer *t);

/* The projected text of a block of the prepared spans; false: it is none of them. */
bool rv__part_text(rv__transformer *t, int64_t block, const float *text);

/* One evaluation of a span.  Texts of all its blocks were set before. */
rv_status rv__part_run(rv__transformer *t, int span, const float *emb, const float *streams,
                       float *out, rv__cancel_fn *cancelled, void *user, rv_error *err);

int64_t rv__part_block(const rv__transformer *t, const char *name); /* that a tensor is of, or -1 */
double rv__part_weights(const rv__transformer *t, int64_t first, int64_t end); /* stored bytes */
size_t rv__part_bytes(const rv__transformer *t);                              /* activations */

/* Gives the graphs' memory back. */
void rv__part_release(rv__transformer *t);

#endif
