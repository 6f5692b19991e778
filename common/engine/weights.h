/* Weight files: a diffusers folder (safetensors, one or several shards per part), one GGUF file that
 * holds the same folder, or parts from files of their own in the forms people have them
 * (weights_parts.c).  Names are always those of diffusers here.  Memory-mapped, never written, every offset and size checked here, so
 * that nobody behind this header has to distrust a tensor.  Must never load a whole file into
 * memory.  Files must not change while they are open: one that shrinks under its mapping raises
 * SIGBUS on access. */
#ifndef RV_WEIGHTS_H
#define RV_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/status.h"
#include <ggml.h>

/* One opened model; immutable after open, so any thread may read it. */
typedef struct rv__weights rv__weights;

#define RV_TENSOR_DIMS 6 /* of golden files; tensors of models have at most 4, as ggml */

/* Numbers of eight bits that ggml has no type for. */
typedef enum rv__float8 { RV_F8_NONE, RV_F8_E4M3, RV_F8_E5M2 } rv__float8;

/* One tensor.  `data` lies in the mapping and is valid as long as the weights.  It is aligned to
 * the size of one element (quantised: to 8 bytes), not more. */
typedef struct rv__tensor {
    const char    *name;   /* as in diffusers / transformers, without a part prefix */
    enum ggml_type type;   /* F32, F16, BF16, I32 or a ggml quantisation            */
    int            n_dims; /* 0..4                                                  */
    int64_t        shape[RV_TENSOR_DIMS]; /* slowest axis first (PyTorch order); unused are 1 */
    const void    *data;
    size_t         size; /* bytes                                                 */
    /* How it is stored where that is not how it is meant; tensor_rows.h undoes all three. */
    rv__float8 float8; /* type is I8 and a byte is one of these numbers …         */
    float      scale;  /* … times this (0: 1)                                     */
    int64_t    heads;  /* not 0: the rows of each of so many heads are interleaved */
} rv__tensor;

/* Opens a folder, a .gguf file, or the files that a JSON object names (out; rv__weights_close):
 * {"transformer": PATH, "vae": PATH, "text_encoder": PATH, … "text_encoder_4": PATH, "config": PATH}.
 * A part's path is a folder, a .safetensors file (diffusers or ComfyUI, 8-bit floats included; a VAE
 * also with LDM's names) or a .gguf file (ours, or city96's and llama.cpp's); "config" is a folder or
 * a file of ours that has what the others lack: configurations, scheduler, tokenizers.  A folder with
 * ComfyUI's diffusion_models/, text_encoders/ and vae/ is opened the same way.  Errors name the file and the tensor:
 * RV_NOT_FOUND, RV_IO, RV_FORMAT (truncated, overlapping, wrong header, unknown type), RV_MEMORY.
 */
rv_status rv__weights_open(const char *path, rv__weights **out, rv_error *err);
void      rv__weights_close(rv__weights *w);

/* Opens one part folder (config.json and *.safetensors), or one file, as a model that has this part
 * alone. */
rv_status rv__weights_open_part(const char *path, const char *part, rv__weights **out,
                                rv_error *err);

/* Whether a whole model is there; RV_NOT_FOUND lists what lacks and says where it comes from. */
rv_status rv__weights_check(const rv__weights *w, rv_error *err);

/* A text or binary file of the model folder by its path in it: "transformer/config.json",
 * "tokenizer_3/spiece.model".  Borrowed; NULL when there is none.  Texts are followed by a NUL that
 * *len does not count. */
const char *rv__weights_file(const rv__weights *w, const char *path, size_t *len);

/* The same, parsed as a JSON object (out; rv__json_free).  RV_NOT_FOUND, RV_FORMAT. */
rv_status rv__weights_json(const rv__weights *w, const char *path, rv__value **out, rv_error *err);

/* Tensor of a part ("transformer", "vae", "text_encoder" … "text_encoder_4") by exact name; NULL
 * when absent. */
const rv__tensor *rv__weights_find(const rv__weights *w, const char *part, const char *name);

/* All tensors of a part, sorted by name bytes. */
const rv__tensor *rv__weights_list(const rv__weights *w, const char *part, size_t *count);

const char *rv__weights_path(const rv__weights *w);

/* Names of the parts and paths of the files, each sorted by its bytes; NULL behind the last. */
const char *rv__weights_part_name(const rv__weights *w, size_t i);
const char *rv__weights_file_name(const rv__weights *w, size_t i);

#endif
