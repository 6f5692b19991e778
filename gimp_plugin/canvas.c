/* See canvas.h. */
#include "canvas.h"

#include <glib/gi18n-lib.h>
#include <string.h>

#include "colours.h"

void grv_canvas_reason(GError **error, const char *what)
{
    const char *why = gimp_pdb_get_last_error(gimp_get_pdb());
    g_set_error(error, GRV_ERROR, RV_INTERNAL, "%s: %s", what, why ? why : "");
}

/* ---- modes ---- */

static bool refuse(GError **error, const char *why)
{
    g_set_error_literal(error, GRV_ERROR, RV_UNSUPPORTED, why);
    return false;
}

/* Eight bits without a gamma curve: by precision, or because the profile has none. */
static bool is_coarse_linear(GimpImage *image)
{
    GimpPrecision precision = gimp_image_get_precision(image);
    if (precision != GIMP_PRECISION_U8_NON_LINEAR)
        return precision == GIMP_PRECISION_U8_LINEAR;
    GimpColorProfile *profile = gimp_image_get_effective_color_profile(image);
    bool is_linear = profile && gimp_color_profile_is_linear(profile);
    g_clear_object(&profile);
    return is_linear;
}

bool grv_canvas_check(GimpImage *image, const grv_request *q, bool now, GError **error)
{
    const char *convert = grv_request_word(q, "convert");
    bool to_rgb = strcmp(convert, "rgb") == 0, to_gray = strcmp(convert, "gray") == 0;
    GimpImageBaseType type = gimp_image_get_base_type(image);
    if (type == GIMP_INDEXED && !to_rgb)
        return refuse(
            error,
            _("this image is indexed and cannot hold the colours of a picture: use Image > Mode > "
              "RGB, or let it be converted (gimp.convert = rgb)"));
    if (type == GIMP_GRAY && !to_rgb && !to_gray)
        return refuse(
            error,
            _("this image is grayscale and would lose the colours of a picture: use Image > Mode > "
              "RGB, let it be converted (gimp.convert = rgb), or insert in gray (gimp.convert = "
              "gray)"));
    bool is_coarse = is_coarse_linear(image);
    if (is_coarse && !to_rgb)
        return refuse(error,
                      _("this image has 8 bits of linear light and would show dark colours "
                        "wrongly: use Image "
                        "> Precision > 16 bit, or let it be converted (gimp.convert = rgb)"));
    if (!now)
        return true;
    bool is_linear = gimp_image_get_precision(image) == GIMP_PRECISION_U8_LINEAR;
    if (is_coarse &&
        !gimp_image_convert_precision(image, is_linear ? GIMP_PRECISION_U16_LINEAR
                                                       : GIMP_PRECISION_U16_NON_LINEAR)) {
        grv_canvas_reason(error, _("the precision could not be converted"));
        return false;
    }
    if (type != GIMP_RGB && to_rgb && !gimp_image_convert_rgb(image)) {
        grv_canvas_reason(error, _("the image could not be converted to RGB"));
        return false;
    }
    return true;
}

/* ---- places ---- */

grv_rect grv_canvas_rect(GimpImage *image)
{
    return (grv_rect){0, 0, gimp_image_get_width(image), gimp_image_get_height(image)};
}

grv_rect grv_canvas_item_rect(GimpItem *item)
{
    grv_rect r = {0, 0, gimp_drawable_get_width(GIMP_DRAWABLE(item)),
                  gimp_drawable_get_height(GIMP_DRAWABLE(item))};
    gimp_drawable_get_offsets(GIMP_DRAWABLE(item), &r.x, &r.y);
    return r;
}

bool grv_canvas_selection(GimpImage *image, grv_rect *bounds)
{
    gboolean is_there = FALSE;
    int x1, y1, x2, y2;
    if (!gimp_selection_bounds(image, &is_there, &x1, &y1, &x2, &y2) || !is_there)
        return false;
    *bounds = (grv_rect){x1, y1, x2 - x1, y2 - y1};
    return true;
}

/* ---- reading ---- */

/* Bytes of a place inside a drawable whose first pixel is at x, y of the image; zero outside. */
static uint8_t *read_place(GimpDrawable *drawable, int x, int y, grv_rect place, const char *format,
                           int bytes)
{
    uint8_t *out = g_malloc0_n((size_t)place.w * (size_t)place.h, (size_t)bytes);
    grv_rect own = {x, y, gimp_drawable_get_width(drawable), gimp_drawable_get_height(drawable)};
    grv_rect in = grv_rect_meet(place, own);
    if (grv_rect_is_empty(in))
        return out;
    GeglBuffer *buffer = gimp_drawable_get_buffer(drawable);
    size_t stride = (size_t)place.w * (size_t)bytes;
    gegl_buffer_get(
        buffer, GEGL_RECTANGLE(in.x - x, in.y - y, in.w, in.h), 1.0, babl_format(format),
        out + (size_t)(in.y - place.y) * stride + (size_t)(in.x - place.x) * (size_t)bytes,
        (int)stride, GEGL_ABYSS_NONE);
    g_object_unref(buffer);
    return out;
}

uint8_t *grv_canvas_coverage(GimpImage *image, grv_rect place)
{
    GimpSelection *selection = gimp_image_get_selection(image);
    if (gimp_selection_is_empty(image)) {
        uint8_t *full = g_malloc((size_t)place.w * (size_t)place.h);
        memset(full, 255, (size_t)place.w * (size_t)place.h);
        return full;
    }
    return read_place(GIMP_DRAWABLE(selection), 0, 0, place, "Y u8",
                      1); /* Y' would bend the values */
}

uint8_t *grv_canvas_mask(GimpLayer *layer, grv_rect place)
{
    grv_rect own = grv_canvas_item_rect(GIMP_ITEM(layer));
    GimpLayerMask *mask = gimp_layer_get_mask(layer);
    if (mask)
        return read_place(GIMP_DRAWABLE(mask), own.x, own.y, place, "Y u8", 1);
    uint8_t *out = g_malloc0((size_t)place.w * (size_t)place.h);
    grv_rect in = grv_rect_meet(place, own);
    for (int y = 0; y < in.h; y++)
        memset(out + (size_t)(in.y - place.y + y) * (size_t)place.w + (in.x - place.x), 255,
               (size_t)in.w);
    return out;
}

/* RGBA rows become RGB over white, in place. */
static void flatten(uint8_t *px, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned a = px[4 * i + 3];
        for (size_t k = 0; k < 3; k++)
            px[3 * i + k] = (uint8_t)((a * px[4 * i + k] + (255 - a) * 255 + 127) / 255);
    }
}

static int inside(int v, int from, int size)
{
    return v < from ? from : v >= from + size ? from + size - 1 : v;
}

/* Pixels of `in` spread over `place`, the nearest one where `in` ends. */
static uint8_t *spread(const uint8_t *px, grv_rect in, grv_rect place)
{
    uint8_t *out = g_malloc_n((size_t)place.w * (size_t)place.h, 3);
    for (int y = 0; y < place.h; y++) {
        const uint8_t *row =
            px + (size_t)(inside(place.y + y, in.y, in.h) - in.y) * (size_t)in.w * 3;
        uint8_t *to = out + (size_t)y * (size_t)place.w * 3;
        for (int x = 0; x < place.w; x++)
            memcpy(to + 3 * (size_t)x, row + 3 * (size_t)(inside(place.x + x, in.x, in.w) - in.x),
                   3);
    }
    return out;
}

static uint8_t *read_rgb(GimpDrawable *drawable, int x, int y, grv_rect place, grv_rect bounds)
{
    grv_rect in = grv_rect_meet(place, bounds);
    if (grv_rect_is_empty(in)) {
        uint8_t *white = g_malloc_n((size_t)place.w * (size_t)place.h, 3);
        memset(white, 255, (size_t)place.w * (size_t)place.h * 3);
        return white;
    }
    uint8_t *px = read_place(drawable, x, y, in, "R'G'B'A u8", 4);
    flatten(px, (size_t)in.w * (size_t)in.h);
    uint8_t *out = spread(px, in, place);
    g_free(px);
    return out;
}

/* The same layer in a copy of the image, by its place in the stack. */
static GimpItem *twin_of(GimpImage *image, GimpItem *item, GimpImage *copy)
{
    GimpItem *parent = gimp_item_get_parent(item);
    GimpItem *above = parent ? twin_of(image, parent, copy) : NULL;
    int position = gimp_image_get_item_position(image, item);
    GimpItem **list = NULL;
    if (!parent)
        list = (GimpItem **)gimp_image_get_layers(copy);
    else if (above)
        list = gimp_item_get_children(above);
    GimpItem *twin = NULL;
    for (int i = 0; list && list[i]; i++)
        twin = i == position ? list[i] : twin;
    g_free(list);
    return twin;
}

uint8_t *grv_canvas_visible(GimpImage *image, GimpItem *hidden, grv_rect place, grv_rect bounds)
{
    GimpImage *from = image;
    if (hidden && gimp_item_get_visible(
                      hidden)) { /* in a copy: the user's image shows no flicker and no undo */
        from = gimp_image_duplicate(image);
        GimpItem *twin = twin_of(image, hidden, from);
        if (twin)
            gimp_item_set_visible(twin, FALSE);
    }
    GimpLayer *all = gimp_layer_new_from_visible(from, from, "visible");
    uint8_t *out = read_rgb(GIMP_DRAWABLE(all), 0, 0, place, bounds);
    gimp_item_delete(GIMP_ITEM(all));
    if (from != image)
        gimp_image_delete(from);
    return out;
}

uint8_t *grv_canvas_layer(GimpDrawable *layer, grv_rect place)
{
    grv_rect own = grv_canvas_item_rect(GIMP_ITEM(layer));
    return read_rgb(layer, own.x, own.y, place, own);
}

/* ---- writing ---- */

#define GRV_PIXELS "R'G'B'A u8"

static void put(GimpDrawable *drawable, const uint8_t *px, const char *format, int w, int h)
{
    GeglBuffer *buffer = gimp_drawable_get_buffer(drawable);
    gegl_buffer_set(buffer, GEGL_RECTANGLE(0, 0, w, h), 0, babl_format(format), px,
                    GEGL_AUTO_ROWSTRIDE);
    g_object_unref(buffer); /* flushes */
    gimp_drawable_update(drawable, 0, 0, w, h);
}

/* RGB becomes RGBA. */
static void add_alpha(const uint8_t *px, size_t count, uint8_t *out)
{
    for (size_t i = 0; i < count; i++, px += 3, out += 4) {
        out[0] = px[0];
        out[1] = px[1];
        out[2] = px[2];
        out[3] = 255;
    }
}

/* Rows on their way into a buffer, with alpha: that is how most layers hold their pixels, and what
 * need not be converted is there at once. */
static void put_rows(GeglBuffer *buffer, const uint8_t *rgba, GeglRectangle at, uint8_t *room)
{
    const Babl *own = gegl_buffer_get_format(buffer), *format = babl_format(GRV_PIXELS);
    if (grv_colours_need_fit(own)) {
        grv_colours_fit(own, rgba, (size_t)at.width * (size_t)at.height, room);
        rgba = room;
        format = own;
    }
    gegl_buffer_set(buffer, &at, 0, format, rgba, GEGL_AUTO_ROWSTRIDE);
}

/* As many rows at a time as GIMP's tiles have. */
void grv_canvas_write(GimpDrawable *layer, const grv_picture *p)
{
    size_t wide = (size_t)p->place.w, channels = (size_t)p->channels;
    GeglBuffer *buffer = gimp_drawable_get_buffer(layer);
    int step = (int)gimp_tile_height();
    uint8_t *rows = g_malloc_n(wide * (size_t)step, 4), *room = g_malloc_n(wide * (size_t)step, 4);
    for (int y = 0; y < p->place.h; y += step) {
        int h = MIN(step, p->place.h - y);
        const uint8_t *from = p->pixels + (size_t)y * wide * channels;
        if (p->channels == 3)
            add_alpha(from, wide * (size_t)h, rows);
        put_rows(buffer, p->channels == 3 ? rows : from, (GeglRectangle){0, y, p->place.w, h},
                 room);
    }
    g_free(rows);
    g_free(room);
    g_object_unref(buffer); /* flushes */
    gimp_drawable_update(layer, 0, 0, p->place.w, p->place.h);
}

/* The mask is made from bytes and not from the live selection, which may have changed since. */
static void add_mask(GimpLayer *layer, const grv_picture *p)
{
    GimpLayerMask *mask = gimp_layer_create_mask(layer, GIMP_ADD_MASK_WHITE);
    gimp_layer_add_mask(layer, mask);
    put(GIMP_DRAWABLE(mask), p->coverage, "Y u8", p->place.w, p->place.h);
    gimp_layer_set_edit_mask(layer, FALSE);
}

GimpLayer *grv_canvas_add(GimpImage *image, GimpLayer *parent, int position, const grv_picture *p,
                          GError **error)
{
    GimpImageType type =
        gimp_image_get_base_type(image) == GIMP_GRAY ? GIMP_GRAYA_IMAGE : GIMP_RGBA_IMAGE;
    GimpLayer *layer = gimp_layer_new(image, p->name, p->place.w, p->place.h, type, 100.0,
                                      gimp_image_get_default_new_layer_mode(image));
    if (layer) { /* written before it is seen: GIMP paints it once */
        gimp_layer_set_offsets(layer, p->place.x, p->place.y);
        grv_canvas_write(GIMP_DRAWABLE(layer), p);
    }
    if (!layer || !gimp_image_insert_layer(image, layer, parent, position)) {
        grv_canvas_reason(error, _("the layer could not be made"));
        return NULL;
    }
    if (p->coverage)
        add_mask(layer, p);
    return layer;
}

GimpLayer *grv_canvas_add_group(GimpImage *image, GimpLayer *parent, int position, const char *name)
{
    GimpGroupLayer *group = gimp_group_layer_new(image, name);
    if (!gimp_image_insert_layer(image, GIMP_LAYER(group), parent, position))
        return NULL;
    gimp_item_set_expanded(GIMP_ITEM(group), FALSE);
    return GIMP_LAYER(group);
}
