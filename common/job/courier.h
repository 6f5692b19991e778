/* The courier takes posts from the durable queue when they are due, sends webhooks and uploads
 * through the address guard, and writes down what became of them.  Everything is kept before it is
 * sent, so a process that dies loses nothing; a receiver may therefore see a post twice.  Bodies,
 * queries and secrets are never logged. */
#ifndef RV_COURIER_H
#define RV_COURIER_H

#include "job/context.h"

typedef struct rv__courier rv__courier;

typedef struct rv__courier_counts {
    uint64_t sent, repeated, dead;
} rv__courier_counts;

/* Reads the webhook secret, starts the thread for transfers, and begins to look for posts.  The desk
 * must be open.  Owner's thread. */
rv_status rv__courier_open(rv *r, rv_error *err);

/* Ends what is under way: it is due again at once.  The desk must still be open, so that this is
 * written down.  Owner's thread. */
void rv__courier_close(rv *r);

/* After the desk has closed. */
void rv__courier_free(rv *r);

/* [0] webhooks, [1] uploads; owner's thread. */
void rv__courier_count(const rv *r, rv__courier_counts out[2]);

#endif
