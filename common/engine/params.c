/* Weights as graph leaves: names and shapes are checked here, so that no network ever meets a
 * tensor it did not expect.  Must not copy matrices that can be used where they lie. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memory.h"
#include "engine/graph.h"
#include "engine/graph_op.h"
#include "engine/lora.h"
#include "engine/tensor_rows.h"

enum { MAX_ELEMENTS_BITS = 40 };

typedef struct copy {
    struct copy *next;
} copy;

struct rv__params {
    const rv__weights *weights;
    char *part;
    void *memory;
    struct ggml_context *context;
    rv__leaf *leaves; /* one per leaf, which points to it */
    copy *copies;     /* data of leaves that could not be used in place */
    size_t used, max;
    rv_error error; /* first failure; status RV_OK while there is none */
};

rv_status rv__params_open(const rv__weights *w, const char *part, rv__params **out, rv_error *err)
{
    rv__params *p = rv__calloc(1, sizeof *p);
    size_t count = 0, size;

    *out = NULL;
    if (!p)
        return rv__fail(err, RV_MEMORY, "out of memory");
    rv__weights_list(w, part, &count);
    size = count * ggml_tensor_overhead() + 4096;
    p->weights = w;
    p->max = count;
    p->leaves = rv__calloc(count, sizeof *p->leaves);
    p->part = rv__strdup(part);
    p->memory = rv__alloc(size);
    if (p->part && p->memory && p->leaves)
        p->context = ggml_init(
            (struct ggml_init_params){.mem_size = size, .mem_buffer = p->memory, .no_alloc = true});
    if (!p->context) {
        rv__params_close(p);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    if (count == 0) {
        rv__params_close(p);
        return rv__fail(err, RV_NOT_FOUND, "%s: no weights for '%s'", rv__weights_path(w), part);
    }
    *out = p;
    return RV_OK;
}

void rv__params_close(rv__params *p)
{
    if (!p)
        return;
    if (p->context)
        ggml_free(p->context);
    while (p->copies) {
        copy *c = p->copies;
        p->copies = c->next;
        rv__free(c);
    }
    rv__params_plain(p);
    for (size_t i = 0; p->leaves && i < p->used; i++) {
        rv__packed_free(p->leaves[i].packed);
        rv__copy_free(p->leaves[i].copy);
    }
    rv__free(p->leaves);
    rv__free(p->memory);
    rv__free(p->part);
    rv__free(p);
}

rv_status rv__params_check(const rv__params *p, rv_error *err)
{
    if (p->error.status != RV_OK && err)
        *err = p->error;
    return p->error.status;
}

const rv__tensor *rv__params_list(const rv__params *p, size_t *count)
{
    return rv__weights_list(p->weights, p->part, count);
}

static struct ggml_tensor *fail(rv__params *p, rv_status status, const char *name, const char *what)
{
    if (p->error.status == RV_OK)
        rv__fail(&p->error, status, "%s: %s: %s", p->part, name, what);
    return NULL;
}

static void write_shape(char *text, size_t size, const int64_t *shape, int n)
{
    size_t at = 0;

    for (int i = 0; i < n && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, shape[i] < 0 ? "%sany" : "%s%lld",
                               i ? "," : "", (long long)shape[i]);
}

static bool shape_fits(const rv__tensor *t, const int64_t *shape, int n)
{
    if (t->n_dims != n)
        return false;
    for (int i = 0; i < n; i++)
        if (t->shape[i] <= 0 || (shape[i] >= 0 && t->shape[i] != shape[i]))
            return false;
    return true;
}

/* Alignment that reading this type in place needs. */
static size_t alignment(enum ggml_type type)
{
    return type == GGML_TYPE_F32 ? 4 : 2;
}

static void *keep(rv__params *p, size_t size)
{
    enum { HEAD = 64 };
    copy *c = rv__alloc(HEAD + size);

    if (!c)
        return NULL;
    c->next = p->copies;
    p->copies = c;
    return (char *)c + HEAD;
}

/* Gives the leaf its data: in place when possible (matrices in any form, see rv__weight_rows), else
 * a copy (vectors as F32). */
static bool fill(rv__params *p, struct ggml_tensor *leaf, const rv__tensor *t)
{
    bool aligned = (uintptr_t)t->data % alignment(t->type) == 0;

    if (leaf->type == t->type && aligned) {
        leaf->data = (void *)(uintptr_t)t->data; /* graphs only read leaves */
        return true;
    }
    leaf->data = keep(p, ggml_nbytes(leaf));
    if (!leaf->data)
        return false;
    if (leaf->type == t->type) {
        memcpy(leaf->data, t->data, t->size);
        return true;
    }
    if (aligned) {
        rv__tensor_floats(t, 0, ggml_nrows(leaf), leaf->data);
        return true;
    }
    rv__tensor moved = *t;
    void *room = rv__alloc(t->size);
    if (!room)
        return false;
    memcpy(room, t->data, t->size);
    moved.data = room;
    rv__tensor_floats(&moved, 0, ggml_nrows(leaf), leaf->data);
    rv__free(room);
    return true;
}

static struct ggml_tensor *make_leaf(rv__params *p, const rv__tensor *t)
{
    bool is_f32 = t->n_dims <= 1 || t->n_dims == 4;
    enum ggml_type type = is_f32 ? GGML_TYPE_F32 : t->type;
    int64_t ne[4] = {1, 1, 1, 1};
    struct ggml_tensor *leaf;

    if (p->used >= p->max)
        return fail(p, RV_INTERNAL, t->name, "more leaves than tensors");
    for (int i = 0; i < t->n_dims; i++)
        ne[i] = t->shape[t->n_dims - 1 - i];
    p->leaves[p->used].tensor = t;
    leaf = ggml_new_tensor_4d(p->context, type, ne[0], ne[1], ne[2], ne[3]);
    ggml_set_name(leaf, t->name);
    leaf->extra = &p->leaves[p->used++];
    return fill(p, leaf, t) ? leaf : fail(p, RV_MEMORY, t->name, "out of memory");
}

static struct ggml_tensor *known_leaf(const rv__params *p, const rv__tensor *t)
{
    for (struct ggml_tensor *leaf = ggml_get_first_tensor(p->context); leaf;
         leaf = ggml_get_next_tensor(p->context, leaf))
        if (((const rv__leaf *)leaf->extra)->tensor == t)
            return leaf;
    return NULL;
}

static struct ggml_tensor *find(rv__params *p, const int64_t *shape, int n_dims, const char *name)
{
    const rv__tensor *t = rv__weights_find(p->weights, p->part, name);
    struct ggml_tensor *leaf;
    char want[96] = "", have[96] = "", text[256];

    if (!t)
        return fail(p, RV_FORMAT, name, "tensor is missing");
    if (!shape_fits(t, shape, n_dims)) {
        write_shape(want, sizeof want, shape, n_dims);
        write_shape(have, sizeof have, t->shape, t->n_dims);
        snprintf(text, sizeof text, "expected shape [%s], found [%s]", want, have);
        return fail(p, RV_FORMAT, name, text);
    }
    if (!rv__tensor_is_float(t)) {
        snprintf(text, sizeof text, "type %s is not supported here", rv__tensor_type_name(t));
        return fail(p, RV_UNSUPPORTED, name, text);
    }
    leaf = known_leaf(p, t);
    return leaf ? leaf : make_leaf(p, t);
}

struct ggml_tensor *rv__param(rv__params *p, const int64_t *shape, int n_dims, const char *name,
                              ...)
{
    char full[256];
    va_list args;

    va_start(args, name);
    vsnprintf(full, sizeof full, name, args);
    va_end(args);
    return find(p, shape, n_dims, full);
}

struct ggml_tensor *rv__param_vector(rv__params *p, int64_t n, const char *name, ...)
{
    char full[256];
    va_list args;

    va_start(args, name);
    vsnprintf(full, sizeof full, name, args);
    va_end(args);
    return find(p, &n, 1, full);
}

struct ggml_tensor *rv__param_matrix(rv__params *p, int64_t out, int64_t in, const char *name, ...)
{
    int64_t shape[2] = {out, in};
    char full[256];
    va_list args;

    va_start(args, name);
    vsnprintf(full, sizeof full, name, args);
    va_end(args);
    return find(p, shape, 2, full);
}

bool rv__params_has(const rv__params *p, const char *name, ...)
{
    char full[256];
    va_list args;

    va_start(args, name);
    vsnprintf(full, sizeof full, name, args);
    va_end(args);
    return rv__weights_find(p->weights, p->part, full) != NULL;
}

void rv__param_floats(const struct ggml_tensor *leaf, float *out)
{
    rv__weight_rows(leaf, 0, ggml_nrows(leaf), out);
}

/* A tensor stored in another way than ggml's is never copied as it is, so its leaf has its data. */
static bool is_stored_plain(const struct ggml_tensor *leaf)
{
    const rv__leaf *about = leaf->extra;

    return !about || leaf->data != about->tensor->data || rv__tensor_is_plain(about->tensor);
}

bool rv__weight_is_plain(const struct ggml_tensor *leaf)
{
    return is_stored_plain(leaf) && !(leaf->extra && ((const rv__leaf *)leaf->extra)->patches);
}

void rv__weight_rows(const struct ggml_tensor *leaf, int64_t first, int64_t count, float *out)
{
    const char *data = (const char *)leaf->data + (size_t)first * leaf->nb[1];

    const rv__leaf *about = leaf->extra;

    if (!is_stored_plain(leaf))
        rv__tensor_floats(((const rv__leaf *)leaf->extra)->tensor, first, count, out);
    else
        rv__floats_of(leaf->type, data, count * leaf->ne[0], out);
    if (about && about->patches)
        rv__patch_rows(about->patches, first, count, leaf->ne[0], out);
}

void rv__param_rest(const struct ggml_tensor *leaf)
{
    const rv__tensor *t = ((const rv__leaf *)leaf->extra)->tensor;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)t->data,
              end = first + t->size;

    first = (first + page - 1) / page * page;
    end = end / page * page;
    if (leaf->data == t->data && end > first) /* in the mapping of the file, not a copy */
        madvise((void *)first, end - first, MADV_DONTNEED);
}

/* ---- additions ---- */

void rv__params_plain(rv__params *p)
{
    for (size_t i = 0; i < p->used; i++) {
        while (p->leaves[i].additions) {
            rv__addition *a = p->leaves[i].additions;
            p->leaves[i].additions = a->next;
            rv__free(a);
        }
        rv__patch_free(p->leaves[i].patches);
        p->leaves[i].patches = NULL;
    }
}

/* In the order they come. */
static rv_status add_pair(rv__leaf *leaf, const rv__lora_part *part, float weight, rv_error *err)
{
    rv__addition *a = rv__calloc(1, sizeof *a), **end = &leaf->additions;

    if (!a)
        return rv__fail(err, RV_MEMORY, "out of memory");
    *a = (rv__addition){.down = part->tensors[RV__LORA_DOWN],
                        .up = part->tensors[RV__LORA_UP],
                        .scale = weight * part->scale};
    while (*end)
        end = &(*end)->next;
    *end = a;
    return RV_OK;
}

/* Its shapes were checked against the weights, which are the leaf's. */
rv_status rv__params_change(rv__params *p, const rv__lora_part *part, float weight, rv_error *err)
{
    const rv__tensor *t = rv__weights_find(p->weights, p->part, part->module);
    struct ggml_tensor *leaf = t ? known_leaf(p, t) : NULL;

    if (!leaf || t->n_dims != 2)
        return rv__fail(err, RV_UNSUPPORTED, "%s: there is no matrix %.200s to change", p->part,
                        part->module);
    if (rv__lora_is_pair(part))
        return add_pair(leaf->extra, part, weight, err);
    return rv__patch_add(&((rv__leaf *)leaf->extra)->patches, part, weight)
               ? RV_OK
               : rv__fail(err, RV_MEMORY, "out of memory");
}
