/* Reading and writing images of GIMP: 8 bit sRGB on our side, whatever mode, precision or profile
 * on GIMP's.  Knows nothing of models.  Main thread only; opens no undo group by itself. */
#ifndef GRV_CANVAS_H
#define GRV_CANVAS_H

#include <libgimp/gimp.h>
#include <stdbool.h>

#include "geometry.h"
#include "request.h"

/* Whether results can be put into this image with their colours; converts it when the request says
 * so and `now` is set.  The error names the remedy. */
bool grv_canvas_check(GimpImage *image, const grv_request *q, bool now, GError **error);

grv_rect grv_canvas_rect(GimpImage *image);
grv_rect grv_canvas_item_rect(GimpItem *item);
bool grv_canvas_selection(GimpImage *image, grv_rect *bounds); /* false: nothing is selected */

/* The selection inside a place, one byte per pixel (g_free); 255 everywhere when nothing is
 * selected. */
uint8_t *grv_canvas_coverage(GimpImage *image, grv_rect place);

/* The mask of a layer inside a place; without a mask 255 inside the layer; 0 outside the layer. */
uint8_t *grv_canvas_mask(GimpLayer *layer, grv_rect place);

/* RGB of a place (g_free), transparency over white; beyond `bounds` its edge pixels are repeated.
 * Of all that is visible, but `hidden` (may be NULL); or of one layer, without its mask. */
uint8_t *grv_canvas_visible(GimpImage *image, GimpItem *hidden, grv_rect place, grv_rect bounds);
uint8_t *grv_canvas_layer(GimpDrawable *layer, grv_rect place);

/* What is on its way into the image. */
typedef struct grv_picture {
    const uint8_t *pixels; /* of `place`, rows as in rv_image_pixels */
    int channels;
    grv_rect place;
    const uint8_t *coverage; /* of `place`: becomes the layer mask; NULL: none */
    const char *name;
} grv_picture;

/* A new layer; parent NULL and position 0 is the top (borrowed). */
GimpLayer *grv_canvas_add(GimpImage *image, GimpLayer *parent, int position, const grv_picture *p,
                          GError **error);
GimpLayer *grv_canvas_add_group(GimpImage *image, GimpLayer *parent, int position,
                                const char *name);

/* New pixels for a layer of the same size. */
void grv_canvas_write(GimpDrawable *layer, const grv_picture *p);

/* The reason of the last failed call of GIMP. */
void grv_canvas_reason(GError **error, const char *what);

#endif
