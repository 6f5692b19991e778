
/*
 * Large bodies and WebSocket messages are read and parsed on a thread, where
 * the operator has given us some ("thread_pool reverie"): megabytes of base64
 * take tens of milliseconds that other clients of the worker would wait.  The
 * thread never touches a request, which may be gone when it is done.
 */


#include "ngx_http_reverie.h"


#if (NGX_THREADS)

#include <ngx_thread_pool.h>


#define NGX_HTTP_REVERIE_PARSE_SIZE  (256 * 1024)


static ngx_str_t  ngx_http_reverie_parse_pool = ngx_string("reverie");


/* The thread's from when it is posted until it is done, all but handler. */

struct ngx_http_reverie_parse_s {
    ngx_http_reverie_parsed_pt  handler;     /* NULL: nobody waits */
    void                       *data;
    rv                         *rv;
    ngx_uint_t                  is_openai;
    rv_openai_options           openai;      /* its texts: ngx_free() */
    ngx_fd_t                    fd;          /* of a body in a file, or -1 */
    off_t                       pos;
    u_char                     *body;
    size_t                      len;
    rv_batch                   *batch;       /* what was made of it */
    rv_openai_request          *request;
};


static ngx_thread_task_t *ngx_http_reverie_parse_create(rv *library);
static ngx_int_t ngx_http_reverie_parse_post(ngx_thread_task_t *task);
static void ngx_http_reverie_parse_free(ngx_thread_task_t *task);
static ngx_int_t ngx_http_reverie_parse_take(ngx_http_request_t *r,
    ngx_http_reverie_parse_t *p);
static ngx_int_t ngx_http_reverie_parse_openai(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, ngx_http_reverie_parse_t *p);
static ngx_int_t ngx_http_reverie_parse_text(const char **text);
static void ngx_http_reverie_parse_thread(void *data, ngx_log_t *log);
static void ngx_http_reverie_parse_done(ngx_event_t *ev);
static void ngx_http_reverie_parse_body_done(void *data, rv_batch *batch,
    rv_openai_request *request);


/* NGX_AGAIN: a thread has it; NGX_DECLINED: parse it here. */

ngx_int_t
ngx_http_reverie_parse(ngx_http_request_t *r, ngx_http_reverie_ctx_t *ctx)
{
    ngx_int_t                     rc;
    ngx_thread_task_t            *task;
    ngx_http_reverie_parse_t     *p;
    ngx_http_reverie_loc_conf_t  *lcf;

    if (r->headers_in.content_length_n < NGX_HTTP_REVERIE_PARSE_SIZE) {
        return NGX_DECLINED;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    task = ngx_http_reverie_parse_create(lcf->context->rv);
    if (task == NULL) {
        return NGX_DECLINED;
    }

    p = task->ctx;
    p->handler = ngx_http_reverie_parse_body_done;
    p->data = ctx;

    rc = NGX_OK;

    if (ctx->body_handler != ngx_http_reverie_generate) {
        rc = ngx_http_reverie_parse_openai(r, ctx, p);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_reverie_parse_take(r, p);
    }

    if (rc != NGX_OK) {
        ngx_http_reverie_parse_free(task);
        return NGX_ERROR;
    }

    if (ngx_http_reverie_parse_post(task) != NGX_OK) {
        return NGX_DECLINED;
    }

    ctx->parse = p;

    return NGX_AGAIN;
}


/*
 * The same for the text of a message, which is copied.  NULL: parse it here.
 */

ngx_http_reverie_parse_t *
ngx_http_reverie_parse_message(rv *library, const u_char *text, size_t len,
    ngx_http_reverie_parsed_pt handler, void *data)
{
    ngx_thread_task_t         *task;
    ngx_http_reverie_parse_t  *p;

    if (len < NGX_HTTP_REVERIE_PARSE_SIZE) {
        return NULL;
    }

    task = ngx_http_reverie_parse_create(library);
    if (task == NULL) {
        return NULL;
    }

    p = task->ctx;
    p->handler = handler;
    p->data = data;
    p->len = len;

    p->body = ngx_alloc(len, ngx_cycle->log);
    if (p->body == NULL) {
        ngx_http_reverie_parse_free(task);
        return NULL;
    }

    ngx_memcpy(p->body, text, len);

    return ngx_http_reverie_parse_post(task) == NGX_OK ? p : NULL;
}


/* NULL: no threads, or no memory. */

static ngx_thread_task_t *
ngx_http_reverie_parse_create(rv *library)
{
    rv_batch                  *first;
    ngx_thread_task_t         *task;
    ngx_http_reverie_parse_t  *p;

    if (ngx_thread_pool_get((ngx_cycle_t *) ngx_cycle,
                            &ngx_http_reverie_parse_pool)
        == NULL)
    {
        return NULL;
    }

    /* the first parse of a context reads the model cards; threads must not */

    first = rv_batch_parse(library, "[]", 2);
    if (first == NULL) {
        return NULL;
    }

    rv_batch_unref(first);

    /* not from a request's pool: the thread may outlive it */

    task = ngx_calloc(sizeof(ngx_thread_task_t)
                      + sizeof(ngx_http_reverie_parse_t), ngx_cycle->log);
    if (task == NULL) {
        return NULL;
    }

    p = (ngx_http_reverie_parse_t *) (task + 1);
    p->rv = library;
    p->fd = NGX_INVALID_FILE;

    task->ctx = p;
    task->handler = ngx_http_reverie_parse_thread;
    task->event.data = task;
    task->event.handler = ngx_http_reverie_parse_done;
    task->event.log = ngx_cycle->log;

    return task;
}


/* NGX_ERROR: the queue of the threads is full, and the task is freed. */

static ngx_int_t
ngx_http_reverie_parse_post(ngx_thread_task_t *task)
{
    ngx_thread_pool_t  *pool;

    pool = ngx_thread_pool_get((ngx_cycle_t *) ngx_cycle,
                               &ngx_http_reverie_parse_pool);

    if (ngx_thread_task_post(pool, task) != NGX_OK) {
        ngx_http_reverie_parse_free(task);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_reverie_parse_free(ngx_thread_task_t *task)
{
    ngx_http_reverie_parse_t  *p;

    p = task->ctx;

    if (p->fd != NGX_INVALID_FILE) {
        ngx_close_file(p->fd);
    }

    rv_batch_unref(p->batch);
    rv_openai_request_free(p->request);

    ngx_free((void *) p->openai.content_type);
    ngx_free((void *) p->openai.idempotency_key);
    ngx_free((void *) p->openai.call.owner);
    ngx_free(p->body);
    ngx_free(task);
}


/* The request's body, so that it may end before the thread does. */

static ngx_int_t
ngx_http_reverie_parse_take(ngx_http_request_t *r, ngx_http_reverie_parse_t *p)
{
    u_char       *body;
    ngx_buf_t    *b;
    ngx_int_t     rc;
    ngx_chain_t  *bufs;

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


/* What the protocol says beside the body, in memory of its own. */

static ngx_int_t
ngx_http_reverie_parse_openai(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, ngx_http_reverie_parse_t *p)
{
    rv_openai_options  options;

    if (ngx_http_reverie_openai_options(r, ctx, &options) != NGX_OK) {
        return NGX_ERROR;
    }

    p->is_openai = 1;
    p->openai.kind = options.kind;

    p->openai.content_type = options.content_type;
    p->openai.idempotency_key = options.idempotency_key;
    p->openai.call.owner = options.call.owner;

    /* each one, so that all are ours to be freed */

    return ngx_http_reverie_parse_text(&p->openai.content_type)
           | ngx_http_reverie_parse_text(&p->openai.idempotency_key)
           | ngx_http_reverie_parse_text(&p->openai.call.owner);
}


/* Replaces a text by its copy; NGX_ERROR: by NULL. */

static ngx_int_t
ngx_http_reverie_parse_text(const char **text)
{
    size_t   size;
    u_char  *copy;

    if (*text == NULL) {
        return NGX_OK;
    }

    size = ngx_strlen(*text) + 1;

    copy = ngx_alloc(size, ngx_cycle->log);

    if (copy) {
        ngx_memcpy(copy, *text, size);
    }

    *text = (char *) copy;

    return copy ? NGX_OK : NGX_ERROR;
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
        p->fd = NGX_INVALID_FILE;
    }

    if (p->body == NULL) {
        return;
    }

    if (p->is_openai) {
        p->request = rv_openai_parse(p->rv, (char *) p->body, p->len,
                                     &p->openai);

    } else {
        p->batch = rv_batch_parse(p->rv, (char *) p->body, p->len);
    }

    ngx_free(p->body);
    p->body = NULL;
}


static void
ngx_http_reverie_parse_done(ngx_event_t *ev)
{
    ngx_thread_task_t         *task;
    ngx_http_reverie_parse_t  *p;

    task = ev->data;
    p = task->ctx;

    if (p->handler) {
        p->handler(p->data, p->batch, p->request);
    }

    ngx_http_reverie_parse_free(task);
}


static void
ngx_http_reverie_parse_body_done(void *data, rv_batch *batch,
    rv_openai_request *request)
{
    ngx_http_reverie_ctx_t *ctx = data;

    ngx_int_t            rc;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    ctx->parse = NULL;

    if (request) {
        rc = ngx_http_reverie_openai_start(r, ctx, request);

    } else if (batch) {
        rc = ngx_http_reverie_start(r, ctx, batch);

    } else {
        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_reverie_go_on(r, ctx, rc);
    ngx_http_run_posted_requests(c);
}


/* Who waits is gone; the thread's result will be nobody's. */

void
ngx_http_reverie_parse_forget(ngx_http_reverie_parse_t *p)
{
    p->handler = NULL;
}


#else


ngx_int_t
ngx_http_reverie_parse(ngx_http_request_t *r, ngx_http_reverie_ctx_t *ctx)
{
    return NGX_DECLINED;
}


ngx_http_reverie_parse_t *
ngx_http_reverie_parse_message(rv *library, const u_char *text, size_t len,
    ngx_http_reverie_parsed_pt handler, void *data)
{
    return NULL;
}


void
ngx_http_reverie_parse_forget(ngx_http_reverie_parse_t *p)
{
}


#endif
