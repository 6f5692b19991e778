/* Pictures that come with a request, as plain pixels that can be turned, cut and scaled.  Must never
 * fetch anything and never trust the bytes: kind, size and number of pixels are checked before
 * anything is decoded. */
#ifndef RV_RASTER_H
#define RV_RASTER_H

#include <stdint.h>

#include "base/status.h"

typedef struct rv__raster {
    uint8_t *pixels; /* rows top to bottom, interleaved; NULL: nothing is there */
    int      width, height, channels; /* 1 grey, 3 RGB, 4 RGBA */
} rv__raster;

/* Most pixels of a picture in a request: 64 megapixels need 256 MB while they are scaled down. */
#define RV__INPUT_PIXELS ((int64_t)1 << 26)

/* Reads a PNG, JPEG or WebP file written as a data URI or as bare base64, upright as its EXIF data
 * says; out (rv__raster_free), 3 or 4 channels.  parameter is what errors name: RV_VALIDATION for
 * what is not such a picture or too large, RV_UNSUPPORTED for a URL or UUID, RV_MEMORY. */
rv_status rv__raster_read(const char *text, const char *parameter, rv__raster *out, rv_error *err);
/* The same from the bytes of such a file. */
rv_status rv__raster_decode(const uint8_t *bytes, size_t len, const char *parameter, rv__raster *out,
                            rv_error *err);
void      rv__raster_free(rv__raster *r);

/* Room for so many pixels, all zero (out). */
rv_status rv__raster_make(int width, int height, int channels, rv__raster *out, rv_error *err);

/* EXIF orientation of a file, 1 to 8; 1 where it says nothing (sensible). */
int rv__exif_orientation(const uint8_t *bytes, size_t len);

/* Turns and mirrors so that a picture of that orientation stands upright. */
rv_status rv__raster_upright(rv__raster *r, int orientation, rv_error *err);

/* RGB in place: what is transparent shows white. */
void rv__raster_flatten(rv__raster *r);

/* Brightness in place, one channel; what is transparent counts as black. */
void rv__raster_grey(rv__raster *r);

/* Scales to width x height (out): cubic, with a wider filter where it gets smaller, so that nothing
 * is skipped.  The same size gives the same bytes. */
rv_status rv__raster_resize(const rv__raster *in, int width, int height, rv__raster *out,
                            rv_error *err);

/* The part of `in` that begins at x, y (out); it must lie inside. */
rv_status rv__raster_crop(const rv__raster *in, int x, int y, int width, int height,
                          rv__raster *out, rv_error *err);

#endif
