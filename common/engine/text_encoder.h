/* What the three kinds of text encoders share: reading their config.json with every value checked
 * before a graph is built from it, checking ids, and keeping a graph from one run to the next. */
#ifndef RV_TEXT_ENCODER_H
#define RV_TEXT_ENCODER_H

#include "graph.h"
#include "tokenizer.h"

#define RV__TEXT_LENGTH_MAX 512 /* tokens an encoder may get */

/* One run of an encoder. */
typedef struct rv__text_run {
    const rv__token_ids *tokens;
    rv__tap_fn *taps; /* may be NULL; the names are each encoder's own */
    void *taps_user;
    rv__cancel_fn *cancelled; /* may be NULL */
    void *cancelled_user;
} rv__text_run;

/* A config.json being read: the first value that cannot be is kept in *err. */
typedef struct rv__config {
    rv__value *json;
    const char *part;
    rv_error *err;
    rv_status status;
} rv__config;

/* Opens PART/config.json and checks "model_type" (a missing one passes).  rv__config_close also
 * after a failure. */
rv_status rv__config_open(rv__config *c, const rv__weights *w, const char *part,
                          const char *model_type, rv_error *err);
void rv__config_close(rv__config *c);

/* A number within [least, most].  A missing one is `fallback`, or an error when fallback is below
 * `least`. */
int64_t rv__config_int(rv__config *c, const char *key, int64_t least, int64_t most,
                       int64_t fallback);
double rv__config_number(rv__config *c, const rv__value *object, const char *key, double least,
                         double most, double fallback);

/* The activation named by `key`. */
rv__activation rv__config_activation(rv__config *c, const char *key, const char *fallback);

/* Records a failure. */
void rv__config_fail(rv__config *c, const char *key, const char *why);

/* Says whether ids and mask can be given to a network with so many embeddings. */
rv_status rv__text_check(const rv__token_ids *tokens, int64_t vocabulary, const char *part,
                         rv_error *err);

/* A graph and the length it was built for. */
typedef struct rv__text_graph {
    rv__graph *graph;
    size_t length;
    bool tapped;
    struct ggml_tensor *ids, *mask;
} rv__text_graph;

/* Says whether the graph serves this run as it is; otherwise it was freed and a new one has to be
 * built. */
bool rv__text_graph_fits(rv__text_graph *g, size_t length, const rv__text_run *run);

/* Begins a new graph with its inputs ids {length} and mask {length, length, heads}. */
rv_status rv__text_graph_begin(rv__text_graph *g, rv__device *d, size_t length, int64_t layers,
                               int64_t mask_heads, const rv__text_run *run, rv_error *err);
void rv__text_graph_free(rv__text_graph *g);

/* Fills the mask of causal attention that sees no padding (padding NULL: there is none). */
rv_status rv__text_graph_causal(rv__text_graph *g, const int32_t *padding, rv_error *err);

#endif
