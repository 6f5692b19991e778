
/*
 * Who asks, and whether a call may run: keys that come in the body, then the
 * limits.  Asked by the library just before the first task would start.
 */


#include "ngx_http_reverie.h"


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


ngx_uint_t
ngx_http_reverie_admit(ngx_http_reverie_client_t *client, rv_batch *batch,
    ngx_http_reverie_admission_t *a, rv_error *err)
{
    size_t         i;
    rv_task       *task;
    const char    *code;
    rv_task_info   info;

    ngx_memzero(a, sizeof(ngx_http_reverie_admission_t));

    if (client->let_in || client->key) {
        return ngx_http_reverie_limit_admit(client, batch, a, err);
    }

    code = "missingApiKey";

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
            code = "invalidApiKey";
            break;
        }
    }

    if (client->key) {
        return ngx_http_reverie_limit_admit(client, batch, a, err);
    }

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

    return 0;
}


bool
ngx_http_reverie_admit_request(void *user, rv_batch *batch, rv_error *err)
{
    ngx_http_reverie_ctx_t *ctx = user;

    return ngx_http_reverie_admit(&ctx->client, batch, &ctx->admission, err);
}


/* For calls of requests: counts, and streams where one is open. */

void
ngx_http_reverie_event(void *user, rv_call *call, rv_job *job,
    const rv_event *e)
{
    ngx_http_reverie_ctx_t *ctx = user;

    if (e->kind == RV_EVENT_IMAGE) {
        ctx->admission.made++;
    }

    if (ctx->stream) {
        ngx_http_reverie_stream_event(user, call, job, e);
    }
}
