/* The other side of rpc_machines.h: serves some of a transformer's blocks, one machine at a time.
 * Must not believe a peer anything: sizes are checked before memory is taken, frames must be as long
 * as the prepared shape says, LoRAs go through the reader of files. */
#ifndef RV_RPC_SERVER_H
#define RV_RPC_SERVER_H

#include "rpc_link.h"
#include "weights.h"

typedef struct rv__rpc_server rv__rpc_server;

typedef struct rv__rpc_options {
    int threads;        /* 0: cores - 1 */
    double memory;      /* bytes that weights of its blocks and activations may take; 0: all there is */
    int patience_ms;    /* of links; 0: RV__RPC_PATIENCE_MS */
    rv__rpc_key key;
    void (*said)(void *user, const char *line); /* what happens, for a log; any thread; may be NULL */
    void *user;
} rv__rpc_options;

/* Weights must outlive it.  out (rv__rpc_server_close). */
rv_status rv__rpc_server_open(const rv__weights *w, const rv__rpc_options *o, rv__rpc_server **out,
                              rv_error *err);
void rv__rpc_server_close(rv__rpc_server *s);

/* Serves connections of a listening socket until rv__rpc_server_stop. */
void rv__rpc_server_run(rv__rpc_server *s, int listening);
void rv__rpc_server_stop(rv__rpc_server *s); /* any thread, also a signal's */

/* Serves one link to its end (taken).  For rv__rpc_server_run, and tests. */
void rv__rpc_server_talk(rv__rpc_server *s, rv__link *link);

#endif
