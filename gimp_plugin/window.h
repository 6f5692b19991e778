/* The window that stays.  One per GIMP: a second call raises the first one through a temporary
 * procedure. */
#ifndef GRV_WINDOW_H
#define GRV_WINDOW_H

#include <libgimp/gimp.h>
#include <stdbool.h>

/* Commands: "show", "fill" and "again" with what is set, "vary", "info" of the image's selected
 * layer. */

/* Hands the command to a window that is open; false when there is none. */
bool grv_window_forward(const char *command, GimpImage *image);

/* Opens the window and runs until it is closed; false with error when it cannot be opened. */
bool grv_window_run(GimpPlugIn *plug_in, const char *command, GimpImage *image, GError **error);

#endif
