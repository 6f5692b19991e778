/* A call from the inside, for the files that write its reply. */
#ifndef RV_CALL_H
#define RV_CALL_H

#include "context.h"

struct rv__openai_state;

/* One task of a call. */
typedef struct rv__slot {
    rv_call *call;
    rv_job *job;    /* ref; NULL when the task was refused, or answered at once */
    char *item;     /* answer of a utility task; NULL for others               */
    rv_error error; /* why it was refused; status RV_OK when it was not        */
    /* For messages. */
    size_t sent;    /* pictures that were handed out */
    bool is_told;   /* nothing is left to say        */
} rv__slot;

struct rv_call {
    rv_call_options options; /* texts that the caller lent are not kept here */
    rv_batch *batch;
    rv__slot *slots;
    size_t count, pending; /* jobs that have not ended */
    int depth;             /* callbacks of this call that run right now */
    bool freed;
    bool body_told; /* the issues of a body without tasks were handed out as a message */
    rv_reply reply; /* http_status 0: not ready */
    char *body;     /* of the reply; NULL when it is a fixed text */
    struct rv__openai_state *openai; /* of a request in that protocol; NULL: Runware's */
};

/* A call of a batch (the call keeps a ref); openai is taken when the call could be made.  NULL: out
 * of memory. */
rv_call *rv__call_start(rv *r, rv_batch *batch, const rv_call_options *options,
                        struct rv__openai_state *openai);

/* Writes the reply of a call whose jobs have all ended.  Never fails: without memory the reply says
 * so. */
void rv__reply_build(rv_call *c);

/* The error object of a task that was refused or failed. */
void rv__reply_error_json(rv__buf *b, const rv_task *t, const rv_error *err);

#endif
