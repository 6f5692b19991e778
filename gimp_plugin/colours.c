/* See colours.h.  Knows babl and nothing of GIMP. */
#include "colours.h"

#include <glib.h>
#include <string.h>

enum { REACH = 2, WIDE = 2 * REACH + 1, AROUND = WIDE * WIDE * WIDE, FAR = 1, BLOCK = 4096 };

static const Babl *srgb(void)
{
    return babl_format("R'G'B'A u8");
}

bool grv_colours_need_fit(const Babl *format)
{
    const Babl *same = babl_format_with_space("R'G'B'A u8", babl_format_get_space(format));
    return format == same && format != srgb();
}

static int off(const uint8_t *a, const uint8_t *b)
{
    int most = 0;
    for (int c = 0; c < 3; c++)
        most = MAX(most, ABS(a[c] - b[c]));
    return most;
}

/* The values whose channels are at most REACH steps away, the middle first. */
static void neighbours(const uint8_t *px, uint8_t *out)
{
    for (int k = 0; k < AROUND; k++) {
        int way = (k + AROUND / 2) % AROUND;
        for (int c = 0; c < 3; c++, way /= WIDE)
            out[4 * k + c] = (uint8_t)CLAMP(px[c] + way % WIDE - REACH, 0, 255);
        out[4 * k + 3] = px[3];
    }
}

/* The nearest of the neighbours takes the pixel's place. */
static void improve(const Babl *back, const uint8_t *wanted, uint8_t *px)
{
    uint8_t tried[4 * AROUND], seen[4 * AROUND];
    int best = 0;
    neighbours(px, tried);
    babl_process(back, tried, seen, AROUND);
    for (int k = 1; k < AROUND; k++)
        best = off(wanted, seen + 4 * k) < off(wanted, seen + 4 * best) ? k : best;
    memcpy(px, tried + 4 * best, 4);
}

void grv_colours_fit(const Babl *format, const uint8_t *px, size_t count, uint8_t *out)
{
    const Babl *there = babl_fish(srgb(), format), *back = babl_fish(format, srgb());
    uint8_t *seen = g_malloc(4 * BLOCK);
    babl_process(there, px, out, (glong)count);
    for (size_t i = 0; i < count; i++) {
        if (i % BLOCK == 0)
            babl_process(back, out + 4 * i, seen, (glong)MIN(BLOCK, count - i));
        if (off(px + 4 * i, seen + 4 * (i % BLOCK)) > FAR)
            improve(back, px + 4 * i, out + 4 * i);
    }
    g_free(seen);
}
