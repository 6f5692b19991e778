/* The client of our own daemon (or of nginx with our module): one task per request, its progress as
 * an event stream. Tasks that ask for pixels get a lossless picture; calls get the finished result
 * items, which are passed on. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/memory.h"
#include "job/executor.h"
#include "remote/io.h"
#include "remote/service.h"
#include "remote/sse.h"

enum {
    EVENT_MAX = 96 << 20,   /* bytes of one event: a large PNG in base64  */
    ANSWER_MAX = 512 << 20, /* bytes of an answer that is no stream       */
    SILENCE_S = 60,         /* the daemon says something every 15 seconds */
    PREVIEW_PIXELS = 1 << 20,
    ATTEMPTS_MAX = 1000,    /* more is not believed */
    RETRY_MS = 2000
};

#define MAX_PIXELS ((int64_t)16384 * 16384)

typedef struct daemon_client {
    rv__io *io;
    char *url, *unix_path; /* unix_path NULL: TCP */
    char *key;             /* the header that brings it, or NULL */
    bool asks_previews;    /* for every task */
} daemon_client;

/* One task on its way.  Belongs to the I/O thread after the start. */
typedef struct errand {
    rv__port *port;
    size_t wanted, received;
    bool items;    /* finished items are wanted, else pixels              */
    bool is_plain; /* the answer is one JSON text and no event stream     */
    bool is_done;  /* every picture came: what follows is not looked at   */
    bool has_reply;
    bool is_local; /* the daemon runs it itself and will ask no service */
    rv__sse sse;
    rv__buf answer; /* a refusal, or all of a plain answer */
    rv_error error; /* from the reply */
} errand;

static void errand_free(errand *e)
{
    rv__sse_free(&e->sse);
    rv__buf_free(&e->answer);
    rv__free(e);
}

/* ---- what comes back ---- */

static rv_status status_from_http(int http)
{
    static const struct {
        int http;
        rv_status status;
    } rows[] = {{400, RV_VALIDATION}, {401, RV_AUTH},       {402, RV_QUOTA},     {403, RV_AUTH},
                {404, RV_NOT_FOUND},  {429, RV_RATE_LIMIT}, {499, RV_CANCELLED}, {502, RV_PROVIDER},
                {503, RV_BUSY},       {504, RV_TIMEOUT}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].http == http)
            return rows[i].status;
    }
    return http >= 400 && http < 500 ? RV_VALIDATION : RV_SERVER;
}

/* Refusals share HTTP 400; those that are not about the form of the request have own wire codes. */
static rv_status status_from_reply(int http, const char *code)
{
    static const rv_status refusals[] = {RV_SAFETY, RV_UNSUPPORTED};
    for (size_t i = 0; code && http == 400 && i < sizeof refusals / sizeof *refusals; i++) {
        rv_error usual;
        rv__fail(&usual, refusals[i], "%s", "");
        if (strcmp(usual.code, code) == 0)
            return refusals[i];
    }
    return status_from_http(http);
}

void rv__daemon_error(int http, const rv__value *body, rv_error *err)
{
    const rv__value *first = rv__json_first(rv__json_get(body, "errors"));
    const char *message =
        rv__json_get_string(first, "message", "the server answered without a reason");
    const char *code = rv__json_get_string(first, "code", NULL);
    const rv__value *parameter = rv__json_get(first, "parameter");
    if (rv__json_is_array(parameter))
        parameter = rv__json_first(parameter);
    const char *name = rv__json_string(parameter);
    rv__fail_code(err, status_from_reply(http, code), code, name, "%s", message);
    err->http_status = http;
}

static void read_error(errand *e, int http, const rv__value *body)
{
    rv__daemon_error(http, body, &e->error);
}

static rv_image *image_from_base64(const char *text, rv_error *err)
{
    size_t len = strlen(text), size = 0;
    void *bytes = rv__alloc(len / 4 * 3 + 1);
    rv_image *image = NULL;
    if (!bytes)
        rv__fail(err, RV_MEMORY, "out of memory");
    else if (!rv__base64_decode(text, len, bytes, &size))
        rv__fail(err, RV_PROVIDER, "the picture is not valid base64");
    else if (rv__image_from_bytes(bytes, size, MAX_PIXELS, &image, err) == RV_FORMAT)
        err->status = RV_PROVIDER;
    rv__free(bytes);
    return image;
}

/* Calls pass the item on; its picture is decoded only when somebody looks at it. */
static rv_image *image_of_item(const char *url, const char *base64, const char *uri)
{
    if (url)
        return rv__image_from_url(url);
    const char *comma = base64 ? NULL : strchr(uri, ',');
    return rv__image_from_base64(base64 ? base64 : comma ? comma + 1 : "", MAX_PIXELS);
}

static rv_image *image_from_item(const errand *e, const rv__value *item, rv_error *err)
{
    const char *url = rv__json_get_string(item, "imageURL", NULL);
    const char *base64 = rv__json_get_string(item, "imageBase64Data", NULL);
    const char *uri = rv__json_get_string(item, "imageDataURI", NULL);
    if (!url && !base64 && !uri) {
        rv__fail(err, RV_PROVIDER, "a result without picture");
        return NULL;
    }
    if (!e->items && !base64) {
        rv__fail(err, RV_PROVIDER, "a picture by URL where its bytes were asked for");
        return NULL;
    }
    rv_image *image = e->items ? image_of_item(url, base64, uri) : image_from_base64(base64, err);
    if (!image && err->status == RV_OK)
        rv__fail(err, RV_MEMORY, "out of memory");
    if (!image)
        return NULL;
    uint64_t seed = 0;
    rv__json_uint(rv__json_get(item, "seed"), &seed);
    bool is_flagged = false;
    bool is_checked = rv__json_bool(rv__json_get(item, "NSFWContent"), &is_flagged);
    rv__image_set_facts(image, rv__json_get_string(item, "imageUUID", ""), seed,
                        rv__json_get_number(item, "cost", -1), is_checked ? is_flagged : -1);
    return image;
}

static bool on_item(errand *e, const rv__value *item, int64_t index)
{
    if (!rv__json_is_object(item) || index < 0 || (size_t)index >= e->wanted)
        return rv__fail(&e->error, RV_PROVIDER, "a result that was not asked for") == RV_OK;
    rv_image *image = image_from_item(e, item, &e->error);
    if (!image)
        return false;
    char *text = NULL;
    if (e->items) {
        rv__buf b;
        rv__buf_init(&b, EVENT_MAX);
        rv__json_write_value(&b, item);
        text = rv__buf_take(&b, NULL);
        if (!text) {
            rv_image_unref(image);
            return rv__fail(&e->error, RV_MEMORY, "out of memory") == RV_OK;
        }
    }
    e->received++;
    e->port->item(e->port, (size_t)index, image, text);
    return true;
}

static bool on_image(errand *e, const rv__value *v)
{
    if (!e->received) /* later ones are like the first */
        e->port->is_cached = rv__json_get_bool(v, "cached", false);
    return on_item(e, rv__json_get(v, "item"), rv__json_get_int(v, "index", -1));
}

static void on_reply(errand *e, const rv__value *v)
{
    int http = (int)rv__json_get_int(v, "status", 500);
    e->has_reply = true;
    const rv__value *body = rv__json_get(v, "body");
    int64_t index = 0;
    bool go_on = true; /* the first answer to a task that is known already comes without events */
    for (const rv__value *i = rv__json_first(rv__json_get(body, "data"));
         i && go_on && http == 200 && (index || !e->received); i = rv__json_next(i))
        go_on = on_item(e, i, index++);
    if (!go_on)
        return;
    if (http != 200 || rv__json_get(body, "errors"))
        read_error(e, http == 200 ? 500 : http, body);
    e->error.retry_after_ms = rv__json_get_int(v, "retryAfter", -1);
}

static void on_warnings(errand *e, const rv__value *list)
{
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v)) {
        const char *message = rv__json_get_string(v, "message", NULL);
        if (message)
            e->port->warn(e->port, rv__json_get_string(v, "code", NULL),
                          rv__json_get_string(v, "parameter", NULL), message);
    }
}

static void on_end(errand *e, const rv__value *v)
{
    on_warnings(e, rv__json_get(v, "warnings"));
    int64_t attempts = rv__json_get_int(v, "attempts", 1);
    e->port->executor = rv__executor_name(rv__json_get_string(v, "executor", ""));
    e->port->attempts += attempts > 1 && attempts < ATTEMPTS_MAX ? (int)attempts - 1 : 0;
    e->is_done =
        e->received == e->wanted && strcmp(rv__json_get_string(v, "state", ""), "done") == 0;
}

static void on_step(errand *e, const rv__value *v)
{
    const char *uri = rv__json_get_string(v, "preview", NULL);
    const char *comma = uri ? strchr(uri, ',') : NULL;
    rv_image *preview = comma ? rv__image_from_base64(comma + 1, PREVIEW_PIXELS) : NULL;
    e->port->step(e->port, (size_t)rv__json_get_int(v, "index", 0),
                  (int)rv__json_get_int(v, "step", 0), (int)rv__json_get_int(v, "steps", 0),
                  preview);
    rv_image_unref(preview);
}

static bool on_event(void *user, const char *name, const char *data, size_t len)
{
    errand *e = user;
    if (strcmp(name, "queued") == 0)
        return true;
    rv__value *v = rv__json_parse(data, len, NULL);
    if (!v)
        return rv__fail(&e->error, RV_PROVIDER, "an event that is not JSON") == RV_OK;
    bool go_on = true;
    if (strcmp(name, "started") == 0) {
        e->is_local = rv__json_get_bool(v, "local", false);
        e->port->started(e->port);
    } else if (strcmp(name, "step") == 0)
        on_step(e, v);
    else if (strcmp(name, "image") == 0)
        go_on = on_image(e, v);
    else if (strcmp(name, "end") == 0)
        on_end(e, v);
    else if (strcmp(name, "reply") == 0)
        on_reply(e, v);
    rv__json_free(v);
    return go_on;
}

static bool on_data(void *user, int http_status, const char *bytes, size_t len)
{
    errand *e = user;
    if (e->is_done) /* the reply repeats all pictures */
        return true;
    if (!e->sse.line.len && !e->sse.has_data && !e->received && !e->answer.len && len &&
        *bytes == '{')
        e->is_plain = true; /* no line of an event stream begins like this */
    if (http_status == 200 && !e->is_plain)
        return rv__sse_feed(&e->sse, bytes, len, on_event, e);
    rv__buf_add(&e->answer, bytes, len);
    return !e->answer.failed;
}

/* A server that does not stream answers with all results at once. */
static void read_plain(errand *e)
{
    rv__value *v = rv__json_parse(e->answer.data, e->answer.len, NULL);
    int64_t index = 0;
    bool go_on = true;
    for (const rv__value *i = rv__json_first(rv__json_get(v, "data")); i && go_on;
         i = rv__json_next(i))
        go_on = on_item(e, i, index++);
    on_warnings(e, rv__json_get(v, "warnings"));
    if (!v)
        rv__fail(&e->error, RV_PROVIDER, "the answer is not JSON");
    else if (go_on && rv__json_get(v, "errors"))
        read_error(e, 500, v);
    else
        e->has_reply = true;
    rv__json_free(v);
}

/* A refusal is plain JSON with its own HTTP status; whatever is not ours (an HTML page) is reported
 * by its status. */
static void read_refusal(errand *e, int http)
{
    rv__value *v = e->answer.len ? rv__json_parse(e->answer.data, e->answer.len, NULL) : NULL;
    if (v && rv__json_first(rv__json_get(v, "errors")))
        read_error(e, http, v);
    else
        rv__fail(&e->error, status_from_http(http), "the server answered with HTTP status %d",
                 http);
    e->error.http_status = http;
    rv__json_free(v);
}

/* The daemon is not there, or left in the middle: our side is fine and a repeat makes sense. */
static void away(errand *e, const char *what)
{
    rv__fail(&e->error, RV_BUSY, "%s; try again in a moment", what);
    e->error.retry_after_ms = RETRY_MS;
}

static void conclude(errand *e, rv_status transfer, int http, const rv_error *why)
{
    if (transfer == RV_OK && http != 200) {
        read_refusal(e, http);
        if (why->retry_after_ms >= 0)
            e->error.retry_after_ms = why->retry_after_ms;
    } else if (transfer == RV_CANCELLED || transfer == RV_MEMORY) {
        e->error = *why;
    } else if (e->error.status != RV_OK) {
        return;
    } else if (transfer == RV_PROVIDER) {
        rv__fail(&e->error, RV_PROVIDER, "the server's answer cannot be understood");
    } else if (transfer == RV_TIMEOUT && http) {
        away(e, "the engine process stopped answering");
    } else if (transfer != RV_OK && !http) {
        away(e, "the engine process cannot be reached");
    } else if (transfer != RV_OK || !e->has_reply) {
        away(e, "the engine process went away while it worked on this task");
    } else {
        rv__fail(&e->error, RV_PROVIDER, "%zu of %zu pictures came", e->received, e->wanted);
    }
}

/* Whether it may run elsewhere now: the daemon never saw it, had no room for it, or died without
 * having asked anybody who charges. */
static bool may_go_elsewhere(const errand *e, rv_status transfer, int http, const rv_error *why)
{
    bool never_sent = strcmp(why->code, RV__NEVER_SENT) == 0;
    if (transfer == RV_OK)
        return http == 503 && !e->has_reply;
    return never_sent || (e->is_local && !e->has_reply);
}

static void on_done(void *user, rv_status transfer, int http_status, const rv_error *why)
{
    errand *e = user;
    e->port->is_final |= !may_go_elsewhere(e, transfer, http_status, why);
    if (transfer == RV_OK && http_status == 200 && e->is_plain)
        read_plain(e);
    if (!e->is_done && !(e->has_reply && e->error.status == RV_OK && e->received == e->wanted))
        conclude(e, transfer, http_status, why);
    else
        rv__error_clear(&e->error);
    e->port->end(e->port, e->error.status, &e->error);
    errand_free(e);
}

static bool on_cancelled(void *user)
{
    errand *e = user;
    return e->port->cancelled(e->port);
}

static const rv__io_events events = {on_data, on_done, on_cancelled};

/* ---- what goes out ---- */

/* Members that the pixel form replaces. */
static bool is_replaced(const char *key)
{
    static const char *const names[] = {
        "outputType",  "outputFormat", "outputQuality",  "ttl",
        "includeCost", "webhookURL",   "uploadEndpoint", "deliveryMethod"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(key, names[i]) == 0)
            return true;
    }
    return false;
}

static void write_member(rv__buf *b, const char *key, const char *value)
{
    rv__buf_addf(b, "\"%s\":", key);
    rv__json_write_string(b, value);
}

/* A seed that nobody asked for is drawn by whoever keeps the task: the same body sent again must
 * not look like another task. */
static bool is_left_out(const rv_task *t, const char *key, bool items)
{
    return strcmp(key, "taskType") == 0 || strcmp(key, "taskUUID") == 0 ||
           (items && strcmp(key, "seed") == 0 && rv__task_seed_drawn(t)) ||
           (!items && is_replaced(key));
}

static char *request_body(const rv_task *t, bool items, size_t *len)
{
    rv__buf b;
    rv__buf_init(&b, (size_t)64 << 20);
    rv__buf_adds(&b, "[{");
    write_member(&b, "taskType", rv__task_type(t));
    rv__buf_adds(&b, ",");
    write_member(&b, "taskUUID", rv__task_uuid(t) ? rv__task_uuid(t) : "");
    for (const rv__value *v = rv__json_first(rv__task_value(t)); v; v = rv__json_next(v)) {
        const char *key = rv__json_key(v);
        if (is_left_out(t, key, items))
            continue;
        rv__buf_adds(&b, ",");
        rv__json_write_string(&b, key);
        rv__buf_adds(&b, ":");
        rv__json_write_value(&b, v);
    }
    if (!items)
        rv__buf_adds(
            &b, ",\"outputType\":\"base64Data\",\"outputFormat\":\"PNG\",\"includeCost\":true");
    rv__buf_adds(&b, "}]");
    return rv__buf_take(&b, len);
}

static errand *errand_new(const rv_task *t, rv__port *port)
{
    errand *e = rv__calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->port = port;
    e->items = port->delivery->items;
    e->wanted = rv__task_results(t);
    rv__sse_init(&e->sse, EVENT_MAX);
    rv__buf_init(&e->answer, ANSWER_MAX);
    rv__error_clear(&e->error);
    return e;
}

/* Headers of a request; texts are owned. */
typedef struct headers {
    char *prefix, *owner;
    const char *list[7];
} headers;

static bool make_headers(headers *h, const daemon_client *d, const char *results_url,
                         const char *owner, bool is_stream)
{
    *h = (headers){0};
    h->prefix = results_url ? rv__format("Reverie-Results-URL: %s", results_url) : NULL;
    h->owner = owner ? rv__format("Reverie-Owner: %s", owner) : NULL;
    size_t n = 0;
    h->list[n++] = "Content-Type: application/json";
    h->list[n++] = is_stream ? "Accept: text/event-stream" : "Accept: application/json";
    h->list[n++] = "Expect:";
    if (h->prefix)
        h->list[n++] = h->prefix;
    if (h->owner)
        h->list[n++] = h->owner;
    if (d->key)
        h->list[n++] = d->key;
    return (!results_url || h->prefix) && (!owner || h->owner);
}

static void free_headers(headers *h)
{
    rv__free(h->prefix);
    rv__free(h->owner);
}

static rv_status daemon_start(void *self, const rv_task *task, rv__port *port, rv_error *err)
{
    daemon_client *d = self;
    const rv__delivery *how = port->delivery;
    errand *e = errand_new(task, port);
    headers h;
    bool ok = make_headers(&h, d, how->results_url, how->owner, true) && e;
    size_t len = 0;
    char *body = ok ? request_body(task, how->items, &len) : NULL;
    bool asks = how->previews || d->asks_previews;
    char *url = body ? rv__format("%s%sstream=1%s", d->url, strchr(d->url, '?') ? "&" : "?",
                                  asks ? "&preview=1" : "")
                     : NULL;
    rv__io_request q = {.url = url,
                        .unix_path = d->unix_path,
                        .headers = h.list,
                        .body = body,
                        .body_len = len,
                        .silence_s =
                            d->unix_path ? SILENCE_S : 0}; /* other servers may not stream */
    if (url)
        port->attempts++; /* the port is the I/O thread's once it has started */
    rv_status s = url ? rv__io_start(d->io, &q, &events, e, err)
                      : rv__fail(err, RV_MEMORY, "out of memory");
    if (!url)
        rv__free(body);
    if (s != RV_OK && e)
        errand_free(e);
    rv__free(url);
    free_headers(&h);
    return s;
}

/* ---- requests that are passed on ---- */

static bool on_relay_data(void *user, int http, const char *bytes, size_t len)
{
    rv__relay *r = user;
    return r->data(r, http, bytes, len);
}

static void on_relay_done(void *user, rv_status status, int http, const rv_error *why)
{
    rv__relay *r = user;
    rv_error err = *why;
    if (status == RV_CONNECTION || (status == RV_TIMEOUT && !http)) {
        rv__fail(&err, RV_BUSY, "%s; try again in a moment",
                 http ? "the engine process went away" : "the engine process cannot be reached");
        err.retry_after_ms = RETRY_MS;
        status = RV_BUSY;
    }
    r->end(r, status, http, &err);
}

static bool on_relay_cancelled(void *user)
{
    rv__relay *r = user;
    return r->cancelled(r);
}

/* Tasks are siblings of the place that takes them: /generate, /tasks/UUID. */
static char *tasks_url(const daemon_client *d, const rv__relay *r)
{
    size_t root = strcspn(d->url, "?");
    while (root && d->url[root - 1] != '/')
        root--;
    return rv__format("%.*stasks/%s%s", (int)root, d->url, r->about,
                      r->previews ? "?preview=1" : "");
}

static rv_status daemon_relay(void *self, rv__relay *r, rv_error *err)
{
    static const rv__io_events relay_events = {on_relay_data, on_relay_done, on_relay_cancelled,
                                               NULL};
    daemon_client *d = self;
    headers h;
    size_t len = 0;
    bool ok = make_headers(&h, d, r->results_url, r->owner, !r->task);
    char *body = ok && r->task ? request_body(r->task, true, &len) : NULL;
    char *url = !ok || (r->task && !body) ? NULL
                : r->task                 ? rv__strdup(d->url)
                                          : tasks_url(d, r);
    rv__io_request q = {.url = url,
                        .unix_path = d->unix_path,
                        .headers = h.list,
                        .body = body,
                        .body_len = len,
                        .is_delete = r->is_delete,
                        .silence_s = SILENCE_S};
    rv_status s = url ? rv__io_start(d->io, &q, &relay_events, r, err)
                      : rv__fail(err, RV_MEMORY, "out of memory");
    if (!url)
        rv__free(body);
    rv__free(url);
    free_headers(&h);
    return s;
}

static void daemon_cancel(void *self, rv__port *port)
{
    rv__io_wake(((daemon_client *)self)->io);
}

static void daemon_close(void *self)
{
    daemon_client *d = self;
    rv__io_close(d->io);
    rv__free(d->url);
    rv__free(d->unix_path);
    rv__free(d->key);
    rv__free(d);
}

/* http to this machine does not leave it. */
static bool is_private(const char *address)
{
    static const char *const own[] = {"http://127.0.0.1", "http://localhost", "http://[::1]"};
    if (strncmp(address, "http://", 7) != 0)
        return true;
    if (strchr(address, '@')) /* http://localhost:x@elsewhere/ */
        return false;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        size_t n = strlen(own[i]);
        if (strncmp(address, own[i], n) == 0 && (!address[n] || address[n] == ':' || address[n] == '/'))
            return true;
    }
    return false;
}

/* A key must not be readable on its way, nor bring more headers along. */
static rv_status read_key(daemon_client *d, const char *address, const char *key, rv_error *err)
{
    if (!key)
        return RV_OK;
    for (const char *c = key; *c; c++) {
        if (*c <= ' ' || *c > '~')
            return rv__fail_code(err, RV_VALIDATION, "invalidSetting", "daemon_key",
                                 "daemon_key must be printable characters without spaces");
    }
    if (!is_private(address))
        return rv__fail_code(err, RV_VALIDATION, "invalidSetting", "daemon",
                             "a key is sent over https only: the daemon's address must begin with "
                             "https://");
    d->key = rv__format("Authorization: Bearer %s", key);
    return d->key ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
}

/* unix:PATH, or http(s)://HOST[:PORT][/PATH]; without a path /generate is meant. */
static rv_status read_address(daemon_client *d, const char *address, rv_error *err)
{
    if (strncmp(address, "unix:", 5) == 0) {
        d->unix_path = rv__strdup(address + 5);
        d->url = rv__strdup("http://reveried/generate");
    } else if (strncmp(address, "http://", 7) == 0 || strncmp(address, "https://", 8) == 0) {
        const char *path = strchr(strstr(address, "://") + 3, '/');
        d->url = rv__format("%s%s", address, !path ? "/generate" : !path[1] ? "generate" : "");
    } else {
        return rv__fail_code(err, RV_VALIDATION, "invalidSetting", "daemon",
                             "the daemon's address must be unix:PATH or http://HOST:PORT");
    }
    bool ok = d->url && (d->unix_path || strncmp(address, "unix:", 5) != 0);
    return ok ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
}

rv_status rv__daemon_open(const rv__executor_options *o, const rv__executor **executor, void **self,
                          rv_error *err)
{
    static const rv__executor daemon_executor = {
        .name = "daemon", .start = daemon_start, .cancel = daemon_cancel, .close = daemon_close,
        .relay = daemon_relay};
    daemon_client *d = rv__calloc(1, sizeof *d);
    if (!d)
        return rv__fail(err, RV_MEMORY, "out of memory");
    d->asks_previews = o->preview_steps > 0;
    rv_status s = read_address(d, o->url, err);
    if (s == RV_OK)
        s = read_key(d, o->url, o->key, err);
    if (s == RV_OK)
        s = rv__io_open(&d->io, err);
    if (s != RV_OK) {
        daemon_close(d);
        return s;
    }
    *executor = &daemon_executor;
    *self = d;
    return RV_OK;
}
