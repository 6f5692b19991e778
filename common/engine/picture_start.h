/* Pictures that start from another one: its latents, how far noise goes into them, and what a mask
 * keeps.  The flow form of img2img and inpainting: latents of the given picture are mixed with the
 * run's own noise to the level of the first step that runs, and where nothing may change they are put
 * back at the level of every following step. */
#ifndef RV_PICTURE_START_H
#define RV_PICTURE_START_H

#include "engine/pipeline.h"
#include "engine/vae.h"

typedef struct rv__picture_start {
    float  *clean, *noise; /* latents of the given picture; the noise of this run */
    float  *mask;          /* per latent pixel, 0 keeps, 1 repaints; NULL: no mask */
    size_t  plane, n;      /* latent pixels; values */
    int     first;         /* the first call that runs */
} rv__picture_start;

/* Encodes the picture; noise (n values) becomes the latents before the first call, in place.
 * out (rv__picture_start_free, also after errors). */
rv_status rv__picture_start_begin(const rv__picture_request *r, rv__vae *vae,
                                  const rv__scheduler *scheduler, float *noise,
                                  rv__picture_start *out, rv_error *err);

/* After call i: puts back what the mask keeps. */
void rv__picture_start_keep(const rv__picture_start *s, const rv__scheduler *scheduler, int i,
                            float *x);
void rv__picture_start_free(rv__picture_start *s);

#endif
