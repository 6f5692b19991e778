/* Calls: one body in, one reply out.  What a server does with a request, without any server in it.
 */
#include "call.h"

#include <string.h>

#include "base/uuid.h"

static void answer_ping(rv__slot *slot)
{
    slot->item = rv__strdup("{\"taskType\":\"ping\",\"pong\":true}");
}

static void answer_authentication(rv__slot *slot)
{
    char uuid[RV__UUID_SIZE];
    if (rv__uuid_make(uuid))
        slot->item =
            rv__format("{\"taskType\":\"authentication\",\"connectionSessionUUID\":\"%s\"}", uuid);
}

/* Ways of delivery that need the durable store: refused with the parameter's name instead of being
 * ignored. */
static const char *unsupported_delivery(const rv_task *t)
{
    const rv__value *v = rv__task_value(t);
    if (strcmp(rv__json_get_string(v, "deliveryMethod", "sync"), "async") == 0)
        return "deliveryMethod";
    if (rv__json_get(v, "webhookURL"))
        return "webhookURL";
    return rv__json_get(v, "uploadEndpoint") ? "uploadEndpoint" : NULL;
}

static rv_status check_delivery(rv *r, const rv_task *t, rv_error *err)
{
    const char *name = unsupported_delivery(t);
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
        rv_job_unref(c->slots[i].job);
        rv__free(c->slots[i].item);
    }
    rv__free(c->slots);
    rv__free(c->body);
    rv_batch_unref(c->batch);
    rv__free(c);
}

/* Runs a callback of the call; false when the call was freed by it. */
static bool leave(rv_call *c)
{
    if (--c->depth || !c->freed)
        return !c->freed;
    free_call(c);
    return false;
}

static void on_event(void *user, rv_job *job, const rv_event *e)
{
    rv__slot *slot = user;
    rv_call *c = slot->call;
    if (c->options.event) {
        c->depth++;
        c->options.event(c->options.user, c, job, e);
        if (!leave(c))
            return;
    }
    if (e->kind != RV_EVENT_END || --c->pending)
        return;
    rv__reply_build(c);
    if (c->options.done) {
        c->depth++;
        c->options.done(c->options.user, c);
        leave(c);
    }
}

static void submit(rv *r, rv_call *c, rv__slot *slot, rv_task *t, const rv__delivery *delivery)
{
    if (check_delivery(r, t, &slot->error) != RV_OK)
        return;
    rv_sink sink = {on_event, slot};
    rv_status s = rv__job_submit(r, t, &sink, delivery, &slot->job, &slot->error);
    if (s == RV_BUSY) { /* our own queue is the limit: say so in the words clients know */
        rv_error why = slot->error;
        rv__fail(&slot->error, RV_RATE_LIMIT, "%s", why.message);
    }
    if (s == RV_OK)
        c->pending++;
}

static void begin(rv *r, rv_call *c, rv__slot *slot, rv_task *t, const rv__delivery *delivery)
{
    const char *type = rv__task_type(t);
    if (strcmp(type, "ping") == 0)
        answer_ping(slot);
    else if (strcmp(type, "authentication") == 0)
        answer_authentication(slot);
    else if (strcmp(type, "imageInference") == 0)
        submit(r, c, slot, t, delivery);
    else if (strcmp(type, "getResponse") == 0)
        rv__fail_code(&slot->error, RV_NOT_FOUND, "taskNotFound", "taskUUID",
                      "no task of this taskUUID is known");
    else
        rv__fail_code(&slot->error, RV_UNSUPPORTED, "unsupportedTaskType", "taskType",
                      "%s is not available here", type);
    if (!slot->job && !slot->item && slot->error.status == RV_OK)
        rv__fail(&slot->error, RV_MEMORY, "out of memory");
}

rv_call *rv_call_begin(rv *r, const char *body, size_t len, const rv_call_options *options)
{
    rv_call *c = rv__calloc(1, sizeof *c);
    if (!c)
        return NULL;
    if (options)
        c->options = *options;
    c->options.results_url = NULL;
    c->batch = rv_batch_parse(r, body, len);
    size_t n = c->batch ? rv_batch_size(c->batch) : 0;
    c->slots = c->batch ? rv__calloc(n, sizeof *c->slots) : NULL;
    if (!c->slots) {
        free_call(c);
        return NULL;
    }
    c->count = n;
    rv__delivery delivery = {
        .items = true, .results_url = r->setup.results_url, .ttl = r->setup.results_ttl};
    if (options && options->results_url)
        delivery.results_url = options->results_url;
    for (size_t i = 0; i < n; i++) {
        c->slots[i].call = c;
        rv_task *t = rv_batch_task(c->batch, i);
        if (t)
            begin(r, c, &c->slots[i], t, &delivery);
    }
    if (!c->pending)
        rv__reply_build(c);
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
        if (j && j->is_live) {
            j->sink = (rv_sink){0};
            rv_job_cancel(j);
        }
    }
    if (!c->depth)
        free_call(c);
}
