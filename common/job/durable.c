/* See durable.h. */
#include "durable.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "job/call.h"
#include "job/courier.h"
#include "job/outbox.h"
#include "job/stored_task.h"

enum {
    ERRANDS_AT_ONCE = 16, /* stored tasks that run at once where others compute them */
    TRIES = 60,           /* seconds a picture waits for room on the disk            */
    PROGRESS_MS = 200, /* between two reports of one task */
    ORDERS_MS = 1000,  /* how often to look for what was cancelled elsewhere, beside rings */
    WITHOUT_MEMORY_MS = 1000, /* until the next claim where there was none to begin a task */
    TEXT_MAX = 1 << 20
};

/* Takes waiting tasks from the queue, one after the other. */
typedef struct claim {
    rv__op op;
    rv *r;
    rv__record record;
    bool gives_back;  /* there was no memory to begin it: it waits again, for somebody who has some */
    int64_t pause_ms; /* on the monotonic clock: nothing is claimed before */
} claim;

/* Forgets what expired and counts what waits. */
typedef struct sweep {
    rv__op op;
    rv *r;
    size_t removed;
    int64_t waiting, running;
} sweep;

/* Ends tasks of ours that were cancelled through another process. */
typedef struct orders {
    rv__op op;
    rv *r;
    char *id;
} orders;

struct rv__claims {
    claim claim;
    sweep sweep;
    orders orders; /* at the desk where the queue is shared */
    bool is_claiming, is_sweeping; /* the op is at the desk */
    atomic_bool paused;
    int64_t waiting;
};

/* ---- how a task ended ---- */

void rv__durable_ending_free(rv__ending *e)
{
    rv__free(e->error);
    rv__free(e->warnings);
    for (size_t i = 0; i < e->post_count; i++)
        rv__post_free(&e->posts[i]);
    *e = (rv__ending){0};
}

static rv_status ending_work(rv__op *op, rv__queue *q, rv_error *err)
{
    rv__ending *e = (rv__ending *)op;
    return q->kind->finish(q, e->job ? e->job->id : e->id, e->state, e->error, e->warnings,
                           e->expiry, e->posts, e->post_count, err);
}

/* A failed task that is not kept leaves no more than its posts. */
static rv_status ending_posts(rv__op *op, rv__queue *q, rv_error *err)
{
    rv__ending *e = (rv__ending *)op;
    return q->kind->post_add(q, e->job->id, e->posts, e->post_count, err);
}

static void job_ending_done(rv__op *op, rv_status status, const rv_error *err)
{
    rv_job_unref(((rv__ending *)op)->job);
}

static char *failure_text(const rv_task *t, const rv_error *err)
{
    rv__buf b;
    rv__buf_init(&b, TEXT_MAX);
    rv__reply_error_json(&b, t, err);
    return rv__buf_take(&b, NULL);
}

int64_t rv__durable_expiry(const rv *r, const rv_task *t)
{
    const rv__value *v = rv__task_value(t);
    bool is_url = strcmp(rv__json_get_string(v, "outputType", "URL"), "URL") == 0;
    int64_t ttl = r->setup.results_ttl;
    if (is_url)
        ttl = rv__json_get_int(v, "ttl", ttl);
    return ttl > 0 ? time(NULL) + ttl : 0;
}

void rv__durable_end(rv_job *j)
{
    rv *r = j->r;
    if (!r->desk || !j->id || atomic_load(&r->closing))
        return;
    if (!j->is_stored && (j->inner != RV_FAILED || !rv__outbox_wanted(j->task)))
        return;
    rv__ending *e = &j->ending;
    e->op.work = j->is_stored ? ending_work : ending_posts;
    e->op.done = job_ending_done;
    atomic_store(&e->op.insists, true);
    e->job = rv_job_ref(j);
    e->state = j->inner == RV_DONE     ? RV__DONE
               : j->inner == RV_FAILED ? RV__FAILED
                                       : RV__STOPPED;
    e->expiry = rv__durable_expiry(r, j->task);
    bool ok = true;
    if (j->inner != RV_DONE) {
        e->error = failure_text(j->task, &j->error);
        if (e->error)
            e->post_count = rv__outbox_of(j->task, j->id, -1, e->error, e->posts, &ok);
    }
    if (j->warning_count) {
        rv__buf b;
        rv__buf_init(&b, TEXT_MAX);
        rv__job_warnings_write(j, false, &b);
        e->warnings = rv__buf_take(&b, NULL);
    }
    rv__desk_post(r->desk, &e->op);
}

/* ---- items ---- */

typedef struct keeping {
    rv__op op;
    rv_job *job;
    size_t index;
    const char *item;
    rv__post posts[RV__POSTS];
    size_t post_count;
} keeping;

static rv_status keeping_work(rv__op *op, rv__queue *q, rv_error *err)
{
    keeping *k = (keeping *)op;
    if (!k->job->is_stored)
        return q->kind->post_add(q, k->job->id, k->posts, k->post_count, err);
    return q->kind->item(q, k->job->id, k->index, k->item, k->posts, k->post_count, err);
}

static bool is_over(void *job)
{
    rv_job *j = job;
    return atomic_load(&j->cancel) || atomic_load(&j->r->closing);
}

bool rv__durable_item(rv_job *j, size_t index, char **item)
{
    bool ok = true;
    if (j->given && j->given[index]) {
        rv__free(*item);
        *item = rv__queue_text(j->given[index], &ok);
        return ok;
    }
    if (!*item)
        return false;
    keeping k = {.op.work = keeping_work, .job = j, .index = index, .item = *item};
    atomic_store(&k.op.insists, true);
    k.post_count = rv__outbox_of(j->task, j->id, (int64_t)index, *item, k.posts, &ok);
    bool is_upload = !j->is_stored && k.post_count &&
                     strcmp(k.posts[k.post_count - 1].kind, "upload") == 0;
    if (is_upload) /* before it is written: it may be over in no time */
        rv__job_uploads(j, index, *item, false);
    rv_status s = ok ? rv__desk_wait(j->r->desk, &k.op, is_over, j, NULL) : RV_MEMORY;
    if (is_upload && s != RV_OK)
        rv__job_uploads(j, index, *item, true);
    for (size_t i = 0; i < k.post_count; i++)
        rv__post_free(&k.posts[i]);
    return s == RV_OK;
}

typedef struct noting {
    rv__op op;
    const rv_job *job;
    const char *text;
} noting;

static rv_status noting_work(rv__op *op, rv__queue *q, rv_error *err)
{
    noting *n = (noting *)op;
    return q->kind->sent(q, n->job->id, n->text, err);
}

bool rv__durable_note(rv_job *j, const char *text)
{
    noting n = {.op.work = noting_work, .op.lasting = text != NULL, .job = j, .text = text};
    return rv__desk_wait(j->r->desk, &n.op, is_over, j, NULL) == RV_OK;
}

bool rv__durable_try_again(rv_job *j, const rv_error *err)
{
    if (!j->is_stored || err->status != RV_IO || is_over(j) || j->tries++ >= TRIES)
        return false;
    for (int i = 0; i < 20 && !is_over(j); i++)
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    return true;
}

/* ---- what other processes are told, and say ---- */

static rv_status progress_work(rv__op *op, rv__queue *q, rv_error *err)
{
    rv__report *p = (rv__report *)op;
    q->kind->progress(q, p->job->id, p->index, p->step, p->steps, NULL);
    return RV_OK;
}

static void progress_done(rv__op *op, rv_status status, const rv_error *err)
{
    rv__report *p = (rv__report *)op;
    p->is_at_desk = false;
    rv_job_unref(p->job);
}

void rv__durable_step(rv_job *j)
{
    rv *r = j->r;
    rv__report *p = &j->report;
    int64_t now = rv__clock_ms();
    bool is_wanted = j->is_stored && r->desk && rv__desk_is_shared(r->desk);
    if (!is_wanted || p->is_at_desk || (p->told_ms && now - p->told_ms < PROGRESS_MS))
        return;
    *p = (rv__report){.op.work = progress_work,
                        .op.done = progress_done,
                        .job = rv_job_ref(j),
                        .index = j->step_index,
                        .step = j->step,
                        .steps = j->steps,
                        .told_ms = now,
                        .is_at_desk = true};
    rv__desk_post(r->desk, &p->op);
}

static rv_status orders_work(rv__op *op, rv__queue *q, rv_error *err)
{
    orders *o = (orders *)op;
    rv__free(o->id);
    rv_status s = q->kind->unwanted(q, &o->id, err);
    return s == RV_OK && !o->id ? RV_TIMEOUT : s;
}

static void orders_done(rv__op *op, rv_status status, const rv_error *err)
{
    orders *o = (orders *)op;
    bool goes_on = status == RV_OK && !atomic_load(&o->r->closing);
    rv_job *j = goes_on ? rv__job_find(o->r, o->id) : NULL;
    if (j)
        rv_job_cancel(j);
    rv__free(o->id);
    o->id = NULL;
    if (goes_on)
        rv__desk_post(o->r->desk, op);
}

/* ---- claims ---- */

static void concluded(rv__op *op, rv_status status, const rv_error *err)
{
    rv__ending *e = (rv__ending *)op;
    rv__free(e->id);
    rv__durable_ending_free(e);
    rv__free(e);
}

/* An end of a task that does not run as a job; false: no memory for it. */
static bool conclude(rv *r, const char *task_id, rv__stored state, char *error, int64_t expiry)
{
    rv__ending *e = rv__calloc(1, sizeof *e);
    char *id = e ? rv__strdup(task_id) : NULL;
    if (!id) {
        rv__free(e);
        rv__free(error);
        return false;
    }
    e->op.work = ending_work;
    e->op.done = concluded;
    atomic_store(&e->op.insists, true);
    e->id = id;
    e->state = state;
    e->error = error;
    e->expiry = expiry;
    rv__desk_post(r->desk, &e->op);
    return true;
}

static bool is_complete(const rv__record *record)
{
    size_t made = 0;
    for (size_t i = 0; i < record->count; i++)
        made += record->items[i] != NULL;
    return made == record->count;
}

/* The error object of a stored task that is no task any more (its model is gone). */
static char *issue_text(const rv_batch *b)
{
    const rv_issue *issue = NULL;
    rv_batch_issues(b, &issue);
    while (issue && issue->message && issue->warning)
        issue++;
    rv__buf text;
    rv__buf_init(&text, TEXT_MAX);
    if (issue && issue->message)
        rv__issue_error_json(&text, b, issue);
    return text.len ? rv__buf_take(&text, NULL) : NULL;
}

static rv_status start(rv *r, rv__record *record, rv_task *t, rv_error *err)
{
    if (record->attempts > r->setup.attempts)
        return rv__fail_code(err, RV_SERVER, "taskFailed", NULL,
                             "the task was begun %d times and never ended", record->attempts - 1);
    rv_status s = rv__context_store(r, err);
    if (s != RV_OK)
        return s;
    rv__delivery how = {
        .items = true,
        .results_url = record->results_url ? record->results_url : r->setup.results_url,
        .ttl = r->setup.results_ttl};
    rv__identity who = {.id = record->id,
                        .is_stored = true,
                        .is_drawn = record->is_drawn,
                        .given = record->items,
                        .sent = record->sent};
    record->id = record->sent = NULL;
    record->items = NULL;
    rv_job *j;
    s = rv__job_submit(r, t, NULL, &how, &who, &j, err);
    if (s == RV_OK) {
        rv__stored_bind(r, j);
        rv_job_unref(j);
    }
    return s;
}

static int64_t expiry_from_now(const rv *r)
{
    return r->setup.results_ttl ? time(NULL) + r->setup.results_ttl : 0;
}

/* Begins a claimed task, or ends it.  False: there is no memory for either. */
static bool run(rv *r, rv__record *record, const char *id)
{
    if (is_complete(record)) /* only its end was not written down */
        return conclude(r, id, RV__DONE, NULL, expiry_from_now(r));
    if (record->is_unwanted) /* whoever ran it did not live to hear of it */
        return conclude(r, id, RV__STOPPED, rv__stored_cancelled(strrchr(id, '/') + 1),
                        expiry_from_now(r));
    rv__check_settings settings = {
        .models = r->models, .max_steps = r->setup.max_steps, .lenient = true};
    rv_batch *b = rv__context_models(r, NULL) == RV_OK
                      ? rv__batch_parse(&settings, record->task, strlen(record->task))
                      : NULL;
    rv_task *t = b ? rv_batch_task(b, 0) : NULL;
    bool ok = b != NULL;
    rv_error err;
    if (t && start(r, record, t, &err) != RV_OK)
        ok = err.status != RV_MEMORY &&
             conclude(r, id, RV__FAILED, failure_text(t, &err), rv__durable_expiry(r, t));
    else if (b && !t)
        ok = conclude(r, id, RV__FAILED, issue_text(b), expiry_from_now(r));
    rv_batch_unref(b);
    return ok;
}

static rv_status claim_work(rv__op *op, rv__queue *q, rv_error *err)
{
    claim *c = (claim *)op;
    if (c->gives_back)
        return q->kind->release(q, c->record.id, err);
    rv__record_free(&c->record);
    int64_t pause = c->pause_ms - rv__clock_ms();
    op->again_ms = pause > 0 ? (int)pause : 0;
    if (pause > 0)
        return RV_TIMEOUT;
    if (atomic_load(&c->r->claims->paused))
        return RV_TIMEOUT;
    rv_status s = q->kind->claim(q, &c->record, err);
    return s == RV_OK && !c->record.id ? RV_TIMEOUT : s;
}

static void claim_more(rv *r);

static void claim_done(rv__op *op, rv_status status, const rv_error *err)
{
    claim *c = (claim *)op;
    rv *r = c->r;
    r->claims->is_claiming = false;
    bool was_back = c->gives_back;
    c->gives_back = false;
    if (status == RV_OK && !was_back && !atomic_load(&r->closing)) {
        char *id = rv__strdup(c->record.id);
        c->gives_back = !id || !run(r, &c->record, id);
        if (!c->record.id)
            c->record.id = id;
        else
            rv__free(id);
    }
    if (c->gives_back) {
        c->pause_ms = rv__clock_ms() + WITHOUT_MEMORY_MS;
        r->claims->is_claiming = true;
        rv__desk_post(r->desk, op);
        return;
    }
    rv__record_free(&c->record);
    if (status == RV_OK)
        claim_more(r);
}

void rv__durable_next(rv *r)
{
    if (r->claims)
        claim_more(r);
}

static size_t capacity(const rv *r)
{
    if (!r->executor->run)
        return ERRANDS_AT_ONCE;
    return r->executor->workers > 1 ? (size_t)r->executor->workers : 1;
}

static void claim_more(rv *r)
{
    struct rv__claims *c = r->claims;
    if (c->is_claiming || atomic_load(&r->closing) || r->stored_count >= capacity(r))
        return;
    c->is_claiming = true;
    rv__desk_post(r->desk, &c->claim.op);
}

/* ---- the clock ---- */

static rv_status sweep_work(rv__op *op, rv__queue *q, rv_error *err)
{
    sweep *s = (sweep *)op;
    rv_status status = q->kind->sweep(q, time(NULL), &s->removed, err);
    return status == RV_OK ? q->kind->counts(q, &s->waiting, &s->running, err) : status;
}

static void sweep_done(rv__op *op, rv_status status, const rv_error *err)
{
    sweep *s = (sweep *)op;
    s->r->claims->is_sweeping = false;
    s->r->claims->waiting = status == RV_OK ? s->waiting : -1;
    if (status == RV_OK && s->removed)
        rv__context_log(s->r, RV_LOG_INFO, "queue: results of %zu tasks expired", s->removed);
}

void rv__durable_sweep(rv *r)
{
    if (!r->desk || r->claims->is_sweeping)
        return;
    r->claims->is_sweeping = true;
    rv__desk_post(r->desk, &r->claims->sweep.op);
}

int64_t rv__durable_waiting(const rv *r)
{
    return r->claims ? r->claims->waiting : -1;
}

/* ---- open and close ---- */

static void on_ready(void *user)
{
    rv__event_notice(user);
}

static rv_status open_desk(rv *r, rv_error *err)
{
    rv__desk_hooks hooks = {on_ready, rv__context_log_hook, r};
    struct rv__claims *c = rv__calloc(1, sizeof *c);
    if (!c)
        return rv__fail(err, RV_MEMORY, "out of memory");
    c->waiting = -1;
    c->claim = (claim){.op.work = claim_work, .op.done = claim_done, .r = r};
    atomic_store(&c->claim.op.insists, true);
    c->claim.op.topic = rv__desk_topic(RV__RING_NEW);
    c->orders = (orders){.op.work = orders_work, .op.done = orders_done, .r = r};
    c->orders.op.topic = rv__desk_topic(RV__RING_CANCEL);
    c->orders.op.again_ms = ORDERS_MS;
    atomic_store(&c->orders.op.insists, true);
    c->sweep = (sweep){.op.work = sweep_work, .op.done = sweep_done, .r = r};
    r->claims = c;
    rv_status s = rv__desk_open(r->setup.store, &hooks, &r->desk, err);
    if (s != RV_OK) {
        r->claims = NULL;
        rv__free(c);
    }
    return s;
}

rv_status rv__durable_open(rv *r, rv_error *err)
{
    if (r->desk || !r->setup.store)
        return RV_OK;
    if (r->setup.daemon)
        return rv__fail_code(err, RV_VALIDATION, "invalidSetting", "store",
                             "the settings store and daemon exclude each other: the daemon keeps "
                             "the tasks that it runs");
    rv_status s = rv__context_begin(r, err);
    if (s == RV_OK)
        s = rv__context_store(r, err); /* pictures by imageUUID lie there */
    if (s == RV_OK)
        s = open_desk(r, err);
    if (s == RV_OK)
        s = rv__courier_open(r, err);
    if (s == RV_OK)
        claim_more(r);
    if (s == RV_OK && rv__desk_is_shared(r->desk))
        rv__desk_post(r->desk, &r->claims->orders.op);
    return s;
}

void rv__durable_pause(rv *r)
{
    if (r->claims)
        atomic_store(&r->claims->paused, true);
}

void rv__durable_more(rv *r)
{
    if (r->claims && r->desk)
        claim_more(r);
}

void rv__durable_close(rv *r)
{
    if (!r->desk)
        return;
    rv__desk_close(r->desk);
    rv__desk_deliver(r->desk);
    rv__desk_free(r->desk);
    r->desk = NULL;
    rv__free(r->claims);
    r->claims = NULL;
}
