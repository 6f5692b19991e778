/* The content checker that diffusers ships with Stable Diffusion: a CLIP image encoder whose result
 * is compared with stored concepts.  Optional; its weights are the owner's.  Must never pass a
 * picture that it could not look at. */
#ifndef RV_SAFETY_H
#define RV_SAFETY_H

#include "engine/graph.h"

typedef struct rv__safety rv__safety;

/* Opens "safety_checker" of diffusers: the folder or its .safetensors file (out; rv__safety_close).
 * The device must outlive it.  RV_NOT_FOUND, RV_FORMAT, RV_UNSUPPORTED, RV_MEMORY. */
rv_status rv__safety_open(rv__device *d, const char *path, rv__safety **out, rv_error *err);
void rv__safety_close(rv__safety *s);

/* Looks at an RGB picture, rows top to bottom.  RV_MEMORY, RV_CANCELLED, RV_INTERNAL. */
rv_status rv__safety_check(rv__safety *s, const uint8_t *rgb, int width, int height, bool *flagged,
                           rv__cancel_fn *cancelled, void *user, rv_error *err);

#endif
