/* One task on its way through a service: sends, repeats what may be repeated, waits, fetches the
 * pictures, delivers them.  A task must never be paid twice: once a request may have reached a
 * service that does not know repeats, it is not sent again, here or elsewhere.  Everything runs on
 * the I/O thread but rv__errand_start. */
#include "remote/errand.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/base64.h"
#include "base/uuid.h"
#include "request/formats.h"

enum {
    ANSWER_MAX = 192 << 20, /* pictures as base64                                        */
    PICTURE_MAX = 64 << 20,
    CONNECT_MS = 10000,
    SILENCE_S = 150, /* services answer synchronous tasks within two minutes      */
    FETCH_MS = 60000,
    PAUSE_MS = 500,
    PAUSE_MAX_MS = 8000,
    ASK_MS = 300,
    ASK_MAX_MS = 10000,
    PATIENCE_MS = 20000, /* a longer Retry-After is for the caller                    */
    HURRY_MS = 600,      /* all pauses together while another executor waits          */
    HURRY_PAUSE_MS = 100,
    POLL_MINUTES = 30
};

typedef struct picture {
    struct errand *errand;
    size_t index;
    char *url;
    rv__found found;
    uint64_t seed;
    int tries;
    bool is_told;
} picture;

typedef struct errand {
    rv__errand pub; /* first: services see only this */
    const rv__errand_options *with;
    rv__port *port;
    char *auth; /* header with the key: never logged */
    /* The request that is out, kept for a repeat. */
    rv__sending sent;
    char *body;
    size_t body_len;
    int tries, pause_state, questions;
    int64_t paused_ms; /* before repeats, so far */
    int64_t started_ms;
    rv__buf answer;
    bool is_sent; /* a transfer is out */
    bool *begun;  /* inside rv__errand_start: where the first sending is noted */
    bool has_failed;
    rv_error error;
    int open; /* transfers, pictures included */
    size_t delivered;
    picture *pictures; /* [wanted] */
    rv__memo memo;
    bool is_in_doubt; /* a request may have been done whose answer got lost */
} errand;

rv_status rv__http_status(int http)
{
    switch (http) {
    case 401:
    case 403:
        return RV_AUTH;
    case 402:
        return RV_QUOTA;
    case 404:
        return RV_NOT_FOUND;
    case 408:
    case 504:
        return RV_TIMEOUT;
    case 429:
        return RV_RATE_LIMIT;
    case 500:
    case 502:
    case 503:
        return RV_SERVER;
    default:
        return http >= 500 ? RV_SERVER : RV_PROVIDER;
    }
}

static void wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    rv__free(text);
}

static void request_free(errand *e)
{
    rv__free(e->sent.url);
    rv__free(e->body);
    e->sent = (rv__sending){0};
    e->body = NULL;
    e->body_len = 0;
}

static void errand_free(errand *e)
{
    for (size_t i = 0; e->pictures && i < e->pub.wanted; i++)
        rv__free(e->pictures[i].url);
    rv__free(e->pictures);
    request_free(e);
    rv__buf_free(&e->answer);
    wipe(e->auth);
    rv__free(e->pub.id);
    rv__free(e->pub.inputs[0]);
    rv__free(e->pub.inputs[1]);
    rv__memo_close(&e->memo);
    rv__free((char *)e->pub.url);
    rv__free(e);
}

void rv__errand_fail(rv__errand *pub, rv_status s, const char *code, const char *parameter,
                     const char *format, ...)
{
    errand *e = (errand *)pub;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (e->has_failed)
        return;
    e->has_failed = true;
    if (e->open)
        rv__io_wake(e->with->io); /* its other transfers are not wanted any more */
    rv__fail_code(&e->error, s, code, parameter, "%s: %s", e->pub.service->label, text);
}

/* ---- the end ---- */

static const rv__io_events farewell_events;

/* Tells the service that nobody waits any more; whatever it says. */
static void say_farewell(errand *e)
{
    bool is_put = false;
    char *url = NULL;
    if (!e->pub.id || !e->pub.service->cancel || !e->pub.service->cancel(&e->pub, &is_put, &url))
        return;
    char *body = rv__strdup("");
    const char *headers[] = {"Content-Type: application/json", "Expect:", e->auth, NULL};
    rv__io_request q = {.url = url,
                        .headers = headers,
                        .body = body,
                        .is_put = is_put,
                        .is_outside = true,
                        .ca_file = e->with->ca_file,
                        .connect_ms = CONNECT_MS,
                        .total_ms = CONNECT_MS,
                        .max_bytes = 1 << 20};
    if (url && body)
        rv__io_start(e->with->io, &q, &farewell_events, NULL, NULL);
    else
        rv__free(body);
    rv__free(url);
}

static bool farewell_data(void *user, int http, const char *bytes, size_t len)
{
    return true;
}

static void farewell_done(void *user, rv_status status, int http, const rv_error *err)
{
}

static bool farewell_cancelled(void *user)
{
    return false;
}

static const rv__io_events farewell_events = {farewell_data, farewell_done, farewell_cancelled};

/* Ends the errand when nothing is out any more and it is complete or lost. */
static void settle(errand *e)
{
    if (e->open)
        return;
    bool is_complete = e->delivered == e->pub.wanted;
    if (!is_complete && !e->has_failed)
        rv__errand_fail(&e->pub, RV_PROVIDER, NULL, NULL, "%zu of %zu pictures came", e->delivered,
                        e->pub.wanted);
    rv_status s = is_complete ? RV_OK : e->error.status;
    if (s == RV_CANCELLED)
        say_farewell(e);
    /* Whatever was accepted is, or will be, on the bill. */
    e->port->is_final |= e->pub.id || e->pub.told || e->is_in_doubt;
    if (s != RV_OK && !e->port->is_final)
        rv__memo_drop(&e->memo);
    e->error.attempts = e->port->attempts;
    rv__breaker_tell(e->with->breakers, e->pub.url,
                     s == RV_OK || s == RV_CANCELLED || !rv_status_retryable(s), rv__clock_ms());
    e->port->end(e->port, s, &e->error);
    errand_free(e);
}

static bool is_over(void *user)
{
    const errand *e = user;
    return e->has_failed || e->port->cancelled(e->port);
}

/* ---- requests ---- */

static bool on_data(void *user, int http, const char *bytes, size_t len)
{
    errand *e = user;
    rv__buf_add(&e->answer, bytes, len);
    return !e->answer.failed;
}

static void on_done(void *user, rv_status status, int http, const rv_error *why);

static bool on_begin(void *user)
{
    errand *e = user;
    return e->sent.is_question || rv__memo_send(&e->memo);
}

static const rv__io_events request_events = {on_data, on_done, is_over, .begins = on_begin};

static bool may_repeat(const errand *e)
{
    return e->sent.is_question || e->pub.service->is_idempotent;
}

static rv_status issue(errand *e, int delay_ms, rv_error *err)
{
    char *body = e->body ? rv__alloc(e->body_len + 1) : NULL;
    if (e->body && !body)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (body)
        memcpy(body, e->body, e->body_len + 1);
    char type[160], key[80];
    snprintf(type, sizeof type, "Content-Type: %s",
             e->sent.content_type ? e->sent.content_type : "application/json");
    snprintf(key, sizeof key, "Idempotency-Key: %s",
             rv__task_uuid(e->pub.task) ? rv__task_uuid(e->pub.task) : "none");
    const char *headers[9] = {"Accept: application/json", "Expect:", type, key};
    size_t n = 4;
    for (size_t i = 0; i < 3 && e->sent.headers[i]; i++)
        headers[n++] = e->sent.headers[i];
    headers[n++] = e->auth;
    headers[n] = NULL;
    rv__buf_free(&e->answer);
    rv__buf_init(&e->answer, ANSWER_MAX);
    rv__io_request q = {.url = e->sent.url,
                        .headers = headers,
                        .body = body,
                        .body_len = e->body_len,
                        .is_outside = true,
                        .is_once = !may_repeat(e),
                        .ca_file = e->with->ca_file,
                        .delay_ms = delay_ms,
                        .connect_ms = e->with->connect_ms ? e->with->connect_ms : CONNECT_MS,
                        .silence_s = e->with->silence_s ? e->with->silence_s : SILENCE_S,
                        .max_bytes = ANSWER_MAX};
    /* From the start on the errand belongs to the I/O thread: nothing of it is touched after a
     * success. */
    bool *begun = e->begun;
    e->begun = NULL;
    if (begun)
        *begun = true;
    e->is_sent = true;
    e->open++;
    e->port->attempts += !e->sent.is_question;
    rv_status s = rv__io_start(e->with->io, &q, &request_events, e, err);
    if (s == RV_OK)
        return s;
    e->is_sent = false;
    e->open--;
    e->port->attempts -= !e->sent.is_question;
    if (begun)
        *begun = false;
    return s;
}

/* The process before died while the request was out. */
static void fail_interrupted(errand *e)
{
    e->port->is_final = true;
    rv__errand_fail(&e->pub, RV_PROVIDER, "taskInterrupted", NULL,
                    "the task was sent, and the process that sent it ended before the answer came; "
                    "the service may have done and charged it, so it is not sent again");
}

void rv__errand_send(rv__errand *pub, rv__sending *s)
{
    errand *e = (errand *)pub;
    bool is_post = s->body.max > 0;
    request_free(e);
    e->sent = *s;
    e->sent.body = (rv__buf){0};
    if (is_post)
        e->body = rv__buf_take(&s->body, &e->body_len);
    s->url = NULL;
    e->tries = 0;
    rv_error err;
    rv__error_clear(&err);
    if (!e->sent.url || (is_post && !e->body))
        rv__errand_fail(pub, RV_MEMORY, NULL, NULL, "out of memory");
    else if (e->memo.is_open && !may_repeat(e))
        fail_interrupted(e);
    else if (issue(e, e->sent.delay_ms, &err) != RV_OK)
        rv__errand_fail(pub, err.status, NULL, NULL, "%s", err.message);
}

int rv__errand_pause(rv__errand *pub)
{
    errand *e = (errand *)pub;
    int ms = e->with->pause_ms ? e->with->pause_ms : ASK_MS;
    for (int i = 0; i < e->questions && ms < ASK_MAX_MS; i++)
        ms = ms * 3 / 2;
    e->questions++;
    return ms > ASK_MAX_MS ? ASK_MAX_MS : ms;
}

bool rv__errand_accepted(rv__errand *pub, const char *id)
{
    errand *e = (errand *)pub;
    static const char harmless[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t len = id ? strlen(id) : 0;
    if (!len || len > 200 || strspn(id, harmless) != len || strstr(id, "..")) {
        rv__errand_fail(pub, RV_PROVIDER, NULL, NULL, "the task was taken, but not named");
        return false;
    }
    rv__free(pub->id);
    pub->id = rv__strdup(id);
    if (!pub->id)
        rv__errand_fail(pub, RV_MEMORY, NULL, NULL, "out of memory");
    else if (!pub->service->is_idempotent) /* which knows the task by its own name */
        rv__memo_take(&e->memo, pub->id);
    return pub->id;
}

bool rv__errand_resume(rv__errand *pub)
{
    errand *e = (errand *)pub;
    const char *id = rv__memo_next(&e->memo);
    if (!id)
        return false;
    rv__free(pub->id);
    pub->id = rv__strdup(id);
    e->port->attempts += !e->port->attempts;
    return pub->id;
}

void rv__errand_progress(rv__errand *pub, size_t i, double done)
{
    errand *e = (errand *)pub;
    int steps = (int)rv__json_get_int(pub->value, "steps", 0);
    if (i < pub->wanted && steps > 0 && done >= 0 && done <= 1)
        e->port->step(e->port, i, (int)(done * steps), steps, NULL);
}

/* Repeats the request after a pause; false when it must not be, or was often enough. */
static bool repeat(errand *e, int64_t retry_after_ms)
{
    bool hurries = e->port->has_others && !e->is_in_doubt && !e->pub.id;
    int64_t patience = hurries ? HURRY_MS - e->paused_ms : PATIENCE_MS;
    int base = e->with->pause_ms ? e->with->pause_ms : PAUSE_MS;
    if (hurries && base > HURRY_PAUSE_MS)
        base = HURRY_PAUSE_MS;
    if (e->tries + 1 >= RV__TRIES || retry_after_ms > patience || patience <= 0)
        return false;
    e->tries++;
    int64_t pause = rv__retry_pause(&e->pause_state, base, PAUSE_MAX_MS);
    if (pause > patience)
        pause = patience;
    if (pause < retry_after_ms)
        pause = retry_after_ms;
    e->paused_ms += pause;
    rv_error err;
    rv__error_clear(&err);
    return issue(e, (int)pause, &err) == RV_OK;
}

static void on_broken(errand *e, rv_status status, const rv_error *why)
{
    bool never_sent = strcmp(why->code, RV__NEVER_SENT) == 0;
    if (status == RV_CANCELLED || status == RV_MEMORY) {
        rv__errand_fail(&e->pub, status, NULL, NULL, "%s", why->message);
        return;
    }
    e->is_in_doubt |= !never_sent && !e->sent.is_question;
    if ((never_sent || may_repeat(e)) && status != RV_PROVIDER && repeat(e, -1))
        return;
    const char *doubt = e->is_in_doubt ? "; the service may have done and charged the task" : "";
    if (status == RV_TIMEOUT)
        rv__errand_fail(&e->pub, RV_TIMEOUT, "providerTimeout", NULL, "no answer in time%s", doubt);
    else if (status == RV_PROVIDER)
        rv__errand_fail(&e->pub, RV_PROVIDER, NULL, NULL, "the answer cannot be used%s", doubt);
    else
        rv__errand_fail(&e->pub, RV_CONNECTION, "providerError", NULL, "%s%s", why->message, doubt);
}

static void on_refused(errand *e, int http, const rv_error *why)
{
    bool may_pass =
        http == 408 || http == 429 || http == 500 || http == 502 || http == 503 || http == 504;
    /* A gateway that gave up says nothing about what is behind it. */
    bool is_lost = (http == 502 || http == 504) && !e->sent.is_question;
    e->is_in_doubt |= is_lost;
    if (may_pass && (!is_lost || may_repeat(e)) && repeat(e, why->retry_after_ms))
        return;
    rv__value *body = e->answer.len ? rv__json_parse(e->answer.data, e->answer.len, NULL) : NULL;
    e->pub.service->refuse(&e->pub, http, body);
    rv__json_free(body);
    if (!e->has_failed && !e->is_sent)
        rv__errand_fail(&e->pub, rv__http_status(http), NULL, NULL, "HTTP status %d", http);
    e->error.http_status = http;
    e->error.retry_after_ms = why->retry_after_ms;
}

static void on_answer(errand *e, int http)
{
    rv__value *body = rv__json_parse(e->answer.data ? e->answer.data : "", e->answer.len, NULL);
    bool is_object = rv__json_is_object(body);
    if (is_object)
        e->pub.service->answer(&e->pub, http, body);
    rv__json_free(body);
    if (is_object)
        return;
    e->is_in_doubt = true;
    if (may_repeat(e) && repeat(e, -1))
        return;
    rv__errand_fail(&e->pub, RV_PROVIDER, NULL, NULL, "the answer cannot be understood");
}

static void on_done(void *user, rv_status status, int http, const rv_error *why)
{
    errand *e = user;
    e->open--;
    e->is_sent = false;
    if (e->port->cancelled(e->port))
        rv__errand_fail(&e->pub, RV_CANCELLED, NULL, NULL, "cancelled");
    else if (rv__clock_ms() - e->started_ms > POLL_MINUTES * (int64_t)60000)
        rv__errand_fail(&e->pub, RV_TIMEOUT, "providerTimeout", NULL, "no result in %d minutes",
                        POLL_MINUTES);
    else if (status != RV_OK)
        on_broken(e, status, why);
    else if (http >= 400)
        on_refused(e, http, why);
    else
        on_answer(e, http);
    settle(e);
}

/* ---- pictures ---- */

/* bytes are taken. */
static void deliver(picture *p, void *bytes, size_t len)
{
    errand *e = p->errand;
    rv_image *image = NULL;
    rv_error err;
    rv__error_clear(&err);
    if (rv__image_take_bytes(bytes, len, RV_IMAGE_MAX_PIXELS, &image, &err) != RV_OK) {
        rv__errand_fail(&e->pub, err.status == RV_MEMORY ? RV_MEMORY : RV_PROVIDER, NULL, NULL,
                        "picture %zu: %s", p->index + 1, err.message);
        return;
    }
    if (!rv_image_pixels(image)) { /* a good header does not make a picture */
        rv_image_unref(image);
        rv__errand_fail(&e->pub, RV_PROVIDER, NULL, NULL, "picture %zu is damaged", p->index + 1);
        return;
    }
    int64_t width = rv__json_get_int(e->pub.value, "width", 0),
            height = rv__json_get_int(e->pub.value, "height", 0);
    rv_image_info info = rv_image_facts(image);
    if (!p->index && width && (info.width != width || info.height != height)) {
        char text[160];
        snprintf(text, sizeof text, "%s made %d x %d pixels instead of %d x %d",
                 e->pub.service->label, info.width, info.height, (int)width, (int)height);
        e->port->warn(e->port, "otherSize", "width, height", text);
    }
    double cost = p->found.cost;
    if (cost < 0)
        cost = rv__task_price(e->pub.task, rv__json_get(e->pub.route, "price"));
    rv__image_set_facts(image, RV__ELSEWHERE, p->seed, cost, p->found.nsfw);
    e->delivered++;
    e->port->image(e->port, p->index, image);
}

static void start_fetch(picture *p);

static void on_fetched(void *user, rv_status status, rv__buf *file, const rv_error *err)
{
    picture *p = user;
    errand *e = p->errand;
    e->open--;
    size_t len = 0;
    char *bytes = status == RV_OK ? rv__buf_take(file, &len) : NULL;
    if (bytes)
        deliver(p, bytes, len);
    else if (status == RV_OK)
        rv__errand_fail(&e->pub, RV_PROVIDER, "downloadFailed", NULL, "the picture is empty");
    rv__buf_free(file);
    if (e->port->cancelled(e->port))
        rv__errand_fail(&e->pub, RV_CANCELLED, NULL, NULL, "cancelled");
    else if (status != RV_OK && strcmp(err->code, RV__ADDRESS_REFUSED) == 0)
        rv__errand_fail(&e->pub, RV_PROVIDER, "downloadFailed", NULL,
                        "the picture's address is not allowed here");
    else if (status != RV_OK && ++p->tries < RV__TRIES && !e->has_failed)
        start_fetch(p);
    else if (status != RV_OK)
        rv__errand_fail(&e->pub, RV_PROVIDER, "downloadFailed", NULL,
                        "the picture cannot be fetched: %s", err->message);
    settle(e);
}

static bool is_picture_over(void *user)
{
    return is_over(((picture *)user)->errand);
}

static void start_fetch(picture *p)
{
    static const rv__fetch_events events = {on_fetched, is_picture_over};
    errand *e = p->errand;
    rv__fetch_limits limits = {.timeout_ms = FETCH_MS, .bytes = PICTURE_MAX};
    rv_error err;
    rv__error_clear(&err);
    if (rv__fetch_start(e->with->io, e->with->guard, p->url, &limits, &events, p, &err) == RV_OK)
        e->open++;
    else
        rv__errand_fail(&e->pub, err.status, "downloadFailed", NULL, "%s", err.message);
}

/* base64, or a data URI. */
static void take_text(picture *p, const char *text)
{
    const char *comma = strncmp(text, "data:", 5) == 0 ? strchr(text, ',') : NULL;
    text = comma ? comma + 1 : text;
    size_t len = strlen(text), size = 0;
    void *bytes = rv__alloc(len / 4 * 3 + 1);
    if (!bytes)
        rv__errand_fail(&p->errand->pub, RV_MEMORY, NULL, NULL, "out of memory");
    else if (rv__base64_decode(text, len, bytes, &size))
        deliver(p, bytes, size);
    else {
        rv__errand_fail(&p->errand->pub, RV_PROVIDER, NULL, NULL, "picture %zu is not valid base64",
                        p->index + 1);
        rv__free(bytes);
    }
}

void rv__errand_found(rv__errand *pub, size_t i, const rv__found *f)
{
    errand *e = (errand *)pub;
    if (i >= pub->wanted || e->pictures[i].is_told || e->has_failed)
        return; /* more than was asked for */
    picture *p = &e->pictures[i];
    *p = (picture){.errand = e, .index = i, .found = *f, .is_told = true};
    p->seed = rv__task_seed(pub->task, i);
    rv__json_uint(f->seed, &p->seed);
    pub->told++;
    const char *text = f->base64                                    ? f->base64
                       : f->url && strncmp(f->url, "data:", 5) == 0 ? f->url
                                                                    : NULL;
    if (text) {
        take_text(p, text);
        return;
    }
    p->url = f->url ? rv__strdup(f->url) : NULL;
    if (p->url)
        start_fetch(p);
    else
        rv__errand_fail(pub, f->url ? RV_MEMORY : RV_PROVIDER, NULL, NULL,
                        "a result without picture");
}

bool rv__errand_input(rv__errand *pub, const char *parameter, const uint8_t **bytes, size_t *len,
                      void **owned)
{
    errand *e = (errand *)pub;
    const char *text = rv__json_get_string(pub->value, parameter, NULL);
    *owned = NULL;
    if (!text)
        return false;
    if (e->port->input && e->port->input(e->port, parameter, bytes, len))
        return true;
    const char *comma = strncmp(text, "data:", 5) == 0 ? strchr(text, ',') : NULL;
    if (!comma && (rv__url_valid(text) || rv__uuid_valid(text, strlen(text))))
        return false;
    text = comma ? comma + 1 : text;
    size_t size = strlen(text);
    *owned = rv__alloc(size / 4 * 3 + 1);
    if (*owned && rv__base64_decode(text, size, *owned, len)) {
        *bytes = *owned;
        return true;
    }
    rv__free(*owned);
    *owned = NULL;
    return false;
}

/* ---- the beginning ---- */

static rv_status fill(errand *e, const rv__errand_options *with, rv__port *port, const rv_task *t,
                      rv_error *err)
{
    rv__errand *p = &e->pub;
    e->with = with;
    e->port = port;
    e->started_ms = rv__clock_ms();
    rv__error_clear(&e->error);
    p->route = port->route;
    p->service = rv__service_find(rv__json_get_string(p->route, "name", ""));
    p->task = t;
    p->value = rv__task_value(t);
    p->wanted = rv__task_results(t);
    p->model = rv__json_get_string(p->route, "model", rv__task_model(t)->id);
    p->url = rv__service_url(p->service, p->route);
    e->pictures = rv__calloc(p->wanted, sizeof *e->pictures);
    char *key = NULL;
    rv_status s = rv__service_key(p->service, p->route, &key, err);
    if (s == RV_OK && key)
        e->auth = rv__format("%s%s", p->service->key_form, key);
    bool ok = p->url && e->pictures && (!key || e->auth) &&
              rv__memo_open(&e->memo, port, p->service->name, p->url, err) == RV_OK;
    wipe(key);
    if (s == RV_OK && !ok)
        s = rv__fail(err, RV_MEMORY, "out of memory");
    return s == RV_OK ? rv__service_check(p->service, t, p->route, err) : s;
}

rv_status rv__errand_start(const rv__errand_options *with, const rv_task *t, rv__port *port,
                           rv_error *err)
{
    errand *e = rv__calloc(1, sizeof *e);
    if (!e)
        return rv__fail(err, RV_MEMORY, "out of memory");
    rv_status s = fill(e, with, port, t, err);
    int64_t wait = 0;
    bool is_paid = e->memo.earlier; /* perhaps: then there is no way but this one */
    port->is_final |= is_paid;
    if (s == RV_OK && !is_paid && !rv__breaker_allows(with->breakers, e->pub.url, rv__clock_ms(), &wait)) {
        s = rv__fail(err, RV_BUSY, "%s failed often; it is left alone for a while",
                     e->pub.service->label);
        err->retry_after_ms = wait;
    }
    if (s != RV_OK) {
        errand_free(e);
        return s;
    }
    port->started(port);
    bool begun = false;
    e->begun = &begun;
    e->pub.service->begin(&e->pub);
    if (begun)
        return RV_OK;
    if (!e->has_failed)
        rv__errand_fail(&e->pub, RV_INTERNAL, NULL, NULL, "nothing was sent");
    *err = e->error;
    s = err->status;
    errand_free(e);
    return s;
}
