/* The daemon's HTTP side: libmicrohttpd in one thread together with the library's descriptor. */
#ifndef RV_SERVER_H
#define RV_SERVER_H

#include <stdint.h>
#include <sys/types.h>
#include <microhttpd.h>

#include "base/memory.h"
#include "reverie.h"

enum { RV__BODY_MAX = 64 << 20, RV__HEARTBEAT_MS = 15000 };

typedef struct rv__exchange rv__exchange;
typedef struct rv__errand rv__errand; /* a request about the outbox, see outbox.c */

typedef struct rv__server {
    rv *r;
    struct MHD_Daemon *mhd;
    int epoll;
    rv__exchange *exchanges; /* requests that are being read or answered */
    rv__errand *errands;
    size_t open_count;
    int live; /* jobs, by the last rv_dispatch */
    int64_t started_ms, queue_limit;
    uint64_t tasks_done, tasks_failed, tasks_stopped;
    bool stopping;
} rv__server;

/* When a task was queued and started, for its line in the log. */
typedef struct rv__timing {
    const rv_job *job;
    int64_t queued_ms, started_ms;
    bool ended;
} rv__timing;

/* One HTTP request. */
struct rv__exchange {
    rv__exchange *prev, *next;
    rv__server *server;
    struct MHD_Connection *connection;
    int fd;
    rv_call *call;
    rv__timing *timings;
    size_t timing_count;
    rv__buf body;
    bool is_post, is_answered, too_large, begun;
    bool is_openai; /* a request in that protocol, of this kind */
    rv_openai_kind kind;
    bool suspended, gone; /* gone: the client left */
    /* Streams. */
    bool streaming, finished, wants_previews;
    rv__buf out; /* text that was not sent yet, from out_at on */
    size_t out_at;
    char *step; /* the newest step, held back while the client is slow */
    size_t step_len;
    int64_t last_ms; /* of the last text */
};


/* server.c: the loop. */
bool rv__server_open(rv__server *s, int listen_fd);
void rv__server_loop(rv__server *s, int grace_s, void (*tick)(void *user), void *user);
void rv__server_close(rv__server *s);

/* exchange.c: requests and answers. */
enum MHD_Result rv__exchange_handle(void *server, struct MHD_Connection *c, const char *url,
                                    const char *method, const char *version, const char *data,
                                    size_t *size, void **state);
void rv__exchange_completed(void *server, struct MHD_Connection *c, void **state,
                            enum MHD_RequestTerminationCode why);
void rv__exchange_vanished(rv__exchange *e);
void rv__exchange_heartbeat(rv__exchange *e, int64_t now_ms);
void rv__exchange_drop(rv__exchange *e); /* gives the task up, at the end of the daemon */

/* respond.c: plain answers. */
enum MHD_Result rv__respond_json(
    struct MHD_Connection *c, int status, const char *body, size_t len,
    int64_t retry_after_ms); /* body is borrowed until the connection is done with it */
enum MHD_Result rv__respond_owned(struct MHD_Connection *c, int status, char *body,
                                  size_t len); /* body is taken (rv__free) */
enum MHD_Result rv__respond_error(struct MHD_Connection *c, int status, const char *code,
                                  const char *message);
enum MHD_Result rv__respond_health(rv__server *s, struct MHD_Connection *c);
enum MHD_Result rv__respond_metrics(rv__server *s, struct MHD_Connection *c);
enum MHD_Result rv__respond_models(rv__server *s, struct MHD_Connection *c);
enum MHD_Result rv__respond_model(rv__server *s, struct MHD_Connection *c, const char *id);

/* outbox.c: what could not be delivered.  path is what follows /outbox. */
enum MHD_Result rv__outbox_handle(rv__server *s, struct MHD_Connection *c, const char *path,
                                  const char *method, void **state);
void rv__outbox_completed(rv__server *s, void *state);
void rv__outbox_drop(rv__server *s); /* at the end of the daemon */

/* stream.c: the event stream of an exchange. */
enum MHD_Result rv__stream_begin(rv__exchange *e);
void rv__stream_event(rv__exchange *e, const rv_job *job, const rv_event *event);
void rv__stream_text(rv__exchange *e, const char *text, size_t len); /* whole events */
void rv__stream_end(rv__exchange *e);
void rv__stream_finish(rv__exchange *e); /* nothing follows */
void rv__stream_add(rv__exchange *e, const char *text, size_t len);
void rv__exchange_suspend(rv__exchange *e);
void rv__exchange_resume(rv__exchange *e);

#endif
