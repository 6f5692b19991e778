
/*
 * Configurations: made, merged, and checked as they will be used.
 */


#include "ngx_http_reverie.h"


#define NGX_HTTP_REVERIE_DAEMON  "unix:/run/reverie/reveried.sock"


static char *ngx_http_reverie_add_location(ngx_conf_t *cf,
    ngx_http_reverie_loc_conf_t *conf);
static char *ngx_http_reverie_daemon_addr(ngx_conf_t *cf,
    ngx_http_reverie_loc_conf_t *conf);


ngx_int_t
ngx_http_reverie_preconfiguration(ngx_conf_t *cf)
{
    ngx_str_t                      name;
    ngx_http_reverie_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_reverie_module);

    if (ngx_http_reverie_variables_add(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_str_set(&name, "request_id");

    mcf->request_id = ngx_http_get_variable_index(cf, &name);

    return mcf->request_id == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


/*
 * All merging is done here, so that locations can be checked as they will be
 * used.
 */

ngx_int_t
ngx_http_reverie_postconfiguration(ngx_conf_t *cf)
{
    ngx_uint_t                      i;
    ngx_http_handler_pt            *handler;
    ngx_http_core_main_conf_t      *cmcf;
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

    if (ngx_http_reverie_zone_add(cf, mcf) != NGX_OK) {
        return NGX_ERROR;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    handler = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (handler == NULL) {
        return NGX_ERROR;
    }

    *handler = ngx_http_reverie_keys_handler;

    handler = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    if (handler == NULL) {
        return NGX_ERROR;
    }

    *handler = ngx_http_reverie_log_handler;

    ngx_http_reverie_filter_init();

    return NGX_OK;
}


void *
ngx_http_reverie_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_reverie_main_conf_t  *mcf;

    mcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_reverie_main_conf_t));
    if (mcf == NULL) {
        return NULL;
    }

    mcf->zone_size = 1024 * 1024;

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


void *
ngx_http_reverie_create_srv_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_reverie_srv_conf_t));
}


/* Core's list of names is gone when the configuration has been read. */

char *
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


void *
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
     *     lcf->fetch = { 0, NULL };
     *     lcf->fetch_allow = { 0, NULL };
     *     lcf->fetch_deny = { 0, NULL };
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
    lcf->websocket = NGX_CONF_UNSET;
    lcf->websocket_idle = NGX_CONF_UNSET_MSEC;
    lcf->websocket_resume = NGX_CONF_UNSET_MSEC;
    lcf->websocket_message = NGX_CONF_UNSET_SIZE;
    lcf->heartbeat = NGX_CONF_UNSET_MSEC;
    lcf->keys = NGX_CONF_UNSET_PTR;
    lcf->keys_in_body = NGX_CONF_UNSET;
    lcf->limits = NGX_CONF_UNSET_PTR;

    return lcf;
}


char *
ngx_http_reverie_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_reverie_loc_conf_t  *prev = parent;
    ngx_http_reverie_loc_conf_t  *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    ngx_conf_merge_str_value(conf->daemon, prev->daemon,
                             NGX_HTTP_REVERIE_DAEMON);
    ngx_conf_merge_uint_value(conf->executor, prev->executor, 0);
    ngx_conf_merge_msec_value(conf->stub_delay, prev->stub_delay, 0);
    ngx_conf_merge_ptr_value(conf->model_cards, prev->model_cards, NULL);
    ngx_conf_merge_str_value(conf->models, prev->models, "*");
    ngx_conf_merge_str_value(conf->fetch, prev->fetch, "");
    ngx_conf_merge_str_value(conf->fetch_allow, prev->fetch_allow, "");
    ngx_conf_merge_str_value(conf->fetch_deny, prev->fetch_deny, "");
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
    ngx_conf_merge_msec_value(conf->heartbeat, prev->heartbeat, 15 * 1000);

    if (conf->keys == NGX_CONF_UNSET_PTR) {
        conf->keys_in_body = prev->keys_in_body;
    }

    ngx_conf_merge_ptr_value(conf->keys, prev->keys, NULL);
    ngx_conf_init_value(conf->keys_in_body, 1);

    if (conf->limits == NGX_CONF_UNSET_PTR) {
        conf->limits_key = prev->limits_key;
    }

    ngx_conf_merge_ptr_value(conf->limits, prev->limits, NULL);

    /* one directive sets all of them */

    if (conf->websocket == NGX_CONF_UNSET) {
        conf->websocket_idle = prev->websocket_idle;
        conf->websocket_resume = prev->websocket_resume;
        conf->websocket_message = prev->websocket_message;
    }

    ngx_conf_merge_value(conf->websocket, prev->websocket, 1);
    ngx_conf_init_msec_value(conf->websocket_idle, 120 * 1000);
    ngx_conf_init_msec_value(conf->websocket_resume, 30 * 1000);
    ngx_conf_init_size_value(conf->websocket_message, 16 * 1024 * 1024);

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

    if ((conf->api == NGX_HTTP_REVERIE_HEALTH
         || conf->api == NGX_HTTP_REVERIE_METRICS)
        && !conf->executor && conf->daemon.len)
    {
        return ngx_http_reverie_daemon_addr(cf, conf);
    }

    if (conf->api != NGX_HTTP_REVERIE_RUNWARE
        && conf->api != NGX_HTTP_REVERIE_TASKS
        && conf->api != NGX_HTTP_REVERIE_OPENAI)
    {
        return NGX_CONF_OK;
    }

    return ngx_http_reverie_add_location(cf, conf);
}


/* Keeps a location that runs tasks for the check of all of them. */

static char *
ngx_http_reverie_add_location(ngx_conf_t *cf, ngx_http_reverie_loc_conf_t *conf)
{
    ngx_http_reverie_loc_conf_t  **location;
    ngx_http_reverie_srv_conf_t   *scf;
    ngx_http_reverie_main_conf_t  *mcf;

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


/* Where to ask the daemon: a socket, or the host and port of a URL. */

static char *
ngx_http_reverie_daemon_addr(ngx_conf_t *cf, ngx_http_reverie_loc_conf_t *conf)
{
    u_char     *p, *last;
    ngx_url_t   u;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = conf->daemon;
    u.default_port = 80;

    if (ngx_strncmp(u.url.data, "http://", 7) == 0) {
        u.url.data += 7;
        u.url.len -= 7;

        last = u.url.data + u.url.len;
        p = ngx_strlchr(u.url.data, last, '/');
        u.url.len = (p ? p : last) - u.url.data;
    }

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "the location in %V cannot ask its daemon \"%V\": %s",
                      &conf->where, &conf->daemon, u.err ? u.err : "no host");
        return NGX_CONF_ERROR;
    }

    conf->daemon_addr = u.addrs;

    return NGX_CONF_OK;
}
