/* What weights.c (look-up) and weights_folder.c / weights_gguf.c (reading) share.  Nobody else
 * includes it. */
#ifndef RV_WEIGHTS_INTERNAL_H
#define RV_WEIGHTS_INTERNAL_H

#include "gguf_file.h"
#include "safetensors.h"

/* A text or binary file of the model, copied and followed by a NUL. */
typedef struct rv__model_file {
    char  *path; /* in the model: "transformer/config.json" */
    char  *data;
    size_t len;
} rv__model_file;

typedef struct rv__model_part {
    char       *name;
    rv__tensor *tensors; /* sorted by name once complete */
    size_t      count;
} rv__model_part;

struct rv__weights {
    char             *path;
    rv__model_file   *files;
    size_t            n_files, files_cap;
    size_t            file_bytes; /* of all files together */
    rv__model_part   *parts;
    size_t            n_parts, parts_cap;
    rv__safetensors **shards;
    size_t            n_shards, shards_cap;
    rv__gguf         *gguf;
    char             *names; /* of tensors, when they are not those of the shards */
};

/* Adds a file; data (rv__free) becomes the model's, also on failure.  RV_FORMAT when the path is
 * taken or the files get too large together. */
rv_status rv__weights_add_file(rv__weights *w, const char *path, char *data, size_t len,
                               rv_error *err);

/* Adds an empty part. */
rv_status rv__weights_add_part(rv__weights *w, const char *name, size_t count, rv__model_part **out,
                               rv_error *err);

/* Takes a tensor into a part after checking that the engine can use its type and shape.  There must
 * be room. */
rv_status rv__weights_add_tensor(rv__weights *w, rv__model_part *part, const rv__tensor *t,
                                 rv_error *err);

/* A folder of part folders; one part folder; a GGUF file.  w is empty and closed by the caller on
 * failure. */
rv_status rv__weights_read_folder(rv__weights *w, rv_error *err);
rv_status rv__weights_read_part(rv__weights *w, const char *folder, const char *part,
                                rv_error *err);
rv_status rv__weights_read_gguf(rv__weights *w, rv_error *err);

/* Makes room for one more element in an array of *cap elements that holds count. */
bool rv__weights_grow(void **array, size_t *cap, size_t count, size_t element);

/* Most files, parts and shards of one model, and the largest file and all files together. */
#define RV_MODEL_MAX_FILES      1000
#define RV_MODEL_MAX_PARTS      100
#define RV_MODEL_MAX_SHARDS     1000
#define RV_MODEL_MAX_FILE_BYTES ((size_t)64 << 20)
#define RV_MODEL_MAX_BYTES      ((size_t)256 << 20)

#endif
