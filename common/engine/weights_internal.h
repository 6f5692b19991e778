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
    rv__gguf        **ggufs;
    size_t            n_ggufs, ggufs_cap;
    const rv__gguf   *t5_gguf, *llama_gguf; /* llama.cpp's, which may know the tokenizers, or NULL */
    char            **names; /* of tensors, when they are not those of the files */
    size_t            n_names, names_cap;
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

/* A copy of a name that lives as long as the model; NULL when memory is out. */
const char *rv__weights_keep_name(rv__weights *w, const char *name);

/* A folder of part folders; one part folder; a GGUF file of ours, of which `only` may name one part
 * ("": its files alone; NULL: everything).  On failure the caller closes w. */
rv_status rv__weights_read_folder(rv__weights *w, rv_error *err);
rv_status rv__weights_read_part(rv__weights *w, const char *folder, const char *part,
                                rv_error *err);
rv_status rv__weights_read_gguf(rv__weights *w, const char *path, const char *only, rv_error *err);
rv_status rv__weights_take_gguf(rv__weights *w, const rv__gguf *gguf, const char *path,
                                const char *only, rv_error *err);

/* The configurations and tokenizers of a model folder, without its weights.  Files that the model
 * has already are left out. */
rv_status rv__weights_read_files(rv__weights *w, const char *folder, rv_error *err);

/* Parts from files of their own (weights_parts.c): what a JSON object or a ComfyUI folder says. */
bool      rv__weights_is_comfy(const char *folder);
rv_status rv__weights_read_comfy(rv__weights *w, rv_error *err);
rv_status rv__weights_read_parts(rv__weights *w, const rv__value *paths, rv_error *err);

/* One file as a part, whatever its names are (weights_foreign.c). */
rv_status rv__weights_read_file(rv__weights *w, const char *path, const char *part, rv_error *err);
rv_status rv__weights_take(rv__weights *w, const rv__safetensors *file, const char *part,
                           rv_error *err);

/* Opens a file and keeps it open with the model (borrowed). */
rv_status rv__weights_open_shard(rv__weights *w, const char *path, rv__safetensors **out,
                                 rv_error *err);
rv_status rv__weights_open_gguf(rv__weights *w, const char *path, rv__gguf **out, rv_error *err);

/* Adds the configurations of the published HiDream-I1 for parts that have none and whose tensors
 * have its shapes (weights_default.c). */
rv_status rv__weights_add_defaults(rv__weights *w, rv_error *err);

/* Adds the tokenizers that GGUF files of llama.cpp have in them where the model has none
 * (weights_words.c). */
rv_status rv__weights_add_words(rv__weights *w, rv_error *err);

/* Makes room for one more element in an array of *cap elements that holds count. */
bool rv__weights_grow(void **array, size_t *cap, size_t count, size_t element);

/* Most files, parts and shards of one model, and the largest file and all files together. */
#define RV_MODEL_MAX_FILES      1000
#define RV_MODEL_MAX_PARTS      100
#define RV_MODEL_MAX_SHARDS     1000
#define RV_MODEL_MAX_FILE_BYTES ((size_t)64 << 20)
#define RV_MODEL_MAX_BYTES      ((size_t)256 << 20)

#endif
