/* What is kept of an errand while it is out, so that a process that takes over after a crash neither
 * pays again nor gives up what was paid: the service, the names it gave, and whether a request was
 * out whose answer nobody saw. */
#ifndef RV_MEMO_H
#define RV_MEMO_H

#include "job/executor.h"

typedef struct rv__memo {
    rv__port *port;           /* borrowed                                                      */
    const char *service, *url; /* borrowed                                                     */
    rv__value *earlier;       /* of the process before; NULL: nothing                          */
    const rv__value *next_id; /* of those that it got                                          */
    rv__buf ids;              /* names that the service gave, as a JSON list without brackets  */
    bool is_open;             /* a request for money is out, or was when the process died      */
    bool is_kept;             /* there is a note now                                           */
} rv__memo;

/* service and url must live as long as the memo.  RV_MEMORY only. */
rv_status rv__memo_open(rv__memo *m, rv__port *port, const char *service, const char *url,
                        rv_error *err);
void rv__memo_close(rv__memo *m);

/* The next name that the process before got for a part of this task; NULL: no more. */
const char *rv__memo_next(rv__memo *m);

/* A request for money goes out now: false when that cannot be kept, and it must not go.  Waits for
 * the disk, as do the others. */
bool rv__memo_send(rv__memo *m);
/* The service took it under this name. */
void rv__memo_take(rv__memo *m, const char *id);
/* Nothing came of it, and nothing is owed. */
void rv__memo_drop(rv__memo *m);

/* Whether a note was made by an errand to this service at this address. */
bool rv__memo_is_about(const char *note, const char *service, const char *url);

#endif
