/* Image services in the network.  One file per service says how it spells a task and reads an
 * answer, and nothing else; errand.c does the talking: sending, repeating, polling, fetching
 * pictures.  Model cards name services under "executors" (services.c). */
#ifndef RV_SERVICE_H
#define RV_SERVICE_H

#include "job/executor.h"
#include "remote/io.h"

typedef struct rv__errand rv__errand;

/* What becomes of a parameter, or of a member of one ("lora.weight").  A parameter without a row is
 * refused by name, unless it has its default; an object with rows for members is refused by each
 * member without one. */
typedef struct rv__mapping {
    const char *parameter;
    const char *sent_as; /* the service's name; NULL: done by us after the answer, or without effect
                            there */
    const char *how;     /* for the documentation: what is converted, or NULL     */
} rv__mapping;

typedef struct rv__service {
    const char *name;       /* in cards: "runware"                                             */
    const char *label;      /* for people                                                      */
    const char *url;        /* where it is, unless the card says otherwise                     */
    const char *key_env;    /* environment variable of the key, unless the card names another  */
    const char *key_form;   /* header in front of the key: "Authorization: Bearer "            */
    const rv__mapping *map;  /* ends with a row without parameter                              */
    const rv__mapping *base; /* more rows, shared with relatives; may be NULL                  */
    bool takes_all;         /* what has no row goes out under its own name                     */
    bool is_idempotent;     /* the same task sent twice is done and paid once                  */
    bool wants_files;       /* input pictures named by URL must be fetched first               */
    /* What the map cannot say; NULL: nothing.  RV_UNSUPPORTED with the parameter. */
    rv_status (*check)(const rv_task *t, const rv__value *route, rv_error *err);
    /* Sends the first request (rv__errand_send). */
    void (*begin)(rv__errand *e);
    /* The answer to the last request, any HTTP status below 400: sends the next one, tells
     * pictures, or fails.  The errand ends when every picture was told. */
    void (*answer)(rv__errand *e, int http, const rv__value *body);
    /* What an answer from 400 on means (rv__errand_fail). */
    void (*refuse)(rv__errand *e, int http, const rv__value *body);
    /* The task is not wanted any more and the service has accepted it: fills method and URL of a
     * request that says so, false when the service has none.  Its answer is not looked at. */
    bool (*cancel)(rv__errand *e, bool *is_put, char **url);
} rv__service;

/* Every service there is, by its name in cards; each is rv__NAME. */
#define RV__SERVICES(X) X(runware) X(openai) X(lumenfall) X(reverie) X(fal) X(replicate)

#define RV__DECLARE(name) extern const rv__service rv__##name;
RV__SERVICES(RV__DECLARE)
#undef RV__DECLARE

/* By the name in a card; NULL when there is none. */
const rv__service *rv__service_find(const char *name);
const rv__service *rv__service_at(size_t i); /* NULL: no more */

/* What becomes of a parameter or member (dotted); NULL: refused, or sent as it is where the service
 * takes all. */
const rv__mapping *rv__service_row(const rv__service *s, const char *path);

/* Whether this service can do this task as it stands; else RV_UNSUPPORTED and the parameter's name.
 */
rv_status rv__service_check(const rv__service *s, const rv_task *t, const rv__value *route,
                            rv_error *err);

/* Whether the card's entry can be used here: a service that is known and whose key is there. */
bool rv__service_ready(const rv__value *route);

/* The same name as a static text: "engine", "stub", "daemon" or a service's; NULL for any other. */
const char *rv__executor_name(const char *name);

/* Where an entry of a card leads, without a slash at the end (out; rv__free); NULL: out of memory. */
char *rv__service_url(const rv__service *s, const rv__value *route);

/* The key for an entry of a card: its "key_file" (must not be readable by others), its "key_env",
 * else the service's variable (out; rv__free).  NULL with RV_OK: the entry needs none ("url" given,
 * no key named). */
rv_status rv__service_key(const rv__service *s, const rv__value *route, char **key, rv_error *err);

/* Markdown: which service takes which parameter (out; rv__free). */
char *rv__services_page(void);

/* The executor of all services: *self as in executor.h.  guard is borrowed: it judges the URLs that
 * services answer with. */
rv_status rv__services_open(const rv__executor_options *o, const rv__guard *guard,
                            const rv__executor **executor, void **self, rv_error *err);

/* ---- for the files of the services; all on the I/O thread, or inside begin ---- */

struct rv__errand {
    const rv__service *service;
    const rv_task *task;
    const rv__value *value; /* the normalised task                              */
    const rv__value *route; /* the card's entry: {"name","model","url",…}       */
    const char *model;      /* what the service calls the model                 */
    const char *url;        /* base URL, without a slash at the end             */
    size_t wanted;          /* pictures                                         */
    size_t told;            /* pictures named by the service so far             */
    int phase;              /* the service's own                                */
    char *id;               /* the service's name for the task; NULL: not taken */
    char *inputs[2];        /* the service's own: names of uploaded pictures    */
};

typedef struct rv__sending {
    char *url;                /* taken                                    */
    rv__buf body;             /* taken; empty: GET                        */
    const char *content_type; /* NULL: application/json                   */
    const char *headers[3];   /* more of them; NULL-ended                 */
    int delay_ms;
    bool is_question; /* asks again for what was accepted: may be repeated */
} rv__sending;

/* Sends a request; the answer comes to service->answer or ->refuse. */
void rv__errand_send(rv__errand *e, rv__sending *s);

/* Begins a JSON object with what goes out as it is: the rows of the map that have a name without a
 * dot and no `how`, and a plain value.  Model, prompt and number of pictures are the errand's. */
void rv__errand_members(rv__buf *b, const rv__errand *e);

/* One more member of it, when the task has this parameter. */
void rv__errand_member(rv__buf *b, const rv__errand *e, const char *parameter, const char *name);

/* Milliseconds until the next question after the n-th one: grows to ten seconds. */
int rv__errand_pause(rv__errand *e);

/* The service's identifier, kept when it is harmless in a URL path; false and a failure otherwise.
 */
bool rv__errand_accepted(rv__errand *e, const char *id);

/* An earlier process had this part of the task accepted: e->id is its name now, and it must be asked
 * for instead of sent. */
bool rv__errand_resume(rv__errand *e);

/* Progress of picture i, 0..1. */
void rv__errand_progress(rv__errand *e, size_t i, double done);

typedef struct rv__found {
    const char *url, *base64; /* one of them; a data URI may stand in either */
    const rv__value *seed;    /* number; NULL: as asked                      */
    double cost;              /* US dollars; negative: by the card           */
    int nsfw;                 /* 1, 0, -1 not checked                        */
} rv__found;

/* Picture i of the task is there, or can be fetched. */
void rv__errand_found(rv__errand *e, size_t i, const rv__found *f);

/* The errand ends with this.  code and parameter may be NULL. */
void rv__errand_fail(rv__errand *e, rv_status s, const char *code, const char *parameter,
                     const char *format, ...) __attribute__((format(printf, 5, 6)));

/* The status an HTTP status stands for where the service says nothing better. */
rv_status rv__http_status(int http);

/* Inline picture of a task (data URI or base64) as bytes (out; rv__free), or fetched before; false
 * when there is none or it is not one of these. */
bool rv__errand_input(rv__errand *e, const char *parameter, const uint8_t **bytes, size_t *len,
                      void **owned);

#endif
