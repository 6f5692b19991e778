/* Tasks through a service, against a bare libcurl multi loop that sends the same bytes and throws
 * the reply away.  The service is a process of its own on this machine, which answers at once. */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/base64.h"
#include "image/image.h"
#include "reverie.h"
#include "stopwatch.h"

enum {
    ROUNDS = 5,     /* in turns with the peer: both meet the same machine */
    MOST = 1024,    /* in flight */
    REQUEST = 8192, /* bytes of a request, at most */
    LARGE = 591     /* pixels of a side: 1 MiB in memory, and as a file of noise */
};

#define UUID "00000000-0000-4000-8000-000000000001"

/* ---- the service ---- */

typedef struct answer {
    char *text;
    size_t len;
} answer;

typedef struct client {
    char request[REQUEST];
    size_t have, sent;
    const answer *out;
} client;

/* Nothing on purpose: whoever asks is in flight. */
static const answer silence;

static answer make_answer(int side)
{
    uint8_t *pixels = malloc((size_t)side * (size_t)side * 3);
    uint32_t noise = 1;
    for (int i = 0; i < side * side * 3; i++) {
        noise = noise * 1664525u + 1013904223u;
        pixels[i] = (uint8_t)(noise >> 24);
    }
    rv_image *image = rv__image_from_pixels(pixels, side, side, 3);
    void *file = NULL;
    size_t size = 0;
    answer a = {0};
    if (!image || rv_image_encode(image, "PNG", 0, &file, &size, NULL) != RV_OK)
        exit(1);
    char *base64 = calloc(1, rv__base64_size(size) + 1), *body = NULL;
    rv__base64_encode(file, size, base64);
    int len = asprintf(&body,
                       "{\"data\":[{\"taskType\":\"imageInference\",\"taskUUID\":\"" UUID "\","
                       "\"imageUUID\":\"" UUID "\",\"status\":\"success\",\"seed\":1,"
                       "\"cost\":0.0013,\"imageBase64Data\":\"%s\"}]}",
                       base64);
    a.len = (size_t)asprintf(&a.text,
                             "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                             "Content-Length: %d\r\n\r\n%s",
                             len, body);
    free(body);
    free(base64);
    rv_free(file);
    rv_image_unref(image);
    free(pixels);
    return a;
}

/* True once a whole request is there; what follows it stays. */
static bool take_request(client *c, const answer *small, const answer *large)
{
    c->request[c->have] = '\0';
    const char *end = strstr(c->request, "\r\n\r\n"), *length = strcasestr(c->request, "content-length:");
    if (!end || !length)
        return false;
    size_t whole = (size_t)(end + 4 - c->request) + strtoul(length + 15, NULL, 10);
    if (c->have < whole)
        return false;
    c->out = strstr(c->request, "/large") ? large : strstr(c->request, "/hold") ? &silence : small;
    c->sent = 0;
    memmove(c->request, c->request + whole, c->have - whole);
    c->have -= whole;
    return true;
}

/* False: the connection is over. */
static bool serve_client(int fd, client *c, const answer *small, const answer *large)
{
    for (;;) {
        while (c->out && c->sent < c->out->len) {
            ssize_t n = send(fd, c->out->text + c->sent, c->out->len - c->sent, MSG_NOSIGNAL);
            if (n < 0)
                return errno == EAGAIN;
            c->sent += (size_t)n;
        }
        c->out = NULL;
        if (take_request(c, small, large))
            continue;
        ssize_t n = recv(fd, c->request + c->have, REQUEST - 1 - c->have, 0);
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        c->have += (size_t)n;
    }
}

static void accept_all(int listener, int set, client **clients)
{
    for (int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK); fd >= 0 && fd < 4 * MOST;
         fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        clients[fd] = calloc(1, sizeof **clients);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};
        epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
    }
}

static void serve(int listener)
{
    static client *clients[4 * MOST];
    answer small = make_answer(16), large = make_answer(LARGE);
    int set = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, got[64];
    epoll_ctl(set, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(set, got, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = got[i].data.fd;
            if (fd == listener) {
                accept_all(listener, set, clients);
            } else if (!serve_client(fd, clients[fd], &small, &large)) {
                close(fd);
                free(clients[fd]);
            }
        }
    }
}

static int start_service(pid_t *pid)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 4096) != 0)
        exit(1);
    getsockname(fd, (struct sockaddr *)&a, &size);
    *pid = fork();
    if (*pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(fd);
    }
    close(fd);
    return ntohs(a.sin_port);
}

/* ---- what is measured ---- */

typedef struct figures {
    double rate, p99_ms, cpu_us;
} figures;

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static figures conclude(double began, double cpu, double *times, int count)
{
    double took = seconds() - began;
    qsort(times, (size_t)count, sizeof *times, ascending);
    return (figures){count / took, times[count * 99 / 100] * 1e3, (cpu_s() - cpu) * 1e6 / count};
}

/* ---- ours ---- */

typedef struct run {
    rv *r;
    rv_batch *batch;
    int left, failed, ended;
    double *times, *began; /* began: by slot */
} run;

typedef struct slot {
    run *run;
    double began;
} slot;

static void submit(slot *s);

static void on_event(void *user, rv_job *job, const rv_event *e)
{
    slot *s = user;
    if (e->kind != RV_EVENT_END)
        return;
    run *o = s->run;
    bool is_good = rv_job_state(job) == RV_DONE && rv_image_pixels(rv_job_image(job, 0));
    o->failed += !is_good;
    o->times[o->ended++] = seconds() - s->began;
    if (o->left)
        submit(s);
}

static void submit(slot *s)
{
    rv_sink sink = {on_event, s};
    rv_job *j;
    s->began = seconds();
    s->run->left--;
    if (rv_submit(s->run->r, rv_batch_task(s->run->batch, 0), &sink, &j) != RV_OK)
        exit(1);
    rv_job_unref(j);
}

static figures run_ours(rv *r, rv_batch *b, int count, int flight)
{
    static slot slots[MOST];
    run o = {.r = r, .batch = b, .left = count, .times = calloc((size_t)count, sizeof(double))};
    double began = seconds(), cpu = cpu_s();
    for (int i = 0; i < flight && o.left; i++) {
        slots[i] = (slot){&o, 0};
        submit(&slots[i]);
    }
    struct pollfd p = {rv_fd(r), POLLIN, 0};
    while (rv_dispatch(r) > 0)
        poll(&p, 1, -1);
    figures f = conclude(began, cpu, o.times, count);
    if (o.failed)
        fprintf(stderr, "bench remote: %d of %d tasks failed\n", o.failed, count);
    free(o.times);
    return f;
}

static rv_batch *open_ours(rv **out, const char *card, const char *body)
{
    char path[] = "/tmp/bench_remote_XXXXXX.json";
    int fd = mkstemps(path, 5);
    rv_error err;
    if (fd < 0 || write(fd, card, strlen(card)) < 0 || rv_open(out) != RV_OK)
        exit(1);
    close(fd);
    if (rv_set(*out, "model", path, &err) != RV_OK || rv_set(*out, "queue", "4096", &err) != RV_OK) {
        fprintf(stderr, "bench remote: %s\n", err.message);
        exit(1);
    }
    rv_batch *b = rv_batch_parse(*out, body, strlen(body));
    unlink(path);
    if (!b || !rv_batch_task(b, 0))
        exit(1);
    return b;
}

/* ---- the peer ---- */

typedef struct peer {
    CURLM *multi;
    CURL *easy[MOST];
    double began[MOST];
    struct curl_slist *headers;
} peer;

static size_t throw_away(char *bytes, size_t size, size_t count, void *user)
{
    return size * count;
}

static void peer_open(peer *p, const char *url, const char *body)
{
    *p = (peer){.multi = curl_multi_init()};
    static const char *const headers[] = {"Accept: application/json", "Expect:",
                                          "Content-Type: application/json",
                                          "Idempotency-Key: " UUID, "Authorization: Bearer key"};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        p->headers = curl_slist_append(p->headers, headers[i]);
    curl_multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, (long)MOST);
    for (int i = 0; i < MOST; i++) {
        CURL *e = p->easy[i] = curl_easy_init();
        curl_easy_setopt(e, CURLOPT_URL, url);
        curl_easy_setopt(e, CURLOPT_HTTPHEADER, p->headers);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, throw_away);
        curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(e, CURLOPT_PRIVATE, (char *)&p->began[i]);
    }
}

static void peer_close(peer *p)
{
    for (int i = 0; i < MOST; i++)
        curl_easy_cleanup(p->easy[i]);
    curl_multi_cleanup(p->multi);
    curl_slist_free_all(p->headers);
}

static figures run_peer(peer *p, int count, int flight)
{
    double *times = calloc((size_t)count, sizeof *times);
    int left = count, ended = 0, running, queued;
    double began = seconds(), cpu = cpu_s();
    for (int i = 0; i < flight && left; i++, left--) {
        p->began[i] = seconds();
        curl_multi_add_handle(p->multi, p->easy[i]);
    }
    while (ended < count) {
        curl_multi_perform(p->multi, &running);
        for (CURLMsg *m = curl_multi_info_read(p->multi, &queued); m;
             m = curl_multi_info_read(p->multi, &queued)) {
            double *when = NULL;
            CURL *e = m->easy_handle;
            curl_easy_getinfo(e, CURLINFO_PRIVATE, (char **)&when);
            times[ended++] = seconds() - *when;
            curl_multi_remove_handle(p->multi, e);
            if (left) {
                left--;
                *when = seconds();
                curl_multi_add_handle(p->multi, e);
            }
        }
        if (ended < count)
            curl_multi_poll(p->multi, NULL, 0, 1000, NULL);
    }
    figures f = conclude(began, cpu, times, count);
    free(times);
    return f;
}

/* ---- figures ---- */

static void compare(const char *name, rv *r, rv_batch *b, const char *url, const char *sent,
                    int count, int flight)
{
    double rate[2][ROUNDS], p99[2][ROUNDS], cpu[2][ROUNDS], ratio[ROUNDS];
    peer p;
    peer_open(&p, url, sent);
    run_peer(&p, flight * 2, flight);
    run_ours(r, b, flight * 2, flight);
    for (int i = 0; i < ROUNDS; i++) {
        figures ours = run_ours(r, b, count, flight), theirs = run_peer(&p, count, flight);
        const figures *both[] = {&ours, &theirs};
        for (int k = 0; k < 2; k++) {
            rate[k][i] = both[k]->rate;
            p99[k][i] = both[k]->p99_ms;
            cpu[k][i] = both[k]->cpu_us;
        }
        ratio[i] = ours.rate / theirs.rate;
    }
    printf("bench remote-%s-%d: %.0f tasks/s | libcurl %.0f tasks/s | ratio %.2f\n", name, flight,
           median(rate[0], ROUNDS), median(rate[1], ROUNDS), median(ratio, ROUNDS));
    double a = median(p99[0], ROUNDS), c = median(p99[1], ROUNDS);
    printf("bench remote-%s-%d-p99: %.2f ms | libcurl %.2f ms | ratio %.2f\n", name, flight, a, c,
           a / c);
    a = median(cpu[0], ROUNDS), c = median(cpu[1], ROUNDS);
    printf("bench remote-%s-%d-cpu: %.0f us/task | libcurl %.0f us/task | ratio %.2f\n", name,
           flight, a, c, a / c);
    fflush(stdout);
    peer_close(&p);
}

static double held_kib(void)
{
    struct mallinfo2 m = mallinfo2();
    return (double)(m.uordblks + m.hblkhd) / 1024;
}

/* The heap with tasks in flight that nobody answers, against easy handles of the peer. */
static void memory(rv *r, rv_batch *b, const char *url, const char *sent)
{
    enum { FLIGHT = 512 };
    peer *p = calloc(1, sizeof *p);
    double before = held_kib();
    for (int i = 0; i < FLIGHT; i++) {
        rv_job *j;
        if (rv_submit(r, rv_batch_task(b, 0), NULL, &j) != RV_OK)
            exit(1);
        rv_job_unref(j);
    }
    usleep(1500000); /* nothing says when the last request is out */
    double ours = (held_kib() - before) / FLIGHT;
    before = held_kib();
    peer_open(p, url, sent);
    int running;
    for (int i = 0; i < FLIGHT; i++)
        curl_multi_add_handle(p->multi, p->easy[i]);
    for (int i = 0; i < 100; i++) {
        curl_multi_perform(p->multi, &running);
        curl_multi_poll(p->multi, NULL, 0, 10, NULL);
    }
    double theirs = (held_kib() - before) / FLIGHT;
    printf("bench remote-memory: %.1f KiB/task | libcurl %.1f KiB/task | ratio %.2f\n", ours, theirs,
           ours / theirs);
    for (int i = 0; i < FLIGHT; i++)
        curl_multi_remove_handle(p->multi, p->easy[i]);
    peer_close(p);
    free(p);
}

static const char body[] =
    "[{\"taskType\":\"imageInference\",\"taskUUID\":\"" UUID "\",\"model\":\"bench:1@1\","
    "\"positivePrompt\":\"a pine forest at sunset with the sun on the right\",\"width\":%d,"
    "\"height\":%d,\"steps\":16,\"seed\":1,\"outputFormat\":\"PNG\"}]";

int main(int argc, char **argv)
{
    static const struct {
        const char *name, *path;
        int counts[3];
    } kinds[] = {{"small", "small", {2000, 8000, 8000}}, {"picture", "large", {100, 300, 400}}};
    static const int flights[] = {1, 32, 256};
    const char *only = argc > 1 ? argv[1] : ""; /* bench_remote [KIND [TASKS]] */
    int count = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;
    pid_t pid;
    int port = start_service(&pid);
    setenv("BENCH_KEY", "key", 1);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    for (int i = 0; i < 3; i++) {
        char card[512], asked[1024], url[96];
        const char *path = i < 2 ? kinds[i].path : "hold", *name = i < 2 ? kinds[i].name : "memory";
        if (*only && strcmp(only, name) != 0)
            continue;
        snprintf(url, sizeof url, "http://127.0.0.1:%d/%s", port, path);
        snprintf(card, sizeof card,
                 "{\"id\":\"bench:1@1\",\"name\":\"bench\",\"family\":\"generic\",\"executors\":"
                 "[{\"name\":\"runware\",\"url\":\"%s\",\"key_env\":\"BENCH_KEY\"}]}",
                 url);
        snprintf(asked, sizeof asked, body, 512, 512);
        rv *r;
        rv_batch *b = open_ours(&r, card, asked);
        size_t len;
        const char *task = rv_task_json(rv_batch_task(b, 0), &len);
        char *sent = NULL; /* what goes out differs by a few bytes only */
        if (asprintf(&sent, "[%.*s]", (int)len, task) < 0)
            exit(1);
        for (int k = 0; i < 2 && k < 3; k++)
            compare(name, r, b, url, sent, count ? count : kinds[i].counts[k], flights[k]);
        if (i == 2)
            memory(r, b, url, sent);
        rv_batch_unref(b);
        rv_close(r);
        free(sent);
    }
    kill(pid, SIGKILL);
    return 0;
}
