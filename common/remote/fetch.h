/* Fetches a file whose URL came with a request: through the guard, a few redirects at most (each of
 * them judged like the first), with limits on time and size.  Knows nothing of what is in the
 * file. */
#ifndef RV_FETCH_H
#define RV_FETCH_H

#include <stdint.h>

#include "base/memory.h"
#include "remote/io.h"

typedef struct rv__fetch_limits {
    int64_t timeout_ms; /* for all of it, redirects included */
    size_t bytes;
} rv__fetch_limits;

typedef struct rv__fetch_events {
    /* Exactly once, on the I/O thread.  RV_OK: file holds the bytes and is taken (rv__buf_take,
     * rv__buf_free).  RV_VALIDATION: too many bytes, or a status that is no success.  RV_CONNECTION
     * with RV__ADDRESS_REFUSED where the guard said no.  RV_CANCELLED, RV_MEMORY, and for the rest
     * RV_CONNECTION or RV_TIMEOUT. */
    void (*done)(void *user, rv_status status, rv__buf *file, const rv_error *err);
    bool (*cancelled)(void *user); /* any time, on the I/O thread */
} rv__fetch_events;

/* Begins; texts are copied, guard and events must live until done was called.  On RV_OK done
 * follows, never from inside.  Any thread. */
rv_status rv__fetch_start(rv__io *io, const rv__guard *guard, const char *url,
                          const rv__fetch_limits *limits, const rv__fetch_events *events, void *user,
                          rv_error *err);

#endif
