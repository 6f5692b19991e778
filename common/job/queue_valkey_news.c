/* What processes on one Valkey server tell each other: a thread listens on a channel, so that news
 * of a task is looked at when there is any.  The channel is a doorbell, the truth is in the hashes:
 * who misses a message finds out a little later by looking. */
#include "queue_valkey.h"

#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "job/threads.h"

enum { AGAIN_MS = 1000 /* between attempts to connect */ };

typedef struct rv__valkey_news {
    const rv__valkey *server; /* where to connect; what is read of it never changes */
    pthread_t thread;
    int stop; /* eventfd */
    void (*ring)(void *user, const char *topic);
    void *user;
} news;

/* ---- the thread ---- */

/* True when it shall end. */
static bool wait_for(const news *n, redisContext *link, int ms)
{
    struct pollfd fds[] = {{.fd = n->stop, .events = POLLIN},
                           {.fd = link ? link->fd : -1, .events = POLLIN}};
    poll(fds, 2, ms);
    return fds[0].revents != 0;
}

static redisContext *subscribe(const news *n)
{
    redisContext *link = rv__valkey_connect(n->server);
    redisReply *r = link ? redisCommand(link, "SUBSCRIBE " RV__VALKEY_CHANNEL) : NULL;
    bool ok = r && r->type == REDIS_REPLY_ARRAY;
    freeReplyObject(r);
    if (!ok && link)
        redisFree(link);
    return ok ? link : NULL;
}

/* {"message", channel, topic} */
static void tell(const news *n, const redisReply *r)
{
    bool is_message = r->type == REDIS_REPLY_ARRAY && r->elements == 3 &&
                      r->element[2]->type == REDIS_REPLY_STRING;
    if (is_message)
        n->ring(n->user, r->element[2]->str);
}

/* What has arrived; false: the connection is over. */
static bool read_messages(const news *n, redisContext *link)
{
    if (redisBufferRead(link) != REDIS_OK)
        return false;
    for (;;) {
        void *reply = NULL;
        if (redisGetReplyFromReader(link, &reply) != REDIS_OK)
            return false;
        if (!reply)
            return true;
        tell(n, reply);
        freeReplyObject(reply);
    }
}

static void *run(void *arg)
{
    news *n = arg;
    rv__thread_prepare("reverie-news");
    redisContext *link = NULL;
    while (!wait_for(n, link, link ? -1 : 0)) {
        if (link && !read_messages(n, link)) {
            redisFree(link);
            link = NULL;
        }
        if (link)
            continue;
        link = subscribe(n);
        if (link)
            n->ring(n->user, NULL); /* something may have been missed */
        else if (wait_for(n, NULL, AGAIN_MS))
            break;
    }
    if (link)
        redisFree(link);
    return NULL;
}

/* ---- the owner ---- */

rv_status rv__valkey_listen(rv__queue *q, void (*ring)(void *user, const char *topic), void *user,
                            rv_error *err)
{
    rv__valkey *v = (rv__valkey *)q;
    news *n = rv__calloc(1, sizeof *n);
    if (!n)
        return rv__fail(err, RV_MEMORY, "out of memory");
    *n = (news){.server = v, .ring = ring, .user = user};
    n->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (n->stop >= 0 && rv__thread_start(&n->thread, run, n) == 0) {
        v->news = n;
        return RV_OK;
    }
    if (n->stop >= 0)
        close(n->stop);
    rv__free(n);
    return rv__fail(err, RV_MEMORY, "no thread can be started");
}

void rv__valkey_deafen(rv__valkey *v)
{
    news *n = v->news;
    uint64_t one = 1;
    if (!n)
        return;
    v->news = NULL;
    while (write(n->stop, &one, sizeof one) < 0)
        continue;
    pthread_join(n->thread, NULL);
    close(n->stop);
    rv__free(n);
}

/* ---- what is told ---- */

rv_status rv__valkey_progress(rv__queue *q, const char *id, size_t index, int step, int steps,
                              rv_error *err)
{
    static const char script[] =
        "local t = 'rv:t:' .. ARGV[1]\n"
        "if redis.call('HGET', t, 'token') ~= ARGV[2] then return 0 end\n"
        "redis.call('HSET', t, 'at', ARGV[3])\n" RV__VALKEY_TELL("ARGV[1]") "return 1";
    rv__valkey *v = (rv__valkey *)q;
    char token[96], at[64];
    int64_t done;
    rv__valkey_token(v, id, token);
    snprintf(at, sizeof at, "%zu %d %d", index, step, steps);
    return rv__valkey_number(v, script, (const char *[]){id, token, at}, 3, &done, err);
}

rv_status rv__valkey_cancel(rv__queue *q, const char *id, const char *error, int64_t expiry,
                            rv__stored *was, rv_error *err)
{
    static const char script[] = RV__VALKEY_EXPIRE
        "local t, d = 'rv:t:' .. ARGV[1], 'rv:d:' .. ARGV[1]\n"
        "local f = redis.call('HMGET', t, 'state', 'entry')\n"
        "if not f[1] then return 5 end\n"
        "if f[1] == '1' then\n"
        "  redis.call('HSET', t, 'unwanted', 1)\n" RV__VALKEY_TELL("'" RV__RING_CANCEL "'")
        "end\n"
        "if f[1] ~= '0' then return tonumber(f[1]) end\n"
        "redis.call('HSET', t, 'state', 4, 'expiry', ARGV[3])\n"
        "redis.call('HSET', d, 'error', ARGV[2])\n"
        "redis.call('XACK', 'rv:tasks', 'rv', f[2])\n"
        "redis.call('XDEL', 'rv:tasks', f[2])\n"
        "expire(ARGV[1], ARGV[3], false)\n" RV__VALKEY_TELL("ARGV[1]")
        "return 0";
    char expiry_text[24];
    int64_t state = RV__EXPIRED;
    snprintf(expiry_text, sizeof expiry_text, "%" PRId64, expiry);
    rv_status s = rv__valkey_number((rv__valkey *)q, script,
                                    (const char *[]){id, error, expiry_text}, 3, &state, err);
    *was = (rv__stored)state;
    return s;
}

rv_status rv__valkey_unwanted(rv__queue *q, char **id, rv_error *err)
{
    static const char script[] =
        "return redis.call('HGET', 'rv:t:' .. ARGV[1], 'unwanted') and 1 or 0";
    rv__valkey *v = (rv__valkey *)q;
    rv_status s = RV_OK;
    bool ok = true;
    *id = NULL;
    for (rv__claimed *c = v->claimed; c && s == RV_OK && !*id; c = c->next) {
        int64_t is_unwanted = 0;
        const char *name = c->id;
        if (!c->is_unwanted)
            s = rv__valkey_number(v, script, &name, 1, &is_unwanted, err);
        if (s == RV_OK && is_unwanted) {
            c->is_unwanted = true;
            *id = rv__queue_text(c->id, &ok);
        }
    }
    return ok ? s : rv__fail(err, RV_MEMORY, "out of memory");
}
