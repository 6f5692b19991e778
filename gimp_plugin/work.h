/* One request on its way: from the scene to the engine and back into the image.  Lives in the main
 * loop and never blocks it longer than GIMP itself takes to hand over pixels: pictures are packed
 * and unpacked in threads. */
#ifndef GRV_WORK_H
#define GRV_WORK_H

#include "canvas.h"
#include "engine.h"
#include "scene.h"

typedef enum grv_state {
    GRV_STARTING,
    GRV_QUEUED,
    GRV_RUNNING,
    GRV_DONE,
    GRV_FAILED,
    GRV_STOPPED
} grv_state;

typedef struct grv_work grv_work;

/* Something changed; e NULL: the state only.  May call anything but grv_work_free of this work,
 * unless the state is an end. */
typedef void grv_work_fn(void *user, grv_work *w, const rv_event *e);

/* Takes the scene and checks the request (out: grv_work_free); NULL with error.  See
 * grv_scene_take. */
grv_work *grv_work_new(grv_engine *e, GimpImage *image, GimpDrawable **drawables,
                       const grv_request *q, GError **error);
/* The same request as that layer's, with the same seed or another. */
grv_work *grv_work_again(grv_engine *e, GimpLayer *layer, bool same_seed, GError **error);
void grv_work_free(grv_work *w); /* cancels what runs */

void grv_work_start(grv_work *w, grv_work_fn *fn, void *user);
void grv_work_cancel(grv_work *w);

grv_state grv_work_state(const grv_work *w);
const GError *grv_work_error(const grv_work *w); /* borrowed; NULL unless failed or stopped      */
const grv_request *grv_work_request(const grv_work *w);
const grv_scene *grv_work_scene(const grv_work *w);
char *grv_work_warnings(const grv_work *w); /* sentences (g_free), NULL: none */

size_t grv_work_wanted(const grv_work *w);
bool grv_work_has(const grv_work *w, size_t i); /* result i is ready */

/* Result i at its exact size (ref: rv_image_unref); its seed; its recipe (g_free). */
rv_image *grv_work_picture(grv_work *w, size_t i, GError **error);
uint64_t grv_work_seed(const grv_work *w, size_t i);
char *grv_work_recipe(grv_work *w, size_t i);

/* Puts results into the image as layers, in one undo step: a group of their own when there are
 * several.  image: a new one that was made for it, or NULL for that of the scene.  replaced: a
 * layer that goes (may be NULL). NULL-ended list (g_free; layers are GIMP's). */
GimpLayer **grv_work_insert(grv_work *w, GimpImage *image, const size_t *which, size_t count,
                            GimpLayer *replaced, GError **error);

/* The same for a picture of an earlier session: at the place that its recipe tells, on top
 * (GIMP's). */
GimpLayer *grv_work_insert_kept(GimpImage *image, rv_image *picture, const char *recipe,
                                GimpLayer *replaced, GError **error);

#endif
