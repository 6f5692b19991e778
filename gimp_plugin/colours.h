/* Colours of 8 bit images with another profile than sRGB.  One of their 256 steps may be several of
 * ours, so that the nearest value of each channel by itself is not always the nearest colour. */
#ifndef GRV_COLOURS_H
#define GRV_COLOURS_H

#include <babl/babl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether pixels of this format are 8 bit RGBA of another colour space than sRGB. */
bool grv_colours_need_fit(const Babl *format);

/* sRGB pixels (R'G'B'A u8) in that format: those whose colours, read back, come closest. */
void grv_colours_fit(const Babl *format, const uint8_t *px, size_t count, uint8_t *out);

#endif
