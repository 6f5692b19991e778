/* The module itself: its functions, memory that errors cannot leak, error objects. */
#include "lrv.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#if defined(__GNUC__)
#define LRV_EXPORT __attribute__((visibility("default")))
#else
#define LRV_EXPORT
#endif

/* Requests may carry pictures; anything larger is a mistake. */
#define MEMORY_MAX ((size_t)1 << 30)

/* ---- memory ---- */

void lrv_memory_release(lrv_memory *m)
{
    rv_free(m->core);
    free(m->data);
    *m = (lrv_memory){0};
}

static int memory_gc(lua_State *L)
{
    lrv_memory_release(luaL_checkudata(L, 1, LRV_MEMORY));
    return 0;
}

lrv_memory *lrv_push_memory(lua_State *L)
{
    lrv_memory *m = lua_newuserdata(L, sizeof *m);
    *m = (lrv_memory){0};
    luaL_setmetatable(L, LRV_MEMORY);
    return m;
}

char *lrv_grow(lrv_memory *m, size_t len)
{
    if (len > MEMORY_MAX - m->len)
        m->failed = true;
    if (m->failed)
        return NULL;
    if (m->len + len > m->cap) {
        size_t cap = (m->len + len) * 2 + 256;
        char *data = realloc(m->data, cap);
        if (!data) {
            m->failed = true;
            return NULL;
        }
        m->data = data;
        m->cap = cap;
    }
    m->len += len;
    return m->data + m->len - len;
}

void lrv_add(lrv_memory *m, const void *data, size_t len)
{
    char *to = lrv_grow(m, len);
    if (to)
        memcpy(to, data, len);
}

/* ---- values ---- */

/* Exact in every Lua: an integer where it fits, decimal digits where a number would round. */
void lrv_push_u64(lua_State *L, uint64_t v)
{
#if LUA_VERSION_NUM >= 503
    bool fits = v <= INT64_MAX;
#else
    bool fits = v <= UINT64_C(1) << 53;
#endif
    if (fits) {
#if LUA_VERSION_NUM >= 503
        lua_pushinteger(L, (lua_Integer)v);
#else
        lua_pushnumber(L, (lua_Number)v);
#endif
        return;
    }
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)v);
    lua_pushlstring(L, digits, (size_t)n);
}

void lrv_new_class(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, meta, 0);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pushliteral(L, "protected");
    lua_setfield(L, -2, "__metatable");
    if (methods) {
        lua_newtable(L);
        luaL_setfuncs(L, methods, 0);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
}

/* ---- errors ---- */

static void set_text(lua_State *L, const char *key, const char *text)
{
    if (!text || !*text)
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

void lrv_push_error(lua_State *L, rv_status status, const rv_error *err)
{
    lua_createtable(L, 0, 6);
    luaL_setmetatable(L, LRV_ERROR);
    set_text(L, "code", rv_status_word(status));
    set_text(L, "message", err && err->message[0] ? err->message : rv_status_text(status));
    lua_pushboolean(L, rv_status_retryable(status));
    lua_setfield(L, -2, "retryable");
    lua_pushinteger(L, rv_status_http(status));
    lua_setfield(L, -2, "status");
    if (!err)
        return;
    set_text(L, "wire", err->code);
    set_text(L, "parameter", err->parameter);
    if (err->http_status) {
        lua_pushinteger(L, err->http_status);
        lua_setfield(L, -2, "provider_status");
    }
    if (err->attempts > 0) {
        lua_pushinteger(L, err->attempts);
        lua_setfield(L, -2, "attempts");
    }
    if (err->retry_after_ms >= 0 && rv_status_retryable(status)) {
        lua_pushnumber(L, (lua_Number)err->retry_after_ms / 1000);
        lua_setfield(L, -2, "retry_after");
    }
}

int lrv_fail(lua_State *L, rv_status status, const rv_error *err)
{
    lua_pushnil(L);
    lrv_push_error(L, status, err);
    lua_getfield(L, -1, "message");
    lua_insert(L, -2);
    return 3;
}

static int error_tostring(lua_State *L)
{
    lua_getfield(L, 1, "message");
    return 1;
}

/* core.error(word, message): an error object with the facts of the status table. */
static int new_error(lua_State *L)
{
    const char *word = luaL_checkstring(L, 1);
    const char *message = luaL_checkstring(L, 2);
    rv_status status = RV_INTERNAL;
    for (int s = RV_VALIDATION; s <= RV_MISUSE; s++) {
        if (strcmp(rv_status_word((rv_status)s), word) == 0)
            status = (rv_status)s;
    }
    lrv_push_error(L, status, NULL);
    set_text(L, "message", message);
    return 1;
}

/* ---- small things that plain Lua cannot do ---- */

static int new_uuid(lua_State *L)
{
    uint8_t b[16];
    char text[40];
    if (getrandom(b, sizeof b, 0) != sizeof b)
        return luaL_error(L, "the system has no random numbers");
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* version 4 */
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80); /* variant 1 */
    size_t at = 0;
    for (int i = 0; i < 16; i++) {
        const char *dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%02x", dash, b[i]);
    }
    lua_pushlstring(L, text, at);
    return 1;
}

/* Seconds of a clock that never jumps. */
static int now(lua_State *L)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    lua_pushnumber(L, (lua_Number)t.tv_sec + (lua_Number)t.tv_nsec / 1e9);
    return 1;
}

static int sleep_for(lua_State *L)
{
    lua_Number s = luaL_checknumber(L, 1);
    if (s > 0 && s < 1e6) {
        struct timespec t = {(time_t)s, (long)((s - (lua_Number)(time_t)s) * 1e9)};
        nanosleep(&t, NULL); /* a signal may end it early: callers look at the clock */
    }
    return 0;
}

static int readable(lua_State *L)
{
    lua_pushboolean(L, access(luaL_checkstring(L, 1), R_OK) == 0);
    return 1;
}

/* Threads of the core may still run while a Lua state closes and unloads its modules. */
static void pin(void)
{
    Dl_info info;
    if (dladdr((const void *)&lrv_push_u64, &info) && info.dli_fname)
        (void)dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

LRV_EXPORT int luaopen_reverie_core(lua_State *L);

LRV_EXPORT int luaopen_reverie_core(lua_State *L)
{
    static const luaL_Reg functions[] = {{"client", lrv_client_new},
                                         {"image", lrv_image_from_pixels},
                                         {"image_from_bytes", lrv_image_from_bytes},
                                         {"work", lrv_work_new},
                                         {"encode", lrv_encode},
                                         {"decode", lrv_decode},
                                         {"error", new_error},
                                         {"uuid", new_uuid},
                                         {"now", now},
                                         {"sleep", sleep_for},
                                         {"readable", readable},
                                         {NULL, NULL}};
    static const luaL_Reg error_meta[] = {{"__tostring", error_tostring}, {NULL, NULL}};
    static const luaL_Reg memory_meta[] = {{"__gc", memory_gc}, {NULL, NULL}};
    pin();
    lrv_new_class(L, LRV_ERROR, error_meta, NULL);
    lrv_new_class(L, LRV_MEMORY, memory_meta, NULL);
    lrv_client_open_class(L);
    lrv_job_open_class(L);
    lrv_image_open_class(L);
    lrv_work_open_class(L);
    luaL_newlib(L, functions);
    lua_pushstring(L, rv_version());
    lua_setfield(L, -2, "version");
    lua_pushlightuserdata(L, NULL); /* JSON's null, the same value as cjson.null */
    lua_setfield(L, -2, "null");
    return 1;
}
