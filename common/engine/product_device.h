/* Products on another device: a ggml back end (Vulkan, CUDA, HIP ...) that is loaded at run time
 * holds the matrices and multiplies, everything between products stays on the processor.  Exact as
 * far as the back end is; activations go there in float32.  Must never be the reason that a model
 * does not run: a matrix that does not fit into the device's memory is multiplied with here. */
#ifndef RV_PRODUCT_DEVICE_H
#define RV_PRODUCT_DEVICE_H

#include "graph_op.h"

typedef struct rv__gpu rv__gpu;

/* The first device whose name begins with `name` ("Vulkan", "CUDA1"), letters without case.  out
 * (rv__gpu_close, after all parameters that were used on it).  RV_NOT_FOUND lists what there is. */
rv_status rv__gpu_open(const char *name, rv__gpu **out, rv_error *err);
void rv__gpu_close(rv__gpu *gpu);

/* One product, as rv__linear, rv__swiglu and rv__grouped_linear describe theirs. */
typedef struct rv__gpu_product {
    struct ggml_tensor *weight, *gate, *bias;
    struct ggml_tensor *const *weights, *const *gates; /* of groups */
    struct ggml_tensor *offsets;
    int groups; /* 0: one weight */
} rv__gpu_product;

/* Whether this product is to be made on the graph's device. */
bool rv__gpu_fits(rv__graph *g, const rv__gpu_product *what, int64_t rows);
struct ggml_tensor *rv__gpu_build(rv__graph *g, const rv__gpu_product *what, struct ggml_tensor *x);

#endif
