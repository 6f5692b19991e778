/* See engine.h. */
#include "engine.h"

#include <cjson/cJSON.h>
#include <glib-unix.h>
#include <glib/gi18n-lib.h>
#include <math.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon.h"
#include "request.h"
#include "secret.h"
#include "settings.h"

typedef struct waiter {
    grv_ready_fn *fn;
    void *user;
} waiter;

struct grv_engine {
    bool previews;
    rv *r;
    guint source; /* of the context's descriptor */
    grv_daemon *daemon;
    char *address; /* what the context was told, NULL: nothing yet */
    char *model;
    char *server;    /* whose key is looked for */
    bool is_looking; /* on_key will come        */
    bool is_closed;  /* freed while looking     */
    GQueue waiting;  /* waiter */
    guint calling;   /* idle source that tells them */
};

/* ---- life ---- */

static gboolean on_descriptor(int fd, GIOCondition condition, gpointer user)
{
    rv_dispatch(((grv_engine *)user)->r);
    return G_SOURCE_CONTINUE;
}

static bool add_cards(grv_engine *e, GError **error)
{
    char **folders = grv_settings_model_folders();
    rv_error err;
    bool ok = true;
    for (char **f = folders; ok && *f; f++) {
        ok = rv_set(e->r, "models", *f, &err) == RV_OK;
        if (!ok)
            g_set_error(error, GRV_ERROR, (int)err.status, "%s: %s", *f, err.message);
    }
    g_strfreev(folders);
    return ok;
}

static void close_context(grv_engine *e)
{
    if (e->source)
        g_source_remove(e->source);
    e->source = 0;
    rv_close(e->r);
    e->r = NULL;
}

static bool open_context(grv_engine *e, GError **error)
{
    if (rv_open(&e->r) != RV_OK) {
        g_set_error(error, GRV_ERROR, RV_MEMORY, _("out of memory"));
        return false;
    }
    rv_set(e->r, "preview_steps", e->previews ? "1" : "0", NULL);
    return add_cards(e, error);
}

grv_engine *grv_engine_new(bool previews, GError **error)
{
    grv_engine *e = g_new0(grv_engine, 1);
    e->previews = previews;
    g_queue_init(&e->waiting);
    if (open_context(e, error))
        return e;
    grv_engine_free(e);
    return NULL;
}

void grv_engine_free(grv_engine *e)
{
    if (!e)
        return;
    if (e->calling)
        g_source_remove(e->calling);
    g_queue_clear_full(&e->waiting, g_free);
    close_context(e);
    grv_daemon_free(e->daemon);
    g_free(e->address);
    g_free(e->model);
    if (e->is_looking) {
        e->is_closed = true;
        return;
    }
    g_free(e->server);
    g_free(e);
}

rv *grv_engine_context(grv_engine *e)
{
    return e->r;
}

/* ---- getting ready ---- */

static void tell(grv_engine *e, const GError *error)
{
    for (guint n = g_queue_get_length(&e->waiting); n > 0;
         n--) { /* those who ask meanwhile come next time */
        waiter *w = g_queue_pop_head(&e->waiting);
        if (!w)
            return;
        w->fn(w->user, error);
        g_free(w);
    }
}

/* A context keeps its address once it has sent something, so another address needs another context.
 */
static bool use_address(grv_engine *e, const char *address, const char *key, GError **error)
{
    rv_error err;
    if (g_strcmp0(e->address, address) == 0)
        return true;
    if (e->address && rv_dispatch(e->r) > 0) {
        g_set_error(error, GRV_ERROR, RV_BUSY,
                    _("the engine has changed while tasks were running; try again"));
        return false;
    }
    if (e->address) {
        close_context(e);
        if (!open_context(e, error))
            return false;
    }
    if (rv_set(e->r, "daemon", address, &err) != RV_OK ||
        (key && rv_set(e->r, "daemon_key", key, &err) != RV_OK)) {
        g_set_error(error, GRV_ERROR, (int)err.status, "%s", err.message);
        return false;
    }
    e->source = g_unix_fd_add(rv_fd(e->r), G_IO_IN, on_descriptor, e);
    g_free(e->address);
    e->address = g_strdup(address);
    return true;
}

static void use(grv_engine *e, const char *address, const char *key)
{
    GError *error = NULL;
    use_address(e, address, key, &error);
    tell(e, error);
    g_clear_error(&error);
}

static void on_key(void *user, const char *key, const GError *error)
{
    grv_engine *e = user;
    e->is_looking = false;
    if (e->is_closed) { /* it was waited for: see grv_engine_free */
        g_free(e->server);
        g_free(e);
        return;
    }
    if (error)
        tell(e, error);
    else
        use(e, e->server, key);
}

/* Servers may ask for a key; sockets of this machine do not. */
static void on_daemon(void *user, const char *address, const GError *error)
{
    grv_engine *e = user;
    bool is_server = address && g_str_has_prefix(address, "http");
    if (error) {
        tell(e, error);
    } else if (is_server && g_strcmp0(e->address, address) != 0) {
        g_free(e->server);
        e->server = g_strdup(address);
        if (!e->is_looking) {
            e->is_looking = true;
            grv_secret_look(address, on_key, e);
        }
    } else {
        use(e, address, NULL);
    }
}

static gboolean begin(gpointer user)
{
    grv_engine *e = user;
    e->calling = 0;
    if (!e->daemon)
        e->daemon = grv_daemon_new(on_daemon, e);
    grv_daemon_want(e->daemon);
    return G_SOURCE_REMOVE;
}

void grv_engine_ready(grv_engine *e, grv_ready_fn *fn, void *user)
{
    waiter *w = g_new0(waiter, 1);
    *w = (waiter){fn, user};
    g_queue_push_tail(&e->waiting, w);
    if (!e->calling)
        e->calling = g_idle_add(begin, e);
}

void grv_engine_forget(grv_engine *e, void *user)
{
    for (GList *l = e->waiting.head, *next; l; l = next) {
        next = l->next;
        if (((waiter *)l->data)->user != user)
            continue;
        g_free(l->data);
        g_queue_delete_link(&e->waiting, l);
    }
}

const char *grv_engine_where(const grv_engine *e)
{
    return e->daemon ? grv_daemon_where(e->daemon) : "";
}

/* ---- models ---- */

static cJSON *read_json(char *text)
{
    cJSON *v = text ? cJSON_Parse(text) : NULL;
    rv_free(text);
    return v;
}

/* The one of the settings, else the one whose alias is "default", else the first. */
const char *grv_engine_model(grv_engine *e)
{
    if (e->model)
        return e->model;
    char *wanted = grv_settings_get("model", "default");
    cJSON *models = read_json(rv_models_json(e->r));
    const cJSON *m = NULL;
    const char *found = models && models->child
                            ? cJSON_GetStringValue(cJSON_GetObjectItem(models->child, "id"))
                            : NULL;
    cJSON_ArrayForEach(m, models)
    {
        const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(m, "id"));
        bool is_it = g_strcmp0(id, wanted) == 0;
        const cJSON *alias = NULL;
        cJSON_ArrayForEach(alias, cJSON_GetObjectItem(m, "aliases"))
        {
            is_it |= g_strcmp0(cJSON_GetStringValue(alias), wanted) == 0;
        }
        found = is_it ? id : found;
    }
    e->model = g_strdup(found ? found : wanted);
    cJSON_Delete(models);
    g_free(wanted);
    return e->model;
}

static int number(const cJSON *field, const char *name, int otherwise)
{
    const cJSON *v = cJSON_GetObjectItem(field, name);
    return cJSON_IsNumber(v) ? v->valueint : otherwise;
}

bool grv_engine_limits(grv_engine *e, const char *model, grv_limits *out, bool *takes_pictures)
{
    cJSON *schema = read_json(rv_schema_json(e->r, model));
    const cJSON *fields = cJSON_GetObjectItem(schema, "properties");
    const cJSON *w = cJSON_GetObjectItem(fields, "width"),
                *h = cJSON_GetObjectItem(fields, "height");
    *out = (grv_limits){.min_w = number(w, "minimum", 128),
                        .max_w = number(w, "maximum", 2048),
                        .min_h = number(h, "minimum", 128),
                        .max_h = number(h, "maximum", 2048),
                        .step = number(w, "multipleOf", 16),
                        .native = (int64_t)number(w, "default", 1024) * number(h, "default", 1024)};
    *takes_pictures = cJSON_GetObjectItem(fields, "seedImage") != NULL;
    bool is_known = fields != NULL;
    cJSON_Delete(schema);
    return is_known;
}

char *grv_engine_issues(const rv_batch *b)
{
    const rv_issue *list = NULL;
    GString *text = g_string_new(NULL);
    rv_batch_issues(b, &list);
    for (; list && list->message; list++) {
        if (list->warning)
            continue;
        g_string_append_printf(text, "%s%s", text->len ? "; " : "", list->message);
        if (list->nearest && !strstr(list->message, "nearest"))
            g_string_append_printf(text, _(" (nearest: %s)"), list->nearest);
    }
    return g_string_free(text, FALSE);
}

/* ---- the parent ---- */

static gboolean on_parent_gone(int fd, GIOCondition condition, gpointer user)
{
    _exit(0); /* nothing here may wait for a GIMP that is not there; the children are tied to us */
}

void grv_engine_die_with_parent(void)
{
    static int fd = -1;
    if (fd < 0)
        fd = (int)syscall(SYS_pidfd_open, getppid(), 0);
    if (fd >= 0)
        g_unix_fd_add(fd, G_IO_IN, on_parent_gone, NULL);
}
