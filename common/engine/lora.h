/* One LoRA file: changes to the matrices of the transformer and of the text encoders, W + scale *
 * change.  Understands the keys of diffusers / PEFT, ComfyUI (ai-toolkit), kohya, SimpleTuner and
 * OneTrainer; low-rank pairs, LoHa, LoKr, and DoRA over any of them.  Must never ignore a key: a
 * LoRA that is used in part makes another picture than its author saw. */
#ifndef RV_LORA_H
#define RV_LORA_H

#include "engine/safetensors.h"

typedef struct rv__lora rv__lora;

/* What can be changed: the transformer and the text encoders in the pipeline's order. */
enum { RV__LORA_COMPONENTS = 5 };
const char *rv__lora_component(int i); /* "transformer", "text_encoder" … */

/* What a key is to its module.  A change is one of
 *   up [out, rank] * down [rank, in]
 *   (h1_a [out, r] * h1_b [r, in]) o (h2_a * h2_b), element by element                    (LoHa)
 *   kron(k1, k2), either of them as it is or as a product k_a * k_b                      (LoKr)
 * and magnitude [out] then sets the length of each row of W + scale * change             (DoRA). */
typedef enum rv__lora_role {
    RV__LORA_DOWN,
    RV__LORA_UP,
    RV__LORA_H1_A,
    RV__LORA_H1_B,
    RV__LORA_H2_A,
    RV__LORA_H2_B,
    RV__LORA_K1,
    RV__LORA_K1_A,
    RV__LORA_K1_B,
    RV__LORA_K2,
    RV__LORA_K2_A,
    RV__LORA_K2_B,
    RV__LORA_MAGNITUDE,
    RV__LORA_ALPHA,
    RV__LORA_ROLES
} rv__lora_role;

/* The change of one matrix; tensors lie in the file's mapping, shapes were checked. */
typedef struct rv__lora_part {
    int component;
    const char *module; /* name of the matrix in its component */
    const rv__tensor *tensors[RV__LORA_ROLES];
    float scale; /* alpha / rank, or 1 */
} rv__lora_part;

/* Whether the part is a plain pair: cheap beside a product, without touching the matrix. */
bool rv__lora_is_pair(const rv__lora_part *p);

/* Opens a file for a model (out; rv__lora_close); the model must outlive it.  RV_FORMAT and
 * RV_UNSUPPORTED name the first key that does not fit; RV_NOT_FOUND, RV_IO, RV_MEMORY. */
rv_status rv__lora_open(const char *path, const rv__weights *model, rv__lora **out, rv_error *err);

/* Tensors of one component, sorted by name; none: the file may not change it. */
typedef struct rv__lora_modules {
    const rv__tensor *list;
    size_t count;
} rv__lora_modules;

/* The same for an opened file, which must outlive the result; label stands for the path in errors.
 */
rv_status rv__lora_read(const rv__safetensors *file, const char *label,
                        const rv__lora_modules modules[RV__LORA_COMPONENTS], rv__lora **out,
                        rv_error *err);
void rv__lora_close(rv__lora *l);

const rv__lora_part *rv__lora_parts(const rv__lora *l, size_t *count);
bool rv__lora_changes_texts(const rv__lora *l);

#endif
