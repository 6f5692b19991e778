/* Reading our single-file GGUF, which holds a model folder: files as byte arrays "file:PATH",
 * tensors "PART/NAME", and, since GGUF names are short, long ones as "t<N>" with the text
 * "name:t<N>".  "dims:TENSOR" is the number of axes where ggml dropped leading ones of length 1.
 * weights_write.c writes it. */
#include "weights_internal.h"

#include <stdio.h>
#include <string.h>

#define FORMAT_KEY "reverie.format"
#define FORMAT     1
#define MAX_NAME   1024

/* The full name of a tensor: PART/NAME, as it lies in the file (no NUL behind it). */
typedef struct full_name {
    const char *text;
    size_t len;
    size_t part; /* length of PART */
} full_name;

/* The file being read into a model. */
typedef struct source {
    rv__weights *w;
    const rv__gguf *gguf;
    const char *path;
    const char *only; /* the one part that is wanted; NULL: all */
} source;

static rv_status resolve(const source *s, const rv__tensor *t, full_name *out, rv_error *err)
{
    *out = (full_name){t->name, strlen(t->name), 0};
    if (!strchr(t->name, '/')) {
        char key[GGML_MAX_NAME + 8];
        snprintf(key, sizeof key, "name:%s", t->name);
        rv__gguf_text(s->gguf, key, &out->text, &out->len);
    }
    const char *slash = memchr(out->text, '/', out->len);
    out->part = slash ? (size_t)(slash - out->text) : 0;
    bool plain = out->part > 0 && out->part + 1 < out->len && out->len <= MAX_NAME;
    for (size_t i = 0; i < out->len && plain; i++)
        plain = (unsigned char)out->text[i] >= 0x20 && out->text[i] != 0x7f;
    return plain ? RV_OK
                 : rv__fail(err, RV_FORMAT, "%.100s: tensor \"%s\": its name is not PART/NAME",
                            s->path, t->name);
}

/* Puts back the leading axes that ggml dropped. */
static rv_status restore_axes(const source *s, rv__tensor *t, rv_error *err)
{
    char key[GGML_MAX_NAME + 8];
    uint64_t dims;
    snprintf(key, sizeof key, "dims:%s", t->name);
    if (!rv__gguf_uint(s->gguf, key, &dims))
        return RV_OK;
    int have = t->n_dims;
    if (dims == 0 && have == 1 && t->shape[0] == 1) {
        t->n_dims = 0;
        return RV_OK;
    }
    if (dims < (uint64_t)have || dims > GGML_MAX_DIMS)
        return rv__fail(err, RV_FORMAT, "%.100s: tensor \"%s\": wrong number of axes", s->path,
                        t->name);
    t->n_dims = (int)dims;
    for (int i = t->n_dims - 1; i >= 0; i--)
        t->shape[i] = i >= t->n_dims - have ? t->shape[i - (t->n_dims - have)] : 1;
    return RV_OK;
}

static bool same_part(const full_name *a, const full_name *b)
{
    return a->part == b->part && memcmp(a->text, b->text, a->part) == 0;
}

static rv__model_part *find_part(rv__weights *w, const full_name *n)
{
    for (size_t i = w->n_parts; i-- > 0;) {
        if (strlen(w->parts[i].name) == n->part && memcmp(w->parts[i].name, n->text, n->part) == 0)
            return &w->parts[i];
    }
    return NULL;
}

/* The part of names[i], the first of its kind; those before it have other parts. */
static rv_status add_part(rv__weights *w, const full_name *names, size_t i, size_t count,
                          rv__model_part **out, rv_error *err)
{
    size_t same = 0;
    for (size_t k = i; k < count; k++)
        same += same_part(&names[k], &names[i]);
    char *name = rv__strndup(names[i].text, names[i].part);
    rv_status status = name ? rv__weights_add_part(w, name, same, out, err)
                            : rv__fail(err, RV_MEMORY, "%.100s: out of memory", w->path);
    rv__free(name);
    return status;
}

/* Fills the parts; names are those behind the parts. */
static rv_status sort_into_parts(const source *s, const full_name *names, rv_error *err)
{
    size_t count;
    const rv__tensor *list = rv__gguf_tensors(s->gguf, &count);
    rv_status status = RV_OK;
    for (size_t i = 0; i < count && status == RV_OK; i++) {
        if (s->only && (names[i].part != strlen(s->only) ||
                        memcmp(names[i].text, s->only, names[i].part) != 0))
            continue;
        rv__model_part *part = find_part(s->w, &names[i]);
        if (!part)
            status = add_part(s->w, names, i, count, &part, err);
        rv__tensor t = list[i];
        if (status == RV_OK)
            status = restore_axes(s, &t, err);
        char *name = rv__strndup(names[i].text + names[i].part + 1,
                                 names[i].len - names[i].part - 1);
        t.name = name ? rv__weights_keep_name(s->w, name) : NULL;
        rv__free(name);
        if (status == RV_OK)
            status = t.name ? rv__weights_add_tensor(s->w, part, &t, err)
                            : rv__fail(err, RV_MEMORY, "%.100s: out of memory", s->path);
    }
    return status;
}

static rv_status read_tensors(const source *s, rv_error *err)
{
    size_t count;
    const rv__tensor *list = rv__gguf_tensors(s->gguf, &count);
    full_name *names = rv__calloc(count, sizeof *names);
    rv_status status = names ? RV_OK : rv__fail(err, RV_MEMORY, "%.100s: out of memory", s->path);
    for (size_t i = 0; i < count && status == RV_OK; i++)
        status = resolve(s, &list[i], &names[i], err);
    if (status == RV_OK)
        status = sort_into_parts(s, names, err);
    rv__free(names);
    return status;
}

/* All files of a whole model; of one part its own; files alone: those the model lacks. */
static bool is_wanted(const source *s, const char *path)
{
    size_t n = s->only ? strlen(s->only) : 0;
    if (n && (strncmp(path, s->only, n) != 0 || path[n] != '/'))
        return false;
    return !s->only || !rv__weights_file(s->w, path, NULL);
}

static rv_status read_files(const source *s, rv_error *err)
{
    size_t count;
    const rv__gguf_pair *pairs = rv__gguf_pairs(s->gguf, &count);
    for (size_t i = 0; i < count; i++) {
        if (strncmp(pairs[i].key, "file:", 5) != 0 ||
            !is_wanted(s, pairs[i].key + 5))
            continue;
        if (!pairs[i].is_array || pairs[i].type != GGUF_TYPE_UINT8)
            return rv__fail(err, RV_FORMAT, "%.100s: key \"%.200s\" is not an array of bytes",
                            s->path, pairs[i].key);
        if (pairs[i].size > RV_MODEL_MAX_FILE_BYTES)
            return rv__fail(err, RV_FORMAT, "%.100s: \"%.200s\" is too large", s->path,
                            pairs[i].key);
        char *data = rv__strndup(pairs[i].data, pairs[i].size);
        if (!data)
            return rv__fail(err, RV_MEMORY, "%.100s: out of memory", s->path);
        rv_status status = rv__weights_add_file(s->w, pairs[i].key + 5, data, pairs[i].size, err);
        if (status != RV_OK)
            return status;
    }
    return RV_OK;
}

rv_status rv__weights_take_gguf(rv__weights *w, const rv__gguf *gguf, const char *path,
                                const char *only, rv_error *err)
{
    source s = {w, gguf, path, only};
    uint64_t format;
    if (!rv__gguf_uint(gguf, FORMAT_KEY, &format))
        return rv__fail(err, RV_UNSUPPORTED,
                        "%.100s: this GGUF does not hold a whole model (no " FORMAT_KEY
                        "); name it as a part, or make one with reverie quantize",
                        path);
    if (format != FORMAT)
        return rv__fail(err, RV_UNSUPPORTED,
                        "%.100s: " FORMAT_KEY " is %llu, this program reads %d", path,
                        (unsigned long long)format, FORMAT);
    rv_status status = read_files(&s, err);
    return status == RV_OK ? read_tensors(&s, err) : status;
}

rv_status rv__weights_read_gguf(rv__weights *w, const char *path, const char *only, rv_error *err)
{
    rv__gguf *gguf;
    rv_status status = rv__weights_open_gguf(w, path, &gguf, err);
    return status == RV_OK ? rv__weights_take_gguf(w, gguf, path, only, err) : status;
}
