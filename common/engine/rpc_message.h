/* What machines that share a transformer say to each other, beside plain numbers.  Every text comes
 * from outside: it is read here, whole, before anything is done with it.
 *
 *   asks                                   answers
 *   H  hello (JSON)                        H  who I am (JSON)
 *   P  prepare: sizes and blocks (JSON)    O  ready: memory (JSON)
 *   N  no LoRA from now on                 –
 *   L  f64 weight, file of a LoRA          –
 *   T  u64 block, its projected text       –
 *   R  u64 span, embedding, streams        K  (every second) still at it; D  streams
 *   Z  the picture is done                 –
 *   anything                               E  error (JSON), and the connection ends
 *
 * Numbers of pictures are f32; all are little-endian. */
#ifndef RV_RPC_MESSAGE_H
#define RV_RPC_MESSAGE_H

#include "base/memory.h"
#include "base/status.h"
#include "engine/transformer_part.h"

enum { RV__RPC_TEXT_MOST = 1 << 16 }; /* bytes of a JSON message */

typedef struct rv__rpc_hello {
    int64_t protocol, blocks;
    char version[32];
    char weights[65]; /* rv__transformer_fingerprint */
} rv__rpc_hello;

typedef struct rv__rpc_ready {
    double weights, activations, resident; /* bytes: of the blocks, for the graphs, of the process */
} rv__rpc_ready;

void rv__rpc_write_hello(rv__buf *b, const rv__rpc_hello *h);
void rv__rpc_write_shape(rv__buf *b, const rv__part_shape *s);
void rv__rpc_write_ready(rv__buf *b, const rv__rpc_ready *r);
void rv__rpc_write_error(rv__buf *b, const rv_error *e);

/* RV_FORMAT names the member that is wrong. */
rv_status rv__rpc_read_hello(const char *text, size_t len, rv__rpc_hello *out, rv_error *err);
rv_status rv__rpc_read_shape(const char *text, size_t len, rv__part_shape *out, rv_error *err);
rv_status rv__rpc_read_ready(const char *text, size_t len, rv__rpc_ready *out, rv_error *err);

/* The status an error message tells, its sentence in out (size bytes). */
rv_status rv__rpc_read_error(const char *text, size_t len, char *out, size_t size);

#endif
