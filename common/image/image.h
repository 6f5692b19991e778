/* rv_image from the inside: pixels and encoded bytes of one picture, each made from the other when asked for. */
#ifndef RV_IMAGE_H
#define RV_IMAGE_H

#include "base/status.h"
#include "reverie.h"

typedef enum rv__image_format { RV__PNG, RV__JPG, RV__WEBP, RV__FORMATS } rv__image_format;

/* By wire name or extension, ignoring case ("JPEG" and "jpg" are RV__JPG); RV__FORMATS when unknown. */
rv__image_format rv__format_from(const char *name);
const char *rv__format_mime(rv__image_format f); /* "image/jpeg" */
const char *rv__format_ext(rv__image_format f);  /* "jpg"        */
const char *rv__format_name(rv__image_format f); /* "JPG"        */

/* A picture from pixels (copied; rows top to bottom, interleaved, channels 3 or 4).  ref; NULL: out of memory. */
rv_image *rv__image_from_pixels(const uint8_t *pixels, int width, int height, int channels);

/* A picture from an encoded file (copied).  The header is checked here: kind by magic bytes, size against
 * max_pixels; pixels are decoded when asked for.  RV_FORMAT, RV_MEMORY. */
rv_status rv__image_from_bytes(const void *bytes, size_t len, int64_t max_pixels, rv_image **out, rv_error *err);

/* The same from bytes that are taken (rv__free), also on failure. */
rv_status rv__image_take_bytes(void *bytes, size_t len, int64_t max_pixels, rv_image **out, rv_error *err);

/* By magic bytes; RV__FORMATS when it is none of ours. */
rv__image_format rv__image_kind(const void *bytes, size_t len);

/* The same check alone; format may be NULL. */
rv_status rv__image_check(const void *bytes, size_t len, int64_t max_pixels, rv__image_format *format, rv_error *err);

/* A picture from the base64 text of such a file (copied).  Nothing is decoded or checked before somebody asks for
 * pixels, size or file; a bad text is found then.  ref; NULL: out of memory. */
rv_image *rv__image_from_base64(const char *text, int64_t max_pixels);

/* A picture known by its URL only. */
rv_image *rv__image_from_url(const char *url);

/* A picture of its own with the same file or pixels and no facts.  ref; NULL: out of memory, or known by URL only. */
rv_image *rv__image_copy(rv_image *i);

/* Bytes its file and pixels take in memory; 0: known by URL only, or broken. */
size_t rv__image_memory(rv_image *i);

/* Facts are set while the picture has one owner, before it is shared. */
void rv__image_set_facts(rv_image *i, const char *uuid, uint64_t seed, double cost, int nsfw);
bool rv__image_set_url(rv_image *i, const char *url);

/* JSON text stored in the file as its recipe, see recipe.c.  Deterministic. */
bool rv__image_set_recipe(rv_image *i, const char *json);

/* The recipe inside an encoded file (out; rv__free), as found: not checked to be JSON.  NULL when there is none. */
char *rv__recipe_read(const void *bytes, size_t len);

#endif
