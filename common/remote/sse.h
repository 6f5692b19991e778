/* Server-sent events as they arrive in pieces (the text/event-stream format), with caps. */
#ifndef RV_SSE_H
#define RV_SSE_H

#include "base/memory.h"

/* name is "message" when the stream names none; data is NUL-terminated.  False stops the feeding.
 */
typedef bool rv__sse_fn(void *user, const char *name, const char *data, size_t len);

typedef struct rv__sse {
    rv__buf line, data;
    char name[32];
    bool has_data, after_cr;
} rv__sse;

void rv__sse_init(rv__sse *s, size_t max_event); /* bytes of one event */
void rv__sse_free(rv__sse *s);

/* False when the callback said so, an event is too long, or memory is out. */
bool rv__sse_feed(rv__sse *s, const char *bytes, size_t len, rv__sse_fn *event, void *user);

#endif
