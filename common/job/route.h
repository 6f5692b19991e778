/* Who runs a job: the entries of its model card's "executors", in order.
 *
 *     "executors": [{"name": "engine", "max_queue": 4},
 *                   {"name": "runware", "model": "runware:97@3", "delivery": "async", "max_cost":
 * 0.01},
 *                   {"name": "fal", "model": "fal-ai/hidream-i1-fast", "except": ["lora"], "price":
 * {"base": 0.01}}]
 *
 * "engine" is this context's own executor: the engine or the stub.  The others are services
 * (remote/service.h), used when their key is there.  A failure that may pass elsewhere tries the
 * next entry; what may have been charged is never tried again.  A context with a daemon asks that
 * first, and services only when it is away and cannot have asked any itself. */
#ifndef RV_ROUTE_H
#define RV_ROUTE_H

#include "job/context.h"

/* Opens the executor of services when an entry for this task needs it.  Owner thread, before the
 * job is made. */
rv_status rv__route_open(rv *r, const rv_task *t, rv_error *err);

/* Chooses the first entry; RV_OK, or why no entry can do this task (then the context's own executor
 * is chosen where it may still try).  Lock held. */
rv_status rv__route_first(rv_job *j, rv_error *err);

/* After the job failed: chooses the next entry; false when there is none or the failure is final.
 * Lock held. */
bool rv__route_next(rv_job *j, rv_status status);

/* The executor that is chosen. */
const rv__executor *rv__route_executor(const rv_job *j, void **self);

/* Whether input pictures named by URL must be fetched first. */
bool rv__route_wants_inputs(const rv_job *j);

/* Its name: "engine", "daemon", "stub", or that of the service. */
const char *rv__route_name(const rv_job *j);

/* Who made a job's pictures, in the words of replies: a service, or ourselves (also for NULL).
 * Static texts. */
typedef struct rv__provider {
    const char *name, *label;
} rv__provider;
rv__provider rv__route_provider(const rv_job *j);

#endif
