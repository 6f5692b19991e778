/* Jobs: what the core said last about each, collected without allocating and told to Lua after the
 * dispatch. */
#include "lrv.h"

#include <stdlib.h>

void lrv_job_drop(lrv_job *j)
{
    if (!j || --j->refs > 0)
        return;
    rv_image_unref(j->preview);
    rv_job_unref(j->job);
    free(j);
}

static int job_gc(lua_State *L)
{
    lrv_job **slot = luaL_checkudata(L, 1, LRV_JOB);
    lrv_job_drop(*slot);
    *slot = NULL;
    return 0;
}

lrv_job *lrv_job_push(lua_State *L)
{
    lrv_job **slot = lua_newuserdata(L, sizeof *slot);
    *slot = NULL;
    luaL_setmetatable(L, LRV_JOB);
    *slot = calloc(1, sizeof **slot);
    if (!*slot)
        luaL_error(L, "not enough memory");
    (*slot)->refs = 1;
    return *slot;
}

static lrv_job *check(lua_State *L)
{
    lrv_job *j = *(lrv_job **)luaL_checkudata(L, 1, LRV_JOB);
    if (!j || !j->job)
        luaL_error(L, "the job was never submitted");
    return j;
}

static int job_cancel(lua_State *L)
{
    lrv_job *j = check(L);
    if (!j->is_ended && j->client) /* a closed client has ended it already */
        rv_job_cancel(j->job);
    return 0;
}

static int job_state(lua_State *L)
{
    static const char *const words[] = {"queued", "running", "done", "failed", "stopped"};
    lua_pushstring(L, words[rv_job_state(check(L)->job)]);
    return 1;
}

/* job:error() -> error object or nil */
static int job_error(lua_State *L)
{
    const rv_error *err = rv_job_error(check(L)->job);
    if (err)
        lrv_push_error(L, err->status, err);
    else
        lua_pushnil(L);
    return 1;
}

/* job:image(i), counted from 1 -> image or nil while it is not ready */
static int job_image(lua_State *L)
{
    lrv_job *j = check(L);
    lua_Number n = luaL_checknumber(L, 2);
    rv_image *i = n >= 1 && n < 1e9 ? rv_job_image(j->job, (size_t)n - 1) : NULL;
    if (i)
        lrv_image_push(L, i);
    else
        lua_pushnil(L);
    return 1;
}

static int job_count(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)rv_job_images(check(L)->job));
    return 1;
}

void lrv_job_open_class(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", job_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"cancel", job_cancel}, {"state", job_state},
                                       {"error", job_error},   {"image", job_image},
                                       {"count", job_count},   {NULL, NULL}};
    lrv_new_class(L, LRV_JOB, meta, methods);
}
