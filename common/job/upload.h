/* imageUpload: a picture is stored under an imageUUID, which later tasks of the same owner name as
 * seedImage or maskImage. */
#ifndef RV_UPLOAD_H
#define RV_UPLOAD_H

#include "job/call.h"

/* The slot ends later, unless it has an error at once. */
void rv__upload_begin(rv *r, rv__slot *slot, rv_task *t);

/* The file of a picture that is known by its imageUUID: an upload, or a result (out; rv__free).
 * RV_NOT_FOUND when there is none for this owner.  On a worker's thread; waits for the desk. */
rv_status rv__upload_read(rv *r, rv__store *store, const char *owner, const char *image_uuid,
                          char **bytes, size_t *len, rv_error *err);

#endif
