/* Questions about kept tasks by their taskUUID: events and cancelling (rv_call_task). */
#ifndef RV_STORED_TASK_H
#define RV_STORED_TASK_H

#include "job/call.h"

/* The slot ends later, unless it has its answer or an error at once. */
void rv__stored_events(rv *r, rv__slot *slot, rv_task *t);
void rv__stored_cancel(rv *r, rv__slot *slot, rv_task *t);

/* A stored task begins to run as this job: those who wait for its events get them from now on. */
void rv__stored_bind(rv *r, rv_job *j);

#endif
