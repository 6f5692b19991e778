
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
    NGX_HTTP_REVERIE_HEALTH,
    NGX_HTTP_REVERIE_OPENAI,
    NGX_HTTP_REVERIE_METRICS,
    NGX_HTTP_REVERIE_TASKS,
    NGX_HTTP_REVERIE_WEBSOCKET,              /* only counted as one */
    NGX_HTTP_REVERIE_APIS
} ngx_http_reverie_api_e;


/*
 * What is counted in shared memory, for all workers.  Nothing that must
 * survive lives there.
 */

#define NGX_HTTP_REVERIE_REFUSED_RATE    1
#define NGX_HTTP_REVERIE_REFUSED_ACTIVE  2
#define NGX_HTTP_REVERIE_REFUSED_COST    3
#define NGX_HTTP_REVERIE_REFUSED_AUTH    4
#define NGX_HTTP_REVERIE_REASONS         5

#define NGX_HTTP_REVERIE_SYNC            0
#define NGX_HTTP_REVERIE_STREAM          1
#define NGX_HTTP_REVERIE_SOCKET          2
#define NGX_HTTP_REVERIE_DELIVERIES      3

#define NGX_HTTP_REVERIE_OUTCOMES        3   /* done, failed, cancelled */
#define NGX_HTTP_REVERIE_STATUSES        24  /* the last: others */
#define NGX_HTTP_REVERIE_BOUNDS          12
#define NGX_HTTP_REVERIE_WORKERS         64

typedef struct {
    ngx_atomic_t               count[NGX_HTTP_REVERIE_BOUNDS + 1];
    ngx_atomic_t               ms;
} ngx_http_reverie_histogram_t;


/* gauges of one worker: those of the dead are not counted */

typedef struct {
    ngx_pid_t                  pid;
    ngx_int_t                  clients[NGX_HTTP_REVERIE_DELIVERIES];
} ngx_http_reverie_worker_t;


typedef struct {
    ngx_uint_t                 version;      /* of this structure */
    ngx_atomic_t               requests[NGX_HTTP_REVERIE_APIS]
                                       [NGX_HTTP_REVERIE_STATUSES];
    ngx_atomic_t               tasks[NGX_HTTP_REVERIE_DELIVERIES]
                                    [NGX_HTTP_REVERIE_OUTCOMES];
    ngx_atomic_t               refused[NGX_HTTP_REVERIE_REASONS];
    ngx_atomic_t               images;
    ngx_atomic_t               microdollars;
    ngx_http_reverie_histogram_t
                               times[2];     /* waiting, running */
    ngx_http_reverie_worker_t  workers[NGX_HTTP_REVERIE_WORKERS];
    ngx_rbtree_t               tree;         /* of clients with limits */
    ngx_rbtree_node_t          sentinel;
    ngx_queue_t                clients;      /* the same, last used first */
    ngx_atomic_t               evictions;
} ngx_http_reverie_shared_t;


typedef struct {
    ngx_http_reverie_shared_t *sh;
    ngx_slab_pool_t           *shpool;
    size_t                     size;
} ngx_http_reverie_zone_t;


/* amount per period of requests, pictures and US dollars; 0: no limit */

typedef struct {
    double                     amount[3];
    ngx_msec_t                 period[3];
    ngx_uint_t                 active;
} ngx_http_reverie_limits_t;


typedef struct {
    ngx_str_t                  name;
    char                       text[65];     /* the same with a NUL */
    u_char                     hash[32];     /* SHA-256 of the key */
    ngx_http_reverie_limits_t  limits;
} ngx_http_reverie_key_t;


typedef struct {
    const rv_job              *job;
    ngx_msec_t                 started;
} ngx_http_reverie_timing_t;


/* what a call was admitted with; given back when it is over */

typedef struct {
    ngx_http_reverie_zone_t   *zone;         /* NULL: nothing to give back */
    ngx_http_reverie_limits_t  limits;
    u_char                     key[80];
    size_t                     key_len;
    ngx_uint_t                 tasks;
    size_t                     results;
    size_t                     made;
    size_t                     cached;       /* of them; they cost nothing */
    double                     cost;
    ngx_uint_t                 reason;       /* of a refusal */

    /* what happened since */
    ngx_http_reverie_zone_t   *counters;
    ngx_uint_t                 delivery;
    ngx_msec_t                 begun;
    ngx_http_reverie_timing_t *timings;      /* of its tasks; ngx_free() */
    ngx_uint_t                 ntimings;
    ngx_uint_t                 counted;      /* tasks that ended */
    ngx_msec_t                 queue_ms;     /* of the slowest */
    ngx_msec_t                 run_ms;
    const char                *model;        /* borrowed from the batch */
    const char                *executor;     /* static; of the last task */
    ngx_uint_t                 attempts;
} ngx_http_reverie_admission_t;


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
    ngx_queue_t                sessions;     /* of WebSockets, see session.c */
} ngx_http_reverie_context_t;


typedef struct ngx_http_reverie_loc_conf_s  ngx_http_reverie_loc_conf_t;

/* who asks */

typedef struct {
    ngx_http_reverie_loc_conf_t
                              *lcf;
    ngx_http_reverie_zone_t   *zone;
    ngx_http_reverie_key_t    *key;          /* NULL: nobody we know */
    ngx_uint_t                 let_in;       /* without a key */
    ngx_str_t                  limit_key;    /* counted by, without a key */
} ngx_http_reverie_client_t;


/*
 * What a WebSocket client has asked for and not been told yet.  It outlives a
 * broken connection for a while, so that the client may come back for it.
 */

typedef struct ngx_http_reverie_session_s  ngx_http_reverie_session_t;

struct ngx_http_reverie_session_s {
    void                      *ident[4];     /* as in the request's context */
    ngx_queue_t                queue;        /* in the context's sessions */
    ngx_http_reverie_context_t
                              *context;
    u_char                     uuid[37];     /* connectionSessionUUID */
    ngx_http_reverie_client_t  client;
    u_char                     limit_key[80];
    ngx_queue_t                calls;        /* oldest first */
    ngx_uint_t                 ncalls;
    ngx_event_t                timer;        /* while nobody is connected */

    void                     (*notify)(void *data);
    void                      *data;         /* the connection, or NULL */
};


typedef struct {
    ngx_array_t                contexts;     /* ngx_http_reverie_context_t * */
    ngx_array_t                locations;    /* ngx_http_reverie_loc_conf_t *
                                                that accept tasks */
    ngx_int_t                  request_id;   /* index of $request_id */
    ngx_http_reverie_zone_t   *zone;
    size_t                     zone_size;
} ngx_http_reverie_main_conf_t;


typedef struct {
    ngx_str_t                  results_uri;  /* of the results location */
    ngx_array_t                names;        /* of ngx_str_t, lower case */
} ngx_http_reverie_srv_conf_t;


struct ngx_http_reverie_loc_conf_s {
    ngx_uint_t                 api;          /* ngx_http_reverie_api_e */

    /* settings of the library's context */
    ngx_str_t                  daemon;       /* empty: off */
    ngx_uint_t                 executor;
    ngx_msec_t                 stub_delay;
    ngx_array_t               *model_cards;  /* of ngx_str_t, full paths */
    ngx_str_t                  models;       /* separated by spaces */
    ngx_str_t                  fetch;        /* these three empty: not said */
    ngx_str_t                  fetch_allow;  /* separated by spaces */
    ngx_str_t                  fetch_deny;
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
    ngx_flag_t                 websocket;
    ngx_msec_t                 websocket_idle;
    ngx_msec_t                 websocket_resume;
    size_t                     websocket_message;
    ngx_msec_t                 heartbeat;

    /* who may come, and how often */
    ngx_array_t               *keys;         /* of ngx_http_reverie_key_t */
    ngx_flag_t                 keys_in_body;
    ngx_http_reverie_limits_t *limits;
    ngx_http_complex_value_t  *limits_key;

    /* found while the configuration is read */
    ngx_str_t                  results_uri;
    ngx_str_t                  where;        /* for messages: "file:line" */
    ngx_http_reverie_context_t
                              *context;

    ngx_addr_t                *daemon_addr;  /* to ask how it is */

    /* what a worker knows about the daemon, and since when */
    ngx_uint_t                 health_known;
    ngx_msec_t                 health_at;
    ngx_str_t                  health;       /* empty: down */
    u_char                     health_text[2048];
};


/*
 * One request.  Lives in the request's pool; the call does not: its user
 * pointer is this, and the cleanup handler frees the call before the pool
 * goes, after which the library calls nobody.
 */

typedef struct ngx_http_reverie_ctx_s  ngx_http_reverie_ctx_t;
typedef struct ngx_http_reverie_stream_s  ngx_http_reverie_stream_t;
typedef struct ngx_http_reverie_parse_s  ngx_http_reverie_parse_t;

/* body is NULL when nobody answered; the result ends the request */
typedef ngx_int_t (*ngx_http_reverie_probe_pt)(ngx_http_request_t *r,
    ngx_str_t *body);

/* a whole body; NGX_AGAIN: a call is on its way, otherwise as handlers */
typedef ngx_int_t (*ngx_http_reverie_body_pt)(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, u_char *body, size_t len);

/* what became of a text that was parsed; both NULL: nothing */
typedef void (*ngx_http_reverie_parsed_pt)(void *data, rv_batch *batch,
    rv_openai_request *request);

/* writes the reply of a call in the words of a protocol; as handlers */
typedef ngx_int_t (*ngx_http_reverie_reply_pt)(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, const rv_reply *reply);


struct ngx_http_reverie_ctx_s {
    void                      *ident[4];     /* looks like a connection with
                                                descriptor -1 to debug logs */
    ngx_http_request_t        *request;
    ngx_http_reverie_body_pt   body_handler;
    ngx_http_reverie_reply_pt  reply;
    ngx_http_reverie_client_t  client;
    ngx_http_reverie_admission_t
                               admission;
    rv_batch                  *batch;        /* as long as the request */
    ngx_str_t                  error_code;   /* of a refusal, for logs */
    ngx_uint_t                 client_kind;  /* counted as; 0: not */
    rv_call                   *call;
    ngx_http_reverie_parse_t  *parse;        /* on a thread */
    ngx_http_reverie_stream_t *stream;       /* NULL: one answer */
    rv_openai_kind             kind;         /* of an OpenAI request */
    void                      *websocket;
    ngx_event_t                timer;        /* keeps the worker alive while
                                                somebody waits */
    ngx_msec_t                 deadline;

    const char                *refusal;      /* code of a 401 */
    const char                *allow;        /* methods, for a 405 */
    const char                *error;        /* body that replaces the page
                                                of nginx, see the filter */
    size_t                     error_len;
    unsigned                   own:1;        /* the reply is ours already */
    unsigned                   replaces:1;
    unsigned                   replaced:1;
};


extern ngx_module_t  ngx_http_reverie_module;


extern const ngx_http_handler_pt  ngx_http_reverie_handlers[];


/* conf.c */

ngx_int_t ngx_http_reverie_preconfiguration(ngx_conf_t *cf);
ngx_int_t ngx_http_reverie_postconfiguration(ngx_conf_t *cf);
void *ngx_http_reverie_create_main_conf(ngx_conf_t *cf);
void *ngx_http_reverie_create_srv_conf(ngx_conf_t *cf);
char *ngx_http_reverie_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child);
void *ngx_http_reverie_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_reverie_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);

/* directives.c */

char *ngx_http_reverie_set_protocol(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_reverie_set_results(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_reverie_set_health(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_reverie_set_tasks(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_reverie_set_metrics(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_reverie_set_daemon(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_reverie_set_executor(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_reverie_set_model_cards(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_reverie_set_list(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_reverie_set_results_dir(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_reverie_set_websocket(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

char *ngx_http_reverie_set_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_reverie_set_auth(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_reverie_set_limits(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* zone.c */

ngx_int_t ngx_http_reverie_zone_add(ngx_conf_t *cf,
    ngx_http_reverie_main_conf_t *mcf);

/* keys.c */

char *ngx_http_reverie_keys_read(ngx_conf_t *cf, ngx_str_t *file,
    ngx_array_t **result);
ngx_http_reverie_key_t *ngx_http_reverie_keys_check(ngx_array_t *keys,
    u_char *data, size_t len);
ngx_int_t ngx_http_reverie_keys_handler(ngx_http_request_t *r);

/* limit.c */

ngx_int_t ngx_http_reverie_limits_parse(ngx_str_t *word,
    ngx_http_reverie_limits_t *l);
ngx_uint_t ngx_http_reverie_limit_admit(ngx_http_reverie_client_t *client,
    rv_batch *batch, ngx_http_reverie_admission_t *a, rv_error *err);
void ngx_http_reverie_limit_release(ngx_http_reverie_admission_t *a);

/*
 * admit.c: who asks, and whether a call may run.  For other protocols too: set
 * the options' admit, event and user (the request's context) as handler.c does.
 */

ngx_int_t ngx_http_reverie_client_init(ngx_http_request_t *r,
    ngx_http_reverie_client_t *client);
ngx_uint_t ngx_http_reverie_admit(ngx_http_reverie_client_t *client,
    rv_batch *batch, ngx_http_reverie_admission_t *a, rv_error *err);
bool ngx_http_reverie_admit_request(void *user, rv_batch *batch,
    rv_error *err);
void ngx_http_reverie_event(void *user, rv_call *call, rv_job *job,
    const rv_event *e);
const char *ngx_http_reverie_authenticate(ngx_http_reverie_client_t *client,
    rv_batch *batch);
void ngx_http_reverie_tally(ngx_http_reverie_admission_t *a,
    const rv_job *job, const rv_event *e);
void ngx_http_reverie_admission_end(ngx_http_reverie_admission_t *a);
void ngx_http_reverie_client_counted(ngx_http_reverie_ctx_t *ctx,
    ngx_uint_t kind);

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

/* probe.c, metrics.c, variables.c */

ngx_int_t ngx_http_reverie_probe(ngx_http_request_t *r, const char *path,
    ngx_http_reverie_probe_pt handler);
ngx_int_t ngx_http_reverie_tasks_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_reverie_metrics_handler(ngx_http_request_t *r);
void ngx_http_reverie_count_request(ngx_http_reverie_zone_t *zone,
    ngx_uint_t api, ngx_uint_t status);
void ngx_http_reverie_count_time(ngx_http_reverie_zone_t *zone,
    ngx_uint_t part, ngx_msec_t ms);
void ngx_http_reverie_count_clients(ngx_http_reverie_zone_t *zone,
    ngx_uint_t kind, ngx_int_t change);
ngx_int_t ngx_http_reverie_variables_add(ngx_conf_t *cf);
ngx_int_t ngx_http_reverie_log_handler(ngx_http_request_t *r);

/*
 * handler.c, for every protocol: a handler checks the request and calls
 * accept; the body's handler makes a call with start, or sets ctx->call itself
 * and returns NGX_AGAIN; ctx->reply (set before accept) writes the answer.
 */

ngx_int_t ngx_http_reverie_accept(ngx_http_request_t *r,
    ngx_http_reverie_body_pt handler);
ngx_int_t ngx_http_reverie_generate(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, u_char *body, size_t len);
ngx_int_t ngx_http_reverie_start(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, rv_batch *batch);
void ngx_http_reverie_wait(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx);
ngx_int_t ngx_http_reverie_send_reply(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, const rv_reply *reply);
void ngx_http_reverie_done(void *user, rv_call *call);
void ngx_http_reverie_cleanup(void *data);
ngx_uint_t ngx_http_reverie_arg_is_on(ngx_http_request_t *r,
    const char *name);

void ngx_http_reverie_go_on(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, ngx_int_t rc);

/* parse.c */

ngx_int_t ngx_http_reverie_parse(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx);
ngx_http_reverie_parse_t *ngx_http_reverie_parse_message(rv *library,
    const u_char *text, size_t len, ngx_http_reverie_parsed_pt handler,
    void *data);
void ngx_http_reverie_parse_forget(ngx_http_reverie_parse_t *p);

/* body.c */

ngx_int_t ngx_http_reverie_check_headers(ngx_http_request_t *r);
ngx_int_t ngx_http_reverie_check_read(ngx_http_request_t *r);
ngx_int_t ngx_http_reverie_read_body(ngx_http_request_t *r, u_char **body,
    size_t *len);
ngx_str_t *ngx_http_reverie_get_header(ngx_http_request_t *r,
    const char *name);

/* openai.c */

ngx_int_t ngx_http_reverie_openai_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_reverie_openai_options(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, rv_openai_options *options);
ngx_int_t ngx_http_reverie_openai_start(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, rv_openai_request *request);
ngx_int_t ngx_http_reverie_openai_reply(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, const rv_reply *reply);

/* partial.c: event streams of the OpenAI protocol */

void ngx_http_reverie_partial_event(void *user, rv_call *call, rv_job *job,
    const rv_event *e);
ngx_int_t ngx_http_reverie_partial_end(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx);

/* url.c: what stands before a stored picture's name, with a NUL behind it */

ngx_int_t ngx_http_reverie_results_prefix(ngx_http_request_t *r,
    ngx_str_t *prefix);

/* stream.c */

ngx_int_t ngx_http_reverie_stream_options(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx, rv_call_options *options);
ngx_int_t ngx_http_reverie_stream_create(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx);
ngx_uint_t ngx_http_reverie_stream_is_open(ngx_http_reverie_stream_t *s);
void ngx_http_reverie_stream_text(ngx_http_reverie_ctx_t *ctx,
    const char *text, size_t len);
ngx_int_t ngx_http_reverie_stream_begin(ngx_http_request_t *r,
    ngx_http_reverie_ctx_t *ctx);
void ngx_http_reverie_stream_event(void *user, rv_call *call, rv_job *job,
    const rv_event *e);
void ngx_http_reverie_stream_done(ngx_http_reverie_ctx_t *ctx,
    const rv_reply *reply);
void ngx_http_reverie_stream_free(ngx_http_reverie_stream_t *s);

/* websocket.c */

ngx_uint_t ngx_http_reverie_websocket_is_asked(ngx_http_request_t *r);
ngx_int_t ngx_http_reverie_websocket_handler(ngx_http_request_t *r);

/* session.c */

ngx_http_reverie_session_t *ngx_http_reverie_session_create(
    ngx_http_reverie_context_t *context, ngx_http_reverie_client_t *client,
    ngx_log_t *log);
ngx_http_reverie_session_t *ngx_http_reverie_session_find(
    ngx_http_reverie_context_t *context, const char *uuid);
void ngx_http_reverie_session_attach(ngx_http_reverie_session_t *session,
    void (*notify)(void *data), void *data);
void ngx_http_reverie_session_detach(ngx_http_reverie_session_t *session,
    ngx_msec_t keep, ngx_log_t *log);
void ngx_http_reverie_session_free(ngx_http_reverie_session_t *session);
void ngx_http_reverie_session_free_all(ngx_http_reverie_context_t *context);
ngx_int_t ngx_http_reverie_session_start(ngx_http_reverie_session_t *session,
    rv_batch *batch, rv_call_options *options, ngx_log_t *log);
char *ngx_http_reverie_session_message(ngx_http_reverie_session_t *session,
    size_t *len);

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
