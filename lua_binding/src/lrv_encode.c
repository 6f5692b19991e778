/* From Lua tables to JSON text.  Names are written in order, so the same table always gives the
 * same text.  A shape, the JSON schema of the model, tells what Lua cannot: whether an empty table
 * is a list, and which texts of digits are numbers.  Nothing here trusts the tables: cycles,
 * functions and numbers that are none are refused with their place. */
#include "lrv.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 32, PATH = 256 };

typedef struct place {
    const struct place *up;
    const char *name; /* NULL: position */
    size_t position;
    int depth;
} place;

typedef struct writer {
    lua_State *L;
    lrv_memory *out;
    const char *problem;
    char path[PATH];
} writer;

static bool write_value(writer *w, int value, int shape, const place *at);

/* ---- places ---- */

static size_t write_path(char *path, const place *at)
{
    if (!at->up)
        return 0;
    size_t n = write_path(path, at->up);
    int added = at->name ? snprintf(path + n, PATH - n, "%s%s", n ? "." : "", at->name)
                         : snprintf(path + n, PATH - n, "[%zu]", at->position);
    return added < 0 || (size_t)added >= PATH - n ? PATH - 1 : n + (size_t)added;
}

static bool refuse(writer *w, const place *at, const char *problem)
{
    w->problem = problem;
    w->path[0] = '\0';
    write_path(w->path, at);
    return false;
}

/* ---- scalars ---- */

static void write_string(lrv_memory *out, const char *text, size_t len)
{
    lrv_add(out, "\"", 1);
    size_t from = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        char escape[8];
        int n = c == '"' || c == '\\' ? snprintf(escape, sizeof escape, "\\%c", c)
                                      : snprintf(escape, sizeof escape, "\\u%04x", c);
        lrv_add(out, text + from, i - from);
        lrv_add(out, escape, (size_t)n);
        from = i + 1;
    }
    lrv_add(out, text + from, len - from);
    lrv_add(out, "\"", 1);
}

static bool write_number(writer *w, int value, const place *at)
{
    char text[64];
    int n;
#if LUA_VERSION_NUM >= 503
    if (lua_isinteger(w->L, value)) {
        n = snprintf(text, sizeof text, "%lld", (long long)lua_tointeger(w->L, value));
        lrv_add(w->out, text, (size_t)n);
        return true;
    }
#endif
    double d = lua_tonumber(w->L, value);
    if (!isfinite(d))
        return refuse(w, at, "must be a finite number");
    if (d == floor(d) && fabs(d) <= 9007199254740992.0) {
        n = snprintf(text, sizeof text, "%.0f", d);
    } else {
        int digits = 15; /* the shortest that reads back */
        do
            n = snprintf(text, sizeof text, "%.*g", digits, d);
        while (strtod(text, NULL) != d && ++digits <= 17);
        for (char *c = text; *c; c++) { /* whatever the locale has for a point */
            if (!strchr("0123456789+-eE", *c))
                *c = '.';
        }
    }
    lrv_add(w->out, text, (size_t)n);
    return true;
}

/* The type of a shape (a JSON schema); "" when there is none. */
static const char *kind_of(lua_State *L, int shape)
{
    if (!shape || !lua_istable(L, shape))
        return "";
    lua_getfield(L, shape, "type");
    const char *kind = lua_tostring(L, -1); /* stays alive in the shape */
    lua_pop(L, 1);
    return kind ? kind : "";
}

static bool write_text(writer *w, int value, int shape)
{
    size_t len;
    const char *text = lua_tolstring(w->L, value, &len);
    size_t sign = len > 1 && text[0] == '-';
    bool is_digits = len > sign && len < 32 && strspn(text + sign, "0123456789") == len - sign;
    if (is_digits && strcmp(kind_of(w->L, shape), "integer") == 0)
        lrv_add(w->out, text, len);
    else
        write_string(w->out, text, len);
    return true;
}

static void write_base64(lrv_memory *out, const uint8_t *in, size_t len)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *to = lrv_grow(out, (len + 2) / 3 * 4);
    for (size_t i = 0; to && i < len; i += 3, to += 4) {
        uint32_t v = (uint32_t)in[i] << 16;
        v |= i + 1 < len ? (uint32_t)in[i + 1] << 8 : 0;
        v |= i + 2 < len ? in[i + 2] : 0;
        to[0] = letters[v >> 18];
        to[1] = letters[v >> 12 & 63];
        to[2] = i + 1 < len ? letters[v >> 6 & 63] : '=';
        to[3] = i + 2 < len ? letters[v & 63] : '=';
    }
}

/* An image stands for itself: its PNG file as a data URI, the way the protocol takes pictures. */
static bool write_image(writer *w, int value, const place *at)
{
    rv_image **slot = luaL_testudata(w->L, value, LRV_IMAGE);
    if (!slot || !*slot)
        return refuse(w, at,
                      "cannot be sent: only texts, numbers, booleans, tables and images can");
    lrv_memory *m = lrv_push_memory(w->L);
    size_t len;
    if (rv_image_encode(*slot, "PNG", 95, &m->core, &len, NULL) != RV_OK)
        return refuse(w, at, "is an image that cannot be encoded");
    lrv_add(w->out, "\"data:image/png;base64,", 23);
    write_base64(w->out, m->core, len);
    lrv_add(w->out, "\"", 1);
    lrv_memory_release(m);
    lua_pop(w->L, 1);
    return true;
}

/* ---- tables ---- */

/* Pushes the member `key` of the table `name` in the shape, or nil; returns its index. */
static int push_shape(lua_State *L, int shape, const char *name, const char *key)
{
    lua_pushnil(L);
    if (shape && lua_istable(L, shape)) {
        lua_getfield(L, shape, name);
        if (key && lua_istable(L, -1)) {
            lua_getfield(L, -1, key);
            lua_remove(L, -2);
        }
        lua_replace(L, -2);
    }
    return lua_gettop(L);
}

static bool write_list(writer *w, int table, int shape, size_t n, const place *at)
{
    int item = push_shape(w->L, shape, "items", NULL);
    lrv_add(w->out, "[", 1);
    for (size_t i = 1; i <= n; i++) {
        place here = {at, NULL, i, at->depth + 1};
        if (i > 1)
            lrv_add(w->out, ",", 1);
        lua_rawgeti(w->L, table, (int)i);
        if (!write_value(w, lua_gettop(w->L), item, &here))
            return false;
        lua_pop(w->L, 1);
    }
    lrv_add(w->out, "]", 1);
    lua_pop(w->L, 1);
    return true;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool write_members(writer *w, int table, int shape, size_t n, const place *at)
{
    const char **keys = lua_newuserdata(w->L, n * sizeof *keys);
    size_t k = 0;
    for (lua_pushnil(w->L); lua_next(w->L, table); lua_pop(w->L, 1)) {
        if (k < n)
            keys[k++] = lua_tostring(w->L, -2); /* alive in the table */
    }
    qsort(keys, k, sizeof *keys, compare);
    lrv_add(w->out, "{", 1);
    for (size_t i = 0; i < k; i++) {
        place here = {at, keys[i], 0, at->depth + 1};
        if (i > 0)
            lrv_add(w->out, ",", 1);
        write_string(w->out, keys[i], strlen(keys[i]));
        lrv_add(w->out, ":", 1);
        int member = push_shape(w->L, shape, "properties", keys[i]);
        lua_pushstring(w->L, keys[i]);
        lua_rawget(w->L, table);
        if (!write_value(w, lua_gettop(w->L), member, &here))
            return false;
        lua_pop(w->L, 2);
    }
    lrv_add(w->out, "}", 1);
    lua_pop(w->L, 1);
    return true;
}

/* Counts what a table holds; false when it holds both names and positions, gaps, or keys of other
 * types. */
static bool count_keys(lua_State *L, int table, size_t *names, size_t *positions)
{
    size_t len = lua_rawlen(L, table), others = 0;
    *names = *positions = 0;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING) {
            size_t n;
            const char *key = lua_tolstring(L, -2, &n);
            others += strlen(key) != n;
            ++*names;
        } else if (lua_type(L, -2) == LUA_TNUMBER && lua_tonumber(L, -2) >= 1 &&
                   lua_tonumber(L, -2) <= (lua_Number)len &&
                   lua_tonumber(L, -2) == floor(lua_tonumber(L, -2))) {
            ++*positions;
        } else {
            others++;
        }
    }
    return !others && !(*names && *positions) && *positions == len;
}

static bool write_table(writer *w, int value, int shape, const place *at)
{
    size_t names, positions;
    if (at->depth >= DEPTH)
        return refuse(w, at, "is nested too deeply (does a table contain itself?)");
    if (!count_keys(w->L, value, &names, &positions))
        return refuse(w, at, "must have either names or the positions 1 to n");
    if (positions || (!names && strcmp(kind_of(w->L, shape), "array") == 0))
        return write_list(w, value, shape, positions, at);
    return write_members(w, value, shape, names, at);
}

static bool write_value(writer *w, int value, int shape, const place *at)
{
    luaL_checkstack(w->L, 12, "request");
    switch (lua_type(w->L, value)) {
    case LUA_TSTRING:
        return write_text(w, value, shape);
    case LUA_TNUMBER:
        return write_number(w, value, at);
    case LUA_TBOOLEAN:
        lrv_add(w->out, lua_toboolean(w->L, value) ? "true" : "false",
                lua_toboolean(w->L, value) ? 4 : 5);
        return true;
    case LUA_TTABLE:
        return write_table(w, value, shape, at);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(w->L, value))
            break;
        lrv_add(w->out, "null", 4);
        return true;
    case LUA_TUSERDATA:
        return write_image(w, value, at);
    default:
        break;
    }
    return refuse(w, at, "cannot be sent: only texts, numbers, booleans, tables and images can");
}

/* core.encode(value [, shape]) -> text, or nil, path, problem */
int lrv_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 2);
    writer w = {.L = L, .out = lrv_push_memory(L)};
    place root = {0};
    if (!write_value(&w, 1, 2, &root)) {
        lua_pushnil(L);
        lua_pushstring(L, w.path);
        lua_pushstring(L, w.problem);
        return 3;
    }
    if (w.out->failed)
        return luaL_error(L, "not enough memory");
    lua_pushlstring(L, w.out->data, w.out->len);
    lrv_memory_release(w.out);
    return 1;
}
