/* The left side of the window: what is asked for.  Knows the image by its number only; reads no
 * pixels. */
#ifndef GRV_FORM_H
#define GRV_FORM_H

#include <gtk/gtk.h>
#include <libgimp/gimp.h>

#include "engine.h"
#include "request.h"

typedef struct grv_form grv_form;

/* changed: something that matters for the description of what will happen. */
grv_form *grv_form_new(grv_engine *e, void (*changed)(void *user), void *user);
void grv_form_free(grv_form *f);
GtkWidget *grv_form_widget(grv_form *f);

grv_request *grv_form_request(grv_form *f);            /* (grv_request_free) */
void grv_form_load(grv_form *f, const grv_request *q); /* all of it          */
void grv_form_set_action(grv_form *f, grv_action a);
grv_action grv_form_action(const grv_form *f);
void grv_form_focus(grv_form *f); /* into the prompt */

/* After a request was sent: remembers its prompts, and draws another seed unless it is locked. */
void grv_form_sent(grv_form *f);
void grv_form_prompt_back(grv_form *f, int by); /* through earlier prompts: -1 older, 1 newer */
void grv_form_dice(grv_form *f);

void grv_form_save(grv_form *f); /* the state, for the next time */

#endif
