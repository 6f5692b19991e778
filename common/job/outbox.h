/* What a finished item or a failure sends into the world, as rows of the queue. */
#ifndef RV_OUTBOX_H
#define RV_OUTBOX_H

#include "job/queue.h"
#include "request/task.h"

/* Does anything of this task leave the machine by itself? */
bool rv__outbox_wanted(const rv_task *task);

/* The posts of picture `index` (-1: of a task that failed), whose item or error object is `body`:
 * a webhook to webhookURL and, for pictures, an upload to uploadEndpoint.  Returns how many were
 * written to posts[RV__POSTS] (rv__post_free each); 0 also without memory, then *ok is false. */
size_t rv__outbox_of(const rv_task *task, const char *id, int64_t index, const char *body,
                     rv__post *posts, bool *ok);

#endif
