/* What becomes of a post after an attempt: sent, tried again and when, or given up.  Decides only;
 * sends nothing and keeps nothing. */
#ifndef RV_COURIER_PLAN_H
#define RV_COURIER_PLAN_H

#include "base/memory.h"
#include "base/status.h"

typedef enum rv__fate { RV__SENT, RV__AGAIN, RV__DEAD } rv__fate;

/* One attempt, as it ended. */
typedef struct rv__attempt {
    bool is_upload;
    int number; /* 1 is the first          */
    int most;   /* attempts of such a post */
    rv_status status;
    int http_status;
    const rv_error *error;
    double chance; /* 0 to 1: spreads the repeats */
} rv__attempt;

typedef struct rv__plan {
    rv__fate fate;
    int64_t delay_ms; /* until the next attempt         */
    char why[160];    /* for the operator; empty: sent  */
} rv__plan;

rv__plan rv__courier_plan(const rv__attempt *a);

/* "t=1700000000,v1=…" with one v1 for each line of secrets: hex of HMAC-SHA-256 over "t.body".  out
 * (rv__free); NULL: out of memory, or there is no secret. */
char *rv__courier_signature(const char *secrets, int64_t unix_s, const char *body, size_t len);

/* The URL of an upload: {index} and {imageUUID} are filled in, every other byte stays.  out
 * (rv__free); NULL: out of memory. */
char *rv__courier_target(const char *url, int64_t index, const char *image_uuid);

#endif
