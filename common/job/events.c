/* From the threads that run tasks to the owner thread: jobs with news stand in a row, one
 * descriptor is readable while the row is not empty, and rv_dispatch tells the news.  Nothing is
 * allocated on this way, so no event can be lost; steps that were not told yet are overwritten by
 * newer ones. */
#include <errno.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "context.h"

enum { EVENTS_PER_DISPATCH = 64 };

int rv__event_fd(rv *r)
{
    pthread_mutex_lock(&r->lock);
    if (r->fd < 0) {
        r->fd = eventfd(r->ready.first ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    int fd = r->fd;
    pthread_mutex_unlock(&r->lock);
    return fd;
}

static void wake(rv *r)
{
    pthread_cond_broadcast(&r->posted);
    if (r->fd < 0)
        return;
    uint64_t one = 1;
    while (write(r->fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

static void drain(rv *r)
{
    uint64_t count;
    if (r->fd >= 0) {
        while (read(r->fd, &count, sizeof count) < 0 && errno == EINTR)
            continue;
    }
}

static void append(rv *r, rv_job *j)
{
    j->is_ready = true;
    j->ready_next = NULL;
    if (r->ready.last)
        r->ready.last->ready_next = j;
    else
        r->ready.first = j;
    r->ready.last = j;
}

void rv__event_post(rv_job *j)
{
    rv *r = j->r;
    if (j->is_ready)
        return;
    bool was_empty = !r->ready.first;
    append(r, j);
    if (was_empty)
        wake(r);
}

static bool has_news(const rv__news *n)
{
    return n->queued || n->started || n->step || n->told < n->images || n->end;
}

/* Takes the oldest news out of the job.  A step of picture i is told before picture i and after
 * those before it. */
static rv_event take(rv_job *j)
{
    rv__news *n = &j->news;
    rv_event e = {0};
    bool has_image = n->told < n->images;
    if (n->queued) {
        n->queued = false;
        e.kind = RV_EVENT_QUEUED;
        e.position = j->position;
    } else if (n->started) {
        n->started = false;
        e.kind = RV_EVENT_STARTED;
    } else if (n->step && !(has_image && j->order[n->told] < n->step_index)) {
        n->step = false;
        e = (rv_event){.kind = RV_EVENT_STEP,
                       .index = n->step_index,
                       .step = n->step_now,
                       .steps = n->step_count,
                       .preview = n->preview};
        n->preview = NULL;
    } else if (has_image) {
        e.kind = RV_EVENT_IMAGE;
        e.index = j->order[n->told++];
    } else {
        n->end = false;
        e.kind = RV_EVENT_END;
    }
    return e;
}

/* The next event of all jobs; jobs take turns.  NULL when there is none. */
static rv_job *next(rv *r, rv_event *e)
{
    pthread_mutex_lock(&r->lock);
    rv_job *j = r->ready.first;
    if (j) {
        r->ready.first = j->ready_next;
        if (!r->ready.first)
            r->ready.last = NULL;
        j->is_ready = false;
        *e = take(j);
        if (e->kind == RV_EVENT_END)
            j->shown_error = j->error;
        if (has_news(&j->news))
            append(r, j);
    }
    if (!r->ready.first)
        drain(r);
    pthread_mutex_unlock(&r->lock);
    return j;
}

/* Makes the event visible in the job, then tells it. */
static void tell(rv *r, rv_job *j, const rv_event *e)
{
    if (e->kind == RV_EVENT_STARTED)
        j->shown = RV_RUNNING;
    else if (e->kind == RV_EVENT_IMAGE)
        j->shown_images[e->index] = true;
    else if (e->kind == RV_EVENT_END)
        j->shown = j->inner; /* final, no lock needed any more */
    rv_job_ref(j);
    if (e->kind == RV_EVENT_END)
        rv__job_forget(j);
    if (j->sink.event) {
        r->depth++;
        j->sink.event(j->sink.user, j, e);
        r->depth--;
    }
    rv_image_unref(e->preview);
    rv_job_unref(j);
}

int rv_dispatch(rv *r)
{
    if (!rv__context_is_owner(r)) {
        rv__context_misuse(r, "rv_dispatch on another thread");
        return (int)r->live_count;
    }
    for (int i = 0; i < EVENTS_PER_DISPATCH; i++) {
        rv_event e;
        rv_job *j = next(r, &e);
        if (!j)
            break;
        tell(r, j, &e);
    }
    return (int)r->live_count;
}

static struct timespec deadline_in(int ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

/* Waits until an event is ready; false when the deadline passed before.  ms < 0: no deadline. */
static bool wait_for_news(rv *r, int ms, const struct timespec *deadline)
{
    int rc = 0;
    pthread_mutex_lock(&r->lock);
    while (!r->ready.first && rc != ETIMEDOUT) {
        if (ms < 0)
            pthread_cond_wait(&r->posted, &r->lock);
        else
            rc = pthread_cond_timedwait(&r->posted, &r->lock, deadline);
    }
    bool ready = r->ready.first != NULL;
    pthread_mutex_unlock(&r->lock);
    return ready;
}

rv_status rv_wait(rv *r, rv_job *j, int ms)
{
    if (r->depth || j->r != r || !rv__context_is_owner(r)) {
        rv__context_misuse(r, "rv_wait inside a callback, on another thread, or for a foreign job");
        return RV_MISUSE;
    }
    struct timespec deadline = deadline_in(ms < 0 ? 0 : ms);
    while (j->is_live) {
        if (!wait_for_news(r, ms, &deadline))
            return RV_TIMEOUT;
        rv_dispatch(r);
    }
    return RV_OK;
}
