/* From a picture to its result item: identity, recipe, encoding, storing or base64. */
#ifndef RV_DELIVER_H
#define RV_DELIVER_H

#include "job/executor.h"
#include "job/store.h"

/* Gives the picture its facts and, where delivery->items, makes its result item (out; rv__free;
 * else NULL) by the task's outputType, outputFormat and outputQuality.  store may be NULL.  Runs on
 * the executor's thread; the picture must not be shared yet. */
rv_status rv__deliver(const rv_task *task, size_t index, rv_image *image,
                      const rv__delivery *delivery, rv__store *store, char **item, rv_error *err);

/* What picture `index` of the task was made from, as JSON text (out; rv__free; NULL: out of
 * memory): the normalised task without identity and delivery, with the picture's own seed.  The
 * same for equal pictures. */
char *rv__recipe_of(const rv_task *task, size_t index);

/* Is this member of a task identity, delivery or seed, so that the picture does not depend on it? */
bool rv__recipe_leaves_out(const char *key);

#endif
