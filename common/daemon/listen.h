/* The daemon's listening socket, and talking to the service manager.  No library of the service
 * manager is needed. */
#ifndef RV_LISTEN_H
#define RV_LISTEN_H

#include "base/status.h"

typedef struct rv__listener {
    int fd;
    int lock_fd; /* held while this process owns the path; -1 for an inherited socket */
    char *path;  /* removed at the end; NULL for an inherited socket                  */
} rv__listener;

/* The socket handed over by the service manager (LISTEN_FDS), else a Unix socket of mode 0660 at
 * path.  A socket file left by a dead process is replaced, one of a living process is not. */
rv_status rv__listen_open(const char *path, rv__listener *out, rv_error *err);
void rv__listen_close(rv__listener *l);

/* Tells the service manager "READY=1", "STOPPING=1" or "WATCHDOG=1"; does nothing without one. */
void rv__listen_notify(const char *state);

#endif
