/* The settings of a context: names, checks and defaults, written once in a table (setup.c). */
#ifndef RV_SETUP_H
#define RV_SETUP_H

#include <stdint.h>

#include "base/status.h"

typedef struct rv__setup {
    char *daemon;      /* NULL: run tasks here        */
    char *daemon_key;  /* NULL: it asks for none      */
    char *results_dir; /* NULL: URLs are unsupported  */
    char *results_url; /* NULL: file://               */
    char *serve;       /* NULL: every model           */
    char *store;       /* NULL: nothing is kept       */
    char *ca_file;     /* NULL: the system's      */
    char *device;      /* NULL: as the environment says */
    int64_t service_connect_ms, service_silence, service_pause_ms;
    int64_t executor;  /* RV__AUTO or RV__STUB        */
    int64_t stub_ms, threads, queue, results_ttl, max_steps, max_tasks, preview_steps;
    int64_t backlog, attempts;
    int64_t cache, cache_size; /* seconds (0: none), bytes */
    int64_t strict_uuid, strict;
    char *fetch_allow, *fetch_deny, *fetch_ports; /* see remote/guard.h            */
    int64_t fetch;                                /* rv__guard_mode                */
    int64_t fetch_https, fetch_timeout, fetch_size;
    char *webhook_secret; /* path of the file, NULL: none */
    int64_t webhook_tries, upload_tries;
} rv__setup;

enum { RV__AUTO, RV__STUB };

void rv__setup_init(rv__setup *s);
void rv__setup_free(rv__setup *s);

/* Changes one setting (all but `models` and `model`, which the context reads itself). */
rv_status rv__setup_set(rv__setup *s, const char *name, const char *value, rv_error *err);

#endif
