/* Failing memory: runs a scenario of the Lua module again and again, each time with the n-th
 * allocation of Lua, or of the core, failing and all after it.  The scenario may end with an error,
 * but the state must close and give back every byte; sanitizers watch the rest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "base/memory.h"
#include "reverie.h"

int luaopen_reverie_core(lua_State *L);

typedef struct heap {
    size_t bytes; /* in use                                       */
    long   left;  /* allocations until they fail; negative: never */
    long   asked;
} heap;

static void *allocate(void *user, void *p, size_t old, size_t size)
{
    heap *h = user;
    size_t before = p ? old : 0; /* without a block, old is its kind */
    if (!size) {
        free(p);
        h->bytes -= before;
        return NULL;
    }
    if (size > before) { /* shrinking must not fail */
        h->asked++;
        if (h->left == 0)
            return NULL;
        if (h->left > 0)
            h->left--;
    }
    void *q = realloc(p, size);
    if (q)
        h->bytes += size - before;
    return q;
}

static lua_State *open_state(heap *h, const char *script)
{
    lua_State *L = lua_newstate(allocate, h);
    if (!L)
        return NULL;
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, luaopen_reverie_core);
    lua_setfield(L, -2, "reverie.core");
    lua_pop(L, 2);
    if (luaL_dofile(L, script) != LUA_OK) { /* returns the scenario */
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        exit(1);
    }
    return L;
}

/* One run with the n-th allocation failing (0: none).  True when nothing failed. */
static int run_once(const char *script, long in_lua, long in_core, long *asked)
{
    heap h = {.left = -1};
    lua_State *L = open_state(&h, script);
    if (!L)
        exit(1);
    h.asked = 0;
    h.left = in_lua ? in_lua - 1 : -1;
    rv__alloc_fail_after(in_core);
    int status = lua_pcall(L, 0, 0, 0);
    h.left = -1;
    rv__alloc_fail_after(0);
    if (!in_lua && !in_core && status != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        exit(1);
    }
    *asked = h.asked;
    lua_close(L);
    if (h.bytes) {
        fprintf(stderr, "%zu bytes left (lua %ld, core %ld)\n", h.bytes, in_lua, in_core);
        exit(1);
    }
    return status == LUA_OK;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    const char *script = argv[1];
    long runs = strtol(argv[2], NULL, 10), asked = 0, total = 0;
    printf("1..3\n");
    run_once(script, 0, 0, &total);
    printf("ok 1 - the scenario works (%ld allocations of Lua)\n", total);
    long step = total / runs + 1, failed = 0, done = 0;
    for (long n = 1; n <= total; n += step, done++)
        failed += !run_once(script, n, 0, &asked);
    printf("%s 2 - allocations of Lua fail: %ld runs, %ld ended with an error\n",
           failed ? "ok" : "not ok", done, failed);
    /* Threads of the core allocate too, so there is no exact end: far enough is where all goes well. */
    long well = 0;
    failed = done = 0;
    for (long n = 1; well < 5 && done < 4 * runs; n += 1 + n / 50, done++) {
        int ok = run_once(script, 0, n, &asked);
        well = ok ? well + 1 : 0;
        failed += !ok;
    }
    printf("%s 3 - allocations of the core fail: %ld runs, %ld ended with an error\n",
           failed ? "ok" : "not ok", done, failed);
    return 0;
}
