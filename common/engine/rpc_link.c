/* See rpc_link.h.  Sockets never block; TLS works on memory, so that writing to a closed socket
 * raises no signal. */
#include "rpc_link.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

enum { HEAD = 12, TICK_MS = 100, KEY_LEAST = 16, KEY_MOST = 4096, RECORD = 16384, BACKLOG = 16 };

static const char magic[3] = {'R', 'V', '1'};

struct rv__link {
    int fd;
    int patience_ms;
    int why; /* errno of the last failure */
    SSL_CTX *context; /* NULL: no key */
    SSL *tls;
    rv__rpc_key key;
    uint8_t head[HEAD]; /* of the frame that is being read */
    size_t head_have;
    const uint8_t *recorded; /* fd < 0 */
    size_t recorded_left;
};

/* ---- keys ---- */

static rv_status read_key(int fd, const char *path, rv__rpc_key *out, rv_error *err)
{
    char text[KEY_MOST + 1];
    struct stat st;
    ssize_t n;
    size_t len;
    unsigned size = 0;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return rv__fail(err, RV_FORMAT, "%s: not a regular file", path);
    if (st.st_mode & S_IROTH)
        return rv__fail(err, RV_FORMAT, "%s: everybody can read this key (chmod 600 it)", path);
    n = read(fd, text, sizeof text);
    if (n < 0)
        return rv__fail(err, RV_IO, "%s: %s", path, strerror(errno));
    len = (size_t)n;
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r' || text[len - 1] == ' '))
        len--;
    if (len < KEY_LEAST || len > KEY_MOST)
        return rv__fail(err, RV_FORMAT, "%s: a key has %d to %d bytes, this one has %zu", path,
                        KEY_LEAST, KEY_MOST, len);
    out->is_set = EVP_Digest(text, len, out->bytes, &size, EVP_sha256(), NULL) == 1;
    OPENSSL_cleanse(text, sizeof text);
    return out->is_set ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
}

rv_status rv__rpc_key_read(const char *path, rv__rpc_key *out, rv_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    rv_status status;

    *out = (rv__rpc_key){0};
    if (fd < 0)
        return rv__fail(err, errno == ENOENT ? RV_NOT_FOUND : RV_IO, "%s: %s", path,
                        strerror(errno));
    status = read_key(fd, path, out, err);
    close(fd);
    return status;
}

/* ---- bytes ---- */

static rv_status silent(const rv__link *l, rv_error *err)
{
    return rv__fail(err, RV_TIMEOUT, "was silent for %.1f s", l->patience_ms / 1e3);
}

/* The kernel may lose its patience first. */
static rv_status gone(const rv__link *l, rv_error *err)
{
    return l->why == ETIMEDOUT ? silent(l, err)
                               : rv__fail(err, RV_CONNECTION, "has closed the connection");
}

/* Waits until the socket can be read or written; false: patience has run out, or stop says so. */
static rv_status wait_for(rv__link *l, short events, int64_t since, rv__link_stop *stop, void *user,
                          rv_error *err)
{
    struct pollfd p = {.fd = l->fd, .events = events};

    for (;;) {
        int n = poll(&p, 1, TICK_MS);

        if (n > 0)
            return RV_OK;
        if (n < 0 && errno != EINTR)
            return rv__fail(err, RV_CONNECTION, "%s", strerror(errno));
        if (stop && stop(user))
            return rv__fail(err, RV_CANCELLED, "cancelled");
        if (l->patience_ms > 0 && rv__clock_ms() - since > l->patience_ms)
            return silent(l, err);
    }
}

/* Some raw bytes of the socket: > 0, 0 when there are none yet, -1 when it is gone. */
static ssize_t pull_raw(rv__link *l, void *data, size_t size)
{
    ssize_t n;

    if (l->fd < 0) {
        size = size < l->recorded_left ? size : l->recorded_left;
        memcpy(data, l->recorded, size);
        l->recorded += size;
        l->recorded_left -= size;
        return size > 0 ? (ssize_t)size : -1;
    }
    do
        n = recv(l->fd, data, size, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        return n;
    l->why = n < 0 ? errno : 0;
    return l->why == EAGAIN || l->why == EWOULDBLOCK ? 0 : -1;
}

static rv_status push_raw(rv__link *l, const void *data, size_t size, rv_error *err)
{
    const char *at = data;
    int64_t since = rv__clock_ms();

    while (size > 0 && l->fd >= 0) {
        ssize_t n = send(l->fd, at, size, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) {
            at += n;
            size -= (size_t)n;
            since = rv__clock_ms();
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        l->why = n < 0 ? errno : 0;
        if (l->why != EAGAIN && l->why != EWOULDBLOCK)
            return gone(l, err);
        rv_status status = wait_for(l, POLLOUT, since, NULL, NULL, err);
        if (status != RV_OK)
            return status;
    }
    return RV_OK;
}

/* What TLS wants to say goes out. */
static rv_status flush(rv__link *l, rv_error *err)
{
    char room[RECORD];
    rv_status status = RV_OK;
    int n;

    while (status == RV_OK && (n = BIO_read(SSL_get_wbio(l->tls), room, sizeof room)) > 0)
        status = push_raw(l, room, (size_t)n, err);
    return status;
}

/* Gives TLS some of what has come: as pull_raw. */
static ssize_t feed(rv__link *l)
{
    char room[RECORD];
    ssize_t n = pull_raw(l, room, sizeof room);

    return n > 0 && BIO_write(SSL_get_rbio(l->tls), room, (int)n) != n ? -1 : n;
}

/* The same as pull_raw, behind TLS. */
static ssize_t pull(rv__link *l, void *data, size_t size)
{
    if (!l->tls)
        return pull_raw(l, data, size);
    for (;;) {
        int n = SSL_read(l->tls, data, size < RECORD ? (int)size : RECORD);

        if (n > 0)
            return n;
        if (SSL_get_error(l->tls, n) != SSL_ERROR_WANT_READ)
            return -1;
        ssize_t got = feed(l);
        if (got <= 0)
            return got;
    }
}

rv_status rv__link_receive_bytes(rv__link *l, void *data, size_t size, rv_error *err)
{
    char *at = data;
    int64_t since = rv__clock_ms();

    while (size > 0) {
        ssize_t n = pull(l, at, size);

        if (n < 0)
            return gone(l, err);
        if (n == 0) {
            rv_status status = wait_for(l, POLLIN, since, NULL, NULL, err);
            if (status != RV_OK)
                return status;
            continue;
        }
        at += n;
        size -= (size_t)n;
        since = rv__clock_ms();
    }
    return RV_OK;
}

/* ---- TLS ---- */

static unsigned give_key(const SSL *tls, unsigned char *out, unsigned size)
{
    const rv__link *l = SSL_get_app_data(tls);

    if (size < RV__RPC_KEY)
        return 0;
    memcpy(out, l->key.bytes, RV__RPC_KEY);
    return RV__RPC_KEY;
}

static unsigned client_key(SSL *tls, const char *hint, char *identity, unsigned identity_size,
                           unsigned char *key, unsigned size)
{
    (void)hint;
    snprintf(identity, identity_size, "reverie");
    return give_key(tls, key, size);
}

static unsigned server_key(SSL *tls, const char *identity, unsigned char *key, unsigned size)
{
    return strcmp(identity, "reverie") == 0 ? give_key(tls, key, size) : 0;
}

static bool make_tls(rv__link *l, bool is_server)
{
    BIO *in, *out;

    l->context = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    if (!l->context || !SSL_CTX_set_min_proto_version(l->context, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(l->context,
                                  "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"))
        return false;
    SSL_CTX_set_num_tickets(l->context, 0);
    SSL_CTX_set_session_cache_mode(l->context, SSL_SESS_CACHE_OFF);
    if (is_server)
        SSL_CTX_set_psk_server_callback(l->context, server_key);
    else
        SSL_CTX_set_psk_client_callback(l->context, client_key);
    l->tls = SSL_new(l->context);
    in = BIO_new(BIO_s_mem());
    out = BIO_new(BIO_s_mem());
    if (!l->tls || !in || !out) {
        BIO_free(in);
        BIO_free(out);
        return false;
    }
    SSL_set_bio(l->tls, in, out);
    SSL_set_app_data(l->tls, l);
    if (is_server)
        SSL_set_accept_state(l->tls);
    else
        SSL_set_connect_state(l->tls);
    return true;
}

static rv_status shake_hands(rv__link *l, rv_error *err)
{
    int64_t since = rv__clock_ms();

    for (;;) {
        int n = SSL_do_handshake(l->tls), why = SSL_get_error(l->tls, n);
        rv_status status = flush(l, err);

        if (n == 1 || status != RV_OK)
            return status;
        if (why != SSL_ERROR_WANT_READ)
            return rv__fail(err, RV_AUTH, "has another key, or none");
        ssize_t got = feed(l);
        if (got < 0)
            return rv__fail(err, RV_AUTH, "has another key, or none");
        if (got == 0)
            status = wait_for(l, POLLIN, since, NULL, NULL, err);
        if (status != RV_OK)
            return status;
    }
}

/* ---- connections ---- */

static rv__link *new_link(int fd, int patience_ms)
{
    rv__link *l = rv__calloc(1, sizeof *l);

    if (l) {
        l->fd = fd;
        l->patience_ms = patience_ms;
    }
    return l;
}

/* A peer whose machine or wire died says nothing: the kernel asks after it. */
static void keep_alive(int fd, int patience_ms)
{
    unsigned patience = (unsigned)patience_ms;

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){10}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &(int){5}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){3}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

static rv_status finish(rv__link *l, const rv__rpc_key *key, bool is_server, rv__link **out,
                        rv_error *err)
{
    rv_status status = RV_OK;

    if (!l)
        return rv__fail(err, RV_MEMORY, "out of memory");
    keep_alive(l->fd, l->patience_ms);
    if (key->is_set) {
        l->key = *key;
        status = make_tls(l, is_server) ? shake_hands(l, err)
                                        : rv__fail(err, RV_MEMORY, "TLS cannot be set up");
    }
    if (status != RV_OK) {
        rv__link_close(l);
        return status;
    }
    *out = l;
    return RV_OK;
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

/* "host:port" as addresses. */
static rv_status resolve(const char *address, bool passive, struct addrinfo **out, rv_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = (passive ? AI_PASSIVE : 0) | AI_NUMERICSERV};
    char host[256];
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;
    int why;

    if (len > 1 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    if (!colon || len == 0 || len >= sizeof host || !colon[1])
        return rv__fail(err, RV_FORMAT, "\"%.100s\" is not host:port", address);
    memcpy(host, address, len);
    host[len] = '\0';
    why = getaddrinfo(host, colon + 1, &hints, out);
    return why == 0 ? RV_OK : rv__fail(err, RV_CONNECTION, "%s: %s", host, gai_strerror(why));
}

static rv_status refuse_open(rv_error *err)
{
    return rv__fail(err, RV_FORMAT,
                    "is not on this machine: a key file is needed, the same on both sides");
}

static rv_status connect_one(const struct addrinfo *a, const rv__rpc_key *key, int patience_ms,
                             rv__link **out, rv_error *err)
{
    int fd, why = 0;
    socklen_t size = sizeof why;

    if (!key->is_set && !is_loopback(a->ai_addr))
        return refuse_open(err);
    fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return rv__fail(err, RV_CONNECTION, "%s", strerror(errno));
    if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
        rv__link waiting = {.fd = fd, .patience_ms = patience_ms};
        rv_status status =
            errno == EINPROGRESS
                ? wait_for(&waiting, POLLOUT, rv__clock_ms(), NULL, NULL, err)
                : rv__fail(err, RV_CONNECTION, "cannot be reached: %s", strerror(errno));

        if (status == RV_OK &&
            (getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &size) != 0 || why != 0))
            status = rv__fail(err, RV_CONNECTION, "cannot be reached: %s", strerror(why));
        if (status != RV_OK) {
            close(fd);
            return status;
        }
    }
    rv__link *l = new_link(fd, patience_ms);
    if (!l)
        close(fd);
    return finish(l, key, false, out, err);
}

rv_status rv__link_connect(const char *address, const rv__rpc_key *key, int patience_ms,
                           rv__link **out, rv_error *err)
{
    struct addrinfo *list = NULL;
    rv_status status = resolve(address, false, &list, err);

    *out = NULL;
    for (const struct addrinfo *a = list; a && !*out; a = a->ai_next)
        status = connect_one(a, key, patience_ms, out, err);
    if (list)
        freeaddrinfo(list);
    return status;
}

static rv_status listen_on(const struct addrinfo *a, const rv__rpc_key *key, int *fd, int *port,
                           rv_error *err)
{
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;

    if (!key->is_set && !is_loopback(a->ai_addr))
        return refuse_open(err);
    *fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return rv__fail(err, RV_IO, "%s", strerror(errno));
    setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(*fd, a->ai_addr, a->ai_addrlen) != 0 || listen(*fd, BACKLOG) != 0 ||
        getsockname(*fd, (struct sockaddr *)&bound, &size) != 0) {
        rv__fail(err, RV_IO, "%s", strerror(errno));
        close(*fd);
        *fd = -1;
        return RV_IO;
    }
    *port = ntohs(bound.ss_family == AF_INET6
                      ? ((struct sockaddr_in6 *)(void *)&bound)->sin6_port
                      : ((struct sockaddr_in *)(void *)&bound)->sin_port);
    return RV_OK;
}

rv_status rv__link_listen(const char *address, const rv__rpc_key *key, int *fd, int *port,
                          rv_error *err)
{
    struct addrinfo *list = NULL;
    rv_status status = resolve(address, true, &list, err);

    *fd = -1;
    if (status == RV_OK)
        status = listen_on(list, key, fd, port, err);
    if (list)
        freeaddrinfo(list);
    return status;
}

rv_status rv__link_accept(int fd, const rv__rpc_key *key, int patience_ms, rv__link **out,
                          rv_error *err)
{
    rv__link *l = new_link(fd, patience_ms);

    *out = NULL;
    if (!l)
        close(fd);
    return finish(l, key, true, out, err);
}

rv__link *rv__link_recorded(const uint8_t *bytes, size_t size)
{
    rv__link *l = new_link(-1, 1);

    if (l) {
        l->recorded = bytes;
        l->recorded_left = size;
    }
    return l;
}

void rv__link_close(rv__link *l)
{
    if (!l)
        return;
    SSL_free(l->tls);
    SSL_CTX_free(l->context);
    if (l->fd >= 0)
        close(l->fd);
    OPENSSL_cleanse(&l->key, sizeof l->key);
    rv__free(l);
}

void rv__link_break(rv__link *l)
{
    if (l->fd >= 0)
        shutdown(l->fd, SHUT_RDWR);
}

void rv__link_patience(rv__link *l, int patience_ms)
{
    l->patience_ms = patience_ms;
}

/* ---- frames ---- */

rv_status rv__link_send_bytes(rv__link *l, const void *data, size_t size, rv_error *err)
{
    const char *at = data;

    if (!l->tls)
        return push_raw(l, data, size, err);
    while (size > 0) {
        int n = SSL_write(l->tls, at, size < RECORD ? (int)size : RECORD);

        if (n <= 0)
            return gone(l, err);
        at += n;
        size -= (size_t)n;
        rv_status status = flush(l, err);
        if (status != RV_OK)
            return status;
    }
    return RV_OK;
}

rv_status rv__link_send_head(rv__link *l, char kind, uint64_t size, rv_error *err)
{
    uint8_t head[HEAD];

    memcpy(head, magic, sizeof magic);
    head[3] = (uint8_t)kind;
    for (int i = 0; i < 8; i++)
        head[4 + i] = (uint8_t)(size >> (8 * i));
    return rv__link_send_bytes(l, head, sizeof head, err);
}

rv_status rv__link_send(rv__link *l, char kind, const void *data, size_t size, rv_error *err)
{
    rv_status status = rv__link_send_head(l, kind, size, err);

    return status == RV_OK && size > 0 ? rv__link_send_bytes(l, data, size, err) : status;
}

static rv_status read_head(rv__link *l, char *kind, uint64_t *size, rv_error *err)
{
    l->head_have = 0;
    if (memcmp(l->head, magic, sizeof magic) != 0)
        return rv__fail(err, RV_FORMAT, "does not speak this protocol");
    *kind = (char)l->head[3];
    *size = 0;
    for (int i = 0; i < 8; i++)
        *size |= (uint64_t)l->head[4 + i] << (8 * i);
    return RV_OK;
}

rv_status rv__link_receive_head(rv__link *l, char *kind, uint64_t *size, rv__link_stop *stop,
                                void *user, rv_error *err)
{
    int64_t since = rv__clock_ms();
    rv_status status = RV_OK;

    while (status == RV_OK && l->head_have < HEAD) {
        ssize_t n = pull(l, l->head + l->head_have, HEAD - l->head_have);

        if (n < 0)
            return gone(l, err);
        if (n == 0)
            status = wait_for(l, POLLIN, since, stop, user, err);
        l->head_have += (size_t)n;
    }
    return status == RV_OK ? read_head(l, kind, size, err) : status;
}

int rv__link_poll_head(rv__link *l, char *kind, uint64_t *size)
{
    while (l->head_have < HEAD) {
        ssize_t n = pull(l, l->head + l->head_have, HEAD - l->head_have);

        if (n <= 0)
            return (int)n;
        l->head_have += (size_t)n;
    }
    return read_head(l, kind, size, NULL) == RV_OK ? 1 : -1;
}
