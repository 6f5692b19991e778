
/*
 * A request that answers later: body in, library's call, reply out.  The call
 * is cancelled when its client leaves; the worker never waits for anything.
 */


#include "ngx_http_reverie.h"


#define NGX_HTTP_REVERIE_TICK      1000

#define NGX_HTTP_REVERIE_TOO_LATE  "the task took too long and was cancelled"


static void ngx_http_reverie_body_handler(ngx_http_request_t *r);
static void ngx_http_reverie_timer_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_reverie_send_timeout(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx);
static bool ngx_http_reverie_admit_too_late(void *user, rv_batch *batch,
    rv_error *err);
static void ngx_http_reverie_note_code(ngx_http_reverie_ctx_t *ctx,
    const rv_reply *reply);


ngx_int_t
ngx_http_reverie_runware_handler(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (lcf->websocket && ngx_http_reverie_websocket_is_asked(r)) {
        return ngx_http_reverie_websocket_handler(r);
    }

    if (r->method != NGX_HTTP_POST) {
        rc = ngx_http_discard_request_body(r);

        if (rc != NGX_OK) {
            return rc;
        }

        return ngx_http_reverie_send_error(r, NGX_HTTP_NOT_ALLOWED,
                   "unsupportedTaskType",
                   lcf->websocket ? "send tasks with POST: a JSON array of "
                                    "task objects; or open a WebSocket here"
                                  : "send tasks with POST: a JSON array of "
                                    "task objects");
    }

    rc = ngx_http_reverie_check_headers(r);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    return ngx_http_reverie_accept(r, ngx_http_reverie_generate);
}


/*
 * Reads the body and gives it to the handler.  What the handler returns ends
 * the request, except NGX_AGAIN: then a call is on its way.
 */

ngx_int_t
ngx_http_reverie_accept(ngx_http_request_t *r,
    ngx_http_reverie_body_pt handler)
{
    ngx_int_t                rc;
    ngx_http_cleanup_t      *cln;
    ngx_http_reverie_ctx_t  *ctx;

    ctx = ngx_http_reverie_ctx(r);
    cln = ngx_http_cleanup_add(r, 0);

    if (ctx == NULL || cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_reverie_cleanup;
    cln->data = ctx;

    ctx->request = r;
    ctx->body_handler = handler;

    if (ctx->reply == NULL) {
        ctx->reply = ngx_http_reverie_send_reply;
    }

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_reverie_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


static void
ngx_http_reverie_body_handler(ngx_http_request_t *r)
{
    size_t                        len;
    u_char                       *body;
    ngx_int_t                     rc, read;
    ngx_http_reverie_ctx_t       *ctx;
    ngx_http_reverie_loc_conf_t  *lcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_reverie_module);
    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (lcf->context->rv == NULL) {
        rc = ngx_http_reverie_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                         "serviceUnavailable",
                                         "this worker could not start its "
                                         "library; its log says why");
        ngx_http_finalize_request(r, rc);
        return;
    }

    rc = ngx_http_reverie_parse(r, ctx);

    if (rc == NGX_AGAIN) {
        ngx_http_reverie_wait(r, ctx);
        return;
    }

    if (rc == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    read = ngx_http_reverie_read_body(r, &body, &len);

    if (read != NGX_OK && read != NGX_DONE) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    rc = ctx->body_handler(r, ctx, body, len);

    if (read == NGX_DONE) {
        ngx_free(body);
    }

    ngx_http_reverie_go_on(r, ctx, rc);
}


/* With what the body's handler returned. */

void
ngx_http_reverie_go_on(ngx_http_request_t *r, ngx_http_reverie_ctx_t *ctx,
    ngx_int_t rc)
{
    if (rc != NGX_AGAIN) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    if (ctx->stream == NULL) {
        ngx_http_reverie_wait(r, ctx);
        return;
    }

    if (ngx_http_reverie_stream_begin(r, ctx) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
    }
}


ngx_int_t
ngx_http_reverie_generate(ngx_http_request_t *r, ngx_http_reverie_ctx_t *ctx,
    u_char *body, size_t len)
{
    rv_batch                     *batch;
    ngx_int_t                     rc;
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    batch = rv_batch_parse(lcf->context->rv, (char *) body, len);

    if (batch == NULL) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "reverie: out of memory");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_reverie_start(r, ctx, batch);

    rv_batch_unref(batch);

    return rc;
}


/* NGX_AGAIN: the call's reply comes later; otherwise the request is over. */

ngx_int_t
ngx_http_reverie_start(ngx_http_request_t *r, ngx_http_reverie_ctx_t *ctx,
    rv_batch *batch)
{
    ngx_str_t                     prefix;
    const rv_reply               *reply;
    rv_call_options               options;
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (ngx_http_reverie_results_prefix(r, &prefix) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&options, sizeof(rv_call_options));

    options.results_url = (char *) prefix.data;
    options.dry_run = ngx_http_reverie_arg_is_on(r, "dryRun");
    if (ngx_http_reverie_client_init(r, &ctx->client) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    (void) ngx_http_reverie_authenticate(&ctx->client, batch);

    if (ctx->client.key) {
        options.owner = ctx->client.key->text;
    }

    options.admit = ngx_http_reverie_admit_request;
    options.event = ngx_http_reverie_event;
    options.done = ngx_http_reverie_done;
    options.user = ctx;

    if (ngx_http_reverie_stream_options(r, ctx, &options) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->call = rv_call_start(lcf->context->rv, batch, &options);

    if (ctx->call == NULL) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "reverie: out of memory");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    reply = rv_call_reply(ctx->call);

    return reply ? ctx->reply(r, ctx, reply) : NGX_AGAIN;
}


/* Whether the query has NAME=1 (or true, or NAME alone). */

ngx_uint_t
ngx_http_reverie_arg_is_on(ngx_http_request_t *r, const char *name)
{
    ngx_str_t  value;

    if (r->args.len == 0
        || ngx_http_arg(r, (u_char *) name, ngx_strlen(name), &value)
           != NGX_OK)
    {
        return 0;
    }

    return (value.len == 1 && value.data[0] == '1')
           || (value.len == 4 && ngx_strncmp(value.data, "true", 4) == 0);
}


void
ngx_http_reverie_wait(ngx_http_request_t *r, ngx_http_reverie_ctx_t *ctx)
{
    ngx_event_t                  *timer;
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    /* notices a client that leaves; a subrequest's client is the parent's */

    if (r == r->main && !lcf->ignore_client_abort) {
        r->read_event_handler = ngx_http_test_reading;

    } else if (r != r->main && !lcf->ignore_client_abort
               && r->main->read_event_handler == ngx_http_block_reading)
    {
        r->main->read_event_handler = ngx_http_test_reading;

    } else if (r == r->main) {
        r->read_event_handler = ngx_http_block_reading;
    }

    r->write_event_handler = ngx_http_request_empty_handler;

    ctx->ident[3] = (void *) -1;
    ctx->deadline = ngx_current_msec + lcf->sync_timeout;

    timer = &ctx->timer;
    timer->handler = ngx_http_reverie_timer_handler;
    timer->data = ctx;
    timer->log = r->connection->log;

    /*
     * Not cancelable: a worker that is told to finish leaves as soon as no
     * such timer exists, and would cut everybody who waits.
     */

    ngx_add_timer(timer, ngx_min(lcf->sync_timeout, NGX_HTTP_REVERIE_TICK));

    if (ctx->client.zone && ctx->client_kind == 0) {
        ngx_http_reverie_client_counted(ctx, NGX_HTTP_REVERIE_SYNC);
    }

    r->connection->log->action = "waiting for reverie";
}


static void
ngx_http_reverie_timer_handler(ngx_event_t *ev)
{
    ngx_int_t                rc;
    ngx_msec_int_t           left;
    ngx_connection_t        *c;
    ngx_http_request_t      *r;
    ngx_http_reverie_ctx_t  *ctx;

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;

    left = (ngx_msec_int_t) (ctx->deadline - ngx_current_msec);

    if (left > 0) {
        ngx_add_timer(ev, ngx_min((ngx_msec_t) left, NGX_HTTP_REVERIE_TICK));
        return;
    }

    rv_call_free(ctx->call);
    ctx->call = NULL;

    ngx_log_error(NGX_LOG_INFO, c->log, 0,
                  "reverie: a task was cancelled by reverie_sync_timeout");

    rc = NGX_ERROR;

    if (!r->header_sent) {
        rc = ngx_http_reverie_send_timeout(r, ctx);
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


/*
 * Clients of the protocol wait for each task by its taskUUID: the library
 * words an error for each, as it does when a call may not run.
 */

static ngx_int_t
ngx_http_reverie_send_timeout(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx)
{
    const rv_reply               *reply;
    rv_call_options               options;
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);
    reply = NULL;

    if (lcf->api == NGX_HTTP_REVERIE_RUNWARE && ctx->batch) {
        ngx_memzero(&options, sizeof(rv_call_options));
        options.admit = ngx_http_reverie_admit_too_late;

        ctx->call = rv_call_start(lcf->context->rv, ctx->batch, &options);
        reply = ctx->call ? rv_call_reply(ctx->call) : NULL;
    }

    if (reply == NULL) {
        return ngx_http_reverie_send_error(r, NGX_HTTP_GATEWAY_TIME_OUT,
                                           "providerTimeout",
                                           NGX_HTTP_REVERIE_TOO_LATE);
    }

    ngx_str_set(&ctx->error_code, "providerTimeout");

    return ngx_http_reverie_send(r, NGX_HTTP_GATEWAY_TIME_OUT,
                                 reply->content_type, (u_char *) reply->body,
                                 reply->len);
}


static bool
ngx_http_reverie_admit_too_late(void *user, rv_batch *batch, rv_error *err)
{
    ngx_memzero(err, sizeof(rv_error));

    err->status = RV_TIMEOUT;
    err->retry_after_ms = -1;

    ngx_cpystrn((u_char *) err->code, (u_char *) "providerTimeout",
                sizeof(err->code));
    ngx_cpystrn((u_char *) err->message,
                (u_char *) NGX_HTTP_REVERIE_TOO_LATE, sizeof(err->message));

    return false;
}


/* Runs inside rv_dispatch, that is, inside the wake handler. */

void
ngx_http_reverie_done(void *user, rv_call *call)
{
    ngx_http_reverie_ctx_t *ctx = user;

    ngx_int_t            rc;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    if (ctx->stream && ngx_http_reverie_stream_is_open(ctx->stream)) {
        ngx_http_reverie_stream_done(ctx, rv_call_reply(call));
        return;
    }

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    rc = ctx->reply(r, ctx, rv_call_reply(call));

    /* r may be gone now, c is not */

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


ngx_int_t
ngx_http_reverie_send_reply(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, const rv_reply *reply)
{
    int64_t    seconds;
    ngx_str_t  value;

    if (reply->retry_after_ms >= 0) {
        seconds = (reply->retry_after_ms + 999) / 1000;

        value.data = ngx_pnalloc(r->pool, NGX_INT64_LEN);
        if (value.data == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        value.len = ngx_sprintf(value.data, "%L", ngx_max(seconds, 1))
                    - value.data;

        if (ngx_http_reverie_set_header(r, "Retry-After", &value) == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (reply->http_status >= 400) {
        ngx_http_reverie_note_code(ctx, reply);
    }

    /* the body belongs to the call, which lives as long as the request */

    return ngx_http_reverie_send(r, reply->http_status, reply->content_type,
                                 (u_char *) reply->body, reply->len);
}


/* The first code in an error reply, for logs. */

static void
ngx_http_reverie_note_code(ngx_http_reverie_ctx_t *ctx, const rv_reply *reply)
{
    u_char  *p, *last;

    static u_char  key[] = "\"code\":\"";

    last = (u_char *) reply->body + reply->len;
    p = ngx_strlcasestrn((u_char *) reply->body, last, key, sizeof(key) - 2);

    if (p == NULL) {
        return;
    }

    p += sizeof(key) - 1;

    ctx->error_code.data = p;

    while (p < last && *p != '"' && p - ctx->error_code.data < 64) {
        p++;
    }

    ctx->error_code.len = p - ctx->error_code.data;
    ctx->error_code.data = ngx_pstrdup(ctx->request->pool, &ctx->error_code);

    if (ctx->error_code.data == NULL) {
        ctx->error_code.len = 0;
    }
}


/*
 * Runs on every way out of the request, the client's sudden leaving included.
 */

void
ngx_http_reverie_cleanup(void *data)
{
    ngx_http_reverie_ctx_t *ctx = data;

    rv_call  *call;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    if (ctx->parse) {
        ngx_http_reverie_parse_forget(ctx->parse);
        ctx->parse = NULL;
    }

    call = ctx->call;
    ctx->call = NULL;

    rv_call_free(call);

    ngx_http_reverie_admission_end(&ctx->admission);

    if (ctx->client_kind) {
        ngx_http_reverie_count_clients(ctx->client.zone, ctx->client_kind - 1,
                                       -1);
        ctx->client_kind = 0;
    }

    if (ctx->stream) {
        ngx_http_reverie_stream_free(ctx->stream);
    }
}
