/* Forms of type multipart/form-data (RFC 7578), read in place.  Bytes are hostile: every offset is checked, nothing is
 * copied, and a form with too many parts is refused. */
#ifndef RV_MULTIPART_H
#define RV_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

enum { RV__PARTS_MAX = 128, RV__PART_NAME = 64 };

typedef struct rv__part {
    char        name[RV__PART_NAME]; /* without a trailing [] */
    bool        is_file;             /* it has a file name    */
    const char *data;                /* borrowed from the body */
    size_t      len;
} rv__part;

/* Reads all parts; parts has room for RV__PARTS_MAX.  NULL when fine, else what is wrong (a static sentence). */
const char *rv__multipart_read(const char *content_type, const char *body, size_t len, rv__part *parts,
                               size_t *count);

/* Is this the Content-Type of such a form? */
bool rv__multipart_is(const char *content_type);

#endif
