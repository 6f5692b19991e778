/* One request from its first line to its end.  The task of a client that leaves is cancelled at
 * once; nothing of a request (prompt, picture, URL) is ever logged. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/server.h"
#include "job/context.h"

enum { PREFIX_MAX = 1024, OWNER_MAX = 200, UUID_MAX = 64 };

static rv__exchange *exchange_new(rv__server *s, struct MHD_Connection *c)
{
    rv__exchange *e = rv__calloc(1, sizeof *e);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!e || !info) {
        rv__free(e);
        return NULL;
    }
    e->server = s;
    e->connection = c;
    e->fd = info->connect_fd;
    rv__buf_init(&e->body, RV__BODY_MAX);
    rv__buf_init(&e->out, SIZE_MAX / 4);
    e->next = s->exchanges;
    if (e->next)
        e->next->prev = e;
    s->exchanges = e;
    return e;
}

static void give_up(rv__exchange *e, const char *why);

static void exchange_free(rv__exchange *e)
{
    if (e->call && !rv_call_reply(e->call))
        give_up(e, "clientLeft"); /* while its stream was being written */
    if (e->prev)
        e->prev->next = e->next;
    else
        e->server->exchanges = e->next;
    if (e->next)
        e->next->prev = e->prev;
    rv_call_free(e->call);
    rv__buf_free(&e->body);
    rv__buf_free(&e->out);
    rv_free(e->step);
    rv__free(e->timings);
    rv__free(e);
}

/* ---- the log ---- */

static rv__timing *timing_of(rv__exchange *e, const rv_job *job)
{
    for (size_t i = 0; i < e->timing_count; i++) {
        if (e->timings[i].job == job)
            return &e->timings[i];
    }
    rv__timing *longer = rv__realloc(e->timings, (e->timing_count + 1) * sizeof *longer);
    if (!longer)
        return NULL;
    e->timings = longer;
    longer[e->timing_count] = (rv__timing){.job = job, .queued_ms = rv__clock_ms()};
    return &longer[e->timing_count++];
}

static void log_task(const rv_job *job, const rv__timing *t, const char *state, const char *code)
{
    int64_t now = rv__clock_ms();
    int64_t queued = (t->started_ms ? t->started_ms : now) - t->queued_ms;
    int64_t ran = t->started_ms ? now - t->started_ms : 0;
    const rv__model *model = rv__task_model(job->task);
    rv_job_info info = rv_job_facts(job);
    fprintf(stderr,
            "reveried: task=%s model=%s state=%s code=%s executor=%s attempts=%d pictures=%zu "
            "queue_ms=%lld run_ms=%lld\n",
            rv__task_uuid(job->task), model ? model->id : "-", state, code,
            info.executor ? info.executor : "-", info.attempts, rv_job_images(job),
            (long long)queued, (long long)ran);
}

static void log_end(rv__server *s, const rv_job *job, rv__timing *t)
{
    const rv_error *err = rv_job_error(job);
    rv_state state = rv_job_state(job);
    s->tasks_done += state == RV_DONE;
    s->tasks_failed += state == RV_FAILED;
    s->tasks_stopped += state == RV_STOPPED;
    t->ended = true;
    log_task(job, t,
             state == RV_DONE     ? "done"
             : state == RV_FAILED ? "failed"
                                  : "stopped",
             err ? err->code : "-");
}

/* ---- the call ---- */

static void on_event(void *user, rv_call *call, rv_job *job, const rv_event *event)
{
    rv__exchange *e = user;
    rv__timing *t = timing_of(e, job);
    if (event->kind == RV_EVENT_STARTED && t)
        t->started_ms = rv__clock_ms();
    if (event->kind == RV_EVENT_END && t)
        log_end(e->server, job, t);
    size_t len;
    char *text = e->streaming && e->is_openai ? rv_openai_event(call, job, event, &len) : NULL;
    if (text)
        rv__stream_text(e, text, len);
    rv_free(text);
    if (e->streaming && !e->is_openai)
        rv__stream_event(e, job, event);
}

/* A stream of the OpenAI protocol says at its end only what went wrong. */
static void end_openai(rv__exchange *e)
{
    size_t len;
    char *text = rv_openai_stream_error(e->call, &len);
    if (text)
        rv__stream_add(e, text, len);
    rv_free(text);
    rv__stream_finish(e);
}

static void on_done(void *user, rv_call *call)
{
    rv__exchange *e = user;
    if (e->streaming && e->is_openai)
        end_openai(e);
    else if (e->streaming)
        rv__stream_end(e);
    else
        rv__exchange_resume(e);
}

static bool is_prefix(const char *url)
{
    size_t len = strlen(url);
    if (len > PREFIX_MAX || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (url[i] <= ' ' || url[i] >= 0x7f || url[i] == '"' || url[i] == '\\')
            return false;
    }
    return true;
}

static enum MHD_Result answer_reply(rv__exchange *e)
{
    const rv_reply *reply = rv_call_reply(e->call);
    e->is_answered = true;
    return rv__respond_json(e->connection, reply->http_status, reply->body, reply->len,
                            reply->retry_after_ms);
}

static enum MHD_Result refuse(rv__exchange *e, int status, const char *code, const char *message)
{
    e->is_answered = true;
    return rv__respond_error(e->connection, status, code, message);
}

static void on_text(void *user, rv_call *call, const char *text, size_t len)
{
    rv__exchange *e = user;
    if (e->streaming)
        rv__stream_text(e, text, len);
}

static const char *header(rv__exchange *e, const char *name)
{
    return MHD_lookup_connection_value(e->connection, MHD_HEADER_KIND, name);
}

static bool is_on(rv__exchange *e, const char *argument)
{
    const char *v = MHD_lookup_connection_value(e->connection, MHD_GET_ARGUMENT_KIND, argument);
    return v && strcmp(v, "1") == 0;
}

/* The name of whoever sends tasks: printable, and short. */
static bool is_owner(const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= ' ' || text[i] >= 0x7f || text[i] == '/')
            return false;
    }
    return len && len <= OWNER_MAX;
}

/* What the headers of a request say; false: it was refused. */
static bool read_options(rv__exchange *e, rv_call_options *o, enum MHD_Result *result)
{
    const char *prefix = header(e, "Reverie-Results-URL"), *owner = header(e, "Reverie-Owner");
    e->wants_previews = is_on(e, "preview");
    *o = (rv_call_options){.results_url = prefix,
                           .owner = owner,
                           .previews = e->wants_previews,
                           .event = on_event,
                           .text = on_text,
                           .done = on_done,
                           .user = e};
    if (prefix && !is_prefix(prefix))
        *result = refuse(e, 400, "invalidRequestBody",
                         "the header Reverie-Results-URL must be an http or https URL");
    else if (owner && !is_owner(owner))
        *result = refuse(e, 400, "invalidRequestBody",
                         "the header Reverie-Owner must be a name of printable characters");
    else
        return true;
    return false;
}

/* The call was made: answers, streams, or waits. */
static enum MHD_Result attend(rv__exchange *e, bool wants_stream)
{
    if (!e->call)
        return refuse(e, 500, "internalServerError", "out of memory");
    if (rv_call_reply(e->call))
        return answer_reply(e);
    e->streaming = wants_stream;
    e->last_ms = rv__clock_ms();
    if (e->streaming)
        return rv__stream_begin(e);
    rv__exchange_suspend(e);
    return MHD_YES;
}

static rv_call *begin_openai(rv__exchange *e, const rv_call_options *call)
{
    const char *dry = MHD_lookup_connection_value(e->connection, MHD_GET_ARGUMENT_KIND, "dryRun");
    rv_openai_options o = {
        .kind = e->kind,
        .content_type = header(e, "Content-Type"),
        .idempotency_key = header(e, "Idempotency-Key"),
        .call = *call};
    o.call.text = NULL;
    o.call.dry_run = dry && (strcmp(dry, "1") == 0 || strcmp(dry, "true") == 0);
    return rv_openai_begin(e->server->r, e->body.data ? e->body.data : "", e->body.len, &o);
}

static enum MHD_Result begin(rv__exchange *e)
{
    rv_call_options options;
    enum MHD_Result result;
    e->begun = true;
    if (e->too_large)
        return refuse(e, 413, "maxRequestSize", "the request body has more than 64 MiB");
    if (e->server->stopping)
        return refuse(e, 503, "serviceUnavailable", "the engine process is stopping");
    if (!read_options(e, &options, &result))
        return result;
    if (e->is_openai)
        e->call = begin_openai(e, &options);
    else
        e->call =
            rv_call_begin(e->server->r, e->body.data ? e->body.data : "", e->body.len, &options);
    rv__buf_free(&e->body);
    return attend(e, e->is_openai ? e->call && rv_openai_streams(e->call) : is_on(e, "stream"));
}

/* GET and DELETE /tasks/UUID, GET /tasks/UUID/events. */
static enum MHD_Result ask_task(rv__exchange *e, const char *url, const char *method)
{
    rv_call_options options;
    enum MHD_Result result;
    char uuid[UUID_MAX + 1];
    if (e->is_answered)
        return MHD_YES;
    if (e->begun && e->gone)
        return MHD_NO;
    if (e->begun)
        return rv_call_reply(e->call) ? answer_reply(e) : MHD_YES;
    e->begun = true;
    size_t len = strcspn(url, "/");
    bool is_delete = strcmp(method, "DELETE") == 0, has_more = url[len] != '\0';
    bool is_stream = strcmp(url + len, "/events") == 0;
    if (len > UUID_MAX || (has_more && (!is_stream || is_delete)))
        return refuse(e, 404, "taskNotFound",
                      "there are GET and DELETE /tasks/UUID, and GET /tasks/UUID/events");
    if (!read_options(e, &options, &result))
        return result;
    memcpy(uuid, url, len);
    uuid[len] = '\0';
    rv_task_verb verb = is_delete   ? RV_TASK_CANCEL
                        : is_stream ? RV_TASK_EVENTS
                                    : RV_TASK_STATUS;
    e->call = rv_call_task(e->server->r, verb, uuid, &options);
    return attend(e, is_stream);
}

static enum MHD_Result generate(rv__exchange *e, const char *data, size_t *size)
{
    if (*size) {
        rv__buf_add(&e->body, data, *size);
        if (e->body.failed && !e->too_large) {
            e->too_large =
                true; /* the rest is read and dropped, so that the client sees the answer */
            rv__buf_free(&e->body);
            e->body.failed = true;
        }
        *size = 0;
        return MHD_YES;
    }
    if (e->is_answered)
        return MHD_YES;
    if (!e->begun)
        return begin(e);
    if (e->gone)
        return MHD_NO;
    return rv_call_reply(e->call) ? answer_reply(e) : MHD_YES;
}

/* A length that is too large is refused before the body is sent. */
static bool announces_too_much(struct MHD_Connection *c)
{
    const char *text = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Length");
    return text && strtoull(text, NULL, 10) > RV__BODY_MAX;
}

static enum MHD_Result open_exchange(rv__server *s, struct MHD_Connection *c, void **state)
{
    if (announces_too_much(c))
        return rv__respond_error(c, 413, "maxRequestSize", "the request body has more than 64 MiB");
    *state = exchange_new(s, c);
    return *state ? MHD_YES : MHD_NO;
}

/* Which request of the OpenAI protocol a path is. */
static bool is_openai(const char *url, rv_openai_kind *kind)
{
    static const char *const paths[] = {[RV_OPENAI_GENERATIONS] = "/v1/images/generations",
                                        [RV_OPENAI_EDITS] = "/v1/images/edits",
                                        [RV_OPENAI_VARIATIONS] = "/v1/images/variations"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (strcmp(url, paths[i]) != 0)
            continue;
        *kind = (rv_openai_kind)i;
        return true;
    }
    return false;
}

/* POST of a body that makes a call. */
static enum MHD_Result post(rv__server *s, struct MHD_Connection *c, const char *data, size_t *size,
                            void **state, const rv_openai_kind *kind)
{
    if (*state)
        return generate(*state, data, size);
    enum MHD_Result result = open_exchange(s, c, state);
    rv__exchange *e = *state;
    if (e && kind) {
        e->is_openai = true;
        e->kind = *kind;
    }
    return result;
}

enum MHD_Result rv__exchange_handle(void *server, struct MHD_Connection *c, const char *url,
                                    const char *method, const char *version, const char *data,
                                    size_t *size, void **state)
{
    static char seen; /* *state of requests without an exchange */
    static const char tasks[] = "/tasks/";
    bool is_get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    static const char models[] = "/v1/models/";
    rv_openai_kind kind;
    bool is_post = strcmp(method, "POST") == 0;
    if (is_post && is_openai(url, &kind))
        return post(server, c, data, size, state, &kind);
    if (is_post && strcmp(url, "/generate") == 0)
        return post(server, c, data, size, state, NULL);
    bool is_task = strncmp(url, tasks, sizeof tasks - 1) == 0 &&
                   (strcmp(method, "GET") == 0 || strcmp(method, "DELETE") == 0);
    if (is_task && !*state)
        return open_exchange(server, c, state);
    if (is_task && !*size)
        return ask_task(*state, url + sizeof tasks - 1, method);
    if (!*state) {
        *state = &seen; /* answered once the body, if any, was read */
        return MHD_YES;
    }
    if (*size) {
        *size = 0;
        return MHD_YES;
    }
    if (strcmp(url, "/healthz") == 0 && is_get)
        return rv__respond_health(server, c);
    if (strcmp(url, "/metrics") == 0 && is_get)
        return rv__respond_metrics(server, c);
    if (strcmp(url, "/v1/models") == 0 && is_get)
        return rv__respond_models(server, c);
    if (strncmp(url, models, sizeof models - 1) == 0 && is_get)
        return rv__respond_model(server, c, url + sizeof models - 1);
    if (strcmp(url, "/outbox") == 0 || strncmp(url, "/outbox/", 8) == 0)
        return rv__outbox_handle(server, c, url + strlen("/outbox"), method, state);
    if (is_openai(url, &kind) || strcmp(url, "/generate") == 0 || strcmp(url, "/healthz") == 0 ||
        strcmp(url, "/v1/models") == 0 || strncmp(url, tasks, sizeof tasks - 1) == 0)
        return rv__respond_error(c, 405, "unsupportedTaskType", "this path needs another method");
    return rv__respond_error(c, 404, "unsupportedTaskType",
                             "there are POST /generate, /v1/images/generations, /tasks/UUID, "
                             "/outbox, GET /healthz and GET /v1/models here");
}

void rv__exchange_completed(void *server, struct MHD_Connection *c, void **state,
                            enum MHD_RequestTerminationCode why)
{
    rv__server *s = server;
    rv__outbox_completed(s, *state);
    for (rv__exchange *e = s->exchanges; e; e = e->next) {
        if (e == *state) {
            exchange_free(e);
            break;
        }
    }
    *state = NULL;
}

/* Cancels what still runs for this request. */
static void give_up(rv__exchange *e, const char *why)
{
    for (size_t i = 0; e->call && i < e->timing_count; i++) {
        if (e->timings[i].ended)
            continue;
        e->server->tasks_stopped++;
        log_task(e->timings[i].job, &e->timings[i], "stopped", why);
    }
    rv_call_free(e->call);
    e->call = NULL;
    e->gone = true;
}

void rv__exchange_vanished(rv__exchange *e)
{
    if (!e->suspended)
        return;
    give_up(e, "clientLeft");
    rv__exchange_resume(e);
}

void rv__exchange_drop(rv__exchange *e)
{
    give_up(e, "daemonStops");
    rv__exchange_resume(e);
}

void rv__exchange_heartbeat(rv__exchange *e, int64_t now_ms)
{
    static const char comment[] = ": keep-alive\n\n";
    if (e->streaming && e->suspended && now_ms - e->last_ms >= RV__HEARTBEAT_MS)
        rv__stream_add(e, comment, sizeof comment - 1);
}
