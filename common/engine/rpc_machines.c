/* See rpc_machines.h. */
#include "rpc_machines.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "rpc_link.h"
#include "rpc_message.h"

enum { CONNECT_MS = 10000, LORAS = 32 };

typedef struct machine {
    char *address;
    rv__link *link; /* NULL: not connected */
    bool said_hello;
    int64_t first, end;  /* its blocks, for errors */
    unsigned long loras; /* number of the list that it has */
} machine;

typedef struct lora {
    char *path;
    double weight;
} lora;

struct rv__machines {
    size_t count;
    machine list[RV__MACHINES];
    rv__rpc_key key;
    int patience_ms;
    size_t shares; /* numbers of "rpc_blocks" */
    int64_t blocks[RV__MACHINES + 1];
    lora loras[LORAS];
    size_t lora_count;
    unsigned long lora_number; /* of the present list; 0: none was ever set */
};

/* ---- the card ---- */

static rv_status wrong(rv_error *err, const char *why)
{
    return rv__fail(err, RV_FORMAT, "the model's card: %s", why);
}

static rv_status read_addresses(rv__machines *m, const rv__value *list, rv_error *err)
{
    if (!rv__json_is_array(list) || rv__json_size(list) > RV__MACHINES)
        return wrong(err, "engine.rpc is a list of at most 16 \"host:port\"");
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v)) {
        const char *address = rv__json_string(v), *colon = address ? strrchr(address, ':') : NULL;

        if (!colon || colon == address || !colon[1])
            return wrong(err, "engine.rpc is a list of at most 16 \"host:port\"");
        m->list[m->count].address = rv__strdup(address);
        if (!m->list[m->count].address)
            return rv__fail(err, RV_MEMORY, "out of memory");
        m->count++;
    }
    return RV_OK;
}

static rv_status read_shares(rv__machines *m, const rv__value *list, rv_error *err)
{
    static const char why[] = "engine.rpc_blocks is a list of how many blocks run here (may be 0) and on "
                              "each machine of engine.rpc (at least 1)";

    if (!list)
        return RV_OK;
    if (!rv__json_is_array(list) || rv__json_size(list) != m->count + 1)
        return wrong(err, why);
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v), m->shares++)
        if (!rv__json_int(v, &m->blocks[m->shares]) || m->blocks[m->shares] < (m->shares > 0) ||
            m->blocks[m->shares] > 4096)
            return wrong(err, why);
    return RV_OK;
}

static rv_status read_key(rv__machines *m, const rv__value *engine, const char *folder,
                          rv_error *err)
{
    const char *path = rv__json_get_string(engine, "rpc_key", NULL);
    char *full;
    rv_status status;

    if (!path)
        return RV_OK;
    full = path[0] == '/' ? rv__strdup(path) : rv__format("%s/%s", folder, path);
    status = full ? rv__rpc_key_read(full, &m->key, err)
                  : rv__fail(err, RV_MEMORY, "out of memory");
    rv__free(full);
    return status;
}

rv_status rv__machines_open(const rv__value *engine, const char *folder, rv__machines **out,
                            rv_error *err)
{
    const rv__value *list = rv__json_get(engine, "rpc");
    double patience = rv__json_get_number(engine, "rpc_timeout", RV__RPC_PATIENCE_MS / 1e3);
    rv__machines *m;
    rv_status status;

    *out = NULL;
    if (!list || (rv__json_is_array(list) && rv__json_size(list) == 0))
        return RV_OK;
    if (!(patience >= 0.5 && patience <= 3600))
        return wrong(err, "engine.rpc_timeout is a number of seconds from 0.5 to 3600");
    m = rv__calloc(1, sizeof *m);
    if (!m)
        return rv__fail(err, RV_MEMORY, "out of memory");
    m->patience_ms = (int)(patience * 1e3);
    status = read_addresses(m, list, err);
    if (status == RV_OK)
        status = read_shares(m, rv__json_get(engine, "rpc_blocks"), err);
    if (status == RV_OK)
        status = read_key(m, engine, folder, err);
    if (status != RV_OK) {
        rv__machines_close(m);
        return status;
    }
    *out = m;
    return RV_OK;
}

static void drop_loras(rv__machines *m)
{
    while (m->lora_count > 0)
        rv__free(m->loras[--m->lora_count].path);
}

void rv__machines_close(rv__machines *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->count; i++) {
        rv__link_close(m->list[i].link);
        rv__free(m->list[i].address);
    }
    drop_loras(m);
    rv__free(m);
}

size_t rv__machines_count(const rv__machines *m)
{
    return m->count;
}

rv_status rv__machines_split(const rv__machines *m, const double *bytes, int64_t blocks,
                             int64_t first[RV__MACHINES + 1], rv_error *err)
{
    double all = 0, sum = 0;
    int64_t next = 0;

    if (blocks < (int64_t)m->count)
        return rv__fail(err, RV_FORMAT, "the model's card names %zu machines for %lld blocks",
                        m->count, (long long)blocks);
    for (int64_t i = 0; i < blocks; i++)
        all += bytes[i];
    for (size_t k = 0; k < m->count; k++) {
        double target = all * (double)(k + 1) / (double)(m->count + 1);
        int64_t least = k > 0 ? first[k - 1] + 1 : 0, most = blocks - (int64_t)(m->count - k);

        if (m->shares > 0)
            next += m->blocks[k];
        else
            while (next < most && (next < least || sum + bytes[next] / 2 < target))
                sum += bytes[next++];
        first[k] = next;
    }
    first[m->count] = blocks;
    if (m->shares > 0 && next + m->blocks[m->count] != blocks)
        return rv__fail(err, RV_FORMAT,
                        "the model's card: engine.rpc_blocks adds up to %lld, the model has %lld blocks",
                        (long long)(next + m->blocks[m->count]), (long long)blocks);
    return RV_OK;
}

/* ---- errors ---- */

/* Whose fault it is matters to the one who asks for a picture: what is wrong with another machine is
 * worth another try, and no fault of theirs. */
static rv_status kind_of(rv_status status)
{
    switch (status) {
    case RV_CONNECTION:
    case RV_TIMEOUT:
    case RV_BUSY:
    case RV_MEMORY:
    case RV_VALIDATION:
        return status;
    default:
        return RV_PROVIDER;
    }
}

/* Says which machine it was, and hangs up. */
static rv_status blame(rv__machines *m, size_t i, rv_status status, rv_error *err)
{
    machine *it = &m->list[i];
    char why[400];

    rv__link_close(it->link);
    it->link = NULL;
    if (status == RV_CANCELLED)
        return status;
    snprintf(why, sizeof why, "%.390s", err ? err->message : "");
    return rv__fail(err, kind_of(status), "the machine %.100s (blocks %lld to %lld): %s",
                    it->address, (long long)it->first, (long long)it->end - 1, why);
}

/* ---- conversation ---- */

/* The next message of a kind, with a text of its own (rv__free). */
static rv_status receive_text(rv__link *l, char kind, char **text, size_t *len, rv_error *err)
{
    char got = 0, why[400];
    uint64_t size = 0;
    rv_status status = rv__link_receive_head(l, &got, &size, NULL, NULL, err);

    *text = NULL;
    if (status != RV_OK)
        return status;
    if ((got != kind && got != 'E') || size > RV__RPC_TEXT_MOST)
        return rv__fail(err, RV_PROVIDER, "does not speak this protocol");
    *len = (size_t)size;
    *text = rv__calloc(1, (size_t)size + 1);
    if (!*text)
        return rv__fail(err, RV_MEMORY, "out of memory");
    status = rv__link_receive_bytes(l, *text, (size_t)size, err);
    if (status == RV_OK && got == 'E') {
        status = rv__rpc_read_error(*text, (size_t)size, why, sizeof why);
        rv__fail(err, status, "%s", why);
    }
    if (status != RV_OK) {
        rv__free(*text);
        *text = NULL;
    }
    return status;
}

static rv_status send_text(rv__link *l, char kind, rv__buf *b, rv_error *err)
{
    size_t len;
    char *text = rv__buf_take(b, &len);
    rv_status status = text ? rv__link_send(l, kind, text, len, err)
                            : rv__fail(err, RV_MEMORY, "out of memory");

    rv__free(text);
    return status;
}

static rv_status check_hello(const rv__rpc_hello *h, int64_t blocks, const char *weights,
                             rv_error *err)
{
    if (h->protocol != RV__RPC_PROTOCOL || strcmp(h->version, RV_VERSION) != 0)
        return rv__fail(err, RV_PROVIDER,
                        "runs reverie %s (protocol %lld), this is %s (protocol %d): use the same "
                        "on both",
                        h->version, (long long)h->protocol, RV_VERSION, RV__RPC_PROTOCOL);
    if (h->blocks != blocks || strcmp(h->weights, weights) != 0)
        return rv__fail(err, RV_PROVIDER, "has other weights than this model's");
    return RV_OK;
}

static rv_status say_hello(machine *it, int64_t blocks, const char *weights, rv_error *err)
{
    rv__rpc_hello mine = {.protocol = RV__RPC_PROTOCOL, .blocks = blocks}, theirs;
    rv__buf b;
    char *text = NULL;
    size_t len = 0;
    rv_status status;

    snprintf(mine.version, sizeof mine.version, "%s", RV_VERSION);
    snprintf(mine.weights, sizeof mine.weights, "%s", weights);
    rv__buf_init(&b, RV__RPC_TEXT_MOST);
    rv__rpc_write_hello(&b, &mine);
    status = send_text(it->link, 'H', &b, err);
    if (status == RV_OK)
        status = receive_text(it->link, 'H', &text, &len, err);
    if (status == RV_OK)
        status = rv__rpc_read_hello(text, len, &theirs, err);
    if (status == RV_OK)
        status = check_hello(&theirs, blocks, weights, err);
    rv__free(text);
    it->said_hello = status == RV_OK;
    return status;
}

static rv_status send_file(rv__link *l, int fd, const lora *from, rv_error *err)
{
    char room[1 << 16];
    struct stat st;
    uint64_t left;
    rv_status status;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return rv__fail(err, RV_IO, "%s: not a regular file", from->path);
    left = (uint64_t)st.st_size;
    status = rv__link_send_head(l, 'L', left + sizeof from->weight, err);
    if (status == RV_OK)
        status = rv__link_send_bytes(l, &from->weight, sizeof from->weight, err);
    while (status == RV_OK && left > 0) {
        ssize_t n = read(fd, room, left < sizeof room ? (size_t)left : sizeof room);

        if (n <= 0)
            return rv__fail(err, RV_IO, "%s: %s", from->path, n < 0 ? strerror(errno) : "shrank");
        status = rv__link_send_bytes(l, room, (size_t)n, err);
        left -= (uint64_t)n;
    }
    return status;
}

static rv_status send_loras(const rv__machines *m, machine *it, rv_error *err)
{
    rv_status status;

    if (it->loras == m->lora_number)
        return RV_OK;
    status = rv__link_send(it->link, 'N', NULL, 0, err);
    for (size_t i = 0; i < m->lora_count && status == RV_OK; i++) {
        int fd = open(m->loras[i].path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

        if (fd < 0)
            return rv__fail(err, RV_IO, "%s: %s", m->loras[i].path, strerror(errno));
        status = send_file(it->link, fd, &m->loras[i], err);
        close(fd);
    }
    it->loras = m->lora_number;
    return status;
}

static rv_status ask_ready(machine *it, const rv__part_shape *shape, rv_error *err)
{
    rv__rpc_ready ready;
    rv__buf b;
    char *text = NULL;
    size_t len = 0;
    rv_status status;

    rv__buf_init(&b, RV__RPC_TEXT_MOST);
    rv__rpc_write_shape(&b, shape);
    status = send_text(it->link, 'P', &b, err);
    if (status == RV_OK)
        status = receive_text(it->link, 'O', &text, &len, err);
    if (status == RV_OK)
        status = rv__rpc_read_ready(text, len, &ready, err);
    rv__free(text);
    return status;
}

static rv_status connect_to(rv__machines *m, machine *it, rv_error *err)
{
    int patience = m->patience_ms < CONNECT_MS ? m->patience_ms : CONNECT_MS;
    rv_status status = rv__link_connect(it->address, &m->key, patience, &it->link, err);

    it->said_hello = false;
    it->loras = 0;
    if (status == RV_OK)
        rv__link_patience(it->link, m->patience_ms);
    return status;
}

static rv_status prepare(rv__machines *m, machine *it, const rv__part_shape *shape, int64_t blocks,
                         const char *weights, rv_error *err)
{
    rv_status status = it->link ? RV_OK : connect_to(m, it, err);

    if (status == RV_OK && !it->said_hello)
        status = say_hello(it, blocks, weights, err);
    if (status == RV_OK)
        status = send_loras(m, it, err);
    return status == RV_OK ? ask_ready(it, shape, err) : status;
}

rv_status rv__machines_prepare(rv__machines *m, size_t i, const rv__part_shape *shape,
                               int64_t blocks, const char *weights, rv_error *err)
{
    machine *it = &m->list[i];
    bool is_old = it->link && it->said_hello;
    rv_status status;

    it->first = shape->first[0];
    it->end = shape->end[shape->spans - 1];
    status = prepare(m, it, shape, blocks, weights, err);
    /* A connection that waited may have been closed meanwhile: its machine was started anew, or
     * works for another. */
    if ((status == RV_CONNECTION || status == RV_TIMEOUT) && is_old) {
        rv__link_close(it->link);
        it->link = NULL;
        status = prepare(m, it, shape, blocks, weights, err);
    }
    return status == RV_OK ? RV_OK : blame(m, i, status, err);
}

static rv_status not_ready(rv_error *err)
{
    return rv__fail(err, RV_CONNECTION, "is not connected");
}

rv_status rv__machines_text(rv__machines *m, size_t i, int64_t block, const float *text, size_t n,
                            rv_error *err)
{
    rv__link *l = m->list[i].link;
    uint64_t number = (uint64_t)block;
    rv_status status = l ? rv__link_send_head(l, 'T', sizeof number + n * sizeof *text, err)
                         : not_ready(err);

    if (status == RV_OK)
        status = rv__link_send_bytes(l, &number, sizeof number, err);
    if (status == RV_OK)
        status = rv__link_send_bytes(l, text, n * sizeof *text, err);
    return status == RV_OK ? RV_OK : blame(m, i, status, err);
}

/* Waits for the streams while the machine says every second that it is at it. */
static rv_status receive_streams(rv__link *l, float *out, size_t n, rv__cancel_fn *cancelled,
                                 void *user, rv_error *err)
{
    char kind = 0, why[400], *text;
    uint64_t size = 0;
    rv_status status;

    do
        status = rv__link_receive_head(l, &kind, &size, cancelled, user, err);
    while (status == RV_OK && kind == 'K' && size == 0);
    if (status != RV_OK)
        return status;
    if (kind == 'D' && size == n * sizeof *out)
        return rv__link_receive_bytes(l, out, n * sizeof *out, err);
    if (kind != 'E' || size > RV__RPC_TEXT_MOST)
        return rv__fail(err, RV_PROVIDER, "does not speak this protocol");
    text = rv__calloc(1, (size_t)size + 1);
    if (!text)
        return rv__fail(err, RV_MEMORY, "out of memory");
    status = rv__link_receive_bytes(l, text, (size_t)size, err);
    if (status == RV_OK) {
        status = rv__rpc_read_error(text, (size_t)size, why, sizeof why);
        rv__fail(err, status, "%s", why);
    }
    rv__free(text);
    return status;
}

rv_status rv__machines_run(rv__machines *m, size_t i, int span, const float *in, size_t n_in,
                           float *out, size_t n_out, rv__cancel_fn *cancelled, void *user,
                           rv_error *err)
{
    rv__link *l = m->list[i].link;
    uint64_t number = (uint64_t)span;
    rv_status status = l ? rv__link_send_head(l, 'R', sizeof number + n_in * sizeof *in, err)
                         : not_ready(err);

    if (status == RV_OK)
        status = rv__link_send_bytes(l, &number, sizeof number, err);
    if (status == RV_OK)
        status = rv__link_send_bytes(l, in, n_in * sizeof *in, err);
    if (status == RV_OK)
        status = receive_streams(l, out, n_out, cancelled, user, err);
    return status == RV_OK ? RV_OK : blame(m, i, status, err);
}

void rv__machines_rest(rv__machines *m)
{
    for (size_t i = 0; i < m->count; i++)
        if (m->list[i].link && rv__link_send(m->list[i].link, 'Z', NULL, 0, NULL) != RV_OK) {
            rv__link_close(m->list[i].link);
            m->list[i].link = NULL;
        }
}

static bool has_loras(const rv__machines *m, const rv__machines_lora *list, size_t count)
{
    bool same = count == m->lora_count;

    for (size_t i = 0; i < count && same; i++)
        same = strcmp(list[i].path, m->loras[i].path) == 0 && list[i].weight == m->loras[i].weight;
    return same;
}

rv_status rv__machines_loras(rv__machines *m, const rv__machines_lora *list, size_t count,
                             rv_error *err)
{
    if (has_loras(m, list, count))
        return RV_OK;
    drop_loras(m);
    m->lora_number++;
    for (size_t i = 0; i < count && i < LORAS; i++) {
        m->loras[i] = (lora){rv__strdup(list[i].path), list[i].weight};
        if (!m->loras[i].path)
            return rv__fail(err, RV_MEMORY, "out of memory");
        m->lora_count++;
    }
    return RV_OK;
}

void rv__machines_attach(rv__machines *m, size_t i, rv__link *link)
{
    rv__link_close(m->list[i].link);
    m->list[i].link = link;
    m->list[i].said_hello = false;
}
