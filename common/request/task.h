/* Checked tasks as the rest of the library sees them.  A task is normalised once (canonical names, defaults filled
 * in, seed chosen) and never changes; executors read it by name. */
#ifndef RV_TASK_H
#define RV_TASK_H

#include "base/json.h"
#include "reverie.h"
#include "request/models.h"

/* The normalised task object; members have exactly the table's names and types.  Borrowed from the task. */
const rv__value *rv__task_value(const rv_task *t);

/* The card of the task's model; lives as long as the context that parsed the task (cards are counted by the batch). */
const rv__model *rv__task_model(const rv_task *t);

const char *rv__task_uuid(const rv_task *t);
const char *rv__task_type(const rv_task *t);
size_t      rv__task_index(const rv_task *t);   /* place in its batch              */
rv_batch   *rv__task_batch(const rv_task *t);   /* borrowed; ref it to keep t alive */
size_t      rv__task_results(const rv_task *t); /* numberResults                    */

/* Seed of picture i: seed + i, wrapping inside the allowed range. */
uint64_t rv__task_seed(const rv_task *t, size_t i);

/* Price of one picture in US dollars by the card's tariff (protocols: steps x per-step price, 4 decimals);
 * negative when the card has none. */
double rv__task_cost(const rv_task *t);

#endif
