/* What was being painted when the process ended: GIMP ends plug-ins without a word, so that only
 * the next one can say what happened. */
#ifndef GRV_UNFINISHED_H
#define GRV_UNFINISHED_H

#include <glib.h>

void grv_unfinished_set(guint count); /* pictures of this process that are on their way */
guint grv_unfinished_take(void);      /* those of processes that are no more; told once */

#endif
