/* One safetensors file, mapped.  Every header byte is hostile until checked: after open, each
 * tensor's bytes lie in the mapping, do not overlap another tensor's, and are exactly as many as
 * its shape and type need. Must never read tensor data or copy it. */
#ifndef RV_SAFETENSORS_H
#define RV_SAFETENSORS_H

#include "weights.h"

typedef struct rv__safetensors rv__safetensors;

/* Types of the format that ggml does not have (BOOL, U16 …) have the tensor type GGML_TYPE_COUNT,
 * 8-bit floats I8 and their mark; unsigned types share ggml's signed ones of that width. */
typedef struct rv__safetensor {
    rv__tensor tensor;
    char       dtype[12]; /* as in the file: "F32", "U8", "F8_E4M3" */
} rv__safetensor;

/* Opens a file (out; rv__safetensors_close).  The file must not be changed while it is open: one
 * that shrinks under the mapping raises SIGBUS on access, which no check at open can prevent. */
rv_status rv__safetensors_open(const char *path, rv__safetensors **out, rv_error *err);

/* The same for bytes in memory that outlive the result; `label` stands for the path in errors. */
rv_status rv__safetensors_parse(const void *data, size_t size, const char *label,
                                rv__safetensors **out, rv_error *err);
void      rv__safetensors_close(rv__safetensors *s);

/* All tensors, sorted by name bytes; by exact name (NULL when absent). */
const rv__safetensor *rv__safetensors_list(const rv__safetensors *s, size_t *count);
const rv__safetensor *rv__safetensors_find(const rv__safetensors *s, const char *name);

/* __metadata__: a JSON object of texts, or NULL. */
const rv__value *rv__safetensors_metadata(const rv__safetensors *s);

#endif
