/* Frames between machines that share a transformer: twelve bytes that say kind and length, then the
 * bytes.  With a key everything goes through TLS 1.3 whose only credential is that key; without one
 * only loopback addresses are spoken to.  Nothing here blocks for ever: a side that is silent for
 * longer than the link's patience is gone.  Must not trust a length: the reader says what it takes.
 *
 * Numbers are little-endian, as in weight files.  A link belongs to one thread at a time, but
 * rv__link_break may be called from any. */
#ifndef RV_RPC_LINK_H
#define RV_RPC_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { RV__RPC_PROTOCOL = 1, RV__RPC_KEY = 32, RV__RPC_PATIENCE_MS = 30000 };

typedef struct rv__link rv__link;

/* What two machines know and nobody else. */
typedef struct rv__rpc_key {
    bool is_set;
    unsigned char bytes[RV__RPC_KEY];
} rv__rpc_key;

/* The key in a file: at least 16 bytes of text, that others than owner and group cannot read.
 * RV_NOT_FOUND, RV_IO, RV_FORMAT. */
rv_status rv__rpc_key_read(const char *path, rv__rpc_key *out, rv_error *err);

/* "host:port" or "[::1]:port".  Without a key the address must be one of this machine.  Errors name the
 * address: RV_CONNECTION, RV_TIMEOUT, RV_AUTH (the keys differ), RV_FORMAT, RV_MEMORY. */
rv_status rv__link_connect(const char *address, const rv__rpc_key *key, int patience_ms,
                           rv__link **out, rv_error *err);

/* Listens; port 0: any.  *port says which it became. */
rv_status rv__link_listen(const char *address, const rv__rpc_key *key, int *fd, int *port,
                          rv_error *err);

/* The other end of a connection that was accepted (taken, also on failure). */
rv_status rv__link_accept(int fd, const rv__rpc_key *key, int patience_ms, rv__link **out,
                          rv_error *err);

/* A link whose other side says these bytes and then hangs up; what is sent is dropped.  Tests. */
rv__link *rv__link_recorded(const uint8_t *bytes, size_t size);

void rv__link_close(rv__link *l);
void rv__link_break(rv__link *l); /* wakes whoever waits, with RV_CONNECTION */
void rv__link_patience(rv__link *l, int patience_ms);

/* Asked several times a second while something waits; NULL: never. */
typedef bool rv__link_stop(void *user);

/* Head of a frame with so many bytes, then the bytes in pieces.  RV_CONNECTION, RV_TIMEOUT. */
rv_status rv__link_send_head(rv__link *l, char kind, uint64_t size, rv_error *err);
rv_status rv__link_send_bytes(rv__link *l, const void *data, size_t size, rv_error *err);
rv_status rv__link_send(rv__link *l, char kind, const void *data, size_t size, rv_error *err);

/* Waits for the next frame's head; RV_CANCELLED when stop says so.  RV_FORMAT: not one. */
rv_status rv__link_receive_head(rv__link *l, char *kind, uint64_t *size, rv__link_stop *stop,
                                void *user, rv_error *err);
rv_status rv__link_receive_bytes(rv__link *l, void *data, size_t size, rv_error *err);

/* A head that is there already; 0: none yet, 1: taken, -1: the other side is gone. */
int rv__link_poll_head(rv__link *l, char *kind, uint64_t *size);

#endif
