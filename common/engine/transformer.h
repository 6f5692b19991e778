/* The HiDream-I1 transformer: latents, a noise level and text states in, the predicted direction
 * out. Follows diffusers' HiDreamImageTransformer2DModel, whose names and tensor order the weights
 * have. Must not trust the configuration or the shapes of the weights. */
#ifndef RV_TRANSFORMER_H
#define RV_TRANSFORMER_H

#include "engine/graph.h"
#include "engine/rpc_machines.h"
#include "engine/step_cache.h"

enum { RV__MAX_BLOCKS = 512, RV__MAX_EXPERTS = 64, RV__MAX_TOKENS = 1 << 20 };

/* transformer/config.json, checked. */
typedef struct rv__transformer_config {
    int64_t patch;    /* side of a patch in latent pixels */
    int64_t channels; /* of the latents, in and out */
    int64_t double_blocks, single_blocks;
    int64_t heads, head; /* head: channels of one */
    int64_t t5_channels, llama_channels, pooled_channels;
    int64_t experts, chosen;
    int64_t axes[3];                      /* channels of a head turned by (0, row, column) */
    int64_t max_tokens;                   /* non-square pictures behave as if padded to this many */
    int32_t llama_layers[RV__MAX_BLOCKS]; /* which layer each block reads */
    int64_t width;                        /* heads * head */
    int64_t llama_count; /* layers a condition must bring: highest of the above + 1 */
} rv__transformer_config;

/* RV_FORMAT names the member that cannot be. */
rv_status rv__transformer_parse(const rv__value *json, rv__transformer_config *out, rv_error *err);

/* What a picture should be about: one row of the batch.  Rows of a batch have equal token counts.
 */
typedef struct rv__condition {
    const float *t5;     /* [t5_tokens][t5_channels] */
    const float *llama;  /* [layers][llama_tokens][llama_channels] */
    const float *pooled; /* [pooled_channels] */
    int64_t t5_tokens, llama_tokens, llama_layers;
} rv__condition;

typedef struct rv__transformer rv__transformer;

/* Device and weights must outlive it.  out (rv__transformer_close). */
rv_status rv__transformer_open(rv__device *d, const rv__weights *w, rv__transformer **out,
                               rv_error *err);
void rv__transformer_close(rv__transformer *t);

const rv__transformer_config *rv__transformer_about(const rv__transformer *t);

/* Intermediate values of the following runs go to fn (parity tests); set before
 * rv__transformer_prepare. */
void rv__transformer_taps(rv__transformer *t, rv__tap_fn *fn, void *user);

/* Makes ready for latents of width x height and these conditions: builds the graph unless the last
 * one had the same sizes, and projects the texts, which no step changes.  Sizes are multiples of
 * the patch side. RV_VALIDATION (sizes), RV_FORMAT, RV_MEMORY, RV_CANCELLED. */
rv_status rv__transformer_prepare(rv__transformer *t, int64_t width, int64_t height,
                                  const rv__condition *rows, int batch, rv_error *err);

/* Large products and attention from the next rv__transformer_prepare on may be in eight bits where
 * this processor is faster with them: about 1 per cent off.  Default: float32. */
void rv__transformer_fast(rv__transformer *t, bool fast);

/* Evaluations after the next rv__transformer_prepare may reuse parts of earlier ones, each only when
 * rv__transformer_run_cached says so; NULL: never, and every result is exact. */
void rv__transformer_reuse(rv__transformer *t, const rv__cache_options *options);

/* One evaluation.  latents and out: [batch][channels][height][width]; timesteps: one per row,
 * 0..1000. The result points from noise to picture: samplers want its negative. */
rv_status rv__transformer_run(rv__transformer *t, const float *latents, const float *timesteps,
                              float *out, rv__cancel_fn *cancelled, void *user, rv_error *err);

/* The same, but with may_skip blocks are left out where the step cache finds it worth while.
 * *skipped (may be NULL) says whether they were. */
rv_status rv__transformer_run_cached(rv__transformer *t, const float *latents,
                                     const float *timesteps, float *out, bool may_skip,
                                     bool *skipped, rv__cancel_fn *cancelled, void *user,
                                     rv_error *err);

/* Changes a matrix as part of a LoRA says, or takes all changes away; prepare again before running.
 * See rv__params_change. */
rv_status rv__transformer_change(rv__transformer *t, const struct rv__lora_part *part, float weight,
                                 rv_error *err);
void rv__transformer_plain(rv__transformer *t);

/* The last blocks run on these machines from the next rv__transformer_prepare on, which connects to
 * them; NULL: all run here.  Borrowed: they must outlive it.  Fails when the blocks cannot be split
 * as the model's card says. */
rv_status rv__transformer_machines(rv__transformer *t, rv__machines *machines, rv_error *err);

/* Files of the LoRAs that were changed in, for those machines; without effect when there are none. */
rv_status rv__transformer_loras(rv__transformer *t, const rv__machines_lora *list, size_t count,
                                rv_error *err);

/* Stored bytes of the blocks that run elsewhere. */
double rv__transformer_elsewhere(const rv__transformer *t);

/* Gives the prepared graph's memory back; prepare again before running. */
void rv__transformer_release(rv__transformer *t);

size_t rv__transformer_bytes(const rv__transformer *t); /* activations of the prepared graph */
double rv__transformer_flops(const rv__transformer *t); /* of one run of the prepared graph */

#endif
