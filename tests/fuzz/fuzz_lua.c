/* JSON of a stranger as Lua values and back: what can be read can be written, and what is written reads as the same. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "lrv.h"

int luaopen_reverie_core(lua_State *L);

_Noreturn static void die(const char *what, lua_State *L)
{
    fprintf(stderr, "%s:", what);
    for (int i = 1; i <= lua_gettop(L); i++) {
        if (lua_type(L, i) == LUA_TSTRING)
            fprintf(stderr, " %s", lua_tostring(L, i));
    }
    abort();
}

static int call(lua_State *L, lua_CFunction f)
{
    lua_pushcfunction(L, f);
    lua_insert(L, -2);
    return lua_pcall(L, 1, 2, 0);
}

/* The value on the stack as text, in its place; false with a message when it has none. */
static bool encode(lua_State *L)
{
    bool ok = call(L, lrv_encode) == LUA_OK && lua_type(L, -2) == LUA_TSTRING;
    if (ok)
        lua_pop(L, 1);
    return ok;
}

/* The text on the stack becomes what is written of what it reads as. */
static void again(lua_State *L)
{
    if (call(L, lrv_decode) != LUA_OK)
        die("what was written cannot be read", L);
    lua_pop(L, 1);
    if (!encode(L))
        die("what was read cannot be written", L);
}

static void round_trip(lua_State *L)
{
    if (!encode(L))
        return;
    again(L); /* -0 is an integer, and 0, once it was written */
    lua_pushvalue(L, -1);
    again(L);
    if (!lua_rawequal(L, -1, -2)) /* keys are sorted: the same value is the same text */
        die("the same value is another text", L);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lua_State *L = luaL_newstate();
    char *copy = malloc(size ? size : 1);
    if (!L || !copy)
        abort();
    luaL_requiref(L, "reverie.core", luaopen_reverie_core, 0); /* classes of what they use */
    lua_settop(L, 0);
    if (size)
        memcpy(copy, data, size);
    lua_pushlstring(L, copy, size);
    free(copy);
    if (call(L, lrv_decode) == LUA_OK && !lua_isnil(L, -2)) {
        lua_pop(L, 1);
        round_trip(L);
    }
    lua_close(L);
    return 0;
}
