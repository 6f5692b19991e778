
/*
 * Progress of a call as server-sent events, for requests with "?stream=1".  A
 * client that does not read costs a bounded amount of memory: of steps only
 * the newest waits for it; pictures and ends are never dropped.
 */


#include "ngx_http_reverie.h"


#define NGX_HTTP_REVERIE_STREAM_TICK  1000


typedef struct {
    ngx_queue_t                queue;
    char                      *text;        /* rv_free() it */
    size_t                     len;
} ngx_http_reverie_stream_event_t;


struct ngx_http_reverie_stream_s {
    ngx_buf_t                  buf;         /* of what is being sent */
    char                      *current;     /* its text */
    ngx_queue_t                waiting;     /* events */
    char                      *step;        /* comes after them */
    size_t                     step_len;
    ngx_msec_t                 last;        /* when something was sent */
    unsigned                   previews:1;
    unsigned                   open:1;      /* the header is sent */
    unsigned                   done:1;      /* no event comes any more */
};


static void ngx_http_reverie_stream_push(ngx_http_request_t *r,
    ngx_http_reverie_stream_t *s, char *text, size_t len);
static ngx_int_t ngx_http_reverie_stream_pump(ngx_http_request_t *r,
    ngx_http_reverie_stream_t *s);
static ngx_int_t ngx_http_reverie_stream_next(ngx_http_reverie_stream_t *s,
    char **text, size_t *len);
static void ngx_http_reverie_stream_write(ngx_http_request_t *r);
static void ngx_http_reverie_stream_timer_handler(ngx_event_t *ev);


/* Whether the request wants a stream: then its calls' options say so. */

ngx_int_t
ngx_http_reverie_stream_options(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, rv_call_options *options)
{
    if (r != r->main || !ngx_http_reverie_arg_is_on(r, "stream")) {
        return NGX_OK;
    }

    if (ngx_http_reverie_stream_create(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    ctx->stream->previews = ngx_http_reverie_arg_is_on(r, "preview");

    options->previews = ctx->stream->previews;

    return NGX_OK;
}


ngx_int_t
ngx_http_reverie_stream_create(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx)
{
    ctx->stream = ngx_pcalloc(r->pool, sizeof(ngx_http_reverie_stream_t));
    if (ctx->stream == NULL) {
        return NGX_ERROR;
    }

    ngx_queue_init(&ctx->stream->waiting);

    return NGX_OK;
}


ngx_uint_t
ngx_http_reverie_stream_is_open(ngx_http_reverie_stream_t *s)
{
    return s->open;
}


/* The call is on its way. */

ngx_int_t
ngx_http_reverie_stream_begin(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx)
{
    ngx_int_t     rc;
    ngx_str_t     value;
    ngx_event_t  *timer;

    ctx->own = 1;
    r->disable_not_modified = 1;

    r->headers_out.status = NGX_HTTP_OK;
    ngx_str_set(&r->headers_out.content_type, "text/event-stream");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    /* proxies in front must not collect events */

    ngx_str_set(&value, "no");

    if (ngx_http_reverie_set_header(r, "X-Accel-Buffering", &value) == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR) {
        return NGX_ERROR;
    }

    ctx->stream->open = 1;
    ctx->stream->last = ngx_current_msec;

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_reverie_stream_write;

    ctx->ident[3] = (void *) -1;

    timer = &ctx->timer;
    timer->handler = ngx_http_reverie_stream_timer_handler;
    timer->data = ctx;
    timer->log = r->connection->log;

    /* not cancelable, as for those who wait for one answer */

    if (timer->timer_set) {
        ngx_del_timer(timer);
    }

    ngx_add_timer(timer, NGX_HTTP_REVERIE_STREAM_TICK);

    if (ctx->client_kind) {
        ngx_http_reverie_count_clients(ctx->client.zone, ctx->client_kind - 1,
                                       -1);
    }

    ngx_http_reverie_client_counted(ctx, NGX_HTTP_REVERIE_STREAM);

    r->connection->log->action = "streaming events";

    return NGX_OK;
}


void
ngx_http_reverie_stream_event(void *user, rv_call *call, rv_job *job,
    const rv_event *e)
{
    ngx_http_reverie_ctx_t *ctx = user;

    char                       *text;
    size_t                      len;
    rv_event                    plain;
    ngx_http_reverie_stream_t  *s;

    s = ctx->stream;
    plain = *e;

    if (!s->previews) {
        plain.preview = NULL;
    }

    text = rv_event_stream(job, &plain, &len);

    if (text && e->kind == RV_EVENT_STEP) {
        rv_free(s->step);
        s->step = text;
        s->step_len = len;

    } else if (text) {
        ngx_http_reverie_stream_push(ctx->request, s, text, len);
    }

    ngx_post_event(ctx->request->connection->write, &ngx_posted_events);
}


/* Whole events, as they came from elsewhere.  A lone step may be merged. */

void
ngx_http_reverie_stream_text(ngx_http_reverie_ctx_t *ctx, const char *text,
    size_t len)
{
    char                       *copy;
    u_char                     *end;
    ngx_http_reverie_stream_t  *s;

    s = ctx->stream;
    copy = (char *) ngx_alloc(len, ctx->request->connection->log);

    if (copy == NULL) {
        ctx->request->connection->error = 1;

    } else {
        ngx_memcpy(copy, text, len);

        end = ngx_strnstr((u_char *) copy, "\n\n", len);

        if (len > 12 && ngx_strncmp(copy, "event: step\n", 12) == 0
            && end == (u_char *) copy + len - 2)
        {
            rv_free(s->step);
            s->step = copy;
            s->step_len = len;

        } else {
            ngx_http_reverie_stream_push(ctx->request, s, copy, len);
        }
    }

    ngx_post_event(ctx->request->connection->write, &ngx_posted_events);
}


/* The reply is the last event. */

void
ngx_http_reverie_stream_done(ngx_http_reverie_ctx_t *ctx,
    const rv_reply *reply)
{
    char    *text;
    size_t   len;

    text = rv_reply_stream(reply, &len);

    if (text) {
        ngx_http_reverie_stream_push(ctx->request, ctx->stream, text, len);
    }

    ctx->stream->done = 1;

    ngx_post_event(ctx->request->connection->write, &ngx_posted_events);
}


/* Without memory the connection is cut: a stream with a gap would lie. */

static void
ngx_http_reverie_stream_push(ngx_http_request_t *r,
    ngx_http_reverie_stream_t *s, char *text, size_t len)
{
    ngx_http_reverie_stream_event_t  *event, *step;

    event = ngx_alloc(sizeof(ngx_http_reverie_stream_event_t),
                      r->connection->log);
    step = NULL;

    if (event && s->step) {
        step = ngx_alloc(sizeof(ngx_http_reverie_stream_event_t),
                         r->connection->log);
    }

    if (event == NULL) {
        rv_free(text);
        r->connection->error = 1;
        return;
    }

    /* a step that waits belongs before what follows it, or nowhere */

    if (step) {
        step->text = s->step;
        step->len = s->step_len;
        ngx_queue_insert_tail(&s->waiting, &step->queue);

    } else {
        rv_free(s->step);
    }

    s->step = NULL;

    event->text = text;
    event->len = len;
    ngx_queue_insert_tail(&s->waiting, &event->queue);
}


static void
ngx_http_reverie_stream_write(ngx_http_request_t *r)
{
    ngx_int_t                rc;
    ngx_connection_t        *c;
    ngx_http_reverie_ctx_t  *ctx;

    c = r->connection;
    ctx = ngx_http_get_module_ctx(r, ngx_http_reverie_module);

    if (c->write->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT,
                      "reverie: a client does not read its events");
        c->timedout = 1;
        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    rc = ngx_http_reverie_stream_pump(r, ctx->stream);

    if (rc == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);

    } else if (rc == NGX_DONE) {
        ngx_http_finalize_request(r, ngx_http_send_special(r, NGX_HTTP_LAST));
    }
}


/* NGX_DONE: all is sent. */

static ngx_int_t
ngx_http_reverie_stream_pump(ngx_http_request_t *r,
    ngx_http_reverie_stream_t *s)
{
    char                      *text;
    size_t                     len;
    ngx_chain_t                out;
    ngx_connection_t          *c;
    ngx_http_core_loc_conf_t  *clcf;

    c = r->connection;

    if (c->error || ngx_http_output_filter(r, NULL) == NGX_ERROR) {
        return NGX_ERROR;
    }

    while (!c->buffered && !r->buffered) {

        rv_free(s->current);
        s->current = NULL;

        if (ngx_http_reverie_stream_next(s, &text, &len) != NGX_OK) {

            if (c->write->timer_set) {
                ngx_del_timer(c->write);
            }

            return s->done ? NGX_DONE : NGX_OK;
        }

        ngx_memzero(&s->buf, sizeof(ngx_buf_t));
        s->buf.pos = (u_char *) text;
        s->buf.last = s->buf.pos + len;
        s->buf.memory = 1;
        s->buf.flush = 1;

        s->current = text;
        s->last = ngx_current_msec;

        out.buf = &s->buf;
        out.next = NULL;

        if (ngx_http_output_filter(r, &out) == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (!c->write->timer_set) {
        ngx_add_timer(c->write, clcf->send_timeout);
    }

    return ngx_handle_write_event(c->write, clcf->send_lowat);
}


static ngx_int_t
ngx_http_reverie_stream_next(ngx_http_reverie_stream_t *s, char **text,
    size_t *len)
{
    ngx_queue_t                      *q;
    ngx_http_reverie_stream_event_t  *event;

    if (!ngx_queue_empty(&s->waiting)) {
        q = ngx_queue_head(&s->waiting);
        event = ngx_queue_data(q, ngx_http_reverie_stream_event_t, queue);

        *text = event->text;
        *len = event->len;

        ngx_queue_remove(q);
        ngx_free(event);

        return NGX_OK;
    }

    if (s->step) {
        *text = s->step;
        *len = s->step_len;
        s->step = NULL;

        return NGX_OK;
    }

    return NGX_DECLINED;
}


static void
ngx_http_reverie_stream_timer_handler(ngx_event_t *ev)
{
    ngx_int_t                     rc;
    ngx_chain_t                   out;
    ngx_connection_t             *c;
    ngx_http_request_t           *r;
    ngx_http_reverie_ctx_t       *ctx;
    ngx_http_reverie_stream_t    *s;
    ngx_http_reverie_loc_conf_t  *lcf;

    static u_char  comment[] = ": keep-alive\n\n";

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;
    s = ctx->stream;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    ngx_add_timer(ev, NGX_HTTP_REVERIE_STREAM_TICK);

    if (c->buffered || r->buffered
        || ngx_current_msec - s->last < lcf->heartbeat)
    {
        return;
    }

    /* it is constant: whatever of it is not sent at once needs no copy */

    ngx_memzero(&s->buf, sizeof(ngx_buf_t));
    s->buf.pos = comment;
    s->buf.last = comment + sizeof(comment) - 1;
    s->buf.memory = 1;
    s->buf.flush = 1;
    s->last = ngx_current_msec;

    out.buf = &s->buf;
    out.next = NULL;

    rc = ngx_http_output_filter(r, &out);

    if (rc == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);
        ngx_http_run_posted_requests(c);
        return;
    }

    if (c->buffered || r->buffered) {
        ngx_post_event(c->write, &ngx_posted_events);
    }
}


/* From the request's cleanup. */

void
ngx_http_reverie_stream_free(ngx_http_reverie_stream_t *s)
{
    char    *text;
    size_t   len;

    rv_free(s->current);
    s->current = NULL;

    while (ngx_http_reverie_stream_next(s, &text, &len) == NGX_OK) {
        rv_free(text);
    }
}
