/* Results that have come, kept in files of the user so that nothing that was waited for is lost: a
 * PNG and its recipe each, below $XDG_DATA_HOME/reverie/history.  Files are written on a thread of
 * their own. */
#ifndef GRV_HISTORY_H
#define GRV_HISTORY_H

#include "work.h"

typedef struct grv_entry {
    char *name;        /* of its files, without folder and ending */
    char *recipe;      /* JSON text                               */
    rv_image *picture; /* at its exact size; NULL: not read yet  */
    grv_work *work;    /* borrowed; NULL: from an earlier session */
    size_t index;      /* in work                                 */
    int layer;         /* last made from it; 0: none              */
} grv_entry;

/* Result i of a work, on its way to disk (out: grv_entry_free); NULL when it cannot be read. */
grv_entry *grv_history_add(grv_work *w, size_t i);

/* The newest ones of earlier sessions, newest first (g_ptr_array_unref frees the entries too). */
GPtrArray *grv_history_load(guint most);

/* Its picture, read when needed (borrowed); NULL when the file is gone or damaged. */
rv_image *grv_entry_picture(grv_entry *e);
/* The same by the name of its files, in any thread (rv_image_unref). */
rv_image *grv_history_read(const char *name);

void grv_entry_free(void *entry);
void grv_entry_delete(grv_entry *e); /* its files; the entry stays */

/* Waits until everything is on disk. */
void grv_history_close(void);

#endif
