/* Pictures that were made, for tasks that ask for the very same one again: same model, parameters
 * and seed, by the same owner.  Tasks that did not name their seed never meet it, neither do those
 * that start from a picture by URL or imageUUID, nor those that ended with a warning.  In memory,
 * bounded in bytes and age; a hit runs like a task of an executor of its own, named "cache", so that
 * delivery, storage and events are those of every task.  It costs nothing. */
#ifndef RV_CACHE_H
#define RV_CACHE_H

#include "job/executor.h"

typedef struct rv__cache rv__cache;

/* *out (rv__cache_free). */
rv_status rv__cache_new(int64_t seconds, int64_t bytes, rv__cache **out, rv_error *err);

/* Ends the thread; tasks that wait for it are left alone.  NULL is fine. */
void rv__cache_free(rv__cache *c);

/* Looks for all pictures of a job that was not started yet; they are its own then (j->cached).
 * Owner's thread. */
void rv__cache_take(rv__cache *c, rv_job *j);

/* Keeps the pictures of a job whose executor has just delivered them.  Its thread; lock not held. */
void rv__cache_keep(rv__cache *c, rv_job *j);

/* Runs jobs that have taken their pictures; its self is the cache. */
const rv__executor *rv__cache_executor(void);

#endif
