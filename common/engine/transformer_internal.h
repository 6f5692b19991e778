/* The transformer's state, shared by the file that builds its graphs and the one that runs them. */
#ifndef RV_TRANSFORMER_INTERNAL_H
#define RV_TRANSFORMER_INTERNAL_H

#include "step_cache.h"
#include "transformer_net.h"

enum { RV__TIME_FEATURES = 256 }; /* fixed in the reference */

/* The tokens between two blocks: image and text apart, or text NULL and all of them in image. */
typedef struct rv__streams {
    struct ggml_tensor *image, *text;
} rv__streams;

/* What a graph was built for. */
typedef struct rv__shape {
    int64_t width, height; /* in patches */
    int64_t t5, llama;     /* tokens */
    int64_t batch;
    /* Blocks before and after those that a step cache may skip; tail < 0: nothing is skipped. */
    int64_t head_blocks, tail_blocks;
} rv__shape;

struct rv__transformer {
    rv__device *device;
    rv__transformer_net net;
    rv__shape shape;
    int64_t tokens, pad; /* image tokens; pad: 1 when one more row stands for all padding, else 0 */
    bool is_fast;
    rv__tap_fn *tap;
    void *tap_user;

    rv__graph *graph;
    struct ggml_tensor *patches, *time, *pooled, *cosine, *sine, *mask, *out;
    struct ggml_tensor *t5, **llama; /* projected texts: {width, tokens, batch}, one per block */
    double flops;

    /* What a step cache looks at and puts in: the embedded picture or time, and the streams before
     * and after the blocks that may be skipped. */
    rv__cache_options caching;
    rv__step_cache cache;
    struct ggml_tensor *embedded, *time_embedded;
    rv__streams before, after;

    rv__graph *text_graph;
    struct ggml_tensor *raw_t5, **raw_llama; /* inputs, one per layer that is used */
    struct ggml_tensor **projected;          /* blocks + 1 */
};

/* Sections of the graph when a step cache is on: what is always run first, what may be skipped,
 * what is always run last. */
enum { RV__HEAD_SECTION, RV__MIDDLE_SECTION, RV__TAIL_SECTION };

#endif
