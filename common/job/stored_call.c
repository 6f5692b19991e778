/* See stored_call.h. */
#include "stored_call.h"

#include <string.h>
#include <time.h>

#include "job/durable.h"
#include "job/response.h"

enum {
    ANSWER_TTL_S = 600,   /* how long an answer that is not by URL is kept for repeats */
    ANSWER_MAX = 16 << 20 /* bytes of it                                               */
};

/* An operation on the desk for one slot. */
typedef struct errand {
    rv__op op;
    rv *r;
    rv__slot *slot;
    rv__record record; /* what is asked for      */
    rv__record found;  /* what is there          */
    rv__verdict verdict;
    rv_error refused; /* status RV_OK: it was not */
} errand;

static void errand_free(errand *e)
{
    rv__record_free(&e->record);
    rv__record_free(&e->found);
    rv__free(e);
}

static rv_status no_memory(rv_error *err)
{
    return rv__fail(err, RV_MEMORY, "out of memory");
}

static bool fill_record(rv *r, const rv__slot *slot, const rv_task *t, rv__record *record)
{
    const char *task = rv_task_json(t, NULL);
    bool ok = task;
    *record = (rv__record){.id = rv__queue_id(slot->call->owner, rv__task_uuid(t)),
                           .task = rv__queue_text(task, &ok),
                           .is_drawn = rv__task_seed_drawn(t),
                           .count = rv__task_results(t),
                           .results_url = rv__queue_text(slot->call->results_url, &ok),
                           .created = time(NULL)};
    return ok && record->id;
}

/* Sends an errand to the desk; the slot waits for it. */
static void ask(rv *r, rv__slot *slot, const rv_task *t,
                 rv_status (*work)(rv__op *, rv__queue *, rv_error *),
                 void (*done)(rv__op *, rv_status, const rv_error *), bool lasting)
{
    errand *e = rv__calloc(1, sizeof *e);
    if (!e || !fill_record(r, slot, t, &e->record)) {
        if (e)
            errand_free(e);
        no_memory(&slot->error);
        return;
    }
    e->op.work = work;
    e->op.done = done;
    e->op.lasting = lasting;
    e->r = r;
    e->slot = slot;
    slot->is_waiting = true;
    slot->call->pending++;
    slot->call->errands++;
    r->errands++;
    rv__desk_post(r->desk, &e->op);
}

/* An errand came home.  False: nobody waits for it any more, and it is gone. */
static bool come_home(errand *e, rv_status status, const rv_error *err)
{
    rv_call *c = e->slot->call;
    e->r->errands--;
    c->errands--;
    if (e->r->closed || c->freed) {
        errand_free(e);
        rv__call_release(c);
        return false;
    }
    e->slot->is_waiting = false;
    if (status != RV_OK)
        e->slot->error = *err;
    else if (e->refused.status != RV_OK)
        e->slot->error = e->refused;
    return true;
}

static void leave(errand *e)
{
    rv__slot *slot = e->slot;
    errand_free(e);
    rv__call_slot_ended(slot);
}

static void conflict(rv__slot *slot)
{
    rv__fail_code(&slot->error, RV_VALIDATION, "conflictTaskUUID", "taskUUID",
                  "another task of this taskUUID is known; give each task a taskUUID of its own");
}

/* ---- asynchronous tasks ---- */

static rv_status submit_work(rv__op *op, rv__queue *q, rv_error *err)
{
    errand *e = (errand *)op;
    rv__error_clear(&e->refused);
    rv_status s = q->kind->submit(q, &e->record, e->r->setup.backlog, &e->verdict, &e->refused);
    int64_t wait = s == RV_RATE_LIMIT ? rv__job_wait_ms(e->r, (size_t)e->r->setup.backlog) : -1;
    if (wait >= 0)
        e->refused.retry_after_ms = wait;
    if (s == RV_RATE_LIMIT || s == RV_BUSY)
        return RV_OK; /* a refusal changes nothing and is no failure of the queue */
    if (s != RV_OK && err)
        *err = e->refused;
    return s;
}

static void submit_done(rv__op *op, rv_status status, const rv_error *err)
{
    errand *e = (errand *)op;
    rv__slot *slot = e->slot;
    if (!come_home(e, status, err))
        return;
    if (slot->error.status == RV_OK && e->verdict == RV__OTHER)
        conflict(slot);
    else if (slot->error.status == RV_OK)
        slot->item = rv__format("{\"taskType\":\"imageInference\",\"taskUUID\":\"%s\"}",
                                rv__task_uuid(slot->task));
    if (slot->error.status == RV_OK && !slot->item)
        no_memory(&slot->error);
    leave(e);
}

/* ---- synchronous tasks ---- */

static rv_status find_work(rv__op *op, rv__queue *q, rv_error *err)
{
    errand *e = (errand *)op;
    rv__record_free(&e->found);
    return q->kind->find(q, e->record.id, &e->found, err);
}

/* All items of a record, joined as the reply has them. */
static char *join_items(const rv__record *r)
{
    rv__buf b;
    rv__buf_init(&b, SIZE_MAX / 4);
    for (size_t i = 0; i < r->count; i++) {
        rv__buf_adds(&b, i ? "," : "");
        rv__buf_adds(&b, r->items[i] ? r->items[i] : "");
    }
    return rv__buf_take(&b, NULL);
}

/* The same task runs already: its events and its result are ours too. */
static void join(rv__slot *slot, rv_job *twin, const rv__record *wanted)
{
    rv__record running = {.task = (char *)rv_task_json(twin->task, NULL),
                          .is_drawn = rv__task_seed_drawn(twin->task)};
    bool same;
    if (!running.task || rv__record_same(wanted, &running, &same) != RV_OK)
        no_memory(&slot->error);
    else if (!same)
        conflict(slot);
    else
        rv__call_watch(slot, twin);
}

/* What is known says how the task goes on.  The job of a slot ends it, everything else does here. */
static void find_done(rv__op *op, rv_status status, const rv_error *err)
{
    errand *e = (errand *)op;
    rv__slot *slot = e->slot;
    if (!come_home(e, status, err))
        return;
    const rv__record *known = &e->found;
    bool is_live = known->id && known->state != RV__EXPIRED;
    bool is_same = false;
    if (slot->error.status == RV_OK && is_live &&
        rv__record_same(&e->record, known, &is_same) != RV_OK)
        no_memory(&slot->error);
    rv_job *twin = rv__job_find(e->r, e->record.id);
    if (slot->error.status != RV_OK) {
        leave(e);
        return;
    }
    if (is_live && !known->is_answer && !is_same) {
        conflict(slot);
    } else if (is_same && known->state == RV__DONE) {
        slot->item = join_items(known);
        if (!slot->item)
            no_memory(&slot->error);
    } else if (twin) {
        join(slot, twin, &e->record);
    } else {
        char *id = e->record.id;
        e->record.id = NULL;
        rv__call_submit(e->r, slot, slot->task, id);
    }
    if (slot->job) { /* the job's end is the slot's end: the errand no longer counts */
        slot->call->pending--;
        errand_free(e);
        return;
    }
    leave(e);
}

void rv__stored_begin(rv *r, rv__slot *slot, rv_task *t)
{
    const rv__value *v = rv__task_value(t);
    bool is_async = strcmp(rv__json_get_string(v, "deliveryMethod", "sync"), "async") == 0;
    char *id = rv__queue_id(slot->call->owner, rv__task_uuid(t));
    rv_job *twin = id ? rv__job_find(r, id) : NULL;
    rv__free(id);
    if (is_async && twin && !twin->is_stored)
        conflict(slot);
    else if (is_async)
        ask(r, slot, t, submit_work, submit_done, true);
    else
        ask(r, slot, t, find_work, find_done, false);
}

/* ---- answers for repeats ---- */

static rv_status keep_work(rv__op *op, rv__queue *q, rv_error *err)
{
    return q->kind->keep_answer(q, &((errand *)op)->record, err);
}

static void keep_done(rv__op *op, rv_status status, const rv_error *err)
{
    errand_free((errand *)op);
}

/* Copies the items of an ended job; false: out of memory, or more than is worth keeping. */
static bool copy_items(const rv_job *j, rv__record *record)
{
    size_t size = 0;
    bool ok = true;
    record->items = rv__calloc(record->count, sizeof *record->items);
    for (size_t i = 0; record->items && i < record->count && ok; i++) {
        const char *item = rv__job_item(j, i);
        size += item ? strlen(item) : 0;
        ok = item && size <= ANSWER_MAX;
        record->items[i] = ok ? rv__queue_text(item, &ok) : NULL;
    }
    return ok && record->items;
}

void rv__stored_keep(rv *r, const rv__slot *slot)
{
    const rv_task *t = slot->task;
    errand *e = rv__calloc(1, sizeof *e);
    if (!e || !fill_record(r, slot, t, &e->record) || !copy_items(slot->job, &e->record)) {
        if (e)
            errand_free(e);
        return;
    }
    bool is_url =
        strcmp(rv__json_get_string(rv__task_value(t), "outputType", "URL"), "URL") == 0;
    e->record.expiry = is_url ? rv__durable_expiry(r, t) : time(NULL) + ANSWER_TTL_S;
    e->op.work = keep_work;
    e->op.done = keep_done;
    rv__desk_post(r->desk, &e->op);
}

/* ---- getResponse ---- */

static void response_done(rv__op *op, rv_status status, const rv_error *err)
{
    errand *e = (errand *)op;
    rv__slot *slot = e->slot;
    if (!come_home(e, status, err))
        return;
    if (slot->error.status == RV_OK)
        rv__response_write(&e->found, rv__job_find(e->r, e->record.id), &slot->item, &slot->errors,
                           &slot->error);
    slot->has_no_result = slot->errors && !rv__response_has_result(&e->found);
    leave(e);
}

void rv__stored_response(rv *r, rv__slot *slot, rv_task *t)
{
    ask(r, slot, t, find_work, response_done, false);
}
