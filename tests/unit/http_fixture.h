/* A small HTTP server on loopback for tests: one connection at a time, answers by path, counts what
 * arrives.  It keeps connections open until the client closes them. */
#ifndef HTTP_FIXTURE_H
#define HTTP_FIXTURE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct route {
    const char *path;   /* the beginning of the request's target; NULL ends the list */
    const char *answer; /* all of it, status line and headers included               */
    size_t len;         /* 0: up to its NUL                                          */
    bool is_endless;    /* the answer is repeated until the client leaves            */
    bool is_silent;     /* nothing is sent until the client leaves                   */
} route;

typedef struct server {
    pthread_t thread;
    int fd, port;
    atomic_int connections, requests;
    const route *routes;
    char request[65536]; /* the last one; read after its transfer has ended */
} server;

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

static inline bool read_request(server *s, int c)
{
    size_t at = 0;
    while (at < sizeof s->request - 1) {
        ssize_t n = recv(c, s->request + at, sizeof s->request - 1 - at, 0);
        if (n <= 0)
            return false;
        at += (size_t)n;
        s->request[at] = '\0';
        const char *body = strstr(s->request, "\r\n\r\n"),
                   *length = strcasestr(s->request, "content-length: ");
        size_t wanted = length ? strtoul(length + 16, NULL, 10) : 0;
        if (body && at >= (size_t)(body + 4 - s->request) + wanted)
            return true;
    }
    return false;
}

static inline bool send_all(int c, const char *bytes, size_t len)
{
    while (len) {
        ssize_t n = send(c, bytes, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

static inline const route *route_of(const server *s)
{
    const char *target = strchr(s->request, ' ');
    for (const route *r = s->routes; r->path; r++) {
        if (target && strncmp(target + 1, r->path, strlen(r->path)) == 0)
            return r;
    }
    return NULL;
}

static inline void *serve(void *arg)
{
    static const route missing = {"", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"};
    server *s = arg;
    for (;;) {
        int c = accept(s->fd, NULL, NULL);
        if (c < 0)
            return NULL;
        atomic_fetch_add(&s->connections, 1);
        while (read_request(s, c)) {
            atomic_fetch_add(&s->requests, 1);
            const route *r = route_of(s);
            r = r ? r : &missing;
            size_t len = r->len ? r->len : strlen(r->answer ? r->answer : "");
            bool ok = r->is_silent || send_all(c, r->answer, len);
            const char *body = r->is_endless ? strstr(r->answer, "\r\n\r\n") + 4 : NULL;
            while (ok && body)
                ok = send_all(c, body, len - (size_t)(body - r->answer));
        }
        close(c);
    }
}

static inline void server_start(server *s, const route *routes)
{
    memset(s, 0, sizeof *s);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    s->routes = routes;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->fd, 8), 0);
    getsockname(s->fd, (struct sockaddr *)&a, &size);
    s->port = ntohs(a.sin_port);
    pthread_create(&s->thread, NULL, serve, s);
}

static inline void server_stop(server *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

#endif
