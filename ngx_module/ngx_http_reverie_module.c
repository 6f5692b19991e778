
/*
 * The module's tables: directives, hooks, and what a worker does at its start
 * and end.  README.md tells users what each directive means; its order is the
 * order here.
 */


#include "ngx_http_reverie.h"


static ngx_int_t ngx_http_reverie_init_process(ngx_cycle_t *cycle);
static void ngx_http_reverie_exit_process(ngx_cycle_t *cycle);


#define NGX_HTTP_REVERIE_ANYWHERE                                            \
    NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF

static ngx_conf_num_bounds_t  ngx_http_reverie_tasks_bounds = {
    ngx_conf_check_num_bounds, 1, 1000
};

static ngx_conf_num_bounds_t  ngx_http_reverie_steps_bounds = {
    ngx_conf_check_num_bounds, 1, 1000000
};

static ngx_conf_num_bounds_t  ngx_http_reverie_queue_bounds = {
    ngx_conf_check_num_bounds, 1, 100000
};


static ngx_command_t  ngx_http_reverie_commands[] = {

    { ngx_string("reverie"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_reverie_set_protocol,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_results"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_reverie_set_results,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_health"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_reverie_set_health,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_tasks"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_reverie_set_tasks,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_reverie_set_metrics,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_daemon"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE1,
      ngx_http_reverie_set_daemon,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, daemon),
      NULL },

    { ngx_string("reverie_executor"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE12,
      ngx_http_reverie_set_executor,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_model_cards"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_reverie_set_model_cards,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, model_cards),
      NULL },

    { ngx_string("reverie_models"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_reverie_set_list,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, models),
      "model" },

    { ngx_string("reverie_fetch"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, fetch),
      NULL },

    { ngx_string("reverie_fetch_allow"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_reverie_set_list,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, fetch_allow),
      "address" },

    { ngx_string("reverie_fetch_deny"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_reverie_set_list,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, fetch_deny),
      "address" },

    { ngx_string("reverie_strict"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, strict),
      NULL },

    { ngx_string("reverie_max_tasks"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, max_tasks),
      &ngx_http_reverie_tasks_bounds },

    { ngx_string("reverie_max_steps"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, max_steps),
      &ngx_http_reverie_steps_bounds },

    { ngx_string("reverie_queue"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, queue),
      &ngx_http_reverie_queue_bounds },

    { ngx_string("reverie_sync_timeout"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, sync_timeout),
      NULL },

    { ngx_string("reverie_ignore_client_abort"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, ignore_client_abort),
      NULL },

    { ngx_string("reverie_websocket"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_reverie_set_websocket,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_heartbeat"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, heartbeat),
      NULL },

    { ngx_string("reverie_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_reverie_set_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_auth"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE12,
      ngx_http_reverie_set_auth,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_limits"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_reverie_set_limits,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_results_dir"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE1,
      ngx_http_reverie_set_results_dir,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, results_dir),
      NULL },

    { ngx_string("reverie_results_url"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, results_url),
      NULL },

    { ngx_string("reverie_results_ttl"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE1,
      ngx_conf_set_sec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, results_ttl),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_reverie_module_ctx = {
    ngx_http_reverie_preconfiguration,     /* preconfiguration */
    ngx_http_reverie_postconfiguration,    /* postconfiguration */

    ngx_http_reverie_create_main_conf,     /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_http_reverie_create_srv_conf,      /* create server configuration */
    ngx_http_reverie_merge_srv_conf,       /* merge server configuration */

    ngx_http_reverie_create_loc_conf,      /* create location configuration */
    ngx_http_reverie_merge_loc_conf        /* merge location configuration */
};


ngx_module_t  ngx_http_reverie_module = {
    NGX_MODULE_V1,
    &ngx_http_reverie_module_ctx,          /* module context */
    ngx_http_reverie_commands,             /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_reverie_init_process,         /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_reverie_exit_process,         /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_reverie_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                      i;
    ngx_http_reverie_context_t    **contexts;
    ngx_http_reverie_main_conf_t   *mcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_reverie_module);

    if (mcf == NULL) {
        return NGX_OK;
    }

    contexts = mcf->contexts.elts;

    for (i = 0; i < mcf->contexts.nelts; i++) {

        ngx_queue_init(&contexts[i]->sessions);

        contexts[i]->rv = ngx_http_reverie_settings_open(cycle->log,
                                                         contexts[i]);
        if (contexts[i]->rv == NULL) {
            continue;
        }

        /*
         * A worker without its context answers 503 in these locations; one
         * that refuses to start would be started again and again.
         */

        if (ngx_http_reverie_loop_start(cycle, contexts[i]) != NGX_OK) {
            rv_close(contexts[i]->rv);
            contexts[i]->rv = NULL;
        }
    }

    return NGX_OK;
}


static void
ngx_http_reverie_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                      i;
    ngx_http_reverie_context_t    **contexts;
    ngx_http_reverie_main_conf_t   *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_reverie_module);

    if (mcf == NULL) {
        return;
    }

    contexts = mcf->contexts.elts;

    for (i = 0; i < mcf->contexts.nelts; i++) {

        if (contexts[i]->rv == NULL) {
            continue;
        }

        ngx_http_reverie_session_free_all(contexts[i]);
        ngx_http_reverie_loop_stop(contexts[i]);

        /* ends and joins the library's threads */

        rv_close(contexts[i]->rv);
        contexts[i]->rv = NULL;
    }
}
