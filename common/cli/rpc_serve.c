/* `reverie rpc-server MODEL`: holds some blocks of a model's transformer for another machine whose
 * card names this one (engine/machines.md).  Must never listen to the network without a key. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "commands.h"
#include "engine/rpc_server.h"
#include "job/context.h"

static const char usage_text[] =
    "usage: reverie rpc-server MODEL [options]\n"
    "Holds some blocks of a model for another machine, whose card has \"rpc\": [\"host:port\", …].\n"
    "MODEL: model id, alias, card, weights folder or file; the same weights as on the other side.\n"
    "  --listen HOST:PORT  default 127.0.0.1:8190; port 0: any free one, which is printed\n"
    "  --key FILE          16 bytes of text or more, the same on both sides; needed for other hosts\n"
    "                      than this one, and everything is encrypted with it\n"
    "  --memory GB         most that weights and activations may take (default: all)\n"
    "  --models DIR        folder with model cards\n"
    "  --threads N         threads of the engine (default: cores - 1)\n";

typedef struct wishes {
    rv *r;
    const char *model, *listen;
    rv__rpc_options options;
} wishes;

static rv__rpc_server *serving;

static void on_signal(int sig)
{
    (void)sig;
    if (serving)
        rv__rpc_server_stop(serving);
}

static void print_line(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "reverie rpc-server: %s\n", line);
}

static bool read_number(const char *text, double least, double most, double *out)
{
    char *end;

    *out = strtod(text, &end);
    return end != text && !*end && *out >= least && *out <= most;
}

/* -1, or the exit status. */
static int read_option(wishes *w, int option)
{
    rv_error err = {0};
    double n;

    switch (option) {
    case 'l':
        w->listen = optarg;
        return -1;
    case 'k':
        if (rv__rpc_key_read(optarg, &w->options.key, &err) == RV_OK)
            return -1;
        return rv__cli_fail("--key", err.message) + 1;
    case 'm':
        if (!read_number(optarg, 0.001, 1e6, &n))
            return rv__cli_fail("--memory", "a number of GB") + 1;
        w->options.memory = n * 1e9;
        return -1;
    case 't':
        if (!read_number(optarg, 1, 256, &n))
            return rv__cli_fail("--threads", "from 1 to 256") + 1;
        w->options.threads = (int)n;
        return -1;
    case 'c':
        if (rv_set(w->r, "models", optarg, &err) == RV_OK)
            return -1;
        return rv__cli_fail(optarg, err.message) + 1;
    case 'h':
        fputs(usage_text, stdout);
        return 0;
    }
    fputs(usage_text, stderr);
    return 2;
}

static int read_options(wishes *w, int argc, char **argv)
{
    static const struct option options[] = {
        {"listen", required_argument, NULL, 'l'},  {"key", required_argument, NULL, 'k'},
        {"memory", required_argument, NULL, 'm'},  {"threads", required_argument, NULL, 't'},
        {"models", required_argument, NULL, 'c'},  {"help", no_argument, NULL, 'h'},
        {0}};
    int option, status;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        status = read_option(w, option);
        if (status >= 0)
            return status;
    }
    if (optind != argc - 1) {
        fputs(usage_text, stderr);
        return 2;
    }
    w->model = argv[optind];
    return -1;
}

/* The weights of a model by name or path (out; rv__weights_close). */
static rv_status open_weights(const wishes *w, rv__weights **out, rv_error *err)
{
    const rv__model *model;
    char *path;
    rv_status status = RV_OK;

    if (access(w->model, F_OK) == 0)
        status = rv_set(w->r, "models", w->model, err);
    if (status == RV_OK)
        status = rv__context_models(w->r, err);
    if (status != RV_OK)
        return status;
    model = rv__models_find(w->r->models, w->model);
    if (!model && access(w->model, F_OK) == 0)
        model = rv__models_at(w->r->models, rv__models_count(w->r->models) - 1);
    path = model ? rv__model_weights(model) : NULL;
    if (!path)
        return rv__fail(err, RV_NOT_FOUND, "%s", model ? "its card names no weights"
                                                       : "no such model");
    status = rv__weights_open(path, out, err);
    rv__free(path);
    return status;
}

static int serve(const wishes *w, const rv__weights *weights, rv_error *err)
{
    struct sigaction action = {.sa_handler = on_signal};
    int listening, port;
    size_t len = (size_t)(strrchr(w->listen, ':') ? strrchr(w->listen, ':') - w->listen : 0);

    if (rv__link_listen(w->listen, &w->options.key, &listening, &port, err) != RV_OK)
        return rv__cli_fail(w->listen, err->message);
    if (rv__rpc_server_open(weights, &w->options, &serving, err) != RV_OK) {
        close(listening);
        return rv__cli_fail(w->model, err->message);
    }
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    printf("listening on %.*s:%d%s\n", (int)len, w->listen, port,
           w->options.key.is_set ? "" : " (this machine only, no key)");
    fflush(stdout);
    rv__rpc_server_run(serving, listening);
    close(listening);
    rv__rpc_server_close(serving);
    return 0;
}

int rv__command_rpc_server(int argc, char **argv)
{
    wishes w = {.r = rv__cli_open(), .listen = "127.0.0.1:8190", .options = {.said = print_line}};
    rv__weights *weights = NULL;
    rv_error err = {0};
    int status;

    if (!w.r)
        return 1;
    status = read_options(&w, argc, argv);
    if (status < 0)
        status = open_weights(&w, &weights, &err) == RV_OK ? serve(&w, weights, &err)
                                                           : rv__cli_fail(w.model, err.message);
    rv__weights_close(weights);
    rv_close(w.r);
    return status;
}
