/* The desk: one thread that owns the durable queue.  Everybody hands it operations; what is handed
 * in together is kept together, so that many acknowledgements cost one sync of the disk.  Answers
 * come home to the owner's thread (rv__desk_deliver), or to a thread that waits for them. */
#ifndef RV_DESK_H
#define RV_DESK_H

#include <stdatomic.h>

#include "job/queue.h"

typedef struct rv__desk rv__desk;
typedef struct rv__op rv__op;

/* One operation, usually the first member of something larger.  Between handing it in and its end
 * it belongs to the desk. */
struct rv__op {
    bool lasting; /* its success must survive the loss of power                            */
    atomic_bool insists; /* a failure is tried again, each second, until the desk closes    */
    /* On the desk's thread, between begin and commit.  May run again after a failure of its own or
     * of its neighbours, so it begins by forgetting what it did before.  RV_TIMEOUT: nothing to do
     * yet; it is asked again when the queue was poked. */
    rv_status (*work)(rv__op *op, rv__queue *q, rv_error *err);
    /* On the owner's thread, inside rv__desk_deliver; the op is the callee's again.  RV_CANCELLED:
     * the desk closed before. */
    void (*done)(rv__op *op, rv_status status, const rv_error *err);

    int again_ms; /* what had nothing to do is asked again after so long; 0: when poked, or as
                     often as other processes may have brought something */
    bool heeds_pokes; /* with again_ms: sooner when poked */
    uint64_t topic;   /* sooner when the shared queue rings for it (rv__desk_topic); 0: never */

    /* The desk's. */
    rv__op *next;
    int64_t not_before_ms;
    rv_status status;
    rv_error error;
    bool is_waited, has_ended;
};

typedef struct rv__desk_hooks {
    void (*ready)(void *user); /* rv__desk_deliver has something to do; any thread */
    void (*log)(void *user, rv_log_level level, const char *message); /* any thread */
    void *user;
} rv__desk_hooks;

/* Opens the queue (rv__queue_open) and starts the thread. */
rv_status rv__desk_open(const char *where, const rv__desk_hooks *hooks, rv__desk **out,
                        rv_error *err);

/* Does what was handed in (waiting ops end as cancelled), then ends the thread.  Owner's thread;
 * rv__desk_deliver still has to be called once, then rv__desk_free. */
void rv__desk_close(rv__desk *d);
void rv__desk_free(rv__desk *d);

/* What to wait for: the id of a task, or what rv__queue_kind.listen names. */
uint64_t rv__desk_topic(const char *text);

/* Do other processes work on this queue too? */
bool rv__desk_is_shared(const rv__desk *d);

/* Hands in an operation.  Any thread; never blocks. */
void rv__desk_post(rv__desk *d, rv__op *op);

/* The same and waits for its end; done is not called.  Not from the owner's thread.  `given_up`
 * (may be NULL) is asked now and then: true ends an op that insists. */
rv_status rv__desk_wait(rv__desk *d, rv__op *op, bool (*given_up)(void *user), void *user,
                        rv_error *err);

/* Calls done of what ended.  Returns how many that were. */
size_t rv__desk_deliver(rv__desk *d);

#endif
