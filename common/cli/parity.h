/* `reverie parity`: our results beside reference results, tensor by tensor.  The driver (parity.c)
 * walks the goldens and calls one stage per golden file; a stage computes, calls rv__parity_check*,
 * and never prints by itself. Nothing may be skipped silently: a golden tensor that no stage marked
 * as input or checked is a FAIL. No stage may know a dimension, a prompt or a case name: all come
 * from the manifest, the configs and the shapes. */
#ifndef RV_PARITY_H
#define RV_PARITY_H

#include "base/json.h"
#include "base/status.h"
#include "engine/rpc_machines.h"
#include "engine/weights.h"

/* How close is close enough; the figures stand in parity_report.c and come from the goldens'
 * README. */
typedef enum rv__tolerance {
    RV_TOL_EXACT,       /* ids, masks, uniforms, UniPC timesteps, expert indices */
    RV_TOL_TEXT,        /* text encoders                                         */
    RV_TOL_TRANSFORMER, /* transformer taps and outputs                          */
    RV_TOL_SINUSOID,    /* the t_sinusoid tap                                    */
    RV_TOL_VAE,         /* VAE taps and images before they become bytes          */
    RV_TOL_SIGMAS,
    RV_TOL_TIMESTEPS,
    RV_TOL_TRAJECTORY, /* scheduler states                                       */
    RV_TOL_RANDN,
    RV_TOL_LATENTS,        /* latents and images of the pipeline, no guidance    */
    RV_TOL_LATENTS_GUIDED, /* the same with guidance                             */
    RV_TOL_BYTES,          /* 8-bit pictures                                     */
    RV_TOL_COUNT
} rv__tolerance;

typedef struct rv__parity rv__parity; /* the run: model, goldens, counters   */
typedef struct rv__golden rv__golden; /* one golden file and its bookkeeping */

const rv__weights *rv__parity_model(const rv__parity *p);
rv__machines      *rv__parity_machines(const rv__parity *p); /* that pipelines use; NULL: none */
const rv__value   *rv__parity_manifest(const rv__parity *p);
const char        *rv__parity_dir(const rv__parity *p); /* GOLDENS_DIR */

/* ---- golden tensors ---- */

/* All tensors of the file, sorted by name bytes (borrowed).  Types F32, I32, I64 or I8 (bytes,
 * unsigned). */
const rv__tensor *rv__golden_list(const rv__golden *g, size_t *count);

/* A tensor by name without any bookkeeping; NULL when absent. */
const rv__tensor *rv__golden_find(const rv__golden *g, const char *name);

/* A tensor that the stage reads as an input (marks it as accounted for).  When it is absent or not
 * of this type: NULL, and a FAIL is recorded.  rank 0: any number of dimensions. */
const rv__tensor *rv__golden_input(rv__golden *g, const char *name, enum ggml_type type, int rank);

size_t rv__tensor_elements(const rv__tensor *t);

/* ---- comparing: prints one line "PASS|FAIL name max_abs max_rel" and counts it ---- */

/* Our values beside the golden tensor of that name, which becomes accounted for.  n must equal its
 * element count (else FAIL).  The golden may be F32, I32, I64 or bytes. */
void rv__parity_check(rv__golden *g, const char *name, const float *got, size_t n,
                      rv__tolerance tolerance);
void rv__parity_check_i32(rv__golden *g, const char *name, const int32_t *got, size_t n,
                          rv__tolerance tolerance);
void rv__parity_check_u8(rv__golden *g, const char *name, const uint8_t *got, size_t n,
                         rv__tolerance tolerance);

/* The same for references that are not tensors of a golden file (JSON lists, PNG bytes, stored
 * variants). */
void rv__parity_compare(rv__parity *p, const char *name, const float *got, const float *ref,
                        size_t n, rv__tolerance tolerance);
void rv__parity_compare_i32(rv__parity *p, const char *name, const int32_t *got, const int32_t *ref,
                            size_t n);
void rv__parity_compare_u8(rv__parity *p, const char *name, const uint8_t *got, const uint8_t *ref,
                           size_t n);

/* Records a FAIL that is not a difference of numbers: "cannot load", "unknown case", "wrong
 * length". */
void rv__parity_fail(rv__parity *p, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void rv__parity_fail_golden(rv__golden *g, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- stages ---- */

/* One golden file by its name in the manifest.  Called once; every tensor must be accounted for on
 * return. */
typedef void rv__parity_stage(rv__parity *p, rv__golden *g);

rv__parity_stage rv__parity_rng;           /* rng.safetensors           parity_rng.c         */
rv__parity_stage rv__parity_schedulers;    /* schedulers.safetensors    parity_schedulers.c  */
rv__parity_stage rv__parity_text_encoders; /* text_encoders.safetensors parity_text.c        */
rv__parity_stage rv__parity_transformer;   /* transformer.safetensors   parity_transformer.c */
rv__parity_stage rv__parity_vae;           /* vae.safetensors           parity_vae.c         */
rv__parity_stage rv__parity_pipeline;      /* pipeline.safetensors      parity_pipeline.c    */

/* tokenizers.json of the goldens, parsed (parity_text.c). */
void rv__parity_tokenizers(rv__parity *p, const rv__value *cases);

/* One folder of dtype-variants/: the part ("text_encoder") stored in another type (weights hold
 * that part alone); its results must equal those in `text`, the text_encoders goldens
 * (parity_text.c).  It marks nothing. */
void rv__parity_dtype_variant(rv__parity *p, const char *name, const char *part,
                              const rv__weights *variant, const rv__golden *text);

/* The manifest's size_rule: requested and used sizes (parity_pipeline.c). */
void rv__parity_size_rule(rv__parity *p, const rv__value *size_rule);

#endif
