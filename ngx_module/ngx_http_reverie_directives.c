
/*
 * Directives whose values need more than one of nginx's own setters.
 */


#include "ngx_http_reverie.h"


static char *ngx_http_reverie_set_api(ngx_conf_t *cf,
    ngx_http_reverie_loc_conf_t *lcf, ngx_http_reverie_api_e api);


const ngx_http_handler_pt  ngx_http_reverie_handlers[] = {
    NULL,
    ngx_http_reverie_runware_handler,
    ngx_http_reverie_results_handler,
    ngx_http_reverie_health_handler,
    ngx_http_reverie_openai_handler,
    ngx_http_reverie_metrics_handler,
    ngx_http_reverie_tasks_handler
};


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


char *
ngx_http_reverie_set_protocol(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "openai") == 0) {
        return ngx_http_reverie_set_api(cf, conf, NGX_HTTP_REVERIE_OPENAI);
    }

    if (ngx_strcmp(value[1].data, "runware") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid protocol \"%V\", it must be \"runware\" "
                           "or \"openai\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    return ngx_http_reverie_set_api(cf, conf, NGX_HTTP_REVERIE_RUNWARE);
}


/* PREFIX/, so that names can stand behind it. */

static ngx_uint_t
ngx_http_reverie_is_prefix(ngx_conf_t *cf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    return clcf->name.len && clcf->name.data[clcf->name.len - 1] == '/'
           && !clcf->exact_match && !clcf->named
#if (NGX_PCRE)
           && !clcf->regex
#endif
           ;
}


char *
ngx_http_reverie_set_results(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t     *clcf;
    ngx_http_reverie_srv_conf_t  *scf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (!ngx_http_reverie_is_prefix(cf)) {
        return "must be in a prefix location that ends in \"/\"";
    }

    scf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_reverie_module);

    if (scf->results_uri.len == 0) {
        scf->results_uri = clcf->name;
    }

    return ngx_http_reverie_set_api(cf, conf, NGX_HTTP_REVERIE_RESULTS);
}


char *
ngx_http_reverie_set_tasks(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    if (!ngx_http_reverie_is_prefix(cf)) {
        return "must be in a prefix location that ends in \"/\"";
    }

    return ngx_http_reverie_set_api(cf, conf, NGX_HTTP_REVERIE_TASKS);
}


char *
ngx_http_reverie_set_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_reverie_set_api(cf, conf, NGX_HTTP_REVERIE_HEALTH);
}


char *
ngx_http_reverie_set_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_reverie_set_api(cf, conf, NGX_HTTP_REVERIE_METRICS);
}


char *
ngx_http_reverie_set_daemon(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
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


char *
ngx_http_reverie_set_executor(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
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


char *
ngx_http_reverie_set_model_cards(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
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

char *
ngx_http_reverie_set_list(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *base = conf;

    size_t       len;
    u_char      *p;
    ngx_str_t   *list, *value;
    ngx_uint_t   i;

    value = cf->args->elts;
    list = (ngx_str_t *) (base + cmd->offset);

    if (list->data) {
        return "is duplicate";
    }

    len = 0;

    for (i = 1; i < cf->args->nelts; i++) {

        if (value[i].len == 0 || ngx_strlchr(value[i].data, value[i].data
                                             + value[i].len, ' '))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid %s \"%V\"",
                               cmd->post ? (char *) cmd->post : "value",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        len += value[i].len + 1;
    }

    p = ngx_pnalloc(cf->pool, len);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    list->data = p;

    for (i = 1; i < cf->args->nelts; i++) {
        p = ngx_cpymem(p, value[i].data, value[i].len);
        *p++ = ' ';
    }

    list->len = len - 1;

    return NGX_CONF_OK;
}


char *
ngx_http_reverie_set_results_dir(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
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


char *
ngx_http_reverie_set_websocket(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_reverie_loc_conf_t  *lcf = conf;

    ngx_int_t    time;
    ssize_t      size;
    ngx_str_t   *value, rest;
    ngx_uint_t   i;

    value = cf->args->elts;

    if (lcf->websocket != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    if (ngx_strcmp(value[1].data, "on") == 0) {
        lcf->websocket = 1;

    } else if (ngx_strcmp(value[1].data, "off") == 0 && cf->args->nelts == 2) {
        lcf->websocket = 0;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\", it must be \"off\" or "
                           "\"on [idle=time] [resume=time] "
                           "[max_message=size]\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "idle=", 5) == 0) {
            rest.data = value[i].data + 5;
            rest.len = value[i].len - 5;
            time = ngx_parse_time(&rest, 0);

            if (time != NGX_ERROR && time > 0) {
                lcf->websocket_idle = time;
                continue;
            }

        } else if (ngx_strncmp(value[i].data, "resume=", 7) == 0) {
            rest.data = value[i].data + 7;
            rest.len = value[i].len - 7;
            time = ngx_parse_time(&rest, 0);

            if (time != NGX_ERROR) {
                lcf->websocket_resume = time;
                continue;
            }

        } else if (ngx_strncmp(value[i].data, "max_message=", 12) == 0) {
            rest.data = value[i].data + 12;
            rest.len = value[i].len - 12;
            size = ngx_parse_size(&rest);

            if (size != NGX_ERROR && size > 0) {
                lcf->websocket_message = size;
                continue;
            }
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_reverie_set_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_reverie_main_conf_t  *mcf = conf;

    ssize_t     size;
    ngx_str_t  *value;

    value = cf->args->elts;

    size = ngx_parse_size(&value[1]);

    if (size == NGX_ERROR || size < (ssize_t) (16 * ngx_pagesize)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size \"%V\", it must be at least %uzk",
                           &value[1], 16 * ngx_pagesize / 1024);
        return NGX_CONF_ERROR;
    }

    mcf->zone_size = size;

    return NGX_CONF_OK;
}


char *
ngx_http_reverie_set_auth(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_reverie_loc_conf_t  *lcf = conf;

    ngx_str_t  *value, file;

    value = cf->args->elts;

    if (lcf->keys != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    if (ngx_strcmp(value[1].data, "off") == 0 && cf->args->nelts == 2) {
        lcf->keys = NULL;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value[1].data, "keys=", 5) != 0 || value[1].len == 5) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\", it must be \"off\" or "
                           "\"keys=file [body=on|off]\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 3) {

        if (ngx_strcmp(value[2].data, "body=on") == 0) {
            lcf->keys_in_body = 1;

        } else if (ngx_strcmp(value[2].data, "body=off") == 0) {
            lcf->keys_in_body = 0;

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[2]);
            return NGX_CONF_ERROR;
        }
    }

    file.data = value[1].data + 5;
    file.len = value[1].len - 5;

    if (ngx_conf_full_name(cf->cycle, &file, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_reverie_keys_read(cf, &file, &lcf->keys);
}


char *
ngx_http_reverie_set_limits(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_reverie_loc_conf_t  *lcf = conf;

    ngx_str_t                         *value, key;
    ngx_uint_t                         i;
    ngx_http_compile_complex_value_t   ccv;

    value = cf->args->elts;

    if (lcf->limits != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    if (ngx_strcmp(value[1].data, "off") == 0 && cf->args->nelts == 2) {
        lcf->limits = NULL;
        return NGX_CONF_OK;
    }

    lcf->limits = ngx_pcalloc(cf->pool, sizeof(ngx_http_reverie_limits_t));
    if (lcf->limits == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "key=", 4) == 0) {
            key.data = value[i].data + 4;
            key.len = value[i].len - 4;

            lcf->limits_key = ngx_palloc(cf->pool,
                                         sizeof(ngx_http_complex_value_t));
            if (lcf->limits_key == NULL) {
                return NGX_CONF_ERROR;
            }

            ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

            ccv.cf = cf;
            ccv.value = &key;
            ccv.complex_value = lcf->limits_key;

            if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_http_reverie_limits_parse(&value[i], lcf->limits) != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid limit \"%V\", it must be "
                               "requests=N/T, images=N/T, cost=N/T (T is s, "
                               "m, h or d), active=N or key=STRING",
                               &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}
