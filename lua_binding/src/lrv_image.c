/* Images: size, bytes in any format, pixels in and out, files, recipes.  An image never changes. */
#include "lrv.h"

#include <stdio.h>
#include <string.h>

enum { QUALITY = 95 }; /* the service's default */

static rv_image *check(lua_State *L, int i)
{
    rv_image *image = *(rv_image **)luaL_checkudata(L, i, LRV_IMAGE);
    if (!image)
        luaL_error(L, "misuse: the image is closed");
    return image;
}

static rv_image **push_slot(lua_State *L)
{
    rv_image **slot = lua_newuserdata(L, sizeof *slot);
    *slot = NULL;
    luaL_setmetatable(L, LRV_IMAGE);
    return slot;
}

void lrv_image_push(lua_State *L, rv_image *i)
{
    rv_image **slot = push_slot(L);
    *slot = rv_image_ref(i);
}

static int image_close(lua_State *L)
{
    rv_image **slot = luaL_checkudata(L, 1, LRV_IMAGE);
    rv_image_unref(*slot);
    *slot = NULL;
    return 0;
}

/* ---- layouts ---- */

static int channels_of(lua_State *L, int i, int preset)
{
    static const char *const names[] = {"gray", "rgb", "rgba", NULL};
    static const int channels[] = {1, 3, 4};
    if (lua_isnoneornil(L, i))
        return preset;
    return channels[luaL_checkoption(L, i, NULL, names)];
}

/* Copies n pixels between layouts; gray is the luma of BT.601, as JPEG has it. */
static void convert(uint8_t *to, int to_channels, const uint8_t *from, int from_channels, size_t n)
{
    for (size_t k = 0; k < n; k++, to += to_channels, from += from_channels) {
        if (to_channels == 1) {
            to[0] = (uint8_t)((from[0] * 299 + from[1] * 587 + from[2] * 114 + 500) / 1000);
            continue;
        }
        to[0] = from[0];
        to[1] = from_channels == 1 ? from[0] : from[1];
        to[2] = from_channels == 1 ? from[0] : from[2];
        if (to_channels == 4)
            to[3] = from_channels == 4 ? from[3] : 255;
    }
}

static uint8_t *room(lua_State *L, size_t n)
{
    lrv_memory *m = lrv_push_memory(L);
    char *p = lrv_grow(m, n);
    if (!p)
        luaL_error(L, "not enough memory");
    return (uint8_t *)p;
}

/* ---- pixels ---- */

/* image:pixels([layout]) -> string, width, height */
static int image_pixels(lua_State *L)
{
    rv_image *i = check(L, 1);
    rv_image_info info = rv_image_facts(i);
    int channels = channels_of(L, 2, info.channels);
    const uint8_t *pixels = rv_image_pixels(i);
    if (!pixels)
        return lrv_fail(L, RV_FORMAT, NULL);
    size_t n = (size_t)info.width * (size_t)info.height;
    if (channels != info.channels) {
        uint8_t *copy = room(L, n * (size_t)channels);
        convert(copy, channels, pixels, info.channels, n);
        lua_pushlstring(L, (const char *)copy, n * (size_t)channels);
        lrv_memory_release(lua_touserdata(L, -2));
    } else {
        lua_pushlstring(L, (const char *)pixels, n * (size_t)channels);
    }
    lua_pushinteger(L, info.width);
    lua_pushinteger(L, info.height);
    return 3;
}

/* image:pointer() -> light userdata, bytes, channels: for LuaJIT's FFI, valid as long as the image
 */
static int image_pointer(lua_State *L)
{
    rv_image *i = check(L, 1);
    rv_image_info info = rv_image_facts(i);
    const uint8_t *pixels = rv_image_pixels(i);
    if (!pixels)
        return lrv_fail(L, RV_FORMAT, NULL);
    lua_pushlightuserdata(L, (void *)pixels);
    lua_pushnumber(L, (lua_Number)info.width * info.height * info.channels);
    lua_pushinteger(L, info.channels);
    return 3;
}

/* image(x, y) -> r, g, b [, a]; counted from 0 at the upper left; nothing outside */
static int image_call(lua_State *L)
{
    rv_image *i = check(L, 1);
    rv_image_info info = rv_image_facts(i);
    lua_Number x = luaL_checknumber(L, 2), y = luaL_checknumber(L, 3);
    const uint8_t *pixels = rv_image_pixels(i);
    if (!pixels || !(x >= 0 && x < info.width && y >= 0 && y < info.height))
        return 0;
    const uint8_t *p =
        pixels + ((size_t)y * (size_t)info.width + (size_t)x) * (size_t)info.channels;
    for (int c = 0; c < info.channels; c++)
        lua_pushinteger(L, p[c]);
    return info.channels;
}

static int push_new(lua_State *L, rv_image **slot, const uint8_t *pixels, int w, int h,
                    int channels)
{
    rv_status s = rv_image_from_pixels(pixels, w, h, channels, slot);
    return s == RV_OK ? 1 : lrv_fail(L, s, NULL);
}

/* core.image(pixels, width, height [, layout]) -> image */
int lrv_image_from_pixels(lua_State *L)
{
    size_t len;
    const char *pixels = luaL_checklstring(L, 1, &len);
    lua_Number w = luaL_checknumber(L, 2), h = luaL_checknumber(L, 3);
    int channels = channels_of(L, 4, 3);
    luaL_argcheck(L, w >= 1 && w == (int)w, 2, "not a width");
    luaL_argcheck(L, h >= 1 && h == (int)h, 3, "not a height");
    luaL_argcheck(L, w * h <= (lua_Number)RV_IMAGE_MAX_PIXELS, 2, "too many pixels");
    luaL_argcheck(L, (lua_Number)len == w * h * channels, 1,
                  "its length must be width * height * channels");
    lua_settop(L, 1);
    rv_image **slot = push_slot(L);
    if (channels != 1)
        return push_new(L, slot, (const uint8_t *)pixels, (int)w, (int)h, channels);
    uint8_t *rgb = room(L, len * 3);
    convert(rgb, 3, (const uint8_t *)pixels, 1, len);
    lua_pushvalue(L, 2);
    return push_new(L, slot, rgb, (int)w, (int)h, 3);
}

/* core.image_from_bytes(string) -> image */
int lrv_image_from_bytes(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    rv_image **slot = push_slot(L);
    rv_error err;
    rv_status s = rv_image_from_bytes(bytes, len, slot, &err);
    return s == RV_OK ? 1 : lrv_fail(L, s, &err);
}

/* ---- smaller ---- */

/* Means of the source pixels below each new pixel; weights in whole source pixels are enough for
 * pictures of less than half the size, and nearest neighbours never show. */
static void shrink(uint8_t *to, int w, int h, const uint8_t *from, const rv_image_info *f)
{
    size_t stride = (size_t)f->width * (size_t)f->channels;
    for (int y = 0; y < h; y++) {
        int64_t y0 = (int64_t)y * f->height / h, y1 = ((int64_t)y + 1) * f->height / h;
        for (int x = 0; x < w; x++) {
            int64_t x0 = (int64_t)x * f->width / w, x1 = ((int64_t)x + 1) * f->width / w;
            int64_t n = (y1 - y0) * (x1 - x0);
            for (int c = 0; c < f->channels; c++) {
                int64_t sum = n / 2;
                for (int64_t v = y0; v < y1; v++) {
                    const uint8_t *p =
                        from + (size_t)v * stride + (size_t)x0 * (size_t)f->channels + c;
                    for (int64_t u = x0; u < x1; u++, p += f->channels)
                        sum += *p;
                }
                *to++ = (uint8_t)(sum / n);
            }
        }
    }
}

/* image:thumbnail(size) -> an image of the same shape whose longer side is at most size */
static int image_thumbnail(lua_State *L)
{
    rv_image *i = check(L, 1);
    lua_Number size = luaL_checknumber(L, 2);
    luaL_argcheck(L, size >= 1, 2, "must be at least 1");
    rv_image_info f = rv_image_facts(i);
    const uint8_t *pixels = rv_image_pixels(i);
    if (!pixels)
        return lrv_fail(L, RV_FORMAT, NULL);
    int longer = f.width > f.height ? f.width : f.height;
    if (size >= longer) {
        lua_settop(L, 1);
        return 1;
    }
    int w = (int)((lua_Number)f.width * size / longer + 0.5),
        h = (int)((lua_Number)f.height * size / longer + 0.5);
    w = w < 1 ? 1 : w;
    h = h < 1 ? 1 : h;
    uint8_t *small = room(L, (size_t)w * (size_t)h * (size_t)f.channels);
    rv_image **slot = push_slot(L);
    shrink(small, w, h, pixels, &f);
    return push_new(L, slot, small, w, h, f.channels);
}

/* ---- files ---- */

/* The quality of an options table or number at i. */
static int quality_at(lua_State *L, int i)
{
    if (lua_istable(L, i)) {
        lua_getfield(L, i, "quality");
        int q = (int)luaL_optnumber(L, -1, QUALITY);
        lua_pop(L, 1);
        return q;
    }
    return (int)luaL_optnumber(L, i, QUALITY);
}

/* image:bytes([format [, quality or {quality=}]]) -> string */
static int image_bytes(lua_State *L)
{
    rv_image *i = check(L, 1);
    const char *format = luaL_optstring(L, 2, "png");
    int quality = quality_at(L, 3);
    lrv_memory *m = lrv_push_memory(L);
    size_t len;
    rv_error err;
    rv_status s = rv_image_encode(i, format, quality, &m->core, &len, &err);
    if (s != RV_OK)
        return lrv_fail(L, s, &err);
    lua_pushlstring(L, m->core, len);
    lrv_memory_release(m);
    return 1;
}

/* image:save(path [, {format=, quality=}]) -> true */
static int image_save(lua_State *L)
{
    rv_image *i = check(L, 1);
    const char *path = luaL_checkstring(L, 2);
    const char *format = NULL;
    lua_settop(L, 3);
    if (lua_istable(L, 3)) {
        lua_getfield(L, 3, "format");
        format = luaL_optstring(L, -1, NULL);
    }
    rv_error err;
    rv_status s = rv_image_write(i, path, format, quality_at(L, 3), &err);
    if (s != RV_OK)
        return lrv_fail(L, s, &err);
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- facts ---- */

static int push_recipe(lua_State *L, const rv_image *i)
{
    lrv_memory *m = lrv_push_memory(L);
    m->core = rv_image_recipe(i);
    if (!m->core || !lrv_push_json(L, m->core, strlen(m->core)) || !lua_istable(L, -1))
        lua_pushnil(L);
    lrv_memory_release(m);
    return 1;
}

static void push_text(lua_State *L, const char *text)
{
    if (text && *text)
        lua_pushstring(L, text);
    else
        lua_pushnil(L);
}

/* A picture read from a file knows its seed from its recipe. */
static int push_seed(lua_State *L, const rv_image *i, const rv_image_info *f)
{
    if (*f->uuid) {
        lrv_push_u64(L, f->seed);
        return 1;
    }
    push_recipe(L, i);
    if (lua_istable(L, -1))
        lua_getfield(L, -1, "seed");
    return 1;
}

static int push_fact(lua_State *L, const rv_image *i, const char *name)
{
    rv_image_info f = rv_image_facts(i);
    if (strcmp(name, "width") == 0)
        lua_pushinteger(L, f.width);
    else if (strcmp(name, "height") == 0)
        lua_pushinteger(L, f.height);
    else if (strcmp(name, "channels") == 0)
        lua_pushinteger(L, f.channels);
    else if (strcmp(name, "seed") == 0)
        return push_seed(L, i, &f);
    else if (strcmp(name, "uuid") == 0)
        push_text(L, f.uuid);
    else if (strcmp(name, "url") == 0)
        push_text(L, f.url);
    else if (strcmp(name, "cost") == 0 && f.cost >= 0)
        lua_pushnumber(L, f.cost);
    else if (strcmp(name, "flagged") == 0 && f.nsfw >= 0)
        lua_pushboolean(L, f.nsfw);
    else if (strcmp(name, "recipe") == 0)
        return push_recipe(L, i);
    else
        lua_pushnil(L);
    return 1;
}

/* Methods first, then facts. */
static int image_index(lua_State *L)
{
    rv_image *i = *(rv_image **)luaL_checkudata(L, 1, LRV_IMAGE);
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    if (!lua_isnil(L, -1))
        return 1;
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (!i) {
        if (strcmp(name, "closed") == 0)
            lua_pushboolean(L, 1);
        return 1;
    }
    return push_fact(L, i, name);
}

static int image_tostring(lua_State *L)
{
    rv_image *i = *(rv_image **)luaL_checkudata(L, 1, LRV_IMAGE);
    if (!i) {
        lua_pushliteral(L, "reverie.image (closed)");
        return 1;
    }
    rv_image_info f = rv_image_facts(i);
    lua_pushfstring(L, "reverie.image %dx%d", f.width, f.height);
    return 1;
}

static int image_eq(lua_State *L)
{
    rv_image **a = luaL_testudata(L, 1, LRV_IMAGE), **b = luaL_testudata(L, 2, LRV_IMAGE);
    lua_pushboolean(L, a && b && *a == *b);
    return 1;
}

void lrv_image_open_class(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", image_close},          {"__close", image_close},
                                    {"__tostring", image_tostring}, {"__eq", image_eq},
                                    {"__call", image_call},         {NULL, NULL}};
    static const luaL_Reg methods[] = {{"bytes", image_bytes},
                                       {"pixels", image_pixels},
                                       {"pointer", image_pointer},
                                       {"save", image_save},
                                       {"thumbnail", image_thumbnail},
                                       {"close", image_close},
                                       {NULL, NULL}};
    lrv_new_class(L, LRV_IMAGE, meta, NULL);
    luaL_getmetatable(L, LRV_IMAGE);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushcclosure(L, image_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
