
/*
 * Stored pictures by nginx's static machinery.  A name carries 128 random bits
 * and its own expiry, so serving needs no database; anything that is not such
 * a name is refused before the disk is touched.
 */


#include "ngx_http_reverie.h"


#define NGX_HTTP_REVERIE_RANDOM   26         /* base32 characters */
#define NGX_HTTP_REVERIE_FOREVER  31536000   /* seconds; the longest max-age */


typedef struct {
    ngx_str_t    name;
    ngx_str_t    type;
    time_t       expiry;                     /* 0: never */
} ngx_http_reverie_result_t;


static ngx_int_t ngx_http_reverie_parse_name(ngx_http_request_t *r,
    ngx_http_reverie_result_t *result);
static ngx_int_t ngx_http_reverie_open_result(ngx_http_request_t *r,
    ngx_http_reverie_result_t *result, ngx_str_t *path,
    ngx_open_file_info_t *of);
static ngx_int_t ngx_http_reverie_result_headers(ngx_http_request_t *r,
    ngx_http_reverie_result_t *result, ngx_open_file_info_t *of);
static ngx_int_t ngx_http_reverie_send_file(ngx_http_request_t *r,
    ngx_str_t *path, ngx_open_file_info_t *of);


static const struct {
    const char  *ext;
    ngx_str_t    type;
} ngx_http_reverie_types[] = {
    { "png", ngx_string("image/png") },
    { "jpg", ngx_string("image/jpeg") },
    { "webp", ngx_string("image/webp") },
    { NULL, ngx_null_string }
};


ngx_int_t
ngx_http_reverie_results_handler(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_str_t                  path;
    ngx_open_file_info_t       of;
    ngx_http_reverie_result_t  result;

    rc = ngx_http_reverie_check_read(r);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (ngx_http_reverie_parse_name(r, &result) != NGX_OK) {
        return ngx_http_reverie_send_error(r, NGX_HTTP_NOT_FOUND,
                                           "imageNotFound",
                                           "there is no such picture");
    }

    if (result.expiry && ngx_time() >= result.expiry) {
        return ngx_http_reverie_send_error(r, 410, "imageExpired",
                                           "the picture has expired");
    }

    rc = ngx_http_reverie_open_result(r, &result, &path, &of);

    if (rc == NGX_DECLINED) {
        return ngx_http_reverie_send_error(r, NGX_HTTP_NOT_FOUND,
                                           "imageNotFound",
                                           "there is no such picture");
    }

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_reverie_result_headers(r, &result, &of) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_reverie_send_file(r, &path, &of);
}


/* "kr3x...-66f0a1b2.png", directly below the location. */

static ngx_int_t
ngx_http_reverie_parse_name(ngx_http_request_t *r,
    ngx_http_reverie_result_t *result)
{
    u_char                    *p, *last, *digits;
    ngx_uint_t                 i;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (r->uri.len <= clcf->name.len) {
        return NGX_DECLINED;
    }

    p = r->uri.data + clcf->name.len;
    last = r->uri.data + r->uri.len;

    result->name.data = p;
    result->name.len = last - p;

    if (result->name.len < NGX_HTTP_REVERIE_RANDOM + sizeof("-0.png") - 1) {
        return NGX_DECLINED;
    }

    for (i = 0; i < NGX_HTTP_REVERIE_RANDOM; i++, p++) {
        if (!((*p >= 'a' && *p <= 'z') || (*p >= '2' && *p <= '7'))) {
            return NGX_DECLINED;
        }
    }

    if (*p++ != '-') {
        return NGX_DECLINED;
    }

    result->expiry = 0;
    digits = p;

    for ( /* void */ ; p < last && p - digits < 15; p++) {

        if (*p >= '0' && *p <= '9') {
            result->expiry = result->expiry * 16 + (*p - '0');

        } else if (*p >= 'a' && *p <= 'f') {
            result->expiry = result->expiry * 16 + (*p - 'a' + 10);

        } else {
            break;
        }
    }

    if (p == digits || p == last || *p++ != '.') {
        return NGX_DECLINED;
    }

    for (i = 0; ngx_http_reverie_types[i].ext; i++) {

        if ((size_t) (last - p) == ngx_strlen(ngx_http_reverie_types[i].ext)
            && ngx_memcmp(p, ngx_http_reverie_types[i].ext, last - p) == 0)
        {
            result->type = ngx_http_reverie_types[i].type;
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_reverie_open_result(ngx_http_request_t *r,
    ngx_http_reverie_result_t *result, ngx_str_t *path,
    ngx_open_file_info_t *of)
{
    ngx_http_core_loc_conf_t     *clcf;
    ngx_http_reverie_loc_conf_t  *lcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    path->len = lcf->results_dir.len + 1 + result->name.len;
    path->data = ngx_pnalloc(r->pool, path->len + 1);
    if (path->data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    *ngx_sprintf(path->data, "%V/%V", &lcf->results_dir, &result->name) = '\0';

    ngx_memzero(of, sizeof(ngx_open_file_info_t));

    of->read_ahead = clcf->read_ahead;
    of->directio = clcf->directio;
    of->valid = clcf->open_file_cache_valid;
    of->min_uses = clcf->open_file_cache_min_uses;
    of->errors = clcf->open_file_cache_errors;
    of->events = clcf->open_file_cache_events;

    if (ngx_http_set_disable_symlinks(r, clcf, path, of) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_open_cached_file(clcf->open_file_cache, path, of, r->pool)
        == NGX_OK)
    {
        return of->is_file ? NGX_OK : NGX_DECLINED;
    }

    if (of->err == NGX_ENOENT || of->err == NGX_ENOTDIR
        || of->err == NGX_ENAMETOOLONG)
    {
        return NGX_DECLINED;
    }

    ngx_log_error(NGX_LOG_ERR, r->connection->log, of->err,
                  "%s \"%s\" failed", of->failed ? of->failed : "open()",
                  path->data);

    return of->err == NGX_EACCES ? NGX_HTTP_FORBIDDEN
                                 : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


static ngx_int_t
ngx_http_reverie_result_headers(ngx_http_request_t *r,
    ngx_http_reverie_result_t *result, ngx_open_file_info_t *of)
{
    time_t      left;
    ngx_str_t   value;
    ngx_uint_t  i;

    static const struct {
        const char  *name;
        ngx_str_t    value;
    } fixed[] = {
        { "X-Content-Type-Options", ngx_string("nosniff") },
        { "Content-Security-Policy",
          ngx_string("default-src 'none'; sandbox") },
        { "Cross-Origin-Resource-Policy", ngx_string("cross-origin") },
        { "Access-Control-Allow-Origin", ngx_string("*") },
        { NULL, ngx_null_string }
    };

    for (i = 0; fixed[i].name; i++) {
        value = fixed[i].value;

        if (ngx_http_reverie_set_header(r, fixed[i].name, &value) == NULL) {
            return NGX_ERROR;
        }
    }

    left = result->expiry ? result->expiry - ngx_time()
                          : NGX_HTTP_REVERIE_FOREVER;

    value.data = ngx_pnalloc(r->pool, sizeof("public, max-age=, immutable")
                                      + NGX_TIME_T_LEN);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    value.len = ngx_sprintf(value.data, "public, max-age=%T, immutable",
                            ngx_min(left, NGX_HTTP_REVERIE_FOREVER))
                - value.data;

    if (ngx_http_reverie_set_header(r, "Cache-Control", &value) == NULL) {
        return NGX_ERROR;
    }

    /* the name consists of characters that need no quoting */

    value.data = ngx_pnalloc(r->pool, sizeof("inline; filename=\"\"")
                                      + result->name.len);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    value.len = ngx_sprintf(value.data, "inline; filename=\"%V\"",
                            &result->name)
                - value.data;

    if (ngx_http_reverie_set_header(r, "Content-Disposition", &value) == NULL)
    {
        return NGX_ERROR;
    }

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = of->size;
    r->headers_out.last_modified_time = of->mtime;
    r->headers_out.content_type = result->type;
    r->headers_out.content_type_len = result->type.len;
    r->headers_out.content_type_lowcase = NULL;

    r->allow_ranges = 1;

    return ngx_http_set_etag(r);
}


static ngx_int_t
ngx_http_reverie_send_file(ngx_http_request_t *r, ngx_str_t *path,
    ngx_open_file_info_t *of)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->file = ngx_pcalloc(r->pool, sizeof(ngx_file_t));
    if (b->file == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b->file_pos = 0;
    b->file_last = of->size;

    b->in_file = b->file_last ? 1 : 0;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;
    b->sync = (b->in_file || b->last_buf) ? 0 : 1;

    b->file->fd = of->fd;
    b->file->name = *path;
    b->file->log = r->connection->log;
    b->file->directio = of->is_directio;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}
