/* The durable queue: acknowledged tasks, their results, what must still leave the machine.  One
 * interface, so that the rest does not know whether SQLite or Valkey keeps it.  Calls block; they
 * belong to one thread (desk.h), never to an event loop.
 *
 * A task is `waiting`, then `running` in the hands of one process, then `done`, `failed` or
 * `stopped` for good, and `expired` once its results are gone.  Its seed is chosen before it is
 * stored, and its items are kept as they are made: whoever runs it again ends with the same result. */
#ifndef RV_QUEUE_H
#define RV_QUEUE_H

#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

typedef struct rv__queue rv__queue;

typedef enum rv__stored {
    RV__WAITING,
    RV__RUNNING,
    RV__DONE,
    RV__FAILED,
    RV__STOPPED,
    RV__EXPIRED
} rv__stored;

/* A task as it is kept.  All texts belong to the record. */
typedef struct rv__record {
    char *id;   /* rv__queue_id                                                          */
    char *task; /* normalised, with its seed, as JSON text; NULL once expired             */
    bool is_drawn;  /* nobody asked for this seed                                         */
    bool is_answer; /* kept only to answer a repeat: it was run for a client that waited  */
    rv__stored state;
    int attempts; /* times it was claimed */
    size_t count; /* pictures             */
    char **items; /* [count] result items as JSON text, NULL while not made               */
    char *results_url; /* prefix of picture URLs that its request brought, or NULL        */
    char *error;       /* error object of the wire, or NULL                               */
    char *warnings;    /* error objects joined by commas, or NULL                         */
    char *sent;        /* what its last runner noted before it asked others, or NULL      */
    int64_t created;   /* unix seconds                                                    */
    int64_t expiry;    /* unix seconds; 0: never                                          */
    int64_t before;    /* waiting tasks before it, where the queue was asked for it       */
    size_t step_index; /* how far the process that runs it has come, where it says so     */
    int step, steps;
    bool is_unwanted; /* it was cancelled while a process that may be gone was running it */
} rv__record;

void rv__record_free(rv__record *r); /* what it holds; leaves an empty one */

/* What must leave the machine, written together with the item or end it is about. */
typedef struct rv__post {
    int64_t row;  /* its number; 0 for a new one                                          */
    char *task;   /* id of the task                                                       */
    char *kind;   /* "webhook", "upload"                                                  */
    char *target; /* URL                                                                  */
    char *body;   /* JSON text: the result item or error object                           */
    int64_t index; /* of the picture; -1: about the whole task                            */
    int attempts;  /* so far                                                              */
    int64_t due_ms; /* unix milliseconds of the next attempt                              */
    char *why;      /* of the last failure, or NULL                                       */
    bool is_dead;   /* nobody tries any more                                              */
} rv__post;

/* Nothing waits longer than this, so what is due later was planned before the clock was put back: it
 * is due now.  Longer than any pause of courier_plan.c. */
#define RV__POST_FAR_MS 3700000

enum { RV__POSTS = 2 }; /* of one item or end */

void rv__post_free(rv__post *p); /* what it holds; leaves an empty one */

/* How a task that was offered relates to what is kept under its id. */
typedef enum rv__verdict {
    RV__NEW,  /* nothing, or what does not count any more: it is stored now */
    RV__SAME, /* the very same task: nothing changes                        */
    RV__OTHER /* a task with other parameters: nothing changes              */
} rv__verdict;

#define RV__RING_NEW    "new"    /* a task waits             */
#define RV__RING_CANCEL "cancel" /* a running task shall end */

/* What a back end does.  Every method is atomic by itself or part of the caller's transaction.
 * Failures leave things as they were: RV_BUSY with the code insufficientStorage where the disk is
 * full, RV_IO for what does not heal by itself, RV_CONNECTION where a server is away. */
typedef struct rv__queue_kind {
    const char *name;
    bool is_shared; /* other processes may work on it at the same time */
    void (*close)(rv__queue *q);
    /* Says that claimed tasks are still in our hands; returns milliseconds until it wants to be
     * called again.  NULL: not needed. */
    int (*tick)(rv__queue *q);

    /* All that is done between them is kept together or not at all.  lasting: it must survive the
     * loss of power, not only the death of processes. */
    rv_status (*begin)(rv__queue *q, bool lasting, rv_error *err);
    rv_status (*commit)(rv__queue *q, rv_error *err);
    void (*rollback)(rv__queue *q);

    /* Stores a task as waiting.  backlog: most tasks that may wait; more is RV_RATE_LIMIT.  What
     * expired, or is but an answer to other parameters, is replaced. */
    rv_status (*submit)(rv__queue *q, const rv__record *task, int64_t backlog, rv__verdict *verdict,
                        rv_error *err);
    /* The task of this id, with its items; out->id is NULL when there is none. */
    rv_status (*find)(rv__queue *q, const char *id, rv__record *out, rv_error *err);
    /* Keeps a finished answer for repeats; replaces an older answer of this id, nothing else. */
    rv_status (*keep_answer)(rv__queue *q, const rv__record *answer, rv_error *err);
    /* Takes the oldest waiting task; out->id is NULL when none waits. */
    rv_status (*claim)(rv__queue *q, rv__record *out, rv_error *err);
    /* Gives a claimed task back: it waits again, as the first. */
    rv_status (*release)(rv__queue *q, const char *id, rv_error *err);
    /* Picture `index` is made.  The first item wins. */
    rv_status (*item)(rv__queue *q, const char *id, size_t index, const char *item,
                      const rv__post *posts, size_t post_count, rv_error *err);
    /* Keeps a note of whoever runs the task for whoever runs it next; NULL forgets it. */
    rv_status (*sent)(rv__queue *q, const char *id, const char *note, rv_error *err);
    /* The task ended; error and warnings may be NULL.  A task that ended already stays as it is. */
    rv_status (*finish)(rv__queue *q, const char *id, rv__stored state, const char *error,
                        const char *warnings, int64_t expiry, const rv__post *posts,
                        size_t post_count, rv_error *err);
    /* Ends a waiting task as stopped; *was is the state it had (RV__EXPIRED when unknown).  Whoever
     * runs a task on a shared queue is asked to stop. */
    rv_status (*cancel)(rv__queue *q, const char *id, const char *error, int64_t expiry,
                        rv__stored *was, rv_error *err);

    /* For shared queues; NULL elsewhere.
     * listen: from now on `ring` is called, on a thread of the queue's, when another process may
     * have changed something: the id of a task, RV__RING_NEW, RV__RING_CANCEL, or NULL (anything).
     * progress: a claimed task has come so far; it is no loss when this fails.
     * unwanted: a claimed task that was cancelled elsewhere, told once (out; rv__free; NULL: none). */
    rv_status (*listen)(rv__queue *q, void (*ring)(void *user, const char *topic), void *user,
                        rv_error *err);
    rv_status (*progress)(rv__queue *q, const char *id, size_t index, int step, int steps,
                          rv_error *err);
    rv_status (*unwanted)(rv__queue *q, char **id, rv_error *err);
    /* The item with this imageUUID, by rv__queue_id of its owner and it (out; rv__free); NULL when
     * there is none. */
    rv_status (*picture)(rv__queue *q, const char *id, char **item, rv_error *err);
    /* Forgets results that expired before `now`, and some time later that they ever were. */
    rv_status (*sweep)(rv__queue *q, int64_t now, size_t *removed, rv_error *err);
    rv_status (*counts)(rv__queue *q, int64_t *waiting, int64_t *running, rv_error *err);

    /* Adds an error object to what a task that is not expired says under its warnings. */
    rv_status (*note)(rv__queue *q, const char *id, const char *error, rv_error *err);

    /* Posts.  add: without an item or end of a kept task. */
    rv_status (*post_add)(rv__queue *q, const char *id, const rv__post *posts, size_t count,
                          rv_error *err);
    /* due: up to `max` living posts whose time has come (or lies too far ahead, see
     * RV__POST_FAR_MS), oldest first; none is handed out again before `hold_ms` have passed or post_retry said otherwise. */
    rv_status (*post_due)(rv__queue *q, int64_t now_ms, int64_t hold_ms, rv__post *out, size_t max,
                          size_t *count, rv_error *err);
    rv_status (*post_done)(rv__queue *q, int64_t row, rv_error *err);
    rv_status (*post_retry)(rv__queue *q, int64_t row, int64_t due_ms, const char *why,
                            rv_error *err);
    rv_status (*post_dead)(rv__queue *q, int64_t row, const char *why, rv_error *err);
    /* Dead posts with a number above `after`, in order. */
    rv_status (*post_list_dead)(rv__queue *q, int64_t after, rv__post *out, size_t max,
                                size_t *count, rv_error *err);
    /* A dead post is due again as if it had never been tried, or is forgotten; *found says whether
     * there was one. */
    rv_status (*post_revive)(rv__queue *q, int64_t row, int64_t due_ms, bool *found, rv_error *err);
    rv_status (*post_drop)(rv__queue *q, int64_t row, bool *found, rv_error *err);
    /* Unix milliseconds of the next due post; 0: none. */
    rv_status (*post_next)(rv__queue *q, int64_t *due_ms, rv_error *err);
} rv__queue_kind;

struct rv__queue {
    const rv__queue_kind *kind;
    bool poked; /* there may be something to claim: set by whoever adds it, cleared by the desk */
};

/* Opens what `where` names: redis://[:PASSWORD@]HOST[:PORT][/DATABASE][?lease=MS] (Valkey; any
 * number of processes) or a path (SQLite; made when missing, its folder must exist; one process).
 * Tasks that a dead process left running wait again, with Valkey once its lease is over.  out
 * (rv__queue_close). */
rv_status rv__queue_open(const char *where, rv__queue **out, rv_error *err);
void rv__queue_close(rv__queue *q); /* NULL is fine */

/* The name of a task in the queue: its taskUUID in lower case, within what belongs to `owner`
 * (NULL or "": nobody in particular).  out (rv__free); NULL: out of memory. */
char *rv__queue_id(const char *owner, const char *task_uuid);

/* Do two records ask for the same?  Their taskUUIDs are not compared, nor seeds that were drawn.
 * Only memory can be lacking. */
rv_status rv__record_same(const rv__record *a, const rv__record *b, bool *same);

/* Copies a text that may be NULL; *ok becomes false when there is no memory. */
char *rv__queue_text(const char *text, bool *ok);

rv_status rv__queue_sqlite_open(const char *path, rv__queue **out, rv_error *err);
rv_status rv__queue_valkey_open(const char *url, rv__queue **out, rv_error *err);

#endif
