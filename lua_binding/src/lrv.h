/* The C half of the Lua module: a thin mirror of reverie.h.  It never calls back into Lua, so no
 * Lua error can cross a frame of the core; all waiting and all sugar are Lua (../lua).  Every C
 * resource belongs to a userdata before anything that may raise is called. */
#ifndef LRV_H
#define LRV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compat.h"
#include "reverie.h"

#define LRV_CLIENT "reverie.core.client"
#define LRV_BATCH  "reverie.core.batch"
#define LRV_JOB    "reverie.core.job"
#define LRV_IMAGE  "reverie.image"
#define LRV_ERROR  "reverie.error"
#define LRV_MEMORY "reverie.core.memory"
#define LRV_WORK   "reverie.core.work"

typedef struct lrv_client lrv_client;

/* The core's view of one submitted job; counted, because the core owes it events after Lua has
 * forgotten it. */
typedef struct lrv_job {
    int refs;      /* the client's until the job ended, and the userdata's */
    lua_Number id; /* how the Lua half finds its object                    */
    lrv_client *client;
    rv_job *job;
    struct lrv_job *live_prev, *live_next, *news_next;
    bool has_news, is_queued, is_started, has_step, has_image, is_ended;
    size_t position, step_index, preview_index;
    int step, steps;
    rv_image *preview;
} lrv_job;

/* Memory that a raised error must not leak: bytes of the core (rv_free), or a buffer that grows
 * (free). */
typedef struct lrv_memory {
    void *core;
    char *data;
    size_t len, cap;
    bool failed;
} lrv_memory;

/* lrv.c */
lrv_memory *lrv_push_memory(lua_State *L);
void lrv_memory_release(lrv_memory *m);
void lrv_add(lrv_memory *m, const void *data, size_t len);
char *lrv_grow(lrv_memory *m, size_t len); /* room for len more bytes; NULL: no memory */
void lrv_push_u64(lua_State *L, uint64_t v);
void lrv_new_class(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *methods);

/* Pushes nil, the message and an error object; returns 3.  err may be NULL. */
int lrv_fail(lua_State *L, rv_status status, const rv_error *err);
/* Pushes an error object. */
void lrv_push_error(lua_State *L, rv_status status, const rv_error *err);

/* lrv_client.c, lrv_job.c */
void lrv_client_open_class(lua_State *L);
int lrv_client_new(lua_State *L);
void lrv_job_open_class(lua_State *L);
lrv_job *lrv_job_push(lua_State *L); /* a userdata with an empty job; raises when out of memory */
void lrv_job_drop(lrv_job *j);

/* lrv_image.c */
void lrv_image_open_class(lua_State *L);
void lrv_image_push(lua_State *L, rv_image *i); /* takes its own reference */
int lrv_image_from_pixels(lua_State *L);
int lrv_image_from_bytes(lua_State *L);

/* lrv_work.c */
void lrv_work_open_class(lua_State *L);
int lrv_work_new(lua_State *L);

/* lrv_encode.c, lrv_decode.c */
int lrv_encode(lua_State *L);
int lrv_decode(lua_State *L);
bool lrv_push_json(lua_State *L, const char *text, size_t len); /* false: pushed a message */

#endif
