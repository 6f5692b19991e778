/* See courier.h.  Owner's thread: what is due, what starts, what ended.  I/O thread: the transfers.
 * Desk: every change of a post. */
#include "job/courier.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/uuid.h"
#include "image/image.h"
#include "job/courier_plan.h"
#include "remote/io.h"

enum {
    FLYING = 16,         /* posts under way at once                                     */
    HOLD_MS = 60000,     /* how long a post that was taken is not handed out again      */
    LOOK_MS = 60000,     /* the longest time without a look, whatever the clock does    */
    WEBHOOK_MS = 5000,   /* what an attempt may take, and for each 100 bytes one more   */
    UPLOAD_MS = 20000,   /*   millisecond                                               */
    ATTEMPT_MS = 50000,  /* at most                                                     */
    ANSWER_MAX = 65536,  /* bytes of an answer that are read                            */
    SECRET_MAX = 4096,
    KINDS = 2
};

/* One post on its way. */
typedef struct flight {
    rv__op op; /* first: settles it */
    struct flight *next;
    bool is_started; /* else it waits for another one to the same place */
    rv__courier *courier;
    rv__post post;
    bool is_upload;
    size_t answered; /* bytes of the answer */
    rv__plan plan;
    char message[200]; /* for the one who asked for a dead upload; where it went, the operator's
                          log knows */
    char *note;        /* the same as an error object, for the task's record */
} flight;

/* Asks the queue for posts. */
typedef struct look {
    rv__op op;
    rv__courier *courier;
    rv__post posts[FLYING];
    size_t count, most;
    bool is_early; /* what a process that died had taken is taken as well */
    int64_t started_ms;
} look;

struct rv__courier {
    rv *r;
    rv__io *io;
    char *secrets; /* lines; NULL: webhooks are not signed */
    look look;
    bool is_looking;
    atomic_bool closing;
    flight *flying;
    size_t flying_count;
    rv__courier_counts counts[KINDS];
};

static int64_t unix_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static double chance(void)
{
    uint8_t byte = 128;
    return rv__random(&byte, 1) ? byte / 255.0 : 0.5;
}

/* ---- the end of a flight ---- */

static void look_again(rv__courier *c);
static void start_next(rv__courier *c, const char *target);

static void flight_free(flight *f)
{
    rv__post_free(&f->post);
    rv__free(f->note);
    rv__free(f);
}

static rv_status settle_work(rv__op *op, rv__queue *q, rv_error *err)
{
    flight *f = (flight *)op;
    const rv__queue_kind *k = q->kind;
    if (f->plan.fate == RV__SENT)
        return k->post_done(q, f->post.row, err);
    if (f->plan.fate == RV__AGAIN) {
        q->poked = true; /* the next look may be planned for later */
        return k->post_retry(q, f->post.row, unix_ms() + f->plan.delay_ms, f->plan.why, err);
    }
    rv_status s = k->post_dead(q, f->post.row, f->plan.why, err);
    return s == RV_OK && f->note ? k->note(q, f->post.task, f->note, err) : s;
}

static void tell(const flight *f)
{
    static const char *const words[] = {
        [RV__SENT] = "sent", [RV__AGAIN] = "again", [RV__DEAD] = "dead"};
    rv *r = f->courier->r;
    char *place = rv__guard_log_form(f->post.target);
    rv__context_log(r, f->plan.fate == RV__DEAD ? RV_LOG_WARN : RV_LOG_INFO,
                    "%s: row=%lld task=%s index=%lld to=%s attempt=%d result=%s%s%s", f->post.kind,
                    (long long)f->post.row, f->post.task, (long long)f->post.index,
                    place ? place : "", f->post.attempts + 1, words[f->plan.fate],
                    *f->plan.why ? " why=" : "", f->plan.why);
    rv__free(place);
}

static void settle_done(rv__op *op, rv_status status, const rv_error *err)
{
    flight *f = (flight *)op;
    rv__courier *c = f->courier;
    rv__courier_counts *n = &c->counts[f->is_upload];
    n->sent += f->plan.fate == RV__SENT;
    n->repeated += f->plan.fate == RV__AGAIN;
    n->dead += f->plan.fate == RV__DEAD;
    tell(f);
    if (f->is_upload && f->plan.fate != RV__AGAIN)
        rv__job_uploaded(c->r, &f->post, f->plan.fate == RV__SENT, f->message);
    for (flight **at = &c->flying; *at; at = &(*at)->next) {
        if (*at == f) {
            *at = f->next;
            break;
        }
    }
    c->flying_count--;
    if (f->is_upload)
        start_next(c, f->post.target);
    flight_free(f);
    look_again(c);
}

static const char *uuid_of(const rv__post *p)
{
    const char *slash = strrchr(p->task, '/');
    return slash ? slash + 1 : p->task;
}

static void write_note(flight *f, int http_status)
{
    rv__buf b;
    rv__buf_init(&b, SECRET_MAX);
    if (http_status)
        snprintf(f->message, sizeof f->message,
                 "picture %lld could not be uploaded: the server answered with HTTP status %d",
                 (long long)f->post.index, http_status);
    else
        snprintf(f->message, sizeof f->message,
                 "picture %lld could not be sent to this URL", (long long)f->post.index);
    rv__buf_adds(&b, "{\"code\":\"uploadFailed\",\"message\":");
    rv__json_write_string(&b, f->message);
    rv__buf_adds(&b, ",\"parameter\":\"uploadEndpoint\",\"taskType\":\"imageInference\","
                     "\"taskUUID\":");
    rv__json_write_string(&b, uuid_of(&f->post));
    rv__buf_adds(&b, "}");
    f->note = rv__buf_take(&b, NULL);
}

/* Any thread. */
static void settle(flight *f, const rv__plan *plan, int http_status)
{
    f->plan = *plan;
    if (f->is_upload && plan->fate == RV__DEAD)
        write_note(f, http_status);
    f->op.work = settle_work;
    f->op.done = settle_done;
    atomic_store(&f->op.insists, true);
    rv__desk_post(f->courier->r->desk, &f->op);
}

/* ---- transfers, on the I/O thread ---- */

static bool on_data(void *user, int http_status, const char *bytes, size_t len)
{
    flight *f = user;
    f->answered += len;
    return f->answered <= ANSWER_MAX;
}

static bool on_cancelled(void *user)
{
    return atomic_load(&((flight *)user)->courier->closing);
}

static void on_done(void *user, rv_status status, int http_status, const rv_error *err)
{
    flight *f = user;
    const rv__setup *s = &f->courier->r->setup;
    rv__attempt a = {.is_upload = f->is_upload,
                     .number = f->post.attempts + 1,
                     .most = (int)(f->is_upload ? s->upload_tries : s->webhook_tries),
                     .status = status,
                     .http_status = http_status,
                     .error = err,
                     .chance = chance()};
    rv__plan plan = rv__courier_plan(&a);
    settle(f, &plan, http_status);
}

static const rv__io_events events = {on_data, on_done, on_cancelled, NULL};

/* ---- the beginning of a flight ---- */

static int attempt_ms(int base, size_t len)
{
    int64_t ms = base + (int64_t)(len / 100);
    return ms > ATTEMPT_MS ? ATTEMPT_MS : (int)ms;
}

static void give_up(flight *f, rv__fate fate, const char *why)
{
    rv__plan plan = {.fate = fate, .delay_ms = HOLD_MS};
    snprintf(plan.why, sizeof plan.why, "%s", why);
    settle(f, &plan, 0);
}

/* Takes the body. */
static void begin_transfer(flight *f, rv__io_request *q)
{
    rv__courier *c = f->courier;
    rv_error err;
    if (rv__io_start(c->io, q, &events, f, &err) != RV_OK)
        give_up(f, RV__AGAIN, err.message);
}

static void begin_webhook(flight *f)
{
    rv__courier *c = f->courier;
    size_t len = strlen(f->post.body);
    char *body = rv__strdup(f->post.body);
    char *id = rv__format("webhook-id: %s-%lld", uuid_of(&f->post), (long long)f->post.row);
    char *value = c->secrets && body
                      ? rv__courier_signature(c->secrets, unix_ms() / 1000, body, len)
                      : NULL;
    char *signature = value ? rv__format("Reverie-Signature: %s", value) : NULL;
    rv__free(value);
    if (!body || !id || (c->secrets && !signature)) {
        rv__free(body);
        give_up(f, RV__AGAIN, "out of memory");
    } else {
        const char *headers[] = {"Content-Type: application/json", "Expect:", id, signature, NULL};
        rv__io_request q = {.url = f->post.target,
                            .guard = c->r->guard,
                            .headers = headers,
                            .body = body,
                            .body_len = len,
                            .total_ms = attempt_ms(WEBHOOK_MS, len)};
        begin_transfer(f, &q);
    }
    rv__free(id);
    rv__free(signature);
}

/* The file of a result item: inside it, or in the folder of results. */
static rv_status picture_of(rv *r, const rv__value *item, char **bytes, size_t *len, rv_error *err)
{
    const char *url = rv__json_get_string(item, "imageURL", NULL);
    const char *text = rv__json_get_string(item, "imageBase64Data", NULL);
    const char *uri = rv__json_get_string(item, "imageDataURI", NULL);
    const char *comma = uri ? strchr(uri, ',') : NULL;
    const char *name = url ? strrchr(url, '/') : NULL;
    if (name && rv__context_store(r, err) == RV_OK && r->store)
        return rv__store_read(r->store, name + 1, SIZE_MAX, bytes, len, err);
    text = comma ? comma + 1 : text;
    if (!text)
        return rv__fail(err, RV_NOT_FOUND, "the result has no picture");
    size_t size = strlen(text);
    *bytes = rv__alloc(size / 4 * 3 + 1);
    if (!*bytes)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (rv__base64_decode(text, size, *bytes, len))
        return RV_OK;
    rv__free(*bytes);
    return rv__fail(err, RV_FORMAT, "the result is damaged");
}

static void begin_upload(flight *f)
{
    rv__courier *c = f->courier;
    rv_error err;
    char *bytes = NULL;
    size_t len = 0;
    rv__value *item = rv__json_parse(f->post.body, strlen(f->post.body), NULL);
    rv_status s = item ? picture_of(c->r, item, &bytes, &len, &err)
                       : rv__fail(&err, RV_FORMAT, "the result is damaged");
    char *url = rv__courier_target(f->post.target, f->post.index,
                                   rv__json_get_string(item, "imageUUID", ""));
    rv__json_free(item);
    char *type = s == RV_OK ? rv__format("Content-Type: %s",
                                         rv__format_mime(rv__image_kind(bytes, len)))
                            : NULL;
    if (s != RV_OK && s != RV_MEMORY) {
        give_up(f, RV__DEAD, err.message);
    } else if (s != RV_OK || !url || !type) {
        rv__free(bytes);
        give_up(f, RV__AGAIN, "out of memory");
    } else { /* nothing beyond what every client sends: the URL may be signed */
        const char *headers[] = {type, "Expect:", "Accept:", NULL};
        rv__io_request q = {.url = url,
                            .guard = c->r->guard,
                            .headers = headers,
                            .body = bytes,
                            .body_len = len,
                            .is_put = true,
                            .total_ms = attempt_ms(UPLOAD_MS, len)};
        begin_transfer(f, &q);
    }
    rv__free(url);
    rv__free(type);
}

/* ---- what is due ---- */

/* Whether this post was taken before: its hold ended while it was under way. */
static bool is_known(const rv__courier *c, int64_t row)
{
    const flight *f = c->flying;
    while (f && f->post.row != row)
        f = f->next;
    return f;
}

/* Pictures for one URL go there one after the other, so that the last one stays: the next of those
 * that are not under way may start when none is. */
static void start_next(rv__courier *c, const char *target)
{
    flight *next = NULL;
    for (flight *f = c->flying; f; f = f->next) {
        if (!f->is_upload || strcmp(f->post.target, target) != 0)
            continue;
        if (f->is_started)
            return;
        if (!next || f->post.row < next->post.row)
            next = f;
    }
    if (next && !atomic_load(&c->closing)) {
        next->is_started = true;
        begin_upload(next);
    }
}

/* Takes what the post holds. */
static void fly(rv__courier *c, rv__post *p)
{
    bool is_upload = strcmp(p->kind, "upload") == 0;
    flight *f = is_known(c, p->row) ? NULL : rv__calloc(1, sizeof *f);
    if (!f) { /* without memory: its hold ends by itself */
        rv__post_free(p);
        return;
    }
    f->courier = c;
    f->post = *p;
    f->is_upload = is_upload;
    f->next = c->flying;
    c->flying = f;
    c->flying_count++;
    *p = (rv__post){0};
    if (is_upload) {
        start_next(c, f->post.target);
        return;
    }
    f->is_started = true;
    begin_webhook(f);
}

static void look_forget(look *l)
{
    for (size_t i = 0; i < l->count; i++)
        rv__post_free(&l->posts[i]);
    l->count = 0;
}

static rv_status look_work(rv__op *op, rv__queue *q, rv_error *err)
{
    look *l = (look *)op;
    int64_t now = unix_ms(), next = 0;
    look_forget(l);
    if (atomic_load(&l->courier->closing))
        return RV_OK;
    l->started_ms = l->started_ms ? l->started_ms : now;
    l->is_early &= !q->kind->is_shared; /* else the one who took it may be alive */
    /* It was held until HOLD_MS after some moment before our start; what we hold is due later. */
    int64_t until = l->is_early ? l->started_ms + HOLD_MS : now;
    rv_status s = q->kind->post_due(q, until, now + HOLD_MS + 1 - until, l->posts, l->most, &l->count,
                                    err);
    if (s != RV_OK || l->count)
        return s;
    l->is_early = false;
    s = q->kind->post_next(q, &next, err);
    if (s != RV_OK)
        return s;
    int64_t in = next ? next - now : LOOK_MS;
    op->again_ms = in < 1 ? 1 : in > LOOK_MS ? LOOK_MS : (int)in;
    return RV_TIMEOUT;
}

static void look_done(rv__op *op, rv_status status, const rv_error *err)
{
    look *l = (look *)op;
    rv__courier *c = l->courier;
    c->is_looking = false;
    for (size_t i = 0; i < l->count && status == RV_OK; i++)
        fly(c, &l->posts[i]);
    look_forget(l);
    if (status == RV_OK)
        look_again(c);
}

static void look_again(rv__courier *c)
{
    if (c->is_looking || atomic_load(&c->closing) || c->flying_count >= FLYING)
        return;
    c->is_looking = true;
    c->look.most = FLYING - c->flying_count;
    rv__desk_post(c->r->desk, &c->look.op);
}

/* ---- open and close ---- */

static rv_status read_secrets(const char *path, char **out, rv_error *err)
{
    struct stat st;
    char text[SECRET_MAX + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 || fstat(fd, &st) != 0 ? -1 : read(fd, text, sizeof text);
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return rv__fail_code(err, RV_IO, "invalidSetting", "webhook_secret", "%s: %s", path,
                             strerror(why));
    if (st.st_mode & (S_IROTH | S_IWOTH))
        return rv__fail_code(err, RV_VALIDATION, "invalidSetting", "webhook_secret",
                             "%s: others may read or write this file; chmod 0600 helps", path);
    bool is_too_long = (size_t)n > SECRET_MAX;
    text[is_too_long ? 0 : n] = '\0';
    if (is_too_long || strlen(text) != (size_t)n || strspn(text, "\r\n") == (size_t)n)
        return rv__fail_code(err, RV_VALIDATION, "invalidSetting", "webhook_secret",
                             "%s: one secret per line, 4096 bytes in all", path);
    *out = rv__strdup(text);
    return *out ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
}

static void courier_free(rv__courier *c)
{
    rv__free(c->secrets);
    rv__free(c);
}

rv_status rv__courier_open(rv *r, rv_error *err)
{
    rv__courier *c = rv__calloc(1, sizeof *c);
    if (!c)
        return rv__fail(err, RV_MEMORY, "out of memory");
    c->r = r;
    atomic_init(&c->closing, false);
    c->look = (look){.op.work = look_work,
                     .op.done = look_done,
                     .op.heeds_pokes = true,
                     .courier = c,
                     .is_early = true};
    atomic_store(&c->look.op.insists, true);
    rv_status s = rv__context_guard(r, err);
    if (s == RV_OK && r->setup.webhook_secret)
        s = read_secrets(r->setup.webhook_secret, &c->secrets, err);
    if (s == RV_OK)
        s = rv__io_open(&c->io, err);
    if (s != RV_OK) {
        courier_free(c);
        return s;
    }
    r->courier = c;
    look_again(c);
    return RV_OK;
}

void rv__courier_close(rv *r)
{
    if (r->courier) {
        atomic_store(&r->courier->closing, true);
        rv__io_close(r->courier->io);
    }
}

void rv__courier_free(rv *r)
{
    rv__courier *c = r->courier;
    while (c && c->flying) { /* those that never started: they are due again when their hold ends */
        flight *f = c->flying;
        c->flying = f->next;
        flight_free(f);
    }
    if (c)
        courier_free(c);
    r->courier = NULL;
}

void rv__courier_count(const rv *r, rv__courier_counts out[2])
{
    for (int i = 0; i < KINDS; i++)
        out[i] = r->courier ? r->courier->counts[i] : (rv__courier_counts){0};
}
