/* Questions about kept tasks by their taskUUID: events and cancelling (rv_call_task). */
#ifndef RV_STORED_TASK_H
#define RV_STORED_TASK_H

#include "job/call.h"

/* The slot ends later, unless it has its answer or an error at once. */
void rv__stored_events(rv *r, rv__slot *slot, rv_task *t);
void rv__stored_cancel(rv *r, rv__slot *slot, rv_task *t);

/* The error object of a task that was cancelled (out; rv__free; NULL: no memory). */
char *rv__stored_cancelled(const char *task_uuid);

/* A stored task begins to run as this job: those who wait for its events get them from now on. */
void rv__stored_bind(rv *r, rv_job *j);

#endif
