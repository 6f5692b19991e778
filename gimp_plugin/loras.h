/* LoRAs of the form: rows of a name, chosen from what the model's card tells or typed, and a
 * strength. */
#ifndef GRV_LORAS_H
#define GRV_LORAS_H

#include <cjson/cJSON.h>
#include <gtk/gtk.h>

#include "engine.h"

typedef struct grv_loras grv_loras;

grv_loras *grv_loras_new(grv_engine *e);
void grv_loras_free(grv_loras *l);
GtkWidget *grv_loras_widget(grv_loras *l); /* an expander */

void grv_loras_set_model(grv_loras *l, const char *model); /* whose LoRAs are offered */
void grv_loras_write(grv_loras *l, cJSON *task);           /* the member "lora", when there is one */
void grv_loras_load(grv_loras *l, const cJSON *task);

#endif
