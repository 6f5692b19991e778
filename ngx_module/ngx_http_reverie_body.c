
/*
 * Request bodies: which are accepted, and their bytes wherever nginx put them.
 */


#include "ngx_http_reverie.h"


static ngx_int_t ngx_http_reverie_copy_buf(ngx_http_request_t *r,
    ngx_buf_t *b, u_char *p, size_t size);


/* NGX_DECLINED: nothing speaks against reading the body. */

ngx_int_t
ngx_http_reverie_check_headers(ngx_http_request_t *r)
{
    size_t       len;
    ngx_int_t    rc;
    ngx_str_t   *type, *encoding;
    ngx_uint_t   encoded;

    encoding = ngx_http_reverie_get_header(r, "Content-Encoding");

    encoded = encoding && encoding->len
              && (encoding->len != 8
                  || ngx_strncasecmp(encoding->data, (u_char *) "identity", 8)
                     != 0);

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


/* For what is only read.  NGX_DECLINED: the method fits, the body is gone. */

ngx_int_t
ngx_http_reverie_check_read(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return NGX_DECLINED;
    }

    return ngx_http_reverie_send_error(r, NGX_HTTP_NOT_ALLOWED,
                                       "unsupportedTaskType",
                                       "only GET and HEAD are allowed here");
}


/*
 * The body is in one buffer, in several, in a file, or not there at all.
 * NGX_DONE: it was put together in memory that the caller must free.
 */

ngx_int_t
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


/* The first request header of this name, or NULL. */

ngx_str_t *
ngx_http_reverie_get_header(ngx_http_request_t *r, const char *name)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *header;

    len = ngx_strlen(name);

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        header = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (header[i].key.len == len
                && ngx_strncasecmp(header[i].key.data, (u_char *) name, len)
                   == 0)
            {
                return &header[i].value;
            }
        }
    }

    return NULL;
}
