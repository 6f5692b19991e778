/* Calls: one body in, one reply out.  What a server does with a request, without any server in it.
 */
#include "call.h"

#include <string.h>

#include "base/uuid.h"
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
    rv__openai_state_free(c->openai);
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

static void begin(rv *r, rv_call *c, rv__slot *slot, rv_task *t, const rv_call_options *o,
                  const rv__delivery *delivery)
{
    const char *type = rv__task_type(t);
    if (o->refusal)
        slot->error = *o->refusal;
    else if (strcmp(type, "ping") == 0)
        answer_ping(slot);
    else if (strcmp(type, "authentication") == 0)
        answer_authentication(slot, o->session);
    else if (strcmp(type, "imageInference") == 0 && o->dry_run)
        answer_dry(slot, t);
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

rv_call *rv__call_start(rv *r, rv_batch *batch, const rv_call_options *options,
                        struct rv__openai_state *openai)
{
    static const rv_call_options none = {0};
    const rv_call_options *o = options ? options : &none;
    size_t n = rv_batch_size(batch);
    rv_call *c = rv__calloc(1, sizeof *c);
    rv__slot *slots = rv__calloc(n, sizeof *slots);
    if (!c || !slots) {
        rv__free(c);
        rv__free(slots);
        return NULL;
    }
    c->batch = rv_batch_ref(batch);
    c->slots = slots;
    c->count = n;
    c->options = *o;
    c->options.results_url = c->options.session = NULL;
    c->options.refusal = NULL;
    c->openai = openai;
    rv__delivery delivery = {.items = true,
                             .results_url = r->setup.results_url,
                             .ttl = r->setup.results_ttl,
                             .previews = o->previews};
    if (o->results_url)
        delivery.results_url = o->results_url;
    for (size_t i = 0; i < n; i++) {
        c->slots[i].call = c;
        rv_task *t = rv_batch_task(batch, i);
        if (t && !rv__openai_is_refused(openai))
            begin(r, c, &c->slots[i], t, o, &delivery);
    }
    if (!c->pending)
        rv__reply_build(c);
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
        if (j && j->is_live) {
            j->sink = (rv_sink){0};
            rv_job_cancel(j);
        }
    }
    if (!c->depth)
        free_call(c);
}
