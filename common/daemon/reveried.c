/* reveried: the process that owns the model, so that any number of servers and programs can share
 * it.  It speaks the Runware protocol over a Unix socket; whoever may open the socket is trusted
 * (mode 0660). */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/process.h"
#include "daemon/listen.h"
#include "daemon/server.h"
#include "job/context.h"
#include "job/durable.h"
#include "job/tree.h"

static const char usage_text[] =
    "usage: reveried --socket PATH --state DIR [options]\n"
    "  --socket PATH      Unix socket to listen on (mode 0660); not needed with socket activation\n"
    "  --state DIR        where stored pictures (DIR/results) and tasks (DIR/queue.db) live\n"
    "  --models DIR       folder with model cards; may be given several times\n"
    "  --model PATH       model card, weights folder or GGUF file; may be given several times\n"
    "  --results-url URL  prefix of picture URLs, unless a request brings its own\n"
    "  --results-ttl N    seconds a stored picture lives unless the task says otherwise (default "
    "604800)\n"
    "  --executor NAME    auto or stub (stub paints pictures without a model)\n"
    "  --stub-ms N        how long the stub takes per step, milliseconds\n"
    "  --threads N        threads of the engine (default: cores - 1)\n"
    "  --device NAME      what makes its large products: Vulkan, CUDA0, cpu (default: REVERIE_DEVICE, or\n"
    "                     the processor)\n"
    "  --queue N          most tasks that wait or run at once, beside stored ones (default 64)\n"
    "  --queue PLACE      where stored tasks live instead of DIR/queue.db: the path of an SQLite file,\n"
    "                     or redis://[:PASSWORD@]HOST[:PORT][/DATABASE][?lease=MS] (Valkey), which\n"
    "                     several of these processes may share\n"
    "  --backlog N        most stored tasks that wait (default 10000)\n"
    "  --attempts N       how often a stored task is begun before it is given up (default 10)\n"
    "  --cache SECONDS    how long pictures of tasks with a seed are kept in memory for tasks that\n"
    "                     ask for the very same again, at no cost; 0: off (default 0)\n"
    "  --cache-size N     bytes that such pictures may take (default 268435456)\n"
    "  --max-steps N      largest accepted step count (default 1000)\n"
    "  --preview-steps N  every so many steps an event brings a preview to streams that ask for "
    "them; 0: never (default 0)\n"
    "  --fetch WORD       where URLs of requests may lead: public, list (only --fetch-allow) or "
    "off "
    "(default public)\n"
    "  --fetch-allow LIST addresses (10.1.0.0/16) and hosts (*.example.org) they may lead to, "
    "public "
    "or not\n"
    "  --fetch-deny LIST  addresses and hosts they may never lead to; wins over --fetch-allow\n"
    "  --fetch-ports LIST ports they may name (default \"80 443 8080 8443\"; *: any)\n"
    "  --fetch-https WORD on: only https (default off)\n"
    "  --fetch-timeout N  seconds such a transfer may take (default 15)\n"
    "  --fetch-size N     largest file that is fetched, bytes (default 20971520)\n"
    "  --webhook-secret F file with secrets, one per line, that sign webhooks (mode 0600)\n"
    "  --webhook-tries N  attempts before a webhook is given up (default 40: about four hours)\n"
    "  --upload-tries N   attempts before an upload is given up (default 5)\n"
    "  --ca-file FILE     certificates that services must show (default: the system's)\n"
    "  --service-connect-ms N, --service-silence SECONDS, --service-pause-ms N\n"
    "                     patience with the services that model cards name (see reverie.h)\n"
    "  --preload          load the model at the start, not with the first task\n"
    "  --grace SECONDS    how long running tasks may finish after SIGTERM (default 30)\n"
    "  --help, --version\n";

enum { OPT_SOCKET = 256, OPT_STATE, OPT_PRELOAD, OPT_GRACE, OPT_HELP, OPT_VERSION, OPT_SETTING };

/* Options that are settings of the library under the same name, with - for _; OPT_SETTING + index.
 */
static const char *const settings[] = {
    "models",          "model",        "results_url", "executor",           "stub_ms",
    "threads",         "device",       "queue",        "max_steps",   "results_ttl",        "preview_steps",
    "fetch",           "fetch_allow",  "fetch_deny",  "fetch_ports",        "fetch_https",
    "fetch_timeout",   "fetch_size",   "backlog",     "attempts",           "webhook_secret",
    "webhook_tries",   "upload_tries", "ca_file",     "service_connect_ms", "service_silence",
    "service_pause_ms", "cache",       "cache_size"};

enum { SETTINGS = sizeof settings / sizeof *settings, OWN = 6, LONGEST = 24 };

/* The table for getopt_long; lives as long as the program. */
static const struct option *options(void)
{
    static const struct option own[OWN] = {{"socket", required_argument, NULL, OPT_SOCKET},
                                           {"state", required_argument, NULL, OPT_STATE},
                                           {"preload", no_argument, NULL, OPT_PRELOAD},
                                           {"grace", required_argument, NULL, OPT_GRACE},
                                           {"help", no_argument, NULL, OPT_HELP},
                                           {"version", no_argument, NULL, OPT_VERSION}};
    static struct option all[OWN + SETTINGS + 1];
    static char names[SETTINGS][LONGEST];
    memcpy(all, own, sizeof own);
    for (int i = 0; i < SETTINGS; i++) {
        for (int c = 0; c < LONGEST - 1 && settings[i][c]; c++)
            names[i][c] = settings[i][c] == '_' ? '-' : settings[i][c];
        all[OWN + i] = (struct option){names[i], required_argument, NULL, OPT_SETTING + i};
    }
    return all;
}

typedef struct daemon_state {
    rv_log_level log_level;
    const char *socket, *state;
    bool preload, is_stub;
    int grace_s;
    rv *r;
    rv__store *store; /* for the sweep */
    time_t swept;
    rv__server server;
    rv__listener listener;
} daemon_state;

static void say(void *user, rv_log_level level, const char *message)
{
    static const char *const words[] = {"error", "warning", "info", "debug"};
    if (level <= ((daemon_state *)user)->log_level)
        fprintf(stderr, "reveried: %s: %s\n", words[level], message);
}

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "reveried: %s%s%s\n", what, *what && *why ? ": " : "", why);
    return 1;
}

/* --queue takes a number, or the place of the stored tasks. */
static const char *setting_of(int option, const char *value)
{
    const char *name = settings[option - OPT_SETTING];
    bool is_place = strcmp(name, "queue") == 0 && strpbrk(value, "/:.");
    return is_place ? "store" : name;
}

/* -1: go on; else the exit status. */
static int read_options(daemon_state *d, int argc, char **argv)
{
    for (int o = getopt_long(argc, argv, "", options(), NULL); o != -1;
         o = getopt_long(argc, argv, "", options(), NULL)) {
        rv_error err;
        if (o == OPT_SOCKET) {
            d->socket = optarg;
        } else if (o == OPT_STATE) {
            d->state = optarg;
        } else if (o == OPT_PRELOAD) {
            d->preload = true;
        } else if (o == OPT_GRACE) {
            d->grace_s = (int)strtol(optarg, NULL, 10);
        } else if (o == OPT_HELP || o == OPT_VERSION) {
            fputs(o == OPT_HELP ? usage_text : "reveried " RV_VERSION "\n", stdout);
            return 0;
        } else if (o < OPT_SETTING) {
            fputs(usage_text, stderr);
            return 2;
        } else if (rv_set(d->r, setting_of(o, optarg), optarg, &err) != RV_OK) {
            return fail(optarg, err.message) + 1;
        } else if (o == OPT_SETTING + 3) {
            d->is_stub = strcmp(optarg, "stub") == 0;
        }
    }
    if (optind < argc || !d->state) {
        fputs(usage_text, stderr);
        return 2;
    }
    return -1;
}

static int open_state(daemon_state *d)
{
    rv_error err;
    if (mkdir(d->state, 0755) != 0 && errno != EEXIST)
        return fail(d->state, strerror(errno));
    char *results = rv__format("%s/results", d->state);
    if (!results)
        return fail("", "out of memory");
    int rc = rv__store_open(results, &d->store, &err) != RV_OK ||
                     rv_set(d->r, "results_dir", results, &err) != RV_OK
                 ? fail(results, err.message)
                 : 0;
    rv__free(results);
    char *queue = d->r->setup.store ? NULL : rv__format("%s/queue.db", d->state);
    if (queue && !rc && rv_set(d->r, "store", queue, &err) != RV_OK)
        rc = fail(queue, err.message);
    else if (!d->r->setup.store && !rc)
        rc = fail("", "out of memory");
    rv__free(queue);
    return rc;
}

/* Each ten seconds: the watchdog and a look at the queue, and each minute the sweep of expired
 * pictures. */
static void tick(void *user)
{
    daemon_state *d = user;
    rv__listen_notify("WATCHDOG=1");
    rv__durable_sweep(d->r);
    time_t now = time(NULL);
    if (now - d->swept < 60 && now >= d->swept)
        return;
    d->swept = now;
    size_t removed = rv__store_sweep(d->store, now);
    if (removed)
        fprintf(stderr, "reveried: swept files=%zu\n", removed);
}

static int serve(daemon_state *d)
{
    rv_error err;
    if (rv__listen_open(d->socket, &d->listener, &err) != RV_OK)
        return fail("", err.message);
    if (!d->is_stub && nice(10) == -1 && errno == EPERM)
        fail("", "the priority cannot be lowered");
    d->server.r = d->r;
    d->server.epoll = -1;
    d->server.queue_limit = d->r->setup.queue;
    int rc = 0;
    if (!rv__server_open(&d->server, d->listener.fd))
        rc = fail("", "the server cannot be started");
    else if (d->preload && rv__context_preload(d->r, &err) != RV_OK)
        rc = fail("preload", err.message);
    else if (rv__durable_open(d->r, &err) != RV_OK)
        rc = fail("queue", err.message);
    if (!rc) {
        fprintf(stderr, "reveried: ready version=%s\n", RV_VERSION);
        rv__listen_notify("READY=1");
        rv__server_loop(&d->server, d->grace_s, tick, d);
    }
    rv__server_close(&d->server);
    return rc;
}

int main(int argc, char **argv)
{
    rv__process_calm(argv);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_DUMPABLE, 0); /* prompts and keys do not belong into core files */
    daemon_state d = {.log_level = RV_LOG_INFO, .grace_s = 30};
    d.listener = (rv__listener){.fd = -1, .lock_fd = -1};
    if (rv_open(&d.r) != RV_OK)
        return fail("", "out of memory");
    rv_set_log(d.r, say, &d);
    int rc = read_options(&d, argc, argv);
    if (rc < 0) {
        rv__tree_models(d.r);
        rc = open_state(&d);
        if (!rc)
            rc = serve(&d);
    }
    rv_close(d.r);
    rv__store_close(d.store);
    rv__listen_close(&d.listener);
    return rc;
}
