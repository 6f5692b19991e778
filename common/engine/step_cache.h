/* Step caches: which evaluations of a picture are not worth their time, because their result would
 * be nearly that of an earlier one.  Numbers only; the transformer brings the signal that is
 * watched and keeps what is reused (transformer_run.c).  Must never skip when the request's
 * threshold means "off". */
#ifndef RV_STEP_CACHE_H
#define RV_STEP_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"
#include "base/status.h"

typedef enum rv__cache_kind {
    RV__NO_CACHE,
    RV__TEA_CACHE,         /* watches what goes into the blocks, skips all of them */
    RV__FIRST_BLOCK_CACHE, /* runs the first block and watches it, skips the others */
    RV__DUAL_BLOCK_CACHE   /* runs some blocks at both ends, skips those between */
} rv__cache_kind;

typedef struct rv__cache_options {
    rv__cache_kind kind;
    double limit;         /* reuses below this relative change; 0: never */
    bool by_time;         /* TeaCache: watches the time embedding instead of the embedded picture */
    double polynomial[5]; /* TeaCache: change of the signal to change of the result, highest first */
    int first, end;       /* steps that may be skipped, [first, end) */
    int most;             /* of them in a row */
} rv__cache_options;

/* acceleratorOptions of a task (NULL: none) to options.  `card` is the model's "step_caches"
 * (speed.md; NULL: defaults); [first, end) comes from the task.  Thresholds have the request's
 * direction there: teaCacheDistance high, fbCacheThreshold and dbCacheThreshold low for speed. */
void rv__cache_read(const rv__value *options, const rv__value *card, int first, int end,
                    rv__cache_options *out);

/* Name of the switch in a request ("teaCache"); NULL for none. */
const char *rv__cache_name(rv__cache_kind kind);

typedef struct rv__step_cache {
    rv__cache_options options;
    int rows; /* of the batch; all of them are skipped, or none */
    size_t n; /* values of the signal per row */
    float *now, *before; /* the signal, and the one to compare with: rows * n */
    float *room;         /* what was allocated for all of them */
    double sum[8];       /* TeaCache: change since the last evaluation */
    float *kept;         /* what the skipped part adds to its input */
    bool has_before, has_kept;
    int in_row;           /* skipped since the last full evaluation */
    int calls, skipped;   /* since the cache was made ready */
} rv__step_cache;

/* Room for a signal of rows * n values and `kept` values to reuse.  Frees what was there. */
rv_status rv__step_cache_begin(rv__step_cache *c, const rv__cache_options *o, int rows, size_t n,
                               size_t kept, rv_error *err);
void rv__step_cache_free(rv__step_cache *c);

/* The signal in `now` is that of the next evaluation: may its blocks be skipped?  Counts it. */
bool rv__step_cache_skips(rv__step_cache *c, bool allowed);

#endif
