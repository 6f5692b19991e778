/* What the files of LoRAs share.  Nobody else includes it. */
#ifndef RV_LORA_INTERNAL_H
#define RV_LORA_INTERNAL_H

#include "lora.h"

#include "base/json.h"
#include "base/memory.h"

#define RV__LORA_NAME_BYTES 1100

/* What the keys said about one module. */
typedef struct rv__lora_found {
    const rv__tensor *tensors[RV__LORA_ROLES];
} rv__lora_found;

typedef struct rv__lora_reader {
    const char *label;
    const rv__lora_modules *modules;            /* one per component */
    rv__lora_found *found[RV__LORA_COMPONENTS]; /* one per module */
    const rv__value *adapter; /* settings that diffusers writes into the metadata, or NULL */
    rv_error *err;
} rv__lora_reader;

rv_status rv__lora_bad(const rv__lora_reader *r, rv_status status, const char *key,
                       const char *why);

/* Whether the tensors of a part belong together and fit the matrix; fills its scale. */
rv_status rv__lora_check(const rv__lora_reader *r, const rv__tensor *module, rv__lora_part *part);

#endif
