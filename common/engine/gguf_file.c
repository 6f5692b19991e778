/* Reading GGUF (version 2 and 3, little endian).  Must never trust a count: every one is bounded by
 * the bytes that are left before anything is allocated for it. */
#include "gguf_file.h"

#include "mapped_file.h"

#include <stdlib.h>
#include <string.h>

#define MAX_PAIRS   100000u
#define MAX_TENSORS 100000u
#define MAX_KEY     1023u
#define MIN_PAIR    13u /* length of the key, one byte of value, its type        */
#define MIN_TENSOR  24u /* length of the name, dimensions, type, offset          */

struct rv__gguf {
    rv__mapped map;
    rv__gguf_pair *pairs;
    size_t n_pairs;
    rv__gguf_pair **by_key; /* the pairs sorted by key */
    rv__tensor *tensors;
    size_t n_tensors;
    char *names; /* keys and tensor names, each NUL-terminated */
};

typedef struct reader {
    const char *label;
    const unsigned char *data, *at, *end;
    char *names_end;
    rv__gguf *out;
    rv_error *err;
} reader;

static rv_status bad(const reader *r, const char *what)
{
    return rv__fail(r->err, RV_FORMAT, "%s: byte %zu: %s", r->label, (size_t)(r->at - r->data),
                    what);
}

static size_t left(const reader *r)
{
    return (size_t)(r->end - r->at);
}

/* The next little-endian number of `bytes` bytes. */
static bool take(reader *r, unsigned bytes, uint64_t *out)
{
    if (left(r) < bytes)
        return false;
    uint64_t v = 0;
    for (unsigned i = bytes; i-- > 0;)
        v = v << 8 | r->at[i];
    r->at += bytes;
    *out = v;
    return true;
}

static bool take_text(reader *r, const char **text, size_t *len)
{
    uint64_t n;
    if (!take(r, 8, &n) || n > left(r))
        return false;
    *text = (const char *)r->at;
    *len = (size_t)n;
    r->at += n;
    return true;
}

/* A key or name as a NUL-terminated copy.  There is room: in the file it is preceded by eight
 * bytes. */
static bool take_name(reader *r, size_t max, const char **out)
{
    const char *text;
    size_t len;
    if (!take_text(r, &text, &len) || len == 0 || len > max)
        return false;
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    }
    memcpy(r->names_end, text, len);
    r->names_end[len] = '\0';
    *out = r->names_end;
    r->names_end += len + 1;
    return true;
}

/* Bytes of one value; 0 for texts, which carry their length, and for unknown types. */
static unsigned type_size(enum gguf_type type)
{
    switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_BOOL:
        return 1;
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16:
        return 2;
    case GGUF_TYPE_UINT32:
    case GGUF_TYPE_INT32:
    case GGUF_TYPE_FLOAT32:
        return 4;
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
    case GGUF_TYPE_FLOAT64:
        return 8;
    default:
        return 0;
    }
}

static rv_status read_values(reader *r, rv__gguf_pair *pair)
{
    unsigned size = type_size(pair->type);
    const char *text = (const char *)r->at;
    size_t len = 0;
    if (pair->type == GGUF_TYPE_STRING) {
        for (uint64_t i = 0; i < pair->count; i++) {
            if (!take_text(r, &text, &len))
                return bad(r, "a text ends behind the file");
        }
        pair->data = pair->is_array ? pair->data : text;
        pair->size = pair->is_array ? (size_t)(r->at - (const unsigned char *)pair->data) : len;
        return RV_OK;
    }
    if (!size)
        return bad(r, "unknown type of value");
    if (pair->count > left(r) / size)
        return bad(r, "values end behind the file");
    pair->size = (size_t)pair->count * size;
    r->at += pair->size;
    return RV_OK;
}

static rv_status read_pair(reader *r, rv__gguf_pair *pair)
{
    uint64_t type;
    if (!take_name(r, MAX_KEY, &pair->key))
        return bad(r, "a key is empty, too long, or has control characters");
    if (!take(r, 4, &type))
        return bad(r, "truncated");
    pair->count = 1;
    if (type == GGUF_TYPE_ARRAY) {
        pair->is_array = true;
        if (!take(r, 4, &type) || !take(r, 8, &pair->count))
            return bad(r, "truncated");
    }
    if (type >= GGUF_TYPE_COUNT || type == GGUF_TYPE_ARRAY)
        return bad(r, "unknown type of value");
    pair->type = (enum gguf_type)type;
    pair->data = r->at;
    return read_values(r, pair);
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const rv__gguf_pair *const *)a)->key, (*(const rv__gguf_pair *const *)b)->key);
}

/* Sorts for look-up, and refuses a key that occurs twice. */
static rv_status sort_keys(const reader *r)
{
    rv__gguf *g = r->out;
    g->by_key = rv__calloc(g->n_pairs, sizeof *g->by_key);
    if (!g->by_key)
        return rv__fail(r->err, RV_MEMORY, "%s: out of memory", r->label);
    for (size_t i = 0; i < g->n_pairs; i++)
        g->by_key[i] = &g->pairs[i];
    qsort(g->by_key, g->n_pairs, sizeof *g->by_key, by_key);
    for (size_t i = 1; i < g->n_pairs; i++) {
        if (strcmp(g->by_key[i - 1]->key, g->by_key[i]->key) == 0)
            return rv__fail(r->err, RV_FORMAT, "%s: key \"%.200s\" occurs twice", r->label,
                            g->by_key[i]->key);
    }
    return RV_OK;
}

/* Dimensions come fastest first and are turned round; ggml has at most four. */
static bool read_dimensions(reader *r, rv__tensor *t)
{
    uint64_t n, dim;
    if (!take(r, 4, &n) || n > GGML_MAX_DIMS)
        return false;
    t->n_dims = (int)n;
    for (int i = 0; i < RV_TENSOR_DIMS; i++)
        t->shape[i] = 1;
    for (int i = t->n_dims - 1; i >= 0; i--) {
        if (!take(r, 8, &dim) || dim == 0 || dim > INT64_MAX)
            return false;
        t->shape[i] = (int64_t)dim;
    }
    return true;
}

/* ggml has holes in its list of types: numbers that were removed have no block size. */
static bool type_is_known(uint64_t type)
{
    return type < GGML_TYPE_COUNT && ggml_blck_size((enum ggml_type)type) > 0 &&
           ggml_type_size((enum ggml_type)type) > 0;
}

/* Bytes of a tensor, or false when its rows are no whole blocks or it is too large. */
static bool tensor_size(rv__tensor *t)
{
    int64_t row = t->n_dims ? t->shape[t->n_dims - 1] : 1, block = ggml_blck_size(t->type);
    if (row % block != 0)
        return false;
    size_t size = ggml_type_size(t->type);
    if ((size_t)(row / block) > (size_t)INT64_MAX / size)
        return false;
    size *= (size_t)(row / block);
    for (int i = 0; i + 1 < t->n_dims; i++) {
        if ((size_t)t->shape[i] > (size_t)INT64_MAX / size)
            return false;
        size *= (size_t)t->shape[i];
    }
    t->size = size;
    return true;
}

static rv_status read_tensor(reader *r, rv__tensor *t, uint64_t *offset)
{
    uint64_t type;
    if (!take_name(r, GGML_MAX_NAME - 1, &t->name))
        return bad(r, "a tensor name is empty, too long, or has control characters");
    if (!read_dimensions(r, t))
        return rv__fail(r->err, RV_FORMAT, "%s: tensor \"%s\": wrong dimensions", r->label,
                        t->name);
    if (!take(r, 4, &type) || !take(r, 8, offset))
        return bad(r, "truncated");
    if (!type_is_known(type))
        return rv__fail(r->err, RV_FORMAT, "%s: tensor \"%s\": unknown type", r->label, t->name);
    t->type = (enum ggml_type)type;
    if (!tensor_size(t))
        return rv__fail(r->err, RV_FORMAT, "%s: tensor \"%s\": its shape does not fit its type",
                        r->label, t->name);
    return RV_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const rv__tensor *const *)a)->name, (*(const rv__tensor *const *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)(*(const rv__tensor *const *)a)->data;
    uintptr_t y = (uintptr_t)(*(const rv__tensor *const *)b)->data;
    return (x > y) - (x < y);
}

/* No two tensors of one name, no byte that belongs to two. */
static rv_status check_tensors(const reader *r)
{
    size_t n = r->out->n_tensors;
    const rv__tensor **order = rv__calloc(n, sizeof *order);
    if (!order)
        return rv__fail(r->err, RV_MEMORY, "%s: out of memory", r->label);
    for (size_t i = 0; i < n; i++)
        order[i] = &r->out->tensors[i];
    rv_status status = RV_OK;
    qsort(order, n, sizeof *order, by_name);
    for (size_t i = 1; i < n && status == RV_OK; i++) {
        if (strcmp(order[i - 1]->name, order[i]->name) == 0)
            status = rv__fail(r->err, RV_FORMAT, "%s: tensor \"%s\" occurs twice", r->label,
                              order[i]->name);
    }
    qsort(order, n, sizeof *order, by_place);
    for (size_t i = 1; i < n && status == RV_OK; i++) {
        if ((uintptr_t)order[i]->data < (uintptr_t)order[i - 1]->data + order[i - 1]->size)
            status = rv__fail(r->err, RV_FORMAT, "%s: tensors \"%s\" and \"%s\" overlap", r->label,
                              order[i - 1]->name, order[i]->name);
    }
    rv__free(order);
    return status;
}

/* Turns offsets into addresses once the place of the data section is known. */
static rv_status place_tensors(reader *r, const uint64_t *offsets)
{
    uint64_t alignment = GGUF_DEFAULT_ALIGNMENT;
    rv__gguf_uint(r->out, GGUF_KEY_GENERAL_ALIGNMENT, &alignment);
    if (alignment < 8 || alignment > 65536 || (alignment & (alignment - 1)) != 0)
        return rv__fail(r->err, RV_FORMAT, "%s: an alignment of %llu bytes", r->label,
                        (unsigned long long)alignment);
    size_t start = (size_t)(r->at - r->data), size = (size_t)(r->end - r->data);
    start = (start + (size_t)alignment - 1) & ~((size_t)alignment - 1);
    for (size_t i = 0; i < r->out->n_tensors; i++) {
        rv__tensor *t = &r->out->tensors[i];
        if (offsets[i] % alignment != 0 || start > size || offsets[i] > size - start ||
            t->size > size - start - (size_t)offsets[i])
            return rv__fail(r->err, RV_FORMAT,
                            "%s: tensor \"%s\": the data lies outside the file (is it truncated?)",
                            r->label, t->name);
        t->data = r->data + start + offsets[i];
    }
    return check_tensors(r);
}

static rv_status read_pairs(reader *r)
{
    for (size_t i = 0; i < r->out->n_pairs; i++) {
        rv_status status = read_pair(r, &r->out->pairs[i]);
        if (status != RV_OK)
            return status;
    }
    return sort_keys(r);
}

static rv_status read_body(reader *r)
{
    rv_status status = read_pairs(r);
    if (status != RV_OK)
        return status;
    uint64_t *offsets = rv__calloc(r->out->n_tensors, sizeof *offsets);
    if (!offsets)
        return rv__fail(r->err, RV_MEMORY, "%s: out of memory", r->label);
    for (size_t i = 0; i < r->out->n_tensors && status == RV_OK; i++)
        status = read_tensor(r, &r->out->tensors[i], &offsets[i]);
    if (status == RV_OK)
        status = place_tensors(r, offsets);
    rv__free(offsets);
    return status;
}

static rv_status read_header(reader *r)
{
    uint64_t version, n_tensors, n_pairs;
    if (left(r) < 4 || memcmp(r->at, GGUF_MAGIC, 4) != 0)
        return rv__fail(r->err, RV_FORMAT, "%s: not a GGUF file", r->label);
    r->at += 4;
    if (!take(r, 4, &version) || !take(r, 8, &n_tensors) || !take(r, 8, &n_pairs))
        return bad(r, "truncated");
    if (version < 2 || version > GGUF_VERSION)
        return rv__fail(r->err, RV_FORMAT, "%s: GGUF version %llu is not supported", r->label,
                        (unsigned long long)version);
    if (n_pairs > MAX_PAIRS || n_pairs > left(r) / MIN_PAIR)
        return bad(r, "more key-value pairs than the file can hold");
    if (n_tensors > MAX_TENSORS || n_tensors > left(r) / MIN_TENSOR)
        return bad(r, "more tensors than the file can hold");
    r->out->n_tensors = (size_t)n_tensors;
    r->out->n_pairs = (size_t)n_pairs;
    return RV_OK;
}

/* Memory for what the header counts.  Names need no more than the bytes that are left, because each
 * follows its own length of eight bytes. */
static rv_status make_room(reader *r)
{
    rv__gguf *g = r->out;
    size_t names = g->n_pairs * (MAX_KEY + 1) + g->n_tensors * GGML_MAX_NAME;
    g->pairs = rv__calloc(g->n_pairs, sizeof *g->pairs);
    g->tensors = rv__calloc(g->n_tensors, sizeof *g->tensors);
    g->names = r->names_end = rv__alloc(names < left(r) ? names : left(r));
    if (!g->pairs || !g->tensors || !g->names)
        return rv__fail(r->err, RV_MEMORY, "%s: out of memory", r->label);
    return RV_OK;
}

rv_status rv__gguf_parse(const void *data, size_t size, const char *label, rv__gguf **out,
                         rv_error *err)
{
    *out = NULL;
    rv__gguf *g = rv__calloc(1, sizeof *g);
    if (!g)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", label);
    const unsigned char *bytes = data;
    reader r = {
        .label = label, .data = bytes, .at = bytes, .end = bytes + size, .out = g, .err = err};
    rv_status status = read_header(&r);
    if (status == RV_OK)
        status = make_room(&r);
    if (status == RV_OK)
        status = read_body(&r);
    if (status != RV_OK) {
        rv__gguf_close(g);
        return status;
    }
    *out = g;
    return RV_OK;
}

rv_status rv__gguf_open(const char *path, rv__gguf **out, rv_error *err)
{
    *out = NULL;
    rv__mapped map;
    rv_status status = rv__mapped_open(path, &map, err);
    if (status != RV_OK)
        return status;
    status = rv__gguf_parse(map.data, map.size, path, out, err);
    if (status == RV_OK)
        (*out)->map = map;
    else
        rv__mapped_close(&map);
    return status;
}

void rv__gguf_close(rv__gguf *g)
{
    if (!g)
        return;
    rv__free(g->pairs);
    rv__free(g->by_key);
    rv__free(g->tensors);
    rv__free(g->names);
    rv__mapped_close(&g->map);
    rv__free(g);
}

const rv__gguf_pair *rv__gguf_pairs(const rv__gguf *g, size_t *count)
{
    *count = g->n_pairs;
    return g->pairs;
}

const rv__tensor *rv__gguf_tensors(const rv__gguf *g, size_t *count)
{
    *count = g->n_tensors;
    return g->tensors;
}

static const rv__gguf_pair *find(const rv__gguf *g, const char *key)
{
    rv__gguf_pair wanted = {.key = key}, *pointer = &wanted;
    rv__gguf_pair **found =
        g->by_key ? bsearch(&pointer, g->by_key, g->n_pairs, sizeof *g->by_key, by_key) : NULL;
    return found && !(*found)->is_array ? *found : NULL;
}

bool rv__gguf_uint(const rv__gguf *g, const char *key, uint64_t *out)
{
    const rv__gguf_pair *pair = find(g, key);
    if (!pair || (pair->type != GGUF_TYPE_UINT8 && pair->type != GGUF_TYPE_UINT16 &&
                  pair->type != GGUF_TYPE_UINT32 && pair->type != GGUF_TYPE_UINT64))
        return false;
    uint64_t v = 0;
    for (size_t i = pair->size; i-- > 0;)
        v = v << 8 | ((const unsigned char *)pair->data)[i];
    *out = v;
    return true;
}

bool rv__gguf_text(const rv__gguf *g, const char *key, const char **text, size_t *len)
{
    const rv__gguf_pair *pair = find(g, key);
    if (!pair || pair->type != GGUF_TYPE_STRING)
        return false;
    *text = pair->data;
    *len = pair->size;
    return true;
}
