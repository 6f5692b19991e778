/* What the driver (parity.c) and the bookkeeping (parity_report.c) share; stages see parity.h only.
 */
#ifndef RV_PARITY_INTERNAL_H
#define RV_PARITY_INTERNAL_H

#include "engine/safetensors.h"
#include "parity.h"

struct rv__parity {
    rv__weights *model;
    rv__value   *manifest;
    const char  *dir;
    rv__machines *machines;
    size_t       passed, failed;
};

struct rv__golden {
    rv__parity      *parity;
    const char      *stem; /* "transformer" of transformer.safetensors */
    rv__safetensors *file;
    rv__tensor      *list; /* sorted by name */
    bool            *seen; /* accounted for  */
    size_t           count;
};

/* Opens DIR/NAME.  A failure is recorded; false then. */
bool rv__golden_open(rv__parity *p, const char *name, rv__golden *g);

/* Records a FAIL for every tensor that no stage accounted for, and closes the file. */
void rv__golden_close(rv__golden *g);

#endif
