
/*
 * API keys: a file of names and hashes, read with the configuration, and the
 * check of what clients present.  Keys themselves are never stored or logged,
 * and a comparison takes the same time whichever key is nearly right.
 */


#include "ngx_http_reverie.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>


#define NGX_HTTP_REVERIE_KEYS_MAX  (1024 * 1024)


static ngx_int_t ngx_http_reverie_keys_line(ngx_conf_t *cf, ngx_array_t *keys,
    ngx_str_t *file, ngx_uint_t line, u_char *p, u_char *last);
static ngx_int_t ngx_http_reverie_keys_hash(u_char *p, u_char *last,
    u_char *hash);


char *
ngx_http_reverie_keys_read(ngx_conf_t *cf, ngx_str_t *file,
    ngx_array_t **result)
{
    u_char           *p, *line, *last;
    ssize_t           n;
    ngx_fd_t          fd;
    ngx_uint_t        number;
    ngx_array_t      *keys;
    ngx_file_info_t   fi;

    keys = ngx_array_create(cf->pool, 8, sizeof(ngx_http_reverie_key_t));
    if (keys == NULL) {
        return NGX_CONF_ERROR;
    }

    fd = ngx_open_file(file->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE || ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "the key file \"%V\" cannot be read", file);

        if (fd != NGX_INVALID_FILE) {
            ngx_close_file(fd);
        }

        return NGX_CONF_ERROR;
    }

    if (fi.st_mode & (S_IROTH|S_IWOTH|S_IWGRP)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the key file \"%V\" is open to others: "
                           "chmod 640 it", file);
        ngx_close_file(fd);
        return NGX_CONF_ERROR;
    }

    n = ngx_min(ngx_file_size(&fi), NGX_HTTP_REVERIE_KEYS_MAX);

    p = ngx_pnalloc(cf->pool, n + 1);

    if (p == NULL || ngx_file_size(&fi) > NGX_HTTP_REVERIE_KEYS_MAX
        || read(fd, p, n) != n)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the key file \"%V\" cannot be read whole", file);
        ngx_close_file(fd);
        return NGX_CONF_ERROR;
    }

    ngx_close_file(fd);

    last = p + n;

    for (number = 1; p < last; number++) {
        line = p;
        p = ngx_strlchr(line, last, '\n');

        if (p == NULL) {
            p = last;
        }

        if (ngx_http_reverie_keys_line(cf, keys, file, number, line, p)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

        p++;
    }

    *result = keys;

    return NGX_CONF_OK;
}


/* name:sha256 in hexadecimal digits[:limit=value ...] */

static ngx_int_t
ngx_http_reverie_keys_line(ngx_conf_t *cf, ngx_array_t *keys, ngx_str_t *file,
    ngx_uint_t line, u_char *p, u_char *last)
{
    u_char                  *hash, *rest;
    ngx_str_t                word;
    ngx_uint_t               i;
    ngx_http_reverie_key_t  *key, *old;

    while (last > p && (last[-1] == ' ' || last[-1] == '\r')) {
        last--;
    }

    if (p == last || *p == '#') {
        return NGX_OK;
    }

    hash = ngx_strlchr(p, last, ':');

    if (hash == NULL || hash == p || hash - p > 64 || last - hash < 65
        || (last - hash > 65 && hash[65] != ':'))
    {
        goto invalid;
    }

    key = ngx_array_push(keys);
    if (key == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(key, sizeof(ngx_http_reverie_key_t));

    key->name.data = p;
    key->name.len = hash - p;

    ngx_cpystrn((u_char *) key->text, p, key->name.len + 1);

    for (i = 0; i < key->name.len; i++) {
        if (p[i] <= ' ' || p[i] >= 0x7f || p[i] == '"') {
            goto invalid;
        }
    }

    if (ngx_http_reverie_keys_hash(hash + 1, hash + 65, key->hash) != NGX_OK) {
        goto invalid;
    }

    old = keys->elts;

    for (i = 0; i < keys->nelts - 1; i++) {
        if (ngx_memcmp(old[i].hash, key->hash, 32) == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" line %ui: this key is there already, "
                               "as \"%V\"", file, line, &old[i].name);
            return NGX_ERROR;
        }
    }

    for (p = hash + 66; p < last; p = rest + 1) {
        rest = ngx_strlchr(p, last, ' ');

        if (rest == NULL) {
            rest = last;
        }

        word.data = p;
        word.len = rest - p;

        if (word.len
            && ngx_http_reverie_limits_parse(&word, &key->limits) != NGX_OK)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" line %ui: invalid limit \"%V\"",
                               file, line, &word);
            return NGX_ERROR;
        }
    }

    return NGX_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"%V\" line %ui must be "
                       "name:sha256[:limit=value ...]", file, line);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_reverie_keys_hash(u_char *p, u_char *last, u_char *hash)
{
    ngx_int_t  n;

    for ( /* void */ ; p < last; p += 2) {
        n = ngx_hextoi(p, 2);

        if (n == NGX_ERROR) {
            return NGX_ERROR;
        }

        *hash++ = (u_char) n;
    }

    return NGX_OK;
}


/* All entries are compared, and each to its end. */

ngx_http_reverie_key_t *
ngx_http_reverie_keys_check(ngx_array_t *keys, u_char *data, size_t len)
{
    u_char                   hash[EVP_MAX_MD_SIZE];
    ngx_uint_t               i;
    unsigned int             size;
    ngx_http_reverie_key_t  *key, *found;

    if (len == 0 || len > 512
        || EVP_Digest(data, len, hash, &size, EVP_sha256(), NULL) != 1)
    {
        return NULL;
    }

    found = NULL;
    key = keys->elts;

    for (i = 0; i < keys->nelts; i++) {
        if (CRYPTO_memcmp(key[i].hash, hash, 32) == 0) {
            found = &key[i];
        }
    }

    return found;
}


/*
 * The access phase: a key in a header.  Keys may also come in the body or in
 * a WebSocket's first message, which is decided later; NGX_DECLINED then.
 * With "satisfy any" that would be too late: who comes through was let in here
 * or by another module.
 */

ngx_int_t
ngx_http_reverie_keys_handler(ngx_http_request_t *r)
{
    size_t                        skip;
    ngx_str_t                    *value;
    ngx_http_reverie_ctx_t       *ctx;
    ngx_http_core_loc_conf_t     *clcf;
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (lcf->keys == NULL || lcf->api == NGX_HTTP_REVERIE_NONE
        || lcf->api == NGX_HTTP_REVERIE_RESULTS
        || lcf->api == NGX_HTTP_REVERIE_HEALTH
        || lcf->api == NGX_HTTP_REVERIE_METRICS)
    {
        return NGX_DECLINED;
    }

    ctx = ngx_http_reverie_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    skip = 0;
    value = r->headers_in.authorization ? &r->headers_in.authorization->value
                                        : NULL;

    if (value && value->len > 7
        && ngx_strncasecmp(value->data, (u_char *) "Bearer ", 7) == 0)
    {
        skip = 7;

    } else {
        value = ngx_http_reverie_get_header(r, "X-API-Key");
    }

    if (value == NULL) {

        if (lcf->api == NGX_HTTP_REVERIE_RUNWARE && lcf->keys_in_body
            && clcf->satisfy == NGX_HTTP_SATISFY_ALL
            && (r->method == NGX_HTTP_POST
                || ngx_http_reverie_websocket_is_asked(r)))
        {
            return NGX_DECLINED;
        }

        ctx->refusal = "missingApiKey";
        return NGX_HTTP_UNAUTHORIZED;
    }

    ctx->client.key = ngx_http_reverie_keys_check(lcf->keys,
                                                  value->data + skip,
                                                  value->len - skip);

    if (ctx->client.key == NULL) {
        ctx->refusal = "invalidApiKey";
        return NGX_HTTP_UNAUTHORIZED;
    }

    return NGX_OK;
}
