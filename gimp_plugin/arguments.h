/* Arguments of procedures, made from the parameter table and from the options of this plug-in; and
 * back into a request.  Must never take a key: GIMP writes arguments into files. */
#ifndef GRV_ARGUMENTS_H
#define GRV_ARGUMENTS_H

#include <libgimp/gimp.h>

#include "engine.h"
#include "request.h"

/* "negativePrompt" -> "negative-prompt" (g_free). */
char *grv_argument_name(const char *member);

/* Adds what this action takes. */
void grv_arguments_add(GimpProcedure *procedure, grv_engine *e, grv_action action);

/* The request that the arguments make (grv_request_free); NULL with error. */
grv_request *grv_arguments_read(GimpProcedureConfig *config, grv_engine *e, grv_action action,
                                GError **error);

#endif
