/* See geometry.h. */
#include "geometry.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool grv_rect_is_empty(grv_rect r)
{
    return r.w <= 0 || r.h <= 0;
}

grv_rect grv_rect_grow(grv_rect r, int by)
{
    return (grv_rect){r.x - by, r.y - by, r.w + 2 * by, r.h + 2 * by};
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int most(int a, int b)
{
    return a > b ? a : b;
}

grv_rect grv_rect_meet(grv_rect a, grv_rect b)
{
    int x = most(a.x, b.x), y = most(a.y, b.y);
    int w = least(a.x + a.w, b.x + b.w) - x, h = least(a.y + a.h, b.y + b.h) - y;
    return w > 0 && h > 0 ? (grv_rect){x, y, w, h} : (grv_rect){0};
}

grv_rect grv_rect_join(grv_rect a, grv_rect b)
{
    if (grv_rect_is_empty(a) || grv_rect_is_empty(b))
        return grv_rect_is_empty(a) ? b : a;
    int x = least(a.x, b.x), y = least(a.y, b.y);
    return (grv_rect){x, y, most(a.x + a.w, b.x + b.w) - x, most(a.y + a.h, b.y + b.h) - y};
}

/* ---- sizes ---- */

static int fit(double side, int min, int max, int step)
{
    int n = (int)lround(side / step) * step;
    return most(most(least(n, max), min), 1);
}

static bool is_exact(grv_rect t, const grv_limits *l, double pixels, double wanted)
{
    return t.w % l->step == 0 && t.h % l->step == 0 && t.w >= l->min_w && t.w <= l->max_w &&
           t.h >= l->min_h && t.h <= l->max_h && pixels == wanted;
}

/* Between the model's own number of pixels and twice that: smaller targets are made larger than
 * needed and gain detail, larger ones would repeat motifs. */
grv_plan grv_plan_for(grv_rect target, const grv_limits *l)
{
    double pixels = (double)target.w * target.h, native = (double)l->native, wanted = pixels;
    if (native > 0)
        wanted = fmin(fmax(pixels, native), 2 * native);
    if (is_exact(target, l, pixels, wanted))
        return (grv_plan){target.w, target.h, target};
    double scale = sqrt(wanted / pixels), w = target.w * scale, h = target.h * scale;
    double down = fmin(1, fmin(l->max_w / w, l->max_h / h));
    grv_plan p = {.w = fit(w * down, l->min_w, l->max_w, l->step),
                  .h = fit(h * down, l->min_h, l->max_h, l->step)};
    double unit =
        fmax((double)target.w / p.w, (double)target.h / p.h); /* image pixels per model pixel */
    p.area.w = most(target.w, (int)lround(p.w * unit));
    p.area.h = most(target.h, (int)lround(p.h * unit));
    p.area.x = target.x - (p.area.w - target.w) / 2;
    p.area.y = target.y - (p.area.h - target.h) / 2;
    return p;
}

/* ---- coverage ---- */

/* Raises out[i] to the largest of in[i - reach .. i + reach]; one pass with a queue of falling
 * values. */
static void raise_row(const uint8_t *in, uint8_t *out, int n, int reach, int *queue)
{
    int head = 0, tail = 0;
    for (int i = 0; i < n + reach; i++) {
        if (i < n) {
            while (tail > head && in[queue[tail - 1]] <= in[i])
                tail--;
            queue[tail++] = i;
        }
        int at = i - reach;
        if (at < 0)
            continue;
        while (queue[head] < at - reach)
            head++;
        if (in[queue[head]] > out[at])
            out[at] = in[queue[head]];
    }
}

void grv_coverage_grow(uint8_t *c, int w, int h, int by)
{
    if (by <= 0 || w <= 0 || h <= 0)
        return;
    size_t size = (size_t)w * (size_t)h;
    uint8_t *from = malloc(size);
    int *queue = malloc((size_t)w * sizeof *queue);
    if (from && queue) {
        memcpy(from, c, size);
        for (int dy = -by; dy <= by; dy++) {
            int reach = (int)sqrt((double)by * by - (double)dy * dy);
            for (int y = most(0, -dy); y < least(h, h - dy); y++)
                raise_row(from + (size_t)(y + dy) * (size_t)w, c + (size_t)y * (size_t)w, w, reach,
                          queue);
        }
    }
    free(from);
    free(queue);
}

/* Mean of each value and `reach` neighbours on both sides; what lies outside repeats the edge. */
static void blur_line(uint8_t *line, size_t stride, int n, int reach, uint8_t *copy)
{
    uint32_t sum = 0, width = 2 * (uint32_t)reach + 1;
    for (int i = 0; i < n; i++)
        copy[i] = line[(size_t)i * stride];
    for (int k = -reach; k <= reach; k++)
        sum += copy[most(0, least(n - 1, k))];
    for (int i = 0; i < n; i++) {
        line[(size_t)i * stride] = (uint8_t)((sum + width / 2) / width);
        sum += copy[least(n - 1, i + reach + 1)];
        sum -= copy[most(0, i - reach)];
    }
}

/* Three boxes come close to a bell; together they reach `radius` far and no pixel further. */
void grv_coverage_feather(uint8_t *c, int w, int h, int radius)
{
    if (radius <= 0 || w <= 0 || h <= 0)
        return;
    uint8_t *copy = malloc((size_t)most(w, h));
    for (int pass = 0; copy && pass < 3; pass++) {
        int reach = radius / 3 + (pass < radius % 3);
        for (int y = 0; reach && y < h; y++)
            blur_line(c + (size_t)y * (size_t)w, 1, w, reach, copy);
        for (int x = 0; reach && x < w; x++)
            blur_line(c + x, (size_t)w, h, reach, copy);
    }
    free(copy);
}

void grv_coverage_solid(uint8_t *c, int w, int h)
{
    for (size_t i = 0; i < (size_t)w * (size_t)h; i++)
        c[i] = c[i] ? 255 : 0;
}

grv_rect grv_coverage_bounds(const uint8_t *c, int w, int h)
{
    int left = w, right = -1, top = h, bottom = -1;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            if (!c[(size_t)y * (size_t)w + (size_t)x])
                continue;
            left = least(left, x);
            right = most(right, x);
            top = least(top, y);
            bottom = y;
        }
    return right < 0 ? (grv_rect){0} : (grv_rect){left, top, right - left + 1, bottom - top + 1};
}

bool grv_coverage_is_full(const uint8_t *c, int w, int h)
{
    for (size_t i = 0; i < (size_t)w * (size_t)h; i++) {
        if (c[i] != 255)
            return false;
    }
    return true;
}
