/* From "1024x1024", "16:9" and "2K" to pixels. */
#include "openai_size.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { DIGITS = 6, EDIT_PIXELS = 1024 * 1024 };

/* Reads up to six digits; NULL when there are none. */
static const char *read_number(const char *text, int64_t *out)
{
    *out = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && at - text < DIGITS; at++)
        *out = *out * 10 + (*at - '0');
    return at == text ? NULL : at;
}

/* Two numbers with a mark between them. */
static bool read_pair(const char *text, const char *marks, int64_t *a, int64_t *b)
{
    const char *at = read_number(text, a);
    if (!at)
        return false;
    size_t mark = strncmp(at, "\xc3\x97", 2) == 0 && strchr(marks, 'x') ? 2 /* the sign × */
                  : *at && strchr(marks, *at)                           ? 1
                                                                        : 0;
    at = mark ? read_number(at + mark, b) : NULL;
    return at && !*at && *a > 0 && *b > 0;
}

static int64_t preset(const rv__field *fields, const char *name)
{
    const rv__field *f = rv__field_find(fields, name);
    double v = 0;
    if (f && f->preset)
        rv__json_read_number(f->preset, &v);
    return v > 0 ? (int64_t)v : 1024;
}

static int64_t round_to(double v, double step)
{
    double n = round(v / step);
    return (int64_t)((n < 1 ? 1 : n) * step);
}

static void from_ratio(rv__openai_size *s, double area, int64_t a, int64_t b)
{
    const rv__field *f = rv__field_find(s->fields, "width");
    double step = f && f->step > 0 ? f->step : 16;
    s->width = round_to(sqrt(area * (double)a / (double)b), step);
    s->height = round_to(sqrt(area * (double)b / (double)a), step);
}

static void fail(rv__openai_size *s, const char *parameter, const char *wrong)
{
    s->parameter = parameter;
    s->wrong = wrong;
}

/* "2K": the square of so many times 1024; 0 when it reads differently. */
static double read_area(const rv__value *v)
{
    const char *text = rv__json_string(v);
    size_t n = text ? strspn(text, "0123456789.") : 0;
    char number[16];
    double k = 0;
    if (!n || n >= sizeof number || strcasecmp(text + n, "k") != 0)
        return 0;
    memcpy(number, text, n);
    number[n] = '\0';
    return rv__json_read_number(number, &k) && k > 0 && k <= 64 ? k * 1024 * k * 1024 : 0;
}

static int64_t side_of(const rv__openai_size *s, const char *name, double wanted)
{
    const rv__field *f = rv__field_find(s->fields, name);
    double step = f && f->step > 0 ? f->step : 16;
    int64_t v = round_to(wanted, step);
    if (f && v < (int64_t)f->min)
        v = (int64_t)f->min;
    if (f && f->max > 0 && v > (int64_t)f->max)
        v = (int64_t)f->max;
    return v;
}

/* The picture's own size where that is a good one, else the nearest of its ratio. */
static void from_input(rv__openai_size *s)
{
    double width = (double)s->input_width, height = (double)s->input_height;
    double scale = sqrt(EDIT_PIXELS / (width * height));
    scale = scale < 1 ? scale : 1;
    s->width = side_of(s, "width", width * scale);
    s->height = side_of(s, "height", height * scale);
    s->parameter = "size";
}

static bool read_size(rv__openai_size *s, int64_t *a, int64_t *b)
{
    const char *text = rv__json_string(s->size);
    int64_t width, height;
    if (!s->size || (text && strcmp(text, "auto") == 0))
        return true;
    if (text && read_pair(text, "xX", &width, &height)) {
        s->width = width;
        s->height = height;
        s->parameter = "size";
        return true;
    }
    if (text && read_pair(text, ":", &width, &height)) {
        *a = width;
        *b = height;
        s->parameter = "size";
        return true;
    }
    fail(s, "size", "size must be WIDTHxHEIGHT as 1024x1024, a ratio as 16:9, or auto");
    return false;
}

static bool read_ratio(rv__openai_size *s, int64_t *a, int64_t *b)
{
    const char *text = rv__json_string(s->ratio);
    int64_t x, y;
    if (!s->ratio || (text && strcmp(text, "auto") == 0))
        return true;
    if (!text || !read_pair(text, ":", &x, &y)) {
        fail(s, "aspect_ratio", "aspect_ratio must be two numbers as 16:9");
        return false;
    }
    double asked = (double)x / (double)y;
    double given = s->width ? (double)s->width / (double)s->height
                   : *a     ? (double)*a / (double)*b
                            : asked;
    if (fabs(given / asked - 1) > 0.05) {
        fail(s, "aspect_ratio", "aspect_ratio and size contradict each other: send one of them");
        return false;
    }
    if (!s->parameter)
        s->parameter = "aspect_ratio";
    *a = x;
    *b = y;
    return true;
}

void rv__openai_size_find(rv__openai_size *s)
{
    int64_t a = 0, b = 0;
    double area = 0;
    s->width = s->height = 0;
    s->parameter = s->wrong = NULL;
    if (!read_size(s, &a, &b) || !read_ratio(s, &a, &b))
        return;
    if (s->resolution) {
        area = read_area(s->resolution);
        if (area <= 0) {
            fail(s, "resolution", "resolution must be a tier as 1K or 2K");
            return;
        }
    }
    if (s->width)
        return;
    if (area > 0) {
        s->parameter = "resolution";
        from_ratio(s, area, a ? a : 1, b ? b : 1);
    } else if (a) {
        from_ratio(s, (double)preset(s->fields, "width") * (double)preset(s->fields, "height"), a,
                   b);
    } else if (s->input_width) {
        from_input(s);
    }
}
