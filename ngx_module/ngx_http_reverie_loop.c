
/*
 * The library's wake descriptor inside nginx's event loop: one connection
 * object per context and worker.  The descriptor belongs to the library.
 */


#include "ngx_http_reverie.h"


static void ngx_http_reverie_wake_handler(ngx_event_t *ev);


ngx_int_t
ngx_http_reverie_loop_start(ngx_cycle_t *cycle,
    ngx_http_reverie_context_t *context)
{
    int                fd;
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    fd = rv_fd(context->rv);

    if (fd == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "reverie: no descriptor is left to wait for tasks");
        return NGX_ERROR;
    }

    c = ngx_get_connection(fd, cycle->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    c->data = context;

    rev = c->read;
    rev->handler = ngx_http_reverie_wake_handler;
    rev->log = cycle->log;

    /*
     * As nginx marks its own channels: not a client, so that it is neither
     * closed when worker_shutdown_timeout expires nor reported at exit.
     */
    rev->channel = 1;
    c->write->channel = 1;

    /* level: what one dispatch leaves behind wakes us again */

    if (ngx_add_event(rev, NGX_READ_EVENT, NGX_LEVEL_EVENT) != NGX_OK) {
        ngx_free_connection(c);
        return NGX_ERROR;
    }

    context->connection = c;

    return NGX_OK;
}


void
ngx_http_reverie_loop_stop(ngx_http_reverie_context_t *context)
{
    ngx_connection_t  *c;

    c = context->connection;

    if (c == NULL) {
        return;
    }

    if (c->read->active) {
        ngx_del_event(c->read, NGX_READ_EVENT, 0);
    }

    if (c->read->posted) {
        ngx_delete_posted_event(c->read);
    }

    ngx_free_connection(c);
    c->fd = (ngx_socket_t) -1;

    context->connection = NULL;
}


static void
ngx_http_reverie_wake_handler(ngx_event_t *ev)
{
    ngx_connection_t            *c;
    ngx_http_reverie_context_t  *context;

    c = ev->data;
    context = c->data;

    /*
     * At most 64 events; the descriptor stays readable when more are left,
     * so that other connections get their turn in between.
     */
    (void) rv_dispatch(context->rv);
}
