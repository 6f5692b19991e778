
/*
 * "reverie_tasks": one task by its taskUUID, whoever started it and wherever it
 * runs: GET PREFIX/UUID, DELETE PREFIX/UUID, GET PREFIX/UUID/events.
 */


#include "ngx_http_reverie.h"


static ngx_int_t ngx_http_reverie_tasks_parse(ngx_http_request_t *r,
    u_char *uuid, rv_task_verb *verb);
static ngx_int_t ngx_http_reverie_tasks_refuse(ngx_http_request_t *r,
    ngx_uint_t status);
static void ngx_http_reverie_tasks_text(void *user, rv_call *call,
    const char *text, size_t len);


ngx_int_t
ngx_http_reverie_tasks_handler(ngx_http_request_t *r)
{
    u_char                        uuid[37];
    ngx_int_t                     rc;
    rv_task_verb                  verb;
    const rv_reply               *reply;
    rv_call_options               options;
    ngx_http_cleanup_t           *cln;
    ngx_http_reverie_ctx_t       *ctx;
    ngx_http_reverie_loc_conf_t  *lcf;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_reverie_tasks_parse(r, uuid, &verb);

    if (rc != NGX_OK) {
        return ngx_http_reverie_tasks_refuse(r, rc);
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (lcf->context->rv == NULL) {
        return ngx_http_reverie_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "serviceUnavailable",
                                           "this worker could not start its "
                                           "library; its log says why");
    }

    ctx = ngx_http_reverie_ctx(r);
    cln = ngx_http_cleanup_add(r, 0);

    if (ctx == NULL || cln == NULL
        || ngx_http_reverie_client_init(r, &ctx->client) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_reverie_cleanup;
    cln->data = ctx;

    ctx->request = r;
    ctx->reply = ngx_http_reverie_send_reply;

    ngx_memzero(&options, sizeof(rv_call_options));

    options.owner = ctx->client.key ? ctx->client.key->text : NULL;
    options.done = ngx_http_reverie_done;
    options.user = ctx;

    if (verb == RV_TASK_EVENTS) {

        if (ngx_http_reverie_stream_create(r, ctx) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        options.previews = ngx_http_reverie_arg_is_on(r, "preview");
        options.text = ngx_http_reverie_tasks_text;
    }

    ctx->call = rv_call_task(lcf->context->rv, verb, (char *) uuid, &options);

    if (ctx->call == NULL) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "reverie: out of memory");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    reply = rv_call_reply(ctx->call);

    if (reply) {
        return ctx->reply(r, ctx, reply);
    }

    /*
     * A stream begins with the first event: until then a refusal is an
     * ordinary answer with its own status.
     */

    r->main->count++;
    ngx_http_reverie_wait(r, ctx);

    return NGX_DONE;
}


/* NGX_OK, or the status of a refusal. */

static ngx_int_t
ngx_http_reverie_tasks_parse(ngx_http_request_t *r, u_char *uuid,
    rv_task_verb *verb)
{
    size_t                     len;
    u_char                    *p;
    ngx_uint_t                 i;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (r->uri.len < clcf->name.len + 36) {
        return NGX_HTTP_NOT_FOUND;
    }

    p = r->uri.data + clcf->name.len;
    len = r->uri.len - clcf->name.len;

    for (i = 0; i < 36; i++) {

        if (i == 8 || i == 13 || i == 18 || i == 23) {

            if (p[i] != '-') {
                return NGX_HTTP_NOT_FOUND;
            }

        } else if (ngx_hextoi(&p[i], 1) == NGX_ERROR) {
            return NGX_HTTP_NOT_FOUND;
        }
    }

    ngx_cpystrn(uuid, p, 37);

    if (len == 36 + sizeof("/events") - 1
        && ngx_strncmp(p + 36, "/events", sizeof("/events") - 1) == 0)
    {
        *verb = RV_TASK_EVENTS;
        return r->method == NGX_HTTP_GET ? NGX_OK : NGX_HTTP_NOT_ALLOWED;
    }

    if (len != 36) {
        return NGX_HTTP_NOT_FOUND;
    }

    *verb = r->method == NGX_HTTP_DELETE ? RV_TASK_CANCEL : RV_TASK_STATUS;

    return r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_DELETE)
           ? NGX_OK : NGX_HTTP_NOT_ALLOWED;
}


static ngx_int_t
ngx_http_reverie_tasks_refuse(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_http_reverie_ctx_t  *ctx;

    if (status == NGX_HTTP_NOT_FOUND) {
        return ngx_http_reverie_send_error(r, status, "taskNotFound",
                                           "there are UUID and UUID/events "
                                           "here");
    }

    ctx = ngx_http_reverie_ctx(r);

    if (ctx) {
        ctx->allow = "GET, HEAD, DELETE";
    }

    return ngx_http_reverie_send_error(r, status, "unsupportedTaskType",
                                       "a task takes GET and DELETE, its "
                                       "events GET");
}


/* Runs inside rv_dispatch. */

static void
ngx_http_reverie_tasks_text(void *user, rv_call *call, const char *text,
    size_t len)
{
    ngx_http_reverie_ctx_t *ctx = user;

    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    if (!ngx_http_reverie_stream_is_open(ctx->stream)) {

        if (ngx_http_reverie_stream_begin(r, ctx) != NGX_OK) {
            ngx_http_finalize_request(r, NGX_ERROR);
            ngx_http_run_posted_requests(c);
            return;
        }
    }

    ngx_http_reverie_stream_text(ctx, text, len);
}
