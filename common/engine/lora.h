/* One LoRA file: low-rank additions to the transformer's matrices, W + scale * up * down.
 * Understands the keys of diffusers / PEFT, ComfyUI (ai-toolkit), kohya, SimpleTuner and
 * OneTrainer. Must never ignore a key: a LoRA that is used in part makes another picture than its
 * author saw. */
#ifndef RV_LORA_H
#define RV_LORA_H

#include "engine/safetensors.h"

typedef struct rv__lora rv__lora;

/* One addition.  down [rank, in], up [out, rank], in the file's mapping. */
typedef struct rv__lora_part {
    const char *module; /* name of the matrix in the transformer */
    const rv__tensor *down, *up;
    float scale; /* alpha / rank, or 1 */
} rv__lora_part;

/* Opens a file for a model (out; rv__lora_close); the model must outlive it.  RV_FORMAT and
 * RV_UNSUPPORTED name the first key that does not fit; RV_NOT_FOUND, RV_IO, RV_MEMORY. */
rv_status rv__lora_open(const char *path, const rv__weights *model, rv__lora **out, rv_error *err);

/* The same for an opened file, which must outlive the result.  modules: the transformer's tensors,
 * sorted by name; label stands for the path in errors. */
rv_status rv__lora_read(const rv__safetensors *file, const char *label, const rv__tensor *modules,
                        size_t count, rv__lora **out, rv_error *err);
void rv__lora_close(rv__lora *l);

const rv__lora_part *rv__lora_parts(const rv__lora *l, size_t *count);

#endif
