/* One budget of memory for a model whose parts work in turn: text encoders, transformer,
 * autoencoder.  Weights lie in mapped files, so a part that rests gives its pages back and is read
 * again when it is needed.  Must never let a picture begin that cannot end within the budget. */
#ifndef RV_MEMORY_PLAN_H
#define RV_MEMORY_PLAN_H

#include "engine/weights.h"

/* Gives back the mapped pages of the parts whose names begin with this. */
void rv__memory_rest(const rv__weights *w, const char *prefix);

/* Stored bytes of the parts whose names begin with this. */
double rv__memory_weights(const rv__weights *w, const char *prefix);

/* Does a transformer with such activations fit for a picture of this size, `elsewhere` bytes of its
 * weights being on other machines?  limit: bytes, 0: any.
 * RV_VALIDATION names the nearest size of the same shape that does (sides are multiples of step),
 * or says that none does. */
rv_status rv__memory_check(const rv__weights *w, double elsewhere, double activations,
                           double limit, int64_t width, int64_t height, int64_t step, rv_error *err);

#endif
