/* See picture_start.h. */
#include "engine/picture_start.h"

#include <string.h>

#include "base/memory.h"

/* Bytes to planes of -1..1. */
static void to_planes(const uint8_t *rgb, size_t pixels, float *planes)
{
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++)
            planes[c * pixels + i] = (float)rgb[3 * i + c] / 127.5f - 1.0f;
}

static rv_status encode(const rv__picture_request *r, rv__vae *vae, rv__picture_start *s,
                        rv_error *err)
{
    size_t pixels = (size_t)(r->width * r->height);
    float *planes = rv__alloc(3 * pixels * sizeof *planes);
    float *moments = rv__alloc(2 * s->n * sizeof *moments);
    rv_status status = planes && moments ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
    if (status == RV_OK) {
        to_planes(r->input->rgb, pixels, planes);
        status = rv__vae_encode(vae, planes, r->width, r->height, moments, r->hooks.cancelled,
                                r->hooks.user, err);
    }
    if (status == RV_OK) {
        rv__vae_sample(moments, NULL, s->n, s->clean);
        rv__vae_scale(rv__vae_about(vae), s->clean, s->n, s->clean);
    }
    rv__free(planes);
    rv__free(moments);
    return status;
}

/* A latent pixel may change as much as the most changeable of its pixels: thin strokes count, and
 * what must stay is put back into the picture itself in the end. */
static void shrink_mask(const rv__picture_request *r, int64_t factor, float *out)
{
    int64_t wide = r->width / factor;
    for (int64_t y = 0; y < r->height; y++)
        for (int64_t x = 0; x < r->width; x++) {
            float v = (float)r->input->mask[y * r->width + x] / 255.0f;
            float *at = &out[y / factor * wide + x / factor];
            *at = v > *at ? v : *at;
        }
}

rv_status rv__picture_start_begin(const rv__picture_request *r, rv__vae *vae,
                                  const rv__scheduler *scheduler, float *noise,
                                  rv__picture_start *s, rv_error *err)
{
    int64_t factor = rv__vae_about(vae)->factor;
    *s = (rv__picture_start){.plane = (size_t)(r->width / factor * (r->height / factor))};
    s->n = s->plane * (size_t)rv__vae_about(vae)->latent_channels;
    s->first = rv__scheduler_begin(scheduler, r->input->strength);
    s->clean = rv__alloc(s->n * sizeof *s->clean);
    s->noise = rv__alloc(s->n * sizeof *s->noise);
    s->mask = r->input->mask ? rv__calloc(s->plane, sizeof *s->mask) : NULL;
    if (!s->clean || !s->noise || (r->input->mask && !s->mask))
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (s->mask)
        shrink_mask(r, factor, s->mask);
    memcpy(s->noise, noise, s->n * sizeof *noise);
    rv_status status = encode(r, vae, s, err);
    if (status == RV_OK)
        rv__scheduler_add_noise(scheduler, s->first, s->clean, s->noise, noise);
    return status;
}

void rv__picture_start_keep(const rv__picture_start *s, const rv__scheduler *scheduler, int i,
                            float *x)
{
    float sigma = (float)rv__scheduler_sigma(scheduler, i + 1);
    for (size_t k = 0; s->mask && k < s->n; k++) {
        float m = s->mask[k % s->plane];
        float kept = (1.0f - sigma) * s->clean[k] + sigma * s->noise[k];
        x[k] = m * x[k] + (1.0f - m) * kept;
    }
}

void rv__picture_start_free(rv__picture_start *s)
{
    rv__free(s->clean);
    rv__free(s->noise);
    rv__free(s->mask);
    *s = (rv__picture_start){0};
}
