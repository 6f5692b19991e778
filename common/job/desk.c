/* See desk.h.  Nothing here knows what the operations mean. */
#include "desk.h"

#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "job/threads.h"

enum { RINGS = 64, /* that are told apart until the desk has looked */
       BATCH = 64, AGAIN_MS = 1000, NAP_MS = 100, LOG_EVERY_MS = 60000, IDLE_MS = 86400000,
       SHARED_MS = 100 /* how often to look for what other processes brought */ };

typedef struct row {
    rv__op *first, *last;
} row;

struct rv__desk {
    rv__queue *queue;
    rv__desk_hooks hooks;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;  /* something was handed in, or stop */
    pthread_cond_t ended; /* an op that is waited for ended   */
    row in, out;
    uint64_t rung[RINGS]; /* topics that other processes rang for */
    size_t rung_count;
    bool has_rung; /* for anything */
    row parked; /* ops that wait for their time; the desk's thread only */
    bool stop;
    int64_t logged_ms; /* likewise */
};

static void add(row *r, rv__op *op)
{
    op->next = NULL;
    if (r->last)
        r->last->next = op;
    else
        r->first = op;
    r->last = op;
}

static rv__op *take(row *r)
{
    rv__op *op = r->first;
    if (op) {
        r->first = op->next;
        if (!r->first)
            r->last = NULL;
    }
    return op;
}

/* ---- the desk's thread ---- */

uint64_t rv__desk_topic(const char *text)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (const char *p = text; *p; p++)
        h = (h ^ (unsigned char)*p) * UINT64_C(1099511628211);
    return h ? h : 1;
}

/* On a thread of the queue's. */
static void on_ring(void *user, const char *topic)
{
    rv__desk *d = user;
    pthread_mutex_lock(&d->lock);
    if (topic && d->rung_count < RINGS)
        d->rung[d->rung_count++] = rv__desk_topic(topic);
    else
        d->has_rung = true;
    pthread_cond_signal(&d->work);
    pthread_mutex_unlock(&d->lock);
}

static bool is_called(const rv__desk *d, const rv__op *op)
{
    bool found = d->has_rung;
    for (size_t i = 0; i < d->rung_count && !found; i++)
        found = d->rung[i] == op->topic;
    return op->topic && found;
}

/* Parked ops whose time has come go back to the row; how long until the next one's, -1: none. */
static int64_t unpark(rv__desk *d, int64_t now)
{
    row left = {0};
    int64_t soonest = -1;
    for (rv__op *op = take(&d->parked); op; op = take(&d->parked)) {
        bool is_idle = op->status == RV_TIMEOUT;
        bool is_poked = d->queue->poked && (!op->again_ms || op->heeds_pokes);
        int64_t in = op->not_before_ms - now;
        if (d->stop || (is_idle && (is_poked || is_called(d, op))) || in <= 0) {
            add(&d->in, op);
            continue;
        }
        soonest = soonest < 0 || in < soonest ? in : soonest;
        add(&left, op);
    }
    d->parked = left;
    d->queue->poked = d->has_rung = false;
    d->rung_count = 0;
    return soonest;
}

static void wait_ms(rv__desk *d, int64_t ms)
{
    if (ms < 0) {
        pthread_cond_wait(&d->work, &d->lock);
        return;
    }
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&d->work, &d->lock, &t);
}

/* The next ops to do, in order; none and *stop: the desk closes. */
static size_t next_batch(rv__desk *d, rv__op *batch[BATCH], bool *stop)
{
    size_t n = 0;
    int64_t beat = d->queue->kind->tick ? d->queue->kind->tick(d->queue) : -1;
    pthread_mutex_lock(&d->lock);
    for (;;) {
        int64_t in = unpark(d, rv__clock_ms());
        if (d->in.first || d->stop)
            break;
        wait_ms(d, beat >= 0 && (in < 0 || beat < in) ? beat : in);
        if (beat >= 0)
            break; /* the queue's own clock must be looked at */
    }
    while (n < BATCH && d->in.first)
        batch[n++] = take(&d->in);
    *stop = d->stop;
    pthread_mutex_unlock(&d->lock);
    return n;
}

/* Does ops as one transaction; a failure undoes all of them. */
static rv_status attempt(rv__desk *d, rv__op **ops, size_t n, rv_error *err)
{
    rv__queue *q = d->queue;
    bool lasting = false;
    for (size_t i = 0; i < n; i++)
        lasting |= ops[i]->lasting;
    rv__error_clear(err);
    rv_status status = q->kind->begin(q, lasting, err);
    for (size_t i = 0; status == RV_OK && i < n; i++) {
        ops[i]->status = ops[i]->work(ops[i], q, err);
        if (ops[i]->status != RV_TIMEOUT)
            status = ops[i]->status;
    }
    if (status == RV_OK)
        status = q->kind->commit(q, err);
    if (status != RV_OK)
        q->kind->rollback(q);
    return status;
}

static void tell_trouble(rv__desk *d, const rv_error *err)
{
    int64_t now = rv__clock_ms();
    if (d->logged_ms && now - d->logged_ms < LOG_EVERY_MS)
        return;
    d->logged_ms = now;
    d->hooks.log(d->hooks.user, RV_LOG_ERROR, err->message);
}

static void end(rv__desk *d, rv__op *op)
{
    bool is_waited = op->is_waited;
    pthread_mutex_lock(&d->lock);
    op->has_ended = true;
    if (is_waited) /* from here on it belongs to the thread that waits */
        pthread_cond_broadcast(&d->ended);
    else
        add(&d->out, op);
    pthread_mutex_unlock(&d->lock);
    if (!is_waited)
        d->hooks.ready(d->hooks.user);
}

/* An op after its attempt: over, or parked. */
static void settle(rv__desk *d, rv__op *op, rv_status status, const rv_error *err, bool closing)
{
    bool is_idle = status == RV_OK && op->status == RV_TIMEOUT;
    bool is_again = status != RV_OK && op->insists;
    if (!closing && (is_idle || is_again)) {
        op->status = is_idle ? RV_TIMEOUT : status;
        int again_ms = op->again_ms                 ? op->again_ms
                       : d->queue->kind->is_shared ? SHARED_MS
                                                   : IDLE_MS;
        op->not_before_ms = rv__clock_ms() + (is_idle ? again_ms : AGAIN_MS);
        add(&d->parked, op);
        return;
    }
    op->status = is_idle ? RV_CANCELLED : status;
    if (status != RV_OK)
        op->error = *err;
    else
        rv__error_clear(&op->error);
    end(d, op);
}

/* What failed in company is tried alone: one bad op must not spoil the others. */
static void do_batch(rv__desk *d, rv__op **ops, size_t n, bool closing)
{
    rv_error err;
    rv_status status = attempt(d, ops, n, &err);
    if (status == RV_OK || n == 1) {
        if (status != RV_OK)
            tell_trouble(d, &err);
        for (size_t i = 0; i < n; i++)
            settle(d, ops[i], status, &err, closing);
        return;
    }
    for (size_t i = 0; i < n; i++)
        do_batch(d, &ops[i], 1, closing);
}

static void *run(void *arg)
{
    rv__desk *d = arg;
    rv__thread_prepare("reverie-desk");
    rv__op *batch[BATCH];
    bool stop = false;
    for (size_t n = next_batch(d, batch, &stop); n || !stop; n = next_batch(d, batch, &stop)) {
        if (n)
            do_batch(d, batch, n, stop);
    }
    return NULL;
}

/* ---- everybody else ---- */

static bool init_locks(rv__desk *d)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0)
        return false;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    bool ok = pthread_mutex_init(&d->lock, NULL) == 0 && pthread_cond_init(&d->work, &attr) == 0 &&
              pthread_cond_init(&d->ended, &attr) == 0;
    pthread_condattr_destroy(&attr);
    return ok;
}

rv_status rv__desk_open(const char *where, const rv__desk_hooks *hooks, rv__desk **out,
                        rv_error *err)
{
    *out = NULL;
    rv__desk *d = rv__calloc(1, sizeof *d);
    if (!d || !init_locks(d)) {
        rv__free(d);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    d->hooks = *hooks;
    rv_status status = rv__queue_open(where, &d->queue, err);
    if (status == RV_OK && d->queue->kind->listen)
        status = d->queue->kind->listen(d->queue, on_ring, d, err);
    if (status == RV_OK && rv__thread_start(&d->thread, run, d) != 0)
        status = rv__fail(err, RV_MEMORY, "no thread can be started");
    if (status == RV_OK)
        *out = d;
    else
        rv__desk_free(d);
    return status;
}

void rv__desk_free(rv__desk *d)
{
    if (!d)
        return;
    rv__queue_close(d->queue);
    pthread_cond_destroy(&d->ended);
    pthread_cond_destroy(&d->work);
    pthread_mutex_destroy(&d->lock);
    rv__free(d);
}

void rv__desk_close(rv__desk *d)
{
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_signal(&d->work);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
}

bool rv__desk_is_shared(const rv__desk *d)
{
    return d->queue->kind->is_shared;
}

static void hand_in(rv__desk *d, rv__op *op, bool is_waited)
{
    op->is_waited = is_waited;
    op->has_ended = false;
    op->status = RV_OK;
    pthread_mutex_lock(&d->lock);
    add(&d->in, op);
    pthread_cond_signal(&d->work);
    pthread_mutex_unlock(&d->lock);
}

void rv__desk_post(rv__desk *d, rv__op *op)
{
    hand_in(d, op, false);
}

static void wait_end(rv__desk *d, rv__op *op, bool (*given_up)(void *user), void *user)
{
    pthread_mutex_lock(&d->lock);
    while (!op->has_ended) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += NAP_MS * 1000000L;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        if (given_up && given_up(user))
            op->insists = false;
        pthread_cond_timedwait(&d->ended, &d->lock, &t);
    }
    pthread_mutex_unlock(&d->lock);
}

rv_status rv__desk_wait(rv__desk *d, rv__op *op, bool (*given_up)(void *user), void *user,
                        rv_error *err)
{
    hand_in(d, op, true);
    wait_end(d, op, given_up, user);
    if (op->status != RV_OK && err)
        *err = op->error;
    return op->status;
}

size_t rv__desk_deliver(rv__desk *d)
{
    pthread_mutex_lock(&d->lock);
    row ended = d->out;
    d->out = (row){0};
    pthread_mutex_unlock(&d->lock);
    size_t n = 0;
    for (rv__op *op = take(&ended); op; op = take(&ended), n++)
        op->done(op, op->status, &op->error);
    return n;
}
