/* Pictures and masks of requests.  The bytes are hostile: kind and size are checked before anything
 * is decoded, and nothing is fetched. */
#include "openai_input.h"

#include "base/base64.h"
#include "base/uuid.h"
#include "formats.h"
#include "image/image.h"
#include "image/raster.h"

#include <stdint.h>
#include <string.h>

static const char not_a_picture[] = "must be a PNG, JPEG or WebP file of at most 64 megapixels";

static void refuse(rv__openai *o, const char *name, const char *what)
{
    rv__openai_refuse(o, name, rv__pool_format(&o->pool, "%s %s", name, what));
}

static char *base64_of(const void *bytes, size_t len)
{
    size_t size = rv__base64_size(len);
    char *text = size < SIZE_MAX ? rv__alloc(size + 1) : NULL;
    if (!text)
        return NULL;
    rv__base64_encode(bytes, len, text);
    text[size] = '\0';
    return text;
}

/* Is this a picture we can read?  Its upright size and whether it may have transparency. */
static bool look_at(const void *bytes, size_t len, int64_t *width, int64_t *height, bool *alpha)
{
    rv_image *image = NULL;
    if (rv__image_from_bytes(bytes, len, RV__INPUT_PIXELS, &image, NULL) != RV_OK)
        return false;
    rv_image_info info = rv_image_facts(image);
    bool turned = rv__exif_orientation(bytes, len) >= 5;
    *width = turned ? info.height : info.width;
    *height = turned ? info.width : info.height;
    *alpha = info.channels == 4;
    rv_image_unref(image);
    return true;
}

/* ---- masks ------------------------------------------------------------------------------- */

static bool has_holes(const rv__raster *r)
{
    size_t pixels = (size_t)r->width * (size_t)r->height;
    for (size_t i = 0; r->channels == 4 && i < pixels; i++) {
        if (r->pixels[4 * i + 3] != 255)
            return true;
    }
    return false;
}

/* White where the picture was transparent. */
static char *mask_of_alpha(const rv__raster *r)
{
    size_t pixels = (size_t)r->width * (size_t)r->height, len = 0;
    uint8_t *rgb = rv__alloc(3 * pixels);
    rv_image *image = NULL;
    void *bytes = NULL;
    char *text = NULL;
    for (size_t i = 0; rgb && i < pixels; i++)
        memset(rgb + 3 * i, 255 - r->pixels[4 * i + 3], 3);
    if (rgb && rv_image_from_pixels(rgb, r->width, r->height, 3, &image) == RV_OK &&
        rv_image_encode(image, "PNG", 95, &bytes, &len, NULL) == RV_OK)
        text = base64_of(bytes, len);
    rv_free(bytes);
    rv_image_unref(image);
    rv__free(rgb);
    return text;
}

/* The mask that a picture's transparency makes; NULL when it has none.  False: it cannot be read.
 */
static bool read_alpha(rv__openai *o, const char *text, char **mask)
{
    rv__raster r = {0};
    *mask = NULL;
    if (rv__raster_read(text, "image", &r, NULL) != RV_OK)
        return false;
    if (has_holes(&r)) {
        *mask = mask_of_alpha(&r);
        o->pool.failed |= !*mask;
    }
    rv__raster_free(&r);
    return true;
}

/* ---- single pictures --------------------------------------------------------------------- */

/* A picture as the request names it. */
typedef struct source {
    const char *name; /* image or mask */
    char *text;       /* for the task (rv__free) */
    int64_t width, height;
    bool alpha, is_data;
} source;

static bool take_bytes(rv__openai *o, const void *bytes, size_t len, source *s)
{
    if (!look_at(bytes, len, &s->width, &s->height, &s->alpha)) {
        refuse(o, s->name, not_a_picture);
        return false;
    }
    s->is_data = true;
    return true;
}

/* A text: UUID or URL as they are, else data URI or base64. */
static bool take_text(rv__openai *o, const char *text, source *s)
{
    const char *data = strncmp(text, "data:", 5) == 0 ? strchr(text, ',') : NULL;
    const char *base64 = data ? data + 1 : text;
    size_t len = strlen(base64), size = 0;
    s->text = rv__strdup(text);
    o->pool.failed |= !s->text;
    if (!s->text)
        return false;
    if (rv__url_valid(text) || rv__uuid_valid(text, strlen(text)))
        return true;
    void *bytes = rv__alloc(len / 4 * 3 + 1);
    o->pool.failed |= !bytes;
    bool ok = false;
    if (bytes && rv__base64_decode(base64, len, bytes, &size))
        ok = take_bytes(o, bytes, size, s);
    else if (bytes)
        refuse(o, s->name, "must be a file, a data URI, base64, a URL, or the UUID of a picture");
    rv__free(bytes);
    return ok;
}

static bool take_part(rv__openai *o, const rv__part *p, source *s)
{
    if (!take_bytes(o, p->data, p->len, s))
        return false;
    s->text = base64_of(p->data, p->len);
    o->pool.failed |= !s->text;
    return s->text != NULL;
}

/* "…", {"url": "…"}, {"image_url": "…"} or {"image_url": {"url": "…"}}. */
static bool take_value(rv__openai *o, const rv__value *v, source *s)
{
    if (rv__json_get(v, "image_url"))
        v = rv__json_get(v, "image_url");
    if (rv__json_get(v, "url"))
        v = rv__json_get(v, "url");
    const char *text = rv__json_string(v);
    if (text)
        return take_text(o, text, s);
    refuse(o, s->name, "must be a text or a file");
    return false;
}

/* ---- all of them ------------------------------------------------------------------------- */

static void add_picture(rv__openai *o, source *s, rv__openai_input *out)
{
    char *holes = NULL;
    if (out->picture) {
        if (out->more_count < RV__OPENAI_PICTURES) {
            out->more[out->more_count++] = s->text;
            return;
        }
        rv__free(s->text);
        refuse(o, "image", "must be at most 17 pictures");
        return;
    }
    out->picture = s->text;
    out->width = s->width;
    out->height = s->height;
    if (!s->alpha || !s->is_data)
        return;
    if (!read_alpha(o, s->text, &holes))
        refuse(o, "image", not_a_picture);
    if (holes && !out->mask)
        out->mask = holes;
    else
        rv__free(holes);
}

/* A mask with transparency marks what may change by it, another one by white. */
static void add_mask(rv__openai *o, source *s, rv__openai_input *out)
{
    char *holes = NULL;
    if (s->alpha && s->is_data && !read_alpha(o, s->text, &holes))
        refuse(o, "mask", not_a_picture);
    rv__free(out->mask); /* an explicit mask wins over the picture's own transparency */
    out->mask = holes ? holes : s->text;
    if (holes)
        rv__free(s->text);
}

static void finish(rv__openai *o, bool ok, source *s, rv__openai_input *out)
{
    if (!ok)
        rv__free(s->text);
    else if (strcmp(s->name, "mask") == 0)
        add_mask(o, s, out);
    else
        add_picture(o, s, out);
}

static void read_parts(rv__openai *o, const rv__part *parts, size_t count, const char *name,
                       rv__openai_input *out)
{
    for (size_t i = 0; i < count; i++) {
        bool same = strcmp(parts[i].name, name) == 0 ||
                    (strcmp(name, "image") == 0 && strcmp(parts[i].name, "images") == 0);
        if (!parts[i].is_file || !same)
            continue;
        source s = {.name = name};
        bool ok = take_part(o, &parts[i], &s);
        finish(o, ok, &s, out);
    }
}

static void read_values(rv__openai *o, const rv__value *v, const char *name, rv__openai_input *out)
{
    bool list = rv__json_is_array(v);
    for (const rv__value *i = list ? rv__json_first(v) : v; i; i = list ? rv__json_next(i) : NULL) {
        source s = {.name = name};
        bool ok = take_value(o, i, &s);
        finish(o, ok, &s, out);
    }
}

void rv__openai_input_read(rv__openai *o, const rv__value *image, const rv__value *mask,
                           const rv__part *parts, size_t part_count, bool required,
                           rv__openai_input *out)
{
    size_t before = 0, after = 0;
    for (rv__openai_note *n = o->errors; n; n = n->next)
        before++;
    read_parts(o, parts, part_count, "image", out);
    read_values(o, image, "image", out);
    read_parts(o, parts, part_count, "mask", out);
    read_values(o, mask, "mask", out);
    for (rv__openai_note *n = o->errors; n; n = n->next)
        after++;
    if (required && !out->picture && before == after)
        refuse(o, "image", "must be given: the picture to start from");
}

void rv__openai_input_free(rv__openai_input *in)
{
    rv__free(in->picture);
    rv__free(in->mask);
    for (size_t i = 0; i < in->more_count; i++)
        rv__free(in->more[i]);
    *in = (rv__openai_input){0};
}
