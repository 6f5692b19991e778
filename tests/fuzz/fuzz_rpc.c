/* Anything instead of what another machine should say.  An even first byte: as the messages that a
 * server of blocks gets; an odd one: as the answers that its client gets. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "engine/rpc_machines.h"
#include "engine/rpc_server.h"

enum { WIDTH = 64, TOKENS = 4 + 8 + 8, STREAMS = WIDTH * TOKENS };

static rv__rpc_server *server;
static rv__value *card;
static float numbers[WIDTH + STREAMS];

static void open_once(void)
{
    static const char text[] = "{\"rpc\":[\"127.0.0.1:9\"]}";
    const rv__rpc_options options = {.threads = 1, .memory = 64e6};
    rv__weights *weights;
    rv_error err;

    if (rv__weights_open(SOURCE_ROOT "/tests/golden/tiny-hidream", &weights, &err) != RV_OK ||
        rv__rpc_server_open(weights, &options, &server, &err) != RV_OK)
        abort();
    card = rv__json_parse(text, sizeof text - 1, NULL);
    if (!card)
        abort();
}

static void serve(const uint8_t *data, size_t size)
{
    rv__link *link = rv__link_recorded(data, size);

    if (link)
        rv__rpc_server_talk(server, link);
}

static void ask(const uint8_t *data, size_t size)
{
    rv__part_shape shape = {2, 2, 8, 8, 1, .spans = 1, .first = {2}, .end = {4}};
    rv__link *link = rv__link_recorded(data, size);
    rv__machines *m = NULL;
    rv_error err;

    if (link && rv__machines_open(card, ".", &m, &err) == RV_OK) {
        rv__machines_attach(m, 0, link);
        link = NULL;
        if (rv__machines_prepare(m, 0, &shape, 4, "weights", &err) == RV_OK &&
            rv__machines_text(m, 0, 2, numbers, WIDTH, &err) == RV_OK &&
            rv__machines_run(m, 0, 0, numbers, WIDTH + STREAMS, numbers, STREAMS, NULL, NULL,
                             &err) == RV_OK)
            rv__machines_rest(m);
    }
    rv__link_close(link);
    rv__machines_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!server)
        open_once();
    if (size > 1 && data[0] % 2 == 0)
        serve(data + 1, size - 1);
    else if (size > 1)
        ask(data + 1, size - 1);
    return 0;
}
