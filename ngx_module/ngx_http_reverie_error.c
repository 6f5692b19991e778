
/*
 * Replies of our own, and the filter that turns the pages nginx makes itself
 * in our locations (413, 401, 429, 502, ...) into the JSON that clients of the
 * protocol understand.  Pages chosen with error_page are left alone.
 */


#include "ngx_http_reverie.h"


typedef struct {
    ngx_uint_t   status;
    const char  *code;
    const char  *message;
} ngx_http_reverie_error_t;


static const ngx_http_reverie_error_t *ngx_http_reverie_find_error(
    ngx_uint_t status);
static ngx_int_t ngx_http_reverie_write_error(ngx_http_request_t *r,
    ngx_uint_t status, const char *code, const char *message, ngx_str_t *body);
static ngx_int_t ngx_http_reverie_common_headers(ngx_http_request_t *r);
static ngx_int_t ngx_http_reverie_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_reverie_replace_page(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx);
static ngx_int_t ngx_http_reverie_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);


static ngx_http_output_header_filter_pt  ngx_http_reverie_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_reverie_next_body_filter;


static const ngx_http_reverie_error_t  ngx_http_reverie_errors[] = {

    { 400, "invalidRequestBody", "the HTTP request is malformed" },
    { 401, "invalidApiKey", "the API key is missing or wrong" },
    { 403, "forbidden", "access is not allowed" },
    { 404, "unsupportedTaskType", "there is nothing at this address" },
    { 405, "unsupportedTaskType", "this method is not allowed here" },
    { 408, "requestTimeout", "the request did not arrive in time" },
    { 413, "maxRequestSize", NULL },
    { 415, "unsupportedMediaType", "the Content-Type must be "
                                   "application/json" },
    { 429, "rateLimitExceeded", "too many requests, try again later" },
    { 494, "invalidRequestBody", "the request header is too large" },
    { 500, "internalServerError", "internal error" },
    { 502, "providerError", "the other side answered with an error" },
    { 503, "serviceUnavailable", "busy, try again later" },
    { 504, "providerTimeout", "no answer in time" },

    { 0, NULL, NULL }
};


void
ngx_http_reverie_filter_init(void)
{
    ngx_http_reverie_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_reverie_header_filter;

    ngx_http_reverie_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_reverie_body_filter;
}


ngx_http_reverie_ctx_t *
ngx_http_reverie_ctx(ngx_http_request_t *r)
{
    ngx_http_reverie_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_reverie_module);

    if (ctx == NULL) {
        ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_reverie_ctx_t));
        if (ctx == NULL) {
            return NULL;
        }

        ngx_http_set_ctx(r, ctx, ngx_http_reverie_module);
    }

    return ctx;
}


/*
 * Sets a response header; one of this name that is already there is replaced,
 * because some errors are found when half of the headers are set.
 */

ngx_table_elt_t *
ngx_http_reverie_set_header(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *header;

    len = ngx_strlen(name);
    part = &r->headers_out.headers.part;

    for ( /* void */ ; part; part = part->next) {
        header = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (header[i].hash && header[i].key.len == len
                && ngx_strncasecmp(header[i].key.data, (u_char *) name, len)
                   == 0)
            {
                header[i].value = *value;
                return &header[i];
            }
        }
    }

    header = ngx_list_push(&r->headers_out.headers);
    if (header == NULL) {
        return NULL;
    }

    ngx_memzero(header, sizeof(ngx_table_elt_t));

    header->hash = 1;
    header->key.len = len;
    header->key.data = (u_char *) name;
    header->value = *value;

    return header;
}


/* Sends a whole reply; body must live as long as the request. */

ngx_int_t
ngx_http_reverie_send(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, u_char *body, size_t len)
{
    ngx_int_t                rc;
    ngx_buf_t               *b;
    ngx_chain_t              out;
    ngx_http_reverie_ctx_t  *ctx;

    ctx = ngx_http_reverie_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->own = 1;
    r->disable_not_modified = 1;

    r->headers_out.status = status;
    r->headers_out.content_length_n = len;
    r->headers_out.content_type.data = (u_char *) type;
    r->headers_out.content_type.len = ngx_strlen(type);
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = body;
    b->last = body + len;
    b->memory = len ? 1 : 0;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;
    b->sync = (len == 0 && r != r->main) ? 1 : 0;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


ngx_int_t
ngx_http_reverie_send_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *message)
{
    ngx_str_t                body, allow;
    ngx_http_reverie_ctx_t  *ctx;

    ctx = ngx_http_reverie_ctx(r);

    if (ctx) {
        ctx->error_code.data = (u_char *) code;
        ctx->error_code.len = ngx_strlen(code);
    }

    if (ngx_http_reverie_write_error(r, status, code, message, &body)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (status == NGX_HTTP_NOT_ALLOWED) {
        ngx_str_set(&allow, "POST");

        if (ngx_strncmp(message, "only GET", 8) == 0) {
            ngx_str_set(&allow, "GET, HEAD");
        }

        if (ctx && ctx->allow) {
            allow.data = (u_char *) ctx->allow;
            allow.len = ngx_strlen(ctx->allow);
        }

        if (ngx_http_reverie_set_header(r, "Allow", &allow) == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_reverie_send(r, status, "application/json", body.data,
                                 body.len);
}


/*
 * The error envelope of the protocol.  Codes and messages are our own words
 * and need no escaping.
 */

static ngx_int_t
ngx_http_reverie_write_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *message, ngx_str_t *body)
{
    char                         *text;
    size_t                        len;
    ngx_http_reverie_loc_conf_t  *lcf;

    static const char  format[] =
        "{\"errors\":[{\"code\":\"%s\",\"message\":\"%s\"}],"
        "\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}";

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (lcf->api == NGX_HTTP_REVERIE_OPENAI) {
        text = rv_openai_error(status, code, message);
        len = text ? ngx_strlen(text) : 0;

        body->data = ngx_pnalloc(r->pool, len + 1);

        if (text == NULL || body->data == NULL) {
            rv_free(text);
            return NGX_ERROR;
        }

        ngx_memcpy(body->data, text, len);
        body->len = len;

        rv_free(text);

        return NGX_OK;
    }

    len = sizeof(format) + 2 * (ngx_strlen(code) + ngx_strlen(message));

    body->data = ngx_pnalloc(r->pool, len);
    if (body->data == NULL) {
        return NGX_ERROR;
    }

    body->len = ngx_snprintf(body->data, len, format, code, message, code,
                             message)
                - body->data;

    return NGX_OK;
}


static const ngx_http_reverie_error_t *
ngx_http_reverie_find_error(ngx_uint_t status)
{
    const ngx_http_reverie_error_t  *e;

    for (e = ngx_http_reverie_errors; e->status; e++) {
        if (e->status == status) {
            return e;
        }
    }

    /* of a family without its own line: the family's first */

    for (e = ngx_http_reverie_errors; e->status; e++) {
        if (e->status == (status >= 500 ? 500 : 400)) {
            break;
        }
    }

    return e;
}


static ngx_int_t
ngx_http_reverie_header_filter(ngx_http_request_t *r)
{
    ngx_http_reverie_ctx_t       *ctx;
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (lcf->api == NGX_HTTP_REVERIE_NONE || r != r->main) {
        return ngx_http_reverie_next_header_filter(r);
    }

    ctx = ngx_http_reverie_ctx(r);
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    if (r->headers_out.status >= 400 && r->err_status && !ctx->own) {

        if (ngx_http_reverie_replace_page(r, ctx) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (ngx_http_reverie_common_headers(r) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_reverie_next_header_filter(r);
}


static ngx_int_t
ngx_http_reverie_common_headers(ngx_http_request_t *r)
{
    ngx_str_t                      value;
    ngx_http_variable_value_t     *id;
    ngx_http_reverie_main_conf_t  *mcf;
    ngx_http_reverie_loc_conf_t   *lcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_reverie_module);
    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    /* the same value as in access logs that use $request_id */

    id = ngx_http_get_indexed_variable(r, mcf->request_id);

    if (id && !id->not_found && id->len) {
        value.data = id->data;
        value.len = id->len;

        if (ngx_http_reverie_set_header(r, "X-Request-Id", &value) == NULL) {
            return NGX_ERROR;
        }
    }

    if (lcf->api == NGX_HTTP_REVERIE_RESULTS
        && r->headers_out.status < NGX_HTTP_BAD_REQUEST)
    {
        return NGX_OK;
    }

    ngx_str_set(&value, "no-store");

    return ngx_http_reverie_set_header(r, "Cache-Control", &value) ? NGX_OK
                                                                   : NGX_ERROR;
}


static ngx_int_t
ngx_http_reverie_replace_page(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx)
{
    u_char                          text[128];
    ngx_str_t                       body, value;
    const char                     *code, *message;
    ngx_http_core_loc_conf_t       *clcf;
    const ngx_http_reverie_error_t *e;

    e = ngx_http_reverie_find_error(r->headers_out.status);
    code = e->code;
    message = e->message;

    if (ctx->refusal && r->headers_out.status == NGX_HTTP_UNAUTHORIZED) {
        code = ctx->refusal;
        message = code[0] == 'm' ? "an API key is needed"
                                 : "the API key is wrong";
    }

    if (message == NULL) {
        clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

        *ngx_snprintf(text, sizeof(text) - 1,
                      "the request body is larger than %O bytes "
                      "(client_max_body_size)", clcf->client_max_body_size)
            = '\0';
        message = (char *) text;
    }

    if (ngx_http_reverie_write_error(r, r->headers_out.status, code,
                                     message, &body)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (r->headers_out.status == 429 || r->headers_out.status == 503) {
        ngx_str_set(&value, "1");

        if (ngx_http_reverie_set_header(r, "Retry-After", &value) == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_http_clear_accept_ranges(r);
    ngx_http_clear_last_modified(r);
    ngx_http_clear_etag(r);
    ngx_http_clear_content_length(r);

    r->headers_out.content_length_n = body.len;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;
    ngx_str_null(&r->headers_out.charset);

    ctx->error_code.data = (u_char *) code;
    ctx->error_code.len = ngx_strlen(code);

    ctx->error = (char *) body.data;
    ctx->error_len = body.len;
    ctx->replaces = 1;

    return NGX_OK;
}


/* Swallows nginx's page and sends ours once. */

static ngx_int_t
ngx_http_reverie_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_buf_t               *b;
    ngx_chain_t             *cl, out;
    ngx_http_reverie_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_reverie_module);

    if (ctx == NULL || !ctx->replaces || in == NULL) {
        return ngx_http_reverie_next_body_filter(r, in);
    }

    for (cl = in; cl; cl = cl->next) {
        cl->buf->pos = cl->buf->last;
        cl->buf->file_pos = cl->buf->file_last;
    }

    if (ctx->replaced) {
        return NGX_OK;
    }

    ctx->replaced = 1;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = (u_char *) ctx->error;
    b->last = b->pos + ctx->error_len;
    b->memory = 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_reverie_next_body_filter(r, &out);
}
