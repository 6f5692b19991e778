
/*
 * A request that answers later: body in, library's call, reply out.  The call
 * is cancelled when its client leaves; the worker never waits for anything.
 */


#include "ngx_http_reverie.h"


#define NGX_HTTP_REVERIE_TICK  1000


static ngx_int_t ngx_http_reverie_check_headers(ngx_http_request_t *r);
static void ngx_http_reverie_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_reverie_begin(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx);
static ngx_int_t ngx_http_reverie_read_body(ngx_http_request_t *r,
    u_char **body, size_t *len);
static ngx_int_t ngx_http_reverie_copy_buf(ngx_http_request_t *r,
    ngx_buf_t *b, u_char *p, size_t size);
static ngx_int_t ngx_http_reverie_results_prefix(ngx_http_request_t *r,
    ngx_str_t *prefix);
static ngx_uint_t ngx_http_reverie_is_our_host(ngx_http_request_t *r);
static void ngx_http_reverie_wait(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx);
static void ngx_http_reverie_timer_handler(ngx_event_t *ev);
static void ngx_http_reverie_done(void *user, rv_call *call);
static ngx_int_t ngx_http_reverie_send_reply(ngx_http_request_t *r,
    const rv_reply *reply);
static void ngx_http_reverie_cleanup(void *data);


ngx_int_t
ngx_http_reverie_runware_handler(ngx_http_request_t *r)
{
    ngx_int_t                rc;
    ngx_http_cleanup_t      *cln;
    ngx_http_reverie_ctx_t  *ctx;

    if (r->method != NGX_HTTP_POST || ngx_http_reverie_ctx(r) == NULL) {
        rc = ngx_http_discard_request_body(r);

        if (rc != NGX_OK) {
            return rc;
        }

        return ngx_http_reverie_send_error(r, NGX_HTTP_NOT_ALLOWED,
                   "unsupportedTaskType",
                   "send tasks with POST: a JSON array of task objects");
    }

    rc = ngx_http_reverie_check_headers(r);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ctx = ngx_http_reverie_ctx(r);

    ctx->request = r;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_reverie_cleanup;
    cln->data = ctx;

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_reverie_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


/* NGX_DECLINED: nothing speaks against reading the body. */

static ngx_int_t
ngx_http_reverie_check_headers(ngx_http_request_t *r)
{
    size_t            len;
    ngx_int_t         rc;
    ngx_str_t        *type;
    ngx_uint_t        i, encoded;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *header;

    encoded = 0;
    part = &r->headers_in.headers.part;
    header = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            header = part->elts;
            i = 0;
        }

        if (header[i].key.len == sizeof("Content-Encoding") - 1
            && ngx_strcasecmp(header[i].key.data,
                              (u_char *) "Content-Encoding") == 0
            && header[i].value.len
            && ngx_strcasecmp(header[i].value.data, (u_char *) "identity")
               != 0)
        {
            encoded = 1;
        }
    }

    if (!encoded && r->headers_in.content_type == NULL) {
        return NGX_DECLINED;
    }

    if (!encoded) {
        type = &r->headers_in.content_type->value;

        for (len = 0; len < type->len; len++) {
            if (type->data[len] == ';' || type->data[len] == ' ') {
                break;
            }
        }

        if ((len == 16 && ngx_strncasecmp(type->data,
                                          (u_char *) "application/json", 16)
                          == 0)
            || (len == 10 && ngx_strncasecmp(type->data,
                                             (u_char *) "text/plain", 10)
                             == 0)
            || len == 0)
        {
            return NGX_DECLINED;
        }
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_reverie_send_error(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
               "unsupportedMediaType",
               encoded ? "compressed request bodies are not accepted"
                       : "the Content-Type must be application/json");
}


static void
ngx_http_reverie_body_handler(ngx_http_request_t *r)
{
    ngx_int_t                rc;
    ngx_http_reverie_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_reverie_module);

    rc = ngx_http_reverie_begin(r, ctx);

    if (rc != NGX_AGAIN) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    ngx_http_reverie_wait(r, ctx);
}


/* NGX_AGAIN: the call's reply comes later; otherwise the request is over. */

static ngx_int_t
ngx_http_reverie_begin(ngx_http_request_t *r, ngx_http_reverie_ctx_t *ctx)
{
    size_t                        len;
    u_char                       *body;
    ngx_int_t                     rc;
    ngx_str_t                     prefix;
    const rv_reply               *reply;
    rv_call_options               options;
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (lcf->context->rv == NULL) {
        return ngx_http_reverie_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "serviceUnavailable",
                                           "this worker could not start its "
                                           "library; its log says why");
    }

    if (ngx_http_reverie_results_prefix(r, &prefix) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_reverie_read_body(r, &body, &len);

    if (rc != NGX_OK && rc != NGX_DONE) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&options, sizeof(rv_call_options));

    options.results_url = (char *) prefix.data;
    options.done = ngx_http_reverie_done;
    options.user = ctx;

    ctx->call = rv_call_begin(lcf->context->rv, (char *) body, len, &options);

    if (rc == NGX_DONE) {
        ngx_free(body);
    }

    if (ctx->call == NULL) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "reverie: out of memory");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    reply = rv_call_reply(ctx->call);

    return reply ? ngx_http_reverie_send_reply(r, reply) : NGX_AGAIN;
}


/*
 * The body is in one buffer, in several, in a file, or not there at all.
 * NGX_DONE: it was put together in memory that the caller must free.
 */

static ngx_int_t
ngx_http_reverie_read_body(ngx_http_request_t *r, u_char **body, size_t *len)
{
    u_char       *p;
    size_t        size;
    ngx_buf_t    *b;
    ngx_chain_t  *cl, *bufs;

    *body = (u_char *) "";
    *len = 0;

    bufs = r->request_body ? r->request_body->bufs : NULL;

    if (bufs && bufs->next == NULL && ngx_buf_in_memory(bufs->buf)) {
        *body = bufs->buf->pos;
        *len = bufs->buf->last - bufs->buf->pos;
        return NGX_OK;
    }

    for (cl = bufs; cl; cl = cl->next) {
        *len += ngx_buf_size(cl->buf);
    }

    if (*len == 0) {
        return NGX_OK;
    }

    /* not from the pool: megabytes would stay until the picture is ready */

    p = ngx_alloc(*len, r->connection->log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    *body = p;

    for (cl = bufs; cl; cl = cl->next) {
        b = cl->buf;
        size = ngx_buf_size(b);

        if (ngx_http_reverie_copy_buf(r, b, p, size) != NGX_OK) {
            ngx_free(*body);
            return NGX_ERROR;
        }

        p += size;
    }

    return NGX_DONE;
}


static ngx_int_t
ngx_http_reverie_copy_buf(ngx_http_request_t *r, ngx_buf_t *b, u_char *p,
    size_t size)
{
    off_t    offset;
    ssize_t  n;

    if (ngx_buf_in_memory(b)) {
        ngx_memcpy(p, b->pos, size);
        return NGX_OK;
    }

    /* just written by this worker: it comes from the page cache */

    for (offset = b->file_pos; size; offset += n, p += n, size -= n) {
        n = ngx_read_file(b->file, p, size, offset);

        if (n == NGX_ERROR || n == 0) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "reverie: the request body cannot be read again");
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * What stands before the name of a stored picture, with a NUL behind it.  The
 * client's Host header is used only when it is one of the server's names:
 * otherwise it could plant links to other hosts.
 */

static ngx_int_t
ngx_http_reverie_results_prefix(ngx_http_request_t *r, ngx_str_t *prefix)
{
    u_char                       *p;
    size_t                        len;
    ngx_str_t                     value, host, scheme, port;
    in_port_t                     number;
    u_char                        addr[NGX_SOCKADDR_STRLEN];
    ngx_connection_t             *c;
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (lcf->results_url) {

        if (ngx_http_complex_value(r, lcf->results_url, &value) != NGX_OK) {
            return NGX_ERROR;
        }

        len = value.len + sizeof("/");

        p = ngx_pnalloc(r->pool, len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        prefix->data = p;
        p = ngx_cpymem(p, value.data, value.len);

        if (value.len == 0 || value.data[value.len - 1] != '/') {
            *p++ = '/';
        }

        *p = '\0';
        prefix->len = p - prefix->data;

        return NGX_OK;
    }

    c = r->connection;

    if (ngx_connection_local_sockaddr(c, NULL, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_str_set(&scheme, "http");

#if (NGX_HTTP_SSL)
    if (c->ssl) {
        ngx_str_set(&scheme, "https");
    }
#endif

    number = ngx_inet_get_port(c->local_sockaddr);

    port.data = (u_char *) "";
    port.len = 0;

    if (ngx_http_reverie_is_our_host(r)) {
        host = r->headers_in.server;

        port.data = addr;

        if (number && number != (scheme.len == 4 ? 80 : 443)) {
            port.len = ngx_sprintf(addr, ":%ui", (ngx_uint_t) number) - addr;
        }

    } else {
        host.data = addr;
        host.len = NGX_SOCKADDR_STRLEN;

        if (ngx_connection_local_sockaddr(c, &host, 1) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    len = scheme.len + sizeof("://") + host.len + port.len
          + lcf->results_uri.len;

    prefix->data = ngx_pnalloc(r->pool, len);
    if (prefix->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(prefix->data, "%V://%V%V%V", &scheme, &host, &port,
                    &lcf->results_uri);
    *p = '\0';
    prefix->len = p - prefix->data;

    return NGX_OK;
}


static ngx_uint_t
ngx_http_reverie_is_our_host(ngx_http_request_t *r)
{
    ngx_str_t                    *host, *name;
    ngx_uint_t                    i;
    ngx_http_reverie_srv_conf_t  *scf;

    host = &r->headers_in.server;

    scf = ngx_http_get_module_srv_conf(r, ngx_http_reverie_module);
    name = scf->names.elts;

    for (i = 0; host->len && i < scf->names.nelts; i++) {

        /* the host is in lower case and checked by nginx */

        if (name[i].len == host->len
            && ngx_memcmp(name[i].data, host->data, host->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


static void
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

    rc = ngx_http_reverie_send_error(r, NGX_HTTP_GATEWAY_TIME_OUT,
                                     "providerTimeout",
                                     "the task took too long and was "
                                     "cancelled");

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


/* Runs inside rv_dispatch, that is, inside the wake handler. */

static void
ngx_http_reverie_done(void *user, rv_call *call)
{
    ngx_http_reverie_ctx_t *ctx = user;

    ngx_int_t            rc;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    rc = ngx_http_reverie_send_reply(r, rv_call_reply(call));

    /* r may be gone now, c is not */

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_reverie_send_reply(ngx_http_request_t *r, const rv_reply *reply)
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

    /* the body belongs to the call, which lives as long as the request */

    return ngx_http_reverie_send(r, reply->http_status, reply->content_type,
                                 (u_char *) reply->body, reply->len);
}


/*
 * Runs on every way out of the request, the client's sudden leaving included.
 */

static void
ngx_http_reverie_cleanup(void *data)
{
    ngx_http_reverie_ctx_t *ctx = data;

    rv_call  *call;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    call = ctx->call;
    ctx->call = NULL;

    rv_call_free(call);
}
