/* Settings that people change: where pictures are made, the key for it, what is remembered; and the
 * help page. */
#ifndef GRV_SETTINGS_DIALOG_H
#define GRV_SETTINGS_DIALOG_H

#include <gtk/gtk.h>
#include <stdbool.h>

bool grv_settings_dialog(GtkWindow *parent); /* true: another engine is wanted */
void grv_settings_help(GtkWindow *parent);

#endif
