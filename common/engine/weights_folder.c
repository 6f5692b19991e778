/* Reading a model folder as diffusers and transformers save it: one folder per part, safetensors in
 * one file or in shards that an index names.  Must never open a file outside the folder because a
 * file inside it says so; symbolic links that the owner placed are followed, because model caches
 * are made of them. */
#include "weights_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX ".safetensors.index.json"
#define SHARD ".safetensors"

/* The weight files of one part folder: those with the names diffusers and transformers use, and
 * others. */
typedef struct listing {
    char *single, *index;
    char *other_single, *other_index; /* one of them       */
    int n_single, n_index;            /* how many of those */
} listing;

static rv_status no_memory(const rv__weights *w, rv_error *err)
{
    return rv__fail(err, RV_MEMORY, "%.100s: out of memory", w->path);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

/* Configurations and tokenizers; everything else in a folder (pictures, other weight formats) is
 * not ours. */
static bool is_model_file(const char *name)
{
    return name[0] != '.' && !ends_with(name, INDEX) &&
           (ends_with(name, ".json") || ends_with(name, ".txt") || ends_with(name, ".model") ||
            ends_with(name, ".jinja"));
}

/* Reads exactly size bytes. */
static bool read_all(int fd, char *data, size_t size)
{
    while (size) {
        ssize_t n = read(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

/* A whole small file (out; rv__free), followed by a NUL. */
static rv_status slurp(const char *path, char **data, size_t *len, rv_error *err)
{
    *data = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        rv_status status = rv__fail(err, RV_IO, "%.300s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return status;
    }
    rv_status status = RV_OK;
    if (!S_ISREG(st.st_mode))
        status = rv__fail(err, RV_FORMAT, "%.300s: not a regular file", path);
    else if (st.st_size < 0 || (uintmax_t)st.st_size > RV_MODEL_MAX_FILE_BYTES)
        status = rv__fail(err, RV_FORMAT, "%.300s: larger than %zu bytes", path,
                          RV_MODEL_MAX_FILE_BYTES);
    else if (!(*data = rv__alloc((size_t)st.st_size + 1)))
        status = rv__fail(err, RV_MEMORY, "%.300s: out of memory", path);
    else if (!read_all(fd, *data, (size_t)st.st_size))
        status = rv__fail(err, RV_IO, "%.300s: cannot be read", path);
    close(fd);
    if (status != RV_OK) {
        rv__free(*data);
        *data = NULL;
        return status;
    }
    *len = (size_t)st.st_size;
    (*data)[*len] = '\0';
    return RV_OK;
}

/* folder/name becomes the model's file inside/name (inside may be empty), unless there is one. */
static rv_status add_file(rv__weights *w, const char *folder, const char *inside, const char *name,
                          rv_error *err)
{
    char *path = rv__format("%s/%s", folder, name);
    char *key = rv__format("%s%s%s", inside, *inside ? "/" : "", name);
    char *data = NULL;
    size_t len = 0;
    if (key && rv__weights_file(w, key, NULL)) {
        rv__free(path);
        rv__free(key);
        return RV_OK;
    }
    rv_status status = path && key ? slurp(path, &data, &len, err) : no_memory(w, err);
    if (status == RV_OK)
        status = rv__weights_add_file(w, key, data, len, err);
    rv__free(path);
    rv__free(key);
    return status;
}

static bool is_usual_name(const char *name, const char *end)
{
    size_t n = strlen(name) - strlen(end);
    return (n == 23 && memcmp(name, "diffusion_pytorch_model", n) == 0) ||
           (n == 5 && memcmp(name, "model", n) == 0);
}

static bool keep_name(char **slot, const char *name)
{
    rv__free(*slot);
    *slot = rv__strdup(name);
    return *slot != NULL;
}

/* Sorts one name of a part folder into the listing; false when memory is out. */
static bool note_name(listing *l, const char *name)
{
    if (name[0] == '.')
        return true;
    if (ends_with(name, INDEX)) {
        bool usual = is_usual_name(name, INDEX);
        l->n_index += !usual;
        return keep_name(usual ? &l->index : &l->other_index, name);
    }
    if (ends_with(name, SHARD)) {
        bool usual = is_usual_name(name, SHARD);
        l->n_single += !usual;
        return keep_name(usual ? &l->single : &l->other_single, name);
    }
    return true;
}

static void free_listing(listing *l)
{
    rv__free(l->single);
    rv__free(l->index);
    rv__free(l->other_single);
    rv__free(l->other_index);
}

/* Reads the names of a part folder, and its small files into the model. */
static rv_status list_part(rv__weights *w, const char *folder, const char *part, listing *l,
                           rv_error *err)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return rv__fail(err, errno == ENOENT ? RV_NOT_FOUND : RV_IO, "%.300s: %s", folder,
                        strerror(errno));
    rv_status status = RV_OK;
    for (struct dirent *e = readdir(dir); e && status == RV_OK; e = readdir(dir)) {
        if (!note_name(l, e->d_name))
            status = no_memory(w, err);
        else if (is_model_file(e->d_name))
            status = add_file(w, folder, part, e->d_name, err);
    }
    closedir(dir);
    return status;
}

static rv_status open_shard(rv__weights *w, const char *folder, const char *name,
                            rv__safetensors **out, rv_error *err)
{
    *out = NULL;
    char *path = rv__format("%s/%s", folder, name);
    rv_status status = path ? rv__weights_open_shard(w, path, out, err) : no_memory(w, err);
    rv__free(path);
    return status;
}

static rv_status read_single(rv__weights *w, const char *folder, const char *part, const char *name,
                             rv_error *err)
{
    rv__safetensors *shard;
    rv_status status = open_shard(w, folder, name, &shard, err);
    return status == RV_OK ? rv__weights_take(w, shard, part, err) : status;
}

/* Shards are plain names of files beside the index. */
static bool is_shard_name(const char *name)
{
    return name && name[0] != '.' && !strchr(name, '/') && ends_with(name, SHARD) &&
           strlen(name) < 256;
}

/* The shards an index names, each opened once: names[i] (borrowed from the index) is the file of
 * shards[i]. */
typedef struct shard_set {
    const char *names[RV_MODEL_MAX_SHARDS];
    rv__safetensors *shards[RV_MODEL_MAX_SHARDS];
    size_t count;
} shard_set;

static rv_status find_shard(rv__weights *w, const char *folder, const char *index, const char *name,
                            shard_set *set, rv__safetensors **out, rv_error *err)
{
    /* The last one first: neighbours in an index mostly share a shard. */
    for (size_t i = set->count; i-- > 0;) {
        if (strcmp(set->names[i], name) == 0) {
            *out = set->shards[i];
            return RV_OK;
        }
    }
    if (!is_shard_name(name))
        return rv__fail(err, RV_FORMAT,
                        "%.200s/%.100s: \"%.100s\" is not the name of a shard in this folder",
                        folder, index, name);
    if (set->count == RV_MODEL_MAX_SHARDS)
        return rv__fail(err, RV_FORMAT, "%.200s/%.100s: more than %d shards", folder, index,
                        RV_MODEL_MAX_SHARDS);
    rv_status status = open_shard(w, folder, name, out, err);
    if (status == RV_OK) {
        set->names[set->count] = name;
        set->shards[set->count++] = *out;
    }
    return status;
}

static rv_status read_map(rv__weights *w, const char *folder, const char *part, const char *index,
                          const rv__value *map, rv_error *err)
{
    shard_set *set = rv__calloc(1, sizeof *set);
    rv__model_part *p;
    rv_status status =
        set ? rv__weights_add_part(w, part, rv__json_size(map), &p, err) : no_memory(w, err);
    for (const rv__value *v = rv__json_first(map); v && status == RV_OK; v = rv__json_next(v)) {
        const char *name = rv__json_string(v);
        rv__safetensors *shard;
        status = name ? find_shard(w, folder, index, name, set, &shard, err)
                      : rv__fail(err, RV_FORMAT, "%.200s/%.100s: weight_map: expected file names",
                                 folder, index);
        if (status != RV_OK)
            break;
        const rv__safetensor *t = rv__safetensors_find(shard, rv__json_key(v));
        if (t)
            status = rv__weights_add_tensor(w, p, &t->tensor, err);
        else
            status = rv__fail(err, RV_FORMAT, "%.200s/%.100s: tensor \"%.100s\" is not in %.100s",
                              folder, index, rv__json_key(v), name);
    }
    rv__free(set);
    return status;
}

static rv_status read_index(rv__weights *w, const char *folder, const char *part, const char *index,
                            rv_error *err)
{
    char *path = rv__format("%s/%s", folder, index), *text = NULL;
    size_t len = 0;
    rv_status status = path ? slurp(path, &text, &len, err) : no_memory(w, err);
    rv__json_error why = {0};
    rv__value *root = status == RV_OK ? rv__json_parse(text, len, &why) : NULL;
    const rv__value *map = root ? rv__json_get(root, "weight_map") : NULL;
    if (status == RV_OK && !root)
        status = rv__fail(err, why.message == rv__json_no_memory ? RV_MEMORY : RV_FORMAT,
                          "%.300s: byte %zu: %s", path, why.offset, why.message);
    else if (status == RV_OK && !rv__json_is_object(map))
        status = rv__fail(err, RV_FORMAT, "%.300s: there is no weight_map", path);
    else if (status == RV_OK)
        status = read_map(w, folder, part, index, map, err);
    rv__json_free(root);
    rv__free(text);
    rv__free(path);
    return status;
}

rv_status rv__weights_read_part(rv__weights *w, const char *folder, const char *part, rv_error *err)
{
    listing l = {0};
    rv_status status = list_part(w, folder, part, &l, err);
    if (status != RV_OK)
        goto out;
    if (l.single)
        status = read_single(w, folder, part, l.single, err);
    else if (l.index)
        status = read_index(w, folder, part, l.index, err);
    else if (l.n_index == 1)
        status = read_index(w, folder, part, l.other_index, err);
    else if (l.n_index == 0 && l.n_single == 1)
        status = read_single(w, folder, part, l.other_single, err);
    else if (l.n_index + l.n_single > 0)
        status = rv__fail(err, RV_FORMAT,
                          "%.300s: several weight files and none has the usual name", folder);
out:
    free_listing(&l);
    return status;
}

/* Anything that is no folder is looked at by is_model_file. */
static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Reads the files of a model folder and, with weights, its parts. */
static rv_status read_all_of(rv__weights *w, const char *folder, bool weights, rv_error *err)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return rv__fail(err, errno == ENOENT ? RV_NOT_FOUND : RV_IO, "%.300s: %s", folder,
                        strerror(errno));
    rv_status status = RV_OK;
    for (struct dirent *e = readdir(dir); e && status == RV_OK; e = readdir(dir)) {
        if (e->d_name[0] == '.')
            continue;
        char *path = rv__format("%s/%s", folder, e->d_name);
        listing l = {0};
        if (!path)
            status = no_memory(w, err);
        else if (is_folder(path) && weights)
            status = rv__weights_read_part(w, path, e->d_name, err);
        else if (is_folder(path))
            status = list_part(w, path, e->d_name, &l, err);
        else if (is_model_file(e->d_name))
            status = add_file(w, folder, "", e->d_name, err);
        free_listing(&l);
        rv__free(path);
    }
    closedir(dir);
    return status;
}

rv_status rv__weights_read_folder(rv__weights *w, rv_error *err)
{
    return read_all_of(w, w->path, true, err);
}

rv_status rv__weights_read_files(rv__weights *w, const char *folder, rv_error *err)
{
    return read_all_of(w, folder, false, err);
}
