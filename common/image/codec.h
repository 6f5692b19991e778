/* The three codecs behind rv_image, each in its own file.  Bytes are hostile until a codec has
 * checked them; no codec allocates for a picture before its size was read from the header and found
 * acceptable by the caller. */
#ifndef RV_CODEC_H
#define RV_CODEC_H

#include "image/image.h"

/* What the first bytes of a file say about it. */
typedef struct rv__header {
    int64_t width, height; /* as written in the file, at least 1 each */
    int     channels;      /* of the decoded picture: 3 or 4           */
} rv__header;

/* Pixels to encode: rows top to bottom, interleaved. */
typedef struct rv__pixels {
    const uint8_t *data;
    int            width, height, channels;
} rv__pixels;

typedef struct rv__codec {
    bool (*recognise)(const uint8_t *bytes, size_t len);
    /* Reads the header only and allocates nothing. */
    rv_status (*header)(const uint8_t *bytes, size_t len, rv__header *out, rv_error *err);
    /* Fills width * height * channels bytes of a picture whose header was read before. */
    rv_status (*decode)(const uint8_t *bytes, size_t len, const rv__header *h, uint8_t *pixels,
                        rv_error *err);
    rv_status (*encode)(const rv__pixels *p, int quality, rv__buf *out, rv_error *err);
} rv__codec;

extern const rv__codec rv__codec_png, rv__codec_jpeg, rv__codec_webp;

/* Appends the file with the recipe in its place: PNG iTXt with the keyword "reverie", JPEG comment
 * segments, WebP XMP.  The file must have been accepted by its codec. */
rv_status rv__recipe_insert(rv__image_format f, const uint8_t *bytes, size_t len, const char *json,
                            rv__buf *out, rv_error *err);

#endif
