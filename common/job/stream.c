/* Progress as server-sent events: one text for nginx, the daemon and whoever else streams. */
#include <stdint.h>
#include <string.h>

#include "base/base64.h"
#include "call.h"

enum { PREVIEW_QUALITY = 80 };

static const char *const state_words[] = {[RV_QUEUED] = "queued",
                                          [RV_RUNNING] = "running",
                                          [RV_DONE] = "done",
                                          [RV_FAILED] = "failed",
                                          [RV_STOPPED] = "stopped"};

static void write_image(rv__buf *b, const rv_job *j, size_t index)
{
    const char *item = rv__job_item(j, index);
    rv__buf_addf(b, ",\"index\":%zu,\"item\":", index);
    rv__buf_adds(b, item ? item : "null");
    rv__buf_adds(b, j->port.is_cached ? ",\"cached\":true" : "");
}

/* A preview is a few kilobytes and takes well under a millisecond; without memory there is none. */
static void write_preview(rv__buf *b, rv_image *preview)
{
    void *bytes = NULL;
    size_t len = 0;
    if (rv_image_encode(preview, "JPG", PREVIEW_QUALITY, &bytes, &len, NULL) != RV_OK)
        return;
    size_t size = rv__base64_size(len);
    char *text = rv__alloc(size + 1);
    if (text) {
        rv__base64_encode(bytes, len, text);
        text[size] = '\0';
        rv__buf_addf(b, ",\"preview\":\"data:image/jpeg;base64,%s\"", text);
    }
    rv__free(text);
    rv_free(bytes);
}

static void write_step(rv__buf *b, const rv_event *e)
{
    rv__buf_addf(b, ",\"index\":%zu,\"step\":%d,\"steps\":%d", e->index, e->step, e->steps);
    if (e->preview)
        write_preview(b, e->preview);
}

static void write_end(rv__buf *b, const rv_job *j)
{
    rv_job_info info = rv_job_facts(j);
    if (info.executor)
        rv__buf_addf(b, ",\"executor\":\"%s\",\"attempts\":%d", info.executor, info.attempts);
    rv__buf_addf(b, ",\"state\":\"%s\"", state_words[j->shown]);
    if (!rv_job_warning(j, 0))
        return;
    rv__buf_adds(b, ",\"warnings\":[");
    rv__job_warnings_json(j, false, b);
    rv__buf_adds(b, "]");
}

static void write_event(rv__buf *b, const rv_job *j, const rv_event *e)
{
    static const char *const names[] = {[RV_EVENT_QUEUED] = "queued",
                                        [RV_EVENT_STARTED] = "started",
                                        [RV_EVENT_STEP] = "step",
                                        [RV_EVENT_IMAGE] = "image",
                                        [RV_EVENT_END] = "end"};
    const char *uuid = rv__task_uuid(j->task);
    rv__buf_addf(b, "event: %s\ndata: {\"taskUUID\":", names[e->kind]);
    rv__json_write_string(b, uuid ? uuid : "");
    if (e->kind == RV_EVENT_QUEUED)
        rv__buf_addf(b, ",\"position\":%zu", e->position);
    else if (e->kind == RV_EVENT_STARTED && rv__job_is_local(j))
        rv__buf_adds(b, ",\"local\":true");
    else if (e->kind == RV_EVENT_STEP)
        write_step(b, e);
    else if (e->kind == RV_EVENT_IMAGE)
        write_image(b, j, e->index);
    else if (e->kind == RV_EVENT_END)
        write_end(b, j);
    rv__buf_adds(b, "}\n\n");
}

char *rv_event_stream(const rv_job *j, const rv_event *e, size_t *len)
{
    rv__buf b;
    rv__buf_init(&b, SIZE_MAX / 4);
    write_event(&b, j, e);
    return rv__buf_take(&b, len);
}

char *rv_reply_stream(const rv_reply *reply, size_t *len)
{
    rv__buf b;
    rv__buf_init(&b, SIZE_MAX / 4);
    rv__buf_addf(&b, "event: reply\ndata: {\"status\":%d", reply->http_status);
    if (reply->retry_after_ms >= 0)
        rv__buf_addf(&b, ",\"retryAfter\":%lld", (long long)reply->retry_after_ms);
    rv__buf_adds(&b, ",\"body\":");
    rv__buf_add(&b, reply->body, reply->len);
    rv__buf_adds(&b, "}\n\n");
    return rv__buf_take(&b, len);
}
