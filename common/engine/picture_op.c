/* See picture_op.h. */
#include "picture_op.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "vector_math.h"

/* ---- convolution ---- */

typedef struct conv {
    rv__op base;
    int64_t kernel, stride, before, doubled; /* doubled: 0 or 1 */
    int64_t tile;                            /* pixels unfolded at once */
} conv;

/* One line of the unfolded picture: for `count` pixels of output row y from x0 on, what kernel
 * column kx sees in source row `line` (NULL: padding). */
static void unfold_line(const conv *p, const float *line, int64_t width, int64_t x0, int64_t count,
                        int64_t kx, float *out)
{
    int64_t limit = width << p->doubled, first = x0 * p->stride + kx - p->before;

    if (!line) {
        memset(out, 0, (size_t)count * sizeof *out);
        return;
    }
    if (p->stride == 1 && !p->doubled) {
        int64_t skip = first < 0 ? (-first < count ? -first : count) : 0,
                rest = limit - first - skip;

        rest = rest < 0 ? 0 : rest < count - skip ? rest : count - skip;
        memset(out, 0, (size_t)skip * sizeof *out);
        memcpy(out + skip, line + first + skip, (size_t)rest * sizeof *out);
        memset(out + skip + rest, 0, (size_t)(count - skip - rest) * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t at = first + i * p->stride;
        out[i] = at >= 0 && at < limit ? line[at >> p->doubled] : 0.0f;
    }
}

/* Writes {channels * kernel * kernel} lines of `count` pixels, beginning with output pixel `pixel`.
 */
static void unfold(const conv *p, const struct ggml_tensor *x, int64_t batch, int64_t out_width,
                   int64_t pixel, int64_t count, float *out)
{
    int64_t width = x->ne[0], height = x->ne[1], k = p->kernel;

    for (int64_t row = 0; row < x->ne[2] * k * k; row++) {
        const float *plane =
            (const float *)x->data + (batch * x->ne[2] + row / (k * k)) * width * height;
        int64_t ky = row / k % k, kx = row % k;

        for (int64_t done = 0; done < count;) {
            int64_t at = pixel + done, y = at / out_width, x0 = at % out_width;
            int64_t run = out_width - x0 < count - done ? out_width - x0 : count - done;
            int64_t sy = y * p->stride + ky - p->before;
            bool inside = sy >= 0 && sy < height << p->doubled;

            unfold_line(p, inside ? plane + (sy >> p->doubled) * width : NULL, width, x0, run, kx,
                        out + row * count + done);
            done += run;
        }
    }
}

static void run_tile(const conv *p, struct ggml_tensor *dst, int64_t batch, int64_t pixel,
                     float *room)
{
    const struct ggml_tensor *x = dst->src[0], *w = dst->src[1];
    const float *bias = dst->src[2]->data, *from = room;
    int64_t pixels = dst->ne[0] * dst->ne[1],
            count = pixels - pixel < p->tile ? pixels - pixel : p->tile;
    int64_t depth = w->ne[0] * w->ne[1] * w->ne[2], step = count;
    float *out = (float *)dst->data + batch * dst->ne[2] * pixels + pixel;

    if (p->kernel == 1 && p->stride == 1 && !p->doubled) {
        from = (const float *)x->data + batch * x->ne[2] * pixels + pixel;
        step = pixels;
    } else {
        unfold(p, x, batch, dst->ne[0], pixel, count, room);
    }
    for (int64_t c = 0; c < dst->ne[2]; c++)
        for (int64_t i = 0; i < count; i++)
            out[c * pixels + i] = bias[c];
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)dst->ne[2], (int)count, (int)depth,
                1.0f, w->data, (int)depth, from, (int)step, 1.0f, out, (int)pixels);
}

static void run_conv(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    conv *p = user;
    int64_t tiles = (dst->ne[0] * dst->ne[1] + p->tile - 1) / p->tile;
    int task;

    while (rv__op_next(&p->base, thread, (int)(tiles * dst->ne[3]), &task))
        run_tile(p, dst, task / tiles, task % tiles * p->tile, rv__op_scratch(&p->base, thread));
    rv__op_done(&p->base, threads);
}

static bool conv_fits(const rv__conv *c, const struct ggml_tensor *x)
{
    const struct ggml_tensor *w = c->weight;

    return w->type == GGML_TYPE_F32 && w->ne[0] == w->ne[1] && w->ne[2] == x->ne[2] &&
           c->bias->ne[0] == w->ne[3] && c->stride >= 1 && ggml_is_contiguous(x) &&
           (x->ne[0] << c->doubled) + c->before + c->after >= w->ne[0] &&
           (x->ne[1] << c->doubled) + c->before + c->after >= w->ne[1];
}

/* Pixels per tile: the unfolded piece should stay near the core, yet be wide enough for sgemm. */
static int64_t conv_tile(int64_t depth, int64_t pixels)
{
    enum { FLOATS = 1 << 19, LEAST = 128, MOST = 1024 };
    int64_t n = FLOATS / depth / 16 * 16;

    n = n < LEAST ? LEAST : n > MOST ? MOST : n;
    return n < pixels ? n : pixels;
}

struct ggml_tensor *rv__conv2d(rv__graph *g, const rv__conv *c, struct ggml_tensor *x)
{
    struct ggml_tensor *args[3] = {x, c->weight, c->bias};
    int64_t ne[4], pad = c->before + c->after, depth;
    conv *p;

    if (!x || !c->weight || !c->bias)
        return NULL;
    if (!conv_fits(c, x)) {
        rv__graph_refuse(g, "a convolution does not fit its picture");
        return NULL;
    }
    p = rv__graph_alloc(g, sizeof *p);
    if (!p)
        return NULL;
    p->kernel = c->weight->ne[0];
    p->stride = c->stride;
    p->before = c->before;
    p->doubled = c->doubled;
    ne[0] = ((x->ne[0] << c->doubled) + pad - p->kernel) / c->stride + 1;
    ne[1] = ((x->ne[1] << c->doubled) + pad - p->kernel) / c->stride + 1;
    ne[2] = c->weight->ne[3];
    ne[3] = x->ne[3];
    depth = p->kernel * p->kernel * x->ne[2];
    p->tile = conv_tile(depth, ne[0] * ne[1]);
    rv__graph_scratch(g, (size_t)(depth * p->tile) * sizeof(float));
    return rv__op_node(g, GGML_TYPE_F32, ne, args, 3, run_conv, &p->base);
}

/* ---- group norm ---- */

typedef struct group_norm {
    rv__op base;
    int64_t groups;
    float eps;
    bool with_silu;
    rv__norm_share share;
} group_norm;

static RV__VECTOR void scale_plane(const float *restrict x, float *restrict y, int64_t n, float by,
                                   float plus)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * by + plus;
}

static RV__VECTOR void scale_plane_silu(const float *restrict x, float *restrict y, int64_t n,
                                        float by, float plus)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = rv__silu(x[i] * by + plus);
}

/* Sums of short runs in float, of the runs in double: a group has millions of values. */
static RV__VECTOR void statistics(const float *x, int64_t n, double *mean, double *variance)
{
    enum { RUN = 1024 };
    double sum = 0, squares = 0;

    for (int64_t i = 0; i < n; i += RUN)
        sum += (double)rv__sum(x + i, n - i < RUN ? n - i : RUN);
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i += RUN)
        squares += (double)rv__sum_squares(x + i, n - i < RUN ? n - i : RUN, (float)*mean);
    *variance = squares / (double)n;
}

/* A group belongs to one task, so that its sums need no lock. */
static void group_statistics(const group_norm *p, int64_t group, const float *x, int64_t n,
                             double *mean, double *variance)
{
    double *sums = p->share.sums;

    if (sums || !p->share.given)
        statistics(x, n, mean, variance);
    if (sums) {
        sums[3 * group] += *mean * (double)n;
        sums[3 * group + 1] += (*variance + *mean * *mean) * (double)n;
        sums[3 * group + 2] += (double)n;
    }
    if (p->share.given) {
        *mean = p->share.given[2 * group];
        *variance = p->share.given[2 * group + 1];
    }
}

static void run_group_norm(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    group_norm *p = user;
    int64_t pixels = dst->ne[0] * dst->ne[1], each = dst->ne[2] / p->groups;
    const float *weight = dst->src[1]->data, *bias = dst->src[2]->data;
    int task;

    while (rv__op_next(&p->base, thread, (int)(p->groups * dst->ne[3]), &task)) {
        int64_t start = task * each * pixels, channel = task % p->groups * each;
        const float *x = (const float *)dst->src[0]->data + start;
        float *y = (float *)dst->data + start;
        double mean, variance;

        group_statistics(p, task % p->groups, x, each * pixels, &mean, &variance);
        for (int64_t c = 0; c < each; c++) {
            double by = weight[channel + c] / sqrt(variance + (double)p->eps);
            float plus = (float)(bias[channel + c] - mean * by);

            if (p->with_silu)
                scale_plane_silu(x + c * pixels, y + c * pixels, pixels, (float)by, plus);
            else
                scale_plane(x + c * pixels, y + c * pixels, pixels, (float)by, plus);
        }
    }
    rv__op_done(&p->base, threads);
}

struct ggml_tensor *rv__group_norm(rv__graph *g, struct ggml_tensor *x, struct ggml_tensor *weight,
                                   struct ggml_tensor *bias, int64_t groups, float eps,
                                   bool with_silu, const rv__norm_share *share)
{
    struct ggml_tensor *args[3] = {x, weight, bias};
    group_norm *p;

    if (!x || !weight || !bias)
        return NULL;
    if (groups < 1 || x->ne[2] % groups != 0 || weight->ne[0] != x->ne[2] ||
        bias->ne[0] != x->ne[2] || !ggml_is_contiguous(x)) {
        rv__graph_refuse(g, "a group norm does not fit its picture");
        return NULL;
    }
    p = rv__graph_alloc(g, sizeof *p);
    if (!p)
        return NULL;
    p->groups = groups;
    p->eps = eps;
    p->with_silu = with_silu;
    if (share)
        p->share = *share;
    return rv__op_node(g, GGML_TYPE_F32, x->ne, args, 3, run_group_norm, &p->base);
}
