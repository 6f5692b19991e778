/* The inside of the Valkey back end, shared by its files only. */
#ifndef RV_QUEUE_VALKEY_H
#define RV_QUEUE_VALKEY_H

#include <hiredis/hiredis.h>

#include "job/queue.h"

enum { RV__VALKEY_ARGS = 20 };

/* A task in the hands of this process. */
typedef struct rv__claimed {
    char *id, *entry; /* in the stream */
    int attempt;      /* with our name the token that later writes must show */
    bool is_unwanted; /* that was told */
    struct rv__claimed *next;
} rv__claimed;

typedef struct rv__valkey {
    rv__queue queue; /* first: a queue is its back end */
    redisContext *link; /* NULL: not connected */
    char *host, *password;
    int port, database;
    int64_t lease_ms;
    char name[64]; /* of this process among the consumers */
    bool is_lasting; /* the transaction that is open */
    bool has_log;    /* the server keeps an append-only file */
    rv__claimed *claimed;
    int64_t beat_ms; /* of the last heartbeat, monotonic */
    struct rv__valkey_news *news; /* NULL: nobody listens */
} rv__valkey;

/* What all processes hear of: ids of tasks that changed, RV__RING_NEW, RV__RING_CANCEL. */
#define RV__VALKEY_CHANNEL "rv:news"
#define RV__VALKEY_TELL(topic) "redis.call('PUBLISH', '" RV__VALKEY_CHANNEL "', " topic ")\n"

/* Both hashes vanish in time: the contents at once, the memory of them later. */
#define RV__VALKEY_REMEMBER "86400" /* seconds that it is known that results expired */
#define RV__VALKEY_EXPIRE                                                                          \
    "local function expire(id, expiry, answer)\n"                                                  \
    "  if tonumber(expiry) <= 0 then return end\n"                                                 \
    "  redis.call('EXPIREAT', 'rv:d:' .. id, expiry)\n"                                            \
    "  redis.call('EXPIREAT', 'rv:t:' .. id, expiry + (answer and 0 or " RV__VALKEY_REMEMBER "))\n" \
    "end\n"

/* A connection of its own, with the password given but no database chosen; NULL: none can be had. */
redisContext *rv__valkey_connect(const rv__valkey *v);

/* What later writes about a claimed task must show. */
void rv__valkey_token(rv__valkey *v, const char *id, char token[96]);

/* Runs a script; texts are its ARGV (NULL is ""), numbers were written by the caller.  *reply is
 * freed with freeReplyObject; NULL where this fails. */
rv_status rv__valkey_run(rv__valkey *v, const char *script, const char *const *args, size_t count,
                         redisReply **reply, rv_error *err);

/* The same for a script whose reply is a number. */
rv_status rv__valkey_number(rv__valkey *v, const char *script, const char *const *args,
                            size_t count, int64_t *number, rv_error *err);

/* queue_valkey_news.c */
rv_status rv__valkey_listen(rv__queue *q, void (*ring)(void *user, const char *topic), void *user,
                            rv_error *err);
void rv__valkey_deafen(rv__valkey *v); /* ends that; nothing happens where nobody listened */
rv_status rv__valkey_progress(rv__queue *q, const char *id, size_t index, int step, int steps,
                              rv_error *err);
rv_status rv__valkey_unwanted(rv__queue *q, char **id, rv_error *err);
rv_status rv__valkey_cancel(rv__queue *q, const char *id, const char *error, int64_t expiry,
                            rv__stored *was, rv_error *err);

/* queue_valkey_posts.c */
extern const char rv__valkey_post_lines[]; /* of scripts that add posts: function add(from) */
size_t rv__valkey_post_args(const rv__post *posts, size_t count, const char **args,
                            char (*room)[24]);
rv_status rv__valkey_post_add(rv__queue *q, const char *id, const rv__post *posts, size_t count,
                              rv_error *err);
rv_status rv__valkey_post_due(rv__queue *q, int64_t now_ms, int64_t hold_ms, rv__post *out,
                              size_t max, size_t *count, rv_error *err);
rv_status rv__valkey_post_done(rv__queue *q, int64_t row, rv_error *err);
rv_status rv__valkey_post_retry(rv__queue *q, int64_t row, int64_t due_ms, const char *why,
                                rv_error *err);
rv_status rv__valkey_post_dead(rv__queue *q, int64_t row, const char *why, rv_error *err);
rv_status rv__valkey_post_list_dead(rv__queue *q, int64_t after, rv__post *out, size_t max,
                                    size_t *count, rv_error *err);
rv_status rv__valkey_post_next(rv__queue *q, int64_t *due_ms, rv_error *err);

#endif
