/* What the older Luas lack, and nothing more: 5.1 to 5.4 and LuaJIT, which calls itself 5.1 but
 * brings luaL_setfuncs and friends. */
#ifndef LRV_COMPAT_H
#define LRV_COMPAT_H

#include <lauxlib.h>
#include <lua.h>

#if LUA_VERSION_NUM < 502
#define lua_rawlen(L, i) lua_objlen(L, i)
#if !defined(luaL_newlib) /* plain 5.1 */
#define luaL_setfuncs(L, list, n) luaL_register(L, NULL, list)
#define luaL_newlib(L, list)      (lua_newtable(L), luaL_register(L, NULL, list))

static inline void luaL_setmetatable(lua_State *L, const char *name)
{
    luaL_getmetatable(L, name);
    lua_setmetatable(L, -2);
}

static inline void *luaL_testudata(lua_State *L, int i, const char *name)
{
    void *p = lua_touserdata(L, i);
    if (!p || !lua_getmetatable(L, i))
        return NULL;
    luaL_getmetatable(L, name);
    if (!lua_rawequal(L, -1, -2))
        p = NULL;
    lua_pop(L, 2);
    return p;
}
#endif
#endif

#endif
