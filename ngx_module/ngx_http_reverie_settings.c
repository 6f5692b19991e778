
/*
 * From directives to contexts of the library.  Locations with the same
 * settings share one context.  The master only checks: it opens each context
 * once, reads the model cards, and closes it; no thread ever starts there.
 */


#include "ngx_http_reverie.h"


static char *ngx_http_reverie_settings_collect(ngx_conf_t *cf,
    ngx_http_reverie_loc_conf_t *lcf, ngx_array_t *settings);
static ngx_int_t ngx_http_reverie_settings_add(ngx_conf_t *cf,
    ngx_array_t *settings, const char *name, ngx_str_t *value);
static ngx_int_t ngx_http_reverie_settings_add_number(ngx_conf_t *cf,
    ngx_array_t *settings, const char *name, uint64_t value);
static ngx_uint_t ngx_http_reverie_settings_equal(ngx_array_t *one,
    ngx_array_t *two);
static void ngx_http_reverie_log(void *user, rv_log_level level,
    const char *message);


char *
ngx_http_reverie_settings_find(ngx_conf_t *cf,
    ngx_http_reverie_main_conf_t *mcf, ngx_http_reverie_loc_conf_t *lcf)
{
    rv                           *checked;
    ngx_uint_t                    i;
    ngx_array_t                   settings;
    ngx_http_reverie_context_t   *context, **contexts;

    if (ngx_array_init(&settings, cf->pool, 8, sizeof(ngx_keyval_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_reverie_settings_collect(cf, lcf, &settings) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    contexts = mcf->contexts.elts;

    for (i = 0; i < mcf->contexts.nelts; i++) {
        if (ngx_http_reverie_settings_equal(&contexts[i]->settings,
                                            &settings))
        {
            lcf->context = contexts[i];
            return NGX_CONF_OK;
        }
    }

    context = ngx_pcalloc(cf->pool, sizeof(ngx_http_reverie_context_t));
    contexts = ngx_array_push(&mcf->contexts);

    if (context == NULL || contexts == NULL) {
        return NGX_CONF_ERROR;
    }

    context->settings = settings;
    *contexts = context;
    lcf->context = context;

    checked = ngx_http_reverie_settings_open(cf->log, context);

    if (checked == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "the reverie location in %V cannot be used",
                      &lcf->where);
        return NGX_CONF_ERROR;
    }

    rv_close(checked);

    return NGX_CONF_OK;
}


rv *
ngx_http_reverie_settings_open(ngx_log_t *log,
    ngx_http_reverie_context_t *context)
{
    rv            *opened;
    rv_error       err;
    ngx_uint_t     i;
    ngx_keyval_t  *setting;

    if (rv_open(&opened) != RV_OK) {
        ngx_log_error(NGX_LOG_EMERG, log, 0, "reverie: out of memory");
        return NULL;
    }

    setting = context->settings.elts;

    for (i = 0; i < context->settings.nelts; i++) {

        if (rv_set(opened, (char *) setting[i].key.data,
                   (char *) setting[i].value.data, &err)
            != RV_OK)
        {
            ngx_log_error(NGX_LOG_EMERG, log, 0,
                          "reverie: \"%V\" cannot be \"%V\": %s",
                          &setting[i].key, &setting[i].value, err.message);
            rv_close(opened);
            return NULL;
        }
    }

    rv_set_log(opened, ngx_http_reverie_log, NULL);

    return opened;
}


static char *
ngx_http_reverie_settings_collect(ngx_conf_t *cf,
    ngx_http_reverie_loc_conf_t *lcf, ngx_array_t *settings)
{
    ngx_str_t  *card;
    ngx_uint_t  i;

    static ngx_str_t  on = ngx_string("on");
    static ngx_str_t  off = ngx_string("off");
    static ngx_str_t  stub = ngx_string("stub");

    /* cards that are looked up first come first */

    for (i = 0; lcf->model_cards && i < lcf->model_cards->nelts; i++) {
        card = (ngx_str_t *) lcf->model_cards->elts + i;

        if (ngx_http_reverie_settings_add(cf, settings, "models", card)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_http_reverie_settings_add(cf, settings, "serve", &lcf->models)
        != NGX_OK
        || ngx_http_reverie_settings_add(cf, settings, "strict",
                                      lcf->strict ? &on : &off) != NGX_OK
        || ngx_http_reverie_settings_add_number(cf, settings, "max_steps",
                                                lcf->max_steps) != NGX_OK
        || ngx_http_reverie_settings_add_number(cf, settings, "max_tasks",
                                                lcf->max_tasks) != NGX_OK
        || ngx_http_reverie_settings_add_number(cf, settings, "queue",
                                                lcf->queue) != NGX_OK
        || ngx_http_reverie_settings_add_number(cf, settings, "results_ttl",
                                                lcf->results_ttl) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    /* what is not said is left to the process that connects */

    if ((lcf->fetch.len
         && ngx_http_reverie_settings_add(cf, settings, "fetch", &lcf->fetch)
            != NGX_OK)
        || (lcf->fetch_allow.len
            && ngx_http_reverie_settings_add(cf, settings, "fetch_allow",
                                             &lcf->fetch_allow) != NGX_OK)
        || (lcf->fetch_deny.len
            && ngx_http_reverie_settings_add(cf, settings, "fetch_deny",
                                             &lcf->fetch_deny) != NGX_OK))
    {
        return NGX_CONF_ERROR;
    }

    if (lcf->executor) {

        /* the stub runs in the worker: no daemon, but a folder of its own */

        if (ngx_http_reverie_settings_add(cf, settings, "executor", &stub)
            != NGX_OK
            || ngx_http_reverie_settings_add_number(cf, settings, "stub_ms",
                                                    lcf->stub_delay) != NGX_OK
            || (lcf->results_dir.len
                && ngx_http_reverie_settings_add(cf, settings, "results_dir",
                                                 &lcf->results_dir) != NGX_OK))
        {
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
    }

    if (ngx_http_reverie_settings_add(cf, settings, "daemon", &lcf->daemon)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_reverie_settings_add(ngx_conf_t *cf, ngx_array_t *settings,
    const char *name, ngx_str_t *value)
{
    ngx_keyval_t  *setting;

    setting = ngx_array_push(settings);
    if (setting == NULL) {
        return NGX_ERROR;
    }

    setting->key.len = ngx_strlen(name);
    setting->key.data = (u_char *) name;

    /* the library wants a NUL behind its texts */

    setting->value.len = value->len;
    setting->value.data = ngx_pnalloc(cf->pool, value->len + 1);
    if (setting->value.data == NULL) {
        return NGX_ERROR;
    }

    ngx_cpystrn(setting->value.data, value->data ? value->data : (u_char *) "",
                value->len + 1);

    return NGX_OK;
}


static ngx_int_t
ngx_http_reverie_settings_add_number(ngx_conf_t *cf, ngx_array_t *settings,
    const char *name, uint64_t value)
{
    u_char     buf[NGX_INT64_LEN];
    ngx_str_t  text;

    text.data = buf;
    text.len = ngx_sprintf(buf, "%uL", value) - buf;

    return ngx_http_reverie_settings_add(cf, settings, name, &text);
}


static ngx_uint_t
ngx_http_reverie_settings_equal(ngx_array_t *one, ngx_array_t *two)
{
    ngx_uint_t     i;
    ngx_keyval_t  *a, *b;

    if (one->nelts != two->nelts) {
        return 0;
    }

    a = one->elts;
    b = two->elts;

    for (i = 0; i < one->nelts; i++) {
        if (a[i].value.len != b[i].value.len
            || ngx_strcmp(a[i].key.data, b[i].key.data) != 0
            || ngx_memcmp(a[i].value.data, b[i].value.data, a[i].value.len)
               != 0)
        {
            return 0;
        }
    }

    return 1;
}


/*
 * May run on the library's threads: the cycle's log has no handler that looks
 * at requests, and each line is one write.
 */

static void
ngx_http_reverie_log(void *user, rv_log_level level, const char *message)
{
    static const ngx_uint_t  levels[] = {
        [RV_LOG_ERROR] = NGX_LOG_ERR,
        [RV_LOG_WARN] = NGX_LOG_WARN,
        [RV_LOG_INFO] = NGX_LOG_INFO,
        [RV_LOG_DEBUG] = NGX_LOG_INFO
    };

    if (level != RV_LOG_DEBUG) {
        ngx_log_error(levels[level], ngx_cycle->log, 0, "reverie: %s",
                      message);
    }
}
