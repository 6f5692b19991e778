/* From JSON text to Lua values.  The text may come from a file of a stranger (recipes): any bytes
 * give a value or a message.  Integers stay exact: where a Lua number would round, their digits
 * come as text. */
#include "lrv.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 64 };

typedef struct reader {
    lua_State *L;
    const char *at, *end;
    int depth;
} reader;

static bool read_value(reader *r);

static void skip_space(reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

static bool take(reader *r, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0)
        return false;
    r->at += n;
    return true;
}

/* ---- strings ---- */

static int hex4(const char *p, const char *end)
{
    int v = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef";
        const char *d = p[i] ? strchr(digits, p[i] >= 'A' && p[i] <= 'F' ? p[i] + 32 : p[i]) : NULL;
        if (!d)
            return -1;
        v = v * 16 + (int)(d - digits);
    }
    return v;
}

/* A code point; two escapes for those beyond 16 bits, U+FFFD for half a pair.  -1: damaged. */
static long read_escape(reader *r)
{
    int high = hex4(r->at, r->end);
    if (high < 0)
        return -1;
    r->at += 4;
    if (high < 0xd800 || high > 0xdfff)
        return high;
    if (high <= 0xdbff && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u') {
        int low = hex4(r->at + 2, r->end);
        if (low >= 0xdc00 && low <= 0xdfff) {
            r->at += 6;
            return 0x10000 + ((long)(high - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    return 0xfffd;
}

static size_t put_utf8(char *to, long c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 63));
        to[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 63));
    to[2] = (char)(0x80 | (c >> 6 & 63));
    to[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* The part from the first escape on; text never gets longer by unescaping. */
static bool read_escaped(reader *r, const char *start)
{
    size_t room = (size_t)(r->end - start);
    char *text = lua_newuserdata(r->L, room + 1);
    size_t n = (size_t)(r->at - start);
    memcpy(text, start, n);
    while (r->at < r->end && *r->at != '"') {
        char c = *r->at++;
        if (c == '\\') {
            static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
            if (r->at >= r->end)
                return false;
            char kind = *r->at++;
            const char *known = kind ? strchr(from, kind) : NULL;
            long code = kind == 'u' ? read_escape(r) : known ? to[known - from] : -1;
            if (code < 0)
                return false;
            n += put_utf8(text + n, code);
        } else {
            text[n++] = c;
        }
    }
    if (!take(r, "\""))
        return false;
    lua_pushlstring(r->L, text, n);
    lua_remove(r->L, -2);
    return true;
}

static bool read_string(reader *r)
{
    const char *start = ++r->at;
    while (r->at < r->end && *r->at != '"' && *r->at != '\\')
        r->at++;
    if (r->at >= r->end)
        return false;
    if (*r->at == '\\')
        return read_escaped(r, start);
    lua_pushlstring(r->L, start, (size_t)(r->at - start));
    r->at++;
    return true;
}

/* ---- numbers ---- */

static bool push_integer(lua_State *L, const char *digits)
{
    errno = 0;
    if (digits[0] == '-') {
        long long v = strtoll(digits, NULL, 10);
        if (errno || v < -((long long)1 << 53))
            return false;
        lua_pushnumber(L, (lua_Number)v);
#if LUA_VERSION_NUM >= 503
        lua_pop(L, 1);
        lua_pushinteger(L, v);
#endif
        return true;
    }
    unsigned long long v = strtoull(digits, NULL, 10);
    if (errno)
        return false;
    lrv_push_u64(L, v);
    return true;
}

static bool read_number(reader *r)
{
    char text[64];
    size_t n = 0;
    bool is_whole = true;
    const char *start = r->at;
    while (r->at < r->end && *r->at && strchr("+-0123456789.eE", *r->at)) {
        char c = *r->at++;
        is_whole = is_whole && c != '.' && c != 'e' && c != 'E';
        if (n < sizeof text - 1)
            text[n++] = c == '.' ? *localeconv()->decimal_point : c;
    }
    text[n] = '\0';
    if ((size_t)(r->at - start) != n || !n || (text[0] != '-' && (text[0] < '0' || text[0] > '9')))
        return false;
    char *end = NULL;
    double d = strtod(text, &end);
    if (*end || end == text)
        return false;
    if (is_whole && push_integer(r->L, text))
        return true;
    if (is_whole)
        lua_pushlstring(r->L, text, n);
    else
        lua_pushnumber(r->L, d);
    return true;
}

/* ---- containers ---- */

static bool read_list(reader *r)
{
    r->at++;
    lua_newtable(r->L);
    skip_space(r);
    if (take(r, "]"))
        return true;
    for (int i = 1;; i++) {
        if (!read_value(r))
            return false;
        lua_rawseti(r->L, -2, i);
        skip_space(r);
        if (take(r, "]"))
            return true;
        if (!take(r, ","))
            return false;
    }
}

static bool read_object(reader *r)
{
    r->at++;
    lua_newtable(r->L);
    skip_space(r);
    if (take(r, "}"))
        return true;
    for (;;) {
        skip_space(r);
        if (r->at >= r->end || *r->at != '"' || !read_string(r))
            return false;
        skip_space(r);
        if (!take(r, ":") || !read_value(r))
            return false;
        lua_rawset(r->L, -3);
        skip_space(r);
        if (take(r, "}"))
            return true;
        if (!take(r, ","))
            return false;
    }
}

static bool read_value(reader *r)
{
    skip_space(r);
    if (r->at >= r->end || r->depth >= DEPTH)
        return false;
    luaL_checkstack(r->L, 8, "json");
    bool ok;
    switch (*r->at) {
    case '{':
    case '[':
        r->depth++;
        ok = *r->at == '{' ? read_object(r) : read_list(r);
        r->depth--;
        return ok;
    case '"':
        return read_string(r);
    case 't':
        lua_pushboolean(r->L, 1);
        return take(r, "true");
    case 'f':
        lua_pushboolean(r->L, 0);
        return take(r, "false");
    case 'n':
        lua_pushlightuserdata(r->L, NULL);
        return take(r, "null");
    default:
        return read_number(r);
    }
}

bool lrv_push_json(lua_State *L, const char *text, size_t len)
{
    reader r = {L, text, text + len, 0};
    int top = lua_gettop(L);
    bool ok = read_value(&r);
    if (ok) {
        skip_space(&r);
        ok = r.at == r.end;
    }
    if (ok)
        return true;
    lua_settop(L, top);
    lua_pushfstring(L, "not JSON (byte %d)", (int)(r.at - text));
    return false;
}

/* core.decode(text) -> value, or nil, message */
int lrv_decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (lrv_push_json(L, text, len))
        return 1;
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}
