/* See work.h. */
#include "work.h"

#include <glib/gi18n-lib.h>
#include <string.h>

#include "recipe.h"
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

static bool parse_body(grv_work *w, GError **error)
{
    char *body = grv_scene_body(&w->scene, w->engine, w->request, error);
    if (!body)
        return false;
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

static grv_work *make(grv_engine *e, GimpImage *image, GimpDrawable **drawables, grv_request *q,
                      GimpLayer *again, const cJSON *result, GError **error)
{
    grv_work *w = g_new0(grv_work, 1);
    w->engine = e;
    w->request = q;
    if (grv_scene_take(e, image, drawables, q, again, result, &w->scene, error) &&
        parse_body(w, error)) {
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

void grv_work_free(grv_work *w)
{
    if (!w)
        return;
    w->fn = NULL;
    grv_engine_forget(w->engine, w);
    if (w->idle)
        g_source_remove(w->idle);
    w->idle = 0;
    if (w->job) {
        rv_job_cancel(w->job);
        w->orphan = w->state == GRV_QUEUED || w->state == GRV_RUNNING;
    }
    if (w->orphan) /* its last event frees it */
        return;
    for (size_t i = 0; w->results && i < w->wanted; i++) {
        rv_image_unref(w->results[i].exact);
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

/* ---- running ---- */

static void on_end(grv_work *w)
{
    rv_state state = rv_job_state(w->job);
    const rv_error *why = rv_job_error(w->job);
    if (w->orphan) {
        w->orphan = false;
        w->state = GRV_STOPPED;
        grv_work_free(w);
        return;
    }
    if (state == RV_DONE)
        finish(w, GRV_DONE, NULL);
    else if (state == RV_STOPPED)
        finish(w, GRV_STOPPED, g_error_new(GRV_ERROR, RV_CANCELLED, _("stopped")));
    else
        finish(w, GRV_FAILED,
               g_error_new(GRV_ERROR, why ? (int)why->status : RV_INTERNAL, "%s",
                           why ? why->message : "?"));
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
    change(w, e);
}

static void on_ready(void *user, const GError *error)
{
    grv_work *w = user;
    rv_sink sink = {on_event, w};
    if (error) {
        finish(w, GRV_FAILED, g_error_copy(error));
        return;
    }
    /* The context may be another one than the request was checked with. */
    GError *own = NULL;
    rv_batch_unref(w->batch);
    w->batch = NULL;
    if (!parse_body(w, &own)) {
        finish(w, GRV_FAILED, own);
        return;
    }
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

/* ---- exact pictures ---- */

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

rv_image *grv_work_picture(grv_work *w, size_t i, GError **error)
{
    const grv_scene *s = &w->scene;
    if (!grv_work_has(w, i)) {
        g_set_error(error, GRV_ERROR, RV_NOT_FOUND, _("this picture has not come"));
        return NULL;
    }
    grv_result *r = &w->results[i];
    if (!r->exact) {
        rv_image *full = NULL;
        rv_status status =
            rv_image_resize(rv_job_image(w->job, i), s->plan.area.w, s->plan.area.h, &full);
        if (status == RV_OK)
            r->exact = is_same(s->plan.area, s->place) ? rv_image_ref(full) : cut(s, full);
        rv_image_unref(full);
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

static void add_hash(cJSON *result, rv_image *picture)
{
    rv_image_info f = rv_image_facts(picture);
    size_t len = (size_t)f.width * (size_t)f.height * (size_t)f.channels;
    char *hash = g_compute_checksum_for_data(G_CHECKSUM_SHA256, rv_image_pixels(picture), len);
    cJSON_AddStringToObject(result, "sha256", hash);
    g_free(hash);
}

static char *write_recipe(grv_work *w, size_t i, rv_image *picture)
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
    add_hash(result, picture);
    char *text = grv_request_text(q, result);
    cJSON_Delete(result);
    grv_request_free(q);
    g_date_time_unref(now);
    g_free(time);
    return text;
}

char *grv_work_recipe(grv_work *w, size_t i)
{
    rv_image *picture = grv_work_picture(w, i, NULL);
    if (picture && !w->results[i].recipe)
        w->results[i].recipe = write_recipe(w, i, picture);
    rv_image_unref(picture);
    return picture ? g_strdup(w->results[i].recipe) : NULL;
}
