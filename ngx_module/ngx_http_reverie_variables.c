
/*
 * What access logs may tell about a request: variables, the counters of the
 * log phase, and one line for the operator when a request failed.  Prompts,
 * keys and pictures are in none of them.
 */


#include "ngx_http_reverie.h"


/* tasks whose UUIDs one variable tells */
#define NGX_HTTP_REVERIE_LOGGED_TASKS  8


typedef enum {
    NGX_HTTP_REVERIE_VAR_TASK = 0,
    NGX_HTTP_REVERIE_VAR_TASKS,
    NGX_HTTP_REVERIE_VAR_RESULTS,
    NGX_HTTP_REVERIE_VAR_MODEL,
    NGX_HTTP_REVERIE_VAR_COST,
    NGX_HTTP_REVERIE_VAR_KEY,
    NGX_HTTP_REVERIE_VAR_ERROR,
    NGX_HTTP_REVERIE_VAR_DELIVERY,
    NGX_HTTP_REVERIE_VAR_QUEUE_TIME,
    NGX_HTTP_REVERIE_VAR_RUN_TIME,
    NGX_HTTP_REVERIE_VAR_EXECUTOR,
    NGX_HTTP_REVERIE_VAR_ATTEMPTS
} ngx_http_reverie_var_e;


static ngx_int_t ngx_http_reverie_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static u_char *ngx_http_reverie_variable_write(ngx_http_reverie_ctx_t *ctx,
    ngx_uint_t what, u_char *p, u_char *last);
static u_char *ngx_http_reverie_variable_tasks(ngx_http_reverie_ctx_t *ctx,
    u_char *p, u_char *last);


static const ngx_http_variable_t  ngx_http_reverie_vars[] = {

    { ngx_string("reverie_task"), NULL, ngx_http_reverie_variable,
      NGX_HTTP_REVERIE_VAR_TASK, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("reverie_tasks"), NULL, ngx_http_reverie_variable,
      NGX_HTTP_REVERIE_VAR_TASKS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("reverie_results"), NULL, ngx_http_reverie_variable,
      NGX_HTTP_REVERIE_VAR_RESULTS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("reverie_model"), NULL, ngx_http_reverie_variable,
      NGX_HTTP_REVERIE_VAR_MODEL, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("reverie_cost"), NULL, ngx_http_reverie_variable,
      NGX_HTTP_REVERIE_VAR_COST, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("reverie_key"), NULL, ngx_http_reverie_variable,
      NGX_HTTP_REVERIE_VAR_KEY, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("reverie_error"), NULL, ngx_http_reverie_variable,
      NGX_HTTP_REVERIE_VAR_ERROR, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("reverie_delivery"), NULL, ngx_http_reverie_variable,
      NGX_HTTP_REVERIE_VAR_DELIVERY, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("reverie_queue_time"), NULL, ngx_http_reverie_variable,
      NGX_HTTP_REVERIE_VAR_QUEUE_TIME, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("reverie_run_time"), NULL, ngx_http_reverie_variable,
      NGX_HTTP_REVERIE_VAR_RUN_TIME, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("reverie_executor"), NULL, ngx_http_reverie_variable,
      NGX_HTTP_REVERIE_VAR_EXECUTOR, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("reverie_attempts"), NULL, ngx_http_reverie_variable,
      NGX_HTTP_REVERIE_VAR_ATTEMPTS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_reverie_variables_add(ngx_conf_t *cf)
{
    ngx_str_t                   name;
    ngx_http_variable_t        *var;
    const ngx_http_variable_t  *v;

    for (v = ngx_http_reverie_vars; v->name.len; v++) {
        name = v->name;

        var = ngx_http_add_variable(cf, &name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* Empty outside our locations; subrequests tell what their parent's is. */

static ngx_int_t
ngx_http_reverie_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    u_char                  *p, text[512];
    ngx_http_reverie_ctx_t  *ctx;

    v->not_found = 1;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_reverie_module);

    if (ctx == NULL) {
        return NGX_OK;
    }

    p = ngx_http_reverie_variable_write(ctx, data, text, text + sizeof(text));

    if (p == text) {
        return NGX_OK;
    }

    v->data = ngx_pnalloc(r->pool, p - text);
    if (v->data == NULL) {
        return NGX_ERROR;
    }

    v->len = p - text;
    ngx_memcpy(v->data, text, v->len);

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static u_char *
ngx_http_reverie_variable_write(ngx_http_reverie_ctx_t *ctx, ngx_uint_t what,
    u_char *p, u_char *last)
{
    ngx_http_reverie_admission_t  *a;

    a = &ctx->admission;

    switch (what) {

    case NGX_HTTP_REVERIE_VAR_TASK:
        return ngx_http_reverie_variable_tasks(ctx, p, last);

    case NGX_HTTP_REVERIE_VAR_TASKS:
        return ctx->batch ? ngx_slprintf(p, last, "%uz",
                                         rv_batch_size(ctx->batch)) : p;

    case NGX_HTTP_REVERIE_VAR_RESULTS:
        return ctx->batch ? ngx_slprintf(p, last, "%uz", a->made) : p;

    case NGX_HTTP_REVERIE_VAR_MODEL:
        return a->model ? ngx_slprintf(p, last, "%s", a->model) : p;

    case NGX_HTTP_REVERIE_VAR_COST:
        return a->results ? ngx_slprintf(p, last, "%.4f",
                                         a->cost * (a->made - a->cached)
                                         / a->results) : p;

    case NGX_HTTP_REVERIE_VAR_KEY:
        return ctx->client.key ? ngx_slprintf(p, last, "%V",
                                              &ctx->client.key->name) : p;

    case NGX_HTTP_REVERIE_VAR_ERROR:
        return ngx_slprintf(p, last, "%V", &ctx->error_code);

    case NGX_HTTP_REVERIE_VAR_DELIVERY:
        return ngx_slprintf(p, last, "%s", ctx->websocket ? "websocket"
                                           : ctx->stream ? "stream"
                                           : ctx->batch ? "sync" : "");

    case NGX_HTTP_REVERIE_VAR_QUEUE_TIME:
        return a->counted ? ngx_slprintf(p, last, "%M.%03M",
                                         a->queue_ms / 1000,
                                         a->queue_ms % 1000) : p;

    case NGX_HTTP_REVERIE_VAR_EXECUTOR:
        return a->executor ? ngx_slprintf(p, last, "%s", a->executor) : p;

    case NGX_HTTP_REVERIE_VAR_ATTEMPTS:
        return a->attempts ? ngx_slprintf(p, last, "%ui", a->attempts) : p;

    default: /* NGX_HTTP_REVERIE_VAR_RUN_TIME */
        return a->counted ? ngx_slprintf(p, last, "%M.%03M", a->run_ms / 1000,
                                         a->run_ms % 1000) : p;
    }
}


/* UUIDs were checked, so that nothing strange gets into a log. */

static u_char *
ngx_http_reverie_variable_tasks(ngx_http_reverie_ctx_t *ctx, u_char *p,
    u_char *last)
{
    size_t         i, told;
    rv_task       *task;
    rv_task_info   info;

    told = 0;

    for (i = 0; ctx->batch && i < rv_batch_size(ctx->batch); i++) {
        task = rv_batch_task(ctx->batch, i);

        if (task == NULL) {
            continue;
        }

        info = rv_task_facts(task);

        if (info.uuid == NULL) {
            continue;
        }

        if (told++ == NGX_HTTP_REVERIE_LOGGED_TASKS) {
            break;
        }

        p = ngx_slprintf(p, last, told > 1 ? ", %s" : "%s", info.uuid);
    }

    return p;
}


/* The log phase. */

ngx_int_t
ngx_http_reverie_log_handler(ngx_http_request_t *r)
{
    u_char                        *p, text[512];
    ngx_str_t                      tasks;
    ngx_uint_t                     status, level;
    ngx_http_reverie_ctx_t        *ctx;
    ngx_http_reverie_loc_conf_t   *lcf;
    ngx_http_reverie_main_conf_t  *mcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);
    mcf = ngx_http_get_module_main_conf(r, ngx_http_reverie_module);

    if (lcf->api == NGX_HTTP_REVERIE_NONE
        || lcf->api == NGX_HTTP_REVERIE_METRICS)
    {
        return NGX_OK;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_reverie_module);
    status = r->err_status ? r->err_status : r->headers_out.status;

    ngx_http_reverie_count_request(mcf->zone,
                                   ctx && ctx->websocket
                                   ? NGX_HTTP_REVERIE_WEBSOCKET
                                   : lcf->api, status);

    if (ctx == NULL || ctx->batch == NULL || status < 400) {
        return NGX_OK;
    }

    p = ngx_http_reverie_variable_tasks(ctx, text, text + sizeof(text));

    tasks.data = text;
    tasks.len = p - text;

    level = status >= 500 ? NGX_LOG_ERR : NGX_LOG_INFO;

    ngx_log_error(level, r->connection->log, 0,
                  "reverie: refused status=%ui code=%V key=%V tasks=\"%V\" "
                  "made=%uz of=%uz", status, &ctx->error_code,
                  ctx->client.key ? &ctx->client.key->name
                                  : &r->connection->addr_text,
                  &tasks, ctx->admission.made, ctx->admission.results);

    return NGX_OK;
}
