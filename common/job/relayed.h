/* What a call passes on to the server that keeps the tasks, where tasks do not run in this process:
 * asynchronous tasks, getResponse, and questions about tasks by their taskUUID. */
#ifndef RV_RELAYED_H
#define RV_RELAYED_H

#include "job/call.h"

/* The slot ends later, unless it has an error at once. */
void rv__relayed_begin(rv *r, rv__slot *slot, rv_task *t);

#endif
