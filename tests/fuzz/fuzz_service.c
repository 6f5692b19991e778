/* Answers of image services that may say anything.  The first byte chooses the service; then answers follow, one for each
 * request that is sent: a byte for the HTTP status, two for the length, the bytes.  The task ends exactly once, with two
 * pictures or with words, and never after more requests than there is patience for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "remote/io.h"
#include "remote/service.h"
#include "request/task.h"

struct rv__io {
    const rv__io_events *events[64];
    void *users[64];
    size_t count;
};

static rv__io the_io;

rv_status rv__io_open(rv__io **out, rv_error *err)
{
    *out = &the_io;
    return RV_OK;
}

rv_status rv__io_start(rv__io *io, const rv__io_request *request, const rv__io_events *e, void *user, rv_error *err)
{
    if (io->count == sizeof io->events / sizeof *io->events) {
        rv__free(request->body);
        return rv__fail(err, RV_BUSY, "enough");
    }
    for (size_t i = 0; i < request->body_len; i++) /* every byte can be read */
        err->attempts += request->body[i];
    rv__free(request->body);
    io->events[io->count] = e;
    io->users[io->count++] = user;
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
    size_t pictures;
} watcher;

static void started(rv__port *port)
{
}

static void step(rv__port *port, size_t index, int now, int steps, rv_image *preview)
{
}

static void image(rv__port *port, size_t index, rv_image *image)
{
    watcher *w = (watcher *)port;
    if (!image || index > 1 || w->ends)
        abort();
    w->pictures++;
    rv_image_unref(image);
}

static void item(rv__port *port, size_t index, rv_image *image, char *text)
{
    abort();
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

static bool input(const rv__port *port, const char *parameter, const uint8_t **bytes, size_t *len)
{
    return false;
}

static void end(rv__port *port, rv_status status, const rv_error *err)
{
    watcher *w = (watcher *)port;
    if (w->ends++ || (status == RV_OK && w->pictures < 2) || (status != RV_OK && !*err->message))
        abort();
}

static rv_task *the_task(void)
{
    static rv_batch *batch;
    if (!batch) {
        rv__models *models = rv__models_new();
        rv__check_settings s = {.models = models};
        const char *body = "[{\"taskType\":\"imageInference\",\"model\":\"runware:97@3\",\"positivePrompt\":\"a\","
                           "\"taskUUID\":\"00000000-0000-4000-8000-000000000001\",\"numberResults\":2}]";
        if (rv__models_add(models, SOURCE_ROOT "/config/models", NULL) != RV_OK)
            abort();
        batch = rv__batch_parse(&s, body, strlen(body));
        rv__models_free(models);
    }
    return rv_batch_task(batch, 0);
}

/* One answer to the oldest request. */
static void answer(int status, const uint8_t *data, size_t size)
{
    const rv__io_events *events = the_io.events[0];
    void *user = the_io.users[0];
    the_io.count--;
    memmove(the_io.events, the_io.events + 1, the_io.count * sizeof *the_io.events);
    memmove(the_io.users, the_io.users + 1, the_io.count * sizeof *the_io.users);
    char *copy = malloc(size ? size : 1); /* exactly as large */
    if (!copy)
        abort();
    if (size)
        memcpy(copy, data, size);
    bool go_on = !status || !size || events->data(user, status, copy, size);
    free(copy);
    rv_error err;
    rv__error_clear(&err);
    rv_status s = !status ? rv__fail(&err, RV_CONNECTION, "nobody is there")
                  : go_on ? RV_OK
                          : rv__fail(&err, RV_PROVIDER, "the answer cannot be used");
    events->done(user, s, status, &err);
}

static void feed(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 200, 201, 202, 400, 401, 402, 429, 500, 503, 0};
    for (int i = 0; the_io.count && i < 200; i++) {
        int status = size ? statuses[data[0] % 11] : 0;
        size_t len = size > 2 ? (size_t)(data[1] << 8 | data[2]) : 0, head = size > 3 ? 3 : size;
        if (len > size - head)
            len = size - head;
        answer(status, data + head, len);
        data += head + len;
        size -= head + len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static rv__guard *guard;
    rv__guard_options open = {.allow = "192.0.2.0/24", .ports = "*"};
    if (!guard && rv__guard_new(&open, &guard, NULL) != RV_OK)
        abort();
    if (!size)
        return 0;
    size_t services = 0;
    while (rv__service_at(services))
        services++;
    char route_text[128];
    snprintf(route_text, sizeof route_text, "{\"name\":\"%s\",\"url\":\"http://192.0.2.1\",\"model\":\"m\"}",
             rv__service_at(data[0] % services)->name);
    rv__value *route = rv__json_parse(route_text, strlen(route_text), NULL);
    rv__executor_options o = {.pause_ms = 1};
    const rv__executor *executor;
    void *self;
    rv_error err;
    rv__error_clear(&err);
    the_io.count = 0;
    if (!route || rv__services_open(&o, guard, &executor, &self, &err) != RV_OK)
        abort();
    rv__delivery delivery = {0};
    watcher w = {.port = {.delivery = &delivery,
                          .route = route,
                          .started = started,
                          .step = step,
                          .image = image,
                          .item = item,
                          .cancelled = cancelled,
                          .end = end,
                          .warn = warn,
                          .input = input}};
    if (executor->start(self, the_task(), &w.port, &err) == RV_OK) {
        feed(data + 1, size - 1);
        if (w.ends != 1)
            abort();
    } else if (!*err.message) {
        abort();
    }
    executor->close(self);
    rv__json_free(route);
    return 0;
}
