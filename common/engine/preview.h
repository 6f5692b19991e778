/* Small pictures of latents, one pixel per latent pixel, for watching a picture while it is made.
 * A linear map from latent channels to colours: a thousandth of a decoder's work, and as much less
 * exact.  Must never be used for a result. */
#ifndef RV_PREVIEW_H
#define RV_PREVIEW_H

#include "engine/vae.h"

enum { RV__PREVIEW_CHANNELS = 64 }; /* most latent channels that a map is fitted for */

typedef struct rv__preview {
    int64_t channels;
    float   factors[RV__PREVIEW_CHANNELS][3]; /* from the transformer's latents to -1..1 RGB */
    float   bias[3];
} rv__preview;

/* The map for this autoencoder: a known one for that of FLUX.1, else fitted to what its decoder
 * makes of a few random latents, always the same ones (one decoding of 32 x 32 latents).
 * RV_UNSUPPORTED for more channels than that, and the decoder's errors. */
rv_status rv__preview_fit(rv__vae *vae, rv__preview *out, rv__cancel_fn *cancelled, void *user,
                          rv_error *err);

/* latents [channels][height][width] as the transformer has them to width * height * 3 bytes. */
void rv__preview_paint(const rv__preview *p, const float *latents, int64_t width, int64_t height,
                       uint8_t *rgb);

#endif
