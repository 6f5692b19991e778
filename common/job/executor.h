/* What can run a task: the engine, the stub, a remote service.  One interface, so that jobs do not know which. */
#ifndef RV_EXECUTOR_H
#define RV_EXECUTOR_H

#include "base/status.h"
#include "image/image.h"
#include "request/task.h"

/* What an executor may do while it runs one task.  Methods may be called from the thread that runs the task. */
typedef struct rv__port rv__port;
struct rv__port {
    /* A step of picture `index` is done; preview may be NULL (ref is taken by the port). */
    void (*step)(rv__port *port, size_t index, int step, int steps, rv_image *preview);
    /* Picture `index` is ready; the port takes the reference. */
    void (*image)(rv__port *port, size_t index, rv_image *image);
    /* True once somebody cancelled; ask at least once per step and between pictures. */
    bool (*cancelled)(const rv__port *port);
};

typedef struct rv__executor {
    const char *name; /* "engine", "stub", "daemon" */
    /* Runs a task to its end; blocks the calling worker thread.  RV_OK means every picture was delivered. */
    rv_status (*run)(void *self, const rv_task *task, rv__port *port, rv_error *err);
    void (*close)(void *self);
} rv__executor;

#endif
