/* Filling rv_error: the one way failures travel inside the library. */
#ifndef RV_STATUS_H
#define RV_STATUS_H

#include "reverie.h"

/* Fills err (may be NULL) with status, the status's default wire code, and a formatted sentence.  Returns status,
 * so that callers write: return rv__fail(err, RV_FORMAT, "%s: tensor data ends early", name). */
rv_status rv__fail(rv_error *err, rv_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same with a wire code and a parameter (either may be NULL). */
rv_status rv__fail_code(rv_error *err, rv_status status, const char *code, const char *parameter, const char *format,
                        ...) __attribute__((format(printf, 5, 6)));

void rv__error_clear(rv_error *err);

#endif
