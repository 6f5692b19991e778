/* Attention in eight bits as nodes of a graph; only attention.c includes it. */
#ifndef RV_ATTENTION_INT8_H
#define RV_ATTENTION_INT8_H

#include "graph_op.h"

/* May this attention be made in eight bits: the graph is fast and heads are large enough? */
bool rv__attention_int8_fits(rv__graph *g, const struct ggml_tensor *q, const struct ggml_tensor *k,
                             const struct ggml_tensor *mask, int heads);

/* See rv__attention; shapes were checked there. */
struct ggml_tensor *rv__attention_int8(rv__graph *g, struct ggml_tensor *q, struct ggml_tensor *k,
                                       struct ggml_tensor *v, struct ggml_tensor *mask, int heads,
                                       int kv_heads, float scale);

#endif
