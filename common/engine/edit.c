/* See edit.h. */
#include "engine/edit.h"
#include "engine/edit_seam.h"

#include <string.h>

enum { SLIMMEST = 4 /* the part that is worked on is at most so many times as long as wide */ };

bool rv__edit_wanted(const rv__value *task)
{
    return rv__json_string(rv__json_get(task, "seedImage")) != NULL;
}

void rv__edit_free(rv__edit *e)
{
    rv__raster_free(&e->picture);
    rv__raster_free(&e->mask);
    rv__raster_free(&e->work_picture);
    rv__raster_free(&e->work_mask);
}

/* ---- pictures of the result's size ---- */

/* Pixels that outpaint adds; all 0 without it. */
typedef struct border {
    int top, right, bottom, left, blur;
} border;

/* Sides as the task has them, in proportion where the model makes another size than asked for. */
static border read_border(const rv__value *task, int64_t width, int64_t height)
{
    const rv__value *o = rv__json_get(task, "outpaint");
    int64_t asked_w = rv__json_get_int(task, "width", width);
    int64_t asked_h = rv__json_get_int(task, "height", height);
    return (border){.top = (int)(rv__json_get_int(o, "top", 0) * height / asked_h),
                    .right = (int)(rv__json_get_int(o, "right", 0) * width / asked_w),
                    .bottom = (int)(rv__json_get_int(o, "bottom", 0) * height / asked_h),
                    .left = (int)(rv__json_get_int(o, "left", 0) * width / asked_w),
                    .blur = (int)rv__json_get_int(o, "blur", 0)};
}

static bool has_border(const border *b)
{
    return b->top || b->right || b->bottom || b->left;
}

/* A picture inside its border, into which its edge pixels are repeated. */
static void place(const rv__raster *in, const border *b, rv__raster *out)
{
    for (int y = 0; y < out->height; y++)
        for (int x = 0; x < out->width; x++) {
            int fx = x - b->left, fy = y - b->top;
            fx = fx < 0 ? 0 : fx >= in->width ? in->width - 1 : fx;
            fy = fy < 0 ? 0 : fy >= in->height ? in->height - 1 : fy;
            memcpy(out->pixels + ((size_t)y * (size_t)out->width + (size_t)x) * (size_t)in->channels,
                   in->pixels + ((size_t)fy * (size_t)in->width + (size_t)fx) * (size_t)in->channels,
                   (size_t)in->channels);
        }
}

/* Reads one picture, scaled and placed. */
static rv_status read_picture(const char *text, const rv__edit_file *file, const char *parameter,
                              const border *b, bool is_mask, int width, int height, rv__raster *out,
                              rv_error *err)
{
    rv__raster sent, fitted = {0};
    rv_status status = file->bytes
                           ? rv__raster_decode(file->bytes, file->len, parameter, &sent, err)
                           : rv__raster_read(text, parameter, &sent, err);
    if (status != RV_OK)
        return status;
    if (is_mask)
        rv__raster_grey(&sent);
    else
        rv__raster_flatten(&sent);
    status = rv__raster_resize(&sent, width - b->left - b->right, height - b->top - b->bottom,
                               &fitted, err);
    rv__raster_free(&sent);
    if (status == RV_OK)
        status = rv__raster_make(width, height, fitted.channels, out, err);
    if (status == RV_OK)
        place(&fitted, b, out);
    rv__raster_free(&fitted);
    return status;
}

/* How far a place is inside the old picture, counted from the sides that are widened. */
static int depth(const border *b, const rv__raster *m, int x, int y)
{
    int d = INT32_MAX, sides[4][2] = {{b->left, x - b->left},
                                      {b->right, m->width - b->right - 1 - x},
                                      {b->top, y - b->top},
                                      {b->bottom, m->height - b->bottom - 1 - y}};
    for (int i = 0; i < 4; i++)
        if (sides[i][0] && sides[i][1] < d)
            d = sides[i][1];
    return d;
}

/* White in the border; from there the blur fades into the old picture. */
static void add_border(rv__raster *m, const border *b)
{
    for (int y = 0; y < m->height; y++)
        for (int x = 0; x < m->width; x++) {
            int d = depth(b, m, x, y), v = d < 0 ? 255 : 0;
            uint8_t *at = m->pixels + (size_t)y * (size_t)m->width + (size_t)x;
            if (d >= 0 && d < b->blur)
                v = 255 * (2 * (b->blur - d) - 1) / (2 * b->blur);
            if (*at < v)
                *at = (uint8_t)v;
        }
}

static rv_status read_mask(const rv__value *task, const rv__edit_file *file, const border *b,
                           int width, int height, rv__raster *out, rv_error *err)
{
    const char *text = rv__json_string(rv__json_get(task, "maskImage"));
    rv_status status = RV_OK;
    if (text)
        status = read_picture(text, file, "maskImage", b, true, width, height, out, err);
    else if (has_border(b))
        status = rv__raster_make(width, height, 1, out, err);
    if (status == RV_OK && has_border(b))
        add_border(out, b);
    return status;
}

/* ---- the part that is worked on ---- */

/* The smallest rectangle around what may change; false when nothing may. */
static bool find_changes(rv__edit *e)
{
    int left = e->mask.width, right = -1, top = e->mask.height, bottom = -1;
    for (int y = 0; y < e->mask.height; y++)
        for (int x = 0; x < e->mask.width; x++) {
            if (!e->mask.pixels[(size_t)y * (size_t)e->mask.width + (size_t)x])
                continue;
            left = x < left ? x : left;
            right = x > right ? x : right;
            top = y < top ? y : top;
            bottom = y;
        }
    e->x = left;
    e->y = top;
    e->width = right - left + 1;
    e->height = bottom - top + 1;
    return right >= 0;
}

/* Makes a stretch longer on both sides, at most to all of [0, most). */
static void widen(int *from, int *size, int by, int most)
{
    int end = *from + *size + by;
    *from = *from > by ? *from - by : 0;
    *size = (end < most ? end : most) - *from;
}

static void add_margin(rv__edit *e, int margin)
{
    int w = e->picture.width, h = e->picture.height;
    widen(&e->x, &e->width, margin, w);
    widen(&e->y, &e->height, margin, h);
    if (e->width * SLIMMEST < e->height)
        widen(&e->x, &e->width, (e->height / SLIMMEST - e->width + 1) / 2, w);
    if (e->height * SLIMMEST < e->width)
        widen(&e->y, &e->height, (e->width / SLIMMEST - e->height + 1) / 2, h);
}

static rv_status cut(const rv__edit *e, const rv__raster *from, int width, int height,
                     rv__raster *out, rv_error *err)
{
    rv__raster part = {0};
    rv_status status = rv__raster_crop(from, e->x, e->y, e->width, e->height, &part, err);
    if (status == RV_OK)
        status = rv__raster_resize(&part, width, height, out, err);
    rv__raster_free(&part);
    return status;
}

/* The part is worked on at about as many pixels as the whole picture has. */
static rv_status prepare_work(rv__edit *e, int64_t side_step, rv_error *err)
{
    int64_t w = e->picture.width, h = e->picture.height;
    if (e->width != w || e->height != h)
        rv__pipeline_size(e->width, e->height, w * h, side_step, &w, &h);
    w = w < side_step ? side_step : w;
    h = h < side_step ? side_step : h;
    rv_status status = cut(e, &e->picture, (int)w, (int)h, &e->work_picture, err);
    if (status == RV_OK && e->mask.pixels)
        status = cut(e, &e->mask, (int)w, (int)h, &e->work_mask, err);
    return status;
}

rv_status rv__edit_read(const rv__value *task, int64_t width, int64_t height, int64_t side_step,
                        const rv__edit_files *files, rv__edit *e, rv_error *err)
{
    static const rv__edit_files none;
    files = files ? files : &none;
    int w = (int)width, h = (int)height, margin = (int)rv__json_get_int(task, "maskMargin", 0);
    border b = read_border(task, width, height);
    *e = (rv__edit){.width = w, .height = h};
    e->strength = rv__json_get_number(task, "strength", 0.8);
    if (w - b.left - b.right < 1 || h - b.top - b.bottom < 1)
        return rv__fail_code(err, RV_VALIDATION, NULL, "outpaint",
                             "outpaint leaves no room for the start picture");
    rv_status status = read_picture(rv__json_get_string(task, "seedImage", ""), &files->seed,
                                    "seedImage", &b, false, w, h, &e->picture, err);
    if (status == RV_OK)
        status = read_mask(task, &files->mask, &b, w, h, &e->mask, err);
    if (status != RV_OK)
        return status;
    e->is_still = !(e->strength > 0.0) || (e->mask.pixels && !find_changes(e));
    if (e->is_still)
        return RV_OK;
    if (margin > 0 && e->mask.pixels) {
        add_margin(e, margin);
    } else {
        e->x = e->y = 0;
        e->width = w;
        e->height = h;
    }
    return prepare_work(e, side_step, err);
}

/* ---- back into the picture ---- */

/* How far the edge of a mask reaches into what was painted: a share of the picture. */
enum { SEAM_SHARE = 12, SEAM_LEAST = 4 };

static rv_status heal_seam(const rv__edit *e, rv__raster *part, rv_error *err)
{
    int side = e->picture.width < e->picture.height ? e->picture.width : e->picture.height;
    int reach = side / SEAM_SHARE;
    rv__raster kept = {0}, mask = {0};
    rv_status status =
        rv__raster_crop(&e->picture, e->x, e->y, e->width, e->height, &kept, err);

    reach = reach < SEAM_LEAST ? SEAM_LEAST : reach;
    if (status == RV_OK)
        status = rv__raster_crop(&e->mask, e->x, e->y, e->width, e->height, &mask, err);
    if (status == RV_OK)
        status = rv__edit_seam(part, &kept, &mask, reach, err);
    rv__raster_free(&kept);
    rv__raster_free(&mask);
    return status;
}

rv_status rv__edit_paste(const rv__edit *e, const uint8_t *result, uint8_t *out, rv_error *err)
{
    rv__raster made = {(uint8_t *)result, e->work_picture.width, e->work_picture.height, 3};
    rv__raster part;
    rv_status status = rv__raster_resize(&made, e->width, e->height, &part, err);
    if (status == RV_OK && e->mask.pixels)
        status = heal_seam(e, &part, err);
    if (status != RV_OK) {
        rv__raster_free(&part);
        return status;
    }
    size_t wide = (size_t)e->picture.width;
    memcpy(out, e->picture.pixels, wide * (size_t)e->picture.height * 3);
    for (int y = 0; y < e->height; y++)
        for (int x = 0; x < e->width; x++) {
            size_t at = (size_t)(e->y + y) * wide + (size_t)(e->x + x);
            const uint8_t *from = part.pixels + ((size_t)y * (size_t)e->width + (size_t)x) * 3;
            int m = e->mask.pixels ? e->mask.pixels[at] : 255;
            for (size_t k = 0; k < 3; k++)
                out[at * 3 + k] = (uint8_t)((m * from[k] + (255 - m) * out[at * 3 + k] + 127) / 255);
        }
    rv__raster_free(&part);
    return RV_OK;
}
