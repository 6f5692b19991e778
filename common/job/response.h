/* How a kept task stands, as getResponse says it: one item per picture in a stable order, finished
 * ones with their result, and the error of a failed task once more among the errors. */
#ifndef RV_RESPONSE_H
#define RV_RESPONSE_H

#include "job/context.h"

/* Writes the items (joined by commas) and error objects (NULL: none) of a task; both are out
 * (rv__free).  `job` is the live job of this task, or NULL.  A task that is not known, or whose
 * results expired, fails with RV_NOT_FOUND. */
rv_status rv__response_write(const rv__record *record, const rv_job *job, char **items,
                             char **errors, rv_error *err);

/* The same of a job that has ended. */
rv_status rv__response_of_job(const rv_job *job, char **items, char **errors, rv_error *err);

/* The events of a task that ended, or waits, as text of a stream (out; rv__free; NULL: no memory). */
char *rv__response_stream(const rv__record *record, size_t *len);

/* Is at least one of its pictures made? */
bool rv__response_has_result(const rv__record *record);

#endif
