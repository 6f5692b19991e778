/* See rpc_server.h. */
#include "rpc_server.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "memory_plan.h"
#include "rpc_server_internal.h"

enum { TICK_MS = 200, HELLO_MS = 10000, TAKE_MS = 10000 };

void rv__rpc_say(const rv__rpc_server *s, const char *format, ...)
{
    char line[512];
    va_list args;

    if (!s->options.said)
        return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    s->options.said(s->options.user, line);
}

/* ---- opening ---- */

rv_status rv__rpc_server_open(const rv__weights *w, const rv__rpc_options *o, rv__rpc_server **out,
                              rv_error *err)
{
    rv__rpc_server *s = rv__calloc(1, sizeof *s);
    rv_status status;

    *out = NULL;
    if (!s)
        return rv__fail(err, RV_MEMORY, "out of memory");
    s->options = *o;
    s->weights = w;
    if (s->options.patience_ms <= 0)
        s->options.patience_ms = RV__RPC_PATIENCE_MS;
    if (s->options.memory <= 0)
        s->options.memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    atomic_init(&s->stop, false);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    status = rv__device_open(o->threads, &s->device, err);
    if (status == RV_OK)
        status = rv__transformer_open(s->device, w, &s->transformer, err);
    if (status == RV_OK && !*rv__transformer_fingerprint(s->transformer))
        status = rv__fail(err, RV_MEMORY, "out of memory");
    rv__memory_rest(w, "transformer"); /* its samples brought pages of all blocks */
    if (status != RV_OK) {
        rv__rpc_server_close(s);
        return status;
    }
    *out = s;
    return RV_OK;
}

void rv__rpc_server_close(rv__rpc_server *s)
{
    if (!s)
        return;
    if (s->transformer)
        rv__rpc_drop_loras(s);
    rv__transformer_close(s->transformer);
    rv__device_close(s->device);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    OPENSSL_cleanse(&s->options.key, sizeof s->options.key);
    rv__free(s->room);
    rv__free(s);
}

void rv__rpc_server_stop(rv__rpc_server *s)
{
    atomic_store(&s->stop, true);
}

/* ---- whose turn it is ---- */

rv_status rv__rpc_take(rv__talk *t, rv_error *err)
{
    rv__rpc_server *s = t->server;
    int64_t since = rv__clock_ms();
    bool is_mine;

    pthread_mutex_lock(&s->lock);
    while (s->owner && s->owner != t && !s->is_busy && rv__clock_ms() - since < TAKE_MS) {
        struct timespec until;

        rv__link_break(s->owner->link);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TICK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&s->changed, &s->lock, &until);
    }
    is_mine = !s->owner || s->owner == t;
    if (is_mine) {
        s->owner = t;
        s->is_busy = true;
    }
    pthread_mutex_unlock(&s->lock);
    return is_mine ? RV_OK : rv__fail(err, RV_BUSY, "is at work for another");
}

bool rv__rpc_is_owner(rv__talk *t)
{
    bool yes;

    pthread_mutex_lock(&t->server->lock);
    yes = t->server->owner == t;
    pthread_mutex_unlock(&t->server->lock);
    return yes;
}

void rv__rpc_rest(rv__talk *t)
{
    pthread_mutex_lock(&t->server->lock);
    if (t->server->owner == t)
        t->server->is_busy = false;
    pthread_mutex_unlock(&t->server->lock);
}

void rv__rpc_give_back(rv__talk *t)
{
    rv__rpc_server *s = t->server;

    if (!rv__rpc_is_owner(t))
        return;
    rv__rpc_drop_loras(s);
    rv__part_release(s->transformer);
    s->shape.spans = 0;
    pthread_mutex_lock(&s->lock);
    s->owner = NULL;
    s->is_busy = false;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

/* ---- connections ---- */

static void leave(rv__talk *t)
{
    rv__rpc_server *s = t->server;

    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->talk_count; i++)
        if (s->talks[i] == t)
            s->talks[i] = s->talks[--s->talk_count];
    rv__link_close(t->link);
    rv__free(t);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void *talk_main(void *user)
{
    rv__talk *t = user;
    rv__link *link;
    rv_error err = {0};
    rv_status status = rv__link_accept(t->fd, &t->server->options.key, HELLO_MS, &link, &err);

    if (status == RV_OK) {
        pthread_mutex_lock(&t->server->lock);
        t->link = link;
        pthread_mutex_unlock(&t->server->lock);
        rv__rpc_converse(t);
    } else {
        rv__rpc_say(t->server, "a connection was refused: its other side %s", err.message);
    }
    leave(t);
    return NULL;
}

static void begin_talk(rv__rpc_server *s, int fd)
{
    rv__talk *t = rv__calloc(1, sizeof *t);
    pthread_t thread;
    bool begins;

    pthread_mutex_lock(&s->lock);
    begins = t && s->talk_count < RV__RPC_TALKS;
    if (begins) {
        *t = (rv__talk){.server = s, .fd = fd};
        begins = pthread_create(&thread, NULL, talk_main, t) == 0;
    }
    if (begins) {
        pthread_detach(thread);
        s->talks[s->talk_count++] = t;
    }
    pthread_mutex_unlock(&s->lock);
    if (!begins) {
        close(fd);
        rv__free(t);
    }
}

void rv__rpc_server_run(rv__rpc_server *s, int listening)
{
    struct pollfd p = {.fd = listening, .events = POLLIN};

    while (!atomic_load(&s->stop)) {
        int fd = poll(&p, 1, TICK_MS) > 0 ? accept4(listening, NULL, NULL,
                                                    SOCK_CLOEXEC | SOCK_NONBLOCK)
                                          : -1;
        if (fd >= 0)
            begin_talk(s, fd);
    }
    pthread_mutex_lock(&s->lock);
    while (s->talk_count > 0)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}
