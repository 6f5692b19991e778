/* Products in eight bits as nodes of a graph; only the files that build products include it. */
#ifndef RV_PRODUCT_INT8_H
#define RV_PRODUCT_INT8_H

#include "graph_op.h"
#include "int8.h"

/* What is multiplied: one weight (and gate) for all rows, or one per group. */
typedef struct rv__int8_product {
    struct ggml_tensor *weight, *gate, *bias;
    int groups; /* 0: one weight */
    struct ggml_tensor *const *weights, *const *gates;
    struct ggml_tensor *offsets; /* of the groups */
} rv__int8_product;

/* May this product be made in eight bits: the graph is fast, it is large enough, and nothing is
 * added to its weights? */
bool rv__int8_fits(rv__graph *g, const struct ggml_tensor *weight, const struct ggml_tensor *gate,
                   int64_t rows);

/* F32 rows {in, tokens, batch} as I8 {rv__int8_row_bytes(in), tokens, batch}; the same x gives the
 * same node; I8 is returned as it is.  NULL: full. */
struct ggml_tensor *rv__int8_rows(rv__graph *g, struct ggml_tensor *x);

/* x: F32 rows or the result of rv__int8_rows; rows: how many a weight gets, roughly. */
struct ggml_tensor *rv__int8_build(rv__graph *g, const rv__int8_product *what,
                                   struct ggml_tensor *x, int64_t in, int64_t out, int64_t rows);

#endif
