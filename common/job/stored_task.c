/* See stored_task.h.  A task that runs here is watched through its job; one that waits, or runs in
 * another process, is looked at again and again. */
#include "stored_task.h"

#include <string.h>

#include "job/durable.h"
#include "job/response.h"

enum { LOOK_AGAIN_MS = 500 };

typedef struct rv__errand {
    rv__op op;
    rv *r;
    rv__slot *slot;
    char *id;
    struct rv__errand *next; /* in r->awaited */

    /* Events. */
    rv__record found;
    bool was_told; /* how it stood at the first look                               */
    rv__told told; /* the owner's while this is at home, the desk's while it is not */
    bool is_bound; /* a job tells the rest */
    atomic_bool given_up;

    /* Cancelling. */
    char *error;
    int64_t expiry;
    rv__stored was;
} errand;

static void errand_free(errand *e)
{
    rv__record_free(&e->found);
    rv__free(e->id);
    rv__free(e->error);
    rv__free(e);
}

static errand *errand_new(rv *r, rv__slot *slot, const rv_task *t)
{
    errand *e = rv__calloc(1, sizeof *e);
    char *id = e ? rv__queue_id(slot->call->owner, rv__task_uuid(t)) : NULL;
    if (!id) {
        rv__free(e);
        rv__fail(&slot->error, RV_MEMORY, "out of memory");
        return NULL;
    }
    e->r = r;
    e->slot = slot;
    e->id = id;
    atomic_init(&e->given_up, false);
    return e;
}

static void post(errand *e)
{
    e->slot->is_waiting = true;
    e->slot->call->pending++;
    e->slot->call->errands++;
    e->r->errands++;
    rv__desk_post(e->r->desk, &e->op);
}

/* False: nobody waits for it any more, and it is gone. */
static bool come_home(errand *e, rv_status status, const rv_error *err)
{
    rv_call *c = e->slot->call;
    e->r->errands--;
    c->errands--;
    e->slot->errand = NULL;
    if (e->r->closed || c->freed) {
        errand_free(e);
        rv__call_release(c);
        return false;
    }
    e->slot->is_waiting = false;
    if (status != RV_OK)
        e->slot->error = *err;
    return true;
}

/* ---- events ---- */

static void tell(rv_call *c, const char *text, size_t len)
{
    if (!text || !c->options.text)
        return;
    c->depth++;
    c->options.text(c->options.user, c, text, len);
    c->depth--;
}

static void on_event(void *user, rv_job *job, const rv_event *event)
{
    rv__slot *slot = user;
    rv_call *c = slot->call;
    rv_event e = *event;
    size_t len = 0;
    if (!c->options.previews)
        e.preview = NULL;
    char *text = rv_event_stream(job, &e, &len);
    tell(c, text, len);
    rv_free(text);
    if (c->freed) {
        rv__call_release(c);
        return;
    }
    if (e.kind != RV_EVENT_END)
        return;
    rv__response_of_job(job, &slot->item, &slot->errors, &slot->error);
    slot->has_no_result = slot->errors && !rv__job_item(job, 0);
    rv__call_slot_ended(slot);
}

/* The reply is made from the answer, not from the job. */
static void watch(rv__slot *slot, rv_job *j)
{
    slot->watch.event = on_event;
    slot->watch.user = slot;
    slot->call->pending++;
    rv__watch_begin(&slot->watch, j);
}

static void leave_awaited(rv *r, const errand *e)
{
    for (errand **at = &r->awaited; *at; at = &(*at)->next) {
        if (*at == e) {
            *at = e->next;
            return;
        }
    }
}

static rv_status look_work(rv__op *op, rv__queue *q, rv_error *err)
{
    errand *e = (errand *)op;
    rv__record_free(&e->found);
    if (atomic_load(&e->given_up))
        return RV_OK;
    rv_status s = q->kind->find(q, e->id, &e->found, err);
    bool is_open = e->found.id && e->found.state <= RV__RUNNING;
    bool is_old = e->was_told && !rv__response_has_news(&e->found, &e->told);
    return s == RV_OK && is_open && is_old ? RV_TIMEOUT : s;
}

static void look_done(rv__op *op, rv_status status, const rv_error *err);

/* The task waits, or runs elsewhere: it is looked at now and then, and when its queue rings for it. */
static void look_again(errand *e)
{
    e->op.again_ms = LOOK_AGAIN_MS;
    e->was_told = true;
    e->slot->errand = e;
    e->next = e->r->awaited;
    e->r->awaited = e;
    post(e);
}

static void tell_record(errand *e)
{
    size_t len = 0;
    char *text = rv__response_stream(&e->found, &e->told, &len);
    tell(e->slot->call, text, len);
    rv__free(text);
}

static void look_done(rv__op *op, rv_status status, const rv_error *err)
{
    errand *e = (errand *)op;
    rv__slot *slot = e->slot;
    rv_call *c = slot->call;
    leave_awaited(e->r, e);
    if (!come_home(e, status, err))
        return;
    if (e->is_bound) { /* the job's end is the slot's */
        errand_free(e);
        return;
    }
    c->pending--;
    rv_job *j = slot->error.status == RV_OK ? rv__job_find(e->r, e->id) : NULL;
    if (j) {
        watch(slot, j);
        errand_free(e);
        return;
    }
    if (slot->error.status == RV_OK)
        tell_record(e);
    bool is_open = e->found.id && e->found.state <= RV__RUNNING;
    if (!c->freed && is_open && slot->error.status == RV_OK) {
        look_again(e);
        return;
    }
    if (!c->freed && slot->error.status == RV_OK) {
        rv__response_write(&e->found, NULL, &slot->item, &slot->errors, &slot->error);
        slot->has_no_result = slot->errors && !rv__response_has_result(&e->found);
    }
    errand_free(e);
    if (c->freed) {
        rv__call_release(c);
        return;
    }
    c->pending++;
    rv__call_slot_ended(slot);
}

static void give_up(rv *r, rv__slot *slot)
{
    errand *e = slot->errand;
    atomic_store(&e->given_up, true);
}

void rv__stored_events(rv *r, rv__slot *slot, rv_task *t)
{
    errand *e = errand_new(r, slot, t);
    rv_job *j = e ? rv__job_find(r, e->id) : NULL;
    if (j) {
        watch(slot, j);
        errand_free(e);
    } else if (e) {
        e->op.work = look_work;
        e->op.done = look_done;
        e->op.topic = rv__desk_topic(e->id);
        slot->errand = e;
        slot->give_up = give_up;
        post(e);
    }
}

void rv__stored_bind(rv *r, rv_job *j)
{
    for (errand *e = r->awaited; e; e = e->next) {
        if (e->is_bound || e->slot->call->freed || strcmp(e->id, j->id) != 0)
            continue;
        e->is_bound = true;
        atomic_store(&e->given_up, true);
        watch(e->slot, j);
        e->slot->call->pending--;
    }
}

/* ---- cancelling ---- */

static char *answer_text(const rv_task *t, bool is_cancelled)
{
    return rv__format("{\"taskType\":\"imageInference\",\"taskUUID\":\"%s\",\"cancelled\":%s}",
                      rv__task_uuid(t), is_cancelled ? "true" : "false");
}

char *rv__stored_cancelled(const char *task_uuid)
{
    return rv__format("{\"code\":\"taskCancelled\",\"message\":\"the task was cancelled\","
                      "\"taskType\":\"imageInference\",\"taskUUID\":\"%s\"}",
                      task_uuid);
}

static rv_status cancel_work(rv__op *op, rv__queue *q, rv_error *err)
{
    errand *e = (errand *)op;
    return q->kind->cancel(q, e->id, e->error, e->expiry, &e->was, err);
}

static void answer_cancel(rv__slot *slot, bool is_known, bool is_cancelled)
{
    if (!is_known)
        rv__fail_code(&slot->error, RV_NOT_FOUND, "taskNotFound", "taskUUID",
                      "no task of this taskUUID is known");
    else
        slot->item = answer_text(slot->task, is_cancelled);
    if (is_known && !slot->item)
        rv__fail(&slot->error, RV_MEMORY, "out of memory");
}

static void cancel_done(rv__op *op, rv_status status, const rv_error *err)
{
    errand *e = (errand *)op;
    rv__slot *slot = e->slot;
    if (!come_home(e, status, err))
        return;
    rv_job *j = e->was == RV__RUNNING ? rv__job_find(e->r, e->id) : NULL;
    if (j) /* it began meanwhile */
        rv_job_cancel(j);
    bool is_asked = e->was == RV__RUNNING && rv__desk_is_shared(e->r->desk);
    if (slot->error.status == RV_OK)
        answer_cancel(slot, e->was != RV__EXPIRED, e->was == RV__WAITING || j || is_asked);
    errand_free(e);
    rv__call_slot_ended(slot);
}

void rv__stored_cancel(rv *r, rv__slot *slot, rv_task *t)
{
    errand *e = errand_new(r, slot, t);
    rv_job *j = e ? rv__job_find(r, e->id) : NULL;
    if (!e)
        return;
    if (j) {
        rv_job_cancel(j);
        answer_cancel(slot, true, true);
        errand_free(e);
        return;
    }
    e->error = rv__stored_cancelled(rv__task_uuid(t));
    e->expiry = r->setup.results_ttl ? rv__durable_expiry(r, t) : 0;
    e->op.work = cancel_work;
    e->op.done = cancel_done;
    post(e);
}
