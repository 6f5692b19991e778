
/*
 * Frames of a WebSocket: reading, writing, pings and closing, in turns that
 * leave others theirs.  This file knows nothing of tasks; it must never wait
 * and never hold more of a client's data than the limits say.
 */


#include "ngx_http_reverie_websocket.h"


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


static void ngx_http_reverie_websocket_timer_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_reverie_websocket_pump(
    ngx_http_reverie_websocket_t *ws);
static ngx_int_t ngx_http_reverie_websocket_flush(
    ngx_http_reverie_websocket_t *ws);
static ngx_uint_t ngx_http_reverie_websocket_is_full(
    ngx_http_reverie_websocket_t *ws);
static ngx_uint_t ngx_http_reverie_websocket_must_wait(
    ngx_http_reverie_websocket_t *ws);
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


static struct wslay_event_callbacks  ngx_http_reverie_websocket_callbacks = {
    ngx_http_reverie_websocket_on_recv,
    ngx_http_reverie_websocket_on_send,
    NULL,                                  /* genmask: servers do not mask */
    ngx_http_reverie_websocket_on_frame,
    NULL,                                  /* chunk */
    NULL,                                  /* end of frame */
    ngx_http_reverie_websocket_on_message
};


ngx_int_t
ngx_http_reverie_websocket_frames_init(ngx_http_reverie_websocket_t *ws,
    size_t limit)
{
    if (wslay_event_context_server_init(&ws->wslay,
                                        &ngx_http_reverie_websocket_callbacks,
                                        ws)
        != 0)
    {
        ws->wslay = NULL;
        return NGX_ERROR;
    }

    wslay_event_config_set_max_recv_msg_length(ws->wslay, limit);

    ws->received = ngx_current_msec;
    ws->pinged = ngx_current_msec;

    ws->timer.handler = ngx_http_reverie_websocket_timer_handler;
    ws->timer.data = ws;
    ws->timer.log = ws->request->connection->log;

    /* it also keeps a worker that is told to finish until we said goodbye */

    ngx_add_timer(&ws->timer, NGX_HTTP_REVERIE_WS_TICK);

    return NGX_OK;
}


void
ngx_http_reverie_websocket_frames_end(ngx_http_reverie_websocket_t *ws)
{
    if (ws->timer.timer_set) {
        ngx_del_timer(&ws->timer);
    }

    if (ws->wslay) {
        wslay_event_context_free(ws->wslay);
        ws->wslay = NULL;
    }
}


void
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

    if (ws->paused && !ngx_http_reverie_websocket_must_wait(ws)) {
        ngx_post_event(c->read, &ngx_posted_next_events);
    }
}


void
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

    if (ws->paused && !ngx_http_reverie_websocket_must_wait(ws)) {
        ngx_post_event(c->read, &ngx_posted_next_events);
    }
}


/* There is an answer; it is sent when the events of this turn are done. */

void
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

    } else if (ngx_exiting && ws->session->ncalls == 0 && ws->parse == NULL) {
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


/* Whether what the client sends stays unread for now. */

static ngx_uint_t
ngx_http_reverie_websocket_must_wait(ngx_http_reverie_websocket_t *ws)
{
    return (ws->parse && !ws->broken)
           || ngx_http_reverie_websocket_is_full(ws);
}


void
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

    if (ws->turn == 0 || ngx_http_reverie_websocket_must_wait(ws)) {
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
