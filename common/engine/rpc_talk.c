/* What a server of blocks does with each message of a link (rpc_server.h). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "rpc_message.h"
#include "rpc_server_internal.h"

enum { BEAT_MS = 1000 };
#define LORA_MOST ((uint64_t)8 << 30)

static rv_status grow_room(rv__rpc_server *s, uint64_t bytes, rv_error *err)
{
    if (bytes <= s->room_bytes)
        return RV_OK;
    rv__free(s->room);
    s->room_bytes = 0;
    s->room = rv__alloc((size_t)bytes);
    if (!s->room)
        return rv__fail(err, RV_MEMORY, "out of memory");
    s->room_bytes = (size_t)bytes;
    return RV_OK;
}

static rv_status answer(rv__talk *t, char kind, rv__buf *b, rv_error *err)
{
    size_t len;
    char *text = rv__buf_take(b, &len);
    rv_status status = text ? rv__link_send(t->link, kind, text, len, err)
                            : rv__fail(err, RV_MEMORY, "out of memory");

    rv__free(text);
    return status;
}

static void answer_error(rv__talk *t, const rv_error *e)
{
    rv__buf b;

    rv__buf_init(&b, RV__RPC_TEXT_MOST);
    rv__rpc_write_error(&b, e);
    answer(t, 'E', &b, NULL);
}

/* A JSON message's text (rv__free). */
static rv_status receive_text(rv__talk *t, uint64_t size, char **out, rv_error *err)
{
    rv_status status;

    if (size > RV__RPC_TEXT_MOST)
        return rv__fail(err, RV_FORMAT, "a message of %llu bytes is too long",
                        (unsigned long long)size);
    *out = rv__calloc(1, (size_t)size + 1);
    if (!*out)
        return rv__fail(err, RV_MEMORY, "out of memory");
    status = rv__link_receive_bytes(t->link, *out, (size_t)size, err);
    if (status != RV_OK) {
        rv__free(*out);
        *out = NULL;
    }
    return status;
}

static rv_status on_hello(rv__talk *t, uint64_t size, rv_error *err)
{
    rv__transformer *net = t->server->transformer;
    rv__rpc_hello theirs, mine = {.protocol = RV__RPC_PROTOCOL};
    char *text = NULL;
    rv__buf b;
    rv_status status = receive_text(t, size, &text, err);

    if (status == RV_OK)
        status = rv__rpc_read_hello(text, (size_t)size, &theirs, err);
    rv__free(text);
    if (status != RV_OK)
        return status;
    mine.blocks = rv__transformer_block_count(net);
    snprintf(mine.version, sizeof mine.version, "%s", RV_VERSION);
    snprintf(mine.weights, sizeof mine.weights, "%s", rv__transformer_fingerprint(net));
    rv__buf_init(&b, RV__RPC_TEXT_MOST);
    rv__rpc_write_hello(&b, &mine);
    return answer(t, 'H', &b, err);
}

/* ---- LoRAs ---- */

void rv__rpc_drop_loras(rv__rpc_server *s)
{
    if (s->lora_count > 0)
        rv__transformer_plain(s->transformer);
    while (s->lora_count > 0) {
        s->lora_count--;
        rv__lora_close(s->loras[s->lora_count]);
        close(s->lora_files[s->lora_count]);
    }
}

/* What it changes outside of blocks is done where those layers are. */
static rv_status use_lora(rv__rpc_server *s, const rv__lora *l, float weight, rv_error *err)
{
    size_t count;
    const rv__lora_part *parts = rv__lora_parts(l, &count);
    rv_status status = RV_OK;

    for (size_t i = 0; i < count && status == RV_OK; i++)
        if (parts[i].component == 0 && rv__part_block(s->transformer, parts[i].module) >= 0)
            status = rv__transformer_change(s->transformer, &parts[i], weight, err);
    return status;
}

/* The rest of a message into a file in memory. */
static rv_status receive_file(rv__talk *t, uint64_t size, int fd, rv_error *err)
{
    char room[1 << 16];

    while (size > 0) {
        size_t n = size < sizeof room ? (size_t)size : sizeof room;
        rv_status status = rv__link_receive_bytes(t->link, room, n, err);

        if (status != RV_OK)
            return status;
        for (size_t done = 0; done < n;) {
            ssize_t now = write(fd, room + done, n - done);
            if (now <= 0)
                return rv__fail(err, RV_MEMORY, "no room for a LoRA: %s", strerror(errno));
            done += (size_t)now;
        }
        size -= n;
    }
    return RV_OK;
}

static rv_status on_lora(rv__talk *t, uint64_t size, rv_error *err)
{
    rv__rpc_server *s = t->server;
    double weight = 0;
    char path[64];
    rv__lora *lora = NULL;
    rv_status status;
    int fd;

    if (size < sizeof weight || size > LORA_MOST || s->lora_count == RV__RPC_LORAS)
        return rv__fail(err, RV_FORMAT, "too many LoRAs, or one of %llu bytes",
                        (unsigned long long)size);
    status = rv__link_receive_bytes(t->link, &weight, sizeof weight, err);
    if (status != RV_OK)
        return status;
    if (!(weight >= -1e3 && weight <= 1e3))
        return rv__fail(err, RV_FORMAT, "a LoRA's weight is no number");
    fd = memfd_create("reverie-lora", MFD_CLOEXEC);
    if (fd < 0)
        return rv__fail(err, RV_IO, "%s", strerror(errno));
    status = receive_file(t, size - sizeof weight, fd, err);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (status == RV_OK)
        status = rv__lora_open(path, s->weights, &lora, err);
    if (status != RV_OK) {
        close(fd);
        return status;
    }
    s->loras[s->lora_count] = lora;
    s->lora_files[s->lora_count++] = fd;
    return use_lora(s, lora, (float)weight, err);
}

/* ---- blocks ---- */

/* Bytes of this process that are in memory. */
static double resident(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    long long all = 0, here = 0;
    int n = f ? fscanf(f, "%20lld %20lld", &all, &here) : 0;

    if (f)
        fclose(f);
    return n == 2 ? (double)here * (double)sysconf(_SC_PAGESIZE) : 0;
}

static rv_status check_memory(const rv__rpc_server *s, const rv__rpc_ready *r, rv_error *err)
{
    double all = r->weights + r->activations;

    return all <= s->options.memory
               ? RV_OK
               : rv__fail(err, RV_VALIDATION,
                          "its blocks need %.2f GB for this size, it may use %.2f GB", all / 1e9,
                          s->options.memory / 1e9);
}

/* The least that a shape takes, before anything is built for it: its sizes may be any numbers. */
static rv_status check_sizes(const rv__rpc_server *s, const rv__part_shape *p, rv_error *err)
{
    enum { ROWS = 4 }; /* at least: streams, query, key and value of every token */
    double tokens = (double)p->width * (double)p->height + (double)p->t5 + 2 * (double)p->llama;
    double width = (double)rv__transformer_about(s->transformer)->width;
    rv__rpc_ready least = {.activations = ROWS * sizeof(float) * tokens * width * (double)p->batch};

    return check_memory(s, &least, err);
}

static void tell_shape(const rv__rpc_server *s, const rv__rpc_ready *r)
{
    const rv__part_shape *p = &s->shape;

    rv__rpc_say(s,
        "blocks %lld to %lld of %lld: weights %.1f MB, activations %.1f MB for %lldx%lld patches",
        (long long)p->first[0], (long long)p->end[p->spans - 1] - 1,
        (long long)rv__transformer_block_count(s->transformer), r->weights / 1e6,
        r->activations / 1e6, (long long)p->width, (long long)p->height);
}

static rv_status on_prepare(rv__talk *t, uint64_t size, rv_error *err)
{
    rv__rpc_server *s = t->server;
    rv__part_shape shape;
    rv__rpc_ready ready = {0};
    char *text = NULL;
    rv__buf b;
    rv_status status = receive_text(t, size, &text, err);

    if (status == RV_OK)
        status = rv__rpc_read_shape(text, (size_t)size, &shape, err);
    rv__free(text);
    s->shape.spans = 0;
    memset(s->has_text, 0, sizeof s->has_text);
    if (status == RV_OK)
        status = check_sizes(s, &shape, err);
    if (status == RV_OK)
        status = rv__part_prepare(s->transformer, &shape, err);
    if (status != RV_OK)
        return status;
    for (int i = 0; i < shape.spans; i++)
        ready.weights += rv__part_weights(s->transformer, shape.first[i], shape.end[i]);
    ready.activations = (double)rv__part_bytes(s->transformer);
    status = check_memory(s, &ready, err);
    if (status != RV_OK) {
        rv__part_release(s->transformer);
        return status;
    }
    s->shape = shape;
    ready.resident = resident();
    tell_shape(s, &ready);
    rv__buf_init(&b, RV__RPC_TEXT_MOST);
    rv__rpc_write_ready(&b, &ready);
    return answer(t, 'O', &b, err);
}

/* A message of a number and so many floats into the room. */
static rv_status receive_floats(rv__talk *t, uint64_t size, size_t floats, uint64_t *number,
                                rv_error *err)
{
    uint64_t want = sizeof *number + (uint64_t)floats * sizeof(float);
    rv_status status;

    if (size != want)
        return rv__fail(err, RV_FORMAT, "a message of %llu bytes where %llu were expected",
                        (unsigned long long)size, (unsigned long long)want);
    status = grow_room(t->server, floats * sizeof(float), err);
    if (status == RV_OK)
        status = rv__link_receive_bytes(t->link, number, sizeof *number, err);
    return status == RV_OK
               ? rv__link_receive_bytes(t->link, t->server->room, floats * sizeof(float), err)
               : status;
}

static rv_status on_text(rv__talk *t, uint64_t size, rv_error *err)
{
    rv__rpc_server *s = t->server;
    uint64_t block;
    rv_status status =
        receive_floats(t, size, rv__part_text_floats(s->transformer), &block, err);

    if (status != RV_OK)
        return status;
    if (block >= RV__MAX_BLOCKS || !rv__part_text(s->transformer, (int64_t)block, s->room))
        return rv__fail(err, RV_FORMAT, "a text for a block that is not served");
    s->has_text[block] = 1;
    return RV_OK;
}

/* Says that work goes on; true when nobody waits for it any more. */
static bool is_unwanted(void *user)
{
    rv__talk *t = user;
    int64_t now = rv__clock_ms();
    uint64_t size;
    char kind;

    if (t->is_broken || atomic_load(&t->server->stop))
        return true;
    if (now - t->beat_ms < BEAT_MS)
        return false;
    t->beat_ms = now;
    /* Nothing may come now; a closed connection shows here. */
    t->is_broken = rv__link_poll_head(t->link, &kind, &size) != 0 ||
                   rv__link_send(t->link, 'K', NULL, 0, NULL) != RV_OK;
    return t->is_broken;
}

static rv_status check_texts(const rv__rpc_server *s, uint64_t span, rv_error *err)
{
    if (span >= (uint64_t)s->shape.spans)
        return rv__fail(err, RV_FORMAT, "a run of blocks that were not prepared");
    for (int64_t i = s->shape.first[span]; i < s->shape.end[span]; i++)
        if (!s->has_text[i])
            return rv__fail(err, RV_FORMAT, "the text of block %lld is missing", (long long)i);
    return RV_OK;
}

static rv_status on_run(rv__talk *t, uint64_t size, rv_error *err)
{
    rv__rpc_server *s = t->server;
    size_t emb = rv__part_emb_floats(s->transformer), n = rv__part_stream_floats(s->transformer);
    uint64_t span;
    rv_status status = receive_floats(t, size, emb + n, &span, err);

    if (status == RV_OK)
        status = check_texts(s, span, err);
    t->beat_ms = rv__clock_ms();
    if (status == RV_OK)
        status = rv__part_run(s->transformer, (int)span, s->room, s->room + emb, s->room,
                              is_unwanted, t, err);
    if (status == RV_CANCELLED && atomic_load(&s->stop))
        return rv__fail(err, RV_CONNECTION, "is being stopped");
    return status == RV_OK ? rv__link_send(t->link, 'D', s->room, n * sizeof *s->room, err)
                           : status;
}

static void on_rest(rv__talk *t)
{
    rv__rpc_say(t->server, "the picture is done; resident %.1f MB", resident() / 1e6);
    rv__rpc_rest(t);
}

/* ---- a talk ---- */

static rv_status on_message(rv__talk *t, char kind, uint64_t size, rv_error *err)
{
    rv_status status = RV_OK;

    if (kind == 'H')
        return on_hello(t, size, err);
    if (kind == 'N' || kind == 'L' || kind == 'P')
        status = rv__rpc_take(t, err);
    else if (!rv__rpc_is_owner(t))
        status = rv__fail(err, RV_FORMAT, "nothing was prepared");
    if (status != RV_OK)
        return status;
    switch (kind) {
    case 'L':
        return on_lora(t, size, err);
    case 'P':
        return on_prepare(t, size, err);
    case 'T':
        return on_text(t, size, err);
    case 'R':
        return on_run(t, size, err);
    case 'N':
    case 'Z':
        if (size > 0)
            break;
        if (kind == 'N')
            rv__rpc_drop_loras(t->server);
        else
            on_rest(t);
        return RV_OK;
    }
    return rv__fail(err, RV_FORMAT, "a message of an unknown kind");
}

static bool is_stopping(void *user)
{
    return atomic_load(&((rv__talk *)user)->server->stop);
}

void rv__rpc_converse(rv__talk *t)
{
    rv_status status;
    rv_error err;
    uint64_t size;
    char kind;

    do {
        rv__error_clear(&err);
        rv__link_patience(t->link, 0); /* between two messages: as long as it likes */
        status = rv__link_receive_head(t->link, &kind, &size, is_stopping, t, &err);
        rv__link_patience(t->link, t->server->options.patience_ms);
        if (status == RV_OK)
            status = on_message(t, kind, size, &err);
        if (status != RV_OK && status != RV_CONNECTION && status != RV_CANCELLED)
            rv__rpc_say(t->server, "a connection ended: %s", err.message);
        if (status != RV_OK && status != RV_CANCELLED)
            answer_error(t, &err);
    } while (status == RV_OK);
    rv__rpc_give_back(t);
}

void rv__rpc_server_talk(rv__rpc_server *s, rv__link *link)
{
    rv__talk t = {.server = s, .link = link, .fd = -1};

    rv__rpc_converse(&t);
    rv__link_close(link);
}

