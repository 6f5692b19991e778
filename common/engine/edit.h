/* From the input pictures of a task to what the pipeline starts from, and from its result back into
 * the picture: scaling, masks, the part that maskMargin works on, the room that outpaint adds.
 *
 * seedImage is scaled to width x height (outpaint: to what its sides leave of them), whatever its
 * shape.  maskImage is scaled likewise; white repaints, black keeps, grey mixes.  Pixels under black
 * come out exactly as they are in the scaled seed picture.  What was painted meets them without a
 * seam: its colours are moved at the mask's edge, fading inwards (edit_seam.h). */
#ifndef RV_EDIT_H
#define RV_EDIT_H

#include "base/json.h"
#include "engine/pipeline.h"
#include "image/raster.h"

typedef struct rv__edit {
    rv__raster picture, mask; /* of the result's size; mask.pixels NULL: all may change */
    int        x, y, width, height;     /* the part that is worked on              */
    rv__raster work_picture, work_mask; /* that part at the size it is worked on   */
    double     strength;
    bool       is_still; /* nothing is to change: picture is the result */
} rv__edit;

/* Whether a task has input pictures. */
bool rv__edit_wanted(const rv__value *task);

/* The file of a picture that the task only names; bytes NULL: the task carries it.  Borrowed. */
typedef struct rv__edit_file {
    const uint8_t *bytes;
    size_t len;
} rv__edit_file;

typedef struct rv__edit_files {
    rv__edit_file seed, mask;
} rv__edit_files;

/* Reads the pictures of a task whose result has this size (out, rv__edit_free; also after errors).
 * files may be NULL.  side_step is the pipeline's.  RV_VALIDATION and RV_UNSUPPORTED name the parameter; RV_MEMORY. */
rv_status rv__edit_read(const rv__value *task, int64_t width, int64_t height, int64_t side_step,
                        const rv__edit_files *files, rv__edit *out, rv_error *err);
void      rv__edit_free(rv__edit *e);

/* Puts a result of work_picture's size into the picture: out has picture's size, RGB. */
rv_status rv__edit_paste(const rv__edit *e, const uint8_t *result, uint8_t *out, rv_error *err);

#endif
