/* The rows of the parameter table that people set in GIMP, as the model's schema has them: dialogs
 * and procedure arguments are made from them.  Says only what the schema says. */
#ifndef GRV_PARAMETERS_H
#define GRV_PARAMETERS_H

#include <cjson/cJSON.h>
#include <glib.h>

#include "engine.h"
#include "request.h"

typedef enum grv_kind { GRV_TEXT, GRV_INTEGER, GRV_REAL, GRV_SWITCH, GRV_LIST, GRV_OTHER } grv_kind;

/* One parameter; path is dotted ("safety.mode"), field its part of the schema (borrowed). */
typedef void grv_parameter_fn(void *user, const char *path, grv_kind k, const cJSON *field);

/* Identity, pictures, sizes and delivery are left out: those are made from the image. */
void grv_parameters_each(grv_engine *e, const char *model, grv_action action, grv_parameter_fn *fn,
                         void *user);

/* The object that the last member of a path belongs to, made when it is missing; *last is that
 * member. */
cJSON *grv_parameter_place(cJSON *task, const char *path, const char **last);
const cJSON *grv_parameter_find(const cJSON *task, const char *path);

#endif
