/* A regular file mapped for reading.  Must never follow a request to map anything but a regular
 * file. */
#ifndef RV_MAPPED_FILE_H
#define RV_MAPPED_FILE_H

#include "base/status.h"

typedef struct rv__mapped {
    const unsigned char *data;
    size_t               size;
} rv__mapped;

/* Maps a whole file.  Symbolic links are followed (model caches consist of them).  RV_NOT_FOUND,
 * RV_IO, and RV_FORMAT for what is empty or not a regular file. */
rv_status rv__mapped_open(const char *path, rv__mapped *out, rv_error *err);
void      rv__mapped_close(rv__mapped *m);

#endif
