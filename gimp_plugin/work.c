/* See work.h. */
#include "work.h"

#include <gio/gio.h>
#include <glib/gi18n-lib.h>
#include <openssl/evp.h>
#include <string.h>

#include "recipe.h"
#include "trace.h"
#include "work_internal.h"

static void change(grv_work *w, const rv_event *e)
{
    if (w->fn)
        w->fn(w->user, w, e);
}

static void finish(grv_work *w, grv_state state, GError *error)
{
    w->state = state;
    g_clear_error(&w->error);
    w->error = error;
    change(w, NULL);
}

/* ---- making one ---- */

/* Takes the text, which may be NULL when it could not be made. */
static bool parse_body(grv_work *w, char *body, GError **error)
{
    if (!body)
        return false;
    rv_batch_unref(w->batch);
    w->batch = rv_batch_parse(grv_engine_context(w->engine), body, strlen(body));
    bool ok = w->batch && rv_batch_issues(w->batch, NULL) == 0;
    if (!ok && w->batch) {
        char *issues = grv_engine_issues(w->batch);
        g_set_error_literal(error, GRV_ERROR, RV_VALIDATION, issues);
        g_free(issues);
    } else if (!ok) {
        g_set_error(error, GRV_ERROR, RV_MEMORY, _("out of memory"));
    }
    if (ok)
        w->facts = rv_task_facts(rv_batch_task(w->batch, 0));
    g_free(body);
    return ok;
}

static bool is_under_way(const grv_work *w)
{
    return w->chores > 0 || (w->job && !w->has_ended);
}

static void destroy(grv_work *w)
{
    for (size_t i = 0; w->results && i < w->wanted; i++) {
        rv_image_unref(w->results[i].exact);
        g_free(w->results[i].hash);
        g_free(w->results[i].recipe);
    }
    g_free(w->results);
    rv_job_unref(w->job);
    rv_batch_unref(w->batch);
    grv_scene_free(&w->scene);
    grv_request_free(w->request);
    g_clear_error(&w->error);
    g_free(w);
}

void grv_work_free(grv_work *w)
{
    if (!w)
        return;
    w->fn = NULL;
    grv_engine_forget(w->engine, w);
    if (w->idle)
        g_source_remove(w->idle);
    w->idle = 0;
    if (w->job)
        rv_job_cancel(w->job);
    w->orphan = is_under_way(w);
    if (!w->orphan)
        destroy(w);
}

static grv_work *make(grv_engine *e, GimpImage *image, GimpDrawable **drawables, grv_request *q,
                      GimpLayer *again, const cJSON *result, GError **error)
{
    grv_work *w = g_new0(grv_work, 1);
    w->engine = e;
    w->request = q;
    if (grv_scene_take(e, image, drawables, q, again, result, &w->scene, error) &&
        parse_body(w, grv_scene_body(&w->scene, q, false, error), error)) {
        w->wanted = w->facts.results;
        w->results = g_new0(grv_result, w->wanted);
        return w;
    }
    grv_work_free(w);
    return NULL;
}

grv_work *grv_work_new(grv_engine *e, GimpImage *image, GimpDrawable **drawables,
                       const grv_request *q, GError **error)
{
    return make(e, image, drawables, grv_request_copy(q), NULL, NULL, error);
}

grv_work *grv_work_again(grv_engine *e, GimpLayer *layer, bool same_seed, GError **error)
{
    cJSON *result = NULL;
    grv_request *q = grv_recipe_read(GIMP_ITEM(layer), &result, error);
    grv_work *w = NULL;
    if (q && !same_seed)
        grv_request_drop(q, "seed");
    if (q)
        w = make(e, gimp_item_get_image(GIMP_ITEM(layer)), NULL, q, layer, result, error);
    cJSON_Delete(result);
    return w;
}

/* ---- chores: what takes time and needs no GIMP, in a thread ---- */

/* Ends with `done` in the main loop; the work stays until then. */
static void begin_chore(grv_work *w, void *data, GTaskThreadFunc run, GAsyncReadyCallback done)
{
    GTask *t = g_task_new(NULL, NULL, done, w);
    g_task_set_task_data(t, data, NULL);
    g_task_set_priority(t, G_PRIORITY_HIGH);
    w->chores++;
    g_task_run_in_thread(t, run);
    g_object_unref(t);
}

/* Whether somebody still wants to know; else the work may be gone. */
static bool end_chore(grv_work *w)
{
    w->chores--;
    if (w->orphan && !is_under_way(w)) {
        destroy(w);
        return false;
    }
    return !w->orphan;
}

/* ---- pictures that came ---- */

/* The part of a picture of plan.area that is the place. */
static rv_image *cut(const grv_scene *s, rv_image *full)
{
    rv_image_info f = rv_image_facts(full);
    const uint8_t *px = rv_image_pixels(full);
    size_t c = (size_t)f.channels, row = (size_t)s->place.w * c;
    size_t left = (size_t)(s->place.x - s->plan.area.x) * c,
           top = (size_t)(s->place.y - s->plan.area.y);
    rv_image *out = NULL;
    uint8_t *part = g_malloc((size_t)s->place.h * row);
    for (size_t y = 0; y < (size_t)s->place.h; y++)
        memcpy(part + y * row, px + (top + y) * (size_t)f.width * c + left, row);
    rv_image_from_pixels(part, s->place.w, s->place.h, f.channels, &out);
    g_free(part);
    return out;
}

static bool is_same(grv_rect a, grv_rect b)
{
    return a.x == b.x && a.y == b.y && a.w == b.w && a.h == b.h;
}

/* A picture as the model made it becomes one of the place (ref). */
static rv_image *make_exact(const grv_scene *s, rv_image *made, rv_status *status)
{
    rv_image_info f = rv_image_facts(made);
    rv_image *full = NULL;
    *status = rv_image_pixels(made) ? RV_OK : RV_FORMAT;
    if (*status == RV_OK && f.width == s->plan.area.w && f.height == s->plan.area.h)
        full = rv_image_ref(made);
    else if (*status == RV_OK)
        *status = rv_image_resize(made, s->plan.area.w, s->plan.area.h, &full);
    if (!full || is_same(s->plan.area, s->place))
        return full;
    rv_image *exact = cut(s, full);
    *status = exact ? RV_OK : RV_MEMORY;
    rv_image_unref(full);
    return exact;
}

static char *hash_of(rv_image *picture)
{
    rv_image_info f = rv_image_facts(picture);
    size_t len = (size_t)f.width * (size_t)f.height * (size_t)f.channels;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (!EVP_Digest(rv_image_pixels(picture), len, digest, &size, EVP_sha256(), NULL))
        return NULL;
    GString *text = g_string_sized_new(2 * (gsize)size);
    for (unsigned i = 0; i < size; i++)
        g_string_append_printf(text, "%02x", digest[i]);
    return g_string_free(text, FALSE);
}

/* One result on its way through a thread, which touches nothing else of the work. */
typedef struct arrival {
    const grv_scene *scene;
    size_t index;
    rv_image *made, *exact;
    char *hash;
} arrival;

static void run_arrival(GTask *t, gpointer source, gpointer data, GCancellable *c)
{
    arrival *a = data;
    rv_status status;
    a->exact = make_exact(a->scene, a->made, &status);
    a->hash = a->exact ? hash_of(a->exact) : NULL;
    g_task_return_boolean(t, TRUE);
}

static void conclude(grv_work *w);

static void on_arrival(GObject *source, GAsyncResult *result, gpointer user)
{
    grv_work *w = user;
    arrival *a = g_task_get_task_data(G_TASK(result));
    grv_result *r = &w->results[a->index];
    rv_event e = {.kind = RV_EVENT_IMAGE, .index = a->index};
    if (!r->exact)
        r->exact = g_steal_pointer(&a->exact);
    if (!r->hash)
        r->hash = g_steal_pointer(&a->hash);
    rv_image_unref(a->exact);
    rv_image_unref(a->made);
    g_free(a->hash);
    g_free(a);
    if (!end_chore(w))
        return;
    change(w, &e);
    conclude(w);
}

static void receive(grv_work *w, size_t i)
{
    arrival *a = g_new0(arrival, 1);
    *a = (arrival){&w->scene, i, rv_image_ref(rv_job_image(w->job, i)), NULL, NULL};
    grv_trace("received");
    begin_chore(w, a, run_arrival, on_arrival);
}

/* ---- running ---- */

/* The job has ended, and every picture of it is ready. */
static void conclude(grv_work *w)
{
    if (!w->has_ended || w->chores || w->state >= GRV_DONE)
        return;
    rv_state state = rv_job_state(w->job);
    const rv_error *why = rv_job_error(w->job);
    if (state == RV_DONE)
        finish(w, GRV_DONE, NULL);
    else if (state == RV_STOPPED)
        finish(w, GRV_STOPPED, g_error_new(GRV_ERROR, RV_CANCELLED, _("stopped")));
    else
        finish(w, GRV_FAILED,
               g_error_new(GRV_ERROR, why ? (int)why->status : RV_INTERNAL, "%s",
                           why ? why->message : "?"));
}

static void on_end(grv_work *w)
{
    w->has_ended = true;
    if (!w->orphan)
        conclude(w);
    else if (!is_under_way(w))
        destroy(w);
}

static void on_event(void *user, rv_job *job, const rv_event *e)
{
    grv_work *w = user;
    if (e->kind == RV_EVENT_END) {
        on_end(w);
        return;
    }
    if (w->orphan)
        return;
    w->state = e->kind == RV_EVENT_QUEUED ? GRV_QUEUED : GRV_RUNNING;
    if (e->kind == RV_EVENT_IMAGE && e->index < w->wanted)
        receive(w, e->index);
    else
        change(w, e);
}

static void submit(grv_work *w)
{
    rv_sink sink = {on_event, w};
    rv_status s =
        rv_submit(grv_engine_context(w->engine), rv_batch_task(w->batch, 0), &sink, &w->job);
    if (s != RV_OK)
        finish(w, GRV_FAILED,
               g_error_new(GRV_ERROR, (int)s, "%s",
                           s == RV_VALIDATION
                               ? _("the server's address is not valid, or its key would "
                                   "be readable on the way: use https")
                               : rv_status_text(s)));
    else
        w->state = GRV_QUEUED;
}

/* Pictures of a body are packed in a thread: a large one takes a second. */
static void run_packing(GTask *t, gpointer source, gpointer data, GCancellable *c)
{
    const grv_work *w = data;
    GError *error = NULL;
    char *body = grv_scene_body(&w->scene, w->request, true, &error);
    if (body)
        g_task_return_pointer(t, body, g_free);
    else
        g_task_return_error(t, error);
}

static void on_packed(GObject *source, GAsyncResult *result, gpointer user)
{
    grv_work *w = user;
    GError *error = NULL;
    char *body = g_task_propagate_pointer(G_TASK(result), &error);
    bool is_wanted = end_chore(w) && w->state == GRV_STARTING && !w->idle;
    if (!is_wanted) {
        g_clear_error(&error);
        g_free(body);
    } else if (parse_body(w, body, &error)) {
        submit(w);
    } else {
        finish(w, GRV_FAILED, error);
    }
}

/* The context may be another one than the request was checked with. */
static void on_ready(void *user, const GError *error)
{
    grv_work *w = user;
    if (error)
        finish(w, GRV_FAILED, g_error_copy(error));
    else
        begin_chore(w, w, run_packing, on_packed);
}

void grv_work_start(grv_work *w, grv_work_fn *fn, void *user)
{
    w->fn = fn;
    w->user = user;
    w->state = GRV_STARTING;
    grv_engine_ready(w->engine, on_ready, w);
}

static gboolean stop_before_start(gpointer user)
{
    ((grv_work *)user)->idle = 0;
    finish(user, GRV_STOPPED, g_error_new(GRV_ERROR, RV_CANCELLED, _("stopped")));
    return G_SOURCE_REMOVE;
}

void grv_work_cancel(grv_work *w)
{
    if (w->state == GRV_QUEUED || w->state == GRV_RUNNING) {
        rv_job_cancel(w->job);
    } else if (w->state == GRV_STARTING) {
        grv_engine_forget(w->engine, w);
        if (!w->idle)
            w->idle = g_idle_add(stop_before_start, w);
    }
}

/* ---- facts ---- */

grv_state grv_work_state(const grv_work *w)
{
    return w->state;
}

const GError *grv_work_error(const grv_work *w)
{
    return w->error;
}

const grv_request *grv_work_request(const grv_work *w)
{
    return w->request;
}

const grv_scene *grv_work_scene(const grv_work *w)
{
    return &w->scene;
}

char *grv_work_warnings(const grv_work *w)
{
    GString *text = g_string_new(NULL);
    const rv_issue *list = NULL;
    rv_batch_issues(w->batch, &list);
    for (; list && list->message; list++) {
        if (list->warning)
            g_string_append_printf(text, "%s%s", text->len ? "; " : "", list->message);
    }
    for (size_t i = 0; w->job && rv_job_warning(w->job, i); i++)
        g_string_append_printf(text, "%s%s", text->len ? "; " : "", rv_job_warning(w->job, i));
    return g_string_free(text, text->len == 0);
}

size_t grv_work_wanted(const grv_work *w)
{
    return w->wanted;
}

bool grv_work_has(const grv_work *w, size_t i)
{
    return w->job && i < w->wanted && rv_job_image(w->job, i) != NULL;
}

uint64_t grv_work_seed(const grv_work *w, size_t i)
{
    return grv_work_has(w, i) ? rv_image_facts(rv_job_image(w->job, i)).seed : 0;
}

rv_image *grv_work_picture(grv_work *w, size_t i, GError **error)
{
    if (!grv_work_has(w, i)) {
        g_set_error(error, GRV_ERROR, RV_NOT_FOUND, _("this picture has not come"));
        return NULL;
    }
    grv_result *r = &w->results[i];
    if (!r->exact) { /* the thread failed: once more, for the reason */
        rv_status status;
        r->exact = make_exact(&w->scene, rv_job_image(w->job, i), &status);
        if (!r->exact) {
            g_set_error(error, GRV_ERROR, (int)status, "%s", rv_status_text(status));
            return NULL;
        }
    }
    return rv_image_ref(r->exact);
}

/* ---- recipes ---- */

static cJSON *rect_json(grv_rect r)
{
    int v[4] = {r.x, r.y, r.w, r.h};
    return cJSON_CreateIntArray(v, 4);
}

static char *write_recipe(grv_work *w, size_t i)
{
    grv_request *q = grv_request_copy(w->request);
    cJSON *result = cJSON_CreateObject();
    GDateTime *now = g_date_time_new_now_utc();
    char *time = g_date_time_format_iso8601(now);
    int dx = w->scene.grow_left, dy = w->scene.grow_top; /* the canvas has grown by then */
    grv_rect place = w->scene.place, bounds = w->scene.bounds;
    int working[2] = {w->scene.plan.w, w->scene.plan.h};
    grv_request_set_text(q, "model", w->facts.model);
    grv_request_set_seed(q, grv_work_seed(w, i));
    grv_request_drop(q, "numberResults");
    cJSON_AddStringToObject(result, "reverie", RV_VERSION);
    cJSON_AddStringToObject(result, "time", time);
    cJSON_AddItemToObject(result, "place",
                          rect_json((grv_rect){place.x + dx, place.y + dy, place.w, place.h}));
    cJSON_AddItemToObject(result, "working", cJSON_CreateIntArray(working, 2));
    if (!grv_rect_is_empty(bounds))
        cJSON_AddItemToObject(
            result, "bounds",
            rect_json((grv_rect){bounds.x + dx, bounds.y + dy, bounds.w, bounds.h}));
    if (w->scene.source)
        cJSON_AddNumberToObject(result, "source", w->scene.source);
    if (w->results[i].hash)
        cJSON_AddStringToObject(result, "sha256", w->results[i].hash);
    char *text = grv_request_text(q, result);
    cJSON_Delete(result);
    grv_request_free(q);
    g_date_time_unref(now);
    g_free(time);
    return text;
}

char *grv_work_recipe(grv_work *w, size_t i)
{
    if (!grv_work_has(w, i))
        return NULL;
    if (!w->results[i].recipe)
        w->results[i].recipe = write_recipe(w, i);
    return g_strdup(w->results[i].recipe);
}
