/* Checking that a text is JSON by the strict rules of json.h, before cJSON sees it. */
#ifndef RV_JSON_SCAN_H
#define RV_JSON_SCAN_H

#include "json.h"

#define RV__JSON_DIGITS 63 /* cJSON's own limit for the text of a number */

/* Where a number stands in the text. */
typedef struct rv__json_span {
    size_t at, len;
} rv__json_span;

/* True when the text is acceptable: *numbers (out; rv__free; may be NULL) are its numbers in document
 * order.  Otherwise *err says where and why. */
bool rv__json_scan(const char *text, size_t len, size_t max_values, rv__json_span **numbers,
                   size_t *count, rv__json_error *err);

#endif
