/* See response.h. */
#include "response.h"

#include <string.h>

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

static void write_open(rv__buf *b, const rv__value *task, const rv_job *j, size_t index)
{
    write_head(b, task, "processing");
    int percent = progress(j, index);
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
            write_open(&b, task, job, i);
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
        *errors = error;
        return RV_OK;
    }
    rv__free(error);
    return rv__fail(err, RV_MEMORY, "out of memory");
}
