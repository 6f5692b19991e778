/* One job: submitted, run or cancelled, and ended exactly once.  Everything the running side says
 * arrives through the port; nothing of it reaches the host before rv_dispatch. */
#include "context.h"

#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "base/clock.h"
#include "deliver.h"
#include "durable.h"
#include "inputs.h"
#include "outbox.h"
#include "route.h"

enum { WARNING_MAX = 8192, WAIT_MAX_MS = 600000 };

void rv__list_add(rv__list *l, rv_job *j)
{
    j->is_waiting = true;
    j->wait_next = NULL;
    j->wait_prev = l->last;
    if (l->last)
        l->last->wait_next = j;
    else
        l->first = j;
    l->last = j;
}

void rv__list_remove(rv__list *l, rv_job *j)
{
    j->is_waiting = false;
    if (j->wait_prev)
        j->wait_prev->wait_next = j->wait_next;
    else
        l->first = j->wait_next;
    if (j->wait_next)
        j->wait_next->wait_prev = j->wait_prev;
    else
        l->last = j->wait_prev;
}

/* ---- references ---- */

rv_job *rv_job_ref(rv_job *j)
{
    atomic_fetch_add_explicit(&j->refs, 1, memory_order_relaxed);
    return j;
}

static void job_free(rv_job *j)
{
    for (size_t i = 0; i < j->count; i++) {
        if (j->images)
            rv_image_unref(j->images[i]);
        if (j->items)
            rv__free(j->items[i]);
    }
    for (size_t i = 0; i < j->warning_count; i++) {
        rv__free(j->warnings[i].message);
        rv__free(j->warnings[i].json);
    }
    for (size_t i = 0; j->given && i < j->count; i++)
        rv__free(j->given[i]);
    for (size_t i = 0; j->cached.images && i < j->count; i++)
        rv_image_unref(j->cached.images[i]);
    rv__free(j->cached.images);
    rv__durable_ending_free(&j->ending);
    rv_image_unref(j->news.preview);
    rv__inputs_free(j->inputs);
    rv__free(j->upload_marks);
    rv__free(j->given);
    rv__free(j->earlier);
    rv__free(j->id);
    rv__free(j->images);
    rv__free(j->items);
    rv__free(j->order);
    rv__free(j->shown_images);
    rv__free(j->results_url);
    rv_batch_unref(j->batch);
    rv__context_unref(j->r);
    rv__free(j);
}

void rv_job_unref(rv_job *j)
{
    if (j && atomic_fetch_sub_explicit(&j->refs, 1, memory_order_acq_rel) == 1)
        job_free(j);
}

/* ---- live jobs ---- */

static rv_job **index_of(rv *r, const char *id)
{
    unsigned h = 2166136261u;
    for (const char *p = id; *p; p++)
        h = (h ^ (unsigned char)*p) * 16777619u;
    return &r->index[h % RV__INDEX];
}

rv_job *rv__job_find(rv *r, const char *id)
{
    rv_job *j = *index_of(r, id);
    while (j && strcmp(j->id, id) != 0)
        j = j->index_next;
    return j;
}

static void leave_index(rv *r, rv_job *j)
{
    for (rv_job **at = index_of(r, j->id); *at; at = &(*at)->index_next) {
        if (*at == j) {
            *at = j->index_next;
            return;
        }
    }
}

void rv__job_forget(rv_job *j)
{
    rv *r = j->r;
    if (j->id)
        leave_index(r, j);
    r->stored_count -= j->is_stored;
    if (j->live_prev)
        j->live_prev->live_next = j->live_next;
    else
        r->live = j->live_next;
    if (j->live_next)
        j->live_next->live_prev = j->live_prev;
    j->is_live = false;
    r->live_count--;
    if (j->is_stored)
        rv__durable_more(r);
    rv_job_unref(j);
}

static void remember(rv *r, rv_job *j)
{
    j->live_next = r->live;
    if (r->live)
        r->live->live_prev = j;
    r->live = j;
    j->is_live = true;
    r->live_count++;
    r->stored_count += j->is_stored;
    if (j->id) {
        rv_job **at = index_of(r, j->id);
        j->index_next = *at;
        *at = j;
    }
}

/* ---- the running side ---- */

static void count_end(const rv_job *j)
{
    rv__total *t = j->r->totals;
    const char *name = j->port.attempts ? j->port.executor : NULL;
    while (name && t < j->r->totals + RV__TOTALS && t->executor && strcmp(t->executor, name) != 0)
        t++;
    if (!name || j->inner == RV_STOPPED || t == j->r->totals + RV__TOTALS)
        return;
    t->executor = name;
    t->done += j->inner == RV_DONE;
    t->failed += j->inner == RV_FAILED;
    for (size_t i = 0; i < j->count; i++) {
        double cost = j->images[i] ? rv_image_facts(j->images[i]).cost : 0;
        t->images += j->images[i] != NULL;
        t->cost += cost > 0 ? cost : 0;
    }
}

size_t rv__job_totals(rv *r, rv__total out[RV__TOTALS])
{
    size_t n = 0;
    pthread_mutex_lock(&r->lock);
    for (; n < RV__TOTALS && r->totals[n].executor; n++)
        out[n] = r->totals[n];
    pthread_mutex_unlock(&r->lock);
    return n;
}

void rv__job_finish(rv_job *j, rv_status status, const rv_error *err)
{
    bool is_complete = j->news.images == j->count;
    j->is_held = j->uploads && status == RV_OK && is_complete && !j->broken &&
                 !atomic_load(&j->cancel);
    if (j->is_held)
        return; /* rv__job_uploaded goes on */
    if (status == RV_OK && is_complete && !j->broken) {
        j->inner = RV_DONE;
    } else if (j->broken) {
        j->inner = RV_FAILED;
    } else if (status == RV_CANCELLED || atomic_load(&j->cancel)) {
        j->inner = RV_STOPPED;
        rv__fail(&j->error, RV_CANCELLED, "the task was cancelled");
    } else if (status == RV_OK) {
        j->inner = RV_FAILED;
        rv__fail(&j->error, RV_INTERNAL, "%zu of %zu pictures were made", j->news.images, j->count);
    } else {
        j->inner = RV_FAILED;
        j->error = *err;
        j->error.status = status;
    }
    j->news.end = true;
    count_end(j);
    rv__durable_end(j);
    rv__event_post(j);
}

static void port_started(rv__port *port)
{
    rv_job *j = (rv_job *)port;
    pthread_mutex_lock(&j->r->lock);
    if (j->inner == RV_QUEUED) {
        j->inner = RV_RUNNING;
        j->news.started = true;
        rv__event_post(j);
    }
    pthread_mutex_unlock(&j->r->lock);
}

static void port_step(rv__port *port, size_t index, int step, int steps, rv_image *preview)
{
    rv_job *j = (rv_job *)port;
    pthread_mutex_lock(&j->r->lock);
    rv__news *n = &j->news;
    rv_image *old = n->preview;
    bool is_kept = old && !preview && n->step && n->step_index == index; /* nobody saw it yet */
    n->preview = is_kept ? old : rv_image_ref(preview);
    n->step = true;
    n->step_index = index;
    n->step_now = step;
    n->step_count = steps;
    rv__event_post(j);
    pthread_mutex_unlock(&j->r->lock);
    if (!is_kept)
        rv_image_unref(old);
}

/* The first thing that goes wrong with a picture fails the job and stops the executor. */
static void break_job(rv_job *j, const rv_error *err)
{
    pthread_mutex_lock(&j->r->lock);
    if (!j->broken) {
        j->broken = true;
        j->error = *err;
    }
    pthread_mutex_unlock(&j->r->lock);
    atomic_store(&j->cancel, true);
}

static void port_item(rv__port *port, size_t index, rv_image *image, char *item)
{
    rv_job *j = (rv_job *)port;
    bool is_kept = j->is_stored || (j->id && j->r->desk && rv__outbox_wanted(j->task));
    if (is_kept && image && index < j->count && !rv__durable_item(j, index, &item)) {
        rv_image_unref(image);
        rv__free(item);
        return;
    }
    char *recipe = image && !item ? rv__recipe_of(j->task, index) : NULL;
    if (recipe)
        rv__image_set_recipe(image, recipe); /* a saved file without it is still a picture */
    rv__free(recipe);
    pthread_mutex_lock(&j->r->lock);
    bool is_new = image && index < j->count && !j->images[index] && !j->broken;
    if (is_new) {
        j->images[index] = image;
        j->items[index] = item;
        j->order[j->news.images++] = index;
        rv__event_post(j);
    }
    pthread_mutex_unlock(&j->r->lock);
    if (!is_new) {
        rv_image_unref(image);
        rv__free(item);
    }
}

static void port_image(rv__port *port, size_t index, rv_image *image)
{
    rv_job *j = (rv_job *)port;
    char *item = NULL;
    rv_error err;
    bool is_given = j->given && index < j->count && j->given[index];
    rv_status s = is_given ? RV_OK
                           : rv__deliver(j->task, index, image, &j->delivery, j->store, &item, &err);
    while (s != RV_OK && rv__durable_try_again(j, &err))
        s = rv__deliver(j->task, index, image, &j->delivery, j->store, &item, &err);
    if (s != RV_OK) {
        rv_image_unref(image);
        break_job(j, &err);
        return;
    }
    port_item(port, index, image, item);
}

static bool port_cancelled(const rv__port *port)
{
    return atomic_load_explicit(&((const rv_job *)port)->cancel, memory_order_relaxed);
}

static void go(rv_job *j);

/* One executor is through with the job: the end, or the next one's turn.  Lock not held. */
static void attempt_ended(rv_job *j, rv_status status, const rv_error *err)
{
    rv *r = j->r;
    if (status == RV_OK && r->cache)
        rv__cache_keep(r->cache, j);
    int64_t ms = rv__clock_ms() - j->begun_ms + 1;
    pthread_mutex_lock(&r->lock);
    r->running--;
    if (status == RV_OK)
        r->task_ms = r->task_ms ? (7 * r->task_ms + ms) / 8 : ms;
    if (!j->port.executor)
        j->port.executor = rv__route_name(j);
    bool goes_on = rv__route_next(j, status);
    if (goes_on)
        j->port.executor = NULL;
    else
        rv__job_finish(j, status, err);
    pthread_mutex_unlock(&r->lock);
    if (!goes_on)
        return;
    rv__context_log(r, RV_LOG_WARN, "task %s goes to %s: %s", rv__task_uuid(j->task),
                    rv__route_name(j), err->message);
    go(j);
}

static void port_end(rv__port *port, rv_status status, const rv_error *err)
{
    attempt_ended((rv_job *)port, status, err);
}

static void write_text(rv__buf *b, const char *key, const char *value)
{
    if (!value || !*value)
        return;
    rv__buf_addf(b, ",\"%s\":", key);
    rv__json_write_string(b, value);
}

static char *warning_json(const rv_job *j, const char *code, const char *parameter,
                          const char *message)
{
    rv__buf b;
    rv__buf_init(&b, WARNING_MAX);
    rv__buf_adds(&b, "{\"code\":");
    rv__json_write_string(&b, code ? code : "warning");
    write_text(&b, "message", message);
    write_text(&b, "parameter", parameter);
    write_text(&b, "taskType", rv__task_type(j->task));
    write_text(&b, "taskUUID", rv__task_uuid(j->task));
    rv__buf_adds(&b, "}");
    return rv__buf_take(&b, NULL);
}

/* A warning that finds no memory is dropped: the picture matters more. */
static void port_warn(rv__port *port, const char *code, const char *parameter,
                      const char *message)
{
    rv_job *j = (rv_job *)port;
    rv__warning w = {rv__strdup(message), warning_json(j, code, parameter, message),
                     code && strcmp(code, "uploadFailed") == 0};
    pthread_mutex_lock(&j->r->lock);
    bool is_kept = w.message && w.json && j->warning_count < RV__WARNINGS;
    if (is_kept)
        j->warnings[j->warning_count++] = w;
    pthread_mutex_unlock(&j->r->lock);
    if (!is_kept) {
        rv__free(w.message);
        rv__free(w.json);
    }
}

/* ---- uploads of a task that somebody waits for ---- */

static uint64_t mark_of(const char *item)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (const char *p = item; *p; p++)
        h = (h ^ (unsigned char)*p) * UINT64_C(1099511628211);
    return h ? h : 1;
}

void rv__job_uploads(rv_job *j, size_t index, const char *item, bool undo)
{
    uint64_t mark = undo ? 0 : mark_of(item);
    pthread_mutex_lock(&j->r->lock);
    if (!j->upload_marks)
        j->upload_marks = rv__calloc(j->count, sizeof *j->upload_marks);
    if (j->upload_marks && (j->upload_marks[index] != 0) != (mark != 0)) {
        j->upload_marks[index] = mark;
        j->uploads += undo ? -1 : 1;
    }
    pthread_mutex_unlock(&j->r->lock);
}

void rv__job_uploaded(rv *r, const rv__post *post, bool ok, const char *message)
{
    rv_job *j = rv__job_find(r, post->task);
    if (!j || post->index < 0 || (uint64_t)post->index >= j->count)
        return;
    pthread_mutex_lock(&r->lock);
    uint64_t *mark = j->upload_marks ? &j->upload_marks[post->index] : NULL;
    bool is_ours = mark && *mark && *mark == mark_of(post->body);
    pthread_mutex_unlock(&r->lock);
    if (!is_ours)
        return;
    if (!ok)
        port_warn(&j->port, "uploadFailed", "uploadEndpoint", message);
    pthread_mutex_lock(&r->lock);
    *mark = 0;
    j->uploads--;
    if (!j->uploads && j->is_held)
        rv__job_finish(j, RV_OK, NULL);
    pthread_mutex_unlock(&r->lock);
}

static bool port_input(const rv__port *port, const char *parameter, const uint8_t **bytes,
                       size_t *len)
{
    return rv__inputs_get(((const rv_job *)port)->inputs, parameter, bytes, len);
}

static bool port_note(rv__port *port, const char *text)
{
    rv_job *j = (rv_job *)port;
    return !j->is_stored || rv__durable_note(j, text);
}

void rv__job_run(rv_job *j)
{
    rv *r = j->r;
    rv_error err;
    rv__error_clear(&err);
    j->begun_ms = rv__clock_ms();
    rv_status s = port_cancelled(&j->port) ? RV_CANCELLED : rv__inputs_open(j, &err);
    if (s == RV_OK) {
        j->port.attempts++;
        s = r->executor->run(r->self, j->task, &j->port, &err);
    }
    attempt_ended(j, s, &err);
}

/* ---- the owner's side ---- */

static void identity_free(rv__identity *who, size_t count)
{
    for (size_t i = 0; who->given && i < count; i++)
        rv__free(who->given[i]);
    rv__free(who->given);
    rv__free(who->sent);
    rv__free(who->id);
}

/* Takes what `who` holds, also on failure. */
static rv_job *job_new(rv *r, rv_task *t, const rv_sink *sink, const rv__delivery *delivery,
                       rv__identity *who)
{
    size_t n = rv__task_results(t);
    rv_job *j = rv__calloc(1, sizeof *j);
    if (!j) {
        identity_free(who, n);
        return NULL;
    }
    j->id = who->id;
    j->is_stored = who->is_stored;
    j->is_drawn = who->is_drawn || rv__task_seed_drawn(t);
    j->given = who->given;
    j->earlier = who->sent;
    atomic_init(&j->refs, 2); /* the caller's and the library's */
    atomic_init(&j->cancel, false);
    rv__context_ref(r);
    j->r = r;
    j->task = t;
    j->batch = rv_batch_ref(rv__task_batch(t));
    j->count = n;
    j->images = rv__calloc(n, sizeof *j->images);
    j->items = rv__calloc(n, sizeof *j->items);
    j->order = rv__calloc(n, sizeof *j->order);
    j->shown_images = rv__calloc(n, sizeof *j->shown_images);
    j->sink = sink ? *sink : (rv_sink){0};
    rv__error_clear(&j->error);
    if (delivery) {
        j->delivery = *delivery;
        j->results_url = delivery->results_url ? rv__strdup(delivery->results_url) : NULL;
        j->delivery.results_url = j->results_url;
        j->store = r->store;
    }
    j->port = (rv__port){.delivery = &j->delivery,
                         .started = port_started,
                         .step = port_step,
                         .image = port_image,
                         .item = port_item,
                         .cancelled = port_cancelled,
                         .end = port_end,
                         .warn = port_warn,
                         .note = port_note,
                         .earlier = j->earlier,
                         .input = port_input};
    bool has_url = !delivery || !delivery->results_url || j->results_url;
    bool may_need = r->executor->run || r->services;
    bool has_inputs = !may_need || rv__inputs_new(j, &j->inputs) == RV_OK;
    if (j->images && j->items && j->order && j->shown_images && has_url && has_inputs)
        return j;
    job_free(j);
    return NULL;
}

static void enqueue(rv *r, rv_job *j)
{
    rv__list_add(&r->queue, j);
    r->waiting++;
    pthread_cond_signal(&r->work);
}

void rv__job_ready(rv_job *j, rv_status status, const rv_error *err)
{
    rv *r = j->r;
    pthread_mutex_lock(&r->lock);
    bool goes_on = status == RV_OK && !atomic_load(&j->cancel);
    j->has_inputs = goes_on;
    if (!goes_on)
        rv__job_finish(j, status == RV_OK ? RV_CANCELLED : status, err);
    pthread_mutex_unlock(&r->lock);
    if (goes_on)
        go(j);
}

/* Puts the job where it will run.  From here on it ends by an event, even when it could not be
 * started.  Any thread; lock not held. */
static void go(rv_job *j)
{
    rv *r = j->r;
    void *self;
    const rv__executor *x = rv__route_executor(j, &self);
    if (j->inputs && !j->has_inputs && !j->cached.images && rv__route_wants_inputs(j)) {
        rv__inputs_start(j);
        return;
    }
    pthread_mutex_lock(&r->lock);
    j->begun_ms = rv__clock_ms();
    if (x->run)
        enqueue(r, j);
    else
        r->running++;
    pthread_mutex_unlock(&r->lock);
    if (x->run)
        return;
    rv_error err;
    rv__error_clear(&err);
    rv_status s = x->start(self, j->task, &j->port, &err);
    if (s != RV_OK)
        attempt_ended(j, s, &err);
}

static void launch(rv *r, rv_job *j)
{
    rv_error err;
    rv__error_clear(&err);
    if (r->cache && !j->earlier) /* what was begun elsewhere is paid for */
        rv__cache_take(r->cache, j);
    pthread_mutex_lock(&r->lock);
    j->position = j->cached.images ? 0 : r->waiting + r->running;
    j->news.queued = true;
    rv__event_post(j);
    rv_status s = rv__route_first(j, &err);
    if (s != RV_OK)
        rv__job_finish(j, s, &err);
    pthread_mutex_unlock(&r->lock);
    if (s == RV_OK)
        go(j);
}

/* Where others make the tasks, side by side, the time of one has waiting in it. */
int64_t rv__job_wait_ms(rv *r, size_t tasks)
{
    pthread_mutex_lock(&r->lock);
    bool is_here = r->executor && r->executor->run && r->worker_count;
    int64_t ms = r->task_ms ? r->task_ms : -1;
    if (ms > 0 && is_here)
        ms = (int64_t)tasks * ms / r->worker_count;
    pthread_mutex_unlock(&r->lock);
    return ms > WAIT_MAX_MS ? WAIT_MAX_MS : ms;
}

static rv_status check_submit(rv *r, const rv_task *t, const rv__delivery *delivery, bool is_stored,
                              rv_error *err)
{
    if (!t || r->closed || !rv__context_is_owner(r) || (r->pid && r->pid != getpid())) {
        rv__context_misuse(r, "rv_submit without a task, on another thread, or after fork");
        return rv__fail(err, RV_MISUSE, "submit without a task, on another thread, or after fork");
    }
    if (strcmp(rv__task_type(t), "imageInference") != 0)
        return rv__fail(err, RV_UNSUPPORTED, "only imageInference tasks can be submitted");
    size_t others = r->live_count - r->stored_count; /* stored tasks have been accepted before */
    if (!is_stored && others >= (size_t)r->setup.queue) {
        rv__fail(err, RV_BUSY, "the queue is full: %zu tasks wait or run", others);
        if (err)
            err->retry_after_ms = rv__job_wait_ms(r, others);
        return RV_BUSY;
    }
    rv_status s = rv__inputs_check(r, t, delivery ? delivery->results_url : NULL, err);
    if (s != RV_OK)
        return s;
    r->pid = getpid();
    r->owner = pthread_self();
    s = rv__workers_start(r, err);
    return s == RV_OK ? rv__route_open(r, t, err) : s;
}

rv_status rv__job_submit(rv *r, rv_task *t, const rv_sink *sink, const rv__delivery *delivery,
                         const rv__identity *who, rv_job **out, rv_error *err)
{
    *out = NULL;
    rv__identity identity = who ? *who : (rv__identity){0};
    rv_status s = check_submit(r, t, delivery, identity.is_stored, err);
    if (s != RV_OK) {
        identity_free(&identity, t ? rv__task_results(t) : 0);
        return s;
    }
    rv_job *j = job_new(r, t, sink, delivery, &identity);
    if (!j)
        return rv__fail(err, RV_MEMORY, "out of memory");
    remember(r, j);
    *out = j;
    launch(r, j);
    return RV_OK;
}

rv_status rv_submit(rv *r, rv_task *t, const rv_sink *sink, rv_job **out)
{
    return rv__job_submit(r, t, sink, NULL, NULL, out, NULL);
}

void rv_job_cancel(rv_job *j)
{
    rv *r = j->r;
    atomic_store(&j->cancel, true);
    pthread_mutex_lock(&r->lock);
    if (j->is_waiting) {
        rv__list_remove(&r->queue, j);
        r->waiting--;
        rv__job_finish(j, RV_CANCELLED, NULL);
    } else if (j->is_held) {
        rv__job_finish(j, RV_OK, NULL); /* the uploads go on without it */
    } else if (j->cached.images) { /* its thread asks before each picture */
    } else if (r->services && j->is_elsewhere && j->inner <= RV_RUNNING) {
        r->services->cancel(r->services_self, &j->port);
        if (r->io && !r->stop)
            rv__io_wake(r->io); /* its pictures may be on their way */
    } else if (r->executor && r->executor->cancel && j->inner <= RV_RUNNING) {
        r->executor->cancel(r->self, &j->port);
    } else if (j->inner == RV_QUEUED && r->io && !r->stop) {
        rv__io_wake(r->io); /* its pictures are on their way */
    }
    pthread_mutex_unlock(&r->lock);
}

bool rv__job_is_local(const rv_job *j)
{
    pthread_mutex_lock(&j->r->lock);
    bool is_local = !j->is_elsewhere && !j->port.has_others && !j->r->setup.daemon;
    pthread_mutex_unlock(&j->r->lock);
    return is_local;
}

rv_state rv_job_state(const rv_job *j)
{
    return j->shown;
}

const rv_error *rv_job_error(const rv_job *j)
{
    return j->shown == RV_FAILED || j->shown == RV_STOPPED ? &j->shown_error : NULL;
}

/* Nothing writes them once the job has ended, nor is_cached after the first picture, so no lock is
 * needed then. */
rv_job_info rv_job_facts(const rv_job *j)
{
    bool has_begun = j->shown >= RV_DONE && j->port.attempts;
    rv_job_info info = {.is_cached = j->port.is_cached};
    if (has_begun) {
        info.executor = j->port.executor;
        info.attempts = j->port.attempts;
    }
    return info;
}

size_t rv_job_images(const rv_job *j)
{
    return j->count;
}

rv_image *rv_job_image(const rv_job *j, size_t i)
{
    return i < j->count && j->shown_images[i] ? j->images[i] : NULL;
}

const char *rv__job_item(const rv_job *j, size_t i)
{
    return i < j->count && j->shown_images[i] ? j->items[i] : NULL;
}

/* Nothing adds to them once the job has ended, so no lock is needed then. */
const char *rv_job_warning(const rv_job *j, size_t i)
{
    return j->shown >= RV_DONE && i < j->warning_count ? j->warnings[i].message : NULL;
}

void rv__job_warnings_write(const rv_job *j, bool comma, rv__buf *out)
{
    for (size_t i = 0; i < j->warning_count; i++) {
        if (comma || i)
            rv__buf_adds(out, ",");
        rv__buf_adds(out, j->warnings[i].json);
    }
}

bool rv__job_has_errors(const rv_job *j)
{
    for (size_t i = 0; j->shown >= RV_DONE && i < j->warning_count; i++) {
        if (j->warnings[i].is_error)
            return true;
    }
    return false;
}

void rv__job_notes_json(const rv_job *j, bool errors, bool comma, rv__buf *out)
{
    for (size_t i = 0; j->shown >= RV_DONE && i < j->warning_count; i++) {
        if (j->warnings[i].is_error != errors)
            continue;
        if (comma)
            rv__buf_adds(out, ",");
        rv__buf_adds(out, j->warnings[i].json);
        comma = true;
    }
}

void rv__job_warnings_json(const rv_job *j, bool comma, rv__buf *out)
{
    if (j->shown >= RV_DONE)
        rv__job_warnings_write(j, comma, out);
}
