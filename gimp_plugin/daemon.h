/* Finding or starting reveried, in the main loop.  A started one belongs to this process: it ends
 * with it, whatever ends it.  Must never disturb a reveried that somebody else started. */
#ifndef GRV_DAEMON_H
#define GRV_DAEMON_H

#include <glib.h>

typedef struct grv_daemon grv_daemon;

/* address is what the library's setting "daemon" takes; error NULL when it answers there. */
typedef void grv_daemon_fn(void *user, const char *address, const GError *error);

grv_daemon *grv_daemon_new(grv_daemon_fn *fn, void *user);
void grv_daemon_free(grv_daemon *d); /* ends what it started */

/* Calls back once, now or later, from the main loop. */
void grv_daemon_want(grv_daemon *d);

const char *grv_daemon_where(const grv_daemon *d); /* for people */

#endif
