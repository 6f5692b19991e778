/* Writes a model as the GGUF that weights_gguf.c reads.  Tensors are converted a slab at a time by
 * several threads, so a model of any size needs little memory.  Must never leave half a file under
 * the wanted name. */
#include "weights_write.h"

#include "tensor_rows.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <gguf.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLAB_VALUES ((int64_t)8 << 20) /* values converted at once: 32 MiB of floats */
#define MAX_THREADS 64

/* One tensor on its way. */
typedef struct entry {
    const char *part;
    const rv__tensor *tensor;
    enum ggml_type to;
} entry;

typedef struct writer {
    const rv__weights *weights;
    const char *path;
    entry *entries;
    size_t count;
    struct gguf_context *gguf;
    int fd, threads;
    float *floats;        /* a slab of values, when the source is not float */
    unsigned char *bytes; /* the same converted                             */
    rv_error *err;
} writer;

static rv_status no_memory(const writer *w)
{
    return rv__fail(w->err, RV_MEMORY, "%.200s: out of memory", w->path);
}

/* ---- what is written ---- */

static rv_status collect(writer *w, enum ggml_type type, rv__write_note *note, void *user)
{
    size_t count = 0, n;
    for (size_t p = 0; rv__weights_part_name(w->weights, p); p++) {
        rv__weights_list(w->weights, rv__weights_part_name(w->weights, p), &n);
        count += n;
    }
    w->entries = rv__calloc(count, sizeof *w->entries);
    if (!w->entries)
        return no_memory(w);
    for (size_t p = 0; rv__weights_part_name(w->weights, p); p++) {
        const char *part = rv__weights_part_name(w->weights, p);
        const rv__tensor *list = rv__weights_list(w->weights, part, &n);
        for (size_t i = 0; i < n; i++) {
            enum ggml_type to = rv__weights_target(part, &list[i], type);
            if (to == GGML_TYPE_COUNT)
                note(user, part, &list[i], to, 0);
            else
                w->entries[w->count++] = (entry){part, &list[i], to};
        }
    }
    return RV_OK;
}

/* Describes one tensor in the header.  ggml drops leading axes of length 1, hence "dims:". */
static void describe(writer *w, size_t i, struct ggml_context *context)
{
    const entry *e = &w->entries[i];
    char name[GGML_MAX_NAME], key[GGML_MAX_NAME + 8];
    char *full = rv__format("%s/%s", e->part, e->tensor->name);
    if (!full)
        return;
    if (strlen(full) < sizeof name) {
        memcpy(name, full, strlen(full) + 1);
    } else {
        snprintf(name, sizeof name, "t%zu", i);
        snprintf(key, sizeof key, "name:%s", name);
        gguf_set_val_str(w->gguf, key, full);
    }
    rv__free(full);
    int64_t ne[GGML_MAX_DIMS] = {1, 1, 1, 1};
    int n = e->tensor->n_dims;
    for (int k = 0; k < n; k++)
        ne[k] = e->tensor->shape[n - 1 - k];
    struct ggml_tensor *t = ggml_new_tensor(context, e->to, n > 0 ? n : 1, ne);
    ggml_set_name(t, name);
    if (ggml_n_dims(t) != n) {
        snprintf(key, sizeof key, "dims:%s", name);
        gguf_set_val_u32(w->gguf, key, (uint32_t)n);
    }
    gguf_add_tensor(w->gguf, t);
}

static rv_status make_header(writer *w)
{
    size_t size = w->count * ggml_tensor_overhead() + 4096;
    struct ggml_context *context =
        ggml_init((struct ggml_init_params){.mem_size = size, .no_alloc = true});
    w->gguf = gguf_init_empty();
    if (!context || !w->gguf) {
        ggml_free(context);
        return no_memory(w);
    }
    gguf_set_val_str(w->gguf, "general.architecture", "hidream");
    gguf_set_val_u32(w->gguf, "reverie.format", 1);
    for (size_t i = 0; rv__weights_file_name(w->weights, i); i++) {
        const char *path = rv__weights_file_name(w->weights, i);
        size_t len;
        const char *data = rv__weights_file(w->weights, path, &len);
        char *key = rv__format("file:%s", path);
        if (key)
            gguf_set_arr_data(w->gguf, key, GGUF_TYPE_UINT8, data, len);
        rv__free(key);
    }
    for (size_t i = 0; i < w->count; i++)
        describe(w, i, context);
    bool complete = gguf_get_n_tensors(w->gguf) == (int64_t)w->count;
    ggml_free(context);
    return complete ? RV_OK : no_memory(w);
}

/* ---- bytes ---- */

static rv_status put(writer *w, const void *data, size_t len)
{
    const char *at = data;
    while (len) {
        ssize_t n = write(w->fd, at, len < ((size_t)1 << 30) ? len : (size_t)1 << 30);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return rv__fail(w->err, RV_IO, "%.300s: %s", w->path, strerror(n < 0 ? errno : ENOSPC));
        at += n;
        len -= (size_t)n;
    }
    return RV_OK;
}

static rv_status put_padding(writer *w, size_t written)
{
    static const char zeros[64];
    size_t alignment = gguf_get_alignment(w->gguf), rest = written % alignment;
    return rest && alignment <= sizeof zeros ? put(w, zeros, alignment - rest) : RV_OK;
}

static rv_status put_header(writer *w)
{
    size_t size = gguf_get_meta_size(w->gguf);
    char *data = rv__alloc(size);
    if (!data)
        return no_memory(w);
    gguf_get_meta_data(w->gguf, data);
    rv_status status = put(w, data, size);
    rv__free(data);
    return status;
}

/* ---- conversion ---- */

/* Some rows of a slab, done by one thread. */
typedef struct slice {
    const rv__tensor *tensor;
    enum ggml_type to;
    int64_t row, rows, width; /* rows of the tensor, values per row */
    float *floats;
    unsigned char *bytes;
    bool finite, fits;
    bool threaded;
    pthread_t thread;
} slice;

static void *convert(void *user)
{
    slice *s = user;
    int64_t n = s->rows * s->width;
    const float *values = s->floats;
    rv__tensor_floats(s->tensor, s->row, s->rows, s->floats);
    s->finite = s->fits = true;
    for (int64_t i = 0; i < n && s->finite && s->fits; i++) {
        s->finite = isfinite(values[i]);
        s->fits = s->to != GGML_TYPE_F16 || fabsf(values[i]) < 65520.0f;
    }
    if (!s->finite || !s->fits)
        return NULL;
    if (s->to == GGML_TYPE_F32)
        memcpy(s->bytes, values, (size_t)n * sizeof *values);
    else
        ggml_quantize_chunk(s->to, values, s->bytes, 0, s->rows, s->width, NULL);
    return NULL;
}

/* Converts rows [row, row + rows) into w->bytes with all threads. */
static rv_status convert_slab(writer *w, const entry *e, int64_t row, int64_t rows, int64_t width)
{
    slice slices[MAX_THREADS];
    int n = 0;
    int64_t share = (rows + w->threads - 1) / w->threads;
    for (int64_t at = 0; at < rows; at += share, n++) {
        int64_t own = rows - at < share ? rows - at : share;
        slices[n] = (slice){.tensor = e->tensor,
                            .to = e->to,
                            .row = row + at,
                            .rows = own,
                            .width = width,
                            .floats = w->floats + at * width,
                            .bytes = w->bytes + (size_t)at * ggml_row_size(e->to, width)};
    }
    for (int i = 1; i < n; i++)
        slices[i].threaded = pthread_create(&slices[i].thread, NULL, convert, &slices[i]) == 0;
    for (int i = 0; i < n; i++) {
        if (!slices[i].threaded)
            convert(&slices[i]);
    }
    rv_status status = RV_OK;
    for (int i = 0; i < n; i++) {
        if (slices[i].threaded)
            pthread_join(slices[i].thread, NULL);
        if (status == RV_OK && !slices[i].finite)
            status = rv__fail(w->err, RV_FORMAT,
                              "%s: tensor \"%.200s\" holds values that are not finite", e->part,
                              e->tensor->name);
        else if (status == RV_OK && !slices[i].fits)
            status = rv__fail(w->err, RV_FORMAT,
                              "%s: tensor \"%.200s\" holds values too large for f16; use bf16",
                              e->part, e->tensor->name);
    }
    return status;
}

static rv_status put_converted(writer *w, const entry *e)
{
    const rv__tensor *t = e->tensor;
    int64_t width = t->n_dims ? t->shape[t->n_dims - 1] : 1, all = 1;
    for (int i = 0; i + 1 < t->n_dims; i++)
        all *= t->shape[i];
    int64_t at_once = SLAB_VALUES / width > 0 ? SLAB_VALUES / width : 1;
    at_once = at_once < all ? at_once : all;
    w->floats = rv__alloc((size_t)(at_once * width) * sizeof *w->floats);
    w->bytes = rv__alloc((size_t)at_once * ggml_row_size(e->to, width));
    rv_status status = w->floats && w->bytes ? RV_OK : no_memory(w);
    for (int64_t row = 0; row < all && status == RV_OK; row += at_once) {
        int64_t rows = all - row < at_once ? all - row : at_once;
        status = convert_slab(w, e, row, rows, width);
        if (status == RV_OK)
            status = put(w, w->bytes, (size_t)rows * ggml_row_size(e->to, width));
    }
    rv__free(w->floats);
    rv__free(w->bytes);
    w->floats = NULL;
    w->bytes = NULL;
    return status;
}

/* Every byte of the tensor, its rows in the order they are meant in. */
static rv_status put_as_it_is(writer *w, const rv__tensor *t)
{
    if (!t->heads)
        return put(w, t->data, t->size);
    size_t row = t->size / (size_t)t->shape[0];
    rv_status status = RV_OK;
    for (int64_t i = 0; i < t->shape[0] && status == RV_OK; i++)
        status = put(w, (const char *)t->data + (size_t)rv__tensor_row_place(t, i) * row, row);
    return status;
}

static rv_status put_tensors(writer *w, rv__write_note *note, void *user)
{
    rv_status status = RV_OK;
    for (size_t i = 0; i < w->count && status == RV_OK; i++) {
        const entry *e = &w->entries[i];
        size_t size = gguf_get_tensor_size(w->gguf, (int64_t)i);
        status = e->to == e->tensor->type && !e->tensor->float8 ? put_as_it_is(w, e->tensor)
                                                                 : put_converted(w, e);
        if (status == RV_OK)
            status = put_padding(w, size);
        if (status == RV_OK)
            note(user, e->part, e->tensor, e->to, size);
    }
    return status;
}

/* Everything into a new file beside path, which it replaces at the end. */
static rv_status put_file(writer *w, rv__write_note *note, void *user)
{
    char *temporary = rv__format("%s.XXXXXX", w->path);
    if (!temporary)
        return no_memory(w);
    w->fd = mkostemp(temporary, O_CLOEXEC);
    if (w->fd < 0) {
        rv_status status = rv__fail(w->err, RV_IO, "%.300s: %s", temporary, strerror(errno));
        rv__free(temporary);
        return status;
    }
    rv_status status = put_header(w);
    if (status == RV_OK)
        status = put_tensors(w, note, user);
    mode_t mask = umask(0);
    umask(mask);
    if (status == RV_OK && (fchmod(w->fd, 0666 & ~mask) != 0 || fsync(w->fd) != 0))
        status = rv__fail(w->err, RV_IO, "%.300s: %s", temporary, strerror(errno));
    if (close(w->fd) != 0 && status == RV_OK)
        status = rv__fail(w->err, RV_IO, "%.300s: %s", temporary, strerror(errno));
    if (status == RV_OK && rename(temporary, w->path) != 0)
        status = rv__fail(w->err, RV_IO, "%.300s: %s", w->path, strerror(errno));
    if (status != RV_OK)
        unlink(temporary);
    rv__free(temporary);
    return status;
}

rv_status rv__weights_write(const rv__weights *weights, const char *path, enum ggml_type type,
                            int threads, rv__write_note *note, void *user, rv_error *err)
{
    if (type >= GGML_TYPE_COUNT || ggml_quantize_requires_imatrix(type))
        return rv__fail(err, RV_UNSUPPORTED, "not a type models are written in");
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    threads = threads > 0 ? threads : cores > 0 ? (int)cores : 1;
    writer w = {.weights = weights,
                .path = path,
                .threads = threads < MAX_THREADS ? threads : MAX_THREADS,
                .err = err};
    rv_status status = collect(&w, type, note, user);
    if (status == RV_OK)
        status = make_header(&w);
    if (status == RV_OK)
        status = put_file(&w, note, user);
    gguf_free(w.gguf);
    rv__free(w.entries);
    return status;
}
