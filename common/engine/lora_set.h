/* The LoRAs a pipeline uses now.  Opened once and kept while requests go on asking for them. */
#ifndef RV_LORA_SET_H
#define RV_LORA_SET_H

#include "engine/lora.h"
#include "engine/pipeline.h"
#include "engine/text.h"
#include "engine/transformer.h"

typedef struct rv__lora_set rv__lora_set;

/* Makes the transformer and the text encoders use exactly these.  *set is NULL before the first
 * call and is replaced (rv__lora_set_free, after both are closed or use none).  Entries of one file
 * are added up first; what adds up to 0 is left out.  *texts says whether texts mean something else
 * now. On failure none are used. */
rv_status rv__lora_set_use(rv__lora_set **set, const rv__weights *model, rv__transformer *t,
                           rv__text *text, const rv__lora_use *list, size_t count, bool *texts,
                           rv_error *err);
void rv__lora_set_free(rv__lora_set *set);

#endif
