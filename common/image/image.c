/* One picture: pixels and encoded bytes, each made from the other when asked for, and the facts
 * about it. Counted, shared between threads, never changed after it was shared.  Must never trust
 * the bytes of a file. */
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/memory.h"
#include "image/codec.h"
#include "image/raster.h"

#define FILE_MAX      ((size_t)1 << 31) /* no encoded file is larger; longer ones are refused */
#define SAVED_QUALITY 95                /* of rv_image_save: the default of the wire protocol  */

struct rv_image {
    atomic_int       refs;
    pthread_mutex_t  lock;   /* guards pixels and is_broken while they are made on demand      */
    uint8_t         *pixels; /* NULL until decoded                                            */
    bool             is_broken;
    rv__header       header;
    void            *bytes; /* NULL for a picture made from pixels                            */
    size_t           len;
    rv__image_format format; /* of bytes                                                      */
    char            *base64; /* a file that nobody needed yet; guarded by lock */
    int64_t          max_pixels;
    char             uuid[64];
    uint64_t         seed;
    double           cost;
    int              nsfw;
    char            *url, *recipe;
};

static const struct {
    const char      *name, *ext, *alias, *mime;
    const rv__codec *codec;
} formats[RV__FORMATS] = {
    [RV__PNG] = {"PNG", "png", "png", "image/png", &rv__codec_png},
    [RV__JPG] = {"JPG", "jpg", "jpeg", "image/jpeg", &rv__codec_jpeg},
    [RV__WEBP] = {"WEBP", "webp", "webp", "image/webp", &rv__codec_webp},
};

rv__image_format rv__format_from(const char *name)
{
    int f = 0;
    while (f < RV__FORMATS && (!name || (strcasecmp(name, formats[f].ext) != 0 &&
                                         strcasecmp(name, formats[f].alias) != 0)))
        f++;
    return (rv__image_format)f;
}

const char *rv__format_mime(rv__image_format f)
{
    return f < RV__FORMATS ? formats[f].mime : "application/octet-stream";
}

const char *rv__format_ext(rv__image_format f)
{
    return f < RV__FORMATS ? formats[f].ext : "bin";
}

const char *rv__format_name(rv__image_format f)
{
    return f < RV__FORMATS ? formats[f].name : "";
}

/* ---- making --------------------------------------------------------------------------------- */

static rv_image *new_image(void)
{
    rv_image *i = rv__calloc(1, sizeof *i);
    if (!i)
        return NULL;
    if (pthread_mutex_init(&i->lock, NULL) != 0) {
        rv__free(i);
        return NULL;
    }
    atomic_init(&i->refs, 1);
    i->cost = -1;
    i->nsfw = -1;
    i->format = RV__FORMATS;
    return i;
}

/* Bytes of the decoded picture; 0 when that does not fit into memory at all. */
static size_t pixels_size(const rv__header *h)
{
    if (h->width < 1 || h->height < 1 || h->width > INT32_MAX || h->height > INT32_MAX)
        return 0;
    uint64_t area = (uint64_t)h->width * (uint64_t)h->height;
    return area > (uint64_t)PTRDIFF_MAX / 4 ? 0 : (size_t)area * (size_t)h->channels;
}

rv_image *rv__image_from_pixels(const uint8_t *pixels, int width, int height, int channels)
{
    rv__header h = {width, height, channels};
    size_t     size = channels == 3 || channels == 4 ? pixels_size(&h) : 0;
    rv_image  *i = size ? new_image() : NULL;
    if (!i)
        return NULL;
    i->header = h;
    i->pixels = rv__alloc(size);
    if (!i->pixels) {
        rv_image_unref(i);
        return NULL;
    }
    memcpy(i->pixels, pixels, size);
    return i;
}

rv__image_format rv__image_kind(const void *bytes, size_t len)
{
    int f = 0;
    while (f < RV__FORMATS && !formats[f].codec->recognise(bytes, len))
        f++;
    return (rv__image_format)f;
}

/* Kind and header of a file, without copying or decoding anything. */
static rv_status examine(const void *bytes, size_t len, int64_t max_pixels, int *format,
                         rv__header *header, rv_error *err)
{
    int f = (int)rv__image_kind(bytes, len);
    if (f == RV__FORMATS)
        return rv__fail(err, RV_FORMAT, "not a PNG, JPEG or WebP picture");
    if (len > FILE_MAX)
        return rv__fail(err, RV_FORMAT, "the picture file has more than %zu bytes", FILE_MAX);
    rv_status s = formats[f].codec->header(bytes, len, header, err);
    if (s)
        return s;
    if (!pixels_size(header) || header->width > max_pixels / header->height)
        return rv__fail(err, RV_FORMAT,
                        "the picture has %lld x %lld pixels, at most %lld in all are accepted",
                        (long long)header->width, (long long)header->height,
                        (long long)max_pixels);
    *format = f;
    return RV_OK;
}

rv_status rv__image_check(const void *bytes, size_t len, int64_t max_pixels, rv__image_format *format, rv_error *err)
{
    int        f;
    rv__header h;
    rv_status  s = examine(bytes, len, max_pixels, &f, &h, err);
    if (s == RV_OK && format)
        *format = (rv__image_format)f;
    return s;
}

rv_status rv__image_from_bytes(const void *bytes, size_t len, int64_t max_pixels, rv_image **out,
                               rv_error *err)
{
    *out = NULL;
    rv_status s = rv__image_check(bytes, len, max_pixels, NULL, err);
    if (s)
        return s;
    void *copy = rv__alloc(len);
    if (!copy)
        return rv__fail(err, RV_MEMORY, "out of memory");
    memcpy(copy, bytes, len);
    return rv__image_take_bytes(copy, len, max_pixels, out, err);
}

rv_status rv__image_take_bytes(void *bytes, size_t len, int64_t max_pixels, rv_image **out,
                               rv_error *err)
{
    *out = NULL;
    int        f;
    rv__header h;
    rv_status  s = examine(bytes, len, max_pixels, &f, &h, err);
    rv_image  *i = s ? NULL : new_image();
    if (!i) {
        rv__free(bytes);
        return s ? s : rv__fail(err, RV_MEMORY, "out of memory");
    }
    i->bytes = bytes;
    i->len = len;
    i->format = (rv__image_format)f;
    i->header = h;
    *out = i;
    return RV_OK;
}

rv_status rv_image_from_pixels(const uint8_t *pixels, int width, int height, int channels,
                               rv_image **out)
{
    rv__header h = {width, height, channels};
    *out = NULL;
    if (!pixels || (channels != 3 && channels != 4) || !pixels_size(&h) ||
        h.width > RV_IMAGE_MAX_PIXELS / h.height)
        return RV_MISUSE;
    *out = rv__image_from_pixels(pixels, width, height, channels);
    return *out ? RV_OK : RV_MEMORY;
}

rv_status rv_image_resize(rv_image *i, int width, int height, rv_image **out)
{
    rv__header h = {width, height, 3};
    *out = NULL;
    if (!pixels_size(&h) || h.width > RV_IMAGE_MAX_PIXELS / h.height)
        return RV_MISUSE;
    const uint8_t *pixels = rv_image_pixels(i);
    if (!pixels)
        return RV_FORMAT;
    rv__raster in = {(uint8_t *)pixels, (int)i->header.width, (int)i->header.height,
                     i->header.channels};
    rv__raster resized = {0};
    rv_status status = rv__raster_resize(&in, width, height, &resized, NULL);
    if (status == RV_OK)
        status = rv_image_from_pixels(resized.pixels, width, height, resized.channels, out);
    rv__raster_free(&resized);
    return status;
}

rv_status rv_image_from_bytes(const void *bytes, size_t len, rv_image **out, rv_error *err)
{
    return rv__image_from_bytes(bytes, len, RV_IMAGE_MAX_PIXELS, out, err);
}

rv_image *rv__image_from_base64(const char *text, int64_t max_pixels)
{
    rv_image *i = new_image();
    if (i)
        i->base64 = rv__strdup(text);
    if (i && !i->base64) {
        rv_image_unref(i);
        return NULL;
    }
    if (i)
        i->max_pixels = max_pixels;
    return i;
}

/* Takes over the file of another picture that nobody else has. */
static void take_file(rv_image *i, rv_image *from)
{
    i->bytes = from->bytes;
    i->len = from->len;
    i->format = from->format;
    i->header = from->header;
    from->bytes = NULL;
}

/* Decodes pending base64, once.  Every reader of bytes, format and header comes through here first; after it they
 * never change, except that lack of memory is tried again. */
static void settle(const rv_image *shared)
{
    rv_image *i = (rv_image *)shared;
    pthread_mutex_lock(&i->lock);
    size_t len = i->base64 ? strlen(i->base64) : 0, size = 0;
    void  *bytes = i->base64 ? rv__alloc(len / 4 * 3 + 1) : NULL;
    if (bytes) {
        rv_image *file = NULL;
        bool      is_text = rv__base64_decode(i->base64, len, bytes, &size);
        rv_status s = is_text ? rv__image_from_bytes(bytes, size, i->max_pixels, &file, NULL) : RV_FORMAT;
        if (s == RV_OK)
            take_file(i, file);
        if (s != RV_MEMORY) {
            i->is_broken = s != RV_OK;
            rv__free(i->base64);
            i->base64 = NULL;
        }
        rv_image_unref(file);
        rv__free(bytes);
    }
    pthread_mutex_unlock(&i->lock);
}

rv_image *rv__image_from_url(const char *url)
{
    rv_image *i = new_image();
    if (i && !rv__image_set_url(i, url)) {
        rv_image_unref(i);
        return NULL;
    }
    return i;
}

rv_image *rv_image_ref(rv_image *i)
{
    if (i)
        atomic_fetch_add_explicit(&i->refs, 1, memory_order_relaxed);
    return i;
}

void rv_image_unref(rv_image *i)
{
    if (!i || atomic_fetch_sub_explicit(&i->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&i->lock);
    rv__free(i->pixels);
    rv__free(i->bytes);
    rv__free(i->base64);
    rv__free(i->url);
    rv__free(i->recipe);
    rv__free(i);
}

rv_image *rv__image_copy(rv_image *i)
{
    rv_image *copy = NULL;
    settle(i);
    pthread_mutex_lock(&i->lock); /* pixels may be made right now */
    if (i->bytes)
        rv__image_from_bytes(i->bytes, i->len, INT64_MAX, &copy, NULL);
    else if (i->pixels)
        copy = rv__image_from_pixels(i->pixels, (int)i->header.width, (int)i->header.height, i->header.channels);
    pthread_mutex_unlock(&i->lock);
    return copy;
}

size_t rv__image_memory(rv_image *i)
{
    settle(i);
    pthread_mutex_lock(&i->lock);
    size_t size = (i->bytes ? i->len : 0) + (i->pixels ? pixels_size(&i->header) : 0);
    pthread_mutex_unlock(&i->lock);
    return size;
}

/* ---- facts ---------------------------------------------------------------------------------- */

void rv__image_set_facts(rv_image *i, const char *uuid, uint64_t seed, double cost, int nsfw)
{
    snprintf(i->uuid, sizeof i->uuid, "%s", uuid ? uuid : "");
    i->seed = seed;
    i->cost = cost;
    i->nsfw = nsfw;
}

static bool set_text(char **place, const char *text)
{
    char *copy = rv__strdup(text);
    if (!copy)
        return false;
    rv__free(*place);
    *place = copy;
    return true;
}

bool rv__image_set_url(rv_image *i, const char *url)
{
    return set_text(&i->url, url);
}

bool rv__image_set_recipe(rv_image *i, const char *json)
{
    return set_text(&i->recipe, json);
}

char *rv_image_recipe(const rv_image *i)
{
    if (i->recipe)
        return rv__strdup(i->recipe);
    settle(i);
    return i->bytes ? rv__recipe_read(i->bytes, i->len) : NULL;
}

rv_image_info rv_image_facts(const rv_image *i)
{
    settle(i);
    return (rv_image_info){
        .uuid = i->uuid,
        .seed = i->seed,
        .width = (int)i->header.width,
        .height = (int)i->header.height,
        .channels = i->header.channels,
        .cost = i->cost,
        .nsfw = i->nsfw,
        .url = i->url,
    };
}

/* ---- pixels and files ----------------------------------------------------------------------- */

/* Decodes once; the caller holds the lock.  Lack of memory is tried again later, damage is not. */
static rv_status decode(rv_image *i, rv_error *err)
{
    if (i->pixels)
        return RV_OK;
    if (i->base64)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (i->is_broken)
        return rv__fail(err, RV_FORMAT, "the picture file is damaged");
    if (!i->bytes)
        return rv__fail(err, RV_UNSUPPORTED, "the picture is known by its URL only");
    uint8_t *pixels = rv__alloc(pixels_size(&i->header));
    if (!pixels)
        return rv__fail(err, RV_MEMORY, "out of memory");
    rv_status s = formats[i->format].codec->decode(i->bytes, i->len, &i->header, pixels, err);
    if (s == RV_OK) {
        i->pixels = pixels;
        return RV_OK;
    }
    i->is_broken = s != RV_MEMORY;
    rv__free(pixels);
    return s;
}

static rv_status make_pixels(rv_image *i, rv_error *err)
{
    settle(i);
    pthread_mutex_lock(&i->lock);
    rv_status s = decode(i, err);
    pthread_mutex_unlock(&i->lock);
    return s;
}

const uint8_t *rv_image_pixels(rv_image *i)
{
    return make_pixels(i, NULL) == RV_OK ? i->pixels : NULL;
}

/* Appends the file without recipe.  Bytes that came in the wanted format are passed on as they are:
 * compressing them again could only lose. */
static rv_status encode_plain(rv_image *i, rv__image_format f, int quality, rv__buf *out,
                              rv_error *err)
{
    if (i->bytes && i->format == f) {
        rv__buf_add(out, i->bytes, i->len);
        return RV_OK;
    }
    rv_status s = make_pixels(i, err);
    if (s)
        return s;
    rv__pixels p = {i->pixels, (int)i->header.width, (int)i->header.height, i->header.channels};
    return formats[f].codec->encode(&p, quality, out, err);
}

/* A file that is passed on as it came may bring the same recipe along; a second one would only change its bytes. */
static bool brings_recipe(const rv_image *i, rv__image_format f)
{
    char *found = i->bytes && i->format == f ? rv__recipe_read(i->bytes, i->len) : NULL;
    bool is_same = found && strcmp(found, i->recipe) == 0;
    rv__free(found);
    return is_same;
}

static rv_status encode_with_recipe(rv_image *i, rv__image_format f, int quality, rv__buf *out,
                                    rv_error *err)
{
    if (!i->recipe || brings_recipe(i, f))
        return encode_plain(i, f, quality, out, err);
    rv__buf plain;
    rv__buf_init(&plain, FILE_MAX);
    rv_status s = encode_plain(i, f, quality, &plain, err);
    if (s == RV_OK && plain.failed)
        s = rv__fail(err, RV_MEMORY, "out of memory");
    if (s == RV_OK)
        s = rv__recipe_insert(f, (const uint8_t *)plain.data, plain.len, i->recipe, out, err);
    rv__buf_free(&plain);
    return s;
}

rv_status rv_image_encode(rv_image *i, const char *format, int quality, void **bytes, size_t *len,
                          rv_error *err)
{
    *bytes = NULL;
    *len = 0;
    rv__image_format f = rv__format_from(format);
    if (f == RV__FORMATS)
        return rv__fail_code(err, RV_VALIDATION, "invalidOutputFormat", "outputFormat",
                             "the format must be one of PNG, JPG, WEBP");
    if (f != RV__PNG && (quality < 20 || quality > 99))
        return rv__fail_code(err, RV_VALIDATION, "invalidOutputQuality", "outputQuality",
                             "the quality must be from 20 to 99");
    settle(i);
    rv__buf out;
    rv__buf_init(&out, FILE_MAX);
    rv_status s = encode_with_recipe(i, f, quality, &out, err);
    if (s) {
        rv__buf_free(&out);
        return s;
    }
    size_t size = 0;
    *bytes = rv__buf_take(&out, &size);
    if (!*bytes)
        return rv__fail(err, RV_MEMORY, "out of memory");
    *len = size;
    return RV_OK;
}

/* Writes all bytes to a new file and onto the disk; 0 or errno. */
static int write_new(const char *path, const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return errno;
    int failed = 0;
    while (len > 0 && !failed) {
        ssize_t n = write(fd, bytes, len);
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            failed = n == 0 ? EIO : errno;
        }
    }
    if (!failed && fsync(fd) != 0 && errno != EINVAL)
        failed = errno;
    if (close(fd) != 0 && !failed)
        failed = errno;
    return failed;
}

/* Readers see the old file or the new one, never half of it: written beside it under another name,
 * then renamed. */
static rv_status write_file(const char *path, const void *bytes, size_t len, rv_error *err)
{
    static atomic_uint counter;
    char              *temporary =
        rv__format("%s.%ld-%u.tmp", path, (long)getpid(), atomic_fetch_add(&counter, 1));
    if (!temporary)
        return rv__fail(err, RV_MEMORY, "out of memory");
    int failed = write_new(temporary, bytes, len);
    if (!failed && rename(temporary, path) != 0)
        failed = errno;
    if (failed && failed != EEXIST)
        unlink(temporary);
    rv__free(temporary);
    char reason[128] = "";
    return failed ? rv__fail(err, RV_IO, "%s: %s", path, strerror_r(failed, reason, sizeof reason))
                  : RV_OK;
}

static rv__image_format format_of_path(const char *path)
{
    const char *dot = strrchr(path, '.');
    const char *slash = strrchr(path, '/');
    return dot && (!slash || dot > slash) ? rv__format_from(dot + 1) : RV__FORMATS;
}

rv_status rv_image_write(rv_image *i, const char *path, const char *format, int quality,
                         rv_error *err)
{
    if (!format) {
        rv__image_format f = format_of_path(path);
        if (f == RV__FORMATS)
            return rv__fail(err, RV_VALIDATION,
                            "%s: the name must end in .png, .jpg, .jpeg or .webp", path);
        format = formats[f].name;
    }
    void     *bytes;
    size_t    len;
    rv_status s = rv_image_encode(i, format, quality, &bytes, &len, err);
    if (s == RV_OK)
        s = write_file(path, bytes, len, err);
    rv__free(bytes);
    return s;
}

rv_status rv_image_save(rv_image *i, const char *path, rv_error *err)
{
    return rv_image_write(i, path, NULL, SAVED_QUALITY, err);
}
