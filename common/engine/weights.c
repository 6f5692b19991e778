/* An opened model: its parts, tensors and files, and how they are found.  Must never change after
 * open: any number of threads read it without locks. */
#include "weights_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A 100-character path in messages is enough to find it, and leaves room for the reason. */
static rv_status no_memory(const rv__weights *w, rv_error *err)
{
    return rv__fail(err, RV_MEMORY, "%.100s: out of memory", w->path);
}

bool rv__weights_grow(void **array, size_t *cap, size_t count, size_t element)
{
    if (count < *cap)
        return true;
    size_t want = *cap ? *cap * 2 : 16;
    void *grown = want > SIZE_MAX / element ? NULL : rv__realloc(*array, want * element);
    if (!grown)
        return false;
    *array = grown;
    *cap = want;
    return true;
}

const char *rv__weights_keep_name(rv__weights *w, const char *name)
{
    char *copy = rv__strdup(name);
    if (!copy ||
        !rv__weights_grow((void **)&w->names, &w->names_cap, w->n_names, sizeof *w->names)) {
        rv__free(copy);
        return NULL;
    }
    return w->names[w->n_names++] = copy;
}

rv_status rv__weights_open_shard(rv__weights *w, const char *path, rv__safetensors **out,
                                 rv_error *err)
{
    *out = NULL;
    if (!rv__weights_grow((void **)&w->shards, &w->shards_cap, w->n_shards, sizeof *w->shards))
        return no_memory(w, err);
    rv_status status = rv__safetensors_open(path, out, err);
    if (status == RV_OK)
        w->shards[w->n_shards++] = *out;
    return status;
}

rv_status rv__weights_open_gguf(rv__weights *w, const char *path, rv__gguf **out, rv_error *err)
{
    *out = NULL;
    if (!rv__weights_grow((void **)&w->ggufs, &w->ggufs_cap, w->n_ggufs, sizeof *w->ggufs))
        return no_memory(w, err);
    rv_status status = rv__gguf_open(path, out, err);
    if (status == RV_OK)
        w->ggufs[w->n_ggufs++] = *out;
    return status;
}

rv_status rv__weights_add_file(rv__weights *w, const char *path, char *data, size_t len,
                               rv_error *err)
{
    rv_status status = RV_OK;
    for (size_t i = 0; i < w->n_files && status == RV_OK; i++) {
        if (strcmp(w->files[i].path, path) == 0)
            status =
                rv__fail(err, RV_FORMAT, "%.100s: file \"%.200s\" occurs twice", w->path, path);
    }
    if (w->n_files >= RV_MODEL_MAX_FILES || len > RV_MODEL_MAX_FILE_BYTES ||
        w->file_bytes + len > RV_MODEL_MAX_BYTES)
        status = rv__fail(err, RV_FORMAT, "%.100s: file \"%.200s\": too many files, or too large",
                          w->path, path);
    char *copy = status == RV_OK ? rv__strdup(path) : NULL;
    if (status == RV_OK && copy &&
        rv__weights_grow((void **)&w->files, &w->files_cap, w->n_files, sizeof *w->files)) {
        w->files[w->n_files++] = (rv__model_file){copy, data, len};
        w->file_bytes += len;
        return RV_OK;
    }
    rv__free(copy);
    rv__free(data);
    return status == RV_OK ? no_memory(w, err) : status;
}

rv_status rv__weights_add_part(rv__weights *w, const char *name, size_t count, rv__model_part **out,
                               rv_error *err)
{
    *out = NULL;
    if (w->n_parts >= RV_MODEL_MAX_PARTS)
        return rv__fail(err, RV_FORMAT, "%.100s: more than %d parts", w->path, RV_MODEL_MAX_PARTS);
    char *copy = rv__strdup(name);
    rv__tensor *tensors = rv__calloc(count, sizeof *tensors);
    if (!copy || !tensors ||
        !rv__weights_grow((void **)&w->parts, &w->parts_cap, w->n_parts, sizeof *w->parts)) {
        rv__free(copy);
        rv__free(tensors);
        return no_memory(w, err);
    }
    *out = &w->parts[w->n_parts++];
    **out = (rv__model_part){copy, tensors, 0};
    return RV_OK;
}

rv_status rv__weights_add_tensor(rv__weights *w, rv__model_part *part, const rv__tensor *t,
                                 rv_error *err)
{
    const char *why = NULL;
    if (t->type >= GGML_TYPE_COUNT)
        why = "its type is not supported by the engine yet";
    else if (t->n_dims > GGML_MAX_DIMS)
        why = "it has more than four dimensions";
    else if (t->size == 0)
        why = "it is empty";
    if (why)
        return rv__fail(err, RV_FORMAT, "%.100s: %s: tensor \"%.200s\": %s", w->path, part->name,
                        t->name, why);
    part->tensors[part->count++] = *t;
    return RV_OK;
}

static int by_tensor_name(const void *a, const void *b)
{
    return strcmp(((const rv__tensor *)a)->name, ((const rv__tensor *)b)->name);
}

static int by_part_name(const void *a, const void *b)
{
    return strcmp(((const rv__model_part *)a)->name, ((const rv__model_part *)b)->name);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const rv__model_file *)a)->path, ((const rv__model_file *)b)->path);
}

/* Sorts parts, their tensors and the files, so that no result depends on the order of a folder;
 * refuses a tensor name that occurs twice. */
static rv_status sort_all(rv__weights *w, rv_error *err)
{
    if (w->n_parts)
        qsort(w->parts, w->n_parts, sizeof *w->parts, by_part_name);
    if (w->n_files)
        qsort(w->files, w->n_files, sizeof *w->files, by_path);
    for (size_t p = 0; p < w->n_parts; p++) {
        rv__model_part *part = &w->parts[p];
        qsort(part->tensors, part->count, sizeof *part->tensors, by_tensor_name);
        for (size_t i = 1; i < part->count; i++) {
            if (strcmp(part->tensors[i - 1].name, part->tensors[i].name) == 0)
                return rv__fail(err, RV_FORMAT, "%.100s: %s: tensor \"%.200s\" occurs twice",
                                w->path, part->name, part->tensors[i].name);
        }
    }
    return RV_OK;
}

static rv_status new_weights(const char *path, rv__weights **out, rv_error *err)
{
    *out = rv__calloc(1, sizeof **out);
    if (*out && ((*out)->path = rv__strdup(path)))
        return RV_OK;
    rv__free(*out);
    *out = NULL;
    return rv__fail(err, RV_MEMORY, "%.100s: out of memory", path);
}

/* Ends an open: the model, or nothing. */
static rv_status finish(rv__weights *w, rv_status status, rv__weights **out, rv_error *err)
{
    if (status == RV_OK)
        status = sort_all(w, err);
    if (status == RV_OK && w->n_parts == 0)
        status = rv__fail(err, RV_FORMAT, "%.200s: no part with weights in it", w->path);
    if (status != RV_OK) {
        rv__weights_close(w);
        w = NULL;
    }
    *out = w;
    return status;
}

/* The files that a JSON object names. */
static rv_status open_listed(const char *json, rv__weights **out, rv_error *err)
{
    rv__json_error why = {0};
    rv__value *paths = rv__json_parse(json, strlen(json), &why);
    if (!paths)
        return rv__fail(err, why.message == rv__json_no_memory ? RV_MEMORY : RV_FORMAT,
                        "weights: byte %zu: %s", why.offset, why.message);
    rv__weights *w;
    const char *label = rv__json_get_string(paths, "transformer", "weights");
    rv_status status = new_weights(label, &w, err);
    if (status == RV_OK)
        status = finish(w, rv__weights_read_parts(w, paths, err), out, err);
    rv__json_free(paths);
    return status;
}

rv_status rv__weights_open(const char *path, rv__weights **out, rv_error *err)
{
    *out = NULL;
    struct stat st;
    if (path[0] == '{')
        return open_listed(path, out, err);
    if (stat(path, &st) != 0)
        return rv__fail(err, errno == ENOENT ? RV_NOT_FOUND : RV_IO, "%.300s: %s", path,
                        strerror(errno));
    rv__weights *w;
    rv_status status = new_weights(path, &w, err);
    if (status != RV_OK)
        return status;
    if (!S_ISDIR(st.st_mode))
        status = rv__weights_read_gguf(w, path, NULL, err);
    else if (rv__weights_is_comfy(path))
        status = rv__weights_read_comfy(w, err);
    else
        status = rv__weights_read_folder(w, err);
    return finish(w, status, out, err);
}

rv_status rv__weights_open_part(const char *path, const char *part, rv__weights **out,
                                rv_error *err)
{
    *out = NULL;
    rv__weights *w;
    rv_status status = new_weights(path, &w, err);
    if (status != RV_OK)
        return status;
    struct stat st;
    bool is_file = stat(path, &st) == 0 && S_ISREG(st.st_mode);
    status = is_file ? rv__weights_read_file(w, path, part, err)
                     : rv__weights_read_part(w, path, part, err);
    return finish(w, status, out, err);
}

void rv__weights_close(rv__weights *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n_files; i++) {
        rv__free(w->files[i].path);
        rv__free(w->files[i].data);
    }
    for (size_t i = 0; i < w->n_parts; i++) {
        rv__free(w->parts[i].name);
        rv__free(w->parts[i].tensors);
    }
    for (size_t i = 0; i < w->n_shards; i++)
        rv__safetensors_close(w->shards[i]);
    for (size_t i = 0; i < w->n_ggufs; i++)
        rv__gguf_close(w->ggufs[i]);
    for (size_t i = 0; i < w->n_names; i++)
        rv__free(w->names[i]);
    rv__free(w->ggufs);
    rv__free(w->names);
    rv__free(w->files);
    rv__free(w->parts);
    rv__free(w->shards);
    rv__free(w->path);
    rv__free(w);
}

const char *rv__weights_path(const rv__weights *w)
{
    return w->path;
}

const char *rv__weights_file(const rv__weights *w, const char *path, size_t *len)
{
    for (size_t i = 0; i < w->n_files; i++) {
        if (strcmp(w->files[i].path, path) == 0) {
            if (len)
                *len = w->files[i].len;
            return w->files[i].data;
        }
    }
    return NULL;
}

rv_status rv__weights_json(const rv__weights *w, const char *path, rv__value **out, rv_error *err)
{
    *out = NULL;
    size_t len;
    const char *text = rv__weights_file(w, path, &len);
    if (!text)
        return rv__fail(err, RV_NOT_FOUND, "%.100s: there is no %.200s", w->path, path);
    rv__json_error why = {0};
    rv__value *v = rv__json_parse(text, len, &why);
    if (!v)
        return rv__fail(err, why.message == rv__json_no_memory ? RV_MEMORY : RV_FORMAT,
                        "%.100s/%.200s: byte %zu: %s", w->path, path, why.offset, why.message);
    if (!rv__json_is_object(v)) {
        rv__json_free(v);
        return rv__fail(err, RV_FORMAT, "%.100s/%.200s: not a JSON object", w->path, path);
    }
    *out = v;
    return RV_OK;
}

const rv__tensor *rv__weights_list(const rv__weights *w, const char *part, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < w->n_parts; i++) {
        if (strcmp(w->parts[i].name, part) == 0) {
            *count = w->parts[i].count;
            return w->parts[i].tensors;
        }
    }
    return NULL;
}

const rv__tensor *rv__weights_find(const rv__weights *w, const char *part, const char *name)
{
    size_t count;
    const rv__tensor *list = rv__weights_list(w, part, &count);
    rv__tensor key = {.name = name};
    return list ? bsearch(&key, list, count, sizeof *list, by_tensor_name) : NULL;
}

const char *rv__weights_part_name(const rv__weights *w, size_t i)
{
    return i < w->n_parts ? w->parts[i].name : NULL;
}

const char *rv__weights_file_name(const rv__weights *w, size_t i)
{
    return i < w->n_files ? w->files[i].path : NULL;
}
