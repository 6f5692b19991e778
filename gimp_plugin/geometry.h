/* Rectangles, sizes and coverage of selections: plain numbers, no GIMP and no toolkit, so that a
 * unit test can see all of it.  Must never leave the given buffers, whatever sizes it is given. */
#ifndef GRV_GEOMETRY_H
#define GRV_GEOMETRY_H

#include <stdbool.h>
#include <stdint.h>

typedef struct grv_rect {
    int x, y, w, h; /* pixels of the image; empty when w or h is 0 */
} grv_rect;

bool grv_rect_is_empty(grv_rect r);
grv_rect grv_rect_grow(grv_rect r, int by);
grv_rect grv_rect_meet(grv_rect a, grv_rect b);
grv_rect grv_rect_join(grv_rect a, grv_rect b);

/* What a model can make. */
typedef struct grv_limits {
    int min_w, max_w, min_h, max_h, step; /* each side, pixels               */
    int64_t native;                       /* pixels it makes best; 0: any    */
} grv_limits;

/* The size to work at for a target, and the place in the image that it covers: at least the target,
 * of the same proportions as the working size, so that nothing is stretched.  It may reach over the
 * canvas. */
typedef struct grv_plan {
    int w, h;      /* working size, valid for the model */
    grv_rect area; /* what it covers                    */
} grv_plan;

grv_plan grv_plan_for(grv_rect target, const grv_limits *limits);

/* Coverage: one byte per pixel, 0 untouched, 255 all new.  All of these work in place. */
void grv_coverage_grow(uint8_t *c, int w, int h, int by); /* by a disc of this radius          */
void grv_coverage_feather(uint8_t *c, int w, int h,
                          int radius);             /* soft over radius on both sides    */
void grv_coverage_solid(uint8_t *c, int w, int h); /* what is not 0 becomes 255         */
grv_rect grv_coverage_bounds(const uint8_t *c, int w, int h); /* of what is not 0 */
bool grv_coverage_is_full(const uint8_t *c, int w, int h);

#endif
