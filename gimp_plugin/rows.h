/* Widgets for parameters: one row for each row of the parameter table that the model has, and for
 * options of this plug-in.  What a new row of the table needs here is nothing. */
#ifndef GRV_ROWS_H
#define GRV_ROWS_H

#include <gtk/gtk.h>

#include "parameters.h"

typedef struct grv_rows grv_rows;

grv_rows *grv_rows_new(void);
void grv_rows_free(grv_rows *r);
GtkWidget *grv_rows_widget(grv_rows *r);

/* Makes the rows of a model anew.  skip: names that have a place elsewhere, NULL-ended. */
void grv_rows_build(grv_rows *r, grv_engine *e, const char *model, const char *const *skip);
/* What differs from the model's defaults goes into the task; what the task has goes into the rows.
 */
void grv_rows_write(const grv_rows *r, cJSON *task);
void grv_rows_load(grv_rows *r, const cJSON *task);

/* A grid with the options of one action, without the named ones; changed is told of each change. */
GtkWidget *grv_rows_options(grv_action action, const char *const *skip, GCallback changed,
                            gpointer user);
void grv_rows_options_write(GtkWidget *options, grv_request *q);
void grv_rows_options_load(GtkWidget *options, const grv_request *q);

/* A label in column 0 and a widget in column 1 that it names. */
void grv_rows_add(GtkWidget *grid, int row, const char *label, GtkWidget *widget, const char *help);
GtkWidget *grv_rows_grid(void);

#endif
