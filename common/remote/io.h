/* HTTP transfers for everything that waits for another machine: one thread with one curl multi
 * handle per context. What a service says is not known here (see the files of the services). */
#ifndef RV_IO_H
#define RV_IO_H

#include "base/status.h"
#include "remote/guard.h"

typedef struct rv__io rv__io;

/* The code of transfers that the guard refused: for logs and counters, not for callers, who must not
 * learn what is behind a name. */
#define RV__ADDRESS_REFUSED "addressRefused"
#define RV__ANSWER_TOO_LARGE "answerTooLarge"

/* The code of transfers that failed before one byte of the request left: a repeat cannot do the same
 * thing twice. */
#define RV__NEVER_SENT "neverSent"

/* What the owner of a transfer is told, always on the I/O thread. */
typedef struct rv__io_events {
    /* Bytes of the answer's body as they arrive; http_status is the answer's.  False ends the
     * transfer. */
    bool (*data)(void *user, int http_status, const char *bytes, size_t len);
    /* The transfer is over, told exactly once: RV_OK when the whole answer arrived (whatever its
     * HTTP status), RV_CONNECTION, RV_TIMEOUT, RV_CANCELLED, RV_PROVIDER (data said false),
     * RV_MEMORY.  err says more; http_status is 0 when no answer began, err->retry_after_ms is what
     * a Retry-After header asked for. */
    void (*done)(void *user, rv_status status, int http_status, const rv_error *err);
    /* True once the transfer is not wanted any more. */
    bool (*cancelled)(void *user);
    /* The answer sends us elsewhere (absolute URL); told before done.  Redirects are never followed
     * here.  NULL: not wanted. */
    void (*redirect)(void *user, const char *url);
    /* The request goes out now; false: it must not, and ends as RV_IO, never sent.  May wait for the
     * disk.  NULL: nothing to do. */
    bool (*begins)(void *user);
} rv__io_events;

typedef struct rv__io_request {
    const char *url;
    const char *unix_path;      /* connect there instead; may be NULL                          */
    const char *const *headers; /* "Name: value", NULL-ended; may be NULL                      */
    char *body;                 /* POST when not NULL; taken (rv__free), also on failure       */
    size_t body_len;
    bool is_put;                /* PUT instead of POST                                         */
    bool is_delete;             /* DELETE, without a body                                      */
    bool is_outside;            /* a service in the network: proxies of the environment count, HTTP/2
                                   where it is offered                                         */
    bool is_once;               /* must not be sent twice: on a connection of its own, because curl
                                   repeats by itself what an old one may have swallowed         */
    const char *ca_file;        /* certificates to trust instead of the system's; may be NULL  */
    int delay_ms;               /* begins so much later                                        */
    const rv__guard *guard;     /* set when the URL came with a request: unix_path is not
                                   looked at; borrowed, must live as long as the transfer.  A
                                   refused URL or address ends as RV_CONNECTION with the code
                                   RV__ADDRESS_REFUSED                                         */
    int64_t max_bytes; /* of the answer: more ends it as RV_PROVIDER with the code
                          RV__ANSWER_TOO_LARGE; 0: no limit                                  */
    int connect_ms; /* 0: 10 seconds                                               */
    int silence_s;  /* longest time without a byte of progress; 0: no limit        */
    int total_ms;   /* 0: no limit                                                 */
} rv__io_request;

/* Starts the thread. */
rv_status rv__io_open(rv__io **out, rv_error *err);

/* Queues a transfer; texts are copied.  On RV_OK events->done follows, never from inside this call.
 * Any thread. events must live as long as the transfer. */
rv_status rv__io_start(rv__io *io, const rv__io_request *request, const rv__io_events *events,
                       void *user, rv_error *err);

/* Makes the thread look for cancelled transfers now.  Any thread; does not block. */
void rv__io_wake(rv__io *io);

/* Transfers that have not ended.  Any thread. */
int rv__io_load(rv__io *io);

/* Ends all transfers as cancelled, then the thread.  Not from the I/O thread. */
void rv__io_close(rv__io *io);

#endif
