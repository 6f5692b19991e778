/* See upload.h.  The file lies among the stored pictures; the queue knows its name by the item of
 * the answer, which also makes a repeat of the task give the same answer. */
#include "upload.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/base64.h"
#include "base/uuid.h"
#include "image/raster.h"
#include "job/durable.h"
#include "remote/fetch.h"

typedef struct upload {
    rv__op op;
    rv *r;
    rv__slot *slot;
    rv__record record;
    char *item; /* the one item of the record while it is made */
    char *bytes; /* of the file; NULL: still base64 in the task  */
    size_t len;
    char *results_url;
    rv_error refused; /* status RV_OK: it was not */
} upload;

static void upload_free(upload *u)
{
    u->record.items = NULL;
    rv__record_free(&u->record);
    rv__free(u->item);
    rv__free(u->bytes);
    rv__free(u->results_url);
    rv__free(u);
}

static rv_status refuse(rv_error *err, const char *why)
{
    return rv__fail_code(err, RV_VALIDATION, "invalidImage", "image", "image: %s", why);
}

static const char *image_of(const rv_task *t)
{
    return rv__json_get_string(rv__task_value(t), "image", "");
}

/* ---- the desk's thread ---- */

static rv_status decode(upload *u, rv_error *err)
{
    const char *text = image_of(u->slot->task);
    const char *comma = strncasecmp(text, "data:", 5) == 0 ? strchr(text, ',') : NULL;
    text = comma ? comma + 1 : text;
    size_t len = strlen(text);
    u->bytes = rv__alloc(len / 4 * 3 + 1);
    if (!u->bytes)
        return rv__fail(err, RV_MEMORY, "out of memory");
    return rv__base64_decode(text, len, u->bytes, &u->len) ? RV_OK
                                                           : refuse(err, "not valid base64");
}

static rv_status write_item(upload *u, const char *name, rv_error *err)
{
    char uuid[RV__UUID_SIZE];
    if (!rv__uuid_make(uuid))
        return rv__fail(err, RV_IO, "the system gives no random numbers");
    rv__buf b;
    rv__buf_init(&b, 1 << 16);
    rv__buf_adds(&b, "{\"taskType\":\"imageUpload\",\"taskUUID\":");
    rv__json_write_string(&b, rv__task_uuid(u->slot->task));
    rv__buf_addf(&b, ",\"imageUUID\":\"%s\",\"imageURL\":", uuid);
    char *url = u->results_url
                    ? rv__format("%s%s", u->results_url, name)
                    : rv__format("file://%s/%s", rv__store_folder(u->r->store), name);
    if (url)
        rv__json_write_string(&b, url);
    rv__buf_adds(&b, "}");
    b.failed |= !url;
    rv__free(url);
    u->item = rv__buf_take(&b, NULL);
    return u->item ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
}

/* From text to a stored file and its item. */
static rv_status make_item(upload *u, rv_error *err)
{
    char name[RV__STORE_NAME];
    rv__image_format format;
    rv_error why;
    rv_status s = u->bytes ? RV_OK : decode(u, err);
    if (s != RV_OK)
        return s;
    s = rv__image_check(u->bytes, u->len, RV__INPUT_PIXELS, &format, &why);
    if (s != RV_OK)
        return s == RV_FORMAT ? refuse(err, why.message) : rv__fail(err, s, "%s", why.message);
    s = rv__store_put(u->r->store, u->bytes, u->len, rv__format_ext(format), u->record.expiry, name,
                      err);
    return s == RV_OK ? write_item(u, name, err) : s;
}

/* The same upload was answered before: its item. */
static rv_status find_answer(upload *u, rv__queue *q, rv_error *err)
{
    rv__record known;
    bool same = false;
    rv_status s = q->kind->find(q, u->record.id, &known, err);
    if (s == RV_OK && known.id && known.state == RV__DONE &&
        rv__record_same(&u->record, &known, &same) != RV_OK)
        s = rv__fail(err, RV_MEMORY, "out of memory");
    if (same) {
        u->item = known.items[0];
        known.items[0] = NULL;
    }
    rv__record_free(&known);
    return s;
}

static rv_status upload_work(rv__op *op, rv__queue *q, rv_error *err)
{
    upload *u = (upload *)op;
    rv__error_clear(&u->refused);
    rv_status s = u->item ? RV_OK : find_answer(u, q, err);
    if (s != RV_OK || (u->item && !u->record.items))
        return s;
    if (!u->item && make_item(u, &u->refused) != RV_OK)
        return RV_OK; /* a refusal; nothing was changed */
    u->record.items = &u->item;
    return q->kind->keep_answer(q, &u->record, err);
}

/* ---- the owner's thread ---- */

static void upload_done(rv__op *op, rv_status status, const rv_error *err)
{
    upload *u = (upload *)op;
    rv__slot *slot = u->slot;
    rv_call *c = slot->call;
    bool is_gone = u->r->closed || c->freed;
    u->r->errands--;
    c->errands--;
    if (!is_gone) {
        slot->is_waiting = false;
        if (status != RV_OK)
            slot->error = *err;
        else if (u->refused.status != RV_OK)
            slot->error = u->refused;
        else
            slot->item = u->item;
        u->item = slot->item ? NULL : u->item;
    }
    upload_free(u);
    if (is_gone)
        rv__call_release(c);
    else
        rv__call_slot_ended(slot);
}

/* What the answer depends on, instead of the picture itself. */
static char *identity_of(const rv_task *t)
{
    const char *image = image_of(t);
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (const char *p = image; *p; p++) /* FNV-1a */
        hash = (hash ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
    return rv__format("{\"taskType\":\"imageUpload\",\"image\":\"%016" PRIx64 "-%zu\"}", hash,
                      strlen(image));
}

static upload *upload_new(rv *r, rv__slot *slot, const rv_task *t)
{
    upload *u = rv__calloc(1, sizeof *u);
    if (!u)
        return NULL;
    bool ok = true;
    int64_t ttl = r->setup.results_ttl;
    const char *prefix = slot->call->results_url ? slot->call->results_url : r->setup.results_url;
    u->r = r;
    u->slot = slot;
    u->op.work = upload_work;
    u->op.done = upload_done;
    u->record = (rv__record){.id = rv__queue_id(slot->call->owner, rv__task_uuid(t)),
                             .task = identity_of(t),
                             .count = 1,
                             .created = time(NULL),
                             .expiry = ttl ? time(NULL) + ttl : 0};
    u->results_url = rv__queue_text(prefix, &ok);
    if (ok && u->record.id && u->record.task)
        return u;
    upload_free(u);
    return NULL;
}

/* ---- pictures that are named by URL, on the I/O thread ---- */

static void on_fetched(void *user, rv_status status, rv__buf *file, const rv_error *why)
{
    upload *u = user;
    u->refused = *why;
    if (status == RV_OK) {
        u->bytes = rv__buf_take(file, &u->len);
        if (!u->bytes)
            status = rv__fail(&u->refused, RV_MEMORY, "out of memory");
    } else if (status != RV_MEMORY && status != RV_CANCELLED) {
        rv__fail_code(&u->refused, RV_VALIDATION, "downloadFailed", "image",
                      "image: the picture cannot be fetched from this URL");
    }
    if (status == RV_OK)
        rv__desk_post(u->r->desk, &u->op);
    else
        rv__event_home(u->r, &u->op);
}

static bool on_cancelled(void *user)
{
    return atomic_load(&((upload *)user)->r->closing);
}

static rv_status fetch(rv *r, upload *u, const char *url, rv_error *err)
{
    static const rv__fetch_events events = {on_fetched, on_cancelled};
    rv__fetch_limits limits = {r->setup.fetch_timeout * 1000, (size_t)r->setup.fetch_size};
    rv_error why;
    rv_status s = rv__context_io(r, err);
    if (s == RV_OK && rv__guard_url(r->guard, url, NULL, &why) == RV_VALIDATION)
        return refuse(err, why.message);
    return s == RV_OK ? rv__fetch_start(r->io, r->guard, url, &limits, &events, u, err) : s;
}

void rv__upload_begin(rv *r, rv__slot *slot, rv_task *t)
{
    if (rv__context_store(r, &slot->error) != RV_OK)
        return;
    if (!r->store) {
        rv__fail_code(&slot->error, RV_UNSUPPORTED, "unsupportedTaskType", "taskType",
                      "pictures cannot be stored on this server");
        return;
    }
    const char *image = image_of(t);
    if (rv__uuid_valid(image, strlen(image))) {
        refuse(&slot->error, "a picture that has a UUID is here already");
        return;
    }
    upload *u = upload_new(r, slot, t);
    if (!u) {
        rv__fail(&slot->error, RV_MEMORY, "out of memory");
        return;
    }
    bool is_url = strncasecmp(image, "http://", 7) == 0 || strncasecmp(image, "https://", 8) == 0;
    if (is_url && fetch(r, u, image, &slot->error) != RV_OK) {
        upload_free(u);
        return;
    }
    slot->is_waiting = true;
    slot->call->pending++;
    slot->call->errands++;
    r->errands++;
    if (!is_url)
        rv__desk_post(r->desk, &u->op);
}

/* ---- pictures by UUID ---- */

typedef struct lookup {
    rv__op op;
    const char *id;
    char *item;
} lookup;

static rv_status lookup_work(rv__op *op, rv__queue *q, rv_error *err)
{
    lookup *l = (lookup *)op;
    rv__free(l->item);
    l->item = NULL;
    return q->kind->picture(q, l->id, &l->item, err);
}

/* The file that an item carries or names. */
static rv_status read_item(rv *r, rv__store *store, const char *item, char **bytes, size_t *len,
                           rv_error *err)
{
    rv__value *v = rv__json_parse(item, strlen(item), NULL);
    const char *url = rv__json_get_string(v, "imageURL", NULL);
    const char *uri = rv__json_get_string(v, "imageDataURI", NULL);
    const char *comma = uri ? strchr(uri, ',') : NULL;
    const char *base64 = rv__json_get_string(v, "imageBase64Data", comma ? comma + 1 : NULL);
    const char *name = url ? strrchr(url, '/') : NULL;
    rv_status s = RV_NOT_FOUND;
    if (name && store)
        s = rv__store_read(store, name + 1, (size_t)r->setup.fetch_size, bytes, len, err);
    else if (base64) {
        *bytes = rv__alloc(strlen(base64) / 4 * 3 + 1);
        bool ok = *bytes && rv__base64_decode(base64, strlen(base64), *bytes, len);
        s = ok ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
    }
    rv__json_free(v);
    return s;
}

rv_status rv__upload_read(rv *r, rv__store *store, const char *owner, const char *image_uuid,
                          char **bytes, size_t *len, rv_error *err)
{
    char *id = rv__queue_id(owner, image_uuid);
    if (!id)
        return rv__fail(err, RV_MEMORY, "out of memory");
    lookup l = {.op.work = lookup_work, .id = id};
    rv_status s = rv__desk_wait(r->desk, &l.op, NULL, NULL, err);
    if (s == RV_OK)
        s = l.item ? read_item(r, store, l.item, bytes, len, err) : RV_NOT_FOUND;
    rv__free(l.item);
    rv__free(id);
    return s;
}
