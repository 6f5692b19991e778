/* What the parts of the window share.  Main thread only. */
#ifndef GRV_WINDOW_INTERNAL_H
#define GRV_WINDOW_INTERNAL_H

#include <gtk/gtk.h>
#include <libgimp/gimp.h>

#include "engine.h"
#include "form.h"
#include "ghost.h"
#include "history.h"
#include "work.h"

enum { GRV_THUMB = 88, GRV_WORKS = 40, GRV_ENTRIES = 60 };

typedef struct grv_window {
    GimpPlugIn *plug_in;
    grv_engine *engine;
    grv_form *form;
    GMainLoop *loop;
    GtkWidget *window, *image_box, *image, *bar, *bar_label;
    GtkWidget *describe, *generate, *stop, *progress, *auto_insert, *on_canvas;
    GtkWidget *preview, *caption, *strip, *compare;
    GtkWidget *insert, *replace, *group, *again, *vary, *more;
    GPtrArray *works;   /* grv_work, oldest first */
    GPtrArray *entries; /* grv_entry, newest first: as in the strip */
    char *image_names;  /* what the list of images shows              */
    grv_ghost *ghost;   /* of shown, on the canvas; NULL: none         */
    grv_work *shown;    /* whose preview is seen; NULL: none runs */
    bool is_closing, is_describing;
    guint describe_source;
} grv_window;

/* ---- window.c ---- */
void grv_window_say(grv_window *w, GtkMessageType kind, const char *text); /* NULL: nothing more */
GimpImage *grv_window_image(grv_window *w);                                /* NULL: a new one    */
void grv_window_update(grv_window *w); /* which buttons can be pressed */

/* ---- window_jobs.c ---- */
void grv_jobs_start(grv_window *w, grv_work *work); /* takes the work */
void grv_jobs_stop(grv_window *w, bool all);
guint grv_jobs_running(const grv_window *w);
void grv_jobs_clear(grv_window *w); /* the canvas, before anything is read from it */
void grv_jobs_close(grv_window *w);

/* ---- window_strip.c ---- */
GtkWidget *grv_strip_new(grv_window *w);
void grv_strip_load(grv_window *w);
void grv_strip_expect(grv_window *w, grv_work *work);            /* places for what will come */
void grv_strip_arrived(grv_window *w, grv_work *work, size_t i); /* one of them has           */
void grv_strip_forget(grv_window *w, grv_work *work);            /* those that will not come   */
void grv_strip_progress(grv_window *w, grv_work *work, size_t i, double fraction);
void grv_strip_select(grv_window *w, guint number); /* 0: the newest               */
GPtrArray *grv_strip_selected(grv_window *w); /* grv_entry, as in the strip (g_ptr_array_unref) */
void grv_strip_show_selected(grv_window *w);

/* Actions on what is selected. */
void grv_strip_insert(grv_window *w, bool as_group);
void grv_strip_replace(grv_window *w);
void grv_strip_again(grv_window *w, bool same_seed);
void grv_strip_use(grv_window *w);
void grv_strip_open(grv_window *w);
void grv_strip_delete(grv_window *w);
/* All results of a finished work. */
void grv_strip_insert_work(grv_window *w, grv_work *work);

#endif
