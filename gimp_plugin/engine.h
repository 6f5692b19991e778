/* Where pictures are made: a reveried that runs already, one started for this process, or a server
 * by address. One library context per process, watched from GLib's main loop.  Must never block the
 * loop and never leave a process behind. */
#ifndef GRV_ENGINE_H
#define GRV_ENGINE_H

#include <glib.h>
#include <stdbool.h>

#include "geometry.h"
#include "reverie.h"

typedef struct grv_engine grv_engine;

/* Opens the context with the model cards that are found, and its place in the main loop (out:
 * grv_engine_free). Starts nothing.  previews: events bring small pictures. */
grv_engine *grv_engine_new(bool previews, GError **error);
void grv_engine_free(grv_engine *e);

/* For reading models and checking requests; submit only inside the callback of grv_engine_ready. */
rv *grv_engine_context(grv_engine *e);

/* Calls back from the main loop, never from inside, as soon as tasks can be sent; error NULL when
 * they can.  The error is the callback's to read, not to keep. */
typedef void grv_ready_fn(void *user, const GError *error);
void grv_engine_ready(grv_engine *e, grv_ready_fn *fn, void *user);
void grv_engine_forget(grv_engine *e, void *user); /* its callbacks do not come any more */

/* "reveried of this plug-in", "unix:/run/…": for people. */
const char *grv_engine_where(const grv_engine *e);

/* AIR id of the model that is used when a request names none (borrowed). */
const char *grv_engine_model(grv_engine *e);

/* What a model can make; false when it is not known.  takes_pictures: whether it starts from a
 * picture. */
bool grv_engine_limits(grv_engine *e, const char *model, grv_limits *out, bool *takes_pictures);

/* The sentences of all errors of a batch (g_free). */
char *grv_engine_issues(const rv_batch *b);

/* Ends this process as soon as GIMP's ends: GIMP tells nobody when it is killed. */
void grv_engine_die_with_parent(void);

#endif
