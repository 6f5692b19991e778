/* Contexts: what belongs together, from rv_open to rv_close, and the calls of the public header
 * that only look things up.  Opening reads nothing and starts nothing. */
#include "context.h"


#include "courier.h"
#include "durable.h"
#include "recent.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool init_locks(rv *r)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0)
        return false;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    bool ok = pthread_mutex_init(&r->lock, NULL) == 0 &&
              pthread_mutex_init(&r->log_lock, NULL) == 0 &&
              pthread_cond_init(&r->work, NULL) == 0 && pthread_cond_init(&r->posted, &attr) == 0;
    pthread_condattr_destroy(&attr);
    return ok;
}

rv_status rv_open(rv **out)
{
    *out = NULL;
    rv *r = rv__calloc(1, sizeof *r);
    if (!r)
        return RV_MEMORY;
    if (!init_locks(r)) {
        rv__free(r);
        return RV_MEMORY;
    }
    atomic_init(&r->refs, 1);
    atomic_init(&r->fetches_refused, 0);
    atomic_init(&r->closing, false);
    rv__setup_init(&r->setup);
    r->fd = -1;
    *out = r;
    return RV_OK;
}

void rv__context_ref(rv *r)
{
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
}

void rv__context_unref(rv *r)
{
    if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_cond_destroy(&r->posted);
    pthread_cond_destroy(&r->work);
    pthread_mutex_destroy(&r->log_lock);
    pthread_mutex_destroy(&r->lock);
    rv__free(r);
}

bool rv__context_is_owner(const rv *r)
{
#ifdef NDEBUG
    return true;
#else
    return !r->pid || pthread_equal(r->owner, pthread_self());
#endif
}

static void cancel_all(rv *r)
{
    for (rv_job *j = r->live; j; j = j->live_next)
        rv_job_cancel(j);
}

/* Jobs that still exist end as stopped, silently. */
static void forget_all(rv *r)
{
    while (r->live) {
        rv_job *j = r->live;
        j->sink = (rv_sink){0};
        j->shown = RV_STOPPED;
        rv__fail(&j->shown_error, RV_CANCELLED, "the context was closed");
        rv__job_forget(j);
    }
}

void rv_close(rv *r)
{
    if (!r)
        return;
    if (r->depth || !rv__context_is_owner(r)) {
        rv__context_misuse(r, "rv_close inside a callback or on another thread");
        return;
    }
    if (r->pid && r->pid != getpid())
        return; /* a fork of a context in use: its threads and locks exist in the parent only */
    atomic_store(&r->closing, true);
    cancel_all(r);
    rv__workers_stop(r);
    r->closed = true;
    rv__courier_close(r);
    rv__event_bring_home(r);
    rv__durable_close(r);
    rv__courier_free(r);
    forget_all(r);
    rv__recent_free(r->recent);
    r->recent = NULL;
    rv__store_close(r->store);
    rv__guard_free(r->guard);
    rv__models_free(r->models);
    rv__setup_free(&r->setup);
    for (size_t i = 0; i < r->model_count; i++)
        rv__free(r->model_paths[i]);
    rv__free(r->model_paths);
    r->store = NULL;
    r->guard = NULL;
    r->models = NULL;
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    rv_set_log(r, NULL, NULL);
    rv__context_unref(r);
}

/* Models named one by one come after the folders' cards: they use those as a pattern and replace
 * them. */
static rv_status add_named_models(rv *r, rv_error *err)
{
    rv_status s = RV_OK;
    for (size_t i = 0; i < r->model_count && s == RV_OK; i++)
        s = rv__models_add(r->models, r->model_paths[i], err);
    return s;
}

static rv_status remember_model(rv *r, const char *path, rv_error *err)
{
    char **longer = rv__realloc(r->model_paths, (r->model_count + 1) * sizeof *longer);
    if (longer)
        r->model_paths = longer;
    char *copy = longer ? rv__strdup(path) : NULL;
    if (!copy)
        return rv__fail(err, RV_MEMORY, "out of memory");
    r->model_paths[r->model_count++] = copy;
    return RV_OK;
}

static rv_status make_models(rv *r, rv_error *err)
{
    if (!r->models)
        r->models = rv__models_new();
    return r->models ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
}

static rv_status add_folder(rv *r, const char *path, rv_error *err)
{
    rv_status s = make_models(r, err);
    if (s == RV_OK)
        s = rv__models_add(r->models, path, err);
    r->models_given |= s == RV_OK;
    return s == RV_OK && r->models_ready ? add_named_models(r, err) : s;
}

/* What is wrong with a model is said now, although it is added after the folders. */
static rv_status add_model(rv *r, const char *path, rv_error *err)
{
    rv__models *trial = rv__models_new();
    rv_status s =
        trial ? rv__models_add(trial, path, err) : rv__fail(err, RV_MEMORY, "out of memory");
    rv__models_free(trial);
    if (s == RV_OK)
        s = remember_model(r, path, err);
    return s == RV_OK && r->models_ready ? rv__models_add(r->models, path, err) : s;
}

rv_status rv_set(rv *r, const char *name, const char *value, rv_error *err)
{
    rv__error_clear(err);
    if (!name || !value)
        return rv__fail(err, RV_MISUSE, "a setting needs a name and a value");
    if (r->pid)
        return rv__fail(err, RV_MISUSE, "settings cannot change after the first submit");
    if (strcmp(name, "models") == 0)
        return add_folder(r, value, err);
    if (strcmp(name, "model") == 0)
        return add_model(r, value, err);
    r->fetch_given |= strncmp(name, "fetch", 5) == 0;
    return rv__setup_set(&r->setup, name, value, err);
}

rv_status rv__context_models(rv *r, rv_error *err)
{
    rv_error why;
    if (r->models_ready)
        return RV_OK;
    rv_status s = make_models(r, err);
    if (s != RV_OK)
        return s;
    bool use_installed = !r->models_given && access(RV_MODELS_DIR, R_OK) == 0;
    if (use_installed && rv__models_add(r->models, RV_MODELS_DIR, &why) != RV_OK)
        rv__context_log(r, RV_LOG_ERROR, "models: %s", why.message);
    if (add_named_models(r, &why) != RV_OK)
        rv__context_log(r, RV_LOG_ERROR, "models: %s", why.message);
    if (r->setup.serve)
        rv__models_keep(r->models, r->setup.serve);
    r->models_ready = true;
    return RV_OK;
}

rv_status rv__context_store(rv *r, rv_error *err)
{
    if (r->store || !r->setup.results_dir)
        return RV_OK;
    return rv__store_open(r->setup.results_dir, &r->store, err);
}

rv_status rv__context_guard(rv *r, rv_error *err)
{
    const rv__setup *s = &r->setup;
    rv__guard_options o = {.mode = (rv__guard_mode)s->fetch,
                           .https_only = s->fetch_https,
                           .allow = s->fetch_allow,
                           .deny = s->fetch_deny,
                           .ports = s->fetch_ports};
    return r->guard ? RV_OK : rv__guard_new(&o, &r->guard, err);
}

rv_status rv__context_io(rv *r, rv_error *err)
{
    rv__io *io = NULL;
    rv_status s = rv__context_guard(r, err);
    if (s == RV_OK && !r->io)
        s = rv__io_open(&io, err);
    if (io) {
        pthread_mutex_lock(&r->lock);
        r->io = io;
        pthread_mutex_unlock(&r->lock);
    }
    return s;
}

bool rv__context_guards(const rv *r)
{
    return r->fetch_given || !r->setup.daemon || r->setup.executor == RV__STUB;
}

rv_status rv__context_begin(rv *r, rv_error *err)
{
    if (r->closed || !rv__context_is_owner(r) || (r->pid && r->pid != getpid()))
        return rv__fail(err, RV_MISUSE, "a call on another thread, or after fork");
    r->pid = getpid();
    r->owner = pthread_self();
    return rv__workers_start(r, err);
}

rv_status rv__context_preload(rv *r, rv_error *err)
{
    rv_status s = rv__context_models(r, err);
    if (s != RV_OK)
        return s;
    r->preload = rv__context_default_model(r);
    if (!r->preload)
        return rv__fail(err, RV_NOT_FOUND, "there is no model to load");
    r->pid = getpid();
    r->owner = pthread_self();
    return rv__workers_start(r, err);
}

const rv__model *rv__context_default_model(rv *r)
{
    if (rv__context_models(r, NULL) != RV_OK || !rv__models_count(r->models))
        return NULL;
    if (r->model_count)
        return rv__models_at(r->models, rv__models_count(r->models) - 1);
    const rv__model *named = rv__models_find(r->models, "default");
    return named ? named : rv__models_at(r->models, 0);
}

const char *rv__context_executor(const rv *r)
{
    if (r->executor)
        return r->executor->name;
    return r->setup.executor == RV__STUB ? "stub" : r->setup.daemon ? "daemon" : "engine";
}

bool rv__context_is_loaded(const rv *r)
{
    return r->executor && (!r->executor->is_loaded || r->executor->is_loaded(r->self));
}

size_t rv__context_model_count(const rv *r)
{
    return r->models ? rv__models_count(r->models) : 0;
}

void rv_set_log(rv *r, rv_log_fn *fn, void *user)
{
    pthread_mutex_lock(&r->log_lock);
    r->log = fn;
    r->log_user = user;
    pthread_mutex_unlock(&r->log_lock);
}

void rv__context_log_hook(void *context, rv_log_level level, const char *message)
{
    rv *r = context;
    pthread_mutex_lock(&r->log_lock);
    if (r->log)
        r->log(r->log_user, level, message);
    pthread_mutex_unlock(&r->log_lock);
}

void rv__context_log(rv *r, rv_log_level level, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    rv__context_log_hook(r, level, line);
}

void rv__context_misuse(rv *r, const char *what)
{
    rv__context_log(r, RV_LOG_ERROR, "misuse: %s", what);
}

rv_batch *rv_batch_parse(rv *r, const char *json, size_t len)
{
    if (rv__context_models(r, NULL) != RV_OK)
        return NULL;
    rv__check_settings s = {.models = r->models,
                            .max_steps = r->setup.max_steps,
                            .max_tasks = r->setup.max_tasks,
                            .lenient = !r->setup.strict,
                            .strict_uuid = r->setup.strict_uuid};
    return rv__batch_parse(&s, json, len);
}

rv_task_info rv_task_facts(const rv_task *t)
{
    const rv__model *model = rv__task_model(t);
    size_t n = rv__task_results(t);
    double cost = model ? rv__task_cost(t) : -1;
    const rv__value *v = rv__task_value(t);
    return (rv_task_info){.type = rv__task_type(t),
                          .uuid = rv__task_uuid(t),
                          .model = model ? model->id : NULL,
                          .results = n,
                          .cost = cost < 0 ? -1 : cost * (double)n,
                          .key = rv__json_get_string(v, "apiKey", NULL),
                          .session = rv__json_get_string(v, "connectionSessionUUID", NULL)};
}

char *rv_schema_json(rv *r, const char *model)
{
    return rv__context_models(r, NULL) == RV_OK ? rv__schema_json(r->models, model) : NULL;
}

char *rv_models_json(rv *r)
{
    return rv__context_models(r, NULL) == RV_OK ? rv__models_json(r->models) : NULL;
}

int rv_fd(rv *r)
{
    return rv__event_fd(r);
}

void rv_free(void *p)
{
    rv__free(p);
}
