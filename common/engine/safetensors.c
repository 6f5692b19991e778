/* Reading safetensors: eight bytes of header length, a JSON header, the data.  The rules are those
 * of the format's reference reader (no overlap, no holes, sizes match shapes), plus caps, plus
 * alignment of the data. Must never look at tensor data: a model may be larger than the memory. */
#include "safetensors.h"

#include "mapped_file.h"

#include <stdlib.h>
#include <string.h>

#define MAX_HEADER        ((size_t)100 * 1000 * 1000) /* as in the reference reader */
#define MAX_TENSORS       ((size_t)100 * 1000)        /* the largest models have some thousand */
#define VALUES_PER_TENSOR 12                          /* of JSON: what its object holds, and some */
#define MAX_NAME          1024

struct rv__safetensors {
    rv__mapped map; /* not mapped when the bytes are the caller's */
    rv__safetensor *list;
    size_t count;
    char *names; /* all names, each NUL-terminated */
    rv__value *metadata;
};

/* What the reader knows while it works. */
typedef struct reader {
    const char *label;
    const unsigned char *data; /* the data section */
    size_t size;
    char *names_end;
    rv__safetensors *out;
    rv_error *err;
} reader;

static const struct {
    const char *name;
    size_t bytes;
    enum ggml_type type;
    rv__float8 float8;
} dtypes[] = {
    {"F32", 4, GGML_TYPE_F32},       {"F16", 2, GGML_TYPE_F16},
    {"BF16", 2, GGML_TYPE_BF16},     {"I32", 4, GGML_TYPE_I32},
    {"I64", 8, GGML_TYPE_I64},       {"U8", 1, GGML_TYPE_I8},
    {"I8", 1, GGML_TYPE_I8},         {"I16", 2, GGML_TYPE_I16},
    {"F64", 8, GGML_TYPE_F64},       {"BOOL", 1, GGML_TYPE_COUNT},
    {"U16", 2, GGML_TYPE_COUNT},     {"U32", 4, GGML_TYPE_COUNT},
    {"U64", 8, GGML_TYPE_COUNT},     {"F8_E4M3", 1, GGML_TYPE_I8, RV_F8_E4M3},
    {"F8_E5M2", 1, GGML_TYPE_I8, RV_F8_E5M2}, {"F8_E8M0", 1, GGML_TYPE_COUNT},
    {"C64", 8, GGML_TYPE_COUNT},
};

static rv_status bad_tensor(const reader *r, const char *name, const char *what)
{
    return rv__fail(r->err, RV_FORMAT, "%s: tensor \"%.200s\": %s", r->label, name, what);
}

/* Names are shown in messages and used as keys: no control characters, not empty, not endless. */
static bool name_is_plain(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    }
    return len > 0 && len <= MAX_NAME;
}

static rv_status read_dtype(const reader *r, const char *name, const rv__value *entry,
                            rv__safetensor *t, size_t *bytes)
{
    const char *dtype = rv__json_get_string(entry, "dtype", NULL);
    for (size_t i = 0; dtype && i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtype, dtypes[i].name) == 0) {
            memcpy(t->dtype, dtypes[i].name, strlen(dtypes[i].name) + 1);
            t->tensor.type = dtypes[i].type;
            t->tensor.float8 = dtypes[i].float8;
            *bytes = dtypes[i].bytes;
            return RV_OK;
        }
    }
    return bad_tensor(r, name, dtype ? "unknown dtype" : "dtype is missing");
}

/* Shape and the bytes it needs; every product is checked, dimensions of 0 included. */
static rv_status read_shape(const reader *r, const char *name, const rv__value *entry,
                            rv__tensor *t, size_t *bytes)
{
    const rv__value *shape = rv__json_get(entry, "shape");
    if (!rv__json_is_array(shape))
        return bad_tensor(r, name, "shape is missing");
    if (rv__json_size(shape) > RV_TENSOR_DIMS)
        return bad_tensor(r, name, "too many dimensions");
    for (int i = 0; i < RV_TENSOR_DIMS; i++)
        t->shape[i] = 1;
    for (const rv__value *v = rv__json_first(shape); v; v = rv__json_next(v)) {
        int64_t dim;
        if (!rv__json_int(v, &dim) || dim < 0)
            return bad_tensor(r, name, "a dimension is not a whole number from 0 up");
        if (dim > 0 && *bytes > (size_t)INT64_MAX / (size_t)dim)
            return bad_tensor(r, name, "the shape is too large");
        *bytes *= (size_t)dim;
        t->shape[t->n_dims++] = dim;
    }
    return RV_OK;
}

static rv_status read_offsets(const reader *r, const char *name, const rv__value *entry,
                              rv__tensor *t, size_t bytes, size_t element)
{
    const rv__value *offsets = rv__json_get(entry, "data_offsets");
    uint64_t begin, end;
    if (rv__json_size(offsets) != 2 || !rv__json_uint(rv__json_at(offsets, 0), &begin) ||
        !rv__json_uint(rv__json_at(offsets, 1), &end))
        return bad_tensor(r, name, "data_offsets is not a pair of whole numbers");
    if (begin > end || end > r->size)
        return bad_tensor(r, name, "the data lies outside the file (is it truncated?)");
    if (end - begin != bytes)
        return bad_tensor(r, name, "the data is not as large as shape and dtype say");
    t->data = r->data + begin;
    t->size = bytes;
    if ((uintptr_t)t->data % element != 0)
        return bad_tensor(
            r, name,
            "the data is not aligned; save the file again with a current safetensors library");
    return RV_OK;
}

static rv_status read_entry(reader *r, const rv__value *entry, rv__safetensor *t)
{
    const char *name = rv__json_key(entry);
    if (!name || !name_is_plain(name))
        return rv__fail(r->err, RV_FORMAT,
                        "%s: a tensor name is empty, too long or has control characters", r->label);
    if (!rv__json_is_object(entry) || rv__json_size(entry) != 3)
        return bad_tensor(r, name, "expected an object of dtype, shape and data_offsets");
    size_t element = 1, bytes;
    rv_status status = read_dtype(r, name, entry, t, &element);
    if (status != RV_OK)
        return status;
    bytes = element;
    status = read_shape(r, name, entry, &t->tensor, &bytes);
    if (status == RV_OK)
        status = read_offsets(r, name, entry, &t->tensor, bytes, element);
    if (status != RV_OK)
        return status;
    size_t len = strlen(name) + 1;
    memcpy(r->names_end, name, len);
    t->tensor.name = r->names_end;
    r->names_end += len;
    return RV_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const rv__safetensor *)a)->tensor.name,
                  ((const rv__safetensor *)b)->tensor.name);
}

/* Empty tensors before the one that begins where they stand. */
static int by_place(const void *a, const void *b)
{
    const rv__tensor *x = &((const rv__safetensor *)a)->tensor,
                     *y = &((const rv__safetensor *)b)->tensor;
    if (x->data != y->data)
        return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size);
}

/* The data section must be covered exactly once. */
static rv_status check_cover(const reader *r)
{
    rv__safetensor *list = r->out->list;
    qsort(list, r->out->count, sizeof *list, by_place);
    const unsigned char *end = r->data;
    for (size_t i = 0; i < r->out->count; i++) {
        const rv__tensor *t = &list[i].tensor;
        if ((const unsigned char *)t->data < end)
            return bad_tensor(r, t->name, "its data overlaps another tensor's");
        if ((const unsigned char *)t->data > end)
            return bad_tensor(r, t->name, "there is a hole in the file before its data");
        end = (const unsigned char *)t->data + t->size;
    }
    if (end != r->data + r->size)
        return rv__fail(r->err, RV_FORMAT, "%s: %zu bytes after the last tensor", r->label,
                        (size_t)(r->data + r->size - end));
    return RV_OK;
}

static rv_status check_names(const reader *r)
{
    rv__safetensor *list = r->out->list;
    qsort(list, r->out->count, sizeof *list, by_name);
    for (size_t i = 1; i < r->out->count; i++) {
        if (strcmp(list[i - 1].tensor.name, list[i].tensor.name) == 0)
            return bad_tensor(r, list[i].tensor.name, "the name occurs twice");
    }
    return RV_OK;
}

/* A copy of its own, so that the large header need not stay in memory. */
static rv_status keep_metadata(const reader *r, const rv__value *metadata)
{
    if (!rv__json_is_object(metadata) || r->out->metadata)
        return rv__fail(r->err, RV_FORMAT, "%s: __metadata__ is not one object", r->label);
    for (const rv__value *v = rv__json_first(metadata); v; v = rv__json_next(v)) {
        if (!rv__json_is_string(v))
            return rv__fail(r->err, RV_FORMAT,
                            "%s: __metadata__ holds something that is not a text", r->label);
    }
    rv__buf b;
    rv__buf_init(&b, MAX_HEADER * 2);
    rv__json_write_value(&b, metadata);
    size_t len;
    char *text = rv__buf_take(&b, &len);
    if (text)
        r->out->metadata = rv__json_parse(text, len, NULL);
    rv__free(text);
    return r->out->metadata ? RV_OK : rv__fail(r->err, RV_MEMORY, "%s: out of memory", r->label);
}

static rv_status read_entries(reader *r, const rv__value *header)
{
    size_t count = rv__json_size(header);
    if (count > MAX_TENSORS)
        return rv__fail(r->err, RV_FORMAT, "%s: %zu tensors, at most %zu are accepted", r->label,
                        count, MAX_TENSORS);
    r->out->list = rv__calloc(count, sizeof *r->out->list);
    if (!r->out->list)
        return rv__fail(r->err, RV_MEMORY, "%s: out of memory", r->label);
    for (const rv__value *v = rv__json_first(header); v; v = rv__json_next(v)) {
        rv_status status;
        if (strcmp(rv__json_key(v), "__metadata__") == 0)
            status = keep_metadata(r, v);
        else
            status = read_entry(r, v, &r->out->list[r->out->count++]);
        if (status != RV_OK)
            return status;
    }
    rv_status status = check_cover(r);
    return status == RV_OK ? check_names(r) : status;
}

static rv_status read_header(reader *r, const unsigned char *data, size_t size)
{
    if (size < 8)
        return rv__fail(r->err, RV_FORMAT, "%s: too short for a safetensors file", r->label);
    if (memcmp(data, "version ", 8) == 0)
        return rv__fail(r->err, RV_FORMAT,
                        "%s: a pointer of Git LFS instead of the file: fetch it with `git lfs pull`",
                        r->label);
    uint64_t len = 0;
    for (int i = 7; i >= 0; i--)
        len = len << 8 | data[i];
    if (len > MAX_HEADER)
        return rv__fail(r->err, RV_FORMAT,
                        "%s: not a safetensors file, or a header of %llu bytes (at most %zu)",
                        r->label, (unsigned long long)len, MAX_HEADER);
    if (len > size - 8)
        return rv__fail(r->err, RV_FORMAT, "%s: truncated: the header alone is %llu bytes",
                        r->label, (unsigned long long)len);
    r->data = data + 8 + len;
    r->size = size - 8 - (size_t)len;
    /* A name takes at least its quotes in the header, so its NUL has a place. */
    r->out->names = r->names_end = rv__alloc((size_t)len + 1);
    rv__json_error why = {0};
    rv__value *header = r->out->names
                            ? rv__json_parse_limited((const char *)data + 8, (size_t)len,
                                                     MAX_TENSORS * VALUES_PER_TENSOR, &why)
                            : NULL;
    rv_status status;
    if (header && rv__json_is_object(header))
        status = read_entries(r, header);
    else if (header)
        status = rv__fail(r->err, RV_FORMAT, "%s: the header is not a JSON object", r->label);
    else if (!r->out->names || why.message == rv__json_no_memory)
        status = rv__fail(r->err, RV_MEMORY, "%s: out of memory", r->label);
    else
        status = rv__fail(r->err, RV_FORMAT, "%s: header byte %zu: %s", r->label, why.offset,
                          why.message);
    rv__json_free(header);
    return status;
}

rv_status rv__safetensors_parse(const void *data, size_t size, const char *label,
                                rv__safetensors **out, rv_error *err)
{
    *out = NULL;
    rv__safetensors *s = rv__calloc(1, sizeof *s);
    if (!s)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", label);
    reader r = {.label = label, .out = s, .err = err};
    rv_status status = read_header(&r, data, size);
    if (status != RV_OK) {
        rv__safetensors_close(s);
        return status;
    }
    *out = s;
    return RV_OK;
}

rv_status rv__safetensors_open(const char *path, rv__safetensors **out, rv_error *err)
{
    *out = NULL;
    rv__mapped map;
    rv_status status = rv__mapped_open(path, &map, err);
    if (status != RV_OK)
        return status;
    status = rv__safetensors_parse(map.data, map.size, path, out, err);
    if (status == RV_OK)
        (*out)->map = map;
    else
        rv__mapped_close(&map);
    return status;
}

void rv__safetensors_close(rv__safetensors *s)
{
    if (!s)
        return;
    rv__free(s->list);
    rv__free(s->names);
    rv__json_free(s->metadata);
    rv__mapped_close(&s->map);
    rv__free(s);
}

const rv__safetensor *rv__safetensors_list(const rv__safetensors *s, size_t *count)
{
    *count = s->count;
    return s->list;
}

const rv__safetensor *rv__safetensors_find(const rv__safetensors *s, const char *name)
{
    rv__safetensor key = {.tensor.name = name};
    return bsearch(&key, s->list, s->count, sizeof *s->list, by_name);
}

const rv__value *rv__safetensors_metadata(const rv__safetensors *s)
{
    return s->metadata;
}
