/* When to try again: pauses that grow at random, and a breaker per service that stops knocking at a
 * door nobody opens. */
#ifndef RV_RETRY_H
#define RV_RETRY_H

#include <stdbool.h>
#include <stdint.h>

enum { RV__TRIES = 3 };

/* Decorrelated back-off: between base and three times the last pause, at most cap; milliseconds.
 * *state is 0 at first. */
int rv__retry_pause(int *state, int base_ms, int cap_ms);

/* Breakers, by name; any thread.  Five failures in a row open one for a while (10 s, doubled up to
 * 5 minutes); then one attempt goes through, and decides. */
typedef struct rv__breakers rv__breakers;

rv__breakers *rv__breakers_new(void);
void rv__breakers_free(rv__breakers *b);

/* Whether an attempt may be made now; else how long to wait, milliseconds. */
bool rv__breaker_allows(rv__breakers *b, const char *name, int64_t now_ms, int64_t *wait_ms);
void rv__breaker_tell(rv__breakers *b, const char *name, bool success, int64_t now_ms);

#endif
