/* From the threads that run tasks to the owner thread: jobs with news stand in a row, one
 * descriptor is readable while the row is not empty, and rv_dispatch tells the news.  Nothing is
 * allocated on this way, so no event can be lost; steps that were not told yet are overwritten by
 * newer ones. */
#include <errno.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "context.h"
#include "durable.h"

enum { EVENTS_PER_DISPATCH = 64 };

int rv__event_fd(rv *r)
{
    pthread_mutex_lock(&r->lock);
    if (r->fd < 0) {
        r->fd = eventfd(r->ready.first || r->notices ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
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

void rv__event_notice(rv *r)
{
    pthread_mutex_lock(&r->lock);
    if (!r->notices) {
        r->notices = true;
        wake(r);
    }
    pthread_mutex_unlock(&r->lock);
}

void rv__event_home(rv *r, rv__op *op)
{
    pthread_mutex_lock(&r->lock);
    op->next = r->home;
    r->home = op;
    if (!r->notices) {
        r->notices = true;
        wake(r);
    }
    pthread_mutex_unlock(&r->lock);
}

void rv__event_bring_home(rv *r)
{
    rv__op *row = NULL, *next;
    pthread_mutex_lock(&r->lock);
    for (rv__op *op = r->home; op; op = next) { /* oldest first */
        next = op->next;
        op->next = row;
        row = op;
    }
    r->home = NULL;
    pthread_mutex_unlock(&r->lock);
    for (; row; row = next) {
        next = row->next;
        row->done(row, RV_OK, NULL);
    }
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
    if (!r->ready.first && !r->notices)
        drain(r);
    pthread_mutex_unlock(&r->lock);
    return j;
}

static void show(rv_job *j, const rv_event *e)
{
    j->is_told = true;
    if (e->kind == RV_EVENT_STARTED) {
        j->shown = RV_RUNNING;
    } else if (e->kind == RV_EVENT_STEP) {
        j->step_index = e->index;
        j->step = e->step;
        j->steps = e->steps;
        rv__durable_step(j);
    } else if (e->kind == RV_EVENT_IMAGE) {
        j->shown_images[e->index] = true;
    } else if (e->kind == RV_EVENT_END) {
        j->shown = j->inner; /* final, no lock needed any more */
    }
}

static void tell_watches(rv_job *j, const rv_event *e)
{
    rv__cursor at = {j->watches, j->cursors};
    j->cursors = &at;
    while (at.next) {
        rv__watch *w = at.next;
        at.next = w->next;
        if (!w->is_fresh)
            w->event(w->user, j, e);
    }
    j->cursors = at.outer;
}

/* Makes the event visible in the job, then tells it. */
static void tell(rv *r, rv_job *j, const rv_event *e)
{
    show(j, e);
    rv_job_ref(j);
    if (e->kind == RV_EVENT_END)
        rv__job_forget(j);
    if (e->kind == RV_EVENT_END && j->is_stored)
        rv__durable_next(r);
    r->depth++;
    if (j->sink.event)
        j->sink.event(j->sink.user, j, e);
    tell_watches(j, e);
    r->depth--;
    rv_image_unref(e->preview);
    rv_job_unref(j);
}

/* ---- watches ---- */

void rv__watch_begin(rv__watch *w, rv_job *j)
{
    rv *r = j->r;
    w->job = rv_job_ref(j);
    w->next = j->watches;
    j->watches = w;
    w->is_fresh = true;
    w->fresh_next = r->fresh;
    r->fresh = w;
    rv__event_notice(r);
}

void rv__watch_end(rv__watch *w)
{
    rv_job *j = w->job;
    if (!j)
        return;
    for (rv__cursor *c = j->cursors; c; c = c->outer)
        c->next = c->next == w ? w->next : c->next;
    for (rv__watch **at = &j->watches; *at; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            break;
        }
    }
    for (rv__watch **at = &j->r->fresh; w->is_fresh && *at; at = &(*at)->fresh_next) {
        if (*at == w) {
            *at = w->fresh_next;
            break;
        }
    }
    w->job = NULL;
    rv_job_unref(j);
}

/* What happened so far, up to now; the watch may end in any of its callbacks. */
static void tell_past(rv__watch *w)
{
    rv_job *j = rv_job_ref(w->job);
    rv__cursor self = {w, j->cursors}; /* self.next leaves w as soon as w ends */
    rv_event e = {.kind = RV_EVENT_QUEUED, .position = j->position};
    j->cursors = &self;
    if (j->is_told)
        w->event(w->user, j, &e);
    e = (rv_event){.kind = RV_EVENT_STARTED};
    if (self.next == w && j->shown >= RV_RUNNING)
        w->event(w->user, j, &e);
    for (size_t i = 0; self.next == w && i < j->count; i++) {
        e = (rv_event){.kind = RV_EVENT_IMAGE, .index = i};
        if (j->shown_images[i])
            w->event(w->user, j, &e);
    }
    e = (rv_event){.kind = RV_EVENT_END};
    if (self.next == w && j->shown >= RV_DONE)
        w->event(w->user, j, &e);
    j->cursors = self.outer;
    rv_job_unref(j);
}

/* What the desk and fresh watches have to tell. */
static void tell_notices(rv *r)
{
    pthread_mutex_lock(&r->lock);
    bool any = r->notices;
    r->notices = false;
    pthread_mutex_unlock(&r->lock);
    if (!any)
        return;
    r->depth++;
    rv__event_bring_home(r);
    if (r->desk)
        rv__desk_deliver(r->desk);
    while (r->fresh) {
        rv__watch *w = r->fresh;
        r->fresh = w->fresh_next;
        w->is_fresh = false;
        tell_past(w);
    }
    r->depth--;
}

static int count_live(const rv *r)
{
    return (int)(r->live_count + r->errands);
}

int rv_dispatch(rv *r)
{
    if (!rv__context_is_owner(r)) {
        rv__context_misuse(r, "rv_dispatch on another thread");
        return count_live(r);
    }
    tell_notices(r);
    for (int i = 0; i < EVENTS_PER_DISPATCH; i++) {
        rv_event e;
        rv_job *j = next(r, &e);
        if (!j)
            break;
        tell(r, j, &e);
    }
    return count_live(r);
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
    while (!r->ready.first && !r->notices && rc != ETIMEDOUT) {
        if (ms < 0)
            pthread_cond_wait(&r->posted, &r->lock);
        else
            rc = pthread_cond_timedwait(&r->posted, &r->lock, deadline);
    }
    bool ready = r->ready.first || r->notices;
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
