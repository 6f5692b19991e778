/* Posts in Valkey: a hash each, in one sorted set by the time they are due, in another once they are
 * given up. */
#include "queue_valkey.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Five values per post, from ARGV[from] on. */
const char rv__valkey_post_lines[] =
    "local function add(id, from)\n"
    "  while ARGV[from] do\n"
    "    local row = redis.call('INCR', 'rv:row')\n"
    "    redis.call('HSET', 'rv:post:' .. row, 'task', id, 'kind', ARGV[from], 'target',\n"
    "      ARGV[from + 1], 'body', ARGV[from + 2], 'place', ARGV[from + 3], 'attempts', 0)\n"
    "    redis.call('ZADD', 'rv:posts', ARGV[from + 4], row)\n"
    "    from = from + 5\n"
    "  end\n"
    "end\n";

size_t rv__valkey_post_args(const rv__post *posts, size_t count, const char **args,
                            char (*room)[24])
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        snprintf(room[2 * i], sizeof *room, "%" PRId64, posts[i].index);
        snprintf(room[2 * i + 1], sizeof *room, "%" PRId64, posts[i].due_ms);
        args[n++] = posts[i].kind;
        args[n++] = posts[i].target;
        args[n++] = posts[i].body;
        args[n++] = room[2 * i];
        args[n++] = room[2 * i + 1];
    }
    return n;
}

rv_status rv__valkey_post_add(rv__queue *q, const char *id, const rv__post *posts, size_t count,
                              rv_error *err)
{
    char room[2 * RV__POSTS][24];
    const char *args[RV__VALKEY_ARGS] = {id};
    int64_t ignored;
    size_t n = 1 + rv__valkey_post_args(posts, count, args + 1, room);
    char *script = rv__format("%sadd(ARGV[1], 2)\nreturn 1", rv__valkey_post_lines);
    rv_status s = script ? rv__valkey_number((rv__valkey *)q, script, args, n, &ignored, err)
                         : rv__fail(err, RV_MEMORY, "out of memory");
    rv__free(script);
    return s;
}

static char *text_of(const redisReply *r, bool *ok)
{
    if (!r || r->type != REDIS_REPLY_STRING)
        return NULL;
    char *copy = rv__strndup(r->str, r->len);
    if (!copy)
        *ok = false;
    return copy;
}

static int64_t number_of(const redisReply *r)
{
    if (!r)
        return 0;
    return r->type == REDIS_REPLY_STRING ? strtoll(r->str, NULL, 10) : r->integer;
}

/* row, due, task, kind, target, body, place, attempts, why */
static bool read_post(const redisReply *r, bool is_dead, rv__post *p)
{
    bool ok = r->type == REDIS_REPLY_ARRAY && r->elements == 9;
    *p = (rv__post){0};
    if (!ok)
        return false;
    *p = (rv__post){.row = number_of(r->element[0]),
                    .due_ms = number_of(r->element[1]),
                    .task = text_of(r->element[2], &ok),
                    .kind = text_of(r->element[3], &ok),
                    .target = text_of(r->element[4], &ok),
                    .body = text_of(r->element[5], &ok),
                    .index = number_of(r->element[6]),
                    .attempts = (int)number_of(r->element[7]),
                    .why = text_of(r->element[8], &ok),
                    .is_dead = is_dead};
    return ok;
}

static rv_status list(rv__valkey *v, const char *script, const char *const *args, size_t arg_count,
                      bool is_dead, rv__post *out, size_t max, size_t *count, rv_error *err)
{
    redisReply *r;
    *count = 0;
    rv_status s = rv__valkey_run(v, script, args, arg_count, &r, err);
    for (size_t i = 0; s == RV_OK && r->type == REDIS_REPLY_ARRAY && i < r->elements && i < max;
         i++) {
        if (!read_post(r->element[i], is_dead, &out[(*count)++]))
            s = rv__fail(err, RV_MEMORY, "out of memory");
    }
    freeReplyObject(r);
    for (; s != RV_OK && *count; --*count)
        rv__post_free(&out[*count - 1]);
    return s;
}

rv_status rv__valkey_post_due(rv__queue *q, int64_t now_ms, int64_t hold_ms, rv__post *out,
                              size_t max, size_t *count, rv_error *err)
{
    static const char script[] =
        "local out = {}\n"
        "local rows = redis.call('ZRANGEBYSCORE', 'rv:posts', '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])\n"
        "if #rows == 0 then\n" /* planned before the clock was put back */
        "  rows = redis.call('ZRANGEBYSCORE', 'rv:posts', '(' .. ARGV[4], '+inf', 'LIMIT', 0, ARGV[3])\n"
        "end\n"
        "for _, row in ipairs(rows) do\n"
        "  local due = redis.call('ZSCORE', 'rv:posts', row)\n"
        "  local f = redis.call('HMGET', 'rv:post:' .. row, 'task', 'kind', 'target', 'body', 'place',\n"
        "    'attempts', 'why')\n"
        "  redis.call('ZADD', 'rv:posts', ARGV[2], row)\n"
        "  out[#out + 1] = {row, due, f[1], f[2], f[3], f[4], f[5], f[6], f[7]}\n"
        "end\n"
        "return out";
    char now[24], hold[24], limit[24], far[24];
    snprintf(far, sizeof far, "%" PRId64, now_ms + RV__POST_FAR_MS);
    snprintf(now, sizeof now, "%" PRId64, now_ms);
    snprintf(hold, sizeof hold, "%" PRId64, now_ms + hold_ms);
    snprintf(limit, sizeof limit, "%zu", max);
    return list((rv__valkey *)q, script, (const char *[]){now, hold, limit, far}, 4, false, out, max,
                count, err);
}

/* A change of one post: its row, then what the script needs. */
static rv_status change(rv__queue *q, const char *script, int64_t row, int64_t number,
                        const char *why, rv_error *err)
{
    char row_text[24], number_text[24];
    int64_t ignored;
    snprintf(row_text, sizeof row_text, "%" PRId64, row);
    snprintf(number_text, sizeof number_text, "%" PRId64, number);
    return rv__valkey_number((rv__valkey *)q, script,
                             (const char *[]){row_text, number_text, why}, 3, &ignored, err);
}

rv_status rv__valkey_post_done(rv__queue *q, int64_t row, rv_error *err)
{
    return change(q,
                  "redis.call('ZREM', 'rv:posts', ARGV[1])\n"
                  "return redis.call('DEL', 'rv:post:' .. ARGV[1])",
                  row, 0, NULL, err);
}

rv_status rv__valkey_post_retry(rv__queue *q, int64_t row, int64_t due_ms, const char *why,
                                rv_error *err)
{
    return change(q,
                  "local key = 'rv:post:' .. ARGV[1]\n"
                  "if redis.call('EXISTS', key) == 0 then return 0 end\n"
                  "redis.call('ZADD', 'rv:posts', ARGV[2], ARGV[1])\n"
                  "redis.call('HSET', key, 'why', ARGV[3])\n"
                  "return redis.call('HINCRBY', key, 'attempts', 1)",
                  row, due_ms, why, err);
}

rv_status rv__valkey_post_dead(rv__queue *q, int64_t row, const char *why, rv_error *err)
{
    return change(q,
                  "local key = 'rv:post:' .. ARGV[1]\n"
                  "if redis.call('ZREM', 'rv:posts', ARGV[1]) == 0 then return 0 end\n"
                  "redis.call('ZADD', 'rv:dead', ARGV[1], ARGV[1])\n"
                  "redis.call('HSET', key, 'why', ARGV[3])\n"
                  "return redis.call('HINCRBY', key, 'attempts', 1)",
                  row, 0, why, err);
}

rv_status rv__valkey_post_list_dead(rv__queue *q, int64_t after, rv__post *out, size_t max,
                                    size_t *count, rv_error *err)
{
    static const char script[] =
        "local out = {}\n"
        "local rows = redis.call('ZRANGEBYSCORE', 'rv:dead', '(' .. ARGV[1], '+inf', 'LIMIT', 0,\n"
        "  ARGV[2])\n"
        "for _, row in ipairs(rows) do\n"
        "  local f = redis.call('HMGET', 'rv:post:' .. row, 'task', 'kind', 'target', 'body', 'place',\n"
        "    'attempts', 'why')\n"
        "  out[#out + 1] = {row, '0', f[1], f[2], f[3], f[4], f[5], f[6], f[7]}\n"
        "end\n"
        "return out";
    char from[24], limit[24];
    snprintf(from, sizeof from, "%" PRId64, after);
    snprintf(limit, sizeof limit, "%zu", max);
    return list((rv__valkey *)q, script, (const char *[]){from, limit}, 2, true, out, max, count,
                err);
}

rv_status rv__valkey_post_next(rv__queue *q, int64_t *due_ms, rv_error *err)
{
    return rv__valkey_number((rv__valkey *)q,
                             "local r = redis.call('ZRANGE', 'rv:posts', 0, 0, 'WITHSCORES')\n"
                             "return r[2] and tonumber(r[2]) or 0",
                             NULL, 0, due_ms, err);
}
