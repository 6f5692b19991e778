
/*
 * Streams of the OpenAI images protocol.  The header is sent when the task
 * begins: until then a refusal is an ordinary error.  A slow client gets fewer
 * partial pictures, so that what waits for it is bounded by the pictures it
 * asked for.
 */


#include "ngx_http_reverie.h"


static ngx_int_t ngx_http_reverie_partial_begin(ngx_http_request_t *r);
static ngx_int_t ngx_http_reverie_partial_send(ngx_http_request_t *r,
    char *text, size_t len, ngx_uint_t last);
static ngx_int_t ngx_http_reverie_partial_watch(ngx_http_request_t *r);
static void ngx_http_reverie_partial_writer(ngx_http_request_t *r);


/* Runs inside rv_dispatch, that is, inside the wake handler. */

void
ngx_http_reverie_partial_event(void *user, rv_call *call, rv_job *job,
    const rv_event *e)
{
    ngx_http_reverie_ctx_t *ctx = user;

    char                *text;
    size_t               len;
    ngx_int_t            rc;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    ngx_http_reverie_tally(&ctx->admission, job, e);

    if (!rv_openai_streams(call) || e->kind == RV_EVENT_QUEUED
        || e->kind == RV_EVENT_END)
    {
        return;
    }

    r = ctx->request;
    c = r->connection;
    rc = NGX_OK;

    if (!r->header_sent) {
        rc = ngx_http_reverie_partial_begin(r);
    }

    if (rc == NGX_OK && e->kind == RV_EVENT_STEP && r->out) {
        return;
    }

    if (rc == NGX_OK) {
        text = rv_openai_event(call, job, e, &len);

        if (text) {
            rc = ngx_http_reverie_partial_send(r, text, len, 0);
        }
    }

    if (rc == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);
        ngx_http_run_posted_requests(c);
    }
}


/* Ends a stream that has begun; what is returned ends the request. */

ngx_int_t
ngx_http_reverie_partial_end(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx)
{
    char    *text;
    size_t   len;

    text = rv_openai_stream_error(ctx->call, &len);

    if (text) {
        return ngx_http_reverie_partial_send(r, text, len, 1);
    }

    return ngx_http_send_special(r, NGX_HTTP_LAST);
}


static ngx_int_t
ngx_http_reverie_partial_begin(ngx_http_request_t *r)
{
    ngx_int_t                rc;
    ngx_str_t                value;
    ngx_http_reverie_ctx_t  *ctx;

    ctx = ngx_http_reverie_ctx(r);

    ctx->own = 1;
    r->disable_not_modified = 1;

    r->headers_out.status = NGX_HTTP_OK;
    ngx_str_set(&r->headers_out.content_type, "text/event-stream");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    ngx_http_clear_content_length(r);

    /* other servers on the way must not collect the events */

    ngx_str_set(&value, "no");

    if (ngx_http_reverie_set_header(r, "X-Accel-Buffering", &value) == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK) {
        return NGX_ERROR;
    }

    /* without this the client would see the header with the first event */

    rc = ngx_http_send_special(r, NGX_HTTP_FLUSH);

    return rc == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


/* Takes the text, which goes when the request does. */

static ngx_int_t
ngx_http_reverie_partial_send(ngx_http_request_t *r, char *text, size_t len,
    ngx_uint_t last)
{
    ngx_int_t            rc;
    ngx_buf_t           *b;
    ngx_chain_t          out;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        rv_free(text);
        return NGX_ERROR;
    }

    cln->handler = rv_free;
    cln->data = text;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = (u_char *) text;
    b->last = b->pos + len;
    b->memory = 1;
    b->flush = 1;
    b->last_buf = (last && r == r->main) ? 1 : 0;
    b->last_in_chain = last ? 1 : 0;

    out.buf = b;
    out.next = NULL;

    rc = ngx_http_output_filter(r, &out);

    return rc == NGX_AGAIN && !last ? ngx_http_reverie_partial_watch(r) : rc;
}


/* The rest is sent when the client takes it. */

static ngx_int_t
ngx_http_reverie_partial_watch(ngx_http_request_t *r)
{
    ngx_event_t               *wev;
    ngx_http_core_loc_conf_t  *clcf;

    wev = r->connection->write;
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    r->write_event_handler = ngx_http_reverie_partial_writer;

    if (!wev->delayed && !wev->timer_set) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    return ngx_handle_write_event(wev, clcf->send_lowat);
}


static void
ngx_http_reverie_partial_writer(ngx_http_request_t *r)
{
    ngx_event_t  *wev;

    wev = r->connection->write;

    if (wev->timedout) {
        r->connection->timedout = 1;
        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    if (ngx_http_output_filter(r, NULL) == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    if (wev->timer_set) {
        ngx_del_timer(wev);
    }

    if (r->out == NULL) {
        r->write_event_handler = ngx_http_request_empty_handler;
        return;
    }

    if (ngx_http_reverie_partial_watch(r) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
    }
}
