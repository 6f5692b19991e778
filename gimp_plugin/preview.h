/* The large picture of the window: a result, or the rough one while it is made, over a
 * checkerboard; beside the one before, with a border that the mouse and the arrow keys move. */
#ifndef GRV_PREVIEW_H
#define GRV_PREVIEW_H

#include <gtk/gtk.h>

#include "reverie.h"

GtkWidget *grv_preview_new(void);

/* Takes references; NULL clears.  before: shown left of the border when comparing. */
void grv_preview_set(GtkWidget *preview, GdkPixbuf *picture, GdkPixbuf *before);
void grv_preview_compare(GtkWidget *preview, gboolean on);
void grv_preview_hint(GtkWidget *preview, const char *text); /* while there is no picture */

/* Copies of pixels (out: g_object_unref). */
GdkPixbuf *grv_pixbuf_from_image(rv_image *i);
GdkPixbuf *grv_pixbuf_from_rgb(const unsigned char *px, int width, int height);
GdkPixbuf *grv_pixbuf_thumbnail(GdkPixbuf *p, int side);

#endif
