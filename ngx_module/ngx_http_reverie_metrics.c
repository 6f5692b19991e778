
/*
 * "reverie_metrics": what was counted, as text for Prometheus, with the
 * daemon's own numbers behind it.  Labels come from fixed lists only, never
 * from a client.
 */


#include "ngx_http_reverie.h"


#define NGX_HTTP_REVERIE_METRICS_SIZE  32768


typedef struct {
    u_char                    *pos;
    u_char                    *end;
} ngx_http_reverie_text_t;


static ngx_int_t ngx_http_reverie_metrics_answer(ngx_http_request_t *r,
    ngx_str_t *body);
static void ngx_http_reverie_metrics_write(ngx_http_reverie_text_t *t,
    ngx_http_reverie_zone_t *zone);
static void ngx_http_reverie_metrics_tasks(ngx_http_reverie_text_t *t,
    ngx_http_reverie_shared_t *sh);
static void ngx_http_reverie_metrics_times(ngx_http_reverie_text_t *t,
    ngx_http_reverie_shared_t *sh);
static void ngx_http_reverie_metrics_clients(ngx_http_reverie_text_t *t,
    ngx_http_reverie_shared_t *sh);
static void ngx_http_reverie_metrics_head(ngx_http_reverie_text_t *t,
    const char *name, const char *type, const char *help);
static void ngx_http_reverie_metrics_add(ngx_http_reverie_text_t *t,
    const char *format, ...);


static const ngx_uint_t  ngx_http_reverie_statuses[] = {
    101, 200, 206, 304, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415,
    422, 426, 429, 499, 500, 502, 503, 504
};

static const ngx_uint_t  ngx_http_reverie_nstatuses =
    sizeof(ngx_http_reverie_statuses) / sizeof(ngx_uint_t);

static const char *const  ngx_http_reverie_apis[NGX_HTTP_REVERIE_APIS] = {
    [NGX_HTTP_REVERIE_RUNWARE] = "runware",
    [NGX_HTTP_REVERIE_OPENAI] = "openai",
    [NGX_HTTP_REVERIE_WEBSOCKET] = "websocket",
    [NGX_HTTP_REVERIE_TASKS] = "tasks",
    [NGX_HTTP_REVERIE_RESULTS] = "results",
    [NGX_HTTP_REVERIE_HEALTH] = "health"
};

static const char *const  ngx_http_reverie_deliveries[] = {
    "sync", "stream", "websocket"
};

static const char *const  ngx_http_reverie_outcomes[] = {
    "done", "failed", "cancelled"
};

static const char *const  ngx_http_reverie_reasons[] = {
    "", "rate", "active", "cost", "auth"
};

static const char *const  ngx_http_reverie_parts[] = { "queue", "run" };

static const ngx_uint_t  ngx_http_reverie_bounds[] = {       /* ms */
    100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000,
    600000
};


ngx_int_t
ngx_http_reverie_metrics_handler(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_http_reverie_loc_conf_t  *lcf;

    rc = ngx_http_reverie_check_read(r);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    if (lcf->executor || lcf->daemon.len == 0) {
        return ngx_http_reverie_metrics_answer(r, NULL);
    }

    return ngx_http_reverie_probe(r, "/metrics",
                                  ngx_http_reverie_metrics_answer);
}


static ngx_int_t
ngx_http_reverie_metrics_answer(ngx_http_request_t *r, ngx_str_t *body)
{
    u_char                        *start;
    size_t                         size;
    ngx_http_reverie_text_t        t;
    ngx_http_reverie_loc_conf_t   *lcf;
    ngx_http_reverie_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_reverie_module);
    lcf = ngx_http_get_module_loc_conf(r, ngx_http_reverie_module);

    size = NGX_HTTP_REVERIE_METRICS_SIZE + (body ? body->len : 0);

    start = ngx_pnalloc(r->pool, size);
    if (start == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    t.pos = start;
    t.end = start + size;

    ngx_http_reverie_metrics_write(&t, mcf->zone);

    if (!lcf->executor && lcf->daemon.len) {
        ngx_http_reverie_metrics_head(&t, "reverie_daemon_up", "gauge",
                                      "Whether reveried answered.");
        ngx_http_reverie_metrics_add(&t, "reverie_daemon_up %ui\n",
                                     (ngx_uint_t) (body != NULL));
    }

    if (body) {
        t.pos = ngx_cpymem(t.pos, body->data,
                           ngx_min(body->len, (size_t) (t.end - t.pos)));
    }

    return ngx_http_reverie_send(r, NGX_HTTP_OK,
                                 "text/plain; version=0.0.4; charset=utf-8",
                                 start, t.pos - start);
}


static void
ngx_http_reverie_metrics_write(ngx_http_reverie_text_t *t,
    ngx_http_reverie_zone_t *zone)
{
    ngx_uint_t                  i, k, n;
    ngx_http_reverie_shared_t  *sh;

    sh = zone->sh;

    ngx_http_reverie_metrics_head(t, "reverie_build_info", "gauge",
                                  "The module's version.");
    ngx_http_reverie_metrics_add(t, "reverie_build_info{version=\"%s\"} 1\n",
                                 rv_version());

    ngx_http_reverie_metrics_head(t, "reverie_requests_total", "counter",
                                  "Requests by protocol and status.");

    for (i = 0; i < NGX_HTTP_REVERIE_APIS; i++) {
        for (k = 0; ngx_http_reverie_apis[i] && k < NGX_HTTP_REVERIE_STATUSES;
             k++)
        {
            n = sh->requests[i][k];

            if (n == 0) {
                continue;
            }

            if (k < ngx_http_reverie_nstatuses) {
                ngx_http_reverie_metrics_add(t, "reverie_requests_total{api="
                                             "\"%s\",status=\"%ui\"} %ui\n",
                                             ngx_http_reverie_apis[i],
                                             ngx_http_reverie_statuses[k], n);
            } else {
                ngx_http_reverie_metrics_add(t, "reverie_requests_total{api="
                                             "\"%s\",status=\"other\"} %ui\n",
                                             ngx_http_reverie_apis[i], n);
            }
        }
    }

    ngx_http_reverie_metrics_tasks(t, sh);
    ngx_http_reverie_metrics_times(t, sh);
    ngx_http_reverie_metrics_clients(t, sh);

    ngx_http_reverie_metrics_head(t, "reverie_zone_bytes", "gauge",
                                  "Shared memory by use.");
    n = zone->shpool->pfree * ngx_pagesize;
    ngx_http_reverie_metrics_add(t, "reverie_zone_bytes{use=\"free\"} %ui\n"
                                 "reverie_zone_bytes{use=\"used\"} %ui\n",
                                 n, zone->size - n);

    ngx_http_reverie_metrics_head(t, "reverie_zone_evictions_total", "counter",
                                  "Clients forgotten for lack of memory.");
    ngx_http_reverie_metrics_add(t, "reverie_zone_evictions_total %uA\n",
                                 sh->evictions);
}


static void
ngx_http_reverie_metrics_tasks(ngx_http_reverie_text_t *t,
    ngx_http_reverie_shared_t *sh)
{
    ngx_uint_t  i, k;

    ngx_http_reverie_metrics_head(t, "reverie_tasks_total", "counter",
                                  "Tasks that ended.");

    for (i = 0; i < NGX_HTTP_REVERIE_DELIVERIES; i++) {
        for (k = 0; k < NGX_HTTP_REVERIE_OUTCOMES; k++) {
            ngx_http_reverie_metrics_add(t, "reverie_tasks_total{delivery="
                                         "\"%s\",outcome=\"%s\"} %uA\n",
                                         ngx_http_reverie_deliveries[i],
                                         ngx_http_reverie_outcomes[k],
                                         sh->tasks[i][k]);
        }
    }

    ngx_http_reverie_metrics_head(t, "reverie_refused_total", "counter",
                                  "Calls refused by keys or limits.");

    for (i = 1; i < NGX_HTTP_REVERIE_REASONS; i++) {
        ngx_http_reverie_metrics_add(t, "reverie_refused_total{reason=\"%s\"} "
                                     "%uA\n", ngx_http_reverie_reasons[i],
                                     sh->refused[i]);
    }

    ngx_http_reverie_metrics_head(t, "reverie_images_total", "counter",
                                  "Pictures made.");
    ngx_http_reverie_metrics_add(t, "reverie_images_total %uA\n", sh->images);

    ngx_http_reverie_metrics_head(t, "reverie_cost_total", "counter",
                                  "US dollars of pictures made, by tariff.");
    ngx_http_reverie_metrics_add(t, "reverie_cost_total %uA.%06uA\n",
                                 sh->microdollars / 1000000,
                                 sh->microdollars % 1000000);
}


static void
ngx_http_reverie_metrics_times(ngx_http_reverie_text_t *t,
    ngx_http_reverie_shared_t *sh)
{
    ngx_uint_t                     i, k, sum;
    ngx_http_reverie_histogram_t  *h;

    ngx_http_reverie_metrics_head(t, "reverie_task_seconds", "histogram",
                                  "How long tasks waited and ran.");

    for (i = 0; i < 2; i++) {
        h = &sh->times[i];
        sum = 0;

        for (k = 0; k < NGX_HTTP_REVERIE_BOUNDS; k++) {
            sum += h->count[k];
            ngx_http_reverie_metrics_add(t, "reverie_task_seconds_bucket"
                                         "{part=\"%s\",le=\"%ui.%03ui\"} "
                                         "%ui\n", ngx_http_reverie_parts[i],
                                         ngx_http_reverie_bounds[k] / 1000,
                                         ngx_http_reverie_bounds[k] % 1000,
                                         sum);
        }

        sum += h->count[k];

        ngx_http_reverie_metrics_add(t, "reverie_task_seconds_bucket{part="
                                     "\"%s\",le=\"+Inf\"} %ui\n"
                                     "reverie_task_seconds_sum{part=\"%s\"} "
                                     "%uA.%03uA\n"
                                     "reverie_task_seconds_count{part=\"%s\"} "
                                     "%ui\n", ngx_http_reverie_parts[i], sum,
                                     ngx_http_reverie_parts[i], h->ms / 1000,
                                     h->ms % 1000, ngx_http_reverie_parts[i],
                                     sum);
    }
}


/* Workers that died without a word have no clients. */

static void
ngx_http_reverie_metrics_clients(ngx_http_reverie_text_t *t,
    ngx_http_reverie_shared_t *sh)
{
    ngx_uint_t                  i, k, sum;
    ngx_http_reverie_worker_t  *w;

    ngx_http_reverie_metrics_head(t, "reverie_clients", "gauge",
                                  "Clients that wait or are connected.");

    for (k = 0; k < NGX_HTTP_REVERIE_DELIVERIES; k++) {
        sum = 0;

        for (i = 0; i < NGX_HTTP_REVERIE_WORKERS; i++) {
            w = &sh->workers[i];

            if (w->pid && (kill(w->pid, 0) == 0 || ngx_errno != NGX_ESRCH)) {
                sum += w->clients[k];
            }
        }

        ngx_http_reverie_metrics_add(t, "reverie_clients{kind=\"%s\"} %ui\n",
                                     ngx_http_reverie_deliveries[k], sum);
    }
}


static void
ngx_http_reverie_metrics_head(ngx_http_reverie_text_t *t, const char *name,
    const char *type, const char *help)
{
    ngx_http_reverie_metrics_add(t, "# HELP %s %s\n# TYPE %s %s\n", name, help,
                                 name, type);
}


static void
ngx_http_reverie_metrics_add(ngx_http_reverie_text_t *t, const char *format,
    ...)
{
    va_list  args;

    va_start(args, format);
    t->pos = ngx_vslprintf(t->pos, t->end, format, args);
    va_end(args);
}


/* ---- counting ---- */


void
ngx_http_reverie_count_request(ngx_http_reverie_zone_t *zone, ngx_uint_t api,
    ngx_uint_t status)
{
    ngx_uint_t  i;

    for (i = 0; i < ngx_http_reverie_nstatuses; i++) {
        if (ngx_http_reverie_statuses[i] == status) {
            break;
        }
    }

    (void) ngx_atomic_fetch_add(&zone->sh->requests[api][i], 1);
}


void
ngx_http_reverie_count_time(ngx_http_reverie_zone_t *zone, ngx_uint_t part,
    ngx_msec_t ms)
{
    ngx_uint_t                     i;
    ngx_http_reverie_histogram_t  *h;

    h = &zone->sh->times[part];

    for (i = 0; i < NGX_HTTP_REVERIE_BOUNDS; i++) {
        if (ms <= ngx_http_reverie_bounds[i]) {
            break;
        }
    }

    (void) ngx_atomic_fetch_add(&h->count[i], 1);
    (void) ngx_atomic_fetch_add(&h->ms, ms);
}


/* A place for this worker's gauges; shared by all when there is none left. */

void
ngx_http_reverie_count_clients(ngx_http_reverie_zone_t *zone, ngx_uint_t kind,
    ngx_int_t change)
{
    ngx_uint_t                         i;
    static ngx_http_reverie_worker_t  *mine;

    if (mine == NULL || mine->pid != ngx_pid) {
        ngx_shmtx_lock(&zone->shpool->mutex);

        mine = &zone->sh->workers[0];

        for (i = 0; i < NGX_HTTP_REVERIE_WORKERS; i++) {
            mine = &zone->sh->workers[i];

            if (mine->pid == 0
                || (kill(mine->pid, 0) == -1 && ngx_errno == NGX_ESRCH))
            {
                ngx_memzero(mine, sizeof(ngx_http_reverie_worker_t));
                mine->pid = ngx_pid;
                break;
            }
        }

        ngx_shmtx_unlock(&zone->shpool->mutex);
    }

    mine->clients[kind] += change;
}
