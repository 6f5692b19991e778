/* No seams between what was painted and what stayed. */
#ifndef RV_EDIT_SEAM_H
#define RV_EDIT_SEAM_H

#include "base/status.h"
#include "image/raster.h"

/* made, kept: RGB of one size; mask: grey, of the same.  Where the mask is not black, colours of
 * `made` are moved so that they meet those of `kept` at its edge; the change fades with the
 * distance and is small beyond `reach` pixels.  RV_MEMORY. */
rv_status rv__edit_seam(rv__raster *made, const rv__raster *kept, const rv__raster *mask, int reach,
                        rv_error *err);

#endif
