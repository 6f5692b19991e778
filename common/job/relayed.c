/* See relayed.h.  Bytes arrive on the executor's thread, wait under the context's lock, and are read
 * on the owner's. */
#include "relayed.h"

#include <string.h>

#include "recent.h"

enum { ANSWER_MAX = 512 << 20, STREAM_MAX = 96 << 20 /* bytes that wait for the owner */ };

typedef struct relayed {
    rv__relay relay; /* first */
    rv__op op;       /* brings it home */
    rv *r;
    rv__slot *slot; /* owner's thread; the call stays until has_ended came home */
    char *about, *results_url, *owner;
    atomic_bool cancel;

    /* Guarded by r->lock. */
    rv__buf arrived;
    bool is_posted, has_ended;
    rv_status status;
    int http;
    rv_error error;

    rv__buf text; /* owner's thread: an answer, or the part of a stream that is no event yet */
    bool is_stream;
} relayed;

static void relayed_free(relayed *e)
{
    rv__buf_free(&e->arrived);
    rv__buf_free(&e->text);
    rv__free(e->about);
    rv__free(e->results_url);
    rv__free(e->owner);
    rv__free(e);
}

/* ---- the executor's thread ---- */

static relayed *of(rv__relay *relay)
{
    return (relayed *)relay;
}

static bool on_data(rv__relay *relay, int http, const char *bytes, size_t len)
{
    relayed *e = of(relay);
    pthread_mutex_lock(&e->r->lock);
    e->http = http;
    rv__buf_add(&e->arrived, bytes, len);
    bool ok = !e->arrived.failed, must_post = e->is_stream && !e->is_posted;
    e->is_posted |= must_post;
    pthread_mutex_unlock(&e->r->lock);
    if (must_post)
        rv__event_home(e->r, &e->op);
    return ok;
}

static void on_end(rv__relay *relay, rv_status status, int http, const rv_error *err)
{
    relayed *e = of(relay);
    pthread_mutex_lock(&e->r->lock);
    e->has_ended = true;
    e->status = status;
    e->http = http;
    e->error = *err;
    bool must_post = !e->is_posted;
    e->is_posted = true;
    pthread_mutex_unlock(&e->r->lock);
    if (must_post)
        rv__event_home(e->r, &e->op);
}

static bool on_cancelled(rv__relay *relay)
{
    return atomic_load_explicit(&of(relay)->cancel, memory_order_relaxed);
}

/* ---- the owner's thread ---- */

static char *join(const rv__value *list)
{
    rv__buf b;
    rv__buf_init(&b, ANSWER_MAX);
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v)) {
        rv__buf_adds(&b, b.len ? "," : "");
        rv__json_write_value(&b, v);
    }
    return b.len || b.failed ? rv__buf_take(&b, NULL) : NULL;
}

static bool has_success(const rv__value *data)
{
    for (const rv__value *v = rv__json_first(data); v; v = rv__json_next(v)) {
        if (strcmp(rv__json_get_string(v, "status", "success"), "error") != 0)
            return true;
    }
    return false;
}

/* An answer in the form of the protocol becomes the slot's. */
static void read_answer(rv__slot *slot, int http, const rv__value *v)
{
    const rv__value *data = rv__json_get(v, "data"), *errors = rv__json_get(v, "errors");
    if (http == 200 && rv__json_first(data)) {
        slot->item = join(data);
        slot->errors = join(errors);
        slot->has_no_result = slot->errors && !has_success(data);
        if (!slot->item || (rv__json_first(errors) && !slot->errors))
            rv__fail(&slot->error, RV_MEMORY, "out of memory");
    } else if (rv__json_first(errors)) {
        rv__daemon_error(http == 200 ? 500 : http, v, &slot->error);
    } else {
        rv__fail(&slot->error, RV_PROVIDER, "the server answered with HTTP status %d", http);
    }
}

static void read_text(rv__slot *slot, int http, const char *text, size_t len)
{
    rv__value *v = len ? rv__json_parse(text, len, NULL) : NULL;
    read_answer(slot, http, v);
    rv__json_free(v);
}

/* The last event of a stream: {"status":…,"body":{…}}. */
static void read_reply(rv__slot *slot, const char *event, size_t len)
{
    static const char mark[] = "data: ";
    const char *data = memmem(event, len, mark, sizeof mark - 1);
    size_t skip = data ? (size_t)(data - event) + sizeof mark - 1 : len;
    rv__value *v = data ? rv__json_parse(event + skip, len - skip, NULL) : NULL;
    read_answer(slot, (int)rv__json_get_int(v, "status", 500), rv__json_get(v, "body"));
    slot->error.retry_after_ms = rv__json_get_int(v, "retryAfter", slot->error.retry_after_ms);
    slot->is_waiting = false;
    rv__json_free(v);
}

/* Hands out whole events.  False: the call was given up in its callback. */
static bool tell_events(relayed *e)
{
    static const char reply[] = "event: reply\n";
    rv_call *c = e->slot->call;
    size_t at = 0;
    while (at < e->text.len && e->slot->is_waiting) {
        const char *from = e->text.data + at;
        const char *end = memmem(from, e->text.len - at, "\n\n", 2);
        if (!end)
            break;
        size_t len = (size_t)(end - from) + 2;
        at += len;
        if (strncmp(from, reply, sizeof reply - 1) == 0) {
            read_reply(e->slot, from, len);
        } else if (*from != ':' && c->options.text) {
            c->depth++;
            c->options.text(c->options.user, c, from, len);
            c->depth--;
        }
        if (c->freed)
            return false;
    }
    memmove(e->text.data, e->text.data + at, e->text.len - at);
    e->text.len -= at;
    return true;
}

static bool is_question(const rv__slot *slot)
{
    return slot->call->verb == RV_TASK_STATUS &&
           strcmp(rv__task_type(slot->task), "getResponse") == 0;
}

/* Everything arrived. */
static void conclude(relayed *e)
{
    rv__slot *slot = e->slot;
    bool is_open = slot->is_waiting;
    slot->is_waiting = false;
    slot->errand = NULL;
    if (is_open && e->status != RV_OK) {
        slot->error = e->error;
        if (slot->error.status == RV_OK)
            rv__fail(&slot->error, e->status, "%s", "");
    } else if (is_open && e->is_stream && e->http == 200) {
        rv__fail(&slot->error, RV_BUSY, "the engine process went away; try again in a moment");
    } else if (is_open) {
        read_text(slot, e->http, e->text.data ? e->text.data : "", e->text.len);
        if (is_question(slot))
            rv__recent_keep(&e->r->recent, slot);
        if (slot->error.status != RV_OK && e->error.retry_after_ms >= 0)
            slot->error.retry_after_ms = e->error.retry_after_ms;
    }
}

static void come_home(rv__op *op, rv_status status, const rv_error *err)
{
    relayed *e = (relayed *)((char *)op - offsetof(relayed, op));
    rv *r = e->r;
    rv_call *c = e->slot->call;
    pthread_mutex_lock(&r->lock);
    rv__buf_add(&e->text, e->arrived.data ? e->arrived.data : "", e->arrived.len);
    e->text.failed |= e->arrived.failed;
    rv__buf_free(&e->arrived);
    bool has_ended = e->has_ended, is_ok = e->http == 200;
    e->is_posted = has_ended;
    pthread_mutex_unlock(&r->lock);
    bool is_alive = !r->closed && !c->freed;
    if (is_alive && e->is_stream && is_ok && e->text.data)
        is_alive = tell_events(e);
    if (!has_ended) {
        if (e->text.failed || !is_alive)
            atomic_store(&e->cancel, true);
        return;
    }
    rv__slot *slot = e->slot;
    if (is_alive)
        conclude(e);
    slot->errand = NULL;
    r->errands--;
    c->errands--;
    relayed_free(e);
    if (is_alive)
        rv__call_slot_ended(slot);
    else
        rv__call_release(c);
}

static void give_up(rv *r, rv__slot *slot)
{
    atomic_store(&((relayed *)slot->errand)->cancel, true);
    r->executor->cancel(r->self, NULL);
}

static relayed *relayed_new(rv *r, rv__slot *slot, const rv_task *t)
{
    relayed *e = rv__calloc(1, sizeof *e);
    const rv_call *c = slot->call;
    bool ok = true;
    if (!e)
        return NULL;
    e->r = r;
    e->slot = slot;
    e->op.done = come_home;
    e->is_stream = c->verb == RV_TASK_EVENTS;
    e->results_url = rv__queue_text(c->results_url ? c->results_url : r->setup.results_url, &ok);
    e->owner = rv__queue_text(c->owner, &ok);
    if (c->verb != RV_TASK_STATUS) {
        e->about = rv__format("%s%s", rv__task_uuid(t), e->is_stream ? "/events" : "");
        ok &= e->about != NULL;
    }
    rv__buf_init(&e->arrived, e->is_stream ? STREAM_MAX : ANSWER_MAX);
    rv__buf_init(&e->text, ANSWER_MAX);
    rv__error_clear(&e->error);
    atomic_init(&e->cancel, false);
    e->relay = (rv__relay){.task = e->about ? NULL : t,
                           .about = e->about,
                           .is_delete = c->verb == RV_TASK_CANCEL,
                           .previews = c->options.previews,
                           .results_url = e->results_url,
                           .owner = e->owner,
                           .data = on_data,
                           .end = on_end,
                           .cancelled = on_cancelled};
    if (ok)
        return e;
    relayed_free(e);
    return NULL;
}

void rv__relayed_begin(rv *r, rv__slot *slot, rv_task *t)
{
    if (rv__context_begin(r, &slot->error) != RV_OK)
        return;
    if (is_question(slot) && rv__recent_find(r->recent, slot))
        return;
    if (!r->executor->relay) {
        rv__fail_code(&slot->error, RV_NOT_FOUND, "taskNotFound", "taskUUID",
                      "no task of this taskUUID is known");
        return;
    }
    relayed *e = relayed_new(r, slot, t);
    if (!e) {
        rv__fail(&slot->error, RV_MEMORY, "out of memory");
        return;
    }
    rv_status s = r->executor->relay(r->self, &e->relay, &slot->error);
    if (s != RV_OK) {
        relayed_free(e);
        return;
    }
    slot->is_waiting = true;
    slot->errand = e;
    slot->give_up = give_up;
    slot->call->pending++;
    slot->call->errands++;
    r->errands++;
}
