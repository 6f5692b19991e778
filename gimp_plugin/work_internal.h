/* What work.c and insert.c share. */
#ifndef GRV_WORK_INTERNAL_H
#define GRV_WORK_INTERNAL_H

#include "work.h"

typedef struct grv_result {
    rv_image *exact; /* both NULL until somebody asks for them */
    char *recipe;
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
    bool orphan; /* freed while its job ran: the job's last event frees it */
    guint idle;  /* source that tells of a stop before the start          */
};

#endif
