
/*
 * "reverie_health": whether tasks can be run.  It must answer at once, so it
 * only asks whether the daemon's socket accepts a connection, at most once a
 * second, and never waits.
 */


#include "ngx_http_reverie.h"


static const char *ngx_http_reverie_daemon_state(ngx_http_request_t *r,
    ngx_http_reverie_loc_conf_t *lcf);
static ngx_uint_t ngx_http_reverie_socket_accepts(ngx_str_t *address);


ngx_int_t
ngx_http_reverie_health_handler(ngx_http_request_t *r)
{
    u_char                       *body;
    size_t                        size;
    ngx_int_t                     rc;
    ngx_str_t                     arg;
    ngx_uint_t                    ok;
    const char                   *daemon;
    ngx_http_reverie_loc_conf_t  *lcf;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_reverie_send_error(r, NGX_HTTP_NOT_ALLOWED,
                                           "unsupportedTaskType",
                                           "only GET and HEAD are allowed "
                                           "here");
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (ngx_http_arg(r, (u_char *) "live", 4, &arg) == NGX_OK
        || (r->args.len == 4 && ngx_strncmp(r->args.data, "live", 4) == 0))
    {
        return ngx_http_reverie_send(r, NGX_HTTP_OK, "application/json",
                                     (u_char *) "{\"status\":\"ok\"}",
                                     sizeof("{\"status\":\"ok\"}") - 1);
    }

    daemon = ngx_http_reverie_daemon_state(r, lcf);
    ok = ngx_strcmp(daemon, "down") != 0;

    size = sizeof("{\"status\":\"unavailable\",\"version\":\"\","
                  "\"daemon\":\"unknown\"}") + ngx_strlen(rv_version());

    body = ngx_pnalloc(r->pool, size);
    if (body == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    size = ngx_snprintf(body, size,
                        "{\"status\":\"%s\",\"version\":\"%s\","
                        "\"daemon\":\"%s\"}",
                        ok ? "ok" : "unavailable", rv_version(), daemon)
           - body;

    return ngx_http_reverie_send(r, ok ? NGX_HTTP_OK
                                       : NGX_HTTP_SERVICE_UNAVAILABLE,
                                 "application/json", body, size);
}


static const char *
ngx_http_reverie_daemon_state(ngx_http_request_t *r,
    ngx_http_reverie_loc_conf_t *lcf)
{
    if (lcf->executor || lcf->daemon.len == 0) {
        return "off";
    }

    if (ngx_strncmp(lcf->daemon.data, "unix:", 5) != 0) {
        return "unknown";
    }

    if (lcf->checked != ngx_time()) {
        lcf->is_up = ngx_http_reverie_socket_accepts(&lcf->daemon);
        lcf->checked = ngx_time();
    }

    return lcf->is_up ? "up" : "down";
}


/* Connecting to a Unix socket is decided at once, whoever listens. */

static ngx_uint_t
ngx_http_reverie_socket_accepts(ngx_str_t *address)
{
    int                 rc;
    ngx_socket_t        s;
    struct sockaddr_un  sun;

    if (address->len - 5 >= sizeof(sun.sun_path)) {
        return 0;
    }

    ngx_memzero(&sun, sizeof(struct sockaddr_un));
    sun.sun_family = AF_UNIX;
    ngx_memcpy(sun.sun_path, address->data + 5, address->len - 5);

    s = ngx_socket(AF_UNIX, SOCK_STREAM, 0);
    if (s == (ngx_socket_t) -1) {
        return 0;
    }

    (void) ngx_nonblocking(s);

    rc = connect(s, (struct sockaddr *) &sun, sizeof(struct sockaddr_un));

    /* EAGAIN: somebody listens, but has much to do */

    rc = (rc == 0 || ngx_socket_errno == NGX_EAGAIN);

    ngx_close_socket(s);

    return rc;
}
