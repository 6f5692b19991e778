/* What Lua adds: the same job with the stub through the Lua module and through the C API, and a
 * picture of 1024 x 1024 to a Lua string and back against copying it in memory. */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "reverie.h"
#include "stopwatch.h"

int luaopen_reverie_core(lua_State *L);

enum { JOBS = 400, COPIES = 60, SIDE = 1024 };

static const char request[] =
    "{\"taskType\":\"imageInference\",\"taskUUID\":\"00000000-0000-4000-8000-000000000001\","
    "\"model\":\"runware:97@3\",\"positivePrompt\":\"a fox\",\"width\":256,\"height\":256,"
    "\"steps\":8,\"seed\":7}";

static const char script[] =
    "package.path = SOURCE .. '/lua_binding/lua/?.lua;' .. SOURCE .. '/lua_binding/lua/?/init.lua'\n"
    "local reverie = require 'reverie'\n"
    "local client = assert(reverie.client { engine = 'stub', models = SOURCE .. '/config/models' })\n"
    "local pixels = ('\\1\\2\\3'):rep(1024 * 1024)\n"
    "local image = reverie.image(pixels, 1024, 1024)\n"
    "function one_job()\n"
    "  local job = assert(client:submit { model = 'runware:97@3', positivePrompt = 'a fox',\n"
    "    width = 256, height = 256, steps = 8, seed = 7 })\n"
    "  return assert(job:wait())[1].width\n"
    "end\n"
    "function pixels_out() return #image:pixels() end\n"
    "function pixels_in() reverie.image(pixels, 1024, 1024):close() end\n"
    "function collect() collectgarbage() end\n";

static void fail(const char *what)
{
    fprintf(stderr, "bench_lua: %s\n", what);
    exit(1);
}

static void call(lua_State *L, const char *function)
{
    lua_getglobal(L, function);
    if (lua_pcall(L, 0, 0, 0) != LUA_OK)
        fail(lua_tostring(L, -1));
}

static double timed(lua_State *L, const char *function)
{
    double start = now_us();
    call(L, function);
    return now_us() - start;
}

/* The same in C: check, submit, wait on the descriptor, look at the picture. */
static double c_job(rv *r)
{
    double start = now_us();
    rv_batch *b = rv_batch_parse(r, request, sizeof request - 1);
    rv_job *j = NULL;
    if (!b || rv_batch_issues(b, NULL) || rv_submit(r, rv_batch_task(b, 0), NULL, &j) != RV_OK)
        fail("no job");
    rv_batch_unref(b);
    do {
        struct pollfd p = {rv_fd(r), POLLIN, 0};
        poll(&p, 1, -1);
    } while (rv_dispatch(r));
    if (rv_image_facts(rv_job_image(j, 0)).width != 256)
        fail("no picture");
    rv_job_unref(j);
    return now_us() - start;
}

static void bench_jobs(lua_State *L, rv *r)
{
    static double in_lua[JOBS], in_c[JOBS];
    for (int i = 0; i < 20; i++) {
        c_job(r);
        call(L, "one_job");
    }
    for (int i = 0; i < JOBS; i++) {
        in_c[i] = c_job(r);
        in_lua[i] = timed(L, "one_job");
    }
    double lua = median(in_lua, JOBS), c = median(in_c, JOBS);
    printf("bench lua job (256 x 256, stub): %.0f us | C %.0f us | ratio %.2f\n", lua, c, lua / c);
}

static double copy_once(const uint8_t *from, size_t size)
{
    double start = now_us();
    uint8_t *to = malloc(size);
    if (!to)
        fail("out of memory");
    memcpy(to, from, size);
    __asm__ volatile("" : : "r"(to) : "memory");
    free(to);
    return now_us() - start;
}

static void bench_pixels(lua_State *L)
{
    static double out[COPIES], in[COPIES], copy[COPIES];
    size_t size = (size_t)SIDE * SIDE * 3;
    uint8_t *from = calloc(1, size);
    if (!from)
        fail("out of memory");
    memset(from, 7, size);
    for (int i = 0; i < COPIES; i++) {
        copy[i] = copy_once(from, size);
        out[i] = timed(L, "pixels_out");
        call(L, "collect");
        in[i] = timed(L, "pixels_in");
        call(L, "collect");
    }
    free(from);
    double mb = (double)size / 1e6, c = mb / median(copy, COPIES) * 1e3;
    double o = mb / median(out, COPIES) * 1e3, n = mb / median(in, COPIES) * 1e3;
    printf("bench lua pixels to a string (1024 x 1024): %.2f GB/s | memcpy %.2f GB/s | ratio %.2f\n",
           o, c, o / c);
    printf("bench lua pixels from a string (1024 x 1024): %.2f GB/s | memcpy %.2f GB/s | ratio %.2f\n",
           n, c, n / c);
}

int main(void)
{
    rv *r = NULL;
    if (rv_open(&r) != RV_OK || rv_set(r, "models", SOURCE_ROOT "/config/models", NULL) != RV_OK ||
        rv_set(r, "executor", "stub", NULL) != RV_OK)
        fail("no context");
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    luaL_requiref(L, "reverie.core", luaopen_reverie_core, 0);
    lua_pushliteral(L, SOURCE_ROOT);
    lua_setglobal(L, "SOURCE");
    if (luaL_dostring(L, script) != LUA_OK)
        fail(lua_tostring(L, -1));
    bench_jobs(L, r);
    bench_pixels(L);
    lua_close(L);
    rv_close(r);
    return 0;
}
