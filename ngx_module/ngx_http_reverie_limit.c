
/*
 * Limits per API key or address, counted in shared memory for all workers:
 * requests, pictures and cost per time, and tasks at once.  What is admitted
 * is paid at once; what was not made is given back.  No task is run that does
 * not fit, and a refusal says when to come again.
 */


#include "ngx_http_reverie.h"


/* workers that may have tasks of one client at once (older ones included) */
#define NGX_HTTP_REVERIE_LIMIT_WORKERS  16


typedef struct {
    ngx_pid_t                  pid;
    ngx_uint_t                 active;
} ngx_http_reverie_limit_worker_t;


/* in shared memory; the first two members as in ngx_str_node_t */

typedef struct {
    ngx_str_node_t             sn;
    ngx_queue_t                queue;        /* by last use */
    double                     used[3];      /* what flows off with time */
    ngx_msec_t                 at[3];        /* when that was so */
    ngx_http_reverie_limit_worker_t
                               workers[NGX_HTTP_REVERIE_LIMIT_WORKERS];
    u_char                     key[1];
} ngx_http_reverie_limit_node_t;


static ngx_http_reverie_limit_node_t *ngx_http_reverie_limit_find(
    ngx_http_reverie_zone_t *zone, ngx_str_t *key, ngx_uint_t create);
static ngx_uint_t ngx_http_reverie_limit_active(
    ngx_http_reverie_limit_node_t *node);
static ngx_http_reverie_limit_worker_t *ngx_http_reverie_limit_worker(
    ngx_http_reverie_limit_node_t *node);
static void ngx_http_reverie_limit_flow(ngx_http_reverie_limit_node_t *node,
    ngx_http_reverie_limits_t *limits);
static void ngx_http_reverie_limit_merge(ngx_http_reverie_client_t *client,
    ngx_http_reverie_limits_t *l);
static ngx_uint_t ngx_http_reverie_limit_check(
    ngx_http_reverie_limit_node_t *node, ngx_http_reverie_limits_t *limits,
    ngx_http_reverie_admission_t *a, double *amount, rv_error *err);
static void ngx_http_reverie_limit_refuse(rv_error *err, rv_status status,
    const char *code, ngx_msec_t retry, const char *format, ...);


static const char *const  ngx_http_reverie_limit_names[] = {
    "requests", "images", "cost"
};


/* requests=N/TIME images=N/TIME cost=N/TIME active=N; TIME is s, m, h or d */

ngx_int_t
ngx_http_reverie_limits_parse(ngx_str_t *word, ngx_http_reverie_limits_t *l)
{
    size_t       len;
    u_char      *p, *last, *slash;
    ngx_int_t    n;
    ngx_uint_t   i;

    last = word->data + word->len;

    if (word->len > 7 && ngx_strncmp(word->data, "active=", 7) == 0) {
        n = ngx_atoi(word->data + 7, word->len - 7);

        if (n == NGX_ERROR || n == 0) {
            return NGX_ERROR;
        }

        l->active = n;
        return NGX_OK;
    }

    for (i = 0; i < 3; i++) {
        len = ngx_strlen(ngx_http_reverie_limit_names[i]);

        if (word->len <= len || word->data[len] != '='
            || ngx_strncmp(word->data, ngx_http_reverie_limit_names[i], len)
               != 0)
        {
            continue;
        }

        p = word->data + len + 1;
        slash = ngx_strlchr(p, last, '/');

        if (slash == NULL || last - slash != 2) {
            return NGX_ERROR;
        }

        /* cost is counted in ten-thousandths */

        n = i == 2 ? ngx_atofp(p, slash - p, 4) : ngx_atoi(p, slash - p);

        if (n == NGX_ERROR || n == 0) {
            return NGX_ERROR;
        }

        l->amount[i] = i == 2 ? (double) n / 10000 : (double) n;

        switch (slash[1]) {

        case 's':
            l->period[i] = 1000;
            return NGX_OK;

        case 'm':
            l->period[i] = 60 * 1000;
            return NGX_OK;

        case 'h':
            l->period[i] = 3600 * 1000;
            return NGX_OK;

        case 'd':
            l->period[i] = 24 * 3600 * 1000;
            return NGX_OK;
        }

        return NGX_ERROR;
    }

    return NGX_ERROR;
}


/* The limits of the key where it has some, else those of the location. */

static void
ngx_http_reverie_limit_merge(ngx_http_reverie_client_t *client,
    ngx_http_reverie_limits_t *l)
{
    ngx_uint_t                  i;
    ngx_http_reverie_limits_t  *own;

    ngx_memzero(l, sizeof(ngx_http_reverie_limits_t));

    if (client->lcf->limits) {
        *l = *client->lcf->limits;
    }

    if (client->key == NULL) {
        return;
    }

    own = &client->key->limits;

    for (i = 0; i < 3; i++) {
        if (own->period[i]) {
            l->amount[i] = own->amount[i];
            l->period[i] = own->period[i];
        }
    }

    if (own->active) {
        l->active = own->active;
    }
}


/* Fills a (zeros) from the batch; false: err says why none of it may run. */

ngx_uint_t
ngx_http_reverie_limit_admit(ngx_http_reverie_client_t *client,
    rv_batch *batch, ngx_http_reverie_admission_t *a, rv_error *err)
{
    size_t                          i;
    double                          amount[3];
    rv_task                        *task;
    ngx_str_t                       key;
    ngx_uint_t                      ok;
    rv_task_info                    info;
    ngx_http_reverie_zone_t        *zone;
    ngx_http_reverie_limits_t       limits;
    ngx_http_reverie_limit_node_t  *node;

    for (i = 0; i < rv_batch_size(batch); i++) {
        task = rv_batch_task(batch, i);

        if (task == NULL) {
            continue;
        }

        info = rv_task_facts(task);

        if (info.results) {
            a->tasks++;
            a->results += info.results;
            a->cost += info.cost > 0 ? info.cost : 0;
        }
    }

    ngx_http_reverie_limit_merge(client, &limits);

    if (a->tasks == 0
        || (!limits.active && !limits.period[0] && !limits.period[1]
            && !limits.period[2]))
    {
        return 1;
    }

    zone = client->zone;
    a->zone = zone;
    a->limits = limits;

    key.data = a->key;
    key.len = ngx_min(client->limit_key.len, sizeof(a->key) - 1);

    if (client->key) {

        /* a colon is in no address, so that names cannot meet them */

        key.len = ngx_snprintf(a->key, sizeof(a->key), "key:%V",
                               &client->key->name)
                  - a->key;

    } else {
        ngx_memcpy(a->key, client->limit_key.data, key.len);
    }

    a->key_len = key.len;

    amount[0] = 1;
    amount[1] = a->results;
    amount[2] = a->cost;

    ngx_shmtx_lock(&zone->shpool->mutex);

    node = ngx_http_reverie_limit_find(zone, &key, 1);

    if (node == NULL) {
        ngx_shmtx_unlock(&zone->shpool->mutex);

        a->zone = NULL;
        ngx_http_reverie_limit_refuse(err, RV_BUSY, "serviceUnavailable",
                                      1000, "no memory is left to count in");
        return 0;
    }

    ngx_http_reverie_limit_flow(node, &limits);

    ok = ngx_http_reverie_limit_check(node, &limits, a, amount, err);

    if (ok) {
        for (i = 0; i < 3; i++) {
            node->used[i] += amount[i];
        }

        ngx_http_reverie_limit_worker(node)->active += a->tasks;
    }

    ngx_shmtx_unlock(&zone->shpool->mutex);

    if (!ok) {
        a->zone = NULL;
    }

    return ok;
}


/*
 * The tasks are over; what was not made costs nothing, nor does what had been
 * made for earlier ones.
 */

void
ngx_http_reverie_limit_release(ngx_http_reverie_admission_t *a)
{
    double                            share, unpaid;
    ngx_str_t                         key;
    ngx_http_reverie_zone_t          *zone;
    ngx_http_reverie_limit_node_t    *node;
    ngx_http_reverie_limit_worker_t  *worker;

    zone = a->zone;

    if (zone == NULL) {
        return;
    }

    a->zone = NULL;

    key.data = a->key;
    key.len = a->key_len;

    share = a->made < a->results
            ? (double) (a->results - a->made) / a->results : 0;

    unpaid = share + (a->results ? (double) a->cached / a->results : 0);

    ngx_shmtx_lock(&zone->shpool->mutex);

    node = ngx_http_reverie_limit_find(zone, &key, 0);

    if (node) {
        worker = ngx_http_reverie_limit_worker(node);
        worker->active -= ngx_min(worker->active, a->tasks);

        if (worker->active == 0) {
            worker->pid = 0;
        }

        node->used[1] -= ngx_min(node->used[1], share * a->results);
        node->used[2] -= ngx_min(node->used[2], unpaid * a->cost);
    }

    ngx_shmtx_unlock(&zone->shpool->mutex);
}


/* With the mutex.  A new client starts with nothing used. */

static ngx_http_reverie_limit_node_t *
ngx_http_reverie_limit_find(ngx_http_reverie_zone_t *zone, ngx_str_t *key,
    ngx_uint_t create)
{
    size_t                          size;
    uint32_t                        hash;
    ngx_uint_t                      tries;
    ngx_queue_t                    *q;
    ngx_http_reverie_limit_node_t  *node, *old;

    hash = ngx_crc32_short(key->data, key->len);

    node = (ngx_http_reverie_limit_node_t *)
               ngx_str_rbtree_lookup(&zone->sh->tree, key, hash);

    if (node) {
        ngx_queue_remove(&node->queue);
        ngx_queue_insert_head(&zone->sh->clients, &node->queue);
        return node;
    }

    if (!create) {
        return NULL;
    }

    size = sizeof(ngx_http_reverie_limit_node_t) + key->len;

    for (tries = 0; tries < 8; tries++) {

        node = ngx_slab_calloc_locked(zone->shpool, size);
        if (node) {
            break;
        }

        /* the one longest unused without a task goes */

        for (q = ngx_queue_last(&zone->sh->clients);
             q != ngx_queue_sentinel(&zone->sh->clients);
             q = ngx_queue_prev(q))
        {
            old = ngx_queue_data(q, ngx_http_reverie_limit_node_t, queue);

            if (ngx_http_reverie_limit_active(old) == 0) {
                break;
            }
        }

        if (q == ngx_queue_sentinel(&zone->sh->clients)) {
            return NULL;
        }

        ngx_queue_remove(q);
        ngx_rbtree_delete(&zone->sh->tree, &old->sn.node);
        ngx_slab_free_locked(zone->shpool, old);
        zone->sh->evictions++;
    }

    if (node == NULL) {
        return NULL;
    }

    ngx_memcpy(node->key, key->data, key->len);
    node->sn.str.data = node->key;
    node->sn.str.len = key->len;
    node->sn.node.key = hash;

    ngx_rbtree_insert(&zone->sh->tree, &node->sn.node);
    ngx_queue_insert_head(&zone->sh->clients, &node->queue);

    return node;
}


/* Tasks of workers that died do not count. */

static ngx_uint_t
ngx_http_reverie_limit_active(ngx_http_reverie_limit_node_t *node)
{
    ngx_uint_t                        i, sum;
    ngx_http_reverie_limit_worker_t  *w;

    sum = 0;

    for (i = 0; i < NGX_HTTP_REVERIE_LIMIT_WORKERS; i++) {
        w = &node->workers[i];

        if (w->pid && w->pid != ngx_pid && kill(w->pid, 0) == -1
            && ngx_errno == NGX_ESRCH)
        {
            w->pid = 0;
            w->active = 0;
        }

        sum += w->active;
    }

    return sum;
}


static ngx_http_reverie_limit_worker_t *
ngx_http_reverie_limit_worker(ngx_http_reverie_limit_node_t *node)
{
    ngx_uint_t                        i;
    ngx_http_reverie_limit_worker_t  *w, *free;

    free = &node->workers[0];

    for (i = 0; i < NGX_HTTP_REVERIE_LIMIT_WORKERS; i++) {
        w = &node->workers[i];

        if (w->pid == ngx_pid) {
            return w;
        }

        if (w->pid == 0) {
            free = w;
        }
    }

    if (free->pid == 0) {
        free->pid = ngx_pid;
    }

    return free;
}


/* What was used flows off evenly: the whole amount in one period. */

static void
ngx_http_reverie_limit_flow(ngx_http_reverie_limit_node_t *node,
    ngx_http_reverie_limits_t *limits)
{
    double       gone;
    ngx_uint_t   i;
    ngx_msec_t   now;

    now = ngx_current_msec;

    for (i = 0; i < 3; i++) {

        if (limits->period[i] == 0) {
            node->used[i] = 0;

        } else if ((ngx_msec_int_t) (now - node->at[i]) > 0) {
            gone = (double) (now - node->at[i]) * limits->amount[i]
                   / limits->period[i];
            node->used[i] = gone < node->used[i] ? node->used[i] - gone : 0;
        }

        node->at[i] = now;
    }
}


static ngx_uint_t
ngx_http_reverie_limit_check(ngx_http_reverie_limit_node_t *node,
    ngx_http_reverie_limits_t *limits, ngx_http_reverie_admission_t *a,
    double *amount, rv_error *err)
{
    double       over;
    ngx_uint_t   i, active;
    ngx_msec_t   wait;
    const char  *time;

    static const char *const  what[] = { "requests", "pictures" };

    active = ngx_http_reverie_limit_active(node);

    if (limits->active && active + a->tasks > limits->active) {
        ngx_http_reverie_limit_refuse(err, RV_RATE_LIMIT, "rateLimitExceeded",
                                      1000, "%ui tasks wait or run already, "
                                      "of %ui that may", active,
                                      limits->active);
        a->reason = NGX_HTTP_REVERIE_REFUSED_ACTIVE;
        return 0;
    }

    for (i = 0; i < 3; i++) {

        if (limits->period[i] == 0) {
            continue;
        }

        over = node->used[i] + amount[i] - limits->amount[i];

        if (over <= 1e-9) {
            continue;
        }

        time = limits->period[i] == 1000 ? "second"
               : limits->period[i] == 60 * 1000 ? "minute"
               : limits->period[i] == 3600 * 1000 ? "hour" : "day";

        /* more than a whole period's amount never fits */

        wait = amount[i] > limits->amount[i]
               ? NGX_MAX_INT_T_VALUE
               : (ngx_msec_t) (over * limits->period[i] / limits->amount[i])
                 + 1;

        if (i == 2) {
            ngx_http_reverie_limit_refuse(err, RV_QUOTA, "insufficientCredits",
                                          wait, "the budget of %.4f US "
                                          "dollars per %s is used up to %.4f",
                                          limits->amount[i], time,
                                          node->used[i]);
            a->reason = NGX_HTTP_REVERIE_REFUSED_COST;
            return 0;
        }

        a->reason = NGX_HTTP_REVERIE_REFUSED_RATE;

        if (amount[i] > limits->amount[i]) {
            ngx_http_reverie_limit_refuse(err, RV_VALIDATION,
                                          "maxResultsExceeded", wait,
                                          "%.0f pictures at once are more "
                                          "than the %.0f per %s that are "
                                          "allowed", amount[i],
                                          limits->amount[i], time);
            return 0;
        }

        ngx_http_reverie_limit_refuse(err, RV_RATE_LIMIT, "rateLimitExceeded",
                                      wait, "the limit is %.0f %s per %s",
                                      limits->amount[i], what[i], time);
        return 0;
    }

    return 1;
}


static void
ngx_http_reverie_limit_refuse(rv_error *err, rv_status status,
    const char *code, ngx_msec_t retry, const char *format, ...)
{
    u_char   *p;
    va_list   args;

    ngx_memzero(err, sizeof(rv_error));

    err->status = status;
    err->retry_after_ms = retry == NGX_MAX_INT_T_VALUE ? -1 : (int64_t) retry;

    ngx_cpystrn((u_char *) err->code, (u_char *) code, sizeof(err->code));

    va_start(args, format);
    p = ngx_vslprintf((u_char *) err->message,
                      (u_char *) err->message + sizeof(err->message) - 1,
                      format, args);
    va_end(args);

    *p = '\0';
}
