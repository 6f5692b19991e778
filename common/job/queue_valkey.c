/* The durable queue on a Valkey server, for several processes on several machines.
 *
 *     rv:tasks    stream with the group "rv": tasks that wait or run, by id
 *     rv:t:ID     hash: how the task stands; known for a day longer than its results
 *     rv:d:ID     hash: the task itself, its items, error and warnings, until they expire
 *     rv:p:ID     item by imageUUID
 *
 * Whoever runs a task says so each third of the lease; a task nobody spoke for is given to another
 * process.  Later writes of the first one show an old token and change nothing.  Every change is one
 * script, so it happens as a whole or not at all, and tells the others so on a channel
 * (queue_valkey_news.c): that is a doorbell, which may be missed. */
#include "queue_valkey.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/uuid.h"

enum {
    CONNECT_MS = 2000,
    ANSWER_MS = 5000,
    LEASE_MS = 30000
};

/* ---- the link ---- */

static rv_status away(rv__valkey *v, const char *why, rv_error *err)
{
    rv_status s = rv__fail_code(err, RV_BUSY, "serviceUnavailable", NULL,
                                "the queue's server %s:%d: %s", v->host, v->port, why);
    if (err)
        err->retry_after_ms = 2000;
    if (v->link)
        redisFree(v->link);
    v->link = NULL;
    return s;
}

/* One command; *reply is NULL where this fails. */
static rv_status command(rv__valkey *v, int argc, const char **argv, redisReply **reply,
                         rv_error *err)
{
    *reply = NULL;
    if (!v->link)
        return away(v, "not connected", err);
    redisReply *r = redisCommandArgv(v->link, argc, argv, NULL);
    if (!r)
        return away(v, v->link->errstr, err);
    if (r->type != REDIS_REPLY_ERROR) {
        *reply = r;
        return RV_OK;
    }
    bool is_full = strncmp(r->str, "OOM", 3) == 0 || strncmp(r->str, "MISCONF", 7) == 0;
    rv_status s;
    if (is_full)
        s = rv__fail_code(err, RV_BUSY, "insufficientStorage", NULL,
                          "the queue's server has no room: %s", r->str);
    else if (strncmp(r->str, "LOADING", 7) == 0 || strncmp(r->str, "READONLY", 8) == 0)
        s = away(v, r->str, err);
    else
        s = rv__fail(err, RV_IO, "the queue's server %s:%d: %s", v->host, v->port, r->str);
    freeReplyObject(r);
    return s;
}

/* A command whose answer says nothing more. */
static rv_status simple(rv__valkey *v, int argc, const char **argv, rv_error *err)
{
    redisReply *r;
    rv_status s = command(v, argc, argv, &r, err);
    freeReplyObject(r);
    return s;
}

#define SIMPLE(v, err, ...)                                                                        \
    simple(v, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)),                       \
           (const char *[]){__VA_ARGS__}, err)

static rv_status make_group(rv__valkey *v, rv_error *err)
{
    rv_error why;
    rv_status s = SIMPLE(v, &why, "XGROUP", "CREATE", "rv:tasks", "rv", "0", "MKSTREAM");
    if (s == RV_IO && strstr(why.message, "BUSYGROUP"))
        return RV_OK;
    if (s != RV_OK && err)
        *err = why;
    return s;
}

static redisContext *open_link(const rv__valkey *v)
{
    struct timeval limit = {CONNECT_MS / 1000, 0}, answer = {ANSWER_MS / 1000, 0};
    redisContext *link = redisConnectWithTimeout(v->host, v->port, limit);
    if (link && !link->err) {
        redisSetTimeout(link, answer);
        redisEnableKeepAlive(link);
    }
    return link;
}

redisContext *rv__valkey_connect(const rv__valkey *v)
{
    redisContext *link = open_link(v);
    bool ok = link && !link->err;
    redisReply *r = ok && v->password ? redisCommand(link, "AUTH %s", v->password) : NULL;
    ok &= !v->password || (r && r->type != REDIS_REPLY_ERROR);
    freeReplyObject(r);
    if (!ok && link)
        redisFree(link);
    return ok ? link : NULL;
}

static rv_status connect_now(rv__valkey *v, rv_error *err)
{
    char database[16];
    if (v->link)
        return RV_OK;
    v->link = open_link(v);
    if (!v->link)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (v->link->err)
        return away(v, v->link->errstr, err);
    snprintf(database, sizeof database, "%d", v->database);
    rv_status s = v->password ? SIMPLE(v, err, "AUTH", v->password) : RV_OK;
    if (s == RV_OK && v->database)
        s = SIMPLE(v, err, "SELECT", database);
    if (s == RV_OK)
        s = make_group(v, err);
    if (s == RV_OK) /* without an append-only file this is an error, and nothing outlives the server */
        v->has_log = SIMPLE(v, NULL, "WAITAOF", "0", "0", "1") == RV_OK;
    return s;
}

rv_status rv__valkey_run(rv__valkey *v, const char *script, const char *const *args, size_t count,
                         redisReply **reply, rv_error *err)
{
    const char *argv[RV__VALKEY_ARGS + 3] = {"EVAL", script, "0"};
    for (size_t i = 0; i < count && i < RV__VALKEY_ARGS; i++)
        argv[3 + i] = args[i] ? args[i] : "";
    return command(v, (int)count + 3, argv, reply, err);
}

rv_status rv__valkey_number(rv__valkey *v, const char *script, const char *const *args,
                            size_t count, int64_t *number, rv_error *err)
{
    redisReply *r;
    rv_status s = rv__valkey_run(v, script, args, count, &r, err);
    *number = r && r->type == REDIS_REPLY_INTEGER ? r->integer : 0;
    freeReplyObject(r);
    return s;
}

/* ---- what is claimed ---- */

static rv__claimed *claimed_of(rv__valkey *v, const char *id)
{
    rv__claimed *c = v->claimed;
    while (c && strcmp(c->id, id) != 0)
        c = c->next;
    return c;
}

static void drop_claimed(rv__valkey *v, const char *id)
{
    for (rv__claimed **at = &v->claimed; *at; at = &(*at)->next) {
        rv__claimed *c = *at;
        if (strcmp(c->id, id) != 0)
            continue;
        *at = c->next;
        rv__free(c->id);
        rv__free(c->entry);
        rv__free(c);
        return;
    }
}

static bool add_claimed(rv__valkey *v, const char *id, const char *entry, int attempt)
{
    bool ok = true;
    drop_claimed(v, id);
    rv__claimed *c = rv__calloc(1, sizeof *c);
    if (!c)
        return false;
    *c = (rv__claimed){.id = rv__queue_text(id, &ok),
                       .entry = rv__queue_text(entry, &ok),
                       .attempt = attempt,
                       .next = v->claimed};
    v->claimed = c;
    if (!ok) {
        v->claimed = c->next;
        rv__free(c->id);
        rv__free(c->entry);
        rv__free(c);
    }
    return ok;
}

void rv__valkey_token(rv__valkey *v, const char *id, char token[96])
{
    const rv__claimed *c = claimed_of(v, id);
    snprintf(token, 96, "%s:%d", v->name, c ? c->attempt : 0);
}

static int valkey_tick(rv__queue *q)
{
    rv__valkey *v = (rv__valkey *)q;
    int64_t every = v->lease_ms / 3, now = rv__clock_ms();
    if (now - v->beat_ms < every)
        return (int)(every - (now - v->beat_ms));
    v->beat_ms = now;
    rv_status s = v->claimed ? connect_now(v, NULL) : RV_OK;
    for (rv__claimed *c = v->claimed; c && s == RV_OK; c = c->next)
        s = SIMPLE(v, NULL, "XCLAIM", "rv:tasks", "rv", v->name, "0", c->entry, "JUSTID");
    return (int)every;
}

/* ---- transactions: every change is whole by itself ---- */

static rv_status valkey_begin(rv__queue *q, bool lasting, rv_error *err)
{
    rv__valkey *v = (rv__valkey *)q;
    v->is_lasting = lasting;
    return connect_now(v, err);
}

static rv_status valkey_commit(rv__queue *q, rv_error *err)
{
    rv__valkey *v = (rv__valkey *)q;
    return v->is_lasting && v->has_log ? SIMPLE(v, err, "WAITAOF", "1", "0", "3000") : RV_OK;
}

static void valkey_rollback(rv__queue *q)
{
}

/* ---- reading ---- */

static const char *field(const redisReply *r, const char *name)
{
    for (size_t i = 0; r && i + 1 < r->elements; i += 2) {
        if (strcmp(r->element[i]->str, name) == 0)
            return r->element[i + 1]->str;
    }
    return NULL;
}

static int64_t number(const redisReply *r, const char *name)
{
    const char *text = field(r, name);
    return text ? strtoll(text, NULL, 10) : 0;
}

static const char *empty_is_none(const char *text)
{
    return text && *text ? text : NULL;
}

/* "index step steps" */
static void read_progress(const char *text, rv__record *out)
{
    char *end = NULL;
    if (!text)
        return;
    out->step_index = (size_t)strtoull(text, &end, 10);
    out->step = (int)strtol(end, &end, 10);
    out->steps = (int)strtol(end, NULL, 10);
}

static bool read_record(const char *id, const redisReply *t, const redisReply *d, rv__record *out)
{
    bool ok = true;
    char name[32];
    *out = (rv__record){.id = rv__queue_text(id, &ok),
                        .state = (rv__stored)number(t, "state"),
                        .is_answer = number(t, "answer") != 0,
                        .is_drawn = number(t, "drawn") != 0,
                        .attempts = (int)number(t, "attempts"),
                        .count = (size_t)number(t, "pictures"),
                        .created = number(t, "created"),
                        .expiry = number(t, "expiry"),
                        .is_unwanted = number(t, "unwanted") != 0,
                        .task = rv__queue_text(field(d, "task"), &ok),
                        .results_url = rv__queue_text(empty_is_none(field(d, "url")), &ok),
                        .error = rv__queue_text(empty_is_none(field(d, "error")), &ok),
                        .warnings = rv__queue_text(empty_is_none(field(d, "warnings")), &ok),
                        .sent = rv__queue_text(empty_is_none(field(d, "sent")), &ok)};
    read_progress(field(t, "at"), out);
    out->items = rv__calloc(out->count ? out->count : 1, sizeof *out->items);
    for (size_t i = 0; out->items && i < out->count; i++) {
        snprintf(name, sizeof name, "i%zu", i);
        out->items[i] = rv__queue_text(field(d, name), &ok);
    }
    bool is_over = out->expiry && out->expiry < time(NULL);
    if (is_over || (out->id && !out->task))
        out->state = RV__EXPIRED;
    return ok && out->items;
}

static rv_status valkey_find(rv__queue *q, const char *id, rv__record *out, rv_error *err)
{
    static const char script[] = "return {redis.call('HGETALL', 'rv:t:' .. ARGV[1]),"
                                 " redis.call('HGETALL', 'rv:d:' .. ARGV[1])}";
    redisReply *r;
    *out = (rv__record){0};
    rv_status s = rv__valkey_run((rv__valkey *)q, script, &id, 1, &r, err);
    if (s == RV_OK && r->elements == 2 && r->element[0]->elements &&
        !read_record(id, r->element[0], r->element[1], out)) {
        rv__record_free(out);
        s = rv__fail(err, RV_MEMORY, "out of memory");
    }
    freeReplyObject(r);
    if (s == RV_OK && out->is_answer && out->state == RV__EXPIRED)
        rv__record_free(out);
    return s;
}

static rv_status valkey_picture(rv__queue *q, const char *id, char **item, rv_error *err)
{
    redisReply *r;
    bool ok = true;
    char *key = rv__format("rv:p:%s", id);
    *item = NULL;
    if (!key)
        return rv__fail(err, RV_MEMORY, "out of memory");
    rv_status s = command((rv__valkey *)q, 2, (const char *[]){"GET", key}, &r, err);
    if (s == RV_OK && r->type == REDIS_REPLY_STRING)
        *item = rv__queue_text(r->str, &ok);
    freeReplyObject(r);
    rv__free(key);
    return ok ? s : rv__fail(err, RV_MEMORY, "out of memory");
}

static rv_status valkey_counts(rv__queue *q, int64_t *waiting, int64_t *running, rv_error *err)
{
    rv__valkey *v = (rv__valkey *)q;
    rv_status s = rv__valkey_number(v, "return redis.call('XPENDING', 'rv:tasks', 'rv')[1]", NULL,
                                    0, running, err);
    if (s == RV_OK)
        s = rv__valkey_number(v, "return redis.call('XLEN', 'rv:tasks')", NULL, 0, waiting, err);
    *waiting -= *running;
    return s;
}

/* ---- writing ---- */

/* ARGV: id, state, answer, drawn, pictures, created, expiry, task, url, warnings.  What is there and
 * still counts was looked at before; `known` guards against somebody who was faster. */
#define WRITE                                                                                      \
    "local t, d = 'rv:t:' .. ARGV[1], 'rv:d:' .. ARGV[1]\n"                                        \
    "redis.call('DEL', t, d)\n"                                                                    \
    "redis.call('HSET', t, 'state', ARGV[2], 'answer', ARGV[3], 'drawn', ARGV[4], 'pictures',\n"   \
    "  ARGV[5], 'created', ARGV[6], 'expiry', ARGV[7], 'attempts', 0)\n"                           \
    "redis.call('HSET', d, 'task', ARGV[8], 'url', ARGV[9], 'warnings', ARGV[10])\n"

static size_t write_args(const rv__record *r, rv__stored state, bool is_answer, const char **args,
                         char (*room)[24])
{
    snprintf(room[0], 24, "%d", (int)state);
    snprintf(room[1], 24, "%zu", r->count);
    snprintf(room[2], 24, "%" PRId64, r->created);
    snprintf(room[3], 24, "%" PRId64, r->expiry);
    const char *const list[] = {r->id, room[0], is_answer ? "1" : "0", r->is_drawn ? "1" : "0",
                                room[1], room[2], room[3], r->task, r->results_url, r->warnings};
    memcpy(args, list, sizeof list);
    return sizeof list / sizeof *list;
}

static rv_status valkey_submit(rv__queue *q, const rv__record *task, int64_t backlog,
                               rv__verdict *verdict, rv_error *err)
{
    static const char script[] =
        "local is = redis.call('HGET', 'rv:t:' .. ARGV[1], 'state')\n"
        "local answer = redis.call('HGET', 'rv:t:' .. ARGV[1], 'answer')\n"
        "if is and answer == '0' and ARGV[11] == 'new' then return -1 end\n"
        "if redis.call('XLEN', 'rv:tasks') >= tonumber(ARGV[12]) then return -2 end\n" WRITE
        "local entry = redis.call('XADD', 'rv:tasks', '*', 'id', ARGV[1])\n"
        "redis.call('HSET', t, 'entry', entry)\n" RV__VALKEY_TELL("'" RV__RING_NEW "'")
        "return 1";
    rv__valkey *v = (rv__valkey *)q;
    rv__record known;
    bool same = false;
    int64_t done = -1;
    while (done == -1) {
        rv_status s = valkey_find(q, task->id, &known, err);
        bool is_there = known.id != NULL, is_live = is_there && known.state != RV__EXPIRED;
        if (s == RV_OK && is_live && rv__record_same(task, &known, &same) != RV_OK)
            s = rv__fail(err, RV_MEMORY, "out of memory");
        *verdict = same ? RV__SAME : is_live && !known.is_answer ? RV__OTHER : RV__NEW;
        rv__record_free(&known);
        if (s != RV_OK || *verdict != RV__NEW)
            return s;
        const char *args[12];
        char room[4][24], limit[24];
        size_t n = write_args(task, RV__WAITING, false, args, room);
        snprintf(limit, sizeof limit, "%" PRId64, backlog);
        args[n++] = is_there ? "old" : "new";
        args[n++] = limit;
        s = rv__valkey_number(v, script, args, n, &done, err);
        if (s != RV_OK)
            return s;
    }
    q->poked |= done == 1;
    if (done == -2) {
        rv__fail(err, RV_RATE_LIMIT, "%lld tasks wait already", (long long)backlog);
        if (err)
            err->retry_after_ms = 10000;
        return RV_RATE_LIMIT;
    }
    return RV_OK;
}

/* The imageUUID of an item, in text that cJSON need not see again. */
#define PICTURE_LINES                                                                              \
    "local function picture(id, item, expiry)\n"                                                   \
    "  local uuid = string.match(item, '\"imageUUID\":\"([%x-]+)\"')\n"                            \
    "  if not uuid then return end\n"                                                              \
    "  local key = 'rv:p:' .. string.match(id, '^(.*/)') .. uuid\n"                                \
    "  redis.call('SET', key, item)\n"                                                             \
    "  if tonumber(expiry) > 0 then redis.call('EXPIREAT', key, expiry) end\n"                     \
    "end\n"

static rv_status valkey_item(rv__queue *q, const char *id, size_t index, const char *item,
                             const rv__post *posts, size_t post_count, rv_error *err)
{
    static const char script[] =
        PICTURE_LINES
                      "local t, d = 'rv:t:' .. ARGV[1], 'rv:d:' .. ARGV[1]\n"
                      "if redis.call('HGET', t, 'token') ~= ARGV[4] then return 0 end\n"
                      "if redis.call('HSETNX', d, ARGV[2], ARGV[3]) == 0 then return 0 end\n"
                      "picture(ARGV[1], ARGV[3], 0)\n"
                      "add(ARGV[1], 5)\n" RV__VALKEY_TELL("ARGV[1]")
                      "return 1";
    rv__valkey *v = (rv__valkey *)q;
    char name[32], token[96], room[2 * RV__POSTS][24];
    const char *args[RV__VALKEY_ARGS] = {id, name, item, token};
    int64_t done;
    snprintf(name, sizeof name, "i%zu", index);
    rv__valkey_token(v, id, token);
    size_t n = 4 + rv__valkey_post_args(posts, post_count, args + 4, room);
    char *text = rv__format("%s%s", rv__valkey_post_lines, script);
    rv_status s = text ? rv__valkey_number(v, text, args, n, &done, err)
                       : rv__fail(err, RV_MEMORY, "out of memory");
    rv__free(text);
    return s;
}

static rv_status valkey_sent(rv__queue *q, const char *id, const char *note, rv_error *err)
{
    static const char script[] =
        "if redis.call('HGET', 'rv:t:' .. ARGV[1], 'token') ~= ARGV[2] then return 0 end\n"
        "redis.call('HSET', 'rv:d:' .. ARGV[1], 'sent', ARGV[3])\n"
        "return 1";
    rv__valkey *v = (rv__valkey *)q;
    char token[96];
    int64_t done = 0;
    rv__valkey_token(v, id, token);
    rv_status s = rv__valkey_number(v, script, (const char *[]){id, token, note}, 3, &done, err);
    return s == RV_OK && !done ? rv__fail(err, RV_CANCELLED, "the task is in other hands") : s;
}

static rv_status valkey_finish(rv__queue *q, const char *id, rv__stored state, const char *error,
                               const char *warnings, int64_t expiry, const rv__post *posts,
                               size_t post_count, rv_error *err)
{
    static const char script[] =
        PICTURE_LINES RV__VALKEY_EXPIRE
        "local t, d = 'rv:t:' .. ARGV[1], 'rv:d:' .. ARGV[1]\n"
        "local f = redis.call('HMGET', t, 'token', 'state', 'entry', 'pictures')\n"
        "if f[1] ~= ARGV[6] or tonumber(f[2]) > 1 then return 0 end\n"
        "redis.call('HSET', t, 'state', ARGV[2], 'expiry', ARGV[5])\n"
        "redis.call('HSET', d, 'error', ARGV[3], 'warnings', ARGV[4])\n"
        "redis.call('XACK', 'rv:tasks', 'rv', f[3])\n"
        "redis.call('XDEL', 'rv:tasks', f[3])\n"
        "for i = 0, tonumber(f[4]) - 1 do\n"
        "  local item = redis.call('HGET', d, 'i' .. i)\n"
        "  if item then picture(ARGV[1], item, ARGV[5]) end\n"
        "end\n"
        "expire(ARGV[1], ARGV[5], false)\n"
        "add(ARGV[1], 7)\n" RV__VALKEY_TELL("ARGV[1]")
        "return 1";
    rv__valkey *v = (rv__valkey *)q;
    char state_text[24], expiry_text[24], token[96], room[2 * RV__POSTS][24];
    const char *args[RV__VALKEY_ARGS] = {id, state_text, error, warnings, expiry_text, token};
    int64_t done;
    snprintf(state_text, sizeof state_text, "%d", (int)state);
    snprintf(expiry_text, sizeof expiry_text, "%" PRId64, expiry);
    rv__valkey_token(v, id, token);
    size_t n = 6 + rv__valkey_post_args(posts, post_count, args + 6, room);
    char *text = rv__format("%s%s", rv__valkey_post_lines, script);
    rv_status s = text ? rv__valkey_number(v, text, args, n, &done, err)
                       : rv__fail(err, RV_MEMORY, "out of memory");
    rv__free(text);
    if (s == RV_OK)
        drop_claimed(v, id);
    return s;
}

static rv_status valkey_keep_answer(rv__queue *q, const rv__record *answer, rv_error *err)
{
    static const char head[] =
        PICTURE_LINES RV__VALKEY_EXPIRE
        "local is = redis.call('HMGET', 'rv:t:' .. ARGV[1], 'state', 'answer')\n"
        "if is[1] and is[2] == '0' then return 0 end\n" WRITE "expire(ARGV[1], ARGV[7], true)\n"
        "return 1";
    static const char one[] = PICTURE_LINES
        "redis.call('HSET', 'rv:d:' .. ARGV[1], ARGV[2], ARGV[3])\n"
        "picture(ARGV[1], ARGV[3], ARGV[4])\n"
        "return 1";
    static const char end[] = "return redis.call('HSET', 'rv:t:' .. ARGV[1], 'state', '2')";
    rv__valkey *v = (rv__valkey *)q;
    const char *args[12];
    char room[4][24], name[32];
    int64_t done = 0;
    size_t n = write_args(answer, RV__RUNNING, true, args, room);
    rv_status s = rv__valkey_number(v, head, args, n, &done, err);
    for (size_t i = 0; s == RV_OK && done && i < answer->count; i++) {
        snprintf(name, sizeof name, "i%zu", i);
        s = rv__valkey_number(v, one, (const char *[]){answer->id, name, answer->items[i], room[3]},
                              4, &done, err);
    }
    if (s == RV_OK && done)
        s = rv__valkey_number(v, end, (const char *[]){answer->id}, 1, &done, err);
    return s;
}

/* ---- claims ---- */

/* An entry of the stream becomes ours: {id, attempt}; {} when its task is gone or over. */
static rv_status take(rv__valkey *v, const char *entry, const char *id, rv__record *out,
                      rv_error *err)
{
    static const char script[] =
        "local t = 'rv:t:' .. ARGV[1]\n"
        "local state = redis.call('HGET', t, 'state')\n"
        "if not state or tonumber(state) > 1 or redis.call('HGET', t, 'entry') ~= ARGV[2] then\n"
        "  redis.call('XACK', 'rv:tasks', 'rv', ARGV[2])\n"
        "  redis.call('XDEL', 'rv:tasks', ARGV[2])\n"
        "  return 0\n"
        "end\n"
        "local attempt = redis.call('HINCRBY', t, 'attempts', 1)\n"
        "redis.call('HSET', t, 'state', 1, 'token', ARGV[3] .. ':' .. attempt)\n"
        "redis.call('HDEL', t, 'at')\n" RV__VALKEY_TELL("ARGV[1]")
        "return attempt";
    int64_t attempt = 0;
    rv_status s = rv__valkey_number(v, script, (const char *[]){id, entry, v->name}, 3, &attempt,
                                    err);
    if (s != RV_OK || !attempt)
        return s;
    if (!add_claimed(v, id, entry, (int)attempt))
        return rv__fail(err, RV_MEMORY, "out of memory");
    return valkey_find(&v->queue, id, out, err);
}

/* The first entry of an answer of XAUTOCLAIM ({next, entries, …}) or XREADGROUP ({{key, entries}}). */
static const redisReply *first_entry(const redisReply *r, bool is_auto)
{
    const redisReply *list = NULL;
    if (is_auto && r->type == REDIS_REPLY_ARRAY && r->elements >= 2)
        list = r->element[1];
    else if (!is_auto && r->type == REDIS_REPLY_ARRAY && r->elements == 1)
        list = r->element[0]->element[1];
    const redisReply *e = list && list->elements ? list->element[0] : NULL;
    bool is_whole = e && e->type == REDIS_REPLY_ARRAY && e->elements == 2 &&
                    e->element[1]->type == REDIS_REPLY_ARRAY && e->element[1]->elements == 2;
    return is_whole ? e : NULL;
}

static rv_status valkey_claim(rv__queue *q, rv__record *out, rv_error *err)
{
    rv__valkey *v = (rv__valkey *)q;
    char lease[24];
    *out = (rv__record){0};
    snprintf(lease, sizeof lease, "%" PRId64, v->lease_ms);
    const char *dead[] = {"XAUTOCLAIM", "rv:tasks", "rv", v->name, lease, "0-0", "COUNT", "1"};
    const char *fresh[] = {"XREADGROUP", "GROUP", "rv",      v->name, "COUNT",
                           "1",          "STREAMS", "rv:tasks", ">"};
    for (int is_auto = 1; is_auto >= 0 && !out->id; is_auto--) {
        redisReply *r;
        rv_status s = is_auto ? command(v, 8, dead, &r, err) : command(v, 9, fresh, &r, err);
        const redisReply *e = s == RV_OK ? first_entry(r, is_auto) : NULL;
        if (e)
            s = take(v, e->element[0]->str, e->element[1]->element[1]->str, out, err);
        freeReplyObject(r);
        if (s == RV_IO && make_group(v, NULL) == RV_OK)
            continue; /* the server lost its data: the group is made again */
        if (s != RV_OK)
            return s;
    }
    return RV_OK;
}

static rv_status valkey_release(rv__queue *q, const char *id, rv_error *err)
{
    static const char script[] =
        "local t = 'rv:t:' .. ARGV[1]\n"
        "if redis.call('HGET', t, 'token') ~= ARGV[2] then return 0 end\n"
        "redis.call('HSET', t, 'state', 0, 'token', '')\n"
        "redis.call('HINCRBY', t, 'attempts', -1)\n"
        "redis.call('XCLAIM', 'rv:tasks', 'rv', 'nobody', 0, redis.call('HGET', t, 'entry'),\n"
        "  'IDLE', 2147483647, 'JUSTID')\n" /* whoever asks next gets it */
        RV__VALKEY_TELL("'" RV__RING_NEW "'")
        "return 1";
    rv__valkey *v = (rv__valkey *)q;
    char token[96];
    int64_t done;
    rv__valkey_token(v, id, token);
    rv_status s =
        rv__valkey_number(v, script, (const char *[]){id, token}, 2, &done, err);
    if (s == RV_OK)
        drop_claimed(v, id);
    q->poked = true;
    return s;
}

/* The server forgets by itself. */
static rv_status valkey_sweep(rv__queue *q, int64_t now, size_t *removed, rv_error *err)
{
    *removed = 0;
    return RV_OK;
}

/* ---- opening ---- */

static void valkey_close(rv__queue *q)
{
    rv__valkey *v = (rv__valkey *)q;
    rv__valkey_deafen(v);
    while (v->claimed && v->link && valkey_release(q, v->claimed->id, NULL) == RV_OK)
        continue;
    while (v->claimed)
        drop_claimed(v, v->claimed->id);
    if (v->link)
        redisFree(v->link);
    rv__free(v->host);
    rv__free(v->password);
    rv__free(v);
}

/* redis://[:PASSWORD@]HOST[:PORT][/DATABASE][?lease=MS]; false: it is not that. */
static bool read_url(rv__valkey *v, const char *url, bool *ok)
{
    const char *at = strchr(url, ':') + 3, *sign = strrchr(at, '@');
    const char *query = strchr(at, '?');
    if (sign) {
        const char *from = *at == ':' ? at + 1 : at;
        v->password = rv__strndup(from, (size_t)(sign - from));
        *ok &= v->password != NULL;
        at = sign + 1;
    }
    size_t len = strcspn(at, ":/?");
    v->host = len ? rv__strndup(at, len) : rv__strdup("127.0.0.1");
    *ok &= v->host != NULL;
    v->port = at[len] == ':' ? (int)strtol(at + len + 1, NULL, 10) : 6379;
    at += strcspn(at, "/?");
    v->database = *at == '/' ? (int)strtol(at + 1, NULL, 10) : 0;
    v->lease_ms = LEASE_MS;
    if (query)
        v->lease_ms = strncmp(query, "?lease=", 7) == 0 ? strtoll(query + 7, NULL, 10) : 0;
    return v->port > 0 && v->port < 65536 && v->database >= 0 && v->lease_ms >= 300;
}

rv_status rv__queue_valkey_open(const char *url, rv__queue **out, rv_error *err)
{
    static const rv__queue_kind kind = {.name = "valkey",
                                        .is_shared = true,
                                        .close = valkey_close,
                                        .tick = valkey_tick,
                                        .begin = valkey_begin,
                                        .commit = valkey_commit,
                                        .rollback = valkey_rollback,
                                        .submit = valkey_submit,
                                        .find = valkey_find,
                                        .keep_answer = valkey_keep_answer,
                                        .claim = valkey_claim,
                                        .release = valkey_release,
                                        .item = valkey_item,
                                        .sent = valkey_sent,
                                        .finish = valkey_finish,
                                        .cancel = rv__valkey_cancel,
                                        .listen = rv__valkey_listen,
                                        .progress = rv__valkey_progress,
                                        .unwanted = rv__valkey_unwanted,
                                        .picture = valkey_picture,
                                        .sweep = valkey_sweep,
                                        .counts = valkey_counts,
                                        .post_add = rv__valkey_post_add,
                                        .post_due = rv__valkey_post_due,
                                        .post_done = rv__valkey_post_done,
                                        .post_retry = rv__valkey_post_retry,
                                        .post_dead = rv__valkey_post_dead,
                                        .post_list_dead = rv__valkey_post_list_dead,
                                        .post_next = rv__valkey_post_next};
    *out = NULL;
    rv__valkey *v = rv__calloc(1, sizeof *v);
    bool ok = v != NULL;
    if (!v)
        return rv__fail(err, RV_MEMORY, "out of memory");
    v->queue.kind = &kind;
    bool is_url = read_url(v, url, &ok);
    rv_status s = RV_OK;
    if (!ok)
        s = rv__fail(err, RV_MEMORY, "out of memory");
    else if (!is_url)
        s = rv__fail_code(err, RV_VALIDATION, "invalidSetting", "store",
                          "the queue's address must be redis://[:PASSWORD@]HOST[:PORT][/DATABASE]"
                          "[?lease=MS], with a lease of 300 or more");
    else if (!rv__uuid_make(v->name))
        s = rv__fail(err, RV_IO, "the system gives no random numbers");
    if (s == RV_OK)
        s = connect_now(v, err);
    if (s == RV_OK)
        *out = &v->queue;
    else
        valkey_close(&v->queue);
    return s;
}
