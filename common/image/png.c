/* PNG by libpng.  Errors come back by longjmp, so everything that must be released lies in one
 * struct that is made before setjmp.  Decodes every kind of PNG to 8 bit RGB or RGBA. */
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "image/codec.h"

static const uint8_t magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

/* State of one run of libpng. */
typedef struct work {
    const uint8_t *bytes; /* reading */
    size_t         len, at;
    rv__buf       *out; /* writing */
    bool           is_out_of_memory;
    char           message[160];
} work;

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool recognise(const uint8_t *bytes, size_t len)
{
    return len >= sizeof magic && memcmp(bytes, magic, sizeof magic) == 0;
}

/* Whether a tRNS chunk lies between the header and the first data chunk. */
static bool has_transparent_color(const uint8_t *bytes, size_t len)
{
    size_t at = 33;
    while (len - at >= 12) {
        uint32_t size = be32(bytes + at);
        if (memcmp(bytes + at + 4, "tRNS", 4) == 0)
            return true;
        if (memcmp(bytes + at + 4, "IDAT", 4) == 0 || size > len - at - 12)
            return false;
        at += 12 + (size_t)size;
    }
    return false;
}

static rv_status header(const uint8_t *bytes, size_t len, rv__header *h, rv_error *err)
{
    if (len < 33 || be32(bytes + 8) != 13 || memcmp(bytes + 12, "IHDR", 4) != 0)
        return rv__fail(err, RV_FORMAT, "the PNG file has no header");
    h->width = be32(bytes + 16);
    h->height = be32(bytes + 20);
    int color = bytes[25];
    if (h->width < 1 || h->height < 1 || color > 6 || color == 1 || color == 5)
        return rv__fail(err, RV_FORMAT, "the PNG header is damaged");
    bool has_alpha = color & PNG_COLOR_MASK_ALPHA || has_transparent_color(bytes, len);
    h->channels = has_alpha ? 4 : 3;
    return RV_OK;
}

static png_voidp on_alloc(png_structp png, png_alloc_size_t size)
{
    void *p = rv__alloc(size);
    work *w = png_get_mem_ptr(png);
    if (!p && w)
        w->is_out_of_memory = true;
    return p;
}

static void on_free(png_structp png, png_voidp p)
{
    rv__free(p);
}

static void on_error(png_structp png, png_const_charp message)
{
    work *w = png_get_error_ptr(png);
    snprintf(w->message, sizeof w->message, "%s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
}

static void on_read(png_structp png, png_bytep data, size_t len)
{
    work *w = png_get_io_ptr(png);
    if (len > w->len - w->at)
        png_error(png, "it ends early");
    memcpy(data, w->bytes + w->at, len);
    w->at += len;
}

static void on_write(png_structp png, png_bytep data, size_t len)
{
    work *w = png_get_io_ptr(png);
    rv__buf_add(w->out, data, len);
    if (w->out->failed) {
        w->is_out_of_memory = true;
        png_error(png, "out of memory");
    }
}

static void on_flush(png_structp png)
{
}

static rv_status failure(const work *w, rv_error *err)
{
    if (w->is_out_of_memory)
        return rv__fail(err, RV_MEMORY, "out of memory");
    return rv__fail(err, RV_FORMAT, "the PNG file is damaged: %s", w->message);
}

/* Everything becomes 8 bit, red green blue, with alpha exactly when the header says so. */
static void set_transforms(png_structp png, png_infop info, int channels)
{
    png_set_expand(png);
    png_set_gray_to_rgb(png);
    png_set_scale_16(png);
    if (channels == 4)
        png_set_add_alpha(png, 0xff, PNG_FILLER_AFTER);
    else
        png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
}

/* Jumps to the setjmp of the caller on errors; holds nothing that would need release. */
static void read_all(png_structp png, png_infop info, const rv__header *h, uint8_t *pixels)
{
    png_set_user_limits(png, (png_uint_32)h->width, (png_uint_32)h->height);
    png_set_chunk_cache_max(png, 16);
    png_set_chunk_malloc_max(png, 1 << 20);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_crc_action(png, PNG_CRC_DEFAULT, PNG_CRC_WARN_DISCARD);
    png_read_info(png, info);
    set_transforms(png, info, h->channels);
    size_t stride = (size_t)h->width * (size_t)h->channels;
    if (png_get_image_width(png, info) != h->width ||
        png_get_image_height(png, info) != h->height || png_get_rowbytes(png, info) != stride)
        png_error(png, "its chunks disagree about its size");
    int passes =
        png_get_interlace_type(png, info) == PNG_INTERLACE_ADAM7 ? PNG_INTERLACE_ADAM7_PASSES : 1;
    for (int pass = 0; pass < passes; pass++)
        for (int64_t y = 0; y < h->height; y++)
            png_read_row(png, pixels + (size_t)y * stride, NULL);
    png_read_end(png, NULL);
}

static rv_status decode(const uint8_t *bytes, size_t len, const rv__header *h, uint8_t *pixels,
                        rv_error *err)
{
    work        w = {.bytes = bytes, .len = len};
    png_structp png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &w, on_error, on_warning, &w,
                                               on_alloc, on_free);
    png_infop   info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        png_destroy_read_struct(&png, NULL, NULL);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    bool is_good = false;
    if (setjmp(png_jmpbuf(png)) == 0) {
        png_set_read_fn(png, &w, on_read);
        read_all(png, info, h, pixels);
        is_good = true;
    }
    png_destroy_read_struct(&png, &info, NULL);
    return is_good ? RV_OK : failure(&w, err);
}

static void write_all(png_structp png, png_infop info, const rv__pixels *p)
{
    png_set_IHDR(png, info, (png_uint_32)p->width, (png_uint_32)p->height, 8,
                 p->channels == 4 ? PNG_COLOR_TYPE_RGB_ALPHA : PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_sRGB(png, info, PNG_sRGB_INTENT_PERCEPTUAL);
    png_write_info(png, info);
    for (int y = 0; y < p->height; y++)
        png_write_row(png, p->data + (size_t)y * (size_t)p->width * (size_t)p->channels);
    png_write_end(png, NULL);
}

static rv_status encode(const rv__pixels *p, int quality, rv__buf *out, rv_error *err)
{
    work        w = {.out = out};
    png_structp png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &w, on_error, on_warning, &w,
                                                on_alloc, on_free);
    png_infop   info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        png_destroy_write_struct(&png, NULL);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    bool is_good = false;
    if (setjmp(png_jmpbuf(png)) == 0) {
        png_set_write_fn(png, &w, on_write, on_flush);
        write_all(png, info, p);
        is_good = true;
    }
    png_destroy_write_struct(&png, &info);
    return is_good ? RV_OK : failure(&w, err);
}

const rv__codec rv__codec_png = {recognise, header, decode, encode};
