
/*
 * Directives, their merging, and the module's tables.  README.md tells users
 * what each directive means; its order is the order here.
 */


#include "ngx_http_reverie.h"


static ngx_int_t ngx_http_reverie_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_reverie_postconfiguration(ngx_conf_t *cf);
static void *ngx_http_reverie_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_reverie_create_srv_conf(ngx_conf_t *cf);
static char *ngx_http_reverie_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child);
static void *ngx_http_reverie_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_reverie_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);

static ngx_int_t ngx_http_reverie_init_process(ngx_cycle_t *cycle);
static void ngx_http_reverie_exit_process(ngx_cycle_t *cycle);

static char *ngx_http_reverie_set_api(ngx_conf_t *cf,
    ngx_http_reverie_loc_conf_t *lcf, ngx_http_reverie_api_e api);
static char *ngx_http_reverie(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_reverie_results(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_reverie_health(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_reverie_daemon(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_reverie_executor(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_reverie_model_cards(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_reverie_models(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_reverie_results_dir(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#define NGX_HTTP_REVERIE_ANYWHERE                                            \
    NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF

#define NGX_HTTP_REVERIE_DAEMON  "unix:/run/reverie/reveried.sock"


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
      ngx_http_reverie,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_results"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_reverie_results,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_health"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_reverie_health,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_daemon"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE1,
      ngx_http_reverie_daemon,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, daemon),
      NULL },

    { ngx_string("reverie_executor"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE12,
      ngx_http_reverie_executor,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("reverie_model_cards"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_reverie_model_cards,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, model_cards),
      NULL },

    { ngx_string("reverie_models"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_reverie_models,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_reverie_loc_conf_t, models),
      NULL },

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

    { ngx_string("reverie_results_dir"),
      NGX_HTTP_REVERIE_ANYWHERE|NGX_CONF_TAKE1,
      ngx_http_reverie_results_dir,
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


static const ngx_http_handler_pt  ngx_http_reverie_handlers[] = {
    NULL,
    ngx_http_reverie_runware_handler,
    ngx_http_reverie_results_handler,
    ngx_http_reverie_health_handler
};


static ngx_int_t
ngx_http_reverie_preconfiguration(ngx_conf_t *cf)
{
    ngx_str_t                      name;
    ngx_http_reverie_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_reverie_module);

    ngx_str_set(&name, "request_id");

    mcf->request_id = ngx_http_get_variable_index(cf, &name);

    return mcf->request_id == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


/*
 * All merging is done here, so that locations can be checked as they will be
 * used.
 */

static ngx_int_t
ngx_http_reverie_postconfiguration(ngx_conf_t *cf)
{
    ngx_uint_t                      i;
    ngx_http_reverie_loc_conf_t   **lcf;
    ngx_http_reverie_main_conf_t   *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_reverie_module);

    lcf = mcf->locations.elts;

    for (i = 0; i < mcf->locations.nelts; i++) {

        if (lcf[i]->results_url == NULL && lcf[i]->results_uri.len == 0) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "the reverie location in %V has no place for "
                          "pictures asked for by URL; add to its server: "
                          "location /images/ { reverie_results; "
                          "reverie_results_dir /var/lib/reverie/results; }",
                          &lcf[i]->where);
            return NGX_ERROR;
        }

        if (ngx_http_reverie_settings_find(cf, mcf, lcf[i]) != NGX_CONF_OK) {
            return NGX_ERROR;
        }
    }

    ngx_http_reverie_filter_init();

    return NGX_OK;
}


static void *
ngx_http_reverie_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_reverie_main_conf_t  *mcf;

    mcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_reverie_main_conf_t));
    if (mcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&mcf->contexts, cf->pool, 4,
                       sizeof(ngx_http_reverie_context_t *))
        != NGX_OK
        || ngx_array_init(&mcf->locations, cf->pool, 4,
                          sizeof(ngx_http_reverie_loc_conf_t *))
           != NGX_OK)
    {
        return NULL;
    }

    return mcf;
}


static void *
ngx_http_reverie_create_srv_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_reverie_srv_conf_t));
}


/* Core's list of names is gone when the configuration has been read. */

static char *
ngx_http_reverie_merge_srv_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_reverie_srv_conf_t  *conf = child;

    ngx_str_t                 *copy;
    ngx_uint_t                 i;
    ngx_http_server_name_t    *name;
    ngx_http_core_srv_conf_t  *cscf;

    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);
    name = cscf->server_names.elts;

    if (ngx_array_init(&conf->names, cf->pool, 4, sizeof(ngx_str_t)) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < cscf->server_names.nelts; i++) {

        copy = ngx_array_push(&conf->names);
        if (copy == NULL) {
            return NGX_CONF_ERROR;
        }

        *copy = name[i].name;
    }

    return NGX_CONF_OK;
}


static void *
ngx_http_reverie_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_reverie_loc_conf_t  *lcf;

    lcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_reverie_loc_conf_t));
    if (lcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     lcf->api = NGX_HTTP_REVERIE_NONE;
     *     lcf->daemon = { 0, NULL };
     *     lcf->models = { 0, NULL };
     *     lcf->results_dir = { 0, NULL };
     *     lcf->results_uri = { 0, NULL };
     *     lcf->where = { 0, NULL };
     *     lcf->context = NULL;
     */

    lcf->executor = NGX_CONF_UNSET_UINT;
    lcf->stub_delay = NGX_CONF_UNSET_MSEC;
    lcf->model_cards = NGX_CONF_UNSET_PTR;
    lcf->strict = NGX_CONF_UNSET;
    lcf->max_steps = NGX_CONF_UNSET;
    lcf->max_tasks = NGX_CONF_UNSET;
    lcf->queue = NGX_CONF_UNSET;
    lcf->results_ttl = NGX_CONF_UNSET;
    lcf->results_url = NGX_CONF_UNSET_PTR;
    lcf->sync_timeout = NGX_CONF_UNSET_MSEC;
    lcf->ignore_client_abort = NGX_CONF_UNSET;

    return lcf;
}


static char *
ngx_http_reverie_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_reverie_loc_conf_t  *prev = parent;
    ngx_http_reverie_loc_conf_t  *conf = child;

    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_reverie_loc_conf_t  **location;
    ngx_http_reverie_srv_conf_t   *scf;
    ngx_http_reverie_main_conf_t  *mcf;

    ngx_conf_merge_str_value(conf->daemon, prev->daemon,
                             NGX_HTTP_REVERIE_DAEMON);
    ngx_conf_merge_uint_value(conf->executor, prev->executor, 0);
    ngx_conf_merge_msec_value(conf->stub_delay, prev->stub_delay, 0);
    ngx_conf_merge_ptr_value(conf->model_cards, prev->model_cards, NULL);
    ngx_conf_merge_str_value(conf->models, prev->models, "*");
    ngx_conf_merge_value(conf->strict, prev->strict, 1);
    ngx_conf_merge_value(conf->max_steps, prev->max_steps, 1000);
    ngx_conf_merge_value(conf->max_tasks, prev->max_tasks, 20);
    ngx_conf_merge_value(conf->queue, prev->queue, 256);
    ngx_conf_merge_str_value(conf->results_dir, prev->results_dir, "");
    ngx_conf_merge_sec_value(conf->results_ttl, prev->results_ttl,
                             7 * 24 * 60 * 60);
    ngx_conf_merge_ptr_value(conf->results_url, prev->results_url, NULL);
    ngx_conf_merge_msec_value(conf->sync_timeout, prev->sync_timeout,
                              120 * 1000);
    ngx_conf_merge_value(conf->ignore_client_abort,
                         prev->ignore_client_abort, 0);

    /* "if" and "limit_except" make a nameless child of our location */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (conf->api == NGX_HTTP_REVERIE_NONE
        && prev->api != NGX_HTTP_REVERIE_NONE
        && (clcf->noname || clcf->lmt_excpt)
        && clcf->handler == NULL)
    {
        conf->api = prev->api;
        conf->where = prev->where;
        clcf->handler = ngx_http_reverie_handlers[conf->api];
    }

    if (conf->api == NGX_HTTP_REVERIE_RESULTS && conf->results_dir.len == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "the reverie_results location in %V needs "
                      "\"reverie_results_dir\"", &conf->where);
        return NGX_CONF_ERROR;
    }

    if (conf->api != NGX_HTTP_REVERIE_RUNWARE) {
        return NGX_CONF_OK;
    }

    scf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_reverie_module);
    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_reverie_module);

    conf->results_uri = scf->results_uri;

    location = ngx_array_push(&mcf->locations);
    if (location == NULL) {
        return NGX_CONF_ERROR;
    }

    *location = conf;

    return NGX_CONF_OK;
}


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

        ngx_http_reverie_loop_stop(contexts[i]);

        /* ends and joins the library's threads */

        rv_close(contexts[i]->rv);
        contexts[i]->rv = NULL;
    }
}


static char *
ngx_http_reverie_set_api(ngx_conf_t *cf, ngx_http_reverie_loc_conf_t *lcf,
    ngx_http_reverie_api_e api)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (lcf->api != NGX_HTTP_REVERIE_NONE || clcf->handler != NULL) {
        return "cannot be used here: the location has another handler already";
    }

    lcf->where.data = ngx_pnalloc(cf->pool, cf->conf_file->file.name.len
                                            + 1 + NGX_INT_T_LEN);
    if (lcf->where.data == NULL) {
        return NGX_CONF_ERROR;
    }

    lcf->where.len = ngx_sprintf(lcf->where.data, "%V:%ui",
                                 &cf->conf_file->file.name,
                                 cf->conf_file->line)
                     - lcf->where.data;

    lcf->api = api;
    clcf->handler = ngx_http_reverie_handlers[api];

    return NGX_CONF_OK;
}


static char *
ngx_http_reverie(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "runware") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid protocol \"%V\", it must be \"runware\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    return ngx_http_reverie_set_api(cf, conf, NGX_HTTP_REVERIE_RUNWARE);
}


static char *
ngx_http_reverie_results(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t     *clcf;
    ngx_http_reverie_srv_conf_t  *scf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->name.len == 0 || clcf->name.data[clcf->name.len - 1] != '/'
        || clcf->exact_match || clcf->named
#if (NGX_PCRE)
        || clcf->regex
#endif
       )
    {
        return "must be in a prefix location that ends in \"/\"";
    }

    scf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_reverie_module);

    if (scf->results_uri.len == 0) {
        scf->results_uri = clcf->name;
    }

    return ngx_http_reverie_set_api(cf, conf, NGX_HTTP_REVERIE_RESULTS);
}


static char *
ngx_http_reverie_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_reverie_set_api(cf, conf, NGX_HTTP_REVERIE_HEALTH);
}


static char *
ngx_http_reverie_daemon(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_reverie_loc_conf_t  *lcf = conf;

    ngx_str_t  *value, path;

    value = cf->args->elts;

    if (lcf->daemon.data) {
        return "is duplicate";
    }

    if (ngx_strcmp(value[1].data, "off") == 0) {
        ngx_str_set(&lcf->daemon, "");
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value[1].data, "http://", 7) == 0) {
        lcf->daemon = value[1];
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value[1].data, "unix:", 5) != 0 || value[1].len == 5) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid address \"%V\", it must be unix:PATH, "
                           "http://HOST:PORT or off", &value[1]);
        return NGX_CONF_ERROR;
    }

    path.data = value[1].data + 5;
    path.len = value[1].len - 5;

    if (ngx_conf_full_name(cf->cycle, &path, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    lcf->daemon.len = path.len + 5;
    lcf->daemon.data = ngx_pnalloc(cf->pool, lcf->daemon.len);
    if (lcf->daemon.data == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_sprintf(lcf->daemon.data, "unix:%V", &path);

    return NGX_CONF_OK;
}


static char *
ngx_http_reverie_executor(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_reverie_loc_conf_t  *lcf = conf;

    ngx_int_t   delay;
    ngx_str_t  *value, time;

    value = cf->args->elts;

    if (lcf->executor != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    if (ngx_strcmp(value[1].data, "auto") == 0 && cf->args->nelts == 2) {
        lcf->executor = 0;
        lcf->stub_delay = 0;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[1].data, "stub") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid executor \"%V\", it must be \"auto\" or "
                           "\"stub [delay=time]\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    lcf->executor = 1;
    lcf->stub_delay = 0;

    if (cf->args->nelts == 3) {

        if (ngx_strncmp(value[2].data, "delay=", 6) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[2]);
            return NGX_CONF_ERROR;
        }

        time.data = value[2].data + 6;
        time.len = value[2].len - 6;

        delay = ngx_parse_time(&time, 0);

        if (delay == NGX_ERROR || delay > 60000) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid delay \"%V\", it must be at most "
                               "one minute per step", &time);
            return NGX_CONF_ERROR;
        }

        lcf->stub_delay = (ngx_msec_t) delay;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_reverie_model_cards(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_reverie_loc_conf_t  *lcf = conf;

    ngx_str_t   *value, *card;
    ngx_uint_t   i;

    value = cf->args->elts;

    if (lcf->model_cards == NGX_CONF_UNSET_PTR) {
        lcf->model_cards = ngx_array_create(cf->pool, cf->args->nelts,
                                            sizeof(ngx_str_t));
        if (lcf->model_cards == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    for (i = 1; i < cf->args->nelts; i++) {
        card = ngx_array_push(lcf->model_cards);
        if (card == NULL) {
            return NGX_CONF_ERROR;
        }

        *card = value[i];

        if (ngx_conf_full_name(cf->cycle, card, 0) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/* Kept as the library wants it: separated by spaces. */

static char *
ngx_http_reverie_models(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_reverie_loc_conf_t  *lcf = conf;

    size_t       len;
    u_char      *p;
    ngx_str_t   *value;
    ngx_uint_t   i;

    value = cf->args->elts;

    if (lcf->models.data) {
        return "is duplicate";
    }

    len = 0;

    for (i = 1; i < cf->args->nelts; i++) {

        if (value[i].len == 0 || ngx_strlchr(value[i].data, value[i].data
                                             + value[i].len, ' '))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid model \"%V\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        len += value[i].len + 1;
    }

    p = ngx_pnalloc(cf->pool, len);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    lcf->models.data = p;

    for (i = 1; i < cf->args->nelts; i++) {
        p = ngx_cpymem(p, value[i].data, value[i].len);
        *p++ = ' ';
    }

    lcf->models.len = len - 1;

    return NGX_CONF_OK;
}


static char *
ngx_http_reverie_results_dir(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_reverie_loc_conf_t  *lcf = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (lcf->results_dir.data) {
        return "is duplicate";
    }

    lcf->results_dir = value[1];

    if (ngx_conf_full_name(cf->cycle, &lcf->results_dir, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    while (lcf->results_dir.len > 1
           && lcf->results_dir.data[lcf->results_dir.len - 1] == '/')
    {
        lcf->results_dir.len--;
    }

    return NGX_CONF_OK;
}
