/* Answers of a call as messages of their own, for connections that carry many of them.
 *
 * Clients of the protocol hand a whole message to the one task whose taskUUID they find in it, and
 * take any "errors" for a failure of all of it: so a message is about one task and has either "data"
 * or "errors".  The last picture of a task waits for the task's end, because warnings stand beside it. */
#include <stdint.h>
#include <string.h>

#include "call.h"

/* Errors, or warnings, that checking found for task i (SIZE_MAX: all). */
static size_t add_issues(rv__buf *b, const rv_call *c, size_t i, bool warnings)
{
    const rv_issue *issue = NULL;
    size_t count = 0;
    rv_batch_issues(c->batch, &issue);
    for (; issue && issue->message; issue++) {
        if (issue->warning != warnings || (i != SIZE_MAX && issue->task != i))
            continue;
        if (count++)
            rv__buf_adds(b, ",");
        rv__issue_error_json(b, c->batch, issue);
    }
    return count;
}

static char *issues_message(const rv_call *c, size_t i, size_t *len)
{
    rv__buf b;
    rv__buf_init(&b, SIZE_MAX / 4);
    rv__buf_adds(&b, "{\"errors\":[");
    add_issues(&b, c, i, false);
    rv__buf_adds(&b, "]}");
    return rv__buf_take(&b, len);
}

static char *errors_message(const char *errors, size_t *len)
{
    rv__buf b;
    rv__buf_init(&b, SIZE_MAX / 4);
    rv__buf_adds(&b, "{\"errors\":[");
    rv__buf_adds(&b, errors);
    rv__buf_adds(&b, "]}");
    return rv__buf_take(&b, len);
}

static char *error_message(const rv_task *t, const rv_error *err, size_t *len)
{
    rv__buf b;
    rv__buf_init(&b, SIZE_MAX / 4);
    rv__buf_adds(&b, "{\"errors\":[");
    rv__reply_error_json(&b, t, err);
    rv__buf_adds(&b, "]}");
    return rv__buf_take(&b, len);
}

/* Warnings stand beside the last item of a task. */
static char *data_message(const rv_call *c, size_t i, const char *items, bool is_last, size_t *len)
{
    const rv__slot *slot = &c->slots[i];
    rv__buf b, w;
    rv__buf_init(&b, SIZE_MAX / 4);
    rv__buf_init(&w, SIZE_MAX / 4);
    rv__buf_adds(&b, "{\"data\":[");
    rv__buf_adds(&b, items);
    rv__buf_adds(&b, "]");
    if (is_last) {
        size_t found = add_issues(&w, c, i, true);
        if (slot->job)
            rv__job_warnings_json(slot->job, found > 0, &w);
    }
    if (w.len) {
        rv__buf_adds(&b, ",\"warnings\":[");
        rv__buf_add(&b, w.data, w.len);
        rv__buf_adds(&b, "]");
    }
    b.failed |= w.failed;
    rv__buf_free(&w);
    rv__buf_adds(&b, "}");
    return rv__buf_take(&b, len);
}

/* The next picture that was told and not handed out. */
static char *picture_message(rv_call *c, size_t i, bool has_ended, size_t *len)
{
    rv__slot *slot = &c->slots[i];
    rv_job *j = slot->job;
    size_t k = j->order[slot->sent];
    bool is_last = has_ended && slot->sent + 1 == j->news.told && rv_job_state(j) == RV_DONE;
    char *text = data_message(c, i, j->items[k] ? j->items[k] : "", is_last, len);
    if (!text)
        return NULL;
    if (!j->id) { /* nobody else can ask for it */
        rv__free(j->items[k]);
        j->items[k] = NULL;
    }
    slot->sent++;
    slot->is_told = is_last;
    return text;
}

/* order[0..told) and their items are settled: the running side does not touch them any more. */
static char *job_message(rv_call *c, size_t i, size_t *len)
{
    rv__slot *slot = &c->slots[i];
    rv_job *j = slot->job;
    bool has_ended = j->shown >= RV_DONE;
    size_t ready = has_ended || j->news.told < j->count ? j->news.told : j->count - 1;
    if (slot->sent < ready)
        return picture_message(c, i, has_ended, len);
    if (!has_ended || !rv_job_error(j))
        return NULL;
    char *text = error_message(rv_batch_task(c->batch, i), rv_job_error(j), len);
    slot->is_told = text != NULL;
    return text;
}

static char *slot_message(rv_call *c, size_t i, size_t *len)
{
    rv__slot *slot = &c->slots[i];
    const rv_task *t = rv_batch_task(c->batch, i);
    if (slot->is_told || slot->is_waiting)
        return NULL;
    if (slot->job)
        return job_message(c, i, len);
    char *text = !t                    ? issues_message(c, i, len)
                 : slot->has_no_result ? errors_message(slot->errors, len)
                 : slot->item          ? data_message(c, i, slot->item, true, len)
                                       : error_message(t, &slot->error, len);
    slot->is_told = text != NULL;
    return text;
}

char *rv_call_message(rv_call *c, size_t *len)
{
    char *text = NULL;
    if (!c->count && !c->body_told) {
        text = issues_message(c, SIZE_MAX, len);
        c->body_told = text != NULL;
    }
    for (size_t i = 0; i < c->count && !text; i++)
        text = slot_message(c, i, len);
    return text;
}

bool rv_call_is_told(const rv_call *c)
{
    if (!c->count)
        return c->body_told;
    for (size_t i = 0; i < c->count; i++) {
        if (!c->slots[i].is_told)
            return false;
    }
    return true;
}
