/* Other machines that hold the last blocks of a transformer: streams go to them and come back, one
 * machine after the other.  Each reads the weights from a file of its own.  Whatever happens to one
 * of them is an error that names it and can be retried; the next picture connects anew.
 * Everything belongs to the device's thread. */
#ifndef RV_RPC_MACHINES_H
#define RV_RPC_MACHINES_H

#include "base/json.h"
#include "engine/graph.h"
#include "engine/rpc_link.h"
#include "engine/transformer_part.h"

enum { RV__MACHINES = 16 };

typedef struct rv__machines rv__machines;

/* Reads "rpc", "rpc_key", "rpc_blocks" and "rpc_timeout" of a card's "engine" (machines.md); paths are
 * relative to folder.  Connects to nobody.  *out (rv__machines_close) is NULL when there is no "rpc".
 * RV_FORMAT names the member; RV_NOT_FOUND, RV_IO: the key. */
rv_status rv__machines_open(const rv__value *engine, const char *folder, rv__machines **out,
                            rv_error *err);
void rv__machines_close(rv__machines *m);

size_t rv__machines_count(const rv__machines *m);

/* First block of each machine, then the count of blocks: as the card says, else equal shares of
 * their bytes, the first of them ours. */
rv_status rv__machines_split(const rv__machines *m, const double *bytes, int64_t blocks,
                             int64_t first[RV__MACHINES + 1], rv_error *err);

/* LoRAs of the pictures from now on: files that every machine gets before its next blocks. */
typedef struct rv__machines_lora {
    const char *path;
    double weight;
} rv__machines_lora;
rv_status rv__machines_loras(rv__machines *m, const rv__machines_lora *list, size_t count,
                             rv_error *err);

/* Connects if need be, checks that the weights are ours, and makes its blocks ready. */
rv_status rv__machines_prepare(rv__machines *m, size_t i, const rv__part_shape *shape,
                               int64_t blocks, const char *weights, rv_error *err);
rv_status rv__machines_text(rv__machines *m, size_t i, int64_t block, const float *text, size_t n,
                            rv_error *err);
/* in and out may be the same. */
rv_status rv__machines_run(rv__machines *m, size_t i, int span, const float *in, size_t n_in,
                           float *out, size_t n_out, rv__cancel_fn *cancelled, void *user,
                           rv_error *err);

/* The picture is done: machines may work for others. */
void rv__machines_rest(rv__machines *m);

/* Takes a link (also on failure) as if it had been connected.  Tests. */
void rv__machines_attach(rv__machines *m, size_t i, rv__link *link);

#endif
