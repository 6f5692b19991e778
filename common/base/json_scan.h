/* Checking that a text is JSON by the strict rules of json.h, before cJSON sees it.  What the check has walked over
 * already and cJSON would only copy (long texts: prompts, base64) is left out of what cJSON gets to see. */
#ifndef RV_JSON_SCAN_H
#define RV_JSON_SCAN_H

#include "json.h"

#define RV__JSON_DIGITS 63 /* cJSON's own limit for the text of a number */

/* Stands for a text that was left out; no text can be this, because it is not UTF-8. */
#define RV__JSON_LEFT_OUT "\xFF"

/* Where a number, or a text that was left out, stands. */
typedef struct rv__json_span {
    size_t at, len;
} rv__json_span;

typedef struct rv__json_scanned {
    rv__json_span *spans; /* in document order; may be NULL */
    size_t count;
    rv__buf rest; /* the text without what was left out; empty when that is nothing */
} rv__json_scanned;

/* True when the text is acceptable: *out says what is in it (rv__json_scanned_free).  Otherwise *err
 * says where and why. */
bool rv__json_scan(const char *text, size_t len, size_t max_values, rv__json_scanned *out,
                   rv__json_error *err);
void rv__json_scanned_free(rv__json_scanned *s);

#endif
