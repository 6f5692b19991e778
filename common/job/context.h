/* The inside of a context and its jobs, shared by the files of common/job/ only.
 *
 * Two threads of thought meet here: the owner thread (the one that calls rv_submit, rv_dispatch,
 * rv_close) and the threads that run tasks.  What a host can see of a job (`shown`) belongs to the
 * owner thread and changes inside rv_dispatch; what the running side knows (`inner`) is guarded by
 * the context's lock. */
#ifndef RV_CONTEXT_H
#define RV_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/memory.h"
#include "base/status.h"
#include "job/desk.h"
#include "job/executor.h"
#include "job/setup.h"
#include "job/store.h"
#include "remote/io.h"
#include "request/models.h"
#include "request/task.h"

#ifndef RV_MODELS_DIR /* where model cards are installed; the build sets it */
#define RV_MODELS_DIR "/usr/share/reverie/models"
#endif

enum { RV__WORKERS_MAX = 8, RV__INDEX = 256, RV__CACHE_KEY = 32 };

/* Somebody who is told the events of a job, besides its sink.  Owner thread.  Whoever comes late is
 * told first what happened so far. */
typedef struct rv__watch rv__watch;
struct rv__watch {
    void (*event)(void *user, rv_job *job, const rv_event *e); /* set by the user */
    void *user;
    rv_job *job; /* ref; NULL: watches nothing */
    rv__watch *next, *fresh_next;
    bool is_fresh; /* must still be told what happened so far */
};

/* Where a walk over watches stands, so that any of them may leave meanwhile. */
typedef struct rv__cursor rv__cursor;
struct rv__cursor {
    rv__watch *next;
    rv__cursor *outer;
};

/* Jobs in a row; a job is in at most one list of each kind. */
typedef struct rv__list {
    rv_job *first, *last;
} rv__list;

/* What ended, by who ran it. */
typedef struct rv__total {
    const char *executor; /* static */
    uint64_t done, failed, images;
    double cost; /* US dollars, where they are known */
} rv__total;

enum { RV__TOTALS = 16 };

struct rv {
    atomic_uint refs; /* the owner, and every job */

    /* Owner thread. */
    rv__setup setup;
    rv__models *models;
    char **model_paths; /* what `model` named; they win over cards of the folders, whatever came
                           first */
    size_t model_count;
    rv__store *store;
    rv__guard *guard; /* of URLs that come with requests; made with the first use */
    rv_job *live; /* jobs whose END was not delivered yet */
    size_t live_count;
    size_t stored_count;       /* live jobs whose tasks the queue keeps             */
    rv_job *index[RV__INDEX];  /* live jobs with an id, by its hash                 */
    rv__watch *fresh;          /* watches that must be told what happened so far    */
    size_t errands;            /* operations that calls wait for                    */
    struct rv__errand *awaited; /* those about tasks that did not begin yet         */
    rv__desk *desk;            /* NULL: nothing is kept, or not opened yet          */
    struct rv__claims *claims; /* durable.c                                         */
    struct rv__recent *recent;   /* answers of another server (recent.h); NULL: none yet */
    struct rv__courier *courier; /* sends webhooks and uploads; NULL: no desk       */
    bool closed;
    bool fetch_given;  /* a setting of the guard was set: URLs are judged here, whoever fetches */
    bool models_given; /* by `models`: the installed ones are not read */
    bool models_ready; /* all is read; later settings are added at once */
    int depth;         /* callbacks that run right now */
    pid_t pid;         /* of the process that submitted first; 0 before */
    pthread_t owner;   /* valid when pid is not 0 */

    /* Fixed at the first submit. */
    const rv__executor *executor;
    const rv__executor *services; /* others' (remote/service.h); NULL until a task needs them */
    void *services_self;
    rv__value *remote; /* route.c: the entries that go before those of the cards; NULL: none */
    void *self;
    struct rv__cache *cache; /* NULL: not wanted, or tasks run elsewhere */
    const rv__model *preload; /* the first worker loads it before its first task */
    pthread_t workers[RV__WORKERS_MAX];
    int worker_count;

    rv__io *io; /* fetches input pictures; opened with the first one, closed before the workers */
    atomic_ulong fetches_refused; /* by the guard, at the socket */

    pthread_mutex_t log_lock;
    rv_log_fn *log;
    void *log_user;

    pthread_mutex_t
        lock; /* may be held when an executor's own lock is taken, never the other way round */
    pthread_cond_t work;   /* a job waits, or stop          */
    pthread_cond_t posted; /* an event waits                */
    int fd;                /* eventfd, -1 before first use  */
    rv__list queue;        /* jobs that wait for a worker   */
    size_t waiting, running;
    int64_t task_ms; /* how long tasks took lately; 0: none has been made yet */
    rv__total totals[RV__TOTALS]; /* the first without a name ends them */
    rv__list ready; /* jobs with events to deliver   */
    bool notices;   /* the desk, fresh watches or `home` have something to tell */
    rv__op *home;   /* newest first: what other threads finished for the owner  */
    bool stop;
    atomic_bool closing; /* what ends from now on is not written down */
};

/* What happened to a job and was not told yet.  No allocation is needed to tell it, so nothing can
 * get lost. */
typedef struct rv__news {
    bool queued, started, step, end;
    size_t images; /* pictures [told, images) wait to be told; `told` counts those told */
    size_t told;
    size_t step_index;
    int step_now, step_count;
    rv_image *preview; /* ref */
} rv__news;

/* What was not quite as asked; both texts belong to the job. */
typedef struct rv__warning {
    char *message, *json; /* json: an error object of the wire */
    bool is_error;        /* stands under "errors" of a reply: uploadFailed */
} rv__warning;

/* How a stored task is written down when it ends. */
typedef struct rv__ending {
    rv__op op;
    rv_job *job; /* ref; NULL: `id` names the task */
    char *id;
    rv__stored state;
    char *error, *warnings;
    int64_t expiry;
    rv__post posts[RV__POSTS];
    size_t post_count;
} rv__ending;

/* How far a stored task has come, told to the other processes of a shared queue. */
typedef struct rv__report {
    rv__op op;
    rv_job *job; /* ref while the desk has it */
    size_t index;
    int step, steps;
    int64_t told_ms;
    bool is_at_desk;
} rv__report;

struct rv_job {
    rv__port port; /* first: a port is its job */
    atomic_uint refs;
    atomic_bool cancel;
    rv *r; /* counted */
    rv_batch *batch;
    rv_task *task;
    size_t count; /* pictures asked for */

    /* Owner thread. */
    rv_sink sink;
    rv_state shown;
    rv_error shown_error;
    bool *shown_images;
    bool is_live, is_told; /* told: its first event went out */
    rv_job *live_prev, *live_next;
    size_t position; /* tasks before it when it was queued */
    rv__watch *watches;
    rv__cursor *cursors;
    rv_job *index_next;
    size_t step_index; /* the newest step that was told */
    int step, steps;
    rv__report report;
    struct {
        bool may_be;                     /* pictures of an earlier task, or later ones of these */
        uint8_t identity[RV__CACHE_KEY]; /* what they depend on but the seeds                   */
        rv_image **images; /* refs; [count]; fixed before it can run; NULL: it must be run      */
        rv_job *next;      /* cache.c */
    } cached;
    bool is_drawn; /* nobody asked for its seed */

    /* Fixed before the job can run. */
    char *id;       /* in the queue; NULL: nobody may ask for it */
    bool is_stored; /* its task is kept: items and end are written down */
    int tries;      /* to write pictures to a full disk; the executor's thread */
    char **given;   /* items that an earlier attempt made; [count] or NULL */
    char *earlier;  /* what an earlier process noted before it asked others; NULL: nothing */
    rv__ending ending;
    rv__delivery delivery;
    char *results_url;
    rv__store *store; /* borrowed from the context; for items only */
    bool has_inputs; /* they were fetched; the thread that puts the job somewhere */
    bool is_elsewhere; /* the route is a service; guarded by the lock, or by nobody else running it */
    struct rv__inputs *inputs; /* pictures the task names by URL; NULL: none */

    /* Guarded by r->lock. */
    rv_state inner;
    int64_t begun_ms; /* when its executor got it */
    rv_error error;
    rv_image **images; /* refs; [count] */
    char **items;      /* result items as JSON text; [count]; NULL where pixels are wanted */
    size_t *order;     /* pictures in the order of their arrival; [count] */
    rv__news news;
    rv__warning warnings[RV__WARNINGS];
    size_t warning_count;
    bool is_waiting, is_ready;
    size_t uploads; /* of a task that somebody waits for: pictures on their way to its endpoint */
    uint64_t *upload_marks; /* hashes of their items; [count] or NULL */
    bool is_held;           /* all is made; the end waits for the uploads */
    bool
        broken; /* delivering a picture failed: error holds why, whatever the executor says later */
    rv_job *wait_prev, *wait_next, *ready_next;
};

/* Under which name a job can be found, and what is known of it.  All texts are taken (rv__free),
 * also on failure. */
typedef struct rv__identity {
    char *id;       /* NULL: none */
    bool is_stored; /* the queue keeps the task */
    bool is_drawn;  /* nobody asked for the seed that stands in it */
    char **given;   /* items made before, [results], or NULL */
    char *sent;     /* noted by who ran it before, or NULL   */
} rv__identity;

/* context.c */
void rv__context_ref(rv *r);
void rv__context_unref(rv *r);
void rv__context_log(rv *r, rv_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void rv__context_log_hook(void *r, rv_log_level level, const char *message); /* any thread */
void rv__context_misuse(rv *r, const char *what);
bool rv__context_is_owner(const rv *r);
rv_status rv__context_models(rv *r, rv_error *err); /* fills r->models */
/* Starts what runs tasks, as the first submit does.  Owner's thread from now on. */
rv_status rv__context_begin(rv *r, rv_error *err);
/* For the daemon: starts the executor before the first task and lets it load a model (borrowed
 * until it is loaded). */
rv_status rv__context_preload(rv *r, rv_error *err);
const char *rv__context_executor(const rv *r); /* its name */
bool rv__context_is_loaded(const rv *r);
size_t rv__context_model_count(const rv *r);
/* The model to use when nobody names one: the last one named by `model`, else the alias "default",
 * else the first. NULL when there is none (or no memory). */
const rv__model *rv__context_default_model(rv *r);
rv_status rv__context_store(rv *r, rv_error *err); /* fills r->store where results_dir is set */
rv_status rv__context_guard(rv *r, rv_error *err); /* fills r->guard from the settings */
rv_status rv__context_io(rv *r, rv_error *err);    /* likewise, and starts r->io */
/* Whether URLs of requests are judged by this context: where tasks run here, or somebody said how. */
bool rv__context_guards(const rv *r);

/* workers.c: worker threads.  Begin is called with the lock not held; returns RV_OK, RV_MEMORY or
 * the executor's error. */
rv_status rv__workers_start(rv *r, rv_error *err);
void rv__workers_stop(rv *r);

/* events.c.  Post functions need the lock. */
void rv__event_post(rv_job *j);
int rv__event_fd(rv *r);
void rv__event_notice(rv *r); /* there is something to tell besides events; takes the lock */
/* Calls op->done (status RV_OK) on the owner's thread, in rv_dispatch or rv_close.  Any thread. */
void rv__event_home(rv *r, rv__op *op);
void rv__event_bring_home(rv *r); /* does so now */
/* Tells the events of a live job to one more; w->event and w->user are set.  Dropping is safe at any
 * time, also inside its callback. */
void rv__watch_begin(rv__watch *w, rv_job *j);
void rv__watch_end(rv__watch *w);

/* job.c */
rv_status rv__job_submit(rv *r, rv_task *t, const rv_sink *sink, const rv__delivery *delivery,
                         const rv__identity *who, rv_job **out, rv_error *err);
rv_job *rv__job_find(rv *r, const char *id); /* borrowed; the live job of this id, or NULL */
void rv__job_run(rv_job *j);                                           /* worker thread */
void rv__job_finish(rv_job *j, rv_status status, const rv_error *err); /* lock held */
/* The pictures the job names are there (RV_OK), or cannot be had; any thread, lock not held. */
void rv__job_ready(rv_job *j, rv_status status, const rv_error *err);
/* An upload of an item starts to count for a job that somebody waits for, or (undo) does not. */
void rv__job_uploads(rv_job *j, size_t index, const char *item, bool undo);
/* It is over, well or not; owner's thread.  Posts of other jobs are passed over. */
void rv__job_uploaded(rv *r, const rv__post *post, bool ok, const char *message);
void rv__job_forget(
    rv_job *j); /* owner: END was told or will never be; drops the library's reference */
/* Copies the totals; how many there are.  Any thread. */
size_t rv__job_totals(rv *r, rv__total out[RV__TOTALS]);
/* Whether this process runs it itself, and no service will be asked whatever comes. */
bool rv__job_is_local(const rv_job *j);
const char *rv__job_item(const rv_job *j,
                         size_t i);        /* borrowed; NULL while not ready or not wanted */
/* Adds the warnings of an ended job as error objects of the wire, joined by commas, the first one
 * with a comma before it when `comma` says so. */
void rv__job_warnings_json(const rv_job *j, bool comma, rv__buf *out);
/* Only those that are errors, or only those that are none. */
bool rv__job_has_errors(const rv_job *j);
void rv__job_notes_json(const rv_job *j, bool errors, bool comma, rv__buf *out);
/* The same for one that ends right now; lock held. */
void rv__job_warnings_write(const rv_job *j, bool comma, rv__buf *out);
/* How long it takes until so many tasks are made, by how long they took lately; -1: nobody knows.  Lock not held. */
int64_t rv__job_wait_ms(rv *r, size_t tasks);
void rv__list_add(rv__list *l, rv_job *j); /* by wait_* links */
void rv__list_remove(rv__list *l, rv_job *j);

#endif
