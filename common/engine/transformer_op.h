/* Kernels only the transformer needs: each does in one pass over the tokens what plain operations
 * do in three to six.  Must not allocate or wait. */
#ifndef RV_TRANSFORMER_OP_H
#define RV_TRANSFORMER_OP_H

#include "engine/graph_op.h"

/* layer_norm(x) * (1 + scale) + shift; both are chunks of modulation {chunks * channels, batch}. */
struct ggml_tensor *rv__modulate(rv__graph *g, struct ggml_tensor *x,
                                 struct ggml_tensor *modulation, int shift, int scale, float eps);

/* x + gate * y, gate being a chunk of modulation. */
struct ggml_tensor *rv__gated_add(rv__graph *g, struct ggml_tensor *x, struct ggml_tensor *y,
                                  struct ggml_tensor *modulation, int gate);

/* The tokens of a, then those of b (b may be NULL).  With norms: each row divided by its root mean
 * square over all channels and multiplied by its stream's weight.  With tables {pairs, tokens}:
 * adjacent pairs of each head turned. Row `zero` becomes 0 (negative: none). */
typedef struct rv__join {
    struct ggml_tensor *a, *b, *norm_a, *norm_b, *cosine, *sine;
    int heads;
    int64_t zero;
    float eps;
} rv__join;
struct ggml_tensor *rv__join_tokens(rv__graph *g, const rv__join *join);

/* Mixture of experts. */
typedef struct rv__experts {
    struct ggml_tensor *gate;
    struct ggml_tensor **w1, **w2, **w3; /* one per expert */
    struct ggml_tensor *shared_w1, *shared_w2, *shared_w3;
    int count, chosen;
} rv__experts;

/* shared(x) + sum over the chosen experts of probability * expert(x).  x {channels, tokens, batch},
 * contiguous. `name` is the prefix of its taps (topk_idx, topk_weight, shared). */
struct ggml_tensor *rv__mix_experts(rv__graph *g, const rv__experts *e, struct ggml_tensor *x,
                                    const char *name);

#endif
