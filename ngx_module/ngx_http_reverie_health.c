
/*
 * "reverie_health": whether tasks can be run here, by asking the daemon.  What
 * it said is believed for a second, so that nobody can keep it busy by asking.
 */


#include "ngx_http_reverie.h"


#define NGX_HTTP_REVERIE_HEALTH_TIME  1000


static ngx_int_t ngx_http_reverie_health_answer(ngx_http_request_t *r,
    ngx_str_t *body);
static ngx_int_t ngx_http_reverie_health_send(ngx_http_request_t *r,
    ngx_http_reverie_loc_conf_t *lcf);


ngx_int_t
ngx_http_reverie_health_handler(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_str_t                     arg;
    ngx_http_reverie_loc_conf_t  *lcf;

    rc = ngx_http_reverie_check_read(r);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (ngx_http_arg(r, (u_char *) "live", 4, &arg) == NGX_OK
        || (r->args.len == 4 && ngx_strncmp(r->args.data, "live", 4) == 0))
    {
        return ngx_http_reverie_send(r, NGX_HTTP_OK, "application/json",
                                     (u_char *) "{\"status\":\"ok\"}",
                                     sizeof("{\"status\":\"ok\"}") - 1);
    }

    if (lcf->executor || lcf->daemon.len == 0
        || (lcf->health_known
            && ngx_current_msec - lcf->health_at
               < NGX_HTTP_REVERIE_HEALTH_TIME))
    {
        return ngx_http_reverie_health_send(r, lcf);
    }

    return ngx_http_reverie_probe(r, "/healthz",
                                  ngx_http_reverie_health_answer);
}


static ngx_int_t
ngx_http_reverie_health_answer(ngx_http_request_t *r, ngx_str_t *body)
{
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    lcf->health_known = 1;
    lcf->health_at = ngx_current_msec;
    lcf->health.len = 0;

    /* an object, for it stands inside of ours */

    if (body && body->len > 2 && body->len < sizeof(lcf->health_text)
        && body->data[0] == '{' && body->data[body->len - 1] == '}')
    {
        ngx_memcpy(lcf->health_text, body->data, body->len);
        lcf->health.data = lcf->health_text;
        lcf->health.len = body->len;
    }

    return ngx_http_reverie_health_send(r, lcf);
}


static ngx_int_t
ngx_http_reverie_health_send(ngx_http_request_t *r,
    ngx_http_reverie_loc_conf_t *lcf)
{
    u_char      *p, *body;
    size_t       size;
    ngx_uint_t   off, ok;

    off = (lcf->executor || lcf->daemon.len == 0);
    ok = off || lcf->health.len;

    /* a daemon that is about to stop takes no more tasks */

    if (!off && ok
        && ngx_strnstr(lcf->health.data, "\"status\":\"stopping\"",
                       lcf->health.len))
    {
        ok = 0;
    }

    size = sizeof("{\"status\":\"unavailable\",\"version\":\"\","
                  "\"daemon\":\"down\",\"engine\":}") + ngx_strlen(rv_version())
           + lcf->health.len;

    body = ngx_pnalloc(r->pool, size);
    if (body == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = ngx_sprintf(body, "{\"status\":\"%s\",\"version\":\"%s\","
                    "\"daemon\":\"%s\"",
                    ok ? "ok" : "unavailable", rv_version(),
                    off ? "off" : lcf->health.len ? "up" : "down");

    if (!off && lcf->health.len) {
        p = ngx_sprintf(p, ",\"engine\":%V", &lcf->health);
    }

    *p++ = '}';

    return ngx_http_reverie_send(r, ok ? NGX_HTTP_OK
                                       : NGX_HTTP_SERVICE_UNAVAILABLE,
                                 "application/json", body, p - body);
}
