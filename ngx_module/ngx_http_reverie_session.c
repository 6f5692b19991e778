
/*
 * WebSocket sessions: calls that are on their way, and answers nobody fetched
 * yet.  They live in one worker, outside of any request; a session without a
 * connection ends after a while, and its tasks are cancelled then.
 */


#include "ngx_http_reverie.h"

#include <sys/random.h>


typedef struct {
    ngx_queue_t                  queue;
    ngx_http_reverie_session_t  *session;
    rv_call                     *call;
    ngx_http_reverie_admission_t
                                 admission;
} ngx_http_reverie_session_call_t;


static bool ngx_http_reverie_session_admit(void *user, rv_batch *batch,
    rv_error *err);
static void ngx_http_reverie_session_event(void *user, rv_call *call,
    rv_job *job, const rv_event *e);
static void ngx_http_reverie_session_done(void *user, rv_call *call);
static void ngx_http_reverie_session_drop(ngx_http_reverie_session_call_t *sc);
static void ngx_http_reverie_session_timer_handler(ngx_event_t *ev);


/* The UUID is a capability (who knows it gets the answers): never guessable. */

ngx_http_reverie_session_t *
ngx_http_reverie_session_create(ngx_http_reverie_context_t *context,
    ngx_http_reverie_client_t *client, ngx_log_t *log)
{
    u_char                       b[16], *p;
    ngx_uint_t                   i;
    ngx_http_reverie_session_t  *s;

    if (getrandom(b, sizeof(b), 0) != sizeof(b)) {
        ngx_log_error(NGX_LOG_ERR, log, ngx_errno,
                      "reverie: getrandom() failed");
        return NULL;
    }

    s = ngx_calloc(sizeof(ngx_http_reverie_session_t), log);
    if (s == NULL) {
        return NULL;
    }

    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;

    p = s->uuid;

    for (i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *p++ = '-';
        }

        p = ngx_hex_dump(p, &b[i], 1);
    }

    s->ident[3] = (void *) -1;
    s->context = context;
    s->client = *client;

    /* it outlives the request that the text belongs to */

    s->client.limit_key.data = s->limit_key;
    s->client.limit_key.len = ngx_min(client->limit_key.len,
                                      sizeof(s->limit_key));
    ngx_memcpy(s->limit_key, client->limit_key.data, s->client.limit_key.len);

    ngx_queue_init(&s->calls);
    ngx_queue_insert_tail(&context->sessions, &s->queue);

    return s;
}


/* A session that lost its connection. */

ngx_http_reverie_session_t *
ngx_http_reverie_session_find(ngx_http_reverie_context_t *context,
    const char *uuid)
{
    ngx_queue_t                 *q;
    ngx_http_reverie_session_t  *s;

    for (q = ngx_queue_head(&context->sessions);
         q != ngx_queue_sentinel(&context->sessions);
         q = ngx_queue_next(q))
    {
        s = ngx_queue_data(q, ngx_http_reverie_session_t, queue);

        if (s->notify == NULL
            && ngx_strcasecmp(s->uuid, (u_char *) uuid) == 0)
        {
            return s;
        }
    }

    return NULL;
}


void
ngx_http_reverie_session_attach(ngx_http_reverie_session_t *s,
    void (*notify)(void *data), void *data)
{
    if (s->timer.timer_set) {
        ngx_del_timer(&s->timer);
    }

    s->notify = notify;
    s->data = data;
}


/* The connection is gone; keep is how long its client may come back. */

void
ngx_http_reverie_session_detach(ngx_http_reverie_session_t *s, ngx_msec_t keep,
    ngx_log_t *log)
{
    s->notify = NULL;
    s->data = NULL;

    if (keep == 0 || s->ncalls == 0 || ngx_exiting || ngx_terminate) {
        ngx_http_reverie_session_free(s);
        return;
    }

    s->timer.handler = ngx_http_reverie_session_timer_handler;
    s->timer.data = s;
    s->timer.log = log;

    /* nobody can come back to a worker that leaves */

    s->timer.cancelable = 1;

    ngx_add_timer(&s->timer, keep);
}


static void
ngx_http_reverie_session_timer_handler(ngx_event_t *ev)
{
    ngx_http_reverie_session_free(ev->data);
}


/* Cancels what still runs. */

void
ngx_http_reverie_session_free(ngx_http_reverie_session_t *s)
{
    ngx_queue_t  *q;

    if (s->timer.timer_set) {
        ngx_del_timer(&s->timer);
    }

    while (!ngx_queue_empty(&s->calls)) {
        q = ngx_queue_head(&s->calls);
        ngx_http_reverie_session_drop(ngx_queue_data(q,
                                      ngx_http_reverie_session_call_t, queue));
    }

    ngx_queue_remove(&s->queue);
    ngx_free(s);
}


void
ngx_http_reverie_session_free_all(ngx_http_reverie_context_t *context)
{
    ngx_queue_t  *q;

    while (!ngx_queue_empty(&context->sessions)) {
        q = ngx_queue_head(&context->sessions);
        ngx_http_reverie_session_free(ngx_queue_data(q,
                                      ngx_http_reverie_session_t, queue));
    }
}


/* What the first answers are is asked with ngx_http_reverie_session_message. */

ngx_int_t
ngx_http_reverie_session_start(ngx_http_reverie_session_t *s, rv_batch *batch,
    rv_call_options *options, ngx_log_t *log)
{
    ngx_http_reverie_session_call_t  *sc;

    sc = ngx_calloc(sizeof(ngx_http_reverie_session_call_t), log);
    if (sc == NULL) {
        return NGX_ERROR;
    }

    options->messages = 1;
    options->admit = ngx_http_reverie_session_admit;
    options->event = ngx_http_reverie_session_event;
    options->done = ngx_http_reverie_session_done;
    options->user = sc;

    sc->session = s;
    sc->call = rv_call_start(s->context->rv, batch, options);

    if (sc->call == NULL) {
        ngx_free(sc);
        ngx_log_error(NGX_LOG_ERR, log, 0, "reverie: out of memory");
        return NGX_ERROR;
    }

    ngx_queue_insert_tail(&s->calls, &sc->queue);
    s->ncalls++;

    return NGX_OK;
}


/* The next answer that can be sent; rv_free() it.  NULL: none just now. */

char *
ngx_http_reverie_session_message(ngx_http_reverie_session_t *s, size_t *len)
{
    char                             *text;
    ngx_queue_t                      *q, *next;
    ngx_http_reverie_session_call_t  *sc;

    for (q = ngx_queue_head(&s->calls);
         q != ngx_queue_sentinel(&s->calls);
         q = next)
    {
        next = ngx_queue_next(q);
        sc = ngx_queue_data(q, ngx_http_reverie_session_call_t, queue);

        text = rv_call_message(sc->call, len);

        if (rv_call_is_told(sc->call)) {
            ngx_http_reverie_session_drop(sc);

        } else if (text) {

            /* calls take turns */

            ngx_queue_remove(&sc->queue);
            ngx_queue_insert_tail(&s->calls, &sc->queue);
        }

        if (text) {
            return text;
        }
    }

    return NULL;
}


static void
ngx_http_reverie_session_drop(ngx_http_reverie_session_call_t *sc)
{
    ngx_queue_remove(&sc->queue);
    sc->session->ncalls--;

    rv_call_free(sc->call);
    ngx_http_reverie_admission_end(&sc->admission);
    ngx_free(sc);
}


static bool
ngx_http_reverie_session_admit(void *user, rv_batch *batch, rv_error *err)
{
    ngx_http_reverie_session_call_t *sc = user;

    sc->admission.delivery = NGX_HTTP_REVERIE_SOCKET;

    return ngx_http_reverie_admit(&sc->session->client, batch, &sc->admission,
                                  err);
}


static void
ngx_http_reverie_session_event(void *user, rv_call *call, rv_job *job,
    const rv_event *e)
{
    ngx_http_reverie_session_call_t *sc = user;

    ngx_http_reverie_tally(&sc->admission, job, e);

    if (e->kind == RV_EVENT_IMAGE && sc->session->notify) {
        sc->session->notify(sc->session->data);

    } else if (e->kind == RV_EVENT_END && sc->session->notify) {
        sc->session->notify(sc->session->data);
    }
}


/* The last END was an event already, and has freed the call when told. */

static void
ngx_http_reverie_session_done(void *user, rv_call *call)
{
    ngx_http_reverie_session_call_t *sc = user;

    if (sc->session->notify) {
        sc->session->notify(sc->session->data);
    }
}
