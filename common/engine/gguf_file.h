/* One GGUF file, mapped: key-value pairs and tensors, every length and offset checked against the
 * file. ggml's own reader aborts or over-allocates on some damaged files, so the check has to walk
 * everything first; what it finds on the way is all we need, and nothing is copied but names.
 * Writing goes through ggml. */
#ifndef RV_GGUF_FILE_H
#define RV_GGUF_FILE_H

#include "weights.h"
#include <gguf.h>

typedef struct rv__gguf rv__gguf;

typedef struct rv__gguf_pair {
    const char    *key;  /* NUL-terminated                                                */
    enum gguf_type type; /* of the value; of the elements when it is an array             */
    bool           is_array;
    uint64_t       count; /* elements; 1 when it is not an array                          */
    const void    *data;  /* first value in the file, not aligned; a text's first byte    */
    size_t         size;  /* bytes of the values; of a text without its length            */
} rv__gguf_pair;

rv_status rv__gguf_open(const char *path, rv__gguf **out, rv_error *err);
rv_status rv__gguf_parse(const void *data, size_t size, const char *label, rv__gguf **out,
                         rv_error *err);
void      rv__gguf_close(rv__gguf *g);

/* In file order (borrowed). */
const rv__gguf_pair *rv__gguf_pairs(const rv__gguf *g, size_t *count);
const rv__tensor    *rv__gguf_tensors(const rv__gguf *g, size_t *count); /* names as in the file */

/* A single value by key; false when it is absent or of another kind.  Texts are not NUL-terminated.
 */
bool rv__gguf_uint(const rv__gguf *g, const char *key, uint64_t *out);
bool rv__gguf_text(const rv__gguf *g, const char *key, const char **text, size_t *len);

#endif
