/* Numeric graphs: the one place that touches ggml back ends.  Devices, weights as graph leaves,
 * graphs that are built once per shape and run many times, and the layers all our networks are made
 * of, exact in float32. Must never abort on a caller's data: shapes of weights are checked while
 * they are collected (rv__param), sizes of activations before a graph is built, memory when it is
 * allocated.
 *
 * Activations are F32 in ggml order: ne = {channels, tokens, batch}; pictures are {width, height,
 * channels, batch}. Weights keep their stored type and are turned into F32 piece by piece inside
 * each product, so that no activation is ever rounded and no second copy of a model exists.
 *
 * Threads: a device and everything made on it belong to one thread at a time. */
#ifndef RV_GRAPH_H
#define RV_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/weights.h"
#include <ggml.h>

/* ---- device ---- */

typedef struct rv__device rv__device;

/* Chooses the CPU variant of this machine.  threads <= 0: cores - 1, at least 1.  out
 * (rv__device_close). */
rv_status rv__device_open(int threads, rv__device **out, rv_error *err);

/* The same with another device that makes the products: what ggml's name for it begins with
 * ("Vulkan", "CUDA0"), "cpu" for none; NULL: what REVERIE_DEVICE says, which is what
 * rv__device_open takes.  RV_UNSUPPORTED names those that are
 * there. */
rv_status rv__device_open_with(const char *name, int threads, rv__device **out, rv_error *err);
void rv__device_close(rv__device *d);
int rv__device_threads(const rv__device *d);

/* ---- parameters: the tensors of one part as graph leaves ---- */

typedef struct rv__params rv__params;

/* Weights must outlive the set.  Room for every tensor of the part is made here.  out
 * (rv__params_close). */
rv_status rv__params_open(const rv__weights *w, const char *part, rv__params **out, rv_error *err);
void rv__params_close(rv__params *p);

/* The tensor with this name and shape (slowest axis first; -1 accepts any positive length), NULL
 * when it is absent, has another shape, or a type nothing can be computed with.  The first failure
 * is kept (rv__params_check), so that a network collects all its tensors first and asks once.  The
 * leaf's ne is the shape reversed. Vectors and convolution kernels (four axes) are always F32;
 * matrices keep their type; the same name gives the same leaf. */
struct ggml_tensor *rv__param(rv__params *p, const int64_t *shape, int n_dims, const char *name,
                              ...) __attribute__((format(printf, 4, 5)));
struct ggml_tensor *rv__param_vector(rv__params *p, int64_t n, const char *name, ...)
    __attribute__((format(printf, 3, 4)));
struct ggml_tensor *rv__param_matrix(rv__params *p, int64_t out, int64_t in, const char *name, ...)
    __attribute__((format(printf, 4, 5)));
bool rv__params_has(const rv__params *p, const char *name, ...)
    __attribute__((format(printf, 2, 3)));
rv_status rv__params_check(const rv__params *p, rv_error *err); /* RV_OK or the first failure */
const rv__tensor *rv__params_list(const rv__params *p, size_t *count); /* all tensors of the part */

/* Changes the matrix that a part of a LoRA names, `weight` times: a plain pair is added to every
 * product with it (its tensors are borrowed until rv__params_plain takes all changes away), any
 * other kind is copied and changes the rows of the matrix when they are unpacked.  Graphs that were
 * built before must be built anew.  RV_UNSUPPORTED (no such matrix here), RV_FORMAT, RV_MEMORY. */
struct rv__lora_part;
rv_status rv__params_change(rv__params *p, const struct rv__lora_part *part, float weight,
                            rv_error *err);
void rv__params_plain(rv__params *p);

/* Copies a leaf as F32 into out (ggml_nelements floats), whatever its type. */
void rv__param_floats(const struct ggml_tensor *leaf, float *out);

/* The leaf will not be read for a while: its whole pages of the mapped file need no memory until
 * they are. */
void rv__param_rest(const struct ggml_tensor *leaf);

/* ---- graphs ---- */

typedef struct rv__graph rv__graph;

/* Room for max_nodes tensors, views and leaves counted; needing more fails in rv__graph_build with
 * RV_INTERNAL and is never an overflow: helpers return NULL then and accept NULL.  NULL when out of
 * memory. */
rv__graph *rv__graph_new(rv__device *d, size_t max_nodes);
void rv__graph_free(rv__graph *g);

/* Large products of this graph may round to eight bits where the processor is faster with them
 * (int8.h); without it, or on other processors, everything is float32.  Set before adding nodes. */
void rv__graph_fast(rv__graph *g, bool fast);

/* Called after each run for every tapped tensor, in graph order; data is contiguous F32 or I32. */
typedef void rv__tap_fn(void *user, const char *name, const struct ggml_tensor *t,
                        const void *data);

/* Set before building.  Without it rv__tap does nothing. */
void rv__graph_taps(rv__graph *g, rv__tap_fn *fn, void *user);
struct ggml_tensor *rv__tap(rv__graph *g, struct ggml_tensor *t, const char *name, ...)
    __attribute__((format(printf, 3, 4))); /* returns t */

struct ggml_tensor *rv__graph_input(rv__graph *g, enum ggml_type type, int64_t ne0, int64_t ne1,
                                    int64_t ne2, int64_t ne3);
void rv__graph_output(rv__graph *g, struct ggml_tensor *t);

/* Before building: what is added from here on is another section, which can be run by itself after
 * those before it, or instead of them when the caller writes their outputs (at most RV__SECTIONS;
 * only values marked by rv__graph_output may be read across). */
enum { RV__SECTIONS = 4 };
void rv__graph_cut(rv__graph *g);

/* Allocates everything the graph needs to run.  RV_MEMORY, RV_INTERNAL. */
rv_status rv__graph_build(rv__graph *g, rv_error *err);
size_t rv__graph_bytes(const rv__graph *g); /* memory taken by the built graph */

/* After building: fills an input, reads an output (whole tensors; bytes must match exactly). */
void rv__graph_set(rv__graph *g, struct ggml_tensor *t, const void *data, size_t bytes);
void rv__graph_get(const rv__graph *g, const struct ggml_tensor *t, void *data, size_t bytes);

/* Asked several times a second from any of the device's threads while a graph runs; NULL: never. */
typedef bool rv__cancel_fn(void *user);

/* RV_CANCELLED, RV_INTERNAL. */
rv_status rv__graph_run(rv__graph *g, rv__cancel_fn *cancelled, void *user, rv_error *err);

/* Runs one section of a graph that was cut; taps are not called. */
rv_status rv__graph_run_section(rv__graph *g, int section, rv__cancel_fn *cancelled, void *user,
                                rv_error *err);

/* ---- layers ----
 * Each returns NULL when an argument is NULL or the graph is full.  x is contiguous along its
 * first axis. */

/* Every product with weights goes through here: y = x * weight^T + bias.  weight ne {in, out}, bias
 * {out} or NULL, x {in, tokens, batch} where batches may lie apart (a view); y {out, tokens,
 * batch}. */
struct ggml_tensor *rv__linear(rv__graph *g, struct ggml_tensor *weight, struct ggml_tensor *bias,
                               struct ggml_tensor *x);

/* silu(x * w1^T) * (x * w3^T): the gated half of a SwiGLU, without the two intermediate tensors. */
struct ggml_tensor *rv__swiglu(rv__graph *g, struct ggml_tensor *w1, struct ggml_tensor *w3,
                               struct ggml_tensor *x);

/* softmax(q k^T * scale + mask) v.  q {head * heads, nq, batch}, k and v {head * kv_heads, nk,
 * batch}; heads is a multiple of kv_heads (query head h reads h * kv_heads / heads).  mask F32 {nk,
 * nq or 1, heads or 1, batch or 1} or NULL, added after scaling; a row may hold -INFINITY but not
 * only.  Result like q.  Memory: one tile of rows. */
struct ggml_tensor *rv__attention(rv__graph *g, struct ggml_tensor *q, struct ggml_tensor *k,
                                  struct ggml_tensor *v, struct ggml_tensor *mask, int heads,
                                  int kv_heads, float scale);

/* Rotates the heads of x {head * heads, tokens, batch} by angles tabled by the caller: cosine and
 * sine {pairs, tokens}, pairs <= head / 2.  adjacent: channels 2p and 2p + 1; else p and p + head
 * / 2. */
struct ggml_tensor *rv__rope(rv__graph *g, struct ggml_tensor *x, int heads,
                             struct ggml_tensor *cosine, struct ggml_tensor *sine, bool adjacent);

/* Norms over the channels; weight and bias may be NULL. */
struct ggml_tensor *rv__layer_norm(rv__graph *g, struct ggml_tensor *x, struct ggml_tensor *weight,
                                   struct ggml_tensor *bias, float eps);
struct ggml_tensor *rv__rms_norm(rv__graph *g, struct ggml_tensor *x, struct ggml_tensor *weight,
                                 float eps);

/* Element by element, within a few units in the last place. */
typedef enum rv__activation {
    RV__SILU,
    RV__GELU_ERF,
    RV__GELU_TANH,
    RV__GELU_QUICK
} rv__activation;
struct ggml_tensor *rv__activate(rv__graph *g, struct ggml_tensor *x, rv__activation kind);

/* Elementwise with broadcasting of b over a. */
struct ggml_tensor *rv__add(rv__graph *g, struct ggml_tensor *a, struct ggml_tensor *b);
struct ggml_tensor *rv__mul(rv__graph *g, struct ggml_tensor *a, struct ggml_tensor *b);

/* Rows of a table {n, rows} (any type) picked by ids I32 {tokens}: F32 {n, tokens}.  Ids must be in
 * range: check them before rv__graph_set. */
struct ggml_tensor *rv__rows(rv__graph *g, struct ggml_tensor *table, struct ggml_tensor *ids);

/* A part of the tokens, or of the channels, as a view. */
struct ggml_tensor *rv__tokens(rv__graph *g, struct ggml_tensor *x, int64_t first, int64_t count);
struct ggml_tensor *rv__channels(rv__graph *g, struct ggml_tensor *x, int64_t first, int64_t count);

#endif
