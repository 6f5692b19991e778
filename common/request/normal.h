/* The normalised form of a checked task: canonical names and words in the table's order, defaults filled in. */
#ifndef RV_NORMAL_H
#define RV_NORMAL_H

#include "values.h"

/* model: the card's id instead of the name that was sent (NULL: as sent); seed: used when the task has none.  out
 * (rv__json_free; it borrows the names of the rows); NULL when out of memory. */
rv__value *rv__normal_task(const rv__node *task, const char *model, uint64_t seed);

#endif
