/* Stored tasks on this side of the desk: they are claimed, run as jobs, and written down as their
 * pictures and ends come. */
#ifndef RV_DURABLE_H
#define RV_DURABLE_H

#include "job/context.h"

/* Opens the queue that the setting `store` names and begins to work it off; nothing happens where
 * there is none, or a second time.  Owner's thread. */
rv_status rv__durable_open(rv *r, rv_error *err);

/* A stored task has ended and was forgotten: there is room for the next one. */
void rv__durable_next(rv *r);

/* Claims nothing more; what runs goes on. */
void rv__durable_pause(rv *r);

/* There is room for another stored task: the end of one may be written down before it is told, and
 * only the latter makes room. */
void rv__durable_more(rv *r);

/* Ends the desk.  Running tasks are not touched: they wait again for the next process. */
void rv__durable_close(rv *r);

/* Forgets expired results, now and then: for the owner's clock.  No waiting. */
void rv__durable_sweep(rv *r);

/* Tasks that wait in the queue, by the last look; -1: not known. */
int64_t rv__durable_waiting(const rv *r);

/* When results of this task expire, counted from now; unix seconds, 0: never. */
int64_t rv__durable_expiry(const rv *r, const rv_task *t);

/* ---- for jobs ---- */

/* Keeps a made item before anybody hears of it: waits for the desk, on the executor's thread.  An
 * item from an earlier attempt replaces *item.  False: it cannot be kept, the job is over. */
bool rv__durable_item(rv_job *j, size_t index, char **item);

/* Keeps a note for whoever runs a stored task next (NULL: forget it); waits for the desk, on the
 * executor's thread. False: it cannot be kept. */
bool rv__durable_note(rv_job *j, const char *text);

/* A picture of a stored task could not be written to the disk: waits a moment and says whether
 * another try makes sense. */
bool rv__durable_try_again(rv_job *j, const rv_error *err);

/* A step of a stored task was shown: processes that share the queue are told, now and then.  Owner's
 * thread. */
void rv__durable_step(rv_job *j);

/* Writes down how a stored task ended.  The job's lock is held. */
void rv__durable_end(rv_job *j);
void rv__durable_ending_free(rv__ending *e);

#endif
