/* Event streams to clients.  A slow client costs a bounded amount of memory: its steps are merged,
 * and only pictures and ends are kept for it. */
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "daemon/server.h"

/* While MHD does not look at the connection, we watch whether the client is still there. */
void rv__exchange_suspend(rv__exchange *e)
{
    e->suspended = true;
    MHD_suspend_connection(e->connection);
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = e};
    if (epoll_ctl(e->server->epoll, EPOLL_CTL_ADD, e->fd, &event) != 0)
        epoll_ctl(e->server->epoll, EPOLL_CTL_MOD, e->fd, &event);
}

void rv__exchange_resume(rv__exchange *e)
{
    if (!e->suspended)
        return;
    e->suspended = false;
    epoll_ctl(e->server->epoll, EPOLL_CTL_DEL, e->fd, NULL);
    MHD_resume_connection(e->connection);
}

static void flush_step(rv__exchange *e)
{
    if (e->step)
        rv__buf_add(&e->out, e->step, e->step_len);
    rv_free(e->step);
    e->step = NULL;
}

void rv__stream_add(rv__exchange *e, const char *text, size_t len)
{
    flush_step(e);
    rv__buf_add(&e->out, text, len);
    e->last_ms = rv__clock_ms();
    rv__exchange_resume(e);
}

void rv__stream_text(rv__exchange *e, const char *text, size_t len)
{
    static const char step[] = "event: step\n";
    bool is_step = len > sizeof step && memcmp(text, step, sizeof step - 1) == 0;
    if (!is_step || e->out.len == e->out_at) {
        rv__stream_add(e, text, len);
        return;
    }
    char *copy = rv__strndup(text, len);
    if (!copy)
        return; /* a step more or less */
    rv__free(e->step);
    e->step = copy;
    e->step_len = len;
}

void rv__stream_event(rv__exchange *e, const rv_job *job, const rv_event *event)
{
    size_t len;
    rv_event plain = *event;
    if (!e->wants_previews)
        plain.preview = NULL;
    char *text = rv_event_stream(job, &plain, &len);
    if (text)
        rv__stream_text(e, text, len);
    else
        e->out.failed = true;
    rv_free(text);
}

void rv__stream_end(rv__exchange *e)
{
    size_t len;
    char *text = rv_reply_stream(rv_call_reply(e->call), &len);
    if (text)
        rv__stream_add(e, text, len);
    else
        e->out.failed = true;
    rv_free(text);
    rv__stream_finish(e);
}

void rv__stream_finish(rv__exchange *e)
{
    e->finished = true;
    rv__exchange_resume(e);
}

static ssize_t read_stream(void *user, uint64_t at, char *to, size_t max)
{
    rv__exchange *e = user;
    if (e->gone || e->out.failed)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (e->out.len == e->out_at)
        flush_step(e);
    size_t left = e->out.len - e->out_at;
    if (!left && e->finished)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (!left) {
        rv__exchange_suspend(e);
        return 0;
    }
    size_t n = left < max ? left : max;
    memcpy(to, e->out.data + e->out_at, n);
    e->out_at += n;
    if (e->out_at == e->out.len) {
        rv__buf_free(&e->out);
        e->out_at = 0;
    }
    return (ssize_t)n;
}

enum MHD_Result rv__stream_begin(rv__exchange *e)
{
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 32 * 1024, read_stream, e, NULL);
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, "Content-Type", "text/event-stream");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    e->is_answered = true;
    enum MHD_Result result = MHD_queue_response(e->connection, 200, r);
    MHD_destroy_response(r);
    return result;
}
