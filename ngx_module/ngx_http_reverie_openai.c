
/*
 * The OpenAI images protocol below a location such as /v1/: which route a
 * request takes, answers, models.  Streams are in ngx_http_reverie_partial.c.
 * What a request means is known to the library only.
 */


#include "ngx_http_reverie.h"


#define NGX_HTTP_REVERIE_MODEL_LEN  256


static ngx_int_t ngx_http_reverie_openai_route(ngx_http_request_t *r,
    const char *route, ngx_str_t *rest);
static ngx_int_t ngx_http_reverie_openai_post(ngx_http_request_t *r,
    rv_openai_kind kind);
static ngx_uint_t ngx_http_reverie_openai_is_form(ngx_http_request_t *r);
static ngx_int_t ngx_http_reverie_openai_text(ngx_http_request_t *r,
    const char *name, const char **text);
static ngx_int_t ngx_http_reverie_openai_body(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, u_char *body, size_t len);
static void ngx_http_reverie_openai_done(void *user, rv_call *call);
static ngx_int_t ngx_http_reverie_openai_get(ngx_http_request_t *r,
    ngx_str_t *id);
static char *ngx_http_reverie_openai_model(ngx_http_request_t *r,
    ngx_http_reverie_loc_conf_t *lcf, ngx_str_t *id);


ngx_int_t
ngx_http_reverie_openai_handler(ngx_http_request_t *r)
{
    ngx_int_t   rc;
    ngx_str_t   rest;

    if (ngx_http_reverie_openai_route(r, "/images/generations", &rest)
        == NGX_OK)
    {
        return ngx_http_reverie_openai_post(r, RV_OPENAI_GENERATIONS);
    }

    if (ngx_http_reverie_openai_route(r, "/images/edits", &rest) == NGX_OK) {
        return ngx_http_reverie_openai_post(r, RV_OPENAI_EDITS);
    }

    if (ngx_http_reverie_openai_route(r, "/images/variations", &rest)
        == NGX_OK)
    {
        return ngx_http_reverie_openai_post(r, RV_OPENAI_VARIATIONS);
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_reverie_openai_route(r, "/models", &rest) == NGX_OK
        || ngx_http_reverie_openai_route(r, "/models/", &rest)
           != NGX_DECLINED)
    {
        return ngx_http_reverie_openai_get(r, &rest);
    }

    return ngx_http_reverie_send_error(r, NGX_HTTP_NOT_FOUND, "notFound",
                                       "there are POST images/generations, "
                                       "images/edits and images/variations, "
                                       "and GET models and models/ID here");
}


/*
 * NGX_OK: the path ends with the route; NGX_AGAIN: something follows, and rest
 * is that.  The path may begin with anything, since operators choose it.
 */

static ngx_int_t
ngx_http_reverie_openai_route(ngx_http_request_t *r, const char *route,
    ngx_str_t *rest)
{
    size_t   len;
    u_char  *p;

    len = ngx_strlen(route);
    ngx_str_null(rest);

    if (r->uri.len >= len
        && ngx_memcmp(r->uri.data + r->uri.len - len, route, len) == 0)
    {
        return NGX_OK;
    }

    p = ngx_strlcasestrn(r->uri.data, r->uri.data + r->uri.len,
                         (u_char *) route, len - 1);

    if (p == NULL || route[len - 1] != '/') {
        return NGX_DECLINED;
    }

    rest->data = p + len;
    rest->len = r->uri.data + r->uri.len - rest->data;

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_reverie_openai_post(ngx_http_request_t *r, rv_openai_kind kind)
{
    ngx_int_t                rc;
    ngx_http_reverie_ctx_t  *ctx;

    if (r->method != NGX_HTTP_POST) {
        rc = ngx_http_discard_request_body(r);

        if (rc != NGX_OK) {
            return rc;
        }

        return ngx_http_reverie_send_error(r, NGX_HTTP_NOT_ALLOWED,
                                           "methodNotAllowed",
                                           "this path needs POST");
    }

    if (!ngx_http_reverie_openai_is_form(r)) {
        rc = ngx_http_reverie_check_headers(r);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    ctx = ngx_http_reverie_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->kind = kind;
    ctx->reply = ngx_http_reverie_openai_reply;

    return ngx_http_reverie_accept(r, ngx_http_reverie_openai_body);
}


/* A compressed form is left to the usual check, which refuses it. */

static ngx_uint_t
ngx_http_reverie_openai_is_form(ngx_http_request_t *r)
{
    ngx_str_t  *type;

    if (r->headers_in.content_type == NULL
        || ngx_http_reverie_get_header(r, "Content-Encoding"))
    {
        return 0;
    }

    type = &r->headers_in.content_type->value;

    return type->len > 19
           && ngx_strncasecmp(type->data, (u_char *) "multipart/form-data",
                              19) == 0;
}


/* A request header with a NUL behind it; NULL when there is none. */

static ngx_int_t
ngx_http_reverie_openai_text(ngx_http_request_t *r, const char *name,
    const char **text)
{
    u_char     *p;
    ngx_str_t  *value;

    value = ngx_http_reverie_get_header(r, name);

    if (value == NULL) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, value->len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_cpystrn(p, value->data, value->len + 1);
    *text = (char *) p;

    return NGX_OK;
}


static ngx_int_t
ngx_http_reverie_openai_body(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, u_char *body, size_t len)
{
    ngx_int_t                     rc;
    rv_openai_options             options;
    rv_openai_request            *request;
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (ngx_http_reverie_openai_options(r, ctx, &options) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    request = rv_openai_parse(lcf->context->rv, (char *) body, len, &options);

    if (request == NULL) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "reverie: out of memory");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_reverie_openai_start(r, ctx, request);

    rv_openai_request_free(request);

    return rc;
}


/* What stands beside the body, and who sends it; texts are the request's. */

ngx_int_t
ngx_http_reverie_openai_options(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, rv_openai_options *options)
{
    ngx_memzero(options, sizeof(rv_openai_options));

    if (ngx_http_reverie_client_init(r, &ctx->client) != NGX_OK) {
        return NGX_ERROR;
    }

    options->kind = ctx->kind;
    options->call.owner = ctx->client.key ? ctx->client.key->text : NULL;

    if (ngx_http_reverie_openai_text(r, "Content-Type",
                                     &options->content_type)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_reverie_openai_text(r, "Idempotency-Key",
                                        &options->idempotency_key);
}


/* With the client that the options were made for; as start() of handler.c. */

ngx_int_t
ngx_http_reverie_openai_start(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, rv_openai_request *request)
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
    options.owner = ctx->client.key ? ctx->client.key->text : NULL;
    options.admit = ngx_http_reverie_admit_request;
    options.event = ngx_http_reverie_partial_event;
    options.done = ngx_http_reverie_openai_done;
    options.user = ctx;

    ctx->call = rv_openai_start(lcf->context->rv, request, &options);

    if (ctx->call == NULL) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "reverie: out of memory");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    reply = rv_call_reply(ctx->call);

    return reply ? ctx->reply(r, ctx, reply) : NGX_AGAIN;
}


/* Runs inside rv_dispatch, that is, inside the wake handler. */

static void
ngx_http_reverie_openai_done(void *user, rv_call *call)
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

    if (r->header_sent) {
        rc = ngx_http_reverie_partial_end(r, ctx);

    } else {
        rc = ctx->reply(r, ctx, rv_call_reply(call));
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


/* The headers that the library wants beside the usual ones. */

ngx_int_t
ngx_http_reverie_openai_reply(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, const rv_reply *reply)
{
    ngx_str_t   value;
    rv_header   header;
    ngx_uint_t  i;

    for (i = 0; /* void */ ; i++) {
        header = rv_call_header(ctx->call, i);

        if (header.name == NULL) {
            break;
        }

        value.data = (u_char *) header.value;
        value.len = ngx_strlen(header.value);

        if (ngx_http_reverie_set_header(r, header.name, &value) == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_reverie_send_reply(r, ctx, reply);
}


/* The list of models, or one of them. */

static ngx_int_t
ngx_http_reverie_openai_get(ngx_http_request_t *r, ngx_str_t *id)
{
    char                         *body;
    ngx_pool_cleanup_t           *cln;
    ngx_http_reverie_loc_conf_t  *lcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_reverie_send_error(r, NGX_HTTP_NOT_ALLOWED,
                                           "methodNotAllowed",
                                           "only GET and HEAD are allowed "
                                           "here");
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (lcf->context->rv == NULL) {
        return ngx_http_reverie_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "serviceUnavailable",
                                           "this worker could not start its "
                                           "library; its log says why");
    }

    body = id->len ? ngx_http_reverie_openai_model(r, lcf, id)
                   : rv_openai_models(lcf->context->rv);

    if (body == NULL && id->len) {
        return ngx_http_reverie_send_error(r, NGX_HTTP_NOT_FOUND,
                                           "modelNotFound",
                                           "this model is not served here; "
                                           "GET models lists those that are");
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);

    if (cln == NULL || body == NULL) {
        rv_free(body);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = rv_free;
    cln->data = body;

    return ngx_http_reverie_send(r, NGX_HTTP_OK, "application/json",
                                 (u_char *) body, ngx_strlen(body));
}


static char *
ngx_http_reverie_openai_model(ngx_http_request_t *r,
    ngx_http_reverie_loc_conf_t *lcf, ngx_str_t *id)
{
    u_char     name[NGX_HTTP_REVERIE_MODEL_LEN + 1], schema[16];
    ngx_str_t  value;

    if (id->len > NGX_HTTP_REVERIE_MODEL_LEN) {
        return NULL;
    }

    ngx_cpystrn(name, id->data, id->len + 1);

    schema[0] = '\0';

    if (ngx_http_arg(r, (u_char *) "schema", 6, &value) == NGX_OK) {
        ngx_cpystrn(schema, value.data,
                    ngx_min(value.len + 1, sizeof(schema)));
    }

    return rv_openai_model(lcf->context->rv, (char *) name, (char *) schema);
}
