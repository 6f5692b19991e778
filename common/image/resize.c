/* Scaling by a separable cubic filter (Keys 1981, a = -1/2).  Rows of the source are filtered across
 * once and kept only while rows of the result need them.  Must give the same bytes on every machine:
 * sums run in one order, weights add up to 1. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "image/raster.h"

/* Weights of one direction: result i is the sum of weight[i * taps + k] * source[first[i] + k]. */
typedef struct filter {
    int    taps;
    int   *first;
    float *weight;
} filter;

static double cubic(double x)
{
    x = fabs(x);
    if (x < 1.0)
        return (1.5 * x - 2.5) * x * x + 1.0;
    return x < 2.0 ? ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 : 0.0;
}

static bool make_filter(filter *f, int from, int to)
{
    double scale = (double)from / to, wide = scale > 1.0 ? scale : 1.0;
    int taps = (int)ceil(4.0 * wide) + 1;
    f->taps = taps < from ? taps : from;
    f->first = rv__alloc((size_t)to * sizeof *f->first);
    f->weight = rv__calloc((size_t)to * (size_t)f->taps, sizeof *f->weight);
    if (!f->first || !f->weight)
        return false;
    for (int i = 0; i < to; i++) {
        double centre = (i + 0.5) * scale - 0.5, sum = 0.0;
        int first = (int)ceil(centre - 2.0 * wide);
        first = first > from - f->taps ? from - f->taps : first < 0 ? 0 : first;
        float *w = f->weight + (size_t)i * (size_t)f->taps;
        for (int k = 0; k < f->taps; k++)
            sum += cubic((first + k - centre) / wide);
        for (int k = 0; k < f->taps; k++)
            w[k] = (float)(cubic((first + k - centre) / wide) / sum);
        f->first[i] = first;
    }
    return true;
}

static void free_filter(filter *f)
{
    rv__free(f->first);
    rv__free(f->weight);
}

static void across(const filter *f, const uint8_t *row, int channels, int width, float *out)
{
    for (int i = 0; i < width; i++) {
        const uint8_t *from = row + (size_t)f->first[i] * (size_t)channels;
        const float *w = f->weight + (size_t)i * (size_t)f->taps;
        for (int c = 0; c < channels; c++) {
            float sum = 0.0f;
            for (int k = 0; k < f->taps; k++)
                sum += w[k] * from[k * channels + c];
            *out++ = sum;
        }
    }
}

static uint8_t to_byte(float v)
{
    return (uint8_t)(v > 0.0f ? (v < 254.5f ? v + 0.5f : 255.0f) : 0.0f);
}

/* rows: a ring of as many filtered rows as one row of the result needs. */
static void scale(const rv__raster *in, const filter *fx, const filter *fy, float *rows,
                  rv__raster *out)
{
    size_t wide = (size_t)out->width * (size_t)out->channels;
    size_t stride = (size_t)in->width * (size_t)in->channels;
    int done = 0; /* source rows that were filtered, or that nobody needs */
    for (int y = 0; y < out->height; y++) {
        int first = fy->first[y];
        done = done < first ? first : done;
        for (; done < first + fy->taps; done++)
            across(fx, in->pixels + (size_t)done * stride, in->channels, out->width,
                   rows + (size_t)(done % fy->taps) * wide);
        const float *w = fy->weight + (size_t)y * (size_t)fy->taps;
        uint8_t *to = out->pixels + (size_t)y * wide;
        for (size_t i = 0; i < wide; i++) {
            float sum = 0.0f;
            for (int k = 0; k < fy->taps; k++)
                sum += w[k] * rows[(size_t)((first + k) % fy->taps) * wide + i];
            to[i] = to_byte(sum);
        }
    }
}

rv_status rv__raster_resize(const rv__raster *in, int width, int height, rv__raster *out,
                            rv_error *err)
{
    if (width == in->width && height == in->height)
        return rv__raster_crop(in, 0, 0, width, height, out, err);
    filter fx = {0}, fy = {0};
    float *rows = NULL;
    rv_status status = rv__raster_make(width, height, in->channels, out, err);
    if (status == RV_OK && make_filter(&fx, in->width, width) &&
        make_filter(&fy, in->height, height))
        rows = rv__calloc((size_t)fy.taps * (size_t)width, (size_t)in->channels * sizeof *rows);
    if (rows)
        scale(in, &fx, &fy, rows, out);
    else if (status == RV_OK)
        status = rv__fail(err, RV_MEMORY, "out of memory");
    if (status != RV_OK)
        rv__raster_free(out);
    rv__free(rows);
    free_filter(&fx);
    free_filter(&fy);
    return status;
}
