/* What calls ask of the durable queue.  Each asks the desk first and goes on when its answer comes
 * home. */
#ifndef RV_STORED_CALL_H
#define RV_STORED_CALL_H

#include "job/call.h"

/* Begins an imageInference task where tasks are kept (r->desk): an asynchronous one is
 * acknowledged once it is stored; a synchronous one gets the first answer again, joins its running
 * twin, or runs.  The slot ends later, unless it has an error at once. */
void rv__stored_begin(rv *r, rv__slot *slot, rv_task *t);

/* Begins a getResponse task. */
void rv__stored_response(rv *r, rv__slot *slot, rv_task *t);

/* Keeps the items of a finished synchronous task for whoever repeats it. */
void rv__stored_keep(rv *r, const rv__slot *slot);

#endif
