/* Answers about finished tasks that another server gave a moment ago, so that clients who ask again
 * and again cost it nothing.  What a finished task answers changes only when its results expire, so
 * an answer is good for seconds; one about a task that goes on is never kept.  Owner's thread. */
#ifndef RV_RECENT_H
#define RV_RECENT_H

#include "job/call.h"

typedef struct rv__recent rv__recent;

/* Gives the slot the answer about its getResponse task; false when none is known.  list may be
 * NULL. */
bool rv__recent_find(const rv__recent *list, rv__slot *slot);

/* Keeps the answer that the slot got, if it may be repeated; *list is made with the first one.
 * Never fails: an answer without memory is asked for again. */
void rv__recent_keep(rv__recent **list, const rv__slot *slot);

void rv__recent_free(rv__recent *list);

#endif
