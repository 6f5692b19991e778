/* What work.c and insert.c share. */
#ifndef GRV_WORK_INTERNAL_H
#define GRV_WORK_INTERNAL_H

#include "work.h"

typedef struct grv_result {
    rv_image *exact; /* of the place's size; NULL until it has been made */
    char *hash;      /* of its pixels                                    */
    char *recipe;    /* NULL until somebody asks                         */
} grv_result;

struct grv_work {
    grv_engine *engine;
    grv_request *request;
    grv_scene scene;
    rv_batch *batch;
    rv_task_info facts; /* borrows from batch */
    rv_job *job;
    grv_state state;
    GError *error;
    size_t wanted; /* results */
    grv_result *results;
    grv_work_fn *fn;
    void *user;
    guint chores;   /* threads that work on it                               */
    bool has_ended; /* the job has: the work ends with its last chore        */
    bool orphan;    /* freed while something ran: whoever ends last frees it */
    guint idle;     /* source that tells of a stop before the start          */
};

#endif
