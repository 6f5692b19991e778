/* Clients and batches: one context of the core, its settings, its loop, its log.  Events are noted
 * while the core dispatches and handed to Lua afterwards, so Lua code may do anything in a handler,
 * closing included. */
#include "lrv.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { LOG_LINES = 64, LOG_BYTES = 240 };

/* The newest lines of the operator's log; the core writes from any thread. */
typedef struct lrv_log {
    pthread_mutex_t lock;
    unsigned head, count;
    struct {
        rv_log_level level;
        char text[LOG_BYTES];
    } line[LOG_LINES];
} lrv_log;

struct lrv_client {
    rv *r;     /* NULL once closed */
    pid_t pid; /* threads of the core stay in the process that made them */
    lrv_job *live, *news_first, *news_last;
    lrv_log *log;
};

static lrv_client *check(lua_State *L, int i)
{
    lrv_client *c = luaL_checkudata(L, i, LRV_CLIENT);
    if (!c->r)
        luaL_error(L, "misuse: the client is closed");
    if (c->pid != getpid())
        luaL_error(L, "misuse: the client belongs to the process that made it, not to this fork");
    return c;
}

/* ---- life ---- */

static void forget(lrv_client *c, lrv_job *j)
{
    if (j->live_prev)
        j->live_prev->live_next = j->live_next;
    else
        c->live = j->live_next;
    if (j->live_next)
        j->live_next->live_prev = j->live_prev;
    j->client = NULL;
    lrv_job_drop(j);
}

static void close_client(lrv_client *c)
{
    if (!c->r)
        return;
    rv_close(c->r); /* no event follows */
    c->r = NULL;
    c->news_first = c->news_last = NULL;
    while (c->live)
        forget(c, c->live);
    if (c->log &&
        c->pid == getpid()) { /* in a fork its lock may be held by a thread that is not there */
        pthread_mutex_destroy(&c->log->lock);
        free(c->log);
    }
    c->log = NULL;
}

static int client_close(lua_State *L)
{
    close_client(luaL_checkudata(L, 1, LRV_CLIENT));
    return 0;
}

int lrv_client_new(lua_State *L)
{
    lrv_client *c = lua_newuserdata(L, sizeof *c);
    *c = (lrv_client){.pid = getpid()};
    luaL_setmetatable(L, LRV_CLIENT);
    rv_status s = rv_open(&c->r);
    return s == RV_OK ? 1 : lrv_fail(L, s, NULL);
}

static int client_is_closed(lua_State *L)
{
    lua_pushboolean(L, ((lrv_client *)luaL_checkudata(L, 1, LRV_CLIENT))->r == NULL);
    return 1;
}

static int client_set(lua_State *L)
{
    lrv_client *c = check(L, 1);
    rv_error err;
    rv_status s = rv_set(c->r, luaL_checkstring(L, 2), luaL_checkstring(L, 3), &err);
    if (s != RV_OK)
        return lrv_fail(L, s, &err);
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- log ---- */

static void note(void *user, rv_log_level level, const char *message)
{
    lrv_log *log = user;
    pthread_mutex_lock(&log->lock);
    unsigned at = (log->head + log->count) % LOG_LINES;
    if (log->count < LOG_LINES)
        log->count++;
    else
        log->head = (log->head + 1) % LOG_LINES;
    log->line[at].level = level;
    size_t n = strnlen(message, LOG_BYTES - 1);
    memcpy(log->line[at].text, message, n);
    log->line[at].text[n] = '\0';
    pthread_mutex_unlock(&log->lock);
}

static int client_start_log(lua_State *L)
{
    lrv_client *c = check(L, 1);
    if (c->log)
        return 0;
    c->log = calloc(1, sizeof *c->log);
    if (!c->log || pthread_mutex_init(&c->log->lock, NULL) != 0) {
        free(c->log);
        c->log = NULL;
        return luaL_error(L, "not enough memory");
    }
    rv_set_log(c->r, note, c->log);
    return 0;
}

/* client:log_line() -> level, message; nothing when there is none */
static int client_log_line(lua_State *L)
{
    static const char *const words[] = {"error", "warn", "info", "debug"};
    lrv_client *c = check(L, 1);
    char text[LOG_BYTES] = "";
    rv_log_level level = RV_LOG_ERROR;
    bool is_there = false;
    if (c->log) {
        pthread_mutex_lock(&c->log->lock);
        is_there = c->log->count > 0;
        if (is_there) {
            level = c->log->line[c->log->head].level;
            memcpy(text, c->log->line[c->log->head].text, sizeof text);
            c->log->head = (c->log->head + 1) % LOG_LINES;
            c->log->count--;
        }
        pthread_mutex_unlock(&c->log->lock);
    }
    if (!is_there)
        return 0;
    lua_pushstring(L, words[level]);
    lua_pushstring(L, text);
    return 2;
}

/* ---- batches ---- */

static rv_batch *check_batch(lua_State *L, int i)
{
    return *(rv_batch **)luaL_checkudata(L, i, LRV_BATCH);
}

static int batch_gc(lua_State *L)
{
    rv_batch **slot = luaL_checkudata(L, 1, LRV_BATCH);
    rv_batch_unref(*slot);
    *slot = NULL;
    return 0;
}

/* client:parse(text) -> batch */
static int client_parse(lua_State *L)
{
    lrv_client *c = check(L, 1);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    rv_batch **slot = lua_newuserdata(L, sizeof *slot);
    *slot = NULL;
    luaL_setmetatable(L, LRV_BATCH);
    *slot = rv_batch_parse(c->r, text, len);
    return *slot ? 1 : lrv_fail(L, RV_MEMORY, NULL);
}

/* Pushes JSON text of the core as a Lua value, or nil. */
static int push_core_json(lua_State *L, lrv_memory *m)
{
    if (!m->core || !lrv_push_json(L, m->core, strlen(m->core)))
        lua_pushnil(L);
    lrv_memory_release(m);
    return 1;
}

/* batch:issues() -> number of errors, all issues */
static int batch_issues(lua_State *L)
{
    rv_batch *b = check_batch(L, 1);
    lua_pushinteger(L, (lua_Integer)rv_batch_issues(b, NULL));
    lrv_memory *m = lrv_push_memory(L);
    m->core = rv_batch_issues_json(b);
    if (!m->core)
        return luaL_error(L, "not enough memory");
    push_core_json(L, m);
    lua_remove(L, -2);
    return 2;
}

static rv_task *check_task(lua_State *L, int batch, int index)
{
    lua_Number n = luaL_checknumber(L, index);
    rv_batch *b = check_batch(L, batch);
    return n >= 1 && n <= (lua_Number)rv_batch_size(b) ? rv_batch_task(b, (size_t)n - 1) : NULL;
}

/* batch:task(i) -> the task as it will run, facts; nil when it has errors */
static int batch_task(lua_State *L)
{
    rv_task *t = check_task(L, 1, 2);
    if (!t)
        return 0;
    size_t len;
    const char *json = rv_task_json(t, &len);
    rv_task_info info = rv_task_facts(t);
    if (!json)
        return luaL_error(L, "not enough memory");
    if (!lrv_push_json(L, json, len))
        return lua_error(L);
    lua_newtable(L);
    lua_pushstring(L, info.type);
    lua_setfield(L, -2, "type");
    lua_pushstring(L, info.model ? info.model : "");
    lua_setfield(L, -2, "model");
    lua_pushinteger(L, (lua_Integer)info.results);
    lua_setfield(L, -2, "images");
    if (info.cost >= 0) {
        lua_pushnumber(L, info.cost);
        lua_setfield(L, -2, "cost");
    }
    return 2;
}

static int batch_size(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)rv_batch_size(check_batch(L, 1)));
    return 1;
}

/* ---- jobs ---- */

static void hear(void *user, rv_job *job, const rv_event *e)
{
    lrv_job *j = user;
    lrv_client *c = j->client;
    (void)job;
    switch (e->kind) {
    case RV_EVENT_QUEUED:
        j->is_queued = true;
        j->position = e->position;
        break;
    case RV_EVENT_STARTED:
        j->is_started = true;
        break;
    case RV_EVENT_STEP:
        j->has_step = true;
        j->step_index = e->index;
        j->step = e->step;
        j->steps = e->steps;
        if (e->preview) {
            rv_image_unref(j->preview);
            j->preview = rv_image_ref(e->preview);
            j->preview_index = e->index;
        }
        break;
    case RV_EVENT_IMAGE:
        j->has_image = true;
        break;
    case RV_EVENT_END:
        j->is_ended = true;
        break;
    }
    if (j->has_news)
        return;
    j->has_news = true;
    j->news_next = NULL;
    if (c->news_last)
        c->news_last->news_next = j;
    else
        c->news_first = j;
    c->news_last = j;
}

/* client:submit(batch, i, id) -> job; id comes back with its news */
static int client_submit(lua_State *L)
{
    lrv_client *c = check(L, 1);
    rv_task *t = check_task(L, 2, 3);
    lua_Number id = luaL_checknumber(L, 4);
    if (!t)
        return luaL_error(L, "misuse: a task with errors cannot be submitted");
    lrv_job *j = lrv_job_push(L);
    j->client = c;
    j->id = id;
    rv_sink sink = {hear, j};
    rv_status s = rv_submit(c->r, t, &sink, &j->job);
    if (s != RV_OK)
        return lrv_fail(L, s, NULL);
    j->refs++;
    j->live_next = c->live;
    if (c->live)
        c->live->live_prev = j;
    c->live = j;
    return 1;
}

/* client:dispatch() -> number of live jobs */
static int client_dispatch(lua_State *L)
{
    lua_pushinteger(L, rv_dispatch(check(L, 1)->r));
    return 1;
}

/* client:news() -> id, position | nil, started, index, step, steps, preview, its index, image, ended;
 * nothing when all is told */
static int client_news(lua_State *L)
{
    lrv_client *c = check(L, 1);
    lrv_job *j = c->news_first;
    if (!j)
        return 0;
    lua_settop(L, 1);
    lua_pushnumber(L, j->id);
    if (j->is_queued)
        lua_pushinteger(L, (lua_Integer)j->position);
    else
        lua_pushnil(L);
    lua_pushboolean(L, j->is_started);
    if (j->has_step) {
        lua_pushinteger(L, (lua_Integer)j->step_index + 1);
        lua_pushinteger(L, j->step);
        lua_pushinteger(L, j->steps);
    } else {
        lua_settop(L, 7);
    }
    if (j->preview)
        lrv_image_push(L, j->preview);
    else
        lua_pushnil(L);
    lua_pushinteger(L, (lua_Integer)j->preview_index + 1);
    lua_pushboolean(L, j->has_image);
    lua_pushboolean(L, j->is_ended);
    /* Nothing raises from here on: the news is told. */
    c->news_first = j->news_next;
    if (!c->news_first)
        c->news_last = NULL;
    rv_image_unref(j->preview);
    j->preview = NULL;
    j->has_news = j->is_queued = j->is_started = j->has_step = j->has_image = false;
    if (j->is_ended)
        forget(c, j);
    return lua_gettop(L) - 1;
}

/* ---- the loop ---- */

static int client_fd(lua_State *L)
{
    lua_pushinteger(L, rv_fd(check(L, 1)->r));
    return 1;
}

/* client:poll(seconds): returns when there is something to dispatch, when time is over, or at a
 * signal. */
static int client_poll(lua_State *L)
{
    lrv_client *c = check(L, 1);
    lua_Number s = luaL_optnumber(L, 2, -1);
    int ms = s < 0 ? -1 : s > 1e6 ? 1000000000 : (int)(s * 1000 + 0.999);
    if (c->news_first)
        ms = 0;
    struct pollfd p = {.fd = rv_fd(c->r), .events = POLLIN};
    if (p.fd < 0) /* no descriptor left in this process: look again soon */
        ms = ms < 0 || ms > 5 ? 5 : ms;
    lua_pushboolean(L, poll(&p, p.fd >= 0, ms) > 0);
    return 1;
}

/* ---- derived facts ---- */

static int client_schema(lua_State *L)
{
    lrv_client *c = check(L, 1);
    const char *model = luaL_checkstring(L, 2);
    lrv_memory *m = lrv_push_memory(L);
    m->core = rv_schema_json(c->r, model);
    return push_core_json(L, m);
}

static int client_models(lua_State *L)
{
    lrv_client *c = check(L, 1);
    lrv_memory *m = lrv_push_memory(L);
    m->core = rv_models_json(c->r);
    return push_core_json(L, m);
}

void lrv_client_open_class(lua_State *L)
{
    static const luaL_Reg meta[] = {
        {"__gc", client_close}, {"__close", client_close}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"set", client_set},
                                       {"parse", client_parse},
                                       {"submit", client_submit},
                                       {"news", client_news},
                                       {"dispatch", client_dispatch},
                                       {"poll", client_poll},
                                       {"fd", client_fd},
                                       {"schema", client_schema},
                                       {"models", client_models},
                                       {"close", client_close},
                                       {"is_closed", client_is_closed},
                                       {"start_log", client_start_log},
                                       {"log_line", client_log_line},
                                       {NULL, NULL}};
    static const luaL_Reg batch_meta[] = {{"__gc", batch_gc}, {NULL, NULL}};
    static const luaL_Reg batch_methods[] = {
        {"issues", batch_issues}, {"task", batch_task}, {"size", batch_size}, {NULL, NULL}};
    lrv_new_class(L, LRV_CLIENT, meta, methods);
    lrv_new_class(L, LRV_BATCH, batch_meta, batch_methods);
}
