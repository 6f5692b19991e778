/* The transformer's tensors, collected and checked once; graphs of any size are built from them. */
#ifndef RV_TRANSFORMER_NET_H
#define RV_TRANSFORMER_NET_H

#include "engine/transformer.h"
#include "engine/transformer_op.h"

typedef struct rv__layer {
    struct ggml_tensor *weight, *bias;
} rv__layer;

/* Projections of one stream into attention and out of it. */
typedef struct rv__stream {
    rv__layer q, k, v, out;
    struct ggml_tensor *q_norm, *k_norm;
} rv__stream;

typedef struct rv__block {
    rv__layer adaln;
    rv__stream image, text; /* text: double blocks only */
    rv__experts experts;
    struct ggml_tensor *text_w1, *text_w2, *text_w3;
} rv__block;

typedef struct rv__transformer_net {
    rv__transformer_config config;
    rv__params *params;
    rv__layer patches, time1, time2, pooled1, pooled2, final_adaln, final;
    struct ggml_tensor **captions; /* blocks + 1; the last one is T5's */
    rv__block *blocks;             /* double blocks, then single ones */
    struct ggml_tensor **expert_room;
} rv__transformer_net;

/* RV_FORMAT names the tensor or the member that is wrong.  rv__transformer_net_close also after a
 * failure. */
rv_status rv__transformer_net_open(rv__transformer_net *net, const rv__weights *w, rv_error *err);
void rv__transformer_net_close(rv__transformer_net *net);

#endif
