/* reverie.h -- pictures from words, for programs.
 *
 * This file is the specification: what is not written here is not promised.
 *
 *     rv *r;
 *     rv_open(&r);
 *     rv_batch *b = rv_batch_parse(r, json, strlen(json));
 *     rv_job *j;
 *     if (rv_batch_issues(b, NULL) == 0 && rv_submit(r, rv_batch_task(b, 0), NULL, &j) == RV_OK) {
 *         if (rv_wait(r, j, -1) == RV_OK && rv_job_state(j) == RV_DONE)
 *             rv_image_save(rv_job_image(j, 0), "fox.png", NULL);
 *         rv_job_unref(j);
 *     }
 *     rv_batch_unref(b);
 *     rv_close(r);
 *
 * Text in, images out: a request is JSON text in the Runware protocol (an array of task objects).
 * All problems at once: checking never stops at the first mistake.
 * Nobody waits: rv_submit returns at once; watch one descriptor (rv_fd) and call rv_dispatch when it is readable.
 * Callbacks come home: every callback runs inside rv_dispatch or rv_wait, on the thread that called it.
 *
 * Ownership words: *out* (caller frees with the named function), *ref* (caller must unref), *borrowed* (valid as
 * long as the object it came from).  Destructors accept NULL.  rv_close works in any order relative to batches,
 * jobs, calls and images that still exist: they stay valid, but nothing more happens to them.
 *
 * Threads: a context and everything made from it belong to one thread.  From any thread: rv_job_cancel,
 * rv_job_ref/unref, rv_batch_parse and rv_openai_parse (see there), rv_image_* and the rv_status_* functions.  No
 * thread is started before the first submit, so a context may be opened before fork when it is first used after it.
 */
#ifndef REVERIE_H
#define REVERIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RV_API __attribute__((visibility("default")))
#else
#define RV_API
#endif

#define RV_VERSION "0.1.0"

RV_API const char *rv_version(void);

/* ---- status ------------------------------------------------------------------------------------------------ */

/* What can go wrong, in few words; stable, only appended to.  Each has a word ("rateLimit"), an HTTP status, a
 * sentence, and says whether the same request may succeed later. */
typedef enum rv_status {
    RV_OK = 0,
    RV_VALIDATION,  /* the request itself is wrong; see issues            */
    RV_AUTH,        /* key missing or wrong                               */
    RV_QUOTA,       /* out of credits or budget                           */
    RV_SAFETY,      /* refused by a content policy                        */
    RV_NOT_FOUND,   /* model, task or image is not known                  */
    RV_RATE_LIMIT,  /* the service's limit                                */
    RV_BUSY,        /* our own queue is full, or the engine is away       */
    RV_TIMEOUT,     /* no answer in time                                  */
    RV_CONNECTION,  /* the other side cannot be reached or went away      */
    RV_PROVIDER,    /* the other side answered with an error or nonsense  */
    RV_SERVER,      /* the other side failed by itself                    */
    RV_CANCELLED,   /* somebody asked for it                              */
    RV_UNSUPPORTED, /* well formed, but this build or model cannot do it  */
    RV_IO,          /* a file cannot be read or written                   */
    RV_FORMAT,      /* a file or image is damaged or of the wrong kind    */
    RV_MEMORY,      /* out of memory                                      */
    RV_INTERNAL,    /* ours                                               */
    RV_MISUSE       /* the caller broke a rule of this header             */
} rv_status;

RV_API const char *rv_status_word(rv_status s);
RV_API int         rv_status_http(rv_status s);
RV_API bool        rv_status_retryable(rv_status s);
RV_API const char *rv_status_text(rv_status s);

/* Why something failed.  Filled by the library, owned by the caller; texts are NUL-terminated and may be empty. */
typedef struct rv_error {
    rv_status status;
    char      code[64];       /* wire code for replies: "modelNotFound", "providerTimeout"       */
    char      parameter[128]; /* dotted path the failure is about                                */
    char      message[512];   /* lower-case sentence: what was expected, what is nearest         */
    int       http_status;    /* what the other side answered, 0 when there is none              */
    int       attempts;       /* how often it was tried                                          */
    int64_t   retry_after_ms; /* when a repeat makes sense; -1 unknown                           */
} rv_error;

/* ---- context ----------------------------------------------------------------------------------------------- */

typedef struct rv       rv;       /* settings, models, executors, queue, one wake descriptor          */
typedef struct rv_batch rv_batch; /* one parsed request body: tasks and issues; never changes; counted */
typedef struct rv_task  rv_task;  /* one checked task; lives as long as its batch                     */
typedef struct rv_job   rv_job;   /* one submitted task; counted                                      */
typedef struct rv_image rv_image; /* one picture and the facts about it; counted, never changes       */
typedef struct rv_call  rv_call;  /* one request body on its way to one reply                         */

/* Opens a context (out; rv_close).  Reads nothing and starts nothing. */
RV_API rv_status rv_open(rv **out);

/* Cancels what runs, waits for the worker threads, frees. */
RV_API void rv_close(rv *r);

/* Changes a setting before the first submit.  Unknown names and bad values fail with RV_VALIDATION and say why in
 * err (may be NULL).
 *   models       folder with model cards (*.json), may be given several times; default: the installed one
 *   model        path of one model card, weights folder or GGUF file, served beside the cards
 *   serve        ids or aliases of the models that are served, separated by spaces; * stands for any characters
 *                (all)
 *   daemon       unix:PATH or http://HOST:PORT of a reveried that runs the tasks; empty: run them in this process;
 *                http(s)://HOST:PORT/v1 asks a server through the OpenAI protocol (key: REVERIE_API_KEY, over https)
 *   daemon_key   key for a daemon by address, sent as a bearer token: over https, or to this machine only (none)
 *   ca_file      certificates that services must show (the system's)
 *   service_connect_ms, service_silence, service_pause_ms   patience with services that model cards name: milliseconds
 *                to connect (10000), seconds without a byte (150), first pause before a repeat (500)
 *   executor     auto | stub    (stub paints a picture from a hash of the task without any model: for tests)
 *   stub_ms      how long the stub takes per step, milliseconds (0)
 *   threads      threads of the engine (0: cores - 1)
 *   device       what makes the engine's large products: the beginning of a name that ggml gives a device (Vulkan,
 *                CUDA0), or cpu; a model's card may name another (what REVERIE_DEVICE says; the processor)
 *   queue        most tasks that wait or run at once (64)
 *   store        where asynchronous tasks and finished results are kept: the path of an SQLite file, which is made
 *                when it is missing and used by one process at a time, or redis://[:PASSWORD@]HOST[:PORT][/DATABASE]
 *                [?lease=MS], a Valkey that any number of processes share: a task whose process said nothing for MS
 *                milliseconds (30000) is given to another (nowhere: asynchronous tasks are refused, and a repeated
 *                taskUUID runs again).  What waits there is worked off from the first call on.  Not together with
 *                daemon, which keeps what it runs
 *   backlog      most stored tasks that may wait (10000)
 *   attempts     how often a stored task is begun before it counts as one that kills its process (10)
 *   cache        seconds that pictures of tasks with a seed are kept in memory for tasks that ask for the very same
 *                again; those are answered at once and cost nothing.  0: off (0).  With daemon the daemon's counts
 *   cache_size   bytes that such pictures may take, three or four a pixel (268435456)
 *   results_dir  where pictures asked for by URL are stored; without it outputType URL is unsupported here
 *   results_url  prefix of their URLs
 *   results_ttl  seconds a stored picture lives unless the task says otherwise (604800)
 *   max_steps    largest accepted step count (1000)
 *   max_tasks    most tasks of one body; 0: no limit (0)
 *   preview_steps  every so many steps an event brings a small preview; 0: never (0)
 *   strict_uuid  on | off: insist on version 4 task UUIDs (off)
 *   strict       on | off: unknown parameters are errors, else warnings (on)
 *   fetch        public | list | off: where URLs of requests may lead (pictures to fetch, webhooks, uploads):
 *                to public addresses and what fetch_allow names, only to what it names, or nowhere (public)
 *   fetch_allow  addresses (10.1.0.0/16, 2001:db8::/32) and hosts (example.org, *.example.org), separated by
 *                spaces; wins over the built-in list of addresses that are not public
 *   fetch_deny   the same, what is never reached; wins over fetch_allow
 *   fetch_ports  ports such URLs may name: "443 8000-8999", * for any (80 443 8080 8443)
 *   fetch_https  on | off: only https (off)
 *   fetch_timeout  seconds a whole transfer may take (15)
 *   fetch_size   largest file that is fetched, bytes (20971520)
 *   webhook_secret  path of a file with secrets, one per line, that sign webhooks; others must not be able to read it
 *                (webhooks are not signed).  Webhooks and uploads need `store`
 *   webhook_tries  attempts of a webhook before it is given up (40, which takes about four hours)
 *   upload_tries  attempts of an upload before it is given up (5)  */
RV_API rv_status rv_set(rv *r, const char *name, const char *value, rv_error *err);

typedef enum rv_log_level { RV_LOG_ERROR, RV_LOG_WARN, RV_LOG_INFO, RV_LOG_DEBUG } rv_log_level;
typedef void rv_log_fn(void *user, rv_log_level level, const char *message);

/* Where messages for the operator go; may be called from any of the library's threads.  Default: nowhere.
 * Prompts, keys and picture bytes are never logged. */
RV_API void rv_set_log(rv *r, rv_log_fn *fn, void *user);

/* Frees memory handed out with the word "rv_free". */
RV_API void rv_free(void *p);

/* ---- requests ---------------------------------------------------------------------------------------------- */

/* One problem of a request. */
typedef struct rv_issue {
    size_t             task;      /* which array element                                                   */
    const char *const *paths;     /* JSON pointers, NULL-ended; several for a cross rule: "/0/lora/1/weight" */
    const char        *parameter; /* dotted form as the wire uses it; several are joined by a comma         */
    const char        *code;      /* wire code: "invalidCustomWidth", "incompatibleParameters"              */
    const char        *rule;      /* kind of rule: json type required unknown unsupported range step enum
                                     length format duplicate cross model                                    */
    const char        *message;   /* one sentence, no trailing full stop                                    */
    const char        *nearest;   /* nearest valid value (of an unknown name: name) as JSON text, or NULL    */
    const char        *task_type; /* as sent, or NULL                                                       */
    const char        *task_uuid; /* as sent, or NULL                                                       */
    bool               warning;   /* the task runs all the same                                             */
} rv_issue;

/* Parses and checks a body: an array of task objects (a single object is accepted as an array of one).
 * ref (rv_batch_unref); NULL only when out of memory.  The first call reads the model cards; later ones may come
 * from any thread while the context is open and no setting changes. */
RV_API rv_batch *rv_batch_parse(rv *r, const char *json, size_t len);
RV_API rv_batch *rv_batch_ref(rv_batch *b);
RV_API void      rv_batch_unref(rv_batch *b);

/* Number of errors (warnings not counted); *list (borrowed, may be NULL) gets all issues, errors and warnings,
 * ended by one whose message is NULL. */
RV_API size_t rv_batch_issues(const rv_batch *b, const rv_issue **list);

/* The issues as JSON text (rv_free): [{"task":0,"paths":[…],"parameter":…,"code":…,"rule":…,"message":…, …limits}]. */
RV_API char *rv_batch_issues_json(const rv_batch *b);

RV_API size_t   rv_batch_size(const rv_batch *b);
RV_API rv_task *rv_batch_task(rv_batch *b, size_t i); /* borrowed; NULL when it has errors */

/* The task with canonical names and all defaults filled in (borrowed).  NULL when out of memory. */
RV_API const char *rv_task_json(const rv_task *t, size_t *len);

/* What a task will do, before it runs (texts are borrowed from the task). */
typedef struct rv_task_info {
    const char *type;    /* "imageInference", …                                      */
    const char *uuid;    /* NULL when the type has none                              */
    const char *model;   /* AIR id; NULL when the type has none                      */
    size_t      results; /* pictures it makes                                        */
    double      cost;    /* US dollars for all of them by the card; negative: unknown */
    const char *key;     /* of an authentication task, else NULL: never log it       */
    const char *session; /* connectionSessionUUID it names, or NULL                  */
} rv_task_info;

RV_API rv_task_info rv_task_facts(const rv_task *t);

/* Derived from the parameter table; JSON text (rv_free), NULL when the model is not known. */
RV_API char *rv_schema_json(rv *r, const char *model);

/* [{"id":…,"aliases":[…],"name":…,"loras":[…]}] for every model card (rv_free); loras: names that requests may use,
 * where the card or its folder tells some. */
RV_API char *rv_models_json(rv *r);

/* ---- jobs -------------------------------------------------------------------------------------------------- */

typedef enum rv_state { RV_QUEUED, RV_RUNNING, RV_DONE, RV_FAILED, RV_STOPPED } rv_state;

typedef enum rv_event_kind {
    RV_EVENT_QUEUED,  /* position: tasks before it                             */
    RV_EVENT_STARTED, /*                                                       */
    RV_EVENT_STEP,    /* step of steps of picture index; may be merged         */
    RV_EVENT_IMAGE,   /* picture index is ready: rv_job_image                  */
    RV_EVENT_END      /* exactly once, last: rv_job_state tells how            */
} rv_event_kind;

typedef struct rv_event {
    rv_event_kind kind;
    size_t        position;
    size_t        index;
    int           step, steps;
    rv_image     *preview; /* borrowed during the callback; NULL when there is none; small (a pixel for
                              8 x 8 of the picture) and rough: scale it up                         */
} rv_event;

/* Events of one job; runs inside rv_dispatch or rv_wait.  May call anything but rv_close and rv_wait. */
typedef struct rv_sink {
    void (*event)(void *user, rv_job *job, const rv_event *e);
    void *user;
} rv_sink;

/* Queues a task.  *out is a ref (rv_job_unref) and may be dropped at any time; the job goes on.  sink may be NULL.
 * Errors: RV_BUSY when the queue is full, RV_MEMORY. */
RV_API rv_status rv_submit(rv *r, rv_task *t, const rv_sink *sink, rv_job **out);

RV_API rv_job         *rv_job_ref(rv_job *j);
RV_API void            rv_job_unref(rv_job *j);
RV_API void            rv_job_cancel(rv_job *j); /* any thread; RV_EVENT_END still follows        */
RV_API rv_state        rv_job_state(const rv_job *j);
RV_API const rv_error *rv_job_error(const rv_job *j); /* borrowed; NULL unless failed or stopped   */
/* What was not quite as asked although the job ran: sentence i, from 0 (borrowed); NULL when there is
 * none left, or before the job has ended.  They may quote the prompt. */
RV_API const char     *rv_job_warning(const rv_job *j, size_t i);

/* Who served it, known once the job has ended; is_cached from the first picture on. */
typedef struct rv_job_info {
    const char *executor; /* "engine", "stub", "daemon", "cache", or a service's name; NULL: it never began */
    int         attempts; /* how often it was begun or sent, on all executors together              */
    bool        is_cached; /* its pictures were made for an earlier task (setting `cache`) and cost nothing */
} rv_job_info;
RV_API rv_job_info     rv_job_facts(const rv_job *j);
RV_API size_t          rv_job_images(const rv_job *j);
RV_API rv_image       *rv_job_image(const rv_job *j, size_t i); /* borrowed; NULL while not ready  */

/* ---- the loop contract ------------------------------------------------------------------------------------- */

/* Readable (level-triggered) when rv_dispatch has something to do.  Owned by the library; the same for the life of
 * the context.  -1 when the system has no descriptor left. */
RV_API int rv_fd(rv *r);

/* Runs callbacks, at most 64 events per call (the descriptor stays readable when more are left).  Returns the number
 * of live jobs. */
RV_API int rv_dispatch(rv *r);

/* Dispatches until the job has ended or ms milliseconds passed (-1: no limit): RV_OK or RV_TIMEOUT. */
RV_API rv_status rv_wait(rv *r, rv_job *j, int ms);

/* ---- calls: a body in, a reply out -------------------------------------------------------------------------- */

/* What a server does with one request, without any server in it: check, submit, collect, answer.  nginx, reveried
 * and tests are transports around this. */
typedef struct rv_reply {
    int         http_status;
    const char *content_type;
    const char *body; /* borrowed from the call; not NUL-terminated */
    size_t      len;
    int64_t     retry_after_ms; /* -1: none */
} rv_reply;

typedef struct rv_call_options {
    const char *results_url; /* prefix of picture URLs for this call; NULL: the context's */
    const char *owner;       /* whose tasks these are: a task is known under its taskUUID to its owner only; NULL: nobody's */
    const char *session;     /* connectionSessionUUID that an authentication task is answered with; NULL: a new one */
    bool dry_run;            /* tasks are checked and priced, but not run                                           */
    bool messages;           /* answers are taken one by one with rv_call_message; the reply has no body            */
    bool        previews;    /* step events shall bring a preview, whatever preview_steps says */
    /* May these tasks run?  Asked once, before the first of them would; may be NULL.  When it says no, none is run or
     * answered: each gets the error. */
    bool (*admit)(void *user, rv_batch *b, rv_error *err);
    /* Progress; may be NULL.  job is borrowed. */
    void (*event)(void *user, rv_call *call, rv_job *job, const rv_event *e);
    /* Progress of rv_call_task as whole events of a stream, as text (borrowed); may be NULL. */
    void (*text)(void *user, rv_call *call, const char *text, size_t len);
    /* The reply is ready (rv_call_reply).  Runs inside rv_dispatch, never inside rv_call_begin. */
    void (*done)(void *user, rv_call *call);
    void *user;
} rv_call_options;

/* Starts a call (out; rv_call_free).  NULL only when out of memory.  When the reply needs no waiting (a refused
 * request), rv_call_reply is not NULL at once and done is not called. */
RV_API rv_call *rv_call_begin(rv *r, const char *body, size_t len, const rv_call_options *options);

/* The same with a body that was parsed before; the call keeps a ref. */
RV_API rv_call *rv_call_start(rv *r, rv_batch *b, const rv_call_options *options);

/* Asks about a task by its taskUUID, whoever started it and wherever it runs, with the options' owner.
 *   RV_TASK_STATUS  the reply is that of getResponse
 *   RV_TASK_EVENTS  options->text is called with what happened so far and then with what happens (queued, started,
 *                   step, image, end, see rv_event_stream); the reply comes with the task's end and is that of
 *                   getResponse.  To give the call up does not touch the task
 *   RV_TASK_CANCEL  the reply is {"data":[{"taskType":"imageInference","taskUUID":…,"cancelled":true}]}, false when the
 *                   task had ended before.  A task that runs in another process of a shared store ends there
 * A task that is not known, or not this owner's: 404 with taskNotFound. */
typedef enum rv_task_verb { RV_TASK_STATUS, RV_TASK_EVENTS, RV_TASK_CANCEL } rv_task_verb;
RV_API rv_call *rv_call_task(rv *r, rv_task_verb verb, const char *task_uuid, const rv_call_options *options);

RV_API const rv_reply *rv_call_reply(const rv_call *c); /* borrowed; NULL while not ready */

/* For connections that carry many answers (WebSocket): the next answer that is ready, as the text of one message
 * (out; rv_free); NULL when none is ready now, or without memory.  A message is about one taskUUID and has either
 * "data" or "errors", as clients need it.  Ask after rv_call_start and in the callbacks, until NULL; whoever cannot
 * send just now may ask later.  Each answer is handed out once. */
RV_API char *rv_call_message(rv_call *c, size_t *len);

/* Whether every answer of a call with messages was handed out. */
RV_API bool rv_call_is_told(const rv_call *c);

/* Progress as text for server-sent event streams, the same in every server (out; rv_free; NULL: out of memory):
 *     event: queued   data: {"taskUUID":…,"position":n}
 *     event: started  data: {"taskUUID":…}
 *     event: step     data: {"taskUUID":…,"index":i,"step":n,"steps":m}
 *                     and "preview":"data:image/jpeg;base64,…" when the event has one
 *     event: image    data: {"taskUUID":…,"index":i,"item":{…}}      the result item, as in the reply
 *     event: end      data: {"taskUUID":…,"state":"done"|"failed"|"stopped"}
 *                     and "executor":…,"attempts":n when it had begun (rv_job_facts), and "warnings":[…] as in the
 *                     reply, when there are some
 *     event: reply    data: {"status":200,"retryAfter":ms,"body":{…}}  last; retryAfter only when there is one
 * For rv_event_stream the job must be one of a call and the event the one its callback got. */
RV_API char *rv_event_stream(const rv_job *j, const rv_event *e, size_t *len);
RV_API char *rv_reply_stream(const rv_reply *reply, size_t *len);

/* Cancels what this call still waits for and frees it; no callback of this call runs any more.  Safe inside its own
 * callbacks and from a request's cleanup. */
RV_API void rv_call_free(rv_call *c);

/* ---- the OpenAI images protocol ------------------------------------------------------------------------------ */

/* A call whose body is a request of that protocol (with Lumenfall's additions), JSON or multipart/form-data, and whose
 * reply is an answer of that protocol.  Everything else is as with rv_call_begin. */
typedef enum rv_openai_kind {
    RV_OPENAI_GENERATIONS, /* POST /v1/images/generations                                   */
    RV_OPENAI_EDITS,       /* POST /v1/images/edits: image(s), mask                         */
    RV_OPENAI_VARIATIONS   /* POST /v1/images/variations: an image, and no prompt needed    */
} rv_openai_kind;

typedef struct rv_openai_options {
    rv_openai_kind  kind;
    const char     *content_type; /* of the body; NULL: application/json                    */
    /* Idempotency-Key of the client, or NULL: requests of one owner with the same key are one task, as if they named
     * the same taskUUID (one that the body names wins). */
    const char     *idempotency_key;
    rv_call_options call;
} rv_openai_options;

/* Starts such a call (out; rv_call_free).  NULL only when out of memory. */
RV_API rv_call *rv_openai_begin(rv *r, const char *body, size_t len, const rv_openai_options *options);

/* The same in two steps.  The first takes the time, megabytes of base64 above all; it may run on any thread, as
 * rv_batch_parse does, and looks at no member of options->call but owner (out; rv_openai_request_free; NULL only when
 * out of memory).  One call can be started of each (out; rv_call_free; a second gets NULL). */
typedef struct rv_openai_request rv_openai_request;
RV_API rv_openai_request *rv_openai_parse(rv *r, const char *body, size_t len, const rv_openai_options *options);
RV_API rv_call *rv_openai_start(rv *r, rv_openai_request *q, const rv_call_options *options);
RV_API void     rv_openai_request_free(rv_openai_request *q);

/* Whether the request asked for a stream of events; false once it was refused. */
RV_API bool rv_openai_streams(const rv_call *c);

/* What such a stream carries for an event of the call's job (out; rv_free): image_generation.partial_image and
 * image_generation.completed, or the image_edit ones.  NULL when the event says nothing there. */
RV_API char *rv_openai_event(rv_call *c, const rv_job *j, const rv_event *e, size_t *len);

/* What such a stream carries at its end, once the reply is there (out; rv_free): why the call failed, or the pictures
 * of a repeated task, which no event told.  NULL: nothing more. */
RV_API char *rv_openai_stream_error(const rv_call *c, size_t *len);

/* Header i of the reply beside the usual ones, from 0 (borrowed); NULL name: no more. */
typedef struct rv_header {
    const char *name, *value;
} rv_header;

RV_API rv_header rv_call_header(const rv_call *c, size_t i);

/* GET /v1/models, and GET /v1/models/ID with the value of its argument schema, which may be NULL (rv_free); NULL when
 * the model is not known. */
RV_API char *rv_openai_models(rv *r);
RV_API char *rv_openai_model(rv *r, const char *id, const char *schema);

/* An error of the host itself as this protocol shows it (rv_free): {"error":{…}}. */
RV_API char *rv_openai_error(int http_status, const char *code, const char *message);

/* ---- images ------------------------------------------------------------------------------------------------ */

/* Facts about a picture (borrowed from it). */
typedef struct rv_image_info {
    const char *uuid; /* imageUUID */
    uint64_t    seed;
    int         width, height; /* pixels; 0 when known by URL only */
    int         channels;      /* 3 RGB, 4 RGBA; 0 likewise        */
    double      cost;          /* US dollars; negative: not known  */
    int         nsfw;          /* 1 flagged, 0 clean, -1 not checked */
    const char *url;           /* where it is stored, or NULL      */
} rv_image_info;

/* A picture from pixels (copied; rows as in rv_image_pixels, channels 3 or 4).  *out is a ref (rv_image_unref).
 * Errors: RV_MISUSE for a size that is none, RV_MEMORY. */
RV_API rv_status rv_image_from_pixels(const uint8_t *pixels, int width, int height, int channels, rv_image **out);

/* A picture from a PNG, JPEG or WebP file in memory (copied).  Kind and size are checked here, at most
 * RV_IMAGE_MAX_PIXELS; pixels are decoded when asked for.  *out is a ref.  Errors: RV_FORMAT, RV_MEMORY. */
#define RV_IMAGE_MAX_PIXELS ((int64_t)1 << 27)
RV_API rv_status rv_image_from_bytes(const void *bytes, size_t len, rv_image **out, rv_error *err);

/* The same picture in another size, cubic, every channel by itself; the same size gives the same pixels.  *out is a
 * ref; its facts but the size are those of a picture from pixels.  Errors: RV_MISUSE for a size that is none,
 * RV_FORMAT when it cannot be decoded, RV_MEMORY. */
RV_API rv_status rv_image_resize(rv_image *i, int width, int height, rv_image **out);

/* The recipe: the parameters that make this picture again, as JSON text (rv_free).  From the job that made it, or
 * from the file it was read from, and then as found: from outside, not checked.  NULL when there is none. */
RV_API char *rv_image_recipe(const rv_image *i);

RV_API rv_image     *rv_image_ref(rv_image *i);
RV_API void          rv_image_unref(rv_image *i);
RV_API rv_image_info rv_image_facts(const rv_image *i);

/* Rows top to bottom, 8 bit sRGB, channels interleaved, no padding (borrowed).  NULL when it cannot be decoded. */
RV_API const uint8_t *rv_image_pixels(rv_image *i);

/* Encodes as "PNG", "JPG" or "WEBP"; quality 20..99 (ignored for PNG).  *bytes is out (rv_free). */
RV_API rv_status rv_image_encode(rv_image *i, const char *format, int quality, void **bytes, size_t *len,
                                 rv_error *err);

/* Writes a file whose format its extension tells (.png .jpg .jpeg .webp). */
RV_API rv_status rv_image_save(rv_image *i, const char *path, rv_error *err);

/* The same with a format of rv_image_encode (NULL: by extension) and a quality. */
RV_API rv_status rv_image_write(rv_image *i, const char *path, const char *format, int quality, rv_error *err);

#ifdef __cplusplus
}
#endif
#endif
