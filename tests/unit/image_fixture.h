/* What the tests of pictures share: paintings, their files, and a look at whatever bytes. */
#ifndef IMAGE_FIXTURE_H
#define IMAGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "image/image.h"

#define MAX_PIXELS (4096 * 4096)

static const char *const names[] = {"PNG", "JPG", "WEBP"};

/* A smooth picture, so that lossy formats come close to it. */
static inline uint8_t *paint(int width, int height, int channels)
{
    uint8_t *p = malloc((size_t)width * height * channels);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *to = p + ((size_t)y * width + x) * channels;
            to[0] = (uint8_t)(255 * x / width);
            to[1] = (uint8_t)(255 * y / height);
            to[2] = (uint8_t)(255 * (x + y) / (width + height));
            if (channels == 4)
                to[3] = (uint8_t)(x < width / 2 ? 255 : 255 * y / height);
        }
    return p;
}

static inline rv_image *painting(int width, int height, int channels)
{
    uint8_t  *p = paint(width, height, channels);
    rv_image *i = rv__image_from_pixels(p, width, height, channels);
    free(p);
    return i;
}

static inline uint8_t *encoded(rv_image *i, const char *format, int quality, size_t *len)
{
    void    *bytes;
    rv_error err = {0};
    assert_int_equal(rv_image_encode(i, format, quality, &bytes, len, &err), RV_OK);
    return bytes;
}

static inline double distance(const uint8_t *a, const uint8_t *b, size_t n)
{
    double sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += abs(a[k] - b[k]);
    return sum / (double)n;
}

/* Loads and decodes; whatever the bytes are, this must return. */
static inline rv_status load(const void *bytes, size_t len, int64_t max_pixels, rv_error *err)
{
    rv_image *i;
    rv_status s = rv__image_from_bytes(bytes, len, max_pixels, &i, err);
    if (s == RV_OK && !rv_image_pixels(i)) {
        void  *out;
        size_t out_len;
        s = rv_image_encode(i, rv_image_facts(i).channels == 4 ? "JPG" : "PNG", 90, &out, &out_len,
                            err);
        rv__free(out);
    }
    rv_image_unref(i);
    return s;
}

#endif
