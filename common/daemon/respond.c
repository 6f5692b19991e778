/* Answers that need no task: errors, health, models. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "daemon/server.h"
#include "job/courier.h"
#include "job/durable.h"

static enum MHD_Result send_body(struct MHD_Connection *c, int status, struct MHD_Response *r,
                                 int64_t retry_after_ms)
{
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, "Content-Type", "application/json");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    if (retry_after_ms >= 0) {
        char seconds[24];
        snprintf(seconds, sizeof seconds, "%lld", (long long)(retry_after_ms + 999) / 1000);
        MHD_add_response_header(r, "Retry-After", seconds);
    }
    enum MHD_Result result = MHD_queue_response(c, (unsigned)status, r);
    MHD_destroy_response(r);
    return result;
}

enum MHD_Result rv__respond_json(struct MHD_Connection *c, int status, const char *body, size_t len,
                                 int64_t retry_after_ms)
{
    return send_body(c, status, MHD_create_response_from_buffer_static(len, body), retry_after_ms);
}

enum MHD_Result rv__respond_owned(struct MHD_Connection *c, int status, char *body, size_t len)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer_with_free_callback(len, body, rv__free);
    if (!r)
        rv__free(body);
    return send_body(c, status, r, -1);
}

/* Sends a text that was built here; a text that could not be built closes the connection. */
static enum MHD_Result send_built(struct MHD_Connection *c, int status, rv__buf *b,
                                  int64_t retry_after_ms)
{
    size_t len = 0;
    char *text = rv__buf_take(b, &len);
    if (!text)
        return MHD_NO;
    struct MHD_Response *r =
        MHD_create_response_from_buffer_with_free_callback(len, text, rv__free);
    if (!r)
        rv__free(text);
    return send_body(c, status, r, retry_after_ms);
}

static void write_error(rv__buf *b, const char *code, const char *message)
{
    rv__buf_adds(b, "{\"code\":");
    rv__json_write_string(b, code);
    rv__buf_adds(b, ",\"message\":");
    rv__json_write_string(b, message);
    rv__buf_adds(b, "}");
}

enum MHD_Result rv__respond_error(struct MHD_Connection *c, int status, const char *code,
                                  const char *message)
{
    rv__buf b;
    rv__buf_init(&b, 4096);
    rv__buf_adds(&b, "{\"errors\":[");
    write_error(&b, code, message);
    rv__buf_adds(&b, "],\"error\":");
    write_error(&b, code, message);
    rv__buf_adds(&b, "}");
    return send_built(c, status, &b, status == 503 ? 5000 : -1);
}

enum MHD_Result rv__respond_health(rv__server *s, struct MHD_Connection *c)
{
    rv__buf b;
    rv__courier_counts sent[2];
    char waiting[24];
    int64_t stored = rv__durable_waiting(s->r);
    snprintf(waiting, sizeof waiting, "%lld", (long long)stored);
    rv__courier_count(s->r, sent);
    rv__buf_init(&b, 65536);
    rv__buf_addf(
        &b,
        "{\"status\":\"%s\",\"version\":\"%s\",\"engine\":{\"executor\":\"%s\",\"loaded\":%s},"
        "\"models\":%zu,\"queue\":{\"live\":%d,\"limit\":%lld,\"waiting\":%s},"
        "\"tasks\":{\"done\":%llu,\"failed\":%llu,\"stopped\":%llu},"
        "\"fetches\":{\"refused\":%lu},\"webhooks\":{\"sent\":%llu,\"repeated\":%llu,\"dead\":%llu},"
        "\"uploads\":{\"sent\":%llu,\"repeated\":%llu,\"dead\":%llu},\"uptime\":%lld}",
        s->stopping ? "stopping" : "ok", RV_VERSION, rv__context_executor(s->r),
        rv__context_is_loaded(s->r) ? "true" : "false", rv__context_model_count(s->r), s->live,
        (long long)s->queue_limit, stored >= 0 ? waiting : "null",
        (unsigned long long)s->tasks_done,
        (unsigned long long)s->tasks_failed, (unsigned long long)s->tasks_stopped,
        atomic_load(&s->r->fetches_refused), (unsigned long long)sent[0].sent,
        (unsigned long long)sent[0].repeated, (unsigned long long)sent[0].dead,
        (unsigned long long)sent[1].sent, (unsigned long long)sent[1].repeated,
        (unsigned long long)sent[1].dead,
        (long long)(rv__clock_ms() - s->started_ms) / 1000);
    return send_built(c, 200, &b, -1);
}

static void add_metric(rv__buf *b, const char *name, const char *type, const char *help,
                       uint64_t value)
{
    rv__buf_addf(b, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", name, help, name, type, name,
                 (unsigned long long)value);
}

/* By executor: what ended, how many pictures came, and what they cost. */
static void add_totals(rv__buf *b, rv *r)
{
    rv__total t[RV__TOTALS];
    size_t n = rv__job_totals(r, t);
    rv__buf_adds(b, "# HELP reveried_executor_tasks_total Tasks that ended, by who ran them.\n"
                    "# TYPE reveried_executor_tasks_total counter\n");
    for (size_t i = 0; i < n; i++)
        rv__buf_addf(b,
                     "reveried_executor_tasks_total{executor=\"%s\",outcome=\"done\"} %llu\n"
                     "reveried_executor_tasks_total{executor=\"%s\",outcome=\"failed\"} %llu\n",
                     t[i].executor, (unsigned long long)t[i].done, t[i].executor,
                     (unsigned long long)t[i].failed);
    rv__buf_adds(b, "# HELP reveried_executor_images_total Pictures, by who made them.\n"
                    "# TYPE reveried_executor_images_total counter\n");
    for (size_t i = 0; i < n; i++)
        rv__buf_addf(b, "reveried_executor_images_total{executor=\"%s\"} %llu\n", t[i].executor,
                     (unsigned long long)t[i].images);
    rv__buf_adds(b, "# HELP reveried_executor_cost_total US dollars, by who was paid.\n"
                    "# TYPE reveried_executor_cost_total counter\n");
    for (size_t i = 0; i < n; i++)
        rv__buf_addf(b, "reveried_executor_cost_total{executor=\"%s\"} %.6f\n", t[i].executor,
                     t[i].cost);
}

/* Text for Prometheus; nginx puts it behind its own. */
enum MHD_Result rv__respond_metrics(rv__server *s, struct MHD_Connection *c)
{
    rv__buf b;
    rv__buf_init(&b, 65536);
    add_metric(&b, "reveried_queue_tasks", "gauge", "Tasks that wait or run.", (uint64_t)s->live);
    add_metric(&b, "reveried_queue_limit", "gauge", "Most tasks that may.",
               (uint64_t)s->queue_limit);
    int64_t waiting = rv__durable_waiting(s->r);
    if (waiting >= 0)
        add_metric(&b, "reveried_stored_waiting", "gauge",
                   "Asynchronous tasks that wait, counted every ten seconds.", (uint64_t)waiting);
    add_metric(&b, "reveried_models", "gauge", "Models that are served.",
               rv__context_model_count(s->r));
    add_metric(&b, "reveried_model_loaded", "gauge", "Whether weights are in memory.",
               rv__context_is_loaded(s->r));
    add_metric(&b, "reveried_fetches_refused_total", "counter",
               "URLs of requests that were not fetched.", atomic_load(&s->r->fetches_refused));
    add_metric(&b, "reveried_uptime_seconds", "counter", "Since its start.",
               (uint64_t)(rv__clock_ms() - s->started_ms) / 1000);
    rv__buf_adds(&b, "# HELP reveried_tasks_total Tasks that ended.\n"
                     "# TYPE reveried_tasks_total counter\n");
    rv__buf_addf(&b,
                 "reveried_tasks_total{outcome=\"done\"} %llu\n"
                 "reveried_tasks_total{outcome=\"failed\"} %llu\n"
                 "reveried_tasks_total{outcome=\"cancelled\"} %llu\n",
                 (unsigned long long)s->tasks_done, (unsigned long long)s->tasks_failed,
                 (unsigned long long)s->tasks_stopped);
    add_totals(&b, s->r);
    size_t len = 0;
    char *text = rv__buf_take(&b, &len);
    struct MHD_Response *r =
        text ? MHD_create_response_from_buffer_with_free_callback(len, text, rv__free) : NULL;
    if (!r) {
        rv__free(text);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", "text/plain; version=0.0.4");
    enum MHD_Result result = MHD_queue_response(c, 200, r);
    MHD_destroy_response(r);
    return result;
}

/* A text of the library, which belongs to the answer from here on. */
static enum MHD_Result send_text(struct MHD_Connection *c, char *text)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer_with_free_callback(strlen(text), text, rv_free);
    if (!r)
        rv_free(text);
    return send_body(c, 200, r, -1);
}

enum MHD_Result rv__respond_models(rv__server *s, struct MHD_Connection *c)
{
    char *text = rv_openai_models(s->r);
    return text ? send_text(c, text) : MHD_NO;
}

enum MHD_Result rv__respond_model(rv__server *s, struct MHD_Connection *c, const char *id)
{
    const char *schema = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "schema");
    char *text = rv_openai_model(s->r, id, schema);
    return text ? send_text(c, text)
                : rv__respond_error(c, 404, "modelNotFound", "this model is not served here");
}
