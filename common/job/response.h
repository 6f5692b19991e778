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

/* What a stream has told of a task that runs elsewhere. */
typedef struct rv__told {
    bool queued, started;
    uint64_t images; /* a bit for each of the first 64 */
    size_t step_index;
    int step;
} rv__told;

/* Is there an event that was not told? */
bool rv__response_has_news(const rv__record *record, const rv__told *told);

/* Events of a task that were not told yet, as text of a stream (out; rv__free; NULL: none, or no
 * memory); told says so from then on. */
char *rv__response_stream(const rv__record *record, rv__told *told, size_t *len);

/* Is at least one of its pictures made? */
bool rv__response_has_result(const rv__record *record);

#endif
