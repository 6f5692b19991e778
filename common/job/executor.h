/* What can run a task: the engine, the stub, a remote service.  One interface, so that jobs do not
 * know which. */
#ifndef RV_EXECUTOR_H
#define RV_EXECUTOR_H

#include "base/status.h"
#include "image/image.h"
#include "request/task.h"

/* How the pictures of a job leave it. */
typedef struct rv__delivery {
    bool items;              /* result items are wanted (calls); otherwise pixels are     */
    const char *results_url; /* prefix of picture URLs; NULL: file://                     */
    int64_t ttl;             /* seconds a stored picture lives; 0: for ever               */
    const char *owner;       /* whose task it is (read in start only); NULL: nobody's     */
    bool previews;           /* steps shall bring one, whatever preview_steps says        */
} rv__delivery;

enum { RV__WARNINGS = 8 };

/* What an executor may do while it runs one task.  Methods may be called from any thread of the
 * executor, for one task from one thread at a time. */
typedef struct rv__port rv__port;
struct rv__port {
    const rv__delivery *delivery; /* borrowed, as long as the port */
    const rv__value *route;       /* the entry of the card's "executors" that is used; NULL: none */
    bool is_cached; /* set before the first picture where they were made for an earlier task */
    bool has_others; /* another executor can take over: there is no need for long repeats */
    bool is_final; /* set by the executor before the end: the task must not be tried elsewhere */
    int attempts;  /* how often the task was begun or sent; counted by whoever does it */
    /* Set before the end by an executor that passed the task on: who ran it (static). */
    const char *executor;
    /* What an earlier process kept with `note` when it ran this task; NULL: nothing. */
    const char *earlier;

    /* The task really begins (asynchronous executors; the worker threads say it themselves). */
    void (*started)(rv__port *port);
    /* A step of picture `index` is done; preview may be NULL (the port takes a reference of its own). */
    void (*step)(rv__port *port, size_t index, int step, int steps, rv_image *preview);
    /* Picture `index` is ready; the port takes the reference.  Seed, cost and identity are set by
     * the port, the content flag by the executor.  The delivery work (encoding, storing) happens
     * inside, on this thread. */
    void (*image)(rv__port *port, size_t index, rv_image *image);
    /* The same for an executor that got a finished result item: item is its JSON text (taken;
     * rv__free). */
    void (*item)(rv__port *port, size_t index, rv_image *image, char *item);
    /* True once somebody cancelled; ask at least once per step and between pictures. */
    bool (*cancelled)(const rv__port *port);
    /* Asynchronous executors only: the task ended, the port must not be used any more. */
    void (*end)(rv__port *port, rv_status status, const rv_error *err);
    /* The task runs, but not quite as asked: wire code, parameter (both may be NULL) and a sentence
     * for the one who asked.  Texts are copied; past RV__WARNINGS of a task they are dropped. */
    void (*warn)(rv__port *port, const char *code, const char *parameter, const char *message);
    /* The file of a picture that the task names by URL (borrowed until the task ends); false when
     * the task carries it itself.  For executors that run tasks here. */
    bool (*input)(const rv__port *port, const char *parameter, const uint8_t **bytes, size_t *len);
    /* Keeps a note for whoever runs the task if this process dies (borrowed; NULL: forget it), before
     * others are asked to do what costs money.  False: it cannot be kept, so nothing may be asked.
     * Waits for the disk; on the executor's own thread. */
    bool (*note)(rv__port *port, const char *text);
};

/* A request that is not one running task: it goes to the other side as it is.  The callbacks run on
 * the executor's thread. */
typedef struct rv__relay rv__relay;
struct rv__relay {
    const rv_task *task;     /* POSTed as a body of one; NULL: `about` instead   */
    const char *about;       /* path below tasks/: "UUID/events"                 */
    bool is_delete;          /* else GET                                         */
    bool previews;           /* the stream shall bring them                      */
    const char *results_url; /* may be NULL                                      */
    const char *owner;       /* may be NULL                                      */
    bool (*data)(rv__relay *relay, int http_status, const char *bytes, size_t len);
    /* Exactly once, last.  RV_OK: an answer arrived, whatever its HTTP status; else err says why
     * there is none, in words for the one who asked. */
    void (*end)(rv__relay *relay, rv_status status, int http_status, const rv_error *err);
    bool (*cancelled)(rv__relay *relay);
};

/* An executor either computes (run) or waits (start and cancel). */
typedef struct rv__executor {
    const char *name; /* "engine", "stub", "daemon" */
    int workers;      /* tasks that run side by side, each on a thread; 0 counts as 1 */
    /* Runs a task to its end; blocks the calling worker thread.  RV_OK means every picture was
     * delivered. */
    rv_status (*run)(void *self, const rv_task *task, rv__port *port, rv_error *err);
    void (*close)(void *self);
    /* Begins a task and returns at once; on RV_OK port->end follows exactly once, from the
     * executor's own thread, and never from inside start. */
    rv_status (*start)(void *self, const rv_task *task, rv__port *port, rv_error *err);
    /* The task of this port is not wanted any more: its end follows soon.  Any thread; must not
     * block.  NULL stands for a relay that says it is cancelled. */
    void (*cancel)(void *self, rv__port *port);
    /* Loads what the first task of this model would load; NULL when there is nothing to load.
     * Worker thread. */
    rv_status (*load)(void *self, const rv__model *model, rv_error *err);
    /* Begins to pass a request on and returns at once; on RV_OK relay->end follows, never from
     * inside.  NULL where tasks run in this process. */
    rv_status (*relay)(void *self, rv__relay *relay, rv_error *err);
    /* True while a model is ready to run; NULL: always.  Any thread. */
    bool (*is_loaded)(void *self);
} rv__executor;

/* What an executor may know about its context. */
typedef struct rv__executor_options {
    int threads;     /* 0: cores - 1                                     */
    const char *device; /* that makes the products; NULL: as the environment says */
    int stub_ms;     /* stub: milliseconds per step                      */
    int preview_steps; /* every so many steps bring a preview; 0: none   */
    const char *url; /* daemon: unix:PATH or http://HOST:PORT[/PATH]     */
    const char *key; /* daemon: sent as a bearer token; NULL: none       */
    const char *ca_file; /* services: certificates to trust; NULL: the system's */
    int connect_ms, silence_s, pause_ms; /* services; 0: as usual              */
    void (*log)(void *log_user, rv_log_level level,
                const char *message); /* any thread; may be NULL */
    void *log_user;
} rv__executor_options;

/* Constructors: *self goes to every method.  They read and load nothing; that happens with the
 * first task. Options are borrowed during the call (texts are copied). */
rv_status rv__engine_open(const rv__executor_options *o, const rv__executor **executor, void **self,
                          rv_error *err);
rv_status rv__stub_open(const rv__executor_options *o, const rv__executor **executor, void **self,
                        rv_error *err);
/* What the first error of another server's reply body means. */
void rv__daemon_error(int http_status, const rv__value *body, rv_error *err);
rv_status rv__daemon_open(const rv__executor_options *o, const rv__executor **executor, void **self,
                          rv_error *err);

#endif
