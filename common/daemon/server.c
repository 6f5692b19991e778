/* One thread, one epoll descriptor: HTTP, the library's events, signals, a clock, and the sockets
 * of clients that wait.  MHD does not look at connections it has suspended, so a client that leaves
 * is noticed here. */
#include "server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/listen.h"
#include "job/durable.h"

enum { BATCH = 64, CLIENT_TIMEOUT_S = 60, CONNECTIONS = 1024, TICK_S = 1 };

/* What an epoll event is about, when it is not about an exchange. */
static char tag_http, tag_library, tag_signal, tag_clock;

static bool watch(rv__server *s, int fd, void *tag)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = tag};
    return fd >= 0 && epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e) == 0;
}

static int clock_fd(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec every = {{TICK_S, 0}, {TICK_S, 0}};
    if (fd >= 0)
        timerfd_settime(fd, 0, &every, NULL);
    return fd;
}

static int signals_fd = -1;

static void on_signal(int number)
{
    int saved = errno;
    uint64_t one = 1;
    ssize_t written = write(signals_fd, &one, sizeof one);
    (void)number;
    (void)written;
    errno = saved;
}

/* A handler and an eventfd, not a blocked signal and a signalfd: BLAS libraries start threads before
 * main, which have nothing blocked, and the kernel would let one of those take the signal and die. */
static bool catch_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&a.sa_mask);
    signals_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return signals_fd >= 0 && sigaction(SIGTERM, &a, NULL) == 0 && sigaction(SIGINT, &a, NULL) == 0;
}

bool rv__server_open(rv__server *s, int listen_fd)
{
    s->started_ms = rv__clock_ms();
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, rv__exchange_handle, s,
        MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CLIENT_TIMEOUT_S, MHD_OPTION_NOTIFY_COMPLETED,
        rv__exchange_completed, s, MHD_OPTION_END);
    if (s->epoll < 0 || !s->mhd)
        return false;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    return info && watch(s, info->epoll_fd, &tag_http) && watch(s, rv_fd(s->r), &tag_library);
}

static void heartbeat(rv__server *s)
{
    int64_t now = rv__clock_ms();
    for (rv__exchange *e = s->exchanges; e; e = e->next)
        rv__exchange_heartbeat(e, now);
}

static void handle(rv__server *s, const struct epoll_event *e, uint64_t *signals, int timer_fd)
{
    if (e->data.ptr == &tag_library) {
        s->live = rv_dispatch(s->r);
    } else if (e->data.ptr == &tag_signal) {
        uint64_t count;
        if (read(signals_fd, &count, sizeof count) > 0)
            *signals += count;
    } else if (e->data.ptr == &tag_clock) {
        uint64_t count;
        if (read(timer_fd, &count, sizeof count) > 0)
            heartbeat(s);
    } else if (e->data.ptr != &tag_http) {
        rv__exchange_vanished(e->data.ptr);
    }
}

/* Milliseconds until MHD wants to run; the clock bounds it anyway. */
static int wait_ms(rv__server *s)
{
    int ms = MHD_get_timeout_i(s->mhd);
    return ms < 0 || ms > 1000 * TICK_S ? 1000 * TICK_S : ms;
}

static void begin_stop(rv__server *s, int *listen_fd)
{
    s->stopping = true;
    rv__durable_pause(s->r);
    rv__listen_notify("STOPPING=1");
    *listen_fd = MHD_quiesce_daemon(s->mhd);
    fprintf(stderr, "reveried: stopping, tasks=%d\n", s->live);
}

void rv__server_loop(rv__server *s, int grace_s, void (*tick)(void *user), void *user)
{
    int timer_fd = clock_fd(), listen_fd = -1;
    int64_t stop_at = 0, next_tick = 0;
    uint64_t signals = 0;
    bool ok = catch_signals() && watch(s, signals_fd, &tag_signal) && watch(s, timer_fd, &tag_clock);
    while (ok) {
        struct epoll_event events[BATCH];
        MHD_run(s->mhd);
        int n = epoll_wait(s->epoll, events, BATCH, wait_ms(s));
        /* Exchanges are freed inside MHD_run only, so none of this batch can dangle. */
        for (int i = 0; i < n; i++)
            handle(s, &events[i], &signals, timer_fd);
        int64_t now = rv__clock_ms();
        if (signals && !s->stopping) {
            begin_stop(s, &listen_fd);
            stop_at = now + (int64_t)grace_s * 1000;
        }
        if (s->stopping && (signals > 1 || now >= stop_at || (!s->live && !s->exchanges)))
            break;
        if (now >= next_tick) {
            tick(user);
            next_tick = now + 10000;
        }
    }
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    close(signals_fd);
    close(timer_fd);
}

void rv__server_close(rv__server *s)
{
    if (s->mhd) {
        /* MHD cannot stop with suspended connections. */
        for (rv__exchange *e = s->exchanges; e; e = e->next)
            rv__exchange_drop(e);
        rv__outbox_drop(s);
        MHD_run(s->mhd);
        MHD_stop_daemon(s->mhd);
    }
    if (s->epoll >= 0)
        close(s->epoll);
}
