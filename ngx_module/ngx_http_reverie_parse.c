
/*
 * Large bodies are read and parsed on a thread, where the operator has given
 * us some ("thread_pool reverie"): megabytes of base64 take tens of
 * milliseconds that other clients of the worker would wait.  The thread never
 * touches a request, which may be gone when it is done.
 */


#include "ngx_http_reverie.h"


#if (NGX_THREADS)

#include <ngx_thread_pool.h>


#define NGX_HTTP_REVERIE_PARSE_SIZE  (256 * 1024)


struct ngx_http_reverie_parse_s {
    ngx_http_reverie_ctx_t    *ctx;          /* NULL: nobody waits */
    rv                        *rv;
    ngx_fd_t                   fd;           /* of a body in a file, or -1 */
    off_t                      pos;
    u_char                    *body;
    size_t                     len;
    rv_batch                  *batch;
};


static ngx_int_t ngx_http_reverie_parse_take(ngx_http_request_t *r,
    ngx_http_reverie_parse_t *p);
static void ngx_http_reverie_parse_thread(void *data, ngx_log_t *log);
static void ngx_http_reverie_parse_done(ngx_event_t *ev);


/* NGX_AGAIN: a thread has it; NGX_DECLINED: parse it here. */

ngx_int_t
ngx_http_reverie_parse(ngx_http_request_t *r, ngx_http_reverie_ctx_t *ctx)
{
    ngx_thread_task_t            *task;
    ngx_thread_pool_t            *pool;
    ngx_http_reverie_parse_t     *p;
    ngx_http_reverie_loc_conf_t  *lcf;

    static ngx_str_t  name = ngx_string("reverie");

    if (ctx->body_handler != ngx_http_reverie_generate
        || r->headers_in.content_length_n < NGX_HTTP_REVERIE_PARSE_SIZE)
    {
        return NGX_DECLINED;
    }

    pool = ngx_thread_pool_get((ngx_cycle_t *) ngx_cycle, &name);

    if (pool == NULL) {
        return NGX_DECLINED;
    }

    /* not from the request's pool: the thread may outlive it */

    task = ngx_calloc(sizeof(ngx_thread_task_t)
                      + sizeof(ngx_http_reverie_parse_t), ngx_cycle->log);
    if (task == NULL) {
        return NGX_ERROR;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    p = (ngx_http_reverie_parse_t *) (task + 1);
    p->rv = lcf->context->rv;
    p->ctx = ctx;

    task->ctx = p;
    task->handler = ngx_http_reverie_parse_thread;
    task->event.data = task;
    task->event.handler = ngx_http_reverie_parse_done;
    task->event.log = ngx_cycle->log;

    if (ngx_http_reverie_parse_take(r, p) != NGX_OK) {
        ngx_free(task);
        return NGX_ERROR;
    }

    if (ngx_thread_task_post(pool, task) != NGX_OK) {

        if (p->fd != NGX_INVALID_FILE) {
            ngx_close_file(p->fd);
        }

        ngx_free(p->body);
        ngx_free(task);

        return NGX_DECLINED;
    }

    ctx->parse = p;

    return NGX_AGAIN;
}


/* The request's body, so that it may end before the thread does. */

static ngx_int_t
ngx_http_reverie_parse_take(ngx_http_request_t *r, ngx_http_reverie_parse_t *p)
{
    u_char       *body;
    ngx_buf_t    *b;
    ngx_int_t     rc;
    ngx_chain_t  *bufs;

    p->fd = NGX_INVALID_FILE;

    bufs = r->request_body ? r->request_body->bufs : NULL;

    if (bufs && bufs->next == NULL && !ngx_buf_in_memory(bufs->buf)) {
        b = bufs->buf;

        p->pos = b->file_pos;
        p->len = b->file_last - b->file_pos;
        p->fd = dup(b->file->fd);

        return p->fd == NGX_INVALID_FILE ? NGX_ERROR : NGX_OK;
    }

    rc = ngx_http_reverie_read_body(r, &body, &p->len);

    if (rc == NGX_DONE) {
        p->body = body;
        return NGX_OK;
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    p->body = ngx_alloc(ngx_max(p->len, 1), ngx_cycle->log);
    if (p->body == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p->body, body, p->len);

    return NGX_OK;
}


/* On the thread. */

static void
ngx_http_reverie_parse_thread(void *data, ngx_log_t *log)
{
    ngx_http_reverie_parse_t *p = data;

    size_t   got;
    ssize_t  n;

    if (p->fd != NGX_INVALID_FILE) {
        p->body = ngx_alloc(ngx_max(p->len, 1), log);

        for (got = 0; p->body && got < p->len; got += n) {
            n = pread(p->fd, p->body + got, p->len - got, p->pos + got);

            if (n <= 0) {
                ngx_log_error(NGX_LOG_ERR, log, ngx_errno,
                              "reverie: the request body cannot be read "
                              "again");
                ngx_free(p->body);
                p->body = NULL;
                break;
            }
        }

        ngx_close_file(p->fd);
    }

    if (p->body) {
        p->batch = rv_batch_parse(p->rv, (char *) p->body, p->len);
        ngx_free(p->body);
    }
}


static void
ngx_http_reverie_parse_done(ngx_event_t *ev)
{
    ngx_int_t                  rc;
    ngx_connection_t          *c;
    ngx_thread_task_t         *task;
    ngx_http_request_t        *r;
    ngx_http_reverie_ctx_t    *ctx;
    ngx_http_reverie_parse_t  *p;

    task = ev->data;
    p = task->ctx;
    ctx = p->ctx;

    if (ctx) {
        r = ctx->request;
        c = r->connection;

        ctx->parse = NULL;

        rc = p->batch ? ngx_http_reverie_start(r, ctx, p->batch)
                      : NGX_HTTP_INTERNAL_SERVER_ERROR;

        ngx_http_reverie_go_on(r, ctx, rc);
        ngx_http_run_posted_requests(c);
    }

    rv_batch_unref(p->batch);
    ngx_free(task);
}


/* The request is gone; the thread's result will be nobody's. */

void
ngx_http_reverie_parse_forget(ngx_http_reverie_parse_t *p)
{
    p->ctx = NULL;
}


#else


ngx_int_t
ngx_http_reverie_parse(ngx_http_request_t *r, ngx_http_reverie_ctx_t *ctx)
{
    return NGX_DECLINED;
}


void
ngx_http_reverie_parse_forget(ngx_http_reverie_parse_t *p)
{
}


#endif
