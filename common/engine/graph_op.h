/* Plumbing between graphs and our own kernels; only the engine's layer files include it.
 * A kernel is a ggml custom operation: all threads of the device call it at once, share the work
 * through rv__op_next, and must not wait for each other. */
#ifndef RV_GRAPH_OP_H
#define RV_GRAPH_OP_H

#include <stdatomic.h>

#include "engine/graph.h"

/* First member of what a kernel gets as user data.  `next` hands out tasks; the thread that leaves
 * last rewinds it, so that the next run of the graph starts from zero (ggml puts a barrier between
 * two nodes). */
typedef struct rv__op {
    rv__graph *graph;
    atomic_int next;
    atomic_int left;
} rv__op;

/* Zeroed memory that lives as long as the graph; NULL when out of memory (the graph then fails to
 * build). */
void *rv__graph_alloc(rv__graph *g, size_t size);

struct ggml_context *rv__graph_context(rv__graph *g);

/* The device that makes the products of this graph; NULL: the processor. */
struct rv__gpu *rv__graph_gpu(const rv__graph *g);

/* From a kernel: the run fails with RV_INTERNAL and this sentence (static). */
void rv__op_fail(rv__op *op, const char *why);

int rv__graph_threads(const rv__graph *g);

/* True when n more tensors fit; otherwise the graph is marked as full. */
bool rv__graph_room(rv__graph *g, int n);

/* Marks the graph as unbuildable with this sentence (static). */
void rv__graph_refuse(rv__graph *g, const char *why);

/* May products be made in eight bits?  (rv__graph_fast, and the processor can.) */
bool rv__graph_is_fast(const rv__graph *g);

/* A form of x that several nodes read: the last few that were remembered are found again. */
void rv__graph_remember(rv__graph *g, const struct ggml_tensor *x, struct ggml_tensor *form);
struct ggml_tensor *rv__graph_remembered(const rv__graph *g, const struct ggml_tensor *x);

/* Makes sure that every thread has so many bytes when the graph runs. */
void rv__graph_scratch(rv__graph *g, size_t bytes);
void *rv__op_scratch(const rv__op *op, int thread); /* 64-byte aligned */

/* Adds a node F32 {ne0..ne3} (or of another type) computed by fun; op was made by rv__graph_alloc.
 * NULL: full. */
struct ggml_tensor *rv__op_node(rv__graph *g, enum ggml_type type, const int64_t ne[4],
                                struct ggml_tensor **args, int n_args, ggml_custom_op_t fun,
                                rv__op *op);

/* The next task below count for this thread, or false when there is none or the run was cancelled.
 */
bool rv__op_next(rv__op *op, int thread, int count, int *task);
void rv__op_done(rv__op *op, int threads);

/* Rows [first, last) of `rows` that belong to this thread. */
static inline void rv__op_share(int64_t rows, int thread, int threads, int64_t *first,
                                int64_t *last)
{
    int64_t each = (rows + threads - 1) / threads;

    *first = each * thread < rows ? each * thread : rows;
    *last = *first + each < rows ? *first + each : rows;
}

/* What a parameter's leaf has in `extra`: where it comes from, and low-rank matrices whose product
 * is added to it. */
typedef struct rv__addition {
    struct rv__addition *next;
    const rv__tensor *down, *up;
    float scale;
} rv__addition;

/* Changes of the matrix itself, made whenever its rows are unpacked (params_patch.c). */
typedef struct rv__patch rv__patch;
void rv__patch_rows(const rv__patch *list, int64_t first, int64_t count, int64_t in, float *rows);
void rv__patch_free(rv__patch *list);
/* Puts `weight` times a part behind the list; out of memory: false. */
bool rv__patch_add(rv__patch **list, const struct rv__lora_part *part, float weight);

typedef struct rv__copy rv__copy;     /* a weight on another device (product_device.c) */
typedef struct rv__packed rv__packed; /* a weight in eight bits (product_int8.c) */

typedef struct rv__leaf {
    const rv__tensor *tensor;
    rv__addition *additions;
    rv__patch *patches;
    rv__packed *packed; /* owned; NULL until a fast graph uses the weight */
    rv__copy *copy;     /* owned; NULL until a product wants it on another device */
} rv__leaf;
void rv__packed_free(rv__packed *p);
void rv__copy_free(rv__copy *c);

/* Rows of a weight as F32, whatever it is stored as; plain: what the leaf says of itself is all. */
bool rv__weight_is_plain(const struct ggml_tensor *leaf);
void rv__weight_rows(const struct ggml_tensor *leaf, int64_t first, int64_t count, float *out);

/* Products of groups of rows with one weight each (mixture of experts).  Group e owns the rows
 * offsets[e] .. offsets[e + 1] of x {in, rows}; offsets is I32 {groups + 1}, computed by the graph.
 * With gate_weights the result is silu(x gate^T) * (x weight^T).  Weights are leaves with data of
 * their own; both lists must outlive the graph. */
struct ggml_tensor *rv__grouped_linear(rv__graph *g, struct ggml_tensor *const *weights,
                                       struct ggml_tensor *const *gate_weights, int groups,
                                       struct ggml_tensor *x, struct ggml_tensor *offsets);

/* Will that product, of so many rows, be made in eight bits?  x may then be rv__int8_rows already. */
bool rv__grouped_in_bytes(rv__graph *g, struct ggml_tensor *const *weights,
                          struct ggml_tensor *const *gates, int groups, int64_t rows);

#endif
