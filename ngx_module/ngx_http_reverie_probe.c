
/*
 * One short question to the daemon (GET /healthz, GET /metrics) on nginx's own
 * event loop.  It never takes longer than its time limit, and a daemon that is
 * away, asleep or talks nonsense is simply down.
 */


#include "ngx_http_reverie.h"


#define NGX_HTTP_REVERIE_PROBE_TIME  200
#define NGX_HTTP_REVERIE_PROBE_SIZE  65536


typedef struct {
    ngx_peer_connection_t      peer;
    ngx_http_request_t        *request;
    ngx_http_reverie_probe_pt  handler;
    ngx_log_t                  log;
    ngx_str_t                  question;
    size_t                     sent;
    u_char                    *answer;
    size_t                     received;
} ngx_http_reverie_probe_t;


static void ngx_http_reverie_probe_write(ngx_event_t *ev);
static void ngx_http_reverie_probe_read(ngx_event_t *ev);
static void ngx_http_reverie_probe_end(ngx_http_reverie_probe_t *p,
    ngx_uint_t complete);
static void ngx_http_reverie_probe_cleanup(void *data);


/*
 * From a content handler, whose result this is.  The handler of the probe gets
 * the answer's body, or NULL, and returns what ends the request.
 */

ngx_int_t
ngx_http_reverie_probe(ngx_http_request_t *r, const char *path,
    ngx_http_reverie_probe_pt handler)
{
    ngx_int_t                     rc;
    ngx_addr_t                   *addr;
    ngx_connection_t             *c;
    ngx_http_cleanup_t           *cln;
    ngx_http_reverie_probe_t     *p;
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);
    addr = lcf->daemon_addr;

    if (addr == NULL) {
        return handler(r, NULL);
    }

    p = ngx_pcalloc(r->pool, sizeof(ngx_http_reverie_probe_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (p == NULL || cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p->answer = ngx_palloc(r->pool, NGX_HTTP_REVERIE_PROBE_SIZE);
    p->question.data = ngx_pnalloc(r->pool, 64 + ngx_strlen(path));

    if (p->answer == NULL || p->question.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p->question.len = ngx_sprintf(p->question.data,
                                  "GET %s HTTP/1.0\r\nHost: reveried\r\n\r\n",
                                  path)
                      - p->question.data;

    p->request = r;
    p->handler = handler;

    p->peer.sockaddr = addr->sockaddr;
    p->peer.socklen = addr->socklen;
    p->peer.name = &addr->name;
    p->peer.get = ngx_event_get_peer;

    /* that a daemon is away is an answer, not news for the error log */

    p->log = *r->connection->log;
    p->log.log_level = NGX_LOG_ALERT;
    p->peer.log = &p->log;
    p->peer.log_error = NGX_ERROR_INFO;

    rc = ngx_event_connect_peer(&p->peer);

    if (rc == NGX_ERROR || rc == NGX_BUSY || rc == NGX_DECLINED) {

        if (p->peer.connection) {
            ngx_close_connection(p->peer.connection);
        }

        return handler(r, NULL);
    }

    cln->handler = ngx_http_reverie_probe_cleanup;
    cln->data = p;

    c = p->peer.connection;
    c->data = p;
    c->read->handler = ngx_http_reverie_probe_read;
    c->write->handler = ngx_http_reverie_probe_write;
    c->log = &p->log;
    c->read->log = c->log;
    c->write->log = c->log;

    ngx_add_timer(c->read, NGX_HTTP_REVERIE_PROBE_TIME);

    r->main->count++;

    if (rc == NGX_OK) {
        ngx_post_event(c->write, &ngx_posted_events);
    }

    return NGX_DONE;
}


static void
ngx_http_reverie_probe_write(ngx_event_t *ev)
{
    ssize_t                    n;
    ngx_connection_t          *c;
    ngx_http_reverie_probe_t  *p;

    c = ev->data;
    p = c->data;

    while (p->sent < p->question.len) {
        n = c->send(c, p->question.data + p->sent, p->question.len - p->sent);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n <= 0) {
            ngx_http_reverie_probe_end(p, 0);
            return;
        }

        p->sent += n;
    }

    if (ngx_handle_write_event(c->write, 0) != NGX_OK
        || ngx_handle_read_event(c->read, 0) != NGX_OK)
    {
        ngx_http_reverie_probe_end(p, 0);
    }
}


static void
ngx_http_reverie_probe_read(ngx_event_t *ev)
{
    ssize_t                    n;
    ngx_connection_t          *c;
    ngx_http_reverie_probe_t  *p;

    c = ev->data;
    p = c->data;

    if (ev->timedout) {
        ngx_http_reverie_probe_end(p, 0);
        return;
    }

    while (p->received < NGX_HTTP_REVERIE_PROBE_SIZE) {
        n = c->recv(c, p->answer + p->received,
                    NGX_HTTP_REVERIE_PROBE_SIZE - p->received);

        if (n == NGX_AGAIN) {

            if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
                ngx_http_reverie_probe_end(p, 0);
            }

            return;
        }

        if (n <= 0) {
            ngx_http_reverie_probe_end(p, n == 0);
            return;
        }

        p->received += n;
    }

    ngx_http_reverie_probe_end(p, 0);
}


static void
ngx_http_reverie_probe_end(ngx_http_reverie_probe_t *p, ngx_uint_t complete)
{
    u_char              *end;
    ngx_int_t            rc;
    ngx_str_t            body;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = p->request;
    c = r->connection;

    ngx_close_connection(p->peer.connection);
    p->peer.connection = NULL;

    body.data = NULL;

    if (complete && p->received > 12
        && ngx_strncmp(p->answer, "HTTP/1.", 7) == 0
        && ngx_strncmp(p->answer + 8, " 200", 4) == 0)
    {
        end = ngx_strnstr(p->answer, "\r\n\r\n", p->received);

        if (end) {
            body.data = end + 4;
            body.len = p->answer + p->received - body.data;
        }
    }

    rc = p->handler(r, body.data ? &body : NULL);

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


static void
ngx_http_reverie_probe_cleanup(void *data)
{
    ngx_http_reverie_probe_t *p = data;

    if (p->peer.connection) {
        ngx_close_connection(p->peer.connection);
        p->peer.connection = NULL;
    }
}
