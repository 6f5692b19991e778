/* See raster.h. */
#include "image/raster.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"
#include "base/memory.h"
#include "base/uuid.h"
#include "image/image.h"

void rv__raster_free(rv__raster *r)
{
    rv__free(r->pixels);
    *r = (rv__raster){0};
}

rv_status rv__raster_make(int width, int height, int channels, rv__raster *out, rv_error *err)
{
    *out = (rv__raster){.width = width, .height = height, .channels = channels};
    out->pixels = rv__calloc((size_t)width * (size_t)height, (size_t)channels);
    return out->pixels ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
}

static uint8_t *pixel(const rv__raster *r, int x, int y)
{
    return r->pixels + ((size_t)y * (size_t)r->width + (size_t)x) * (size_t)r->channels;
}

/* ---- reading ---- */

/* What is wrong with a picture, under the wire code of its parameter: "invalidSeedImage". */
static rv_status refuse(rv_error *err, const char *parameter, const char *why)
{
    char code[64];
    snprintf(code, sizeof code, "invalid%s", parameter);
    code[strlen("invalid")] = (char)toupper((unsigned char)*parameter);
    return rv__fail_code(err, RV_VALIDATION, code, parameter, "%s: %s", parameter, why);
}

rv_status rv__raster_decode(const uint8_t *bytes, size_t len, const char *parameter, rv__raster *out,
                            rv_error *err)
{
    *out = (rv__raster){0};
    rv_image *image = NULL;
    rv_error why = {0};
    rv_status status = rv__image_from_bytes(bytes, len, RV__INPUT_PIXELS, &image, &why);
    if (status == RV_FORMAT)
        return refuse(err, parameter, why.message);
    if (status != RV_OK)
        return rv__fail(err, status, "%s", why.message);
    const uint8_t *pixels = rv_image_pixels(image);
    rv_image_info info = rv_image_facts(image);
    if (pixels)
        status = rv__raster_make(info.width, info.height, info.channels, out, err);
    else
        status = refuse(err, parameter, "the picture file is damaged");
    if (status == RV_OK)
        memcpy(out->pixels, pixels,
               (size_t)info.width * (size_t)info.height * (size_t)info.channels);
    rv_image_unref(image);
    return status == RV_OK ? rv__raster_upright(out, rv__exif_orientation(bytes, len), err)
                           : status;
}

rv_status rv__raster_read(const char *text, const char *parameter, rv__raster *out, rv_error *err)
{
    *out = (rv__raster){0};
    if (rv__uuid_valid(text, strlen(text)) || strncasecmp(text, "http://", 7) == 0 ||
        strncasecmp(text, "https://", 8) == 0)
        return rv__fail_code(err, RV_UNSUPPORTED, NULL, parameter,
                             "%s: pictures by UUID are not available here, send a URL, or the file as "
                             "a data URI or base64",
                             parameter);
    const char *comma = strncasecmp(text, "data:", 5) == 0 ? strchr(text, ',') : NULL;
    text = comma ? comma + 1 : text;
    size_t len = strlen(text), size = 0;
    uint8_t *bytes = rv__alloc(len / 4 * 3 + 1);
    rv_status status = bytes ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
    if (bytes && !rv__base64_decode(text, len, bytes, &size))
        status = refuse(err, parameter, "not valid base64");
    if (status == RV_OK)
        status = rv__raster_decode(bytes, size, parameter, out, err);
    rv__free(bytes);
    return status;
}

/* ---- orientation ---- */

typedef struct span {
    const uint8_t *data;
    size_t len;
} span;

static size_t number(span s, size_t at, size_t bytes, bool little)
{
    size_t v = 0;
    for (size_t i = 0; i < bytes; i++)
        v = v << 8 | s.data[at + (little ? bytes - 1 - i : i)];
    return v;
}

static bool starts(span s, size_t at, const char *word, size_t len)
{
    return s.len >= len && at <= s.len - len && memcmp(s.data + at, word, len) == 0;
}

/* The first segment of a JPEG file that holds EXIF data. */
static span jpeg_exif(span f)
{
    for (size_t at = 2; f.len - at >= 4 && f.data[at] == 0xff;) {
        size_t size = number(f, at + 2, 2, false);
        uint8_t marker = f.data[at + 1];
        if (marker == 0xff) {
            at++;
            continue;
        }
        if (marker == 0xda || size < 2 || size > f.len - at - 2)
            break;
        if (marker == 0xe1 && size >= 8 && starts(f, at + 4, "Exif\0\0", 6))
            return (span){f.data + at + 10, size - 8};
        at += 2 + size;
    }
    return (span){0};
}

/* A chunk of PNG (size before the name, 12 bytes around the data) or WebP (name first, 8 bytes, data
 * padded to even). */
static span chunk(span f, size_t at, const char *name, bool is_png)
{
    size_t frame = is_png ? 12 : 8;
    while (f.len >= at && f.len - at >= frame) {
        size_t size = number(f, at + (is_png ? 0 : 4), 4, !is_png);
        if (size > f.len - at - frame)
            break;
        if (starts(f, at + (is_png ? 4 : 0), name, 4))
            return (span){f.data + at + 8, size};
        at += frame + size + (is_png ? 0 : size & 1);
    }
    return (span){0};
}

static int tiff_orientation(span t)
{
    if (starts(t, 0, "Exif\0\0", 6))
        t = (span){t.data + 6, t.len - 6};
    bool little = starts(t, 0, "II*\0", 4);
    if (t.len < 8 || (!little && !starts(t, 0, "MM\0*", 4)))
        return 1;
    size_t at = number(t, 4, 4, little);
    if (at > t.len || t.len - at < 2)
        return 1;
    size_t entries = number(t, at, 2, little);
    for (at += 2; entries && t.len - at >= 12; entries--, at += 12) {
        if (number(t, at, 2, little) != 0x112)
            continue;
        size_t value = number(t, at + 8, 2, little);
        return number(t, at + 2, 2, little) == 3 && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

int rv__exif_orientation(const uint8_t *bytes, size_t len)
{
    span f = {bytes, len}, exif = {0};
    if (starts(f, 0, "\xff\xd8\xff", 3))
        exif = jpeg_exif(f);
    else if (starts(f, 0, "\x89PNG\r\n\x1a\n", 8))
        exif = chunk(f, 8, "eXIf", true);
    else if (starts(f, 0, "RIFF", 4) && starts(f, 8, "WEBP", 4))
        exif = chunk(f, 12, "EXIF", false);
    return exif.data ? tiff_orientation(exif) : 1;
}

rv_status rv__raster_upright(rv__raster *r, int orientation, rv_error *err)
{
    if (orientation < 2 || orientation > 8)
        return RV_OK;
    bool is_swapped = orientation > 4; /* rows of the file are columns of the picture */
    bool is_flipped_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool is_flipped_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    int w = is_swapped ? r->height : r->width, h = is_swapped ? r->width : r->height;
    rv__raster turned;
    rv_status status = rv__raster_make(w, h, r->channels, &turned, err);
    for (int y = 0; y < h && status == RV_OK; y++)
        for (int x = 0; x < w; x++) {
            int fx = is_swapped ? y : x, fy = is_swapped ? x : y;
            fx = is_flipped_x ? r->width - 1 - fx : fx;
            fy = is_flipped_y ? r->height - 1 - fy : fy;
            memcpy(pixel(&turned, x, y), pixel(r, fx, fy), (size_t)r->channels);
        }
    rv__raster_free(r);
    *r = turned;
    return status;
}

/* ---- colours ---- */

void rv__raster_flatten(rv__raster *r)
{
    size_t n = (size_t)r->width * (size_t)r->height;
    const uint8_t *from = r->pixels;
    uint8_t *to = r->pixels;
    for (size_t i = 0; r->channels == 4 && i < n; i++, from += 4, to += 3) {
        int alpha = from[3];
        for (int k = 0; k < 3; k++)
            to[k] = (uint8_t)((from[k] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
    r->channels = 3;
}

void rv__raster_grey(rv__raster *r)
{
    size_t n = (size_t)r->width * (size_t)r->height;
    const uint8_t *from = r->pixels;
    for (size_t i = 0; i < n; i++, from += r->channels) {
        /* ITU-R BT.601; the weights add up to 256, so that white stays 255. */
        int grey = (77 * from[0] + 150 * from[1] + 29 * from[2] + 128) >> 8;
        r->pixels[i] = (uint8_t)(r->channels == 4 ? (grey * from[3] + 127) / 255 : grey);
    }
    r->channels = 1;
}

rv_status rv__raster_crop(const rv__raster *in, int x, int y, int width, int height,
                          rv__raster *out, rv_error *err)
{
    rv_status status = rv__raster_make(width, height, in->channels, out, err);
    for (int row = 0; row < height && status == RV_OK; row++)
        memcpy(pixel(out, 0, row), pixel(in, x, y + row), (size_t)width * (size_t)in->channels);
    return status;
}
