/* The reply of a call: envelope, HTTP status and Retry-After as the Runware protocol and its
 * clients need them.
 *
 * At least one answer: 200 with "data", and "errors" next to it when there are some.  None: the
 * status of the first error, "errors", and the first one again as "error".  An empty "errors" array
 * is never sent: clients take the key for a failure.
 *
 * "warnings" stands last, with the same objects as "errors", when a task ran but not quite as asked.
 * Clients of the protocol do not know the key and pass over it. */
#include <stdint.h>
#include <string.h>

#include "call.h"
#include "openai_call.h"

#define DEFAULT_RETRY_MS 2000 /* where a repeat makes sense and nobody said when */

static const char no_memory_body[] =
    "{\"errors\":[{\"code\":\"internalServerError\",\"message\":\"out of memory\"}],"
    "\"error\":{\"code\":\"internalServerError\",\"message\":\"out of memory\"}}";

/* Error objects as they are collected. */
typedef struct errors {
    rv__buf text;     /* joined by commas */
    size_t first_len; /* of the first object */
    size_t count;
    int http_status; /* of the first */
    int64_t retry_after_ms;
} errors;

static void begin_error(errors *e, int http_status, int64_t retry_after_ms)
{
    if (e->count++) {
        rv__buf_adds(&e->text, ",");
        return;
    }
    e->http_status = http_status;
    bool can_retry = http_status == 429 || http_status == 503;
    e->retry_after_ms = retry_after_ms < 0 && can_retry ? DEFAULT_RETRY_MS : retry_after_ms;
}

static void end_error(errors *e)
{
    if (e->count == 1)
        e->first_len = e->text.len;
}

static void add_issue(errors *e, const rv_call *c, const rv_issue *issue)
{
    begin_error(e, rv_status_http(rv__issue_status(issue)), -1);
    rv__issue_error_json(&e->text, c->batch, issue);
    end_error(e);
}

static void add_member(rv__buf *b, const char *key, const char *value)
{
    if (!value || !*value)
        return;
    rv__buf_addf(b, ",\"%s\":", key);
    rv__json_write_string(b, value);
}

void rv__reply_error_json(rv__buf *b, const rv_task *t, const rv_error *err)
{
    rv__buf_adds(b, "{\"code\":");
    rv__json_write_string(b, err->code);
    rv__buf_adds(b, ",\"message\":");
    rv__json_write_string(b, *err->message ? err->message : rv_status_text(err->status));
    add_member(b, "parameter", err->parameter);
    add_member(b, "taskType", rv__task_type(t));
    add_member(b, "taskUUID", rv__task_uuid(t));
    rv__buf_adds(b, "}");
}

/* An error that came from another server keeps that server's HTTP status. */
static void add_failure(errors *e, const rv_task *t, const rv_error *err)
{
    bool is_foreign = err->http_status >= 400 && err->http_status <= 599;
    begin_error(e, is_foreign ? err->http_status : rv_status_http(err->status),
                err->retry_after_ms);
    rv__reply_error_json(&e->text, t, err);
    end_error(e);
}

static void add_task_failure(errors *e, const rv_call *c, size_t i)
{
    const rv_task *t = rv_batch_task(c->batch, i);
    const rv__slot *slot = &c->slots[i];
    if (!t)
        return;
    if (slot->errors) {
        begin_error(e, 500, -1);
        rv__buf_adds(&e->text, slot->errors);
        end_error(e);
    }
    if (slot->job && rv__job_has_errors(slot->job)) { /* beside its results */
        begin_error(e, rv_status_http(RV_PROVIDER), -1);
        rv__job_notes_json(slot->job, true, false, &e->text);
        end_error(e);
    }
    if (slot->job && rv_job_error(slot->job))
        add_failure(e, t, rv_job_error(slot->job));
    else if (slot->error.status != RV_OK)
        add_failure(e, t, &slot->error);
}

/* All errors in the order of the tasks; issues of no task (a body that is not JSON) come first. */
static void collect(errors *e, const rv_call *c)
{
    const rv_issue *issue = NULL;
    rv_batch_issues(c->batch, &issue);
    size_t next = 0;
    for (; issue && issue->message; issue++) {
        for (; next < c->count && next < issue->task; next++)
            add_task_failure(e, c, next);
        if (!issue->warning)
            add_issue(e, c, issue);
    }
    for (; next < c->count; next++)
        add_task_failure(e, c, next);
}

/* What the tasks that run were told: of the request itself, then of the run. */
static void collect_warnings(rv__buf *b, const rv_call *c)
{
    const rv_issue *issue = NULL;
    rv_batch_issues(c->batch, &issue);
    for (; issue && issue->message; issue++) {
        if (!issue->warning)
            continue;
        if (b->len)
            rv__buf_adds(b, ",");
        rv__issue_error_json(b, c->batch, issue);
    }
    for (size_t i = 0; i < c->count; i++)
        if (c->slots[i].job)
            rv__job_notes_json(c->slots[i].job, false, b->len > 0, b);
}

/* Calls visit with every answer, in the order of tasks and pictures. */
static void each_item(const rv_call *c, void (*visit)(void *user, const char *item, size_t len),
                      void *user)
{
    for (size_t i = 0; i < c->count; i++) {
        const rv__slot *slot = &c->slots[i];
        if (slot->item)
            visit(user, slot->item, strlen(slot->item));
        for (size_t k = 0; slot->job && k < rv_job_images(slot->job); k++) {
            const char *item = rv__job_item(slot->job, k);
            if (item)
                visit(user, item, strlen(item));
        }
    }
}

typedef struct data {
    size_t count, len; /* len with the commas */
    char *to;          /* NULL: only measure  */
} data;

static void visit_item(void *user, const char *item, size_t len)
{
    data *d = user;
    bool comma = d->count++ > 0;
    if (d->to) {
        if (comma)
            d->to[d->len] = ',';
        memcpy(d->to + d->len + comma, item, len);
    }
    d->len += len + comma;
}

static size_t put(char *body, size_t at, const char *text, size_t len)
{
    memcpy(body + at, text, len);
    return at + len;
}

#define PUT(text) at = put(body, at, text, strlen(text))

/* Items may have many megabytes: the body is allocated once, at a size that suffices. */
static char *assemble(const rv_call *c, const errors *e, const rv__buf *warnings, size_t *len)
{
    data d = {0};
    each_item(c, visit_item, &d);
    size_t room = 64 + e->text.len + e->first_len + warnings->len;
    char *body = d.len < SIZE_MAX - room ? rv__alloc(d.len + room) : NULL;
    if (!body)
        return NULL;
    size_t at = 0;
    PUT("{");
    if (d.count || !e->count) {
        PUT("\"data\":[");
        data copy = {.to = body + at};
        each_item(c, visit_item, &copy);
        at += copy.len;
        PUT(e->count ? "]," : "]");
    }
    if (e->count) {
        PUT("\"errors\":[");
        at = put(body, at, e->text.data, e->text.len);
        PUT("]");
    }
    if (e->count && !d.count) {
        PUT(",\"error\":");
        at = put(body, at, e->text.data, e->first_len);
    }
    if (warnings->len) {
        PUT(",\"warnings\":[");
        at = put(body, at, warnings->data, warnings->len);
        PUT("]");
    }
    PUT("}");
    *len = at;
    return body;
}

#undef PUT

static bool has_item(const rv_call *c)
{
    data d = {0};
    each_item(c, visit_item, &d);
    return d.count > 0;
}

void rv__reply_build(rv_call *c)
{
    if (c->options.messages) {
        c->reply = (rv_reply){200, "application/json", "", 0, -1};
        return;
    }
    if (c->openai) {
        rv__openai_reply(c);
        return;
    }
    errors e = {.retry_after_ms = -1};
    rv__buf_init(&e.text, SIZE_MAX / 4);
    rv__buf warnings;
    rv__buf_init(&warnings, SIZE_MAX / 4);
    collect(&e, c);
    collect_warnings(&warnings, c);
    size_t len = 0;
    c->body = e.text.failed || warnings.failed ? NULL : assemble(c, &e, &warnings, &len);
    bool is_ok = !e.count || has_item(c);
    c->reply = (rv_reply){.http_status = is_ok ? 200 : e.http_status,
                          .content_type = "application/json",
                          .body = c->body,
                          .len = len,
                          .retry_after_ms = is_ok ? -1 : e.retry_after_ms};
    if (!c->body)
        c->reply =
            (rv_reply){500, "application/json", no_memory_body, sizeof no_memory_body - 1, -1};
    rv__buf_free(&e.text);
    rv__buf_free(&warnings);
}
