/* Worker threads.  They start with the first task and not before (a host may fork until then), take
 * no signals, and are not tied to the processor of the thread that started them. */
#include <sched.h>
#include <signal.h>

#include "cache.h"
#include "context.h"
#include "threads.h"

/* The processors the program was given when it was loaded.  nginx ties its workers to single
 * processors after that, which must not be inherited by threads that compute. */
static cpu_set_t processors;
static bool processors_known;

__attribute__((constructor)) static void remember_processors(void)
{
    processors_known = sched_getaffinity(0, sizeof processors, &processors) == 0;
}

void rv__thread_prepare(const char *name)
{
    if (processors_known)
        sched_setaffinity(0, sizeof processors, &processors);
    pthread_setname_np(pthread_self(), name);
}

/* Blocks what a handler of the host might be for; faults stay deliverable. */
static void block_signals(sigset_t *old)
{
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, old);
}

int rv__thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t old;
    block_signals(&old);
    int rc = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

static rv_job *next_job(rv *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->stop && !r->queue.first)
        pthread_cond_wait(&r->work, &r->lock);
    rv_job *j = r->stop ? NULL : r->queue.first;
    if (j) {
        rv__list_remove(&r->queue, j);
        r->waiting--;
        r->running++;
        bool is_news = j->inner == RV_QUEUED; /* it may have been tried elsewhere before */
        j->news.started |= is_news;
        j->inner = RV_RUNNING;
        if (is_news)
            rv__event_post(j); /* only with news: a job without any has ended */
    }
    pthread_mutex_unlock(&r->lock);
    return j;
}

/* A model that cannot be loaded now is reported; the tasks that need it will say so again. */
static void preload(rv *r)
{
    pthread_mutex_lock(&r->lock);
    const rv__model *model = r->preload;
    r->preload = NULL;
    pthread_mutex_unlock(&r->lock);
    rv_error err;
    if (model && r->executor->load && r->executor->load(r->self, model, &err) != RV_OK)
        rv__context_log(r, RV_LOG_ERROR, "preload: %s", err.message);
}

static void *work(void *arg)
{
    rv *r = arg;
    rv__thread_prepare("reverie-work");
    preload(r);
    for (rv_job *j = next_job(r); j; j = next_job(r))
        rv__job_run(j);
    return NULL;
}

static rv_status open_executor(rv *r, rv_error *err)
{
    rv__executor_options o = {.threads = (int)r->setup.threads,
                              .device = r->setup.device,
                              .stub_ms = (int)r->setup.stub_ms,
                              .preview_steps = (int)r->setup.preview_steps,
                              .url = r->setup.daemon,
                              .key = r->setup.daemon_key,
                              .log = rv__context_log_hook,
                              .log_user = r};
    if (r->setup.executor == RV__STUB)
        return rv__stub_open(&o, &r->executor, &r->self, err);
    if (r->setup.daemon)
        return rv__daemon_open(&o, &r->executor, &r->self, err);
    return rv__engine_open(&o, &r->executor, &r->self, err);
}

rv_status rv__workers_start(rv *r, rv_error *err)
{
    if (!r->executor) {
        rv_status s = open_executor(r, err);
        if (s != RV_OK) {
            r->executor = NULL;
            return s;
        }
    }
    if (!r->executor->run)
        return RV_OK;
    if (r->setup.cache && !r->cache) {
        rv_status s = rv__cache_new(r->setup.cache, r->setup.cache_size, &r->cache, err);
        if (s != RV_OK)
            return s;
    }
    int wanted = r->executor->workers > RV__WORKERS_MAX ? RV__WORKERS_MAX : r->executor->workers;
    do {
        if (r->worker_count && r->worker_count >= wanted)
            return RV_OK;
        if (rv__thread_start(&r->workers[r->worker_count], work, r) != 0)
            break;
        r->worker_count++;
    } while (true);
    return r->worker_count ? RV_OK : rv__fail(err, RV_MEMORY, "no thread can be started");
}

void rv__workers_stop(rv *r)
{
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    rv__io_close(r->io); /* nobody wakes it any more: see rv_job_cancel */
    r->io = NULL;
    for (int i = 0; i < r->worker_count; i++)
        pthread_join(r->workers[i], NULL);
    r->worker_count = 0;
    rv__cache_free(r->cache);
    if (r->services)
        r->services->close(r->services_self);
    if (r->executor)
        r->executor->close(r->self);
    pthread_mutex_lock(&r->lock);
    r->executor = r->services = NULL;
    r->cache = NULL;
    r->self = r->services_self = NULL;
    pthread_mutex_unlock(&r->lock);
    rv__json_free(r->remote); /* no job is on its way any more */
    r->remote = NULL;
}
