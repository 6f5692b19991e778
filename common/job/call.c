/* Calls: one body in, one reply out.  What a server does with a request, without any server in it.
 */
#include "call.h"

#include <string.h>

#include "base/uuid.h"
#include "job/durable.h"
#include "job/inputs.h"
#include "job/relayed.h"
#include "job/stored_call.h"
#include "job/stored_task.h"
#include "job/upload.h"
#include "openai_call.h"

static void answer_ping(rv__slot *slot)
{
    slot->item = rv__strdup("{\"taskType\":\"ping\",\"pong\":true}");
}

static void answer_authentication(rv__slot *slot, const char *session)
{
    char uuid[RV__UUID_SIZE];
    if (!session && rv__uuid_make(uuid))
        session = uuid;
    if (session)
        slot->item = rv__format(
            "{\"taskType\":\"authentication\",\"connectionSessionUUID\":\"%s\"}", session);
}

/* One item per picture, as clients count them. */
static void answer_dry(rv__slot *slot, const rv_task *t)
{
    rv__buf b;
    rv__buf_init(&b, 65536);
    rv_task_info info = rv_task_facts(t);
    for (size_t i = 0; i < info.results; i++) {
        rv__buf_adds(&b, i ? ",{\"taskType\":" : "{\"taskType\":");
        rv__json_write_string(&b, info.type);
        rv__buf_adds(&b, ",\"taskUUID\":");
        rv__json_write_string(&b, info.uuid ? info.uuid : "");
        rv__buf_adds(&b, ",\"dryRun\":true,\"seed\":");
        rv__buf_addf(&b, "%llu", (unsigned long long)rv__task_seed(t, i));
        if (info.cost >= 0) {
            rv__buf_adds(&b, ",\"cost\":");
            rv__json_write_double(&b, info.cost / (double)info.results);
        }
        rv__buf_adds(&b, "}");
    }
    slot->item = rv__buf_take(&b, NULL);
}

/* Ways of delivery that need the durable store: refused with the parameter's name instead of being
 * ignored. */
static const char *unsupported_delivery(const rv *r, const rv_task *t)
{
    const rv__value *v = rv__task_value(t);
    bool is_async = strcmp(rv__json_get_string(v, "deliveryMethod", "sync"), "async") == 0;
    if (is_async && !r->setup.store && !r->setup.daemon)
        return "deliveryMethod";
    if (r->setup.store || r->setup.daemon)
        return NULL;
    if (rv__json_get(v, "webhookURL"))
        return "webhookURL";
    return rv__json_get(v, "uploadEndpoint") ? "uploadEndpoint" : NULL;
}

static rv_status check_delivery(rv *r, const rv_task *t, rv_error *err)
{
    const char *name = unsupported_delivery(r, t);
    if (name)
        return rv__fail_code(err, RV_UNSUPPORTED, NULL, name, "%s is not available on this server",
                             name);
    bool is_url = strcmp(rv__json_get_string(rv__task_value(t), "outputType", "URL"), "URL") == 0;
    if (!is_url || r->setup.daemon)
        return RV_OK;
    if (!r->setup.results_dir)
        return rv__fail_code(
            err, RV_UNSUPPORTED, NULL, "outputType",
            "pictures cannot be stored on this server; use outputType base64Data or dataURI");
    return rv__context_store(r, err);
}

static void free_call(rv_call *c)
{
    for (size_t i = 0; i < c->count; i++) {
        rv__watch_end(&c->slots[i].watch);
        rv_job_unref(c->slots[i].job);
        rv__free(c->slots[i].item);
        rv__free(c->slots[i].errors);
    }
    rv__free(c->slots);
    rv__free(c->body);
    rv__openai_state_free(c->openai);
    rv__free(c->results_url);
    rv__free(c->owner);
    rv_batch_unref(c->batch);
    rv__free(c);
}

void rv__call_release(rv_call *c)
{
    if (c->freed && !c->depth && !c->errands)
        free_call(c);
}

/* Ends a callback of the call; false when the call was freed by it. */
static bool leave(rv_call *c)
{
    c->depth--;
    if (!c->freed)
        return true;
    rv__call_release(c);
    return false;
}

void rv__call_slot_ended(rv__slot *slot)
{
    rv_call *c = slot->call;
    if (--c->pending)
        return;
    rv__reply_build(c);
    if (c->options.done) {
        c->depth++;
        c->options.done(c->options.user, c);
        leave(c);
    }
}

static void on_event(void *user, rv_job *job, const rv_event *e)
{
    rv__slot *slot = user;
    rv_call *c = slot->call;
    if (e->kind == RV_EVENT_END && job->id && !job->is_stored && rv_job_state(job) == RV_DONE)
        rv__stored_keep(c->r, slot);
    if (c->options.event) {
        c->depth++;
        c->options.event(c->options.user, c, job, e);
        if (!leave(c))
            return;
    }
    if (e->kind == RV_EVENT_END)
        rv__call_slot_ended(slot);
}

void rv__call_watch(rv__slot *slot, rv_job *j)
{
    slot->job = rv_job_ref(j);
    slot->watch.event = on_event;
    slot->watch.user = slot;
    slot->call->pending++;
    rv__watch_begin(&slot->watch, j);
}

void rv__call_submit(rv *r, rv__slot *slot, rv_task *t, char *id)
{
    rv__delivery delivery = {.items = true,
                             .owner = slot->call->owner,
                             .results_url = slot->call->results_url ? slot->call->results_url
                                                                    : r->setup.results_url,
                             .ttl = r->setup.results_ttl,
                             .previews = slot->call->options.previews};
    rv__identity who = {.id = id};
    rv_job *j;
    rv_status s = rv__job_submit(r, t, NULL, &delivery, &who, &j, &slot->error);
    if (s == RV_BUSY) { /* our own queue is the limit: say so in the words clients know */
        rv_error why = slot->error;
        rv__fail(&slot->error, RV_RATE_LIMIT, "%s", why.message);
        slot->error.retry_after_ms = why.retry_after_ms;
    }
    if (s != RV_OK)
        return;
    rv__call_watch(slot, j);
    rv_job_unref(j);
}

static void submit(rv *r, rv__slot *slot, rv_task *t)
{
    const char *own = slot->call->results_url ? slot->call->results_url : r->setup.results_url;
    if (check_delivery(r, t, &slot->error) != RV_OK ||
        rv__inputs_check(r, t, own, &slot->error) != RV_OK)
        return;
    bool is_async = strcmp(rv__json_get_string(rv__task_value(t), "deliveryMethod", "sync"),
                           "async") == 0;
    if (r->setup.store && rv__durable_open(r, &slot->error) == RV_OK)
        rv__stored_begin(r, slot, t);
    else if (!r->setup.store && is_async)
        rv__relayed_begin(r, slot, t);
    else if (!r->setup.store)
        rv__call_submit(r, slot, t, NULL);
}

static void respond(rv *r, rv__slot *slot, rv_task *t)
{
    static void (*const ways[])(rv *, rv__slot *, rv_task *) = {
        [RV_TASK_STATUS] = rv__stored_response,
        [RV_TASK_EVENTS] = rv__stored_events,
        [RV_TASK_CANCEL] = rv__stored_cancel};
    if (!r->setup.store)
        rv__relayed_begin(r, slot, t);
    else if (rv__durable_open(r, &slot->error) == RV_OK)
        ways[slot->call->verb](r, slot, t);
}

static void take_picture(rv *r, rv__slot *slot, rv_task *t)
{
    if (r->setup.daemon)
        rv__relayed_begin(r, slot, t);
    else if (!r->setup.store)
        rv__fail_code(&slot->error, RV_UNSUPPORTED, "unsupportedTaskType", "taskType",
                      "pictures cannot be stored on this server");
    else if (rv__durable_open(r, &slot->error) == RV_OK)
        rv__upload_begin(r, slot, t);
}

static void begin(rv *r, rv_call *c, rv__slot *slot, rv_task *t, const rv_call_options *o)
{
    const char *type = rv__task_type(t);
    size_t pending = c->pending;
    slot->task = t;
    if (strcmp(type, "ping") == 0)
        answer_ping(slot);
    else if (strcmp(type, "authentication") == 0)
        answer_authentication(slot, o->session);
    else if (strcmp(type, "imageInference") == 0 && o->dry_run)
        answer_dry(slot, t);
    else if (strcmp(type, "imageInference") == 0)
        submit(r, slot, t);
    else if (strcmp(type, "getResponse") == 0)
        respond(r, slot, t);
    else if (strcmp(type, "imageUpload") == 0)
        take_picture(r, slot, t);
    else
        rv__fail_code(&slot->error, RV_UNSUPPORTED, "unsupportedTaskType", "taskType",
                      "%s is not available here", type);
    if (c->pending == pending && !slot->item && slot->error.status == RV_OK)
        rv__fail(&slot->error, RV_MEMORY, "out of memory");
}

/* Keeps the texts that the caller lent. */
static bool copy_options(rv_call *c, const rv_call_options *o)
{
    bool ok = true;
    c->options = *o;
    c->results_url = rv__queue_text(o->results_url, &ok);
    c->owner = rv__queue_text(o->owner, &ok);
    c->options.results_url = c->options.session = c->options.owner = NULL;
    return ok;
}

static rv_call *start(rv *r, rv_batch *batch, const rv_call_options *options,
                      struct rv__openai_state *openai, rv_task_verb verb)
{
    static const rv_call_options none = {0};
    const rv_call_options *o = options ? options : &none;
    size_t n = rv_batch_size(batch);
    rv_call *c = rv__calloc(1, sizeof *c);
    rv__slot *slots = rv__calloc(n, sizeof *slots);
    if (!c || !slots || !copy_options(c, o)) {
        rv__free(slots);
        if (c)
            free_call(c);
        return NULL;
    }
    c->batch = rv_batch_ref(batch);
    c->slots = slots;
    c->count = n;
    c->r = r;
    c->verb = verb;
    c->openai = openai;
    rv_error why;
    rv__error_clear(&why);
    bool may_run = rv__openai_is_refused(openai) || !o->admit || o->admit(o->user, batch, &why);
    for (size_t i = 0; i < n; i++) {
        c->slots[i].call = c;
        rv_task *t = rv_batch_task(batch, i);
        if (t && !may_run)
            c->slots[i].error = why;
        else if (t && !rv__openai_is_refused(openai))
            begin(r, c, &c->slots[i], t, o);
    }
    if (!c->pending)
        rv__reply_build(c);
    return c;
}

rv_call *rv__call_start(rv *r, rv_batch *batch, const rv_call_options *options,
                        struct rv__openai_state *openai)
{
    return start(r, batch, options, openai, RV_TASK_STATUS);
}

/* The question travels as the getResponse task that it resembles. */
rv_call *rv_call_task(rv *r, rv_task_verb verb, const char *task_uuid,
                      const rv_call_options *options)
{
    rv__buf b;
    rv__buf_init(&b, 4096);
    rv__buf_adds(&b, "[{\"taskType\":\"getResponse\",\"taskUUID\":");
    rv__json_write_string(&b, task_uuid);
    rv__buf_adds(&b, "}]");
    rv_batch *batch = b.failed ? NULL : rv_batch_parse(r, b.data, b.len);
    rv_call *c = batch ? start(r, batch, options, NULL, verb) : NULL;
    rv_batch_unref(batch);
    rv__buf_free(&b);
    return c;
}

rv_call *rv_call_start(rv *r, rv_batch *batch, const rv_call_options *options)
{
    return rv__call_start(r, batch, options, NULL);
}

rv_call *rv_call_begin(rv *r, const char *body, size_t len, const rv_call_options *options)
{
    rv_batch *b = rv_batch_parse(r, body, len);
    rv_call *c = b ? rv_call_start(r, b, options) : NULL;
    rv_batch_unref(b);
    return c;
}

const rv_reply *rv_call_reply(const rv_call *c)
{
    return c->reply.http_status ? &c->reply : NULL;
}

void rv_call_free(rv_call *c)
{
    if (!c || c->freed)
        return;
    c->freed = true;
    for (size_t i = 0; i < c->count; i++) {
        rv_job *j = c->slots[i].job;
        rv__watch_end(&c->slots[i].watch);
        if (c->slots[i].errand)
            c->slots[i].give_up(c->r, &c->slots[i]);
        if (j && j->is_live && !j->watches && !j->is_stored)
            rv_job_cancel(j); /* nobody else waits for it */
    }
    rv__call_release(c);
}
