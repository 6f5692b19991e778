/* Writing an opened model as one GGUF file, its large matrices in a smaller type.  The file appears
 * whole or not at all; memory stays small whatever the model's size. */
#ifndef RV_WEIGHTS_WRITE_H
#define RV_WEIGHTS_WRITE_H

#include "weights.h"

/* The type a tensor gets when the model is written as `type` (F32, F16, BF16 or a quantised type):
 * weights of linear layers of the transformer and the text encoders get `type`; everything that is
 * small, sensitive or only looked up (norms, biases, router, first and last layer, embeddings, VAE)
 * keeps its values exactly, as F16 where that is possible, else as it is.  GGML_TYPE_COUNT: nobody
 * needs it, it is left out. */
enum ggml_type rv__weights_target(const char *part, const rv__tensor *t, enum ggml_type type);

/* Told once per tensor, after it was written (to is GGML_TYPE_COUNT for one left out). */
typedef void rv__write_note(void *user, const char *part, const rv__tensor *t, enum ggml_type to,
                            size_t bytes);

/* Writes path through a temporary file beside it.  threads <= 0: one per core.  RV_IO, RV_MEMORY,
 * RV_FORMAT (a value is not finite, or does not fit into `type`), RV_UNSUPPORTED (type). */
rv_status rv__weights_write(const rv__weights *w, const char *path, enum ggml_type type,
                            int threads, rv__write_note *note, void *user, rv_error *err);

/* "f32" … "q4_0" as `reverie quantize` takes them; GGML_TYPE_COUNT when it is none of them. */
enum ggml_type rv__weights_type(const char *name);

#endif
