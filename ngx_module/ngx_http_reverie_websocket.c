
/*
 * WebSocket at a task location: the handshake, and messages that start or
 * resume tasks.  Frames are websocket_frames.c's business, answers are the
 * session's; this file must never wait and never trust what is not parsed yet.
 */


#include "ngx_http_reverie_websocket.h"

#include <ngx_sha1.h>


/* a message that waits; its text follows */

typedef struct {
    ngx_queue_t  queue;
    size_t       len;
} ngx_http_reverie_websocket_message_t;


static ngx_int_t ngx_http_reverie_websocket_refuse(ngx_http_request_t *r,
    const char *message);
static ngx_int_t ngx_http_reverie_websocket_answer(ngx_http_request_t *r,
    ngx_str_t *key);
static ngx_http_reverie_websocket_t *ngx_http_reverie_websocket_create(
    ngx_http_request_t *r);
static void ngx_http_reverie_websocket_cleanup(void *data);
static void ngx_http_reverie_websocket_text(ngx_http_reverie_websocket_t *ws,
    const u_char *text, size_t len);
static void ngx_http_reverie_websocket_keep(ngx_http_reverie_websocket_t *ws,
    const u_char *text, size_t len);
static void ngx_http_reverie_websocket_parsed(void *data, rv_batch *batch,
    rv_openai_request *request);
static void ngx_http_reverie_websocket_tasks(ngx_http_reverie_websocket_t *ws,
    rv_batch *batch);
static void ngx_http_reverie_websocket_resume(
    ngx_http_reverie_websocket_t *ws, rv_task_info *info);


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
    ngx_queue_init(&ws->messages);
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

    if (ngx_http_reverie_websocket_frames_init(ws, lcf->websocket_message)
        != NGX_OK)
    {
        return NULL;
    }

    ctx->websocket = ws;

    ngx_http_reverie_client_counted(ctx, NGX_HTTP_REVERIE_SOCKET);

    return ws;
}


/* Runs on every way out. */

static void
ngx_http_reverie_websocket_cleanup(void *data)
{
    ngx_http_reverie_websocket_t *ws = data;

    ngx_queue_t                  *q;
    ngx_http_reverie_ctx_t       *ctx;
    ngx_http_reverie_loc_conf_t  *lcf;

    ngx_http_reverie_websocket_frames_end(ws);

    if (ws->parse) {
        ngx_http_reverie_parse_forget(ws->parse);
        ws->parse = NULL;
    }

    while (!ngx_queue_empty(&ws->messages)) {
        q = ngx_queue_head(&ws->messages);
        ngx_queue_remove(q);
        ngx_free(ngx_queue_data(q, ngx_http_reverie_websocket_message_t,
                                queue));
    }

    ctx = ngx_http_get_module_ctx(ws->request, ngx_http_reverie_module);

    if (ctx->client_kind) {
        ngx_http_reverie_count_clients(ctx->client.zone, ctx->client_kind - 1,
                                       -1);
        ctx->client_kind = 0;
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


void
ngx_http_reverie_websocket_on_message(wslay_event_context_ptr wslay,
    const struct wslay_event_on_msg_recv_arg *arg, void *data)
{
    ngx_http_reverie_websocket_t *ws = data;

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

    if (ws->parse) {
        ngx_http_reverie_websocket_keep(ws, arg->msg, arg->msg_length);

    } else {
        ngx_http_reverie_websocket_text(ws, arg->msg, arg->msg_length);
    }
}


/* A message whose turn has come. */

static void
ngx_http_reverie_websocket_text(ngx_http_reverie_websocket_t *ws,
    const u_char *text, size_t len)
{
    rv        *library;
    rv_batch  *batch;

    library = ws->session->context->rv;

    ws->parse = ngx_http_reverie_parse_message(library, text, len,
                    ngx_http_reverie_websocket_parsed, ws);

    if (ws->parse) {
        return;
    }

    batch = rv_batch_parse(library, (char *) text, len);

    ngx_http_reverie_websocket_tasks(ws, batch);

    rv_batch_unref(batch);
}


/*
 * Its turn is after a message that a thread has.  What libwslay had read
 * before reading stopped is less than one of its buffers.
 */

static void
ngx_http_reverie_websocket_keep(ngx_http_reverie_websocket_t *ws,
    const u_char *text, size_t len)
{
    ngx_http_reverie_websocket_message_t  *message;

    message = ngx_alloc(sizeof(ngx_http_reverie_websocket_message_t) + len,
                        ngx_cycle->log);
    if (message == NULL) {
        ngx_http_reverie_websocket_close(ws, WSLAY_CODE_INTERNAL_SERVER_ERROR,
                                         "out of memory");
        return;
    }

    message->len = len;

    if (len) {
        ngx_memcpy(message + 1, text, len);
    }

    ngx_queue_insert_tail(&ws->messages, &message->queue);
}


/* The thread is done; the connection goes on where it stopped reading. */

static void
ngx_http_reverie_websocket_parsed(void *data, rv_batch *batch,
    rv_openai_request *request)
{
    ngx_http_reverie_websocket_t *ws = data;

    ngx_queue_t                           *q;
    ngx_http_reverie_websocket_message_t  *message;

    ws->parse = NULL;
    ws->received = ngx_current_msec;

    if (!ws->closing) {
        ngx_http_reverie_websocket_tasks(ws, batch);
    }

    while (!ngx_queue_empty(&ws->messages) && ws->parse == NULL) {
        q = ngx_queue_head(&ws->messages);
        ngx_queue_remove(q);

        message = ngx_queue_data(q, ngx_http_reverie_websocket_message_t,
                                 queue);

        if (!ws->closing) {
            ngx_http_reverie_websocket_text(ws, (u_char *) (message + 1),
                                            message->len);
        }

        ngx_free(message);
    }

    ngx_post_event(ws->request->connection->read, &ngx_posted_events);
}


/* batch is NULL when there was no memory for it. */

static void
ngx_http_reverie_websocket_tasks(ngx_http_reverie_websocket_t *ws,
    rv_batch *batch)
{
    size_t           i;
    rv_task         *task;
    rv_task_info     info;
    rv_call_options  options;

    if (batch == NULL) {
        ngx_http_reverie_websocket_close(ws, WSLAY_CODE_INTERNAL_SERVER_ERROR,
                                         "out of memory");
        return;
    }

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
