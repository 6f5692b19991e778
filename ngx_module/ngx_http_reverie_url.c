
/*
 * Addresses that replies name.  What a client sends as its Host never gets
 * into one unless it is a name of the server.
 */


#include "ngx_http_reverie.h"


static ngx_uint_t ngx_http_reverie_is_our_host(ngx_http_request_t *r);


/*
 * What stands before the name of a stored picture, with a NUL behind it.  The
 * client's Host header is used only when it is one of the server's names:
 * otherwise it could plant links to other hosts.
 */

ngx_int_t
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
