/* Layers on pictures {width, height, channels, batch}: convolutions and group norms, exact in
 * float32. Must never unfold a whole picture: each thread unfolds the few pixels it works on. */
#ifndef RV_PICTURE_OP_H
#define RV_PICTURE_OP_H

#include "engine/graph_op.h"

typedef struct rv__conv {
    struct ggml_tensor *weight; /* F32 {kernel, kernel, in, out} */
    struct ggml_tensor *bias;   /* {out} */
    int stride;
    int before, after; /* zeros added at the left and top, at the right and bottom */
    bool doubled;      /* the picture is first made twice as large, pixel by pixel */
} rv__conv;

struct ggml_tensor *rv__conv2d(rv__graph *g, const rv__conv *c, struct ggml_tensor *x);

/* How the parts of one picture share the statistics of their group norms (batches of one). */
typedef struct rv__norm_share {
    double *sums;        /* per group: sum, sum of squares, count of what passed; NULL: not wanted */
    const double *given; /* per group: mean and variance to use; NULL: the part's own */
} rv__norm_share;

/* silu(group_norm(x) * weight + bias), or without the silu.  share: NULL, or what is borrowed until
 * the graph ran. */
struct ggml_tensor *rv__group_norm(rv__graph *g, struct ggml_tensor *x, struct ggml_tensor *weight,
                                   struct ggml_tensor *bias, int64_t groups, float eps,
                                   bool with_silu, const rv__norm_share *share);

#endif
