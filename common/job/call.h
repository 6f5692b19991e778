/* A call from the inside, for the files that write its reply. */
#ifndef RV_CALL_H
#define RV_CALL_H

#include "context.h"

struct rv__openai_state;

/* One task of a call. */
typedef struct rv__slot {
    rv_call *call;
    rv_task *task;
    rv_job *job;     /* ref; NULL when the task was refused, or answered at once       */
    rv__watch watch; /* of the job                                                     */
    char *item;      /* answers that no job gave, joined by commas; NULL: none         */
    char *errors;    /* error objects that stand beside the answers, likewise          */
    rv_error error;  /* why it was refused; status RV_OK when it was not               */
    bool is_waiting; /* for an answer of the desk, or of another server                */
    void *errand;    /* what it waits for, where that can be given up                  */
    void (*give_up)(rv *r, struct rv__slot *slot);
    bool has_no_result; /* what the answers tell is nothing but the errors             */
    /* For messages. */
    size_t sent;  /* pictures that were handed out */
    bool is_told; /* nothing is left to say        */
} rv__slot;

struct rv_call {
    rv *r;                   /* while its context is open */
    rv_call_options options; /* texts that the caller lent are copied below */
    char *results_url, *owner;
    rv_task_verb verb; /* of rv_call_task; RV_TASK_STATUS for all others */
    rv_batch *batch;
    rv__slot *slots;
    size_t count, pending; /* slots that have not ended                          */
    size_t errands;        /* operations on the desk that still point to a slot  */
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

/* call.c: a slot that waited has its answer or error. */
void rv__call_slot_ended(rv__slot *slot);
/* Frees a call that was given up, once nothing points to it. */
void rv__call_release(rv_call *c);
/* The slot gets what this job makes, and ends with it. */
void rv__call_watch(rv__slot *slot, rv_job *j);
/* Runs the task of a slot under this id (taken; may be NULL); the slot has a job then, or an error. */
void rv__call_submit(rv *r, rv__slot *slot, rv_task *t, char *id);

#endif
