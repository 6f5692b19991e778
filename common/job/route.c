/* See route.h. */
#include "job/route.h"

#include <stdlib.h>
#include <string.h>

#include "job/cache.h"
#include "remote/memo.h"
#include "remote/service.h"

enum { REMOTE_SILENCE_S = 3600 }; /* a server of our own says nothing while it paints */

static const rv__value *entries(const rv *r, const rv_task *t)
{
    const rv__model *m = rv__task_model(t);
    if (r->remote) /* a server that the settings name runs everything */
        return r->remote;
    return m ? rv__json_get(m->card, "executors") : NULL;
}

/* A daemon is always asked first: it goes by its own cards, with keys and certificates of its own. */
static bool has_daemon(const rv *r)
{
    return r->setup.daemon && r->setup.executor != RV__STUB && !r->remote;
}

/* How long the base URL of the OpenAI protocol is that an address means: http(s)://HOST/…/v1, with
 * or without /images/generations.  0: it means something else. */
static size_t base_length(const char *address)
{
    static const char version[] = "/v1", path[] = "/images/generations";
    bool is_http = address && (strncmp(address, "http://", 7) == 0 ||
                               strncmp(address, "https://", 8) == 0);
    size_t n = is_http ? strlen(address) : 0;
    while (n && address[n - 1] == '/')
        n--;
    if (n > sizeof path && strncmp(address + n - sizeof path + 1, path, sizeof path - 1) == 0)
        n -= sizeof path - 1;
    bool is_base =
        n > sizeof version && strncmp(address + n - sizeof version + 1, version, 3) == 0;
    return is_base ? n : 0;
}

/* The one entry for all tasks when the setting daemon names a server's OpenAI protocol. */
static rv_status open_remote(rv *r, rv_error *err)
{
    size_t n = base_length(r->setup.daemon);
    if (!n || r->remote || r->setup.executor == RV__STUB)
        return RV_OK;
    if (r->setup.daemon_key)
        return rv__fail_code(err, RV_VALIDATION, "invalidSetting", "daemon_key",
                             "daemon_key is for addresses that end in /generate; for /v1 the key "
                             "stands in the environment: REVERIE_API_KEY, sent over https only");
    bool has_key = strncmp(r->setup.daemon, "https://", 8) == 0 && getenv("REVERIE_API_KEY");
    char *url = rv__strndup(r->setup.daemon, n), *text = NULL;
    rv__buf b;
    rv__buf_init(&b, 1 << 16);
    rv__buf_adds(&b, "[{\"name\":\"reverie\",\"url\":");
    rv__json_write_string(&b, url ? url : "");
    rv__buf_adds(&b, has_key ? ",\"key_env\":\"REVERIE_API_KEY\"}]" : "}]");
    text = rv__buf_take(&b, NULL);
    r->remote = url && text ? rv__json_parse(text, strlen(text), NULL) : NULL;
    rv__free(url);
    rv__free(text);
    return r->remote ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
}

static bool is_own(const rv__value *entry)
{
    return strcmp(rv__json_get_string(entry, "name", ""), "engine") == 0;
}

static bool has_any(const rv_task *t, const rv__value *names)
{
    for (const rv__value *n = rv__json_first(names); n; n = rv__json_next(n)) {
        if (rv__json_get(rv__task_value(t), rv__json_string(n) ? rv__json_string(n) : ""))
            return true;
    }
    return false;
}

/* The entry's own conditions. */
static bool applies(const rv *r, const rv_task *t, const rv__value *entry)
{
    int64_t max_queue = rv__json_get_int(entry, "max_queue", -1);
    double max_cost = rv__json_get_number(entry, "max_cost", -1);
    const rv__value *price = rv__json_get(entry, "price"), *only = rv__json_get(entry, "only");
    double cost = price ? rv__task_price(t, price) : rv__task_cost(t);
    if (max_queue >= 0 && r->waiting + r->running >= (size_t)max_queue)
        return false;
    if (max_cost >= 0 && cost * (double)rv__task_results(t) > max_cost)
        return false;
    return (!only || has_any(t, only)) && !has_any(t, rv__json_get(entry, "except"));
}

/* Can our own executor do it at all?  The engine needs weights. */
static bool own_can(const rv *r, const rv_task *t)
{
    bool is_engine = r->executor->run && r->setup.executor != RV__STUB;
    return !is_engine || rv__json_get(rv__task_model(t)->engine, "weights");
}

/* The next entry after `last` (NULL: the first) that can be used; *err keeps why the last service
 * could not. */
static const rv__value *choose(const rv *r, const rv_task *t, const rv__value *last, rv_error *err)
{
    const rv__value *e = last ? rv__json_next(last) : rv__json_first(entries(r, t));
    for (; e; e = rv__json_next(e)) {
        const rv__service *s = rv__service_find(rv__json_get_string(e, "name", ""));
        if (!applies(r, t, e))
            continue;
        if (is_own(e) && !has_daemon(r) && own_can(r, t))
            return e;
        if (s && r->services && rv__service_ready(e) && rv__service_check(s, t, e, err) == RV_OK)
            return e;
    }
    return NULL;
}

rv_status rv__route_open(rv *r, const rv_task *t, rv_error *err)
{
    bool is_needed = false;
    rv_status s = open_remote(r, err);
    if (s != RV_OK)
        return s;
    for (const rv__value *e = rv__json_first(entries(r, t)); e && !r->services && !is_needed;
         e = rv__json_next(e))
        is_needed = !is_own(e) && rv__service_ready(e);
    if (!is_needed)
        return RV_OK;
    s = rv__context_guard(r, err);
    rv__executor_options o = {.ca_file = r->setup.ca_file,
                              .connect_ms = (int)r->setup.service_connect_ms,
                              .silence_s =
                                  r->remote ? REMOTE_SILENCE_S : (int)r->setup.service_silence,
                              .pause_ms = (int)r->setup.service_pause_ms,
                              .log = rv__context_log_hook,
                              .log_user = r};
    return s == RV_OK ? rv__services_open(&o, r->guard, &r->services, &r->services_self, err) : s;
}

/* The entry that a process before this one had sent the task to. */
static const rv__value *choose_again(const rv_job *j, rv_error *err)
{
    for (const rv__value *e = rv__json_first(entries(j->r, j->task)); e; e = rv__json_next(e)) {
        const rv__service *s = rv__service_find(rv__json_get_string(e, "name", ""));
        char *url = s && j->r->services && rv__service_ready(e) ? rv__service_url(s, e) : NULL;
        bool is_it = url && rv__memo_is_about(j->earlier, s->name, url);
        rv__free(url);
        if (is_it)
            return e;
    }
    rv__fail_code(err, RV_PROVIDER, "taskInterrupted", NULL,
                  "the task was sent to a service that the model's card, or the environment, does "
                  "not have any more; it may be done and charged there");
    return NULL;
}

/* NULL: our own executor, whatever the card says. */
static void take(rv_job *j, const rv__value *entry)
{
    rv_error why;
    bool may_go_on = entry || has_daemon(j->r);
    j->port.route = entry;
    j->is_elsewhere = entry && !is_own(entry);
    j->port.has_others = may_go_on && choose(j->r, j->task, entry, &why);
}

rv_status rv__route_first(rv_job *j, rv_error *err)
{
    rv_error why;
    rv__error_clear(&why);
    if (j->cached.images)
        return RV_OK;
    if (j->earlier)
        take(j, choose_again(j, &why));
    else
        take(j, has_daemon(j->r) ? NULL : choose(j->r, j->task, NULL, &why));
    if (j->port.route || why.status == RV_OK)
        return RV_OK;
    *err = why;
    return why.status;
}

/* What another executor may do better.  A service that does not take our key or wants money did
 * nothing. */
static bool may_pass(const rv_job *j, rv_status s)
{
    return rv_status_retryable(s) || (j->is_elsewhere && (s == RV_AUTH || s == RV_QUOTA));
}

bool rv__route_next(rv_job *j, rv_status status)
{
    rv_error why;
    if (status == RV_OK || !j->port.has_others || j->port.is_final || j->broken ||
        j->news.images || j->r->stop || atomic_load(&j->cancel) || !may_pass(j, status))
        return false;
    const rv__value *next = choose(j->r, j->task, j->port.route, &why);
    if (!next)
        return false;
    take(j, next);
    return true;
}

const rv__executor *rv__route_executor(const rv_job *j, void **self)
{
    if (j->cached.images) {
        *self = j->r->cache;
        return rv__cache_executor();
    }
    *self = j->is_elsewhere ? j->r->services_self : j->r->self;
    return j->is_elsewhere ? j->r->services : j->r->executor;
}

bool rv__route_wants_inputs(const rv_job *j)
{
    if (!j->is_elsewhere)
        return j->r->executor->run;
    return rv__service_find(rv__json_get_string(j->port.route, "name", ""))->wants_files;
}

const char *rv__route_name(const rv_job *j)
{
    if (j->cached.images)
        return rv__cache_executor()->name;
    if (!j->is_elsewhere)
        return j->r->executor->name;
    return rv__service_find(rv__json_get_string(j->port.route, "name", ""))->name;
}

rv__provider rv__route_provider(const rv_job *j)
{
    const char *name = j ? rv_job_facts(j).executor : NULL;
    const rv__service *s = name ? rv__service_find(name) : NULL;
    return s ? (rv__provider){s->name, s->label} : (rv__provider){"reverie", "Reverie"};
}
