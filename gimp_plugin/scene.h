/* What a request means for one image at one moment: where the result goes, what the model sees,
 * what may change. Taken once, before anything is sent, because the user goes on painting
 * meanwhile.  Holds no reference to GIMP's objects, only their numbers. */
#ifndef GRV_SCENE_H
#define GRV_SCENE_H

#include <libgimp/gimp.h>

#include "engine.h"
#include "geometry.h"
#include "request.h"

typedef struct grv_scene {
    int image;         /* 0: none yet, a new one is made    */
    int reference;     /* layer that tells where the image has moved to; 0: none */
    int at_x, at_y;    /* its offsets when this was taken   */
    bool on_top;       /* the result covers everything, or only the reference */
    grv_rect place;    /* of the result in the image         */
    uint8_t *coverage; /* of place; NULL: all of it          */
    grv_plan plan;
    grv_rect bounds; /* of the picture before the canvas grows       */
    int grow_top, grow_right, grow_bottom, grow_left;
    unsigned source; /* tattoo of the layer that was reimagined; 0: none */
    bool is_edit, is_outline; /* an outline has no pixels at all */
    char *model;      /* the request's, or the default        */
    uint8_t *picture; /* RGB of plan.area; NULL unless is_edit        */
    uint8_t *mask;    /* of plan.area, 255 may change; NULL: all may  */
} grv_scene;

/* image NULL: a new one.  again: the layer whose recipe q is, for the same place once more (NULL: a
 * new request); bounds and source come from its recipe's result then (may be NULL).  false with
 * error. */
bool grv_scene_take(grv_engine *e, GimpImage *image, GimpDrawable **drawables, const grv_request *q,
                    GimpLayer *again, const cJSON *result, grv_scene *out, GError **error);
/* The same without the pixels that the model sees: for telling what would happen. */
bool grv_scene_outline(grv_engine *e, GimpImage *image, GimpDrawable **drawables,
                       const grv_request *q, grv_scene *out, GError **error);
void grv_scene_free(grv_scene *s);

/* The request body: one task with pictures, sizes and identity (g_free).  Packing pictures takes
 * time and may be done in any thread; without them (a pixel stands for each) it is only good for
 * checking. */
char *grv_scene_body(const grv_scene *s, const grv_request *q, bool pictures, GError **error);

#endif
