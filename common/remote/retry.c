/* See retry.h. */
#include "remote/retry.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/memory.h"

enum { FAILURES = 5, OPEN_MS = 10000, OPEN_MAX_MS = 300000 };

int rv__retry_pause(int *state, int base_ms, int cap_ms)
{
    uint32_t random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        random = (uint32_t)*state * 2654435761u + 1;
    int64_t high = *state ? (int64_t)*state * 3 : base_ms * 3;
    int64_t pause = base_ms + (int64_t)(random % (uint32_t)(high - base_ms + 1));
    *state = pause > cap_ms ? cap_ms : (int)pause;
    return *state;
}

typedef struct breaker {
    struct breaker *next;
    int failures;
    int64_t open_ms;  /* how long it stays open; 0: closed */
    int64_t until_ms; /* when it lets one attempt through  */
    char name[];
} breaker;

struct rv__breakers {
    pthread_mutex_t lock;
    breaker *first;
};

rv__breakers *rv__breakers_new(void)
{
    rv__breakers *b = rv__calloc(1, sizeof *b);
    if (b && pthread_mutex_init(&b->lock, NULL) != 0) {
        rv__free(b);
        return NULL;
    }
    return b;
}

void rv__breakers_free(rv__breakers *b)
{
    if (!b)
        return;
    while (b->first) {
        breaker *one = b->first;
        b->first = one->next;
        rv__free(one);
    }
    pthread_mutex_destroy(&b->lock);
    rv__free(b);
}

static breaker *find(rv__breakers *b, const char *name)
{
    breaker *one = b->first;
    while (one && strcmp(one->name, name) != 0)
        one = one->next;
    return one;
}

bool rv__breaker_allows(rv__breakers *b, const char *name, int64_t now_ms, int64_t *wait_ms)
{
    pthread_mutex_lock(&b->lock);
    breaker *one = find(b, name);
    bool allowed = !one || !one->open_ms || now_ms >= one->until_ms;
    if (!allowed)
        *wait_ms = one->until_ms - now_ms;
    else if (one && one->open_ms)
        one->until_ms = now_ms + one->open_ms; /* the others wait for what this attempt shows */
    pthread_mutex_unlock(&b->lock);
    return allowed;
}

static breaker *add(rv__breakers *b, const char *name)
{
    size_t size = strlen(name) + 1;
    breaker *one = rv__calloc(1, sizeof *one + size);
    if (!one)
        return NULL;
    memcpy(one->name, name, size);
    one->next = b->first;
    b->first = one;
    return one;
}

void rv__breaker_tell(rv__breakers *b, const char *name, bool success, int64_t now_ms)
{
    pthread_mutex_lock(&b->lock);
    breaker *one = find(b, name);
    if (!one && !success)
        one = add(b, name);
    if (one && success) {
        one->failures = 0;
        one->open_ms = 0;
    } else if (one && ++one->failures >= FAILURES) {
        int64_t longer = one->open_ms ? one->open_ms * 2 : OPEN_MS;
        one->open_ms = longer > OPEN_MAX_MS ? OPEN_MAX_MS : longer;
        one->until_ms = now_ms + one->open_ms;
    }
    pthread_mutex_unlock(&b->lock);
}
