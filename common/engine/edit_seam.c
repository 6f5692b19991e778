/* See edit_seam.h.  The difference between both pictures is known where the mask is black; inside
 * it is continued by the screened Laplace equation, laplace(u) = u / reach^2: it starts with the
 * difference itself, so that nothing jumps at the edge, and what changes quickly along the edge
 * fades quickly.  Gauss-Seidel on a pyramid; the same on every machine. */
#include "engine/edit_seam.h"

#include <math.h>

#include "base/memory.h"

enum { COARSEST = 4, SWEEPS = 10 };

/* One pixel: what its neighbours and the screen make of it. */
static void relax(float *u, const uint8_t *mask, int w, int h, int x, int y, float screen,
                  float omega)
{
    size_t wide = (size_t)w, at = (size_t)y * wide + (size_t)x;
    size_t near[4];
    int n = 0;

    if (!mask[at])
        return;
    if (x > 0)
        near[n++] = at - 1;
    if (x + 1 < w)
        near[n++] = at + 1;
    if (y > 0)
        near[n++] = at - wide;
    if (y + 1 < h)
        near[n++] = at + wide;
    for (size_t c = 0; c < 3; c++) {
        float sum = 0;
        for (int k = 0; k < n; k++)
            sum += u[near[k] * 3 + c];
        u[at * 3 + c] += omega * (sum / ((float)n + screen) - u[at * 3 + c]);
    }
}

static void sweep(float *u, const uint8_t *mask, int w, int h, int reach, float omega, int sweeps)
{
    float screen = 1.0f / ((float)reach * (float)reach);

    for (int n = 0; n < sweeps; n++)
        for (int i = 0; i < h; i++) {
            int y = n % 2 ? h - 1 - i : i;
            for (int k = 0; k < w; k++)
                relax(u, mask, w, h, n % 2 ? w - 1 - k : k, y, screen, omega);
        }
}

/* One pixel of half the size: the mean of what is known of its four, unknown when nothing is. */
static void halve(const float *u, const uint8_t *mask, int w, int h, int x, int y, float *half,
                  uint8_t *half_mask)
{
    float sum[3] = {0};
    int n = 0;

    for (int k = 0; k < 4; k++) {
        int fx = 2 * x + k % 2, fy = 2 * y + k / 2;
        if (fx >= w || fy >= h || mask[(size_t)fy * (size_t)w + (size_t)fx])
            continue;
        n++;
        for (size_t c = 0; c < 3; c++)
            sum[c] += u[((size_t)fy * (size_t)w + (size_t)fx) * 3 + c];
    }
    *half_mask = !n;
    for (size_t c = 0; c < 3; c++)
        half[c] = n ? sum[c] / (float)n : 0;
}

/* First at half the size, where what is far away comes near, then from there: some sweeps suffice.
 * false: out of memory. */
static bool solve(float *u, const uint8_t *mask, int w, int h, int reach)
{
    int hw = (w + 1) / 2, hh = (h + 1) / 2;
    size_t n = (size_t)hw * (size_t)hh;

    if (reach <= COARSEST || w < 2 || h < 2) {
        sweep(u, mask, w, h, reach, 1.6f, 10 * reach);
        return true;
    }
    float *half = rv__alloc(n * 3 * sizeof *half);
    uint8_t *half_mask = rv__alloc(n);
    bool ok = half && half_mask;
    for (size_t i = 0; ok && i < n; i++)
        halve(u, mask, w, h, (int)(i % (size_t)hw), (int)(i / (size_t)hw), half + i * 3,
              half_mask + i);
    ok = ok && solve(half, half_mask, hw, hh, reach / 2);
    for (size_t i = 0; ok && i < (size_t)w * (size_t)h; i++) {
        size_t from = i / (size_t)w / 2 * (size_t)hw + i % (size_t)w / 2;
        for (size_t c = 0; mask[i] && c < 3; c++)
            u[i * 3 + c] = half[from * 3 + c];
    }
    rv__free(half);
    rv__free(half_mask);
    if (ok)
        sweep(u, mask, w, h, reach, 1.0f, SWEEPS);
    return ok;
}

rv_status rv__edit_seam(rv__raster *made, const rv__raster *kept, const rv__raster *mask, int reach,
                        rv_error *err)
{
    size_t pixels = (size_t)made->width * (size_t)made->height;
    float *u = rv__calloc(pixels * 3, sizeof *u);

    if (!u)
        return rv__fail(err, RV_MEMORY, "out of memory");
    for (size_t i = 0; i < pixels * 3; i++)
        if (!mask->pixels[i / 3])
            u[i] = (float)(kept->pixels[i] - made->pixels[i]);
    if (!solve(u, mask->pixels, made->width, made->height, reach < 1 ? 1 : reach)) {
        rv__free(u);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < pixels * 3; i++) {
        float v = roundf((float)made->pixels[i] + u[i]);
        if (mask->pixels[i / 3])
            made->pixels[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    rv__free(u);
    return RV_OK;
}
