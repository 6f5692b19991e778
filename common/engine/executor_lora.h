/* A task's "lora" list for the built-in engine. */
#ifndef RV_EXECUTOR_LORA_H
#define RV_EXECUTOR_LORA_H

#include "engine/pipeline.h"
#include "request/models.h"

/* Makes the pipeline use what the task asks for, and nothing else.  A LoRA's name is looked up in
 * the model's card: "engine": {"loras": {NAME: PATH}}, else NAME.safetensors in its "lora_folder";
 * paths start at the card's folder.  Errors blame lora[N].model or lora[N].transformer. */
rv_status rv__executor_loras(rv__pipeline *p, const rv__value *task, const rv__model *model,
                             rv_error *err);

#endif
