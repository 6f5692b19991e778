/* Text states of the prompts used last, so that variations of a picture do not encode their texts
 * again. Must stay below its limit of memory, unless one request alone needs more. */
#ifndef RV_PROMPT_CACHE_H
#define RV_PROMPT_CACHE_H

#include "engine/weighting.h"

typedef struct rv__prompt_cache rv__prompt_cache;

rv__prompt_cache *rv__prompt_cache_new(size_t max_bytes); /* NULL: out of memory */
void rv__prompt_cache_free(rv__prompt_cache *c);
void rv__prompt_cache_clear(rv__prompt_cache *c); /* the encoders are others now */

/* The states of up to two texts (out[i] borrowed until the next call); encodes those that are not
 * known. */
rv_status rv__prompt_cache_get(rv__prompt_cache *c, rv__text *text, const char *const *prompts,
                               size_t count, rv__weighting weighting, size_t sequence,
                               const rv__text_embeds **out, rv__cancel_fn *cancelled, void *user,
                               rv_error *err);

#endif
