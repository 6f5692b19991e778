
/*
 * WebSocket at a task location: many tasks over one connection, each answer
 * sent as soon as it is there.  Frames are libwslay's business, answers the
 * session's; this file must never wait and never hold more of a client's data
 * than the limits say.
 */


#include "ngx_http_reverie.h"

#include <ngx_sha1.h>
#include <wslay/wslay.h>


/* bytes read in one turn; then other connections get theirs */
#define NGX_HTTP_REVERIE_WS_TURN       (256 * 1024)

/* what may wait to be sent before no more is read or made */
#define NGX_HTTP_REVERIE_WS_WAITING    (256 * 1024)
#define NGX_HTTP_REVERIE_WS_FRAMES     256

/* frames one message may be split into */
#define NGX_HTTP_REVERIE_WS_FRAGMENTS  1024

/* how long a client may take to answer our closing, ms */
#define NGX_HTTP_REVERIE_WS_FAREWELL   2000

#define NGX_HTTP_REVERIE_WS_TICK       1000


typedef struct {
    void                        *ident[4];
    ngx_http_request_t          *request;
    wslay_event_context_ptr      wslay;
    ngx_http_reverie_session_t  *session;
    ngx_event_t                  timer;
    ngx_str_t                    prefix;      /* of picture URLs */

    ngx_msec_t                   received;    /* last frame of the client */
    ngx_msec_t                   pinged;
    ngx_msec_t                   closed;      /* our close frame was queued */
    size_t                       turn;        /* bytes left to read in it */
    ngx_uint_t                   fragments;   /* of the message that comes */

    unsigned                     dry_run:1;
    unsigned                     closing:1;
    unsigned                     eof:1;
    unsigned                     paused:1;    /* there may be more to read */
    unsigned                     is_clean:1;  /* the client said goodbye */
    unsigned                     broken:1;    /* only waits for its end */
} ngx_http_reverie_websocket_t;


static ngx_int_t ngx_http_reverie_websocket_refuse(ngx_http_request_t *r,
    const char *message);
static ngx_int_t ngx_http_reverie_websocket_answer(ngx_http_request_t *r,
    ngx_str_t *key);
static ngx_http_reverie_websocket_t *ngx_http_reverie_websocket_create(
    ngx_http_request_t *r);
static void ngx_http_reverie_websocket_cleanup(void *data);

static void ngx_http_reverie_websocket_read(ngx_http_request_t *r);
static void ngx_http_reverie_websocket_write(ngx_http_request_t *r);
static void ngx_http_reverie_websocket_timer_handler(ngx_event_t *ev);
static void ngx_http_reverie_websocket_notify(void *data);
static ngx_int_t ngx_http_reverie_websocket_pump(
    ngx_http_reverie_websocket_t *ws);
static ngx_int_t ngx_http_reverie_websocket_flush(
    ngx_http_reverie_websocket_t *ws);
static ngx_uint_t ngx_http_reverie_websocket_is_full(
    ngx_http_reverie_websocket_t *ws);
static void ngx_http_reverie_websocket_close(ngx_http_reverie_websocket_t *ws,
    uint16_t code, const char *reason);
static void ngx_http_reverie_websocket_drain(ngx_http_reverie_websocket_t *ws);
static void ngx_http_reverie_websocket_break(ngx_http_reverie_websocket_t *ws);

static ssize_t ngx_http_reverie_websocket_on_recv(
    wslay_event_context_ptr wslay, uint8_t *buf, size_t len, int flags,
    void *data);
static ssize_t ngx_http_reverie_websocket_on_send(
    wslay_event_context_ptr wslay, const uint8_t *buf, size_t len, int flags,
    void *data);
static void ngx_http_reverie_websocket_on_frame(wslay_event_context_ptr wslay,
    const struct wslay_event_on_frame_recv_start_arg *arg, void *data);
static void ngx_http_reverie_websocket_on_message(
    wslay_event_context_ptr wslay,
    const struct wslay_event_on_msg_recv_arg *arg, void *data);
static void ngx_http_reverie_websocket_tasks(ngx_http_reverie_websocket_t *ws,
    rv_batch *batch);
static void ngx_http_reverie_websocket_resume(
    ngx_http_reverie_websocket_t *ws, rv_task_info *info);


static struct wslay_event_callbacks  ngx_http_reverie_websocket_callbacks = {
    ngx_http_reverie_websocket_on_recv,
    ngx_http_reverie_websocket_on_send,
    NULL,                                  /* genmask: servers do not mask */
    ngx_http_reverie_websocket_on_frame,
    NULL,                                  /* chunk */
    NULL,                                  /* end of frame */
    ngx_http_reverie_websocket_on_message
};


ngx_uint_t
ngx_http_reverie_websocket_is_asked(ngx_http_request_t *r)
{
    ngx_table_elt_t  *upgrade;

    upgrade = r->headers_in.upgrade;

    return r->method == NGX_HTTP_GET && upgrade
           && upgrade->value.len == sizeof("websocket") - 1
           && ngx_strncasecmp(upgrade->value.data, (u_char *) "websocket",
                              sizeof("websocket") - 1)
              == 0;
}


ngx_int_t
ngx_http_reverie_websocket_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_str_t                     *key, *version;
    ngx_connection_t              *c;
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_reverie_loc_conf_t   *lcf;
    ngx_http_reverie_websocket_t  *ws;

    c = r->connection;
    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    key = ngx_http_reverie_get_header(r, "Sec-WebSocket-Key");
    version = ngx_http_reverie_get_header(r, "Sec-WebSocket-Version");

    if (r != r->main || r->http_version != NGX_HTTP_VERSION_11
        || r->headers_in.content_length_n > 0 || r->headers_in.chunked)
    {
        return ngx_http_reverie_websocket_refuse(r,
                   "a WebSocket begins with a GET of HTTP/1.1 without a body");
    }

    if (key == NULL || key->len != 24 || version == NULL || version->len != 2
        || ngx_strncmp(version->data, "13", 2) != 0)
    {
        return ngx_http_reverie_websocket_refuse(r,
                   "Sec-WebSocket-Version must be 13, with a "
                   "Sec-WebSocket-Key of 16 bytes in base64");
    }

    if (lcf->context->rv == NULL) {
        return ngx_http_reverie_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "serviceUnavailable",
                                           "this worker could not start its "
                                           "library; its log says why");
    }

    ws = ngx_http_reverie_websocket_create(r);
    if (ws == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_reverie_websocket_answer(r, key);
    if (rc != NGX_OK) {
        return rc;
    }

    if (clcf->tcp_nodelay && ngx_tcp_nodelay(c) != NGX_OK) {
        return NGX_ERROR;
    }

    c->log->action = "talking by WebSocket";

    r->keepalive = 0;
    r->main->count++;
    r->read_event_handler = ngx_http_reverie_websocket_read;
    r->write_event_handler = ngx_http_reverie_websocket_write;

    /* frames may have come together with the request */

    ngx_post_event(c->read, &ngx_posted_events);

    return NGX_DONE;
}


static ngx_int_t
ngx_http_reverie_websocket_refuse(ngx_http_request_t *r, const char *message)
{
    ngx_int_t  rc;
    ngx_str_t  value;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    ngx_str_set(&value, "websocket");

    if (ngx_http_reverie_set_header(r, "Upgrade", &value) == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&value, "13");

    if (ngx_http_reverie_set_header(r, "Sec-WebSocket-Version", &value)
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_reverie_send_error(r, 426, "upgradeRequired", message);
}


static ngx_int_t
ngx_http_reverie_websocket_answer(ngx_http_request_t *r, ngx_str_t *key)
{
    u_char                   digest[20];
    ngx_int_t                rc;
    ngx_str_t                value, hash;
    ngx_sha1_t               sha1;
    ngx_http_reverie_ctx_t  *ctx;

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, key->data, key->len);
    ngx_sha1_update(&sha1, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    ngx_sha1_final(digest, &sha1);

    hash.data = digest;
    hash.len = sizeof(digest);

    value.data = ngx_pnalloc(r->pool, ngx_base64_encoded_length(hash.len));
    if (value.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_encode_base64(&value, &hash);

    if (ngx_http_reverie_set_header(r, "Sec-WebSocket-Accept", &value)
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&value, "websocket");

    if (ngx_http_reverie_set_header(r, "Upgrade", &value) == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx = ngx_http_reverie_ctx(r);
    ctx->own = 1;

    r->headers_out.status = NGX_HTTP_SWITCHING_PROTOCOLS;
    ngx_str_set(&r->headers_out.status_line, "101 Switching Protocols");

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_send_special(r, NGX_HTTP_FLUSH);

    return rc == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


static ngx_http_reverie_websocket_t *
ngx_http_reverie_websocket_create(ngx_http_request_t *r)
{
    ngx_http_cleanup_t            *cln;
    ngx_http_reverie_loc_conf_t   *lcf;
    ngx_http_reverie_websocket_t  *ws;
    ngx_http_reverie_ctx_t        *ctx;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    ctx = ngx_http_reverie_ctx(r);
    ws = ngx_pcalloc(r->pool, sizeof(ngx_http_reverie_websocket_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (ctx == NULL || ws == NULL || cln == NULL) {
        return NULL;
    }

    ws->ident[3] = (void *) -1;
    ws->request = r;
    ws->received = ngx_current_msec;
    ws->pinged = ngx_current_msec;
    ws->dry_run = ngx_http_reverie_arg_is_on(r, "dryRun");

    cln->handler = ngx_http_reverie_websocket_cleanup;
    cln->data = ws;

    if (ngx_http_reverie_results_prefix(r, &ws->prefix) != NGX_OK) {
        return NULL;
    }

    if (ngx_http_reverie_client_init(r, &ctx->client) != NGX_OK) {
        return NULL;
    }

    ws->session = ngx_http_reverie_session_create(lcf->context, &ctx->client,
                                                  r->connection->log);
    if (ws->session == NULL) {
        return NULL;
    }

    ngx_http_reverie_session_attach(ws->session,
                                    ngx_http_reverie_websocket_notify, ws);

    if (wslay_event_context_server_init(&ws->wslay,
                                        &ngx_http_reverie_websocket_callbacks,
                                        ws)
        != 0)
    {
        ws->wslay = NULL;
        return NULL;
    }

    wslay_event_config_set_max_recv_msg_length(ws->wslay,
                                               lcf->websocket_message);

    ws->timer.handler = ngx_http_reverie_websocket_timer_handler;
    ws->timer.data = ws;
    ws->timer.log = r->connection->log;

    /* it also keeps a worker that is told to finish until we said goodbye */

    ngx_add_timer(&ws->timer, NGX_HTTP_REVERIE_WS_TICK);

    ctx->websocket = ws;

    ngx_http_reverie_client_counted(ctx, NGX_HTTP_REVERIE_SOCKET);

    return ws;
}


/* Runs on every way out. */

static void
ngx_http_reverie_websocket_cleanup(void *data)
{
    ngx_http_reverie_websocket_t *ws = data;

    ngx_http_reverie_ctx_t       *ctx;
    ngx_http_reverie_loc_conf_t  *lcf;

    if (ws->timer.timer_set) {
        ngx_del_timer(&ws->timer);
    }

    ctx = ngx_http_get_module_ctx(ws->request, ngx_http_reverie_module);

    if (ctx->client_kind) {
        ngx_http_reverie_count_clients(ctx->client.zone, ctx->client_kind - 1,
                                       -1);
        ctx->client_kind = 0;
    }

    if (ws->wslay) {
        wslay_event_context_free(ws->wslay);
        ws->wslay = NULL;
    }

    if (ws->session) {
        lcf = ngx_http_get_module_loc_conf(ws->request,
                                           ngx_http_reverie_module);

        ngx_http_reverie_session_detach(ws->session,
                                        ws->is_clean ? 0
                                                     : lcf->websocket_resume,
                                        ngx_cycle->log);
        ws->session = NULL;
    }
}


static void
ngx_http_reverie_websocket_read(ngx_http_request_t *r)
{
    ngx_connection_t              *c;
    ngx_http_reverie_ctx_t        *ctx;
    ngx_http_reverie_websocket_t  *ws;

    c = r->connection;
    ctx = ngx_http_get_module_ctx(r, ngx_http_reverie_module);
    ws = ctx->websocket;

    ws->turn = NGX_HTTP_REVERIE_WS_TURN;
    ws->paused = 0;

    if (!ws->broken && wslay_event_get_read_enabled(ws->wslay)) {

        if (wslay_event_recv(ws->wslay) != 0) {
            ngx_http_reverie_websocket_break(ws);
        }

    } else {
        ngx_http_reverie_websocket_drain(ws);
    }

    if (ws->eof) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0,
                      "reverie: a WebSocket client left");
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    if (ngx_http_reverie_websocket_pump(ws) != NGX_OK
        || ngx_handle_read_event(c->read, 0) != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    /* more is there, and its time comes after that of others */

    if (ws->paused && !ngx_http_reverie_websocket_is_full(ws)) {
        ngx_post_event(c->read, &ngx_posted_next_events);
    }
}


static void
ngx_http_reverie_websocket_write(ngx_http_request_t *r)
{
    ngx_connection_t              *c;
    ngx_http_reverie_ctx_t        *ctx;
    ngx_http_reverie_websocket_t  *ws;

    c = r->connection;
    ctx = ngx_http_get_module_ctx(r, ngx_http_reverie_module);
    ws = ctx->websocket;

    if (c->write->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT,
                      "reverie: a WebSocket client does not read");
        c->timedout = 1;
        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    if (ngx_http_reverie_websocket_pump(ws) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    if (ws->paused && !ngx_http_reverie_websocket_is_full(ws)) {
        ngx_post_event(c->read, &ngx_posted_next_events);
    }
}


/* There is an answer; it is sent when the events of this turn are done. */

static void
ngx_http_reverie_websocket_notify(void *data)
{
    ngx_http_reverie_websocket_t *ws = data;

    ngx_post_event(ws->request->connection->write, &ngx_posted_events);
}


static void
ngx_http_reverie_websocket_timer_handler(ngx_event_t *ev)
{
    ngx_msec_t                     now;
    ngx_connection_t              *c;
    struct wslay_event_msg         ping;
    ngx_http_reverie_loc_conf_t   *lcf;
    ngx_http_reverie_websocket_t  *ws;

    ws = ev->data;
    c = ws->request->connection;
    lcf = ngx_http_get_module_loc_conf(ws->request, ngx_http_reverie_module);
    now = ngx_current_msec;

    if (ws->closing) {

        if (now - ws->closed > NGX_HTTP_REVERIE_WS_FAREWELL) {
            ngx_http_finalize_request(ws->request, NGX_ERROR);
            ngx_http_run_posted_requests(c);
            return;
        }

    } else if (ngx_exiting && ws->session->ncalls == 0) {
        ngx_http_reverie_websocket_close(ws, WSLAY_CODE_GOING_AWAY,
                                         "the server restarts");

    } else if (now - ws->received > lcf->websocket_idle) {
        ngx_http_reverie_websocket_close(ws, WSLAY_CODE_GOING_AWAY, "idle");

    } else if (now - ws->pinged >= lcf->heartbeat) {
        ws->pinged = now;

        ngx_memzero(&ping, sizeof(ping));
        ping.opcode = WSLAY_PING;
        (void) wslay_event_queue_msg(ws->wslay, &ping);
    }

    ngx_add_timer(ev, NGX_HTTP_REVERIE_WS_TICK);

    if (!ws->broken && wslay_event_want_write(ws->wslay)) {
        ngx_post_event(c->write, &ngx_posted_events);
    }
}


/* NGX_OK: the connection goes on; NGX_DONE: it has ended well. */

static ngx_int_t
ngx_http_reverie_websocket_pump(ngx_http_reverie_websocket_t *ws)
{
    char                   *text;
    size_t                  len;
    ngx_uint_t              more;
    struct wslay_event_msg  msg;

    if (ws->broken) {
        return NGX_OK;
    }

    do {
        more = 0;

        while (!ws->closing && wslay_event_get_write_enabled(ws->wslay)
               && !ngx_http_reverie_websocket_is_full(ws))
        {
            text = ngx_http_reverie_session_message(ws->session, &len);
            if (text == NULL) {
                break;
            }

            msg.opcode = WSLAY_TEXT_FRAME;
            msg.msg = (uint8_t *) text;
            msg.msg_length = len;

            if (wslay_event_queue_msg(ws->wslay, &msg) != 0) {
                rv_free(text);
                return NGX_ERROR;
            }

            rv_free(text);
            more = 1;
        }

        if (ngx_http_reverie_websocket_flush(ws) != NGX_OK) {
            return NGX_ERROR;
        }

    } while (more && !wslay_event_want_write(ws->wslay));

    if (wslay_event_get_close_sent(ws->wslay)) {

        if (wslay_event_get_close_received(ws->wslay)) {
            return NGX_DONE;
        }

        if (!ws->closing) {
            ws->closing = 1;
            ws->closed = ngx_current_msec;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_reverie_websocket_flush(ngx_http_reverie_websocket_t *ws)
{
    ngx_connection_t          *c;
    ngx_http_core_loc_conf_t  *clcf;

    c = ws->request->connection;

    if (wslay_event_want_write(ws->wslay)
        && wslay_event_send(ws->wslay) != 0)
    {
        return NGX_ERROR;
    }

    if (wslay_event_want_write(ws->wslay)) {
        clcf = ngx_http_get_module_loc_conf(ws->request,
                                            ngx_http_core_module);

        if (!c->write->timer_set) {
            ngx_add_timer(c->write, clcf->send_timeout);
        }

        return ngx_handle_write_event(c->write, 0);
    }

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_reverie_websocket_is_full(ngx_http_reverie_websocket_t *ws)
{
    if (ws->broken) {
        return 0;
    }

    return wslay_event_get_queued_msg_length(ws->wslay)
           > NGX_HTTP_REVERIE_WS_WAITING
           || wslay_event_get_queued_msg_count(ws->wslay)
              > NGX_HTTP_REVERIE_WS_FRAMES;
}


static void
ngx_http_reverie_websocket_close(ngx_http_reverie_websocket_t *ws,
    uint16_t code, const char *reason)
{
    if (ws->closing) {
        return;
    }

    ws->closing = 1;
    ws->closed = ngx_current_msec;

    (void) wslay_event_queue_close(ws->wslay, code, (uint8_t *) reason,
                                   ngx_strlen(reason));
}


/*
 * The client broke a rule and was told so.  What it still sends is thrown
 * away: closing with unread bytes would take the close frame from it.
 */

static void
ngx_http_reverie_websocket_drain(ngx_http_reverie_websocket_t *ws)
{
    ssize_t            n;
    u_char             buf[4096];
    ngx_connection_t  *c;

    c = ws->request->connection;

    while (ws->turn) {
        n = c->recv(c, buf, ngx_min(sizeof(buf), ws->turn));

        if (n == NGX_AGAIN) {
            return;
        }

        if (n <= 0) {
            ws->eof = 1;
            return;
        }

        ws->turn -= n;
    }

    ws->paused = 1;
}


/*
 * What came is no frame.  libwslay would close without a code; where nothing
 * else is half sent, the client is told the right one.
 */

static void
ngx_http_reverie_websocket_break(ngx_http_reverie_websocket_t *ws)
{
    ngx_connection_t  *c;

    static u_char  frame[] = { 0x88, 0x02, WSLAY_CODE_PROTOCOL_ERROR >> 8,
                               WSLAY_CODE_PROTOCOL_ERROR & 0xff };

    c = ws->request->connection;

    if (!ws->closing && wslay_event_get_queued_msg_count(ws->wslay) <= 1) {
        (void) c->send(c, frame, sizeof(frame));
    }

    ws->broken = 1;
    ws->closing = 1;
    ws->closed = ngx_current_msec;

    ngx_http_reverie_websocket_drain(ws);
}


static ssize_t
ngx_http_reverie_websocket_on_recv(wslay_event_context_ptr wslay, uint8_t *buf,
    size_t len, int flags, void *data)
{
    ngx_http_reverie_websocket_t *ws = data;

    ssize_t            n;
    ngx_buf_t         *b;
    ngx_connection_t  *c;

    c = ws->request->connection;
    b = ws->request->header_in;

    if (ws->turn == 0 || ngx_http_reverie_websocket_is_full(ws)) {
        ws->paused = 1;
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }

    if (b->pos < b->last) {
        n = ngx_min((size_t) (b->last - b->pos), len);
        ngx_memcpy(buf, b->pos, n);
        b->pos += n;

    } else {
        n = c->recv(c, buf, len);
    }

    if (n == NGX_AGAIN) {
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }

    if (n <= 0) {
        ws->eof = 1;
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }

    ws->turn -= ngx_min((size_t) n, ws->turn);

    return n;
}


static ssize_t
ngx_http_reverie_websocket_on_send(wslay_event_context_ptr wslay,
    const uint8_t *buf, size_t len, int flags, void *data)
{
    ngx_http_reverie_websocket_t *ws = data;

    ssize_t            n;
    ngx_connection_t  *c;

    c = ws->request->connection;

    n = c->send(c, (u_char *) buf, len);

    if (n > 0) {
        return n;
    }

    wslay_event_set_error(wslay, n == NGX_ERROR ? WSLAY_ERR_CALLBACK_FAILURE
                                                : WSLAY_ERR_WOULDBLOCK);
    return -1;
}


static void
ngx_http_reverie_websocket_on_frame(wslay_event_context_ptr wslay,
    const struct wslay_event_on_frame_recv_start_arg *arg, void *data)
{
    ngx_http_reverie_websocket_t *ws = data;

    ws->received = ngx_current_msec;

    if (wslay_is_ctrl_frame(arg->opcode)) {
        return;
    }

    if (arg->opcode != WSLAY_CONTINUATION_FRAME) {
        ws->fragments = 0;
    }

    /* each costs memory, however short it is */

    if (++ws->fragments > NGX_HTTP_REVERIE_WS_FRAGMENTS) {
        ngx_http_reverie_websocket_close(ws, WSLAY_CODE_POLICY_VIOLATION,
                                         "a message in too many frames");
        wslay_event_shutdown_read(wslay);
    }
}


static void
ngx_http_reverie_websocket_on_message(wslay_event_context_ptr wslay,
    const struct wslay_event_on_msg_recv_arg *arg, void *data)
{
    ngx_http_reverie_websocket_t *ws = data;

    rv_batch  *batch;

    if (arg->opcode == WSLAY_CONNECTION_CLOSE) {
        ws->is_clean = (arg->status_code == WSLAY_CODE_NORMAL_CLOSURE);
        return;
    }

    if (wslay_is_ctrl_frame(arg->opcode) || ws->closing) {
        return;
    }

    if (arg->opcode != WSLAY_TEXT_FRAME) {
        ngx_http_reverie_websocket_close(ws, WSLAY_CODE_UNSUPPORTED_DATA,
                                         "tasks are text");
        return;
    }

    batch = rv_batch_parse(ws->session->context->rv, (char *) arg->msg,
                           arg->msg_length);

    if (batch == NULL) {
        ngx_http_reverie_websocket_close(ws, WSLAY_CODE_INTERNAL_SERVER_ERROR,
                                         "out of memory");
        return;
    }

    ngx_http_reverie_websocket_tasks(ws, batch);

    rv_batch_unref(batch);
}


static void
ngx_http_reverie_websocket_tasks(ngx_http_reverie_websocket_t *ws,
    rv_batch *batch)
{
    size_t           i;
    rv_task         *task;
    rv_task_info     info;
    rv_call_options  options;

    for (i = 0; i < rv_batch_size(batch); i++) {
        task = rv_batch_task(batch, i);

        if (task == NULL) {
            continue;
        }

        info = rv_task_facts(task);

        if (info.key && info.session) {
            ngx_http_reverie_websocket_resume(ws, &info);
        }
    }

    ngx_memzero(&options, sizeof(rv_call_options));

    options.results_url = (char *) ws->prefix.data;
    options.session = (char *) ws->session->uuid;
    options.dry_run = ws->dry_run;

    (void) ngx_http_reverie_authenticate(&ws->session->client, batch);

    if (ws->session->client.key) {
        options.owner = ws->session->client.key->text;
    }

    if (ngx_http_reverie_session_start(ws->session, batch, &options,
                                       ws->request->connection->log)
        != NGX_OK)
    {
        ngx_http_reverie_websocket_close(ws, WSLAY_CODE_INTERNAL_SERVER_ERROR,
                                         "out of memory");
    }
}


/* The client comes back for what it was not told. */

static void
ngx_http_reverie_websocket_resume(ngx_http_reverie_websocket_t *ws,
    rv_task_info *info)
{
    ngx_array_t                 *keys;
    ngx_http_reverie_session_t  *old;

    old = ngx_http_reverie_session_find(ws->session->context, info->session);

    if (old == NULL || ws->session->ncalls) {
        return;
    }

    keys = old->client.lcf->keys;

    if (keys
        && ngx_http_reverie_keys_check(keys, (u_char *) info->key,
                                       ngx_strlen(info->key))
           != old->client.key)
    {
        return;
    }

    ngx_http_reverie_session_free(ws->session);

    ws->session = old;

    ngx_http_reverie_session_attach(old, ngx_http_reverie_websocket_notify,
                                    ws);
}
