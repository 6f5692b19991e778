/* The transformer's state, shared by the file that builds its graphs and the one that runs them. */
#ifndef RV_TRANSFORMER_INTERNAL_H
#define RV_TRANSFORMER_INTERNAL_H

#include "rpc_machines.h"
#include "step_cache.h"
#include "transformer_part.h"
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

/* What one evaluation does, in order: sections of the graph, and blocks that another machine has. */
typedef struct rv__step {
    int machine; /* of the machines (rpc_machines.h); negative: a section of our graph */
    int number;  /* of the section, or of the machine's span */
    int64_t first, end;  /* another machine's blocks */
    rv__streams in, out; /* where what goes to them and comes from them lies */
} rv__step;
enum { RV__STEPS = 2 * RV__MACHINES + 8 };

/* Blocks that are served to another machine: a graph of their own (transformer_part.c). */
typedef struct rv__part_graph {
    rv__graph *graph;
    int64_t first, end;
    struct ggml_tensor *emb;
    rv__streams in, out;
} rv__part_graph;

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

    /* The way through the graph; one step without any cut when nothing asks for one. */
    rv__step steps[RV__STEPS];
    int step_count, cut_count;
    struct ggml_tensor *emb; /* SiLU of time and pooled text */
    int head_steps, middle_steps; /* steps before what a step cache may skip, and up to its end */

    struct rv__machines *machines; /* borrowed; NULL: all blocks run here */
    int64_t first_of[RV__MACHINES + 1]; /* first block of each machine, then the count of blocks */
    char fingerprint[65];
    rv__part_graph parts[RV__PART_SPANS];
    int part_count;
    rv__part_shape part_shape; /* what they were built for */

    rv__graph *text_graph;
    struct ggml_tensor *raw_t5, **raw_llama; /* inputs, one per layer that is used */
    struct ggml_tensor **projected;          /* blocks + 1 */
};

/* Sends streams through blocks [first, end).  Before the first single block the two become one. */
rv__streams rv__transformer_blocks(rv__transformer *t, rv__streams s, int64_t first, int64_t end,
                                   struct ggml_tensor *emb);

/* Inputs that hold the streams as they are before block i. */
rv__streams rv__transformer_streams(rv__transformer *t, int64_t i);

/* Inputs that depend on the size alone: angles and the mask of padding; and their values. */
void rv__transformer_size_inputs(rv__transformer *t);
rv_status rv__transformer_set_constants(rv__transformer *t, rv_error *err);

/* Tokens of an image of this shape; sets tokens and pad. */
void rv__transformer_count_tokens(rv__transformer *t);

/* Copies all rows of the streams out of the graph, or into it. */
void rv__transformer_read_streams(const rv__streams *s, float *out);
void rv__transformer_write_streams(const rv__streams *s, const float *in);

/* The other machines (transformer_part.c): makes them ready for the graph that was built, and sends
 * one of their blocks its projected text. */
rv_status rv__transformer_prepare_machines(rv__transformer *t, rv_error *err);
rv_status rv__transformer_send_text(rv__transformer *t, int64_t block, const float *text, size_t n,
                                    rv_error *err);
rv_status rv__transformer_run_elsewhere(rv__transformer *t, const rv__step *step,
                                        rv__cancel_fn *cancelled, void *user, rv_error *err);
void rv__transformer_release_parts(rv__transformer *t);

#endif
