
/*
 * Who asks, and whether a call may run: keys that come in the body, then the
 * limits.  Asked by the library just before the first task would start.
 */


#include "ngx_http_reverie.h"


static void ngx_http_reverie_unref_batch(void *data);


ngx_int_t
ngx_http_reverie_client_init(ngx_http_request_t *r,
    ngx_http_reverie_client_t *client)
{
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_reverie_loc_conf_t   *lcf;
    ngx_http_reverie_main_conf_t  *mcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);
    mcf = ngx_http_get_module_main_conf(r, ngx_http_reverie_module);

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    client->lcf = lcf;
    client->let_in = (lcf->keys == NULL || clcf->satisfy
                                           == NGX_HTTP_SATISFY_ANY);
    client->zone = mcf->zone;
    client->limit_key = r->connection->addr_text;

    if (lcf->limits_key
        && ngx_http_complex_value(r, lcf->limits_key, &client->limit_key)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* A key may come as a task of the batch.  The code of a refusal, or NULL. */

const char *
ngx_http_reverie_authenticate(ngx_http_reverie_client_t *client,
    rv_batch *batch)
{
    size_t         i;
    rv_task       *task;
    rv_task_info   info;

    if (client->let_in || client->key) {
        return NULL;
    }

    for (i = 0; i < rv_batch_size(batch) && client->lcf->keys_in_body; i++) {
        task = rv_batch_task(batch, i);

        if (task == NULL) {
            continue;
        }

        info = rv_task_facts(task);

        if (info.key) {
            client->key = ngx_http_reverie_keys_check(client->lcf->keys,
                                                      (u_char *) info.key,
                                                      ngx_strlen(info.key));

            return client->key ? NULL : "invalidApiKey";
        }
    }

    return "missingApiKey";
}


ngx_uint_t
ngx_http_reverie_admit(ngx_http_reverie_client_t *client, rv_batch *batch,
    ngx_http_reverie_admission_t *a, rv_error *err)
{
    ngx_uint_t   ok, delivery;
    const char  *code;

    delivery = a->delivery;

    ngx_memzero(a, sizeof(ngx_http_reverie_admission_t));

    a->delivery = delivery;
    a->counters = client->zone;
    a->begun = ngx_current_msec;

    code = ngx_http_reverie_authenticate(client, batch);

    if (code == NULL) {
        ok = ngx_http_reverie_limit_admit(client, batch, a, err);

    } else {
        ngx_memzero(err, sizeof(rv_error));

        err->status = RV_AUTH;
        err->retry_after_ms = -1;

        ngx_cpystrn((u_char *) err->code, (u_char *) code, sizeof(err->code));
        ngx_cpystrn((u_char *) err->parameter, (u_char *) "apiKey",
                    sizeof(err->parameter));
        ngx_cpystrn((u_char *) err->message,
                    (u_char *) (code[0] == 'm' ? "an API key is needed"
                                               : "the API key is wrong"),
                    sizeof(err->message));

        a->reason = NGX_HTTP_REVERIE_REFUSED_AUTH;
        ok = 0;
    }

    if (!ok) {
        (void) ngx_atomic_fetch_add(&a->counters->sh->refused[a->reason], 1);
        return 0;
    }

    /* without memory for them times are not counted */

    if (a->tasks) {
        a->timings = ngx_alloc(a->tasks * sizeof(ngx_http_reverie_timing_t),
                               ngx_cycle->log);
    }

    return 1;
}


/* Every event of an admitted call passes here. */

void
ngx_http_reverie_tally(ngx_http_reverie_admission_t *a, const rv_job *job,
    const rv_event *e)
{
    ngx_uint_t                  i;
    ngx_msec_t                  started;
    rv_job_info                 info;
    ngx_http_reverie_shared_t  *sh;

    if (a->counters == NULL) {
        return;
    }

    sh = a->counters->sh;

    switch (e->kind) {

    case RV_EVENT_STARTED:

        if (a->timings && a->ntimings < a->tasks) {
            a->timings[a->ntimings].job = job;
            a->timings[a->ntimings++].started = ngx_current_msec;
        }

        return;

    case RV_EVENT_IMAGE:

        a->made++;

        (void) ngx_atomic_fetch_add(&sh->images, 1);

        if (rv_job_facts(job).is_cached) {
            a->cached++;
            return;
        }

        (void) ngx_atomic_fetch_add(&sh->microdollars,
                                    (ngx_atomic_uint_t)
                                    (a->cost * 1000000 / ngx_max(a->results,
                                                                 1)));
        return;

    case RV_EVENT_END:
        break;

    default:
        return;
    }

    i = rv_job_state(job) == RV_DONE ? 0 : rv_job_state(job) == RV_FAILED
                                       ? 1 : 2;

    (void) ngx_atomic_fetch_add(&sh->tasks[a->delivery][i], 1);

    a->counted++;

    info = rv_job_facts(job);

    if (info.executor) {
        a->executor = info.executor;
        a->attempts += info.attempts;
    }

    for (i = 0; i < a->ntimings; i++) {

        if (a->timings[i].job != job) {
            continue;
        }

        started = a->timings[i].started;

        ngx_http_reverie_count_time(a->counters, 0, started - a->begun);
        ngx_http_reverie_count_time(a->counters, 1,
                                    ngx_current_msec - started);

        a->queue_ms = ngx_max(a->queue_ms, started - a->begun);
        a->run_ms = ngx_max(a->run_ms, ngx_current_msec - started);
    }
}


/* The call is over or was given up: what has not ended was cancelled. */

void
ngx_http_reverie_admission_end(ngx_http_reverie_admission_t *a)
{
    if (a->counters && a->timings && a->counted < a->tasks) {
        (void) ngx_atomic_fetch_add(&a->counters->sh->tasks[a->delivery][2],
                                    a->tasks - a->counted);
        a->counted = a->tasks;
    }

    ngx_http_reverie_limit_release(a);

    if (a->timings) {
        ngx_free(a->timings);
        a->timings = NULL;
    }
}


static void
ngx_http_reverie_unref_batch(void *data)
{
    rv_batch_unref(data);
}


bool
ngx_http_reverie_admit_request(void *user, rv_batch *batch, rv_error *err)
{
    ngx_http_reverie_ctx_t *ctx = user;

    rv_task             *task;
    ngx_uint_t           ok;
    ngx_pool_cleanup_t  *cln;

    ctx->admission.delivery = ctx->stream ? NGX_HTTP_REVERIE_STREAM
                                          : NGX_HTTP_REVERIE_SYNC;

    ok = ngx_http_reverie_admit(&ctx->client, batch, &ctx->admission, err);

    /* the log phase tells about it, after the call is gone */

    cln = ngx_pool_cleanup_add(ctx->request->pool, 0);

    if (cln) {
        cln->handler = ngx_http_reverie_unref_batch;
        cln->data = rv_batch_ref(batch);
        ctx->batch = batch;

        task = rv_batch_size(batch) ? rv_batch_task(batch, 0) : NULL;
        ctx->admission.model = task ? rv_task_facts(task).model : NULL;
    }

    return ok;
}


/* For calls of requests: counts, and streams where one is open. */

void
ngx_http_reverie_event(void *user, rv_call *call, rv_job *job,
    const rv_event *e)
{
    ngx_http_reverie_ctx_t *ctx = user;

    ngx_http_reverie_tally(&ctx->admission, job, e);

    if (ctx->stream) {
        ngx_http_reverie_stream_event(user, call, job, e);
    }
}


void
ngx_http_reverie_client_counted(ngx_http_reverie_ctx_t *ctx, ngx_uint_t kind)
{
    ctx->client_kind = kind + 1;

    ngx_http_reverie_count_clients(ctx->client.zone, kind, 1);
}
