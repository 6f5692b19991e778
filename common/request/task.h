/* Checked tasks as the rest of the library sees them.  A task is normalised once (canonical names, defaults filled
 * in, seed chosen) and never changes; executors read it by name.  Task types: imageInference, getResponse, imageUpload,
 * authentication (apiKey, connectionSessionUUID) and ping. */
#ifndef RV_TASK_H
#define RV_TASK_H

#include "base/json.h"
#include "reverie.h"
#include "request/models.h"

/* What checking depends on besides the text. */
typedef struct rv__check_settings {
    const rv__models *models;      /* borrowed during the call; the batch keeps the cards it needs       */
    int64_t           max_steps;   /* largest accepted step count; 0: RV__MAX_STEPS                      */
    int64_t           max_tasks;   /* most tasks of one body; 0: no limit                                */
    bool              lenient;     /* parameters that nobody knows are warnings instead of errors        */
    bool              strict_uuid; /* task UUIDs must be version 4                                       */
} rv__check_settings;

#define RV__MAX_STEPS 1000 /* the models' training time steps: more cannot differ */

/* Parses and checks a body.  ref (rv_batch_unref); NULL only when out of memory.  Any thread. */
rv_batch *rv__batch_parse(const rv__check_settings *s, const char *json, size_t len);

/* The Runware error object of an issue of this batch: {"code","message","parameter","type","min","max","multiplier",
 * "allowedValues","documentation","taskType","taskUUID"}, each only where it applies; parameter is an array when the
 * issue concerns several. */
void rv__issue_error_json(rv__buf *b, const rv_batch *batch, const rv_issue *issue);

/* Status of an issue, for the HTTP status of a reply: RV_VALIDATION, RV_NOT_FOUND (modelNotFound), RV_AUTH
 * (missingApiKey). */
rv_status rv__issue_status(const rv_issue *issue);

/* The normalised task object; members have exactly the table's names and types.  Borrowed from the task. */
const rv__value *rv__task_value(const rv_task *t);

/* The card of the task's model (NULL for authentication and ping); lives as long as the batch. */
const rv__model *rv__task_model(const rv_task *t);

/* The model as the request named it: an alias or the card's id. */
const char *rv__task_model_sent(const rv_task *t);

const char *rv__task_uuid(const rv_task *t); /* NULL when the type has none     */
const char *rv__task_type(const rv_task *t);
rv_batch   *rv__task_batch(const rv_task *t);   /* borrowed; ref it to keep t alive */
size_t      rv__task_results(const rv_task *t); /* numberResults; 0 when the type makes no pictures */

/* positivePrompt as encoders want it: empty for the token __BLANK__ (no guidance by words). */
const char *rv__task_prompt(const rv_task *t);

/* The steps that may use a cache, [*start, *end), from whichever form the request used. */
void rv__task_cache_steps(const rv_task *t, int64_t *start, int64_t *end);

/* True when the request named no seed and one was drawn. */
bool rv__task_seed_drawn(const rv_task *t);

/* Seed of picture i: seed + i, wrapping inside the allowed range. */
uint64_t rv__task_seed(const rv_task *t, size_t i);

/* Price of one picture in US dollars by the card's tariff, rounded to 4 decimals; negative when the card has none. */
double rv__task_cost(const rv_task *t);

/* The same by another tariff: {"base", "perStep", "perMegapixel"}; negative for NULL. */
double rv__task_price(const rv_task *t, const rv__value *price);

/* What rv_schema_json and rv_models_json return (out; rv__free). */
char *rv__schema_json(const rv__models *m, const char *model);
char *rv__models_json(const rv__models *m);

#endif
