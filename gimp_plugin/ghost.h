/* The rough picture on the canvas itself while it is painted, for those who ask for it: a layer
 * that comes and goes without steps in the undo history.  GIMP calls the image modified from then
 * on.  Must never be what a later request starts from: it goes before a scene is taken. */
#ifndef GRV_GHOST_H
#define GRV_GHOST_H

#include "scene.h"

typedef struct grv_ghost grv_ghost;

grv_ghost *grv_ghost_new(const grv_scene *s); /* NULL: this one cannot be shown (an image to come,
                                                 a canvas to grow, colours that do not fit) */
void grv_ghost_show(grv_ghost *g, rv_image *preview); /* soon; most recent one only */
void grv_ghost_free(grv_ghost *g);                    /* takes the layer away     */

/* Takes away what a process left that was killed. */
void grv_ghost_sweep(void);

#endif
