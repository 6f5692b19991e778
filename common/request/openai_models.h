/* Models and schemas in the OpenAI protocol. */
#ifndef RV_OPENAI_MODELS_H
#define RV_OPENAI_MODELS_H

#include "models.h"

/* What rv_openai_models and rv_openai_model return (out; rv__free). */
char *rv__openai_models(const rv__models *models);
char *rv__openai_model(const rv__models *models, const char *id, const char *schema);

#endif
