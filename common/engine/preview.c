/* See preview.h. */
#include "engine/preview.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/rng.h"

enum {
    SIDE = 32, /* latents of the sample */
    PATCH = 4, /* equal latents side by side, because neighbours in pictures are alike */
    TERMS = RV__PREVIEW_CHANNELS + 1
};

/* The autoencoder of FLUX.1, which is HiDream-I1's; for latents as the transformer has them. */
static const float flux_factors[16][3] = {
    {-.0346f, .0244f, .0681f},   {.0034f, .0210f, .0687f},    {.0275f, -.0668f, -.0433f},
    {-.0174f, .0160f, .0617f},   {.0859f, .0721f, .0329f},    {.0004f, .0383f, .0115f},
    {.0405f, .0861f, .0915f},    {-.0236f, -.0185f, -.0259f}, {-.0245f, .0250f, .1180f},
    {.1008f, .0755f, -.0421f},   {-.0515f, .0201f, .0011f},   {.0428f, -.0012f, -.0036f},
    {.0817f, .0765f, .0749f},    {-.1264f, -.0522f, -.1103f}, {-.0280f, -.0881f, -.0499f},
    {-.1262f, -.0982f, -.0778f},
};
static const float flux_bias[3] = {-.0329f, -.0718f, -.0851f};

static bool is_flux(const rv__vae_config *c)
{
    return c->latent_channels == 16 && c->stages == 4 && c->widths[0] == 128 &&
           c->widths[3] == 512 && fabs(c->scaling - 0.3611) < 1e-6 &&
           fabs(c->shift - 0.1159) < 1e-6;
}

/* ---- fitting ---- */

/* Normal equations of least squares: terms x terms, and a right side per colour. */
typedef struct equations {
    int    terms;
    double a[TERMS][TERMS + 3];
} equations;

/* Gauss without pivoting: the matrix is symmetric and, by its ridge, positive definite. */
static void solve(equations *s)
{
    int n = s->terms;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) {
            double by = k == i ? 0.0 : s->a[k][i] / s->a[i][i];
            for (int j = i; by != 0.0 && j < n + 3; j++)
                s->a[k][j] -= by * s->a[i][j];
        }
    for (int i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            s->a[i][n + c] /= s->a[i][i];
}

/* Adds one latent pixel and the mean colour of the pixels that the decoder made of it. */
static void observe(equations *s, const float *latents, const float *planes, int64_t factor, int at)
{
    double  row[TERMS + 3];
    int     n = s->terms, x = at % SIDE, y = at / SIDE;
    int64_t side = SIDE * factor;
    for (int i = 0; i < n - 1; i++)
        row[i] = latents[i * SIDE * SIDE + at];
    row[n - 1] = 1.0;
    for (int c = 0; c < 3; c++) {
        double sum = 0.0;
        for (int64_t p = 0; p < factor * factor; p++)
            sum += planes[c * side * side + (y * factor + p / factor) * side + x * factor +
                          p % factor];
        row[n + c] = sum / (double)(factor * factor);
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n + 3; j++)
            s->a[i][j] += row[i] * row[j];
}

static void fit(equations *s, const float *latents, const float *planes, int64_t factor,
                rv__preview *out)
{
    for (int at = 0; at < SIDE * SIDE; at++)
        observe(s, latents, planes, factor, at);
    for (int i = 0; i < s->terms; i++)
        s->a[i][i] += 1.0;
    solve(s);
    for (int c = 0; c < 3; c++) {
        for (int i = 0; i < s->terms - 1; i++)
            out->factors[i][c] = (float)s->a[i][s->terms + c];
        out->bias[c] = (float)s->a[s->terms - 1][s->terms + c];
    }
}

/* Random latents in patches. */
static void draw(float *latents, int64_t channels)
{
    enum { ROW = SIDE / PATCH };
    float   patches[ROW * ROW];
    rv__rng rng;
    rv__rng_seed(&rng, 1);
    for (int64_t c = 0; c < channels; c++) {
        rv__rng_normal(&rng, patches, ROW * ROW);
        for (int i = 0; i < SIDE * SIDE; i++)
            latents[c * SIDE * SIDE + i] = patches[i / SIDE / PATCH * ROW + i % SIDE / PATCH];
    }
}

rv_status rv__preview_fit(rv__vae *vae, rv__preview *out, rv__cancel_fn *cancelled, void *user,
                          rv_error *err)
{
    const rv__vae_config *c = rv__vae_about(vae);
    memset(out, 0, sizeof *out);
    out->channels = c->latent_channels;
    if (is_flux(c)) {
        memcpy(out->factors, flux_factors, sizeof flux_factors);
        memcpy(out->bias, flux_bias, sizeof flux_bias);
        return RV_OK;
    }
    if (c->latent_channels > RV__PREVIEW_CHANNELS || c->factor > 64)
        return rv__fail(err, RV_UNSUPPORTED, "no previews for %lld latent channels",
                        (long long)c->latent_channels);
    size_t n = (size_t)(SIDE * SIDE * c->latent_channels);
    size_t pixels = (size_t)(SIDE * SIDE * c->factor * c->factor);
    float    *latents = rv__alloc(2 * n * sizeof *latents);
    float    *planes = rv__alloc(3 * pixels * sizeof *planes);
    equations *s = rv__calloc(1, sizeof *s);
    rv_status status =
        latents && planes && s ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
    if (status == RV_OK) {
        s->terms = (int)c->latent_channels + 1;
        draw(latents, c->latent_channels);
        rv__vae_unscale(c, latents, n, latents + n);
        status = rv__vae_decode(vae, latents + n, SIDE, SIDE, planes, cancelled, user, err);
    }
    if (status == RV_OK)
        fit(s, latents, planes, c->factor, out);
    rv__free(latents);
    rv__free(planes);
    rv__free(s);
    return status;
}

/* ---- painting ---- */

void rv__preview_paint(const rv__preview *p, const float *latents, int64_t width, int64_t height,
                       uint8_t *rgb)
{
    int64_t n = width * height;
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++) {
            float v = p->bias[c];
            for (int64_t k = 0; k < p->channels; k++)
                v += p->factors[k][c] * latents[k * n + i];
            v = v * 127.5f + 128.0f;
            rgb[3 * i + c] = (uint8_t)(v > 0.0f ? (v < 255.0f ? v : 255.0f) : 0.0f);
        }
}
