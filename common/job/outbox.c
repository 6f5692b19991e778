/* See outbox.h. */
#include "outbox.h"

#include <time.h>

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void add(rv__post *posts, size_t *n, const rv__post *about, const char *kind,
                const char *target, bool *ok)
{
    if (!target)
        return;
    posts[(*n)++] = (rv__post){.task = rv__queue_text(about->task, ok),
                               .kind = rv__queue_text(kind, ok),
                               .target = rv__queue_text(target, ok),
                               .body = rv__queue_text(about->body, ok),
                               .index = about->index,
                               .due_ms = about->due_ms};
}

size_t rv__outbox_of(const rv_task *task, const char *id, int64_t index, const char *body,
                     rv__post *posts, bool *ok)
{
    const rv__value *v = rv__task_value(task);
    rv__post about = {
        .task = (char *)id, .body = (char *)body, .index = index, .due_ms = now_ms()};
    size_t n = 0;
    *ok = true;
    add(posts, &n, &about, "webhook", rv__json_get_string(v, "webhookURL", NULL), ok);
    if (index >= 0)
        add(posts, &n, &about, "upload", rv__json_get_string(v, "uploadEndpoint", NULL), ok);
    for (; !*ok && n; n--)
        rv__post_free(&posts[n - 1]);
    return n;
}

bool rv__outbox_wanted(const rv_task *task)
{
    const rv__value *v = rv__task_value(task);
    return rv__json_get_string(v, "webhookURL", NULL) ||
           rv__json_get_string(v, "uploadEndpoint", NULL);
}
