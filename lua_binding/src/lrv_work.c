/* Encoding and saving beside the event loop: one thread per picture, which touches nothing of Lua.
 */
#include "lrv.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct lrv_work {
    pthread_t thread;
    bool has_thread;
    atomic_bool is_done;
    rv_image *image;
    char *path; /* NULL: the bytes are wanted */
    char *format;
    int quality;
    rv_status status;
    rv_error err;
    void *bytes;
    size_t len;
} lrv_work;

static void *run(void *user)
{
    lrv_work *w = user;
    w->status = w->path
                    ? rv_image_write(w->image, w->path, w->format, w->quality, &w->err)
                    : rv_image_encode(w->image, w->format, w->quality, &w->bytes, &w->len, &w->err);
    atomic_store(&w->is_done, true);
    return NULL;
}

static void join(lrv_work *w)
{
    if (w->has_thread)
        pthread_join(w->thread, NULL);
    w->has_thread = false;
}

static int work_gc(lua_State *L)
{
    lrv_work *w = luaL_checkudata(L, 1, LRV_WORK);
    join(w);
    rv_image_unref(w->image);
    rv_free(w->bytes);
    free(w->path);
    free(w->format);
    w->image = NULL;
    w->bytes = NULL;
    w->path = w->format = NULL;
    return 0;
}

/* core.work(image, path | nil, format | nil, quality) -> work */
int lrv_work_new(lua_State *L)
{
    rv_image **image = luaL_checkudata(L, 1, LRV_IMAGE);
    const char *path = luaL_optstring(L, 2, NULL),
               *format = luaL_optstring(L, 3, path ? NULL : "png");
    int quality = (int)luaL_optnumber(L, 4, 95);
    luaL_argcheck(L, *image, 1, "the image is closed");
    lrv_work *w = lua_newuserdata(L, sizeof *w);
    memset(w, 0, sizeof *w);
    atomic_init(&w->is_done, false);
    luaL_setmetatable(L, LRV_WORK);
    w->image = rv_image_ref(*image);
    w->quality = quality;
    w->path = path ? strdup(path) : NULL;
    w->format = format ? strdup(format) : NULL;
    if ((path && !w->path) || (format && !w->format))
        return luaL_error(L, "not enough memory");
    w->has_thread = pthread_create(&w->thread, NULL, run, w) == 0;
    if (!w->has_thread) /* the system has no thread left: then here and now */
        run(w);
    return 1;
}

static int work_is_done(lua_State *L)
{
    lrv_work *w = luaL_checkudata(L, 1, LRV_WORK);
    lua_pushboolean(L, atomic_load(&w->is_done));
    return 1;
}

/* work:result() -> bytes or true, or nil, message, error; waits for the end, and gives bytes once
 */
static int work_result(lua_State *L)
{
    lrv_work *w = luaL_checkudata(L, 1, LRV_WORK);
    join(w);
    if (w->status != RV_OK)
        return lrv_fail(L, w->status, &w->err);
    if (w->bytes)
        lua_pushlstring(L, w->bytes, w->len);
    else
        lua_pushboolean(L, 1);
    rv_free(w->bytes);
    w->bytes = NULL;
    return 1;
}

void lrv_work_open_class(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", work_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"is_done", work_is_done}, {"result", work_result}, {NULL, NULL}};
    lrv_new_class(L, LRV_WORK, meta, methods);
}
