/* The pictures that a task names instead of carrying: fetched by URL before the task waits for a
 * worker, or read from the folder of results where it is one of ours, by URL or imageUUID.  Only contexts that run
 * tasks themselves do this; others pass the URL on. */
#ifndef RV_INPUTS_H
#define RV_INPUTS_H

#include "job/context.h"

enum { RV__INPUTS = 2 }; /* seedImage and maskImage */

typedef struct rv__input {
    const char *parameter; /* NULL: nothing was named */
    const char *url;       /* borrowed from the task  */
    bool is_stored;        /* a result of ours: url ends in its name */
    bool is_named;         /* url is the imageUUID of an upload or a result */
    char *bytes;           /* NULL while not there    */
    size_t len;
} rv__input;

typedef struct rv__inputs {
    rv__input list[RV__INPUTS];
    size_t next; /* I/O thread: the one that is being fetched */
} rv__inputs;

/* Judges the URLs of a task by their text (RV_VALIDATION, with the parameter), before it is taken:
 * pictures, and where results are to be sent.  results_url is the prefix of our own, or NULL. */
rv_status rv__inputs_check(rv *r, const rv_task *t, const char *results_url, rv_error *err);

/* Notes what the job needs: *out stays NULL when it needs nothing (out; rv__inputs_free). */
rv_status rv__inputs_new(const rv_job *j, rv__inputs **out);
void rv__inputs_free(rv__inputs *i);

/* Begins to fetch.  rv__job_ready follows exactly once, from the I/O thread or from inside; the job
 * is kept alive until then. */
void rv__inputs_start(rv_job *j);

/* Reads what is stored here; on a worker thread. */
rv_status rv__inputs_open(rv_job *j, rv_error *err);

/* The file of a parameter; false when the task carries it itself. */
bool rv__inputs_get(const rv__inputs *i, const char *parameter, const uint8_t **bytes, size_t *len);

#endif
