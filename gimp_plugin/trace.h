/* What happens when, as lines of a file that $REVERIE_TRACE names: for benchmarks and tests that
 * drive the window. Says no prompts and no keys; does nothing without that variable. */
#ifndef GRV_TRACE_H
#define GRV_TRACE_H

#include <glib.h>

void grv_trace(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* A line for each new longest gap of the main loop; with $REVERIE_TRACE_ANSWERS also how long GIMP
 * takes to answer. */
void grv_trace_watch_loop(void);

#endif
