/* The picture's autoencoder: latents to pixels and back.  Follows diffusers' AutoencoderKL, whose
 * names the weights have.  Must not trust the configuration or the shapes of the weights. */
#ifndef RV_VAE_H
#define RV_VAE_H

#include "engine/graph.h"

enum { RV__VAE_STAGES = 8 };

/* vae/config.json, checked. */
typedef struct rv__vae_config {
    int64_t channels; /* of the picture: 3 */
    int64_t latent_channels;
    int64_t stages, widths[RV__VAE_STAGES];
    int64_t layers, groups;
    int64_t factor; /* pixels per latent pixel and side */
    bool mid_attention;
    double scaling, shift; /* transformer latents = (vae latents - shift) * scaling */
} rv__vae_config;

rv_status rv__vae_parse(const rv__value *json, rv__vae_config *out, rv_error *err);

typedef struct rv__vae rv__vae;

/* Device and weights must outlive it.  The encoder's tensors are read when it is first used.  out
 * (rv__vae_close). */
rv_status rv__vae_open(rv__device *d, const rv__weights *w, rv__vae **out, rv_error *err);
void rv__vae_close(rv__vae *v);

const rv__vae_config *rv__vae_about(const rv__vae *v);
void rv__vae_taps(rv__vae *v, rv__tap_fn *fn, void *user);

/* latents [latent_channels][height][width] as the VAE has them, to out [channels][height *
 * factor][width * factor], nominally -1..1.  Memory for activations is taken for the call only, about as much as
 * rv__vae_limit says: larger pictures are decoded in tiles that overlap and share the statistics of
 * their norms, so that no seam is left; they differ from the whole by about a level. */
rv_status rv__vae_decode(rv__vae *v, const float *latents, int64_t width, int64_t height,
                         float *out, rv__cancel_fn *cancelled, void *user, rv_error *err);

/* Bytes of activations a decoder may take; 0: 4 GB, which holds 1024x1024 of the full-size model. */
void rv__vae_limit(rv__vae *v, size_t bytes);

/* Bytes of activations that decoding these latents takes without tiles, roughly. */
double rv__vae_whole_bytes(const rv__vae_config *c, int64_t width, int64_t height);

/* picture [channels][height][width], sides multiples of factor, to moments
 * [2 * latent_channels][height / factor][width / factor]: means, then logarithms of variances. */
rv_status rv__vae_encode(rv__vae *v, const float *picture, int64_t width, int64_t height,
                         float *moments, rv__cancel_fn *cancelled, void *user, rv_error *err);

/* mean + e^(log variance / 2) * noise for n latents; moments holds 2 n values.  noise NULL: the
 * mean. */
void rv__vae_sample(const float *moments, const float *noise, size_t n, float *out);

/* Between the transformer's latents and the VAE's. */
void rv__vae_unscale(const rv__vae_config *c, const float *latents, size_t n, float *out);
void rv__vae_scale(const rv__vae_config *c, const float *latents, size_t n, float *out);

/* Planes of -1..1 to interleaved bytes, clamped, rounded half to even; NaN becomes 0. */
void rv__vae_bytes(const float *planes, int64_t width, int64_t height, int64_t channels,
                   uint8_t *out);

/* Largest side of a picture, in pixels. */
enum { RV__VAE_MAX_SIDE = 8192 };

#endif
