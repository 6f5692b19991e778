
/*
 * What the files of this module share.  The module is a transport around the
 * library's calls (reverie.h): a body goes in, a reply comes out.  It must
 * never block the worker and never know what a task means.
 */


#ifndef _NGX_HTTP_REVERIE_H_INCLUDED_
#define _NGX_HTTP_REVERIE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <reverie.h>


/* what answers in a location */

typedef enum {
    NGX_HTTP_REVERIE_NONE = 0,
    NGX_HTTP_REVERIE_RUNWARE,
    NGX_HTTP_REVERIE_RESULTS,
    NGX_HTTP_REVERIE_HEALTH
} ngx_http_reverie_api_e;


/*
 * One library context per worker and per distinct set of settings.  The list
 * is made from the configuration by the master and belongs to the cycle; rv
 * and connection exist in workers only.
 */

typedef struct {
    ngx_array_t                settings;     /* of ngx_keyval_t, sorted as
                                                written by settings.c */
    rv                        *rv;
    ngx_connection_t          *connection;   /* around the wake descriptor */
} ngx_http_reverie_context_t;


typedef struct {
    ngx_array_t                contexts;     /* ngx_http_reverie_context_t * */
    ngx_array_t                locations;    /* ngx_http_reverie_loc_conf_t *
                                                that accept tasks */
    ngx_int_t                  request_id;   /* index of $request_id */
} ngx_http_reverie_main_conf_t;


typedef struct {
    ngx_str_t                  results_uri;  /* of the results location */
    ngx_array_t                names;        /* of ngx_str_t, lower case */
} ngx_http_reverie_srv_conf_t;


typedef struct {
    ngx_uint_t                 api;          /* ngx_http_reverie_api_e */

    /* settings of the library's context */
    ngx_str_t                  daemon;       /* empty: off */
    ngx_uint_t                 executor;
    ngx_msec_t                 stub_delay;
    ngx_array_t               *model_cards;  /* of ngx_str_t, full paths */
    ngx_str_t                  models;       /* separated by spaces */
    ngx_flag_t                 strict;
    ngx_int_t                  max_steps;
    ngx_int_t                  max_tasks;
    ngx_int_t                  queue;
    ngx_str_t                  results_dir;  /* full path; empty: none */
    time_t                     results_ttl;

    /* settings of the transport */
    ngx_http_complex_value_t  *results_url;
    ngx_msec_t                 sync_timeout;
    ngx_flag_t                 ignore_client_abort;

    /* found while the configuration is read */
    ngx_str_t                  results_uri;
    ngx_str_t                  where;        /* for messages: "file:line" */
    ngx_http_reverie_context_t
                              *context;

    /* what a worker knows about the daemon, and since when */
    time_t                     checked;
    ngx_uint_t                 is_up;
} ngx_http_reverie_loc_conf_t;


/*
 * One request.  Lives in the request's pool; the call does not: its user
 * pointer is this, and the cleanup handler frees the call before the pool
 * goes, after which the library calls nobody.
 */

typedef struct {
    void                      *ident[4];     /* looks like a connection with
                                                descriptor -1 to debug logs */
    ngx_http_request_t        *request;
    rv_call                   *call;
    ngx_event_t                timer;        /* keeps the worker alive while
                                                somebody waits */
    ngx_msec_t                 deadline;

    const char                *error;        /* body that replaces the page
                                                of nginx, see the filter */
    size_t                     error_len;
    unsigned                   own:1;        /* the reply is ours already */
    unsigned                   replaces:1;
    unsigned                   replaced:1;
} ngx_http_reverie_ctx_t;


extern ngx_module_t  ngx_http_reverie_module;


/* settings.c */

char *ngx_http_reverie_settings_find(ngx_conf_t *cf,
    ngx_http_reverie_main_conf_t *mcf, ngx_http_reverie_loc_conf_t *lcf);
rv *ngx_http_reverie_settings_open(ngx_log_t *log,
    ngx_http_reverie_context_t *context);

/* loop.c */

ngx_int_t ngx_http_reverie_loop_start(ngx_cycle_t *cycle,
    ngx_http_reverie_context_t *context);
void ngx_http_reverie_loop_stop(ngx_http_reverie_context_t *context);

/* handler.c, results.c, health.c */

ngx_int_t ngx_http_reverie_runware_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_reverie_results_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_reverie_health_handler(ngx_http_request_t *r);

/* error.c */

ngx_http_reverie_ctx_t *ngx_http_reverie_ctx(ngx_http_request_t *r);
ngx_table_elt_t *ngx_http_reverie_set_header(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);
ngx_int_t ngx_http_reverie_send(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, u_char *body, size_t len);
ngx_int_t ngx_http_reverie_send_error(ngx_http_request_t *r,
    ngx_uint_t status, const char *code, const char *message);
void ngx_http_reverie_filter_init(void);


#endif /* _NGX_HTTP_REVERIE_H_INCLUDED_ */
