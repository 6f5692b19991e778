/* The I/O thread: a curl multi handle that only this thread touches, fed through a list under a
 * lock, and told by epoll which sockets have something to do.  Callbacks run without the lock.  It
 * never looks at cookies, .netrc or redirects, and at proxies only for services that a card names:
 * the address is the one that was set, and where it came with a request the guard judges it. */
#include "io.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "job/threads.h"

enum {
    IDLE_HANDLES = 64,
    IDLE_CONNECTIONS = 16, /* kept open, or as many as there are transfers at once */
    MOST_CONNECTIONS = 256,
    POLL_MS = 1000,
    CONNECT_MS = 10000,
    EVENTS = 64,
    SMALL_BODY = 16384
};

typedef struct transfer {
    struct transfer *prev, *next;
    const rv__io_events *events;
    void *user;
    CURL *easy; /* set by the thread when it starts */
    struct curl_slist *headers;
    char *url, *unix_path, *body, *ca_file;
    size_t body_len;
    int connect_ms, silence_s, total_ms;
    int64_t max_bytes, received;
    bool is_put, is_delete, is_outside, is_once;
    int64_t begins_ms; /* on the monotonic clock; 0: at once */
    bool refused; /* events->data said false */
    const rv__guard *guard;
    rv__guard_pass pass; /* of a guarded transfer, from its start to its end */
    char why[CURL_ERROR_SIZE];
} transfer;

struct rv__io {
    pthread_t thread;
    CURLM *multi;
    pthread_mutex_t lock;
    transfer *fresh; /* guarded by lock: not seen by the thread yet */
    bool stop;       /* guarded by lock */
    int epoll, wake; /* wake: an eventfd that is readable when there is something new */
    atomic_bool is_woken; /* cancelled transfers are looked for */
    atomic_int load;      /* transfers that have not ended */
    /* The thread's own. */
    transfer *active; /* one without a handle waits for its time */
    int waiting;      /* of these                                */
    int kept;         /* connections                             */
    int64_t due_ms;   /* when curl wants to be called; -1: never */
    int64_t looked_ms; /* for cancelled transfers                */
    CURL *idle[IDLE_HANDLES];
    int idle_count;
};

static void global_init(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void transfer_free(transfer *t)
{
    curl_slist_free_all(t->headers);
    rv__guard_pass_free(&t->pass);
    rv__free(t->url);
    rv__free(t->unix_path);
    rv__free(t->ca_file);
    rv__free(t->body);
    rv__free(t);
}

/* ---- one transfer ---- */

static size_t on_data(char *bytes, size_t size, size_t count, void *user)
{
    transfer *t = user;
    long status = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    t->received += (int64_t)(size * count);
    if (t->max_bytes && t->received > t->max_bytes)
        return CURL_WRITEFUNC_ERROR;
    if (t->events->cancelled(t->user) ||
        !t->events->data(t->user, (int)status, bytes, size * count)) {
        t->refused = true;
        return CURL_WRITEFUNC_ERROR;
    }
    return size * count;
}

static bool configure(transfer *t)
{
    CURL *e = t->easy;
    bool ok = t->guard || curl_easy_setopt(e, CURLOPT_URL, t->url) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    ok = ok &&
         (!t->unix_path || curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, t->unix_path) == CURLE_OK);
    ok = ok && (t->is_outside || curl_easy_setopt(e, CURLOPT_PROXY, "") == CURLE_OK);
    ok = ok && (!t->ca_file || curl_easy_setopt(e, CURLOPT_CAINFO, t->ca_file) == CURLE_OK);
    ok = ok && curl_easy_setopt(e, CURLOPT_PRIVATE, t) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_HTTPHEADER, t->headers) == CURLE_OK;
    if (t->body) {
        ok = ok &&
             curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->body_len) == CURLE_OK;
        ok = ok && curl_easy_setopt(e, CURLOPT_POSTFIELDS, t->body) == CURLE_OK;
        ok = ok && (!t->is_put || curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, "PUT") == CURLE_OK);
    }
    ok = ok &&
         (!t->is_delete || curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, "DELETE") == CURLE_OK);
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
                     (long)(t->is_outside ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, t->is_once ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE,
                     1L); /* finds a machine that vanished during a long silence */
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, 256L * 1024);
    /* Held by each transfer until its end, whatever it sends; the usual 64 KiB serve large bodies. */
    if (t->body_len < SMALL_BODY)
        curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, (long)SMALL_BODY);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "reverie/" RV_VERSION);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->why);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)(t->connect_ms ? t->connect_ms : CONNECT_MS));
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)t->total_ms);
    curl_easy_setopt(e, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)t->max_bytes);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, t->silence_s ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)t->silence_s);
    return ok && (!t->guard || rv__guard_arm(&t->pass, e));
}

/* Whether the other side may have seen any of the request. */
static bool was_sent(const transfer *t)
{
    long request = 0;
    curl_easy_getinfo(t->easy, CURLINFO_REQUEST_SIZE, &request);
    return request > 0;
}

static rv_status explain(const transfer *t, CURLcode code, rv_error *err)
{
    const char *why = *t->why ? t->why : curl_easy_strerror(code);
    if (t->pass.was_refused && code != CURLE_OK)
        return rv__fail_code(err, RV_CONNECTION, RV__ADDRESS_REFUSED, NULL,
                             "the address is not allowed");
    if (code == CURLE_FILESIZE_EXCEEDED || (t->max_bytes && t->received > t->max_bytes))
        return rv__fail_code(err, RV_PROVIDER, RV__ANSWER_TOO_LARGE, NULL,
                             "the answer has more than %lld bytes", (long long)t->max_bytes);
    switch (code) {
    case CURLE_OK:
        return RV_OK;
    case CURLE_WRITE_ERROR:
        if (t->events->cancelled(t->user))
            return rv__fail(err, RV_CANCELLED, "cancelled");
        return rv__fail(err, RV_PROVIDER, "the answer cannot be used");
    case CURLE_OPERATION_TIMEDOUT:
        return rv__fail_code(err, RV_TIMEOUT, was_sent(t) ? NULL : RV__NEVER_SENT, NULL, "%s", why);
    case CURLE_OUT_OF_MEMORY:
        return rv__fail(err, RV_MEMORY, "out of memory");
    default:
        return rv__fail_code(err, RV_CONNECTION, was_sent(t) ? NULL : RV__NEVER_SENT, NULL, "%s",
                             why);
    }
}

/* ---- the thread ---- */

static void unlink_active(rv__io *io, transfer *t)
{
    if (t->prev)
        t->prev->next = t->next;
    else
        io->active = t->next;
    if (t->next)
        t->next->prev = t->prev;
}

static void keep_handle(rv__io *io, CURL *easy)
{
    if (io->idle_count == IDLE_HANDLES) {
        curl_easy_cleanup(easy);
        return;
    }
    curl_easy_reset(easy);
    io->idle[io->idle_count++] = easy;
}

/* Takes an active transfer out of everything and tells its end. */
static void finish(rv__io *io, transfer *t, rv_status status, rv_error *err)
{
    long http_status = 0;
    curl_off_t retry_s = 0;
    char *redirect = NULL; /* curl's, until the handle is used again */
    unlink_active(io, t);
    io->waiting -= t->begins_ms != 0;
    if (t->easy) {
        curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &redirect);
        if (redirect && t->events->redirect)
            t->events->redirect(t->user, redirect);
        curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &http_status);
        curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_s);
        curl_multi_remove_handle(io->multi, t->easy);
        keep_handle(io, t->easy);
    }
    if (retry_s > 0)
        err->retry_after_ms = (int64_t)retry_s * 1000;
    err->http_status = (int)http_status;
    atomic_fetch_sub(&io->load, 1);
    t->events->done(t->user, status, (int)http_status, err);
    transfer_free(t);
}

/* Many transfers at once keep a connection each, so that the next ones need no new ones. */
static void keep_connections(rv__io *io)
{
    int load = atomic_load(&io->load);
    int kept = load > MOST_CONNECTIONS ? MOST_CONNECTIONS
               : load > io->kept       ? load
               : load < io->kept / 4   ? IDLE_CONNECTIONS
                                       : io->kept;
    if (kept < IDLE_CONNECTIONS)
        kept = IDLE_CONNECTIONS;
    if (kept != io->kept)
        curl_multi_setopt(io->multi, CURLMOPT_MAXCONNECTS, (long)kept);
    io->kept = kept;
}

/* An active transfer goes out now. */
static void begin(rv__io *io, transfer *t)
{
    rv_error err;
    io->waiting -= t->begins_ms != 0;
    t->begins_ms = 0;
    rv__error_clear(&err);
    rv_status s = t->guard ? rv__guard_url(t->guard, t->url, &t->pass, &err) : RV_OK;
    if (s == RV_VALIDATION) {
        rv_error why = err;
        s = rv__fail_code(&err, RV_CONNECTION, RV__ADDRESS_REFUSED, NULL, "%s", why.message);
        finish(io, t, s, &err);
        return;
    }
    if (t->events->begins && !t->events->begins(t->user)) {
        s = rv__fail_code(&err, RV_IO, RV__NEVER_SENT, NULL, "the task's state cannot be kept");
        finish(io, t, s, &err);
        return;
    }
    keep_connections(io);
    t->easy = io->idle_count ? io->idle[--io->idle_count] : curl_easy_init();
    if (s == RV_OK && t->easy && configure(t) &&
        curl_multi_add_handle(io->multi, t->easy) == CURLM_OK)
        return;
    rv__error_clear(&err);
    finish(io, t, rv__fail(&err, RV_MEMORY, "a transfer cannot be set up"), &err);
}

/* Starts what is new, oldest first; true when the thread must stop. */
static bool take_fresh(rv__io *io)
{
    pthread_mutex_lock(&io->lock);
    transfer *list = io->fresh;
    io->fresh = NULL;
    bool stop = io->stop;
    pthread_mutex_unlock(&io->lock);
    transfer *oldest = NULL;
    while (list) {
        transfer *t = list;
        list = t->next;
        t->next = oldest;
        oldest = t;
    }
    while (oldest) {
        transfer *t = oldest;
        oldest = t->next;
        t->prev = NULL;
        t->next = io->active;
        if (io->active)
            io->active->prev = t;
        io->active = t;
        io->waiting += t->begins_ms != 0;
        if (!t->begins_ms)
            begin(io, t);
    }
    return stop;
}

/* Begins what has waited for its time; how many milliseconds from now the next one does. */
static int begin_due(rv__io *io)
{
    int64_t now = rv__clock_ms(), wait = POLL_MS;
    for (transfer *t = io->waiting ? io->active : NULL, *next; t; t = next) {
        next = t->next;
        if (t->begins_ms && t->begins_ms <= now)
            begin(io, t);
        else if (t->begins_ms && t->begins_ms - now < wait)
            wait = t->begins_ms - now;
    }
    return (int)wait;
}

static void end_cancelled(rv__io *io, bool all)
{
    for (transfer *t = io->active, *next; t; t = next) {
        next = t->next;
        if (!all && !t->events->cancelled(t->user))
            continue;
        rv_error err;
        rv__error_clear(&err);
        finish(io, t, rv__fail(&err, RV_CANCELLED, "cancelled"), &err);
    }
}

static void end_finished(rv__io *io)
{
    int left;
    for (CURLMsg *m = curl_multi_info_read(io->multi, &left); m;
         m = curl_multi_info_read(io->multi, &left)) {
        if (m->msg != CURLMSG_DONE)
            continue;
        transfer *t = NULL;
        CURLcode code = m->data.result; /* m dies with the handle's removal */
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
        rv_error err;
        rv__error_clear(&err);
        rv_status status = explain(t, code, &err);
        finish(io, t, status, &err);
    }
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *known)
{
    rv__io *io = user;
    struct epoll_event e = {.data.fd = fd};
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(io->epoll, EPOLL_CTL_DEL, fd, &e);
        return 0;
    }
    e.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    if (epoll_ctl(io->epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e) != 0)
        epoll_ctl(io->epoll, known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &e);
    if (!known)
        curl_multi_assign(io->multi, fd, io);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *user)
{
    ((rv__io *)user)->due_ms = ms < 0 ? -1 : rv__clock_ms() + ms;
    return 0;
}

/* Waits for something to do, and lets curl do it. */
static void act(rv__io *io, int wait_ms)
{
    struct epoll_event events[EVENTS];
    uint64_t count;
    int running;
    int n = epoll_wait(io->epoll, events, EVENTS, wait_ms);
    for (int i = 0; i < n; i++) {
        uint32_t e = events[i].events;
        int mask = (e & EPOLLIN ? CURL_CSELECT_IN : 0) | (e & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (e & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        if (events[i].data.fd != io->wake)
            curl_multi_socket_action(io->multi, events[i].data.fd, mask, &running);
        else
            while (read(io->wake, &count, sizeof count) < 0 && errno == EINTR)
                continue;
    }
    if (io->due_ms >= 0 && io->due_ms <= rv__clock_ms()) {
        io->due_ms = -1;
        curl_multi_socket_action(io->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
}

static void *io_run(void *arg)
{
    rv__io *io = arg;
    rv__thread_prepare("reverie-io");
    while (!take_fresh(io)) {
        int64_t now = rv__clock_ms();
        if (atomic_exchange(&io->is_woken, false) || now - io->looked_ms >= POLL_MS) {
            io->looked_ms = now;
            end_cancelled(io, false);
        }
        int wait = begin_due(io);
        if (io->due_ms >= 0 && io->due_ms - rv__clock_ms() < wait)
            wait = (int)(io->due_ms - rv__clock_ms());
        act(io, wait > 0 ? wait : 0);
        end_finished(io);
    }
    end_cancelled(io, true);
    for (int i = 0; i < io->idle_count; i++)
        curl_easy_cleanup(io->idle[i]);
    return NULL;
}

/* ---- from other threads ---- */

static void wake(rv__io *io)
{
    uint64_t one = 1;
    while (write(io->wake, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

static void io_free(rv__io *io)
{
    curl_multi_cleanup(io->multi);
    if (io->epoll >= 0)
        close(io->epoll);
    if (io->wake >= 0)
        close(io->wake);
    pthread_mutex_destroy(&io->lock);
    rv__free(io);
}

rv_status rv__io_open(rv__io **out, rv_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, global_init);
    rv__io *io = rv__calloc(1, sizeof *io);
    if (!io || pthread_mutex_init(&io->lock, NULL) != 0) {
        rv__free(io);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    io->due_ms = -1;
    io->multi = curl_multi_init();
    io->epoll = epoll_create1(EPOLL_CLOEXEC);
    io->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = io->wake};
    bool ok = io->multi && io->epoll >= 0 && io->wake >= 0 &&
              epoll_ctl(io->epoll, EPOLL_CTL_ADD, io->wake, &e) == 0;
    if (!ok) {
        io_free(io);
        return rv__fail(err, RV_MEMORY, "out of memory or descriptors");
    }
    curl_multi_setopt(io->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(io->multi, CURLMOPT_SOCKETDATA, io);
    curl_multi_setopt(io->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(io->multi, CURLMOPT_TIMERDATA, io);
    if (rv__thread_start(&io->thread, io_run, io) != 0) {
        io_free(io);
        return rv__fail(err, RV_MEMORY, "no thread can be started");
    }
    *out = io;
    return RV_OK;
}

static bool copy_headers(transfer *t, const char *const *headers)
{
    for (; headers && *headers; headers++) {
        struct curl_slist *longer = curl_slist_append(t->headers, *headers);
        if (!longer)
            return false;
        t->headers = longer;
    }
    return true;
}

rv_status rv__io_start(rv__io *io, const rv__io_request *q, const rv__io_events *events, void *user,
                       rv_error *err)
{
    transfer *t = rv__calloc(1, sizeof *t);
    if (!t) {
        rv__free(q->body);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    t->events = events;
    t->user = user;
    t->body = q->body;
    t->body_len = q->body_len;
    t->connect_ms = q->connect_ms;
    t->silence_s = q->silence_s;
    t->total_ms = q->total_ms;
    t->is_put = q->is_put;
    t->is_delete = q->is_delete;
    t->is_outside = q->is_outside;
    t->is_once = q->is_once;
    t->begins_ms = q->delay_ms > 0 ? rv__clock_ms() + q->delay_ms : 0;
    t->max_bytes = q->max_bytes;
    t->guard = q->guard;
    t->url = rv__strdup(q->url);
    t->unix_path = q->unix_path ? rv__strdup(q->unix_path) : NULL;
    t->ca_file = q->ca_file ? rv__strdup(q->ca_file) : NULL;
    if (!t->url || (q->unix_path && !t->unix_path) || (q->ca_file && !t->ca_file) ||
        !copy_headers(t, q->headers)) {
        transfer_free(t);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    atomic_fetch_add(&io->load, 1);
    pthread_mutex_lock(&io->lock);
    bool is_told = io->fresh; /* it comes for the others anyway */
    t->next = io->fresh;
    io->fresh = t;
    pthread_mutex_unlock(&io->lock);
    if (!is_told)
        wake(io);
    return RV_OK;
}

void rv__io_wake(rv__io *io)
{
    atomic_store(&io->is_woken, true);
    wake(io);
}

int rv__io_load(rv__io *io)
{
    return atomic_load(&io->load);
}

void rv__io_close(rv__io *io)
{
    if (!io)
        return;
    pthread_mutex_lock(&io->lock);
    io->stop = true;
    pthread_mutex_unlock(&io->lock);
    wake(io);
    pthread_join(io->thread, NULL);
    io_free(io);
}
