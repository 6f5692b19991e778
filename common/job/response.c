/* See response.h. */
#include "response.h"

#include <string.h>

#include "job/call.h"

/* The identity of a kept task, as it was sent. */
static rv__value *parse_task(const rv__record *r)
{
    return r->task ? rv__json_parse(r->task, strlen(r->task), NULL) : NULL;
}

static void write_head(rv__buf *b, const rv__value *task, const char *status)
{
    rv__buf_adds(b, "{\"taskType\":");
    rv__json_write_string(b, rv__json_get_string(task, "taskType", "imageInference"));
    rv__buf_adds(b, ",\"taskUUID\":");
    rv__json_write_string(b, rv__json_get_string(task, "taskUUID", ""));
    rv__buf_addf(b, ",\"status\":\"%s\"", status);
}

/* A result item with its status. */
static void write_success(rv__buf *b, const char *item)
{
    const char *end = strrchr(item, '}');
    rv__buf_add(b, item, end ? (size_t)(end - item) : strlen(item));
    rv__buf_adds(b, ",\"status\":\"success\"}");
}

/* Percent of a picture that is being made; -1: not begun. */
static int progress(const rv_job *j, size_t index)
{
    if (!j || j->shown != RV_RUNNING || j->step_index != index || j->steps <= 0)
        return -1;
    return j->step * 100 / j->steps;
}

/* The same as another process says it. */
static int progress_elsewhere(const rv__record *r, size_t index)
{
    if (r->state != RV__RUNNING || r->step_index != index || r->steps <= 0)
        return -1;
    return r->step * 100 / r->steps;
}

static void write_open(rv__buf *b, const rv__value *task, const rv__record *r, const rv_job *j,
                       size_t index)
{
    write_head(b, task, "processing");
    int percent = j ? progress(j, index) : progress_elsewhere(r, index);
    if (percent >= 0)
        rv__buf_addf(b, ",\"progress\":%d", percent);
    rv__buf_adds(b, "}");
}

static void write_failed(rv__buf *b, const rv__value *task, const char *error)
{
    write_head(b, task, "error");
    rv__buf_adds(b, ",\"error\":");
    rv__buf_adds(b, error);
    rv__buf_adds(b, "}");
}

/* The error object of a task that failed; where none could be kept, what is certain. */
static char *error_of(const rv__record *r, const rv__value *task)
{
    if (r->error)
        return rv__strdup(r->error);
    rv__buf b;
    rv__buf_init(&b, 4096);
    rv__buf_adds(&b, "{\"code\":\"taskFailed\",\"message\":\"the task failed\",\"taskType\":");
    rv__json_write_string(&b, rv__json_get_string(task, "taskType", "imageInference"));
    rv__buf_adds(&b, ",\"taskUUID\":");
    rv__json_write_string(&b, rv__json_get_string(task, "taskUUID", ""));
    rv__buf_adds(&b, "}");
    return rv__buf_take(&b, NULL);
}

static char *write_items(const rv__record *r, const rv__value *task, const rv_job *job,
                         const char *error)
{
    rv__buf b;
    rv__buf_init(&b, SIZE_MAX / 4);
    for (size_t i = 0; i < r->count; i++) {
        rv__buf_adds(&b, i ? "," : "");
        if (r->items[i])
            write_success(&b, r->items[i]);
        else if (error)
            write_failed(&b, task, error);
        else
            write_open(&b, task, r, job, i);
    }
    return rv__buf_take(&b, NULL);
}

bool rv__response_has_result(const rv__record *record)
{
    for (size_t i = 0; i < record->count; i++) {
        if (record->items[i])
            return true;
    }
    return false;
}

static const char *state_word(rv__stored state)
{
    static const char *const words[] = {[RV__WAITING] = "queued", [RV__RUNNING] = "running",
                                        [RV__DONE] = "done",      [RV__FAILED] = "failed",
                                        [RV__STOPPED] = "stopped", [RV__EXPIRED] = "expired"};
    return words[state];
}

static void begin_event(rv__buf *b, const char *name, const rv__value *task)
{
    rv__buf_addf(b, "event: %s\ndata: {\"taskUUID\":", name);
    rv__json_write_string(b, rv__json_get_string(task, "taskUUID", ""));
}

static bool is_new_image(const rv__record *r, const rv__told *told, size_t i)
{
    bool was_told = i < 64 && told->images >> i & 1;
    return r->items[i] && !was_told;
}

static bool is_new_step(const rv__record *r, const rv__told *told)
{
    return r->state == RV__RUNNING && r->steps > 0 && r->step_index < r->count &&
           !r->items[r->step_index] &&
           (r->step != told->step || r->step_index != told->step_index);
}

bool rv__response_has_news(const rv__record *r, const rv__told *told)
{
    bool found = (r->state == RV__RUNNING && !told->started) || is_new_step(r, told) ||
                 r->state > RV__RUNNING;
    for (size_t i = 0; i < r->count && !found; i++)
        found = is_new_image(r, told, i);
    return found;
}

static void write_images(rv__buf *b, const rv__value *task, const rv__record *r, rv__told *told)
{
    for (size_t i = 0; i < r->count; i++) {
        if (!is_new_image(r, told, i))
            continue;
        begin_event(b, "image", task);
        rv__buf_addf(b, ",\"index\":%zu,\"item\":", i);
        rv__buf_adds(b, r->items[i]);
        rv__buf_adds(b, "}\n\n");
        told->images |= i < 64 ? UINT64_C(1) << i : 0;
    }
}

static void write_step(rv__buf *b, const rv__value *task, const rv__record *r, rv__told *told)
{
    begin_event(b, "step", task);
    rv__buf_addf(b, ",\"index\":%zu,\"step\":%d,\"steps\":%d}\n\n", r->step_index, r->step, r->steps);
    told->step_index = r->step_index;
    told->step = r->step;
}

static void write_end(rv__buf *b, const rv__value *task, const rv__record *r)
{
    begin_event(b, "end", task);
    rv__buf_addf(b, ",\"state\":\"%s\"", state_word(r->state));
    if (r->warnings)
        rv__buf_adds(b, ",\"warnings\":[");
    rv__buf_adds(b, r->warnings ? r->warnings : "");
    rv__buf_adds(b, r->warnings ? "]}\n\n" : "}\n\n");
}

char *rv__response_stream(const rv__record *r, rv__told *told, size_t *len)
{
    rv__value *task = parse_task(r);
    rv__buf b;
    rv__buf_init(&b, SIZE_MAX / 4);
    if (task && r->state == RV__WAITING && !told->queued) {
        begin_event(&b, "queued", task);
        rv__buf_addf(&b, ",\"position\":%lld}\n\n", (long long)r->before);
        told->queued = true;
    }
    if (task && r->state == RV__RUNNING && !told->started) {
        begin_event(&b, "started", task);
        rv__buf_adds(&b, "}\n\n");
        told->started = true;
    }
    if (task)
        write_images(&b, task, r, told);
    if (task && is_new_step(r, told))
        write_step(&b, task, r, told);
    if (task && r->state > RV__RUNNING)
        write_end(&b, task, r);
    rv__json_free(task);
    return b.len ? rv__buf_take(&b, len) : NULL;
}

rv_status rv__response_of_job(const rv_job *job, char **items, char **errors, rv_error *err)
{
    static const rv__stored states[] = {RV__WAITING, RV__RUNNING, RV__DONE, RV__FAILED, RV__STOPPED};
    rv__record r = {.id = job->id,
                    .task = (char *)rv_task_json(job->task, NULL),
                    .state = states[job->shown],
                    .count = job->count,
                    .items = job->items};
    rv__buf b;
    rv__buf_init(&b, 1 << 20);
    if (rv_job_error(job)) {
        rv__reply_error_json(&b, job->task, rv_job_error(job));
        r.error = b.data;
    }
    rv_status s = b.failed ? rv__fail(err, RV_MEMORY, "out of memory")
                           : rv__response_write(&r, NULL, items, errors, err);
    rv__buf_free(&b);
    return s;
}

/* Pictures that could not be uploaded, as their error objects; NULL: none (or no memory). */
static char *failed_uploads(const rv__record *r)
{
    char *text = r->warnings ? rv__format("[%s]", r->warnings) : NULL;
    rv__value *list = text ? rv__json_parse(text, strlen(text), NULL) : NULL;
    rv__buf b;
    rv__buf_init(&b, SIZE_MAX / 4);
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v)) {
        if (strcmp(rv__json_get_string(v, "code", ""), "uploadFailed") != 0)
            continue;
        rv__buf_adds(&b, b.len ? "," : "");
        rv__json_write_value(&b, v);
    }
    rv__json_free(list);
    rv__free(text);
    return b.len ? rv__buf_take(&b, NULL) : NULL;
}

rv_status rv__response_write(const rv__record *record, const rv_job *job, char **items,
                             char **errors, rv_error *err)
{
    *items = *errors = NULL;
    if (!record->id)
        return rv__fail_code(err, RV_NOT_FOUND, "taskNotFound", "taskUUID",
                             "no task of this taskUUID is known");
    if (record->state == RV__EXPIRED)
        return rv__fail_code(err, RV_NOT_FOUND, "taskExpired", "taskUUID",
                             "the results of this task have expired");
    rv__value *task = parse_task(record);
    bool is_failed = record->state == RV__FAILED || record->state == RV__STOPPED;
    char *error = task && is_failed ? error_of(record, task) : NULL;
    if (task && (!is_failed || error))
        *items = write_items(record, task, job, error);
    rv__json_free(task);
    if (*items) {
        *errors = error ? error : failed_uploads(record);
        return RV_OK;
    }
    rv__free(error);
    return rv__fail(err, RV_MEMORY, "out of memory");
}
