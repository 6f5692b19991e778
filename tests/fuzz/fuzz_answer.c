/* Answers of a server that may say anything, in pieces of any size: the client of the daemon
 * without its network. The first byte chooses between items and pixels and the HTTP status, the
 * second how the rest is cut. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "remote/daemon.c"

struct rv__io {
    const rv__io_events *events;
    void *user;
};

static rv__io the_io;

rv_status rv__io_open(rv__io **out, rv_error *err)
{
    *out = &the_io;
    return RV_OK;
}

rv_status rv__io_start(rv__io *io, const rv__io_request *request, const rv__io_events *e,
                       void *user, rv_error *err)
{
    rv__free(request->body);
    io->events = e;
    io->user = user;
    return RV_OK;
}

void rv__io_wake(rv__io *io)
{
}

int rv__io_load(rv__io *io)
{
    return 0;
}

void rv__io_close(rv__io *io)
{
}

/* ---- a port that looks at everything ---- */

typedef struct watcher {
    rv__port port;
    int ends;
    size_t items;
} watcher;

static void started(rv__port *port)
{
}

static void step(rv__port *port, size_t index, int now, int steps, rv_image *preview)
{
}

static void item(rv__port *port, size_t index, rv_image *image, char *text)
{
    watcher *w = (watcher *)port;
    if (!image || index > 1 || w->ends || (text != NULL) != port->delivery->items)
        abort();
    rv_image_info info = rv_image_facts(image);
    if (info.width > 0 && info.width <= 256 && info.height <= 256)
        rv_image_pixels(image);
    if (text)
        rv__json_free(rv__json_parse(text, strlen(text), NULL));
    w->items++;
    rv_image_unref(image);
    rv__free(text);
}

static void warn(rv__port *port, const char *code, const char *parameter, const char *message)
{
    if (!message)
        abort();
}

static bool cancelled(const rv__port *port)
{
    return false;
}

static void end(rv__port *port, rv_status status, const rv_error *err)
{
    watcher *w = (watcher *)port;
    if (w->ends++ || (status == RV_OK && w->items < 2) || (status != RV_OK && !*err->message))
        abort();
}

static rv_task *the_task(void)
{
    static rv_batch *batch;
    if (!batch) {
        rv__models *models = rv__models_new();
        rv__check_settings s = {.models = models};
        const char *body =
            "[{\"taskType\":\"imageInference\",\"model\":\"runware:97@3\",\"positivePrompt\":\"a\","
            "\"taskUUID\":\"00000000-0000-4000-8000-000000000001\",\"numberResults\":2}]";
        if (rv__models_add(models, SOURCE_ROOT "/config/models", NULL) != RV_OK)
            abort();
        batch = rv__batch_parse(&s, body, strlen(body));
        rv__models_free(models);
    }
    return rv_batch_task(batch, 0);
}

static void feed(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 200, 200, 400, 429, 503};
    int status = statuses[(data[0] >> 1) % 6];
    size_t piece = data[1] ? data[1] : size;
    bool go_on = true;
    for (size_t at = 2; at < size && go_on; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        char *copy = malloc(n); /* exactly as large */
        memcpy(copy, data + at, n);
        go_on = the_io.events->data(the_io.user, status, copy, n);
        free(copy);
    }
    rv_error err;
    rv__error_clear(&err);
    rv_status s = go_on ? RV_OK : rv__fail(&err, RV_PROVIDER, "the answer cannot be used");
    the_io.events->done(the_io.user, s, status, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    rv__executor_options o = {.url = "unix:/nowhere"};
    const rv__executor *executor;
    void *self;
    rv_error err;
    if (rv__daemon_open(&o, &executor, &self, &err) != RV_OK)
        abort();
    rv__delivery delivery = {.items = data[0] & 1};
    watcher w = {.port = {.delivery = &delivery,
                          .started = started,
                          .step = step,
                          .item = item,
                          .cancelled = cancelled,
                          .end = end,
                          .warn = warn}};
    if (executor->start(self, the_task(), &w.port, &err) != RV_OK)
        abort();
    feed(data, size);
    if (w.ends != 1)
        abort();
    executor->close(self);
    return 0;
}
