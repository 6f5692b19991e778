/* See cache.h.  Guarded by a lock of its own, which is taken last. */
#include "job/cache.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/clock.h"
#include "job/context.h"
#include "job/deliver.h"
#include "job/threads.h"

enum { KEY = RV__CACHE_KEY, BUCKETS = 1024, IDENTITY_MAX = 128 << 20 };

typedef struct entry {
    uint8_t key[KEY];
    rv_image *image; /* ref; never changes */
    size_t size;
    int64_t born_ms;
    struct entry *chain;       /* of its bucket           */
    struct entry *newer, *older; /* by their last use     */
} entry;

struct rv__cache {
    int64_t age_ms;
    size_t room, used; /* bytes */
    pthread_mutex_t lock;
    entry *buckets[BUCKETS];
    entry *newest, *oldest;
    pthread_cond_t work;
    pthread_t thread; /* started with the first hit */
    bool has_thread, stop;
    rv_job *first, *last; /* hits that wait for the thread, by cached.next */
};

/* ---- keys ---- */

/* Whose task it is: the part of its name in the queue before the taskUUID, or as delivery says. */
static void write_owner(rv__buf *b, const rv_job *j)
{
    const char *slash = j->id ? strrchr(j->id, '/') : NULL;
    if (slash)
        rv__buf_add(b, j->id, (size_t)(slash - j->id));
    else if (j->delivery.owner)
        rv__buf_adds(b, j->delivery.owner);
}

/* Everything the pictures of a job depend on but their seeds (out; rv__free). */
static char *identity_of(const rv_job *j)
{
    rv__buf b;
    rv__buf_init(&b, IDENTITY_MAX);
    write_owner(&b, j);
    for (const rv__value *v = rv__json_first(rv__task_value(j->task)); v; v = rv__json_next(v)) {
        if (rv__recipe_leaves_out(rv__json_key(v)))
            continue;
        rv__buf_adds(&b, "\n");
        rv__json_write_string(&b, rv__json_key(v));
        rv__json_write_value(&b, v);
    }
    return rv__buf_take(&b, NULL);
}

/* What the job will be known by.  Pictures by URL or imageUUID may be others next time; j->inputs
 * names them. */
static bool fill_identity(rv_job *j)
{
    char *text = j->is_drawn || j->inputs ? NULL : identity_of(j);
    bool ok = text && EVP_Digest(text, strlen(text), j->cached.identity, NULL, EVP_sha256(), NULL);
    rv__free(text);
    return ok;
}

static bool key_of(const rv_job *j, size_t index, uint8_t key[KEY])
{
    uint64_t seed = rv__task_seed(j->task, index);
    uint8_t text[KEY + sizeof seed];
    memcpy(text, j->cached.identity, KEY);
    memcpy(text + KEY, &seed, sizeof seed);
    return EVP_Digest(text, sizeof text, key, NULL, EVP_sha256(), NULL);
}

/* ---- entries; the lock is held ---- */

static entry **bucket_of(rv__cache *c, const uint8_t key[KEY])
{
    return &c->buckets[(key[0] | key[1] << 8) % BUCKETS];
}

static void link_newest(rv__cache *c, entry *e)
{
    e->newer = NULL;
    e->older = c->newest;
    if (c->newest)
        c->newest->newer = e;
    else
        c->oldest = e;
    c->newest = e;
}

static void unlink_age(rv__cache *c, entry *e)
{
    *(e->newer ? &e->newer->older : &c->newest) = e->older;
    *(e->older ? &e->older->newer : &c->oldest) = e->newer;
}

static void forget(rv__cache *c, entry *e)
{
    entry **at = bucket_of(c, e->key);
    while (*at != e)
        at = &(*at)->chain;
    *at = e->chain;
    unlink_age(c, e);
    c->used -= e->size;
    rv_image_unref(e->image);
    rv__free(e);
}

/* The living entry of a key, or NULL. */
static entry *find(rv__cache *c, const uint8_t key[KEY])
{
    entry *e = *bucket_of(c, key);
    while (e && memcmp(e->key, key, KEY) != 0)
        e = e->chain;
    if (!e || rv__clock_ms() - e->born_ms < c->age_ms)
        return e;
    forget(c, e);
    return NULL;
}

static void insert(rv__cache *c, const uint8_t key[KEY], rv_image *image)
{
    size_t size = rv__image_memory(image) + sizeof(entry);
    entry *e = size <= c->room && !find(c, key) ? rv__calloc(1, sizeof *e) : NULL;
    if (!e)
        return;
    while (c->room - c->used < size)
        forget(c, c->oldest);
    memcpy(e->key, key, KEY);
    e->image = rv_image_ref(image);
    e->size = size;
    e->born_ms = rv__clock_ms();
    e->chain = *bucket_of(c, key);
    *bucket_of(c, key) = e;
    link_newest(c, e);
    c->used += size;
}

/* ---- jobs ---- */

/* Did the executor do all that was asked, and nothing else than asked? */
static bool is_whole(rv_job *j)
{
    pthread_mutex_lock(&j->r->lock);
    bool is = j->news.images == j->count && !j->broken && !j->warning_count &&
              !atomic_load(&j->cancel);
    pthread_mutex_unlock(&j->r->lock);
    return is;
}

void rv__cache_keep(rv__cache *c, rv_job *j)
{
    uint8_t key[KEY];
    if (j->cached.images || !j->cached.may_be || !is_whole(j))
        return;
    for (size_t i = 0; i < j->count; i++) {
        if (!rv__image_memory(j->images[i]) || !key_of(j, i, key))
            continue;
        pthread_mutex_lock(&c->lock);
        insert(c, key, j->images[i]);
        pthread_mutex_unlock(&c->lock);
    }
}

void rv__cache_take(rv__cache *c, rv_job *j)
{
    uint8_t key[KEY];
    j->cached.may_be = fill_identity(j);
    rv_image **images = j->cached.may_be ? rv__calloc(j->count, sizeof *images) : NULL;
    size_t found = 0;
    while (images && found < j->count && key_of(j, found, key)) {
        pthread_mutex_lock(&c->lock);
        entry *e = find(c, key);
        if (e) {
            images[found++] = rv_image_ref(e->image);
            unlink_age(c, e);
            link_newest(c, e);
        }
        pthread_mutex_unlock(&c->lock);
        if (!e)
            break;
    }
    if (images && found == j->count) {
        j->cached.images = images;
        return;
    }
    for (size_t i = 0; i < found; i++)
        rv_image_unref(images[i]);
    rv__free(images);
}

/* ---- the executor ---- */

static rv_status deliver(rv_job *j, size_t index, rv_error *err)
{
    rv_image *kept = j->cached.images[index];
    rv_image *image = rv__image_copy(kept);
    if (!image)
        return rv__fail(err, RV_MEMORY, "out of memory");
    rv__image_set_facts(image, "kept", rv__task_seed(j->task, index), 0, rv_image_facts(kept).nsfw);
    j->port.image(&j->port, index, image);
    return RV_OK;
}

static void run(rv_job *j)
{
    rv_error err;
    rv__error_clear(&err);
    rv_status s = RV_OK;
    j->port.attempts++;
    j->port.is_cached = true;
    j->port.started(&j->port);
    for (size_t i = 0; s == RV_OK && i < j->count; i++)
        s = j->port.cancelled(&j->port) ? RV_CANCELLED : deliver(j, i, &err);
    j->port.end(&j->port, s, &err);
}

static rv_job *next_job(rv__cache *c)
{
    pthread_mutex_lock(&c->lock);
    while (!c->stop && !c->first)
        pthread_cond_wait(&c->work, &c->lock);
    rv_job *j = c->stop ? NULL : c->first;
    if (j) {
        c->first = j->cached.next;
        if (!c->first)
            c->last = NULL;
    }
    pthread_mutex_unlock(&c->lock);
    return j;
}

static void *work(void *arg)
{
    rv__cache *c = arg;
    rv__thread_prepare("reverie-cache");
    for (rv_job *j = next_job(c); j; j = next_job(c))
        run(j);
    return NULL;
}

static rv_status start(void *self, const rv_task *task, rv__port *port, rv_error *err)
{
    rv__cache *c = self;
    rv_job *j = (rv_job *)port;
    pthread_mutex_lock(&c->lock);
    if (!c->has_thread)
        c->has_thread = rv__thread_start(&c->thread, work, c) == 0;
    bool ok = c->has_thread;
    if (ok) {
        *(c->last ? &c->last->cached.next : &c->first) = j;
        c->last = j;
        pthread_cond_signal(&c->work);
    }
    pthread_mutex_unlock(&c->lock);
    return ok ? RV_OK : rv__fail(err, RV_MEMORY, "no thread can be started");
}

const rv__executor *rv__cache_executor(void)
{
    static const rv__executor table = {.name = "cache", .start = start};
    return &table;
}

/* ---- making ---- */

rv_status rv__cache_new(int64_t seconds, int64_t bytes, rv__cache **out, rv_error *err)
{
    rv__cache *c = rv__calloc(1, sizeof *c);
    *out = NULL;
    if (!c || pthread_mutex_init(&c->lock, NULL) != 0 || pthread_cond_init(&c->work, NULL) != 0) {
        rv__free(c);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    c->age_ms = seconds * 1000;
    c->room = (size_t)bytes;
    *out = c;
    return RV_OK;
}

void rv__cache_free(rv__cache *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
    if (c->has_thread)
        pthread_join(c->thread, NULL);
    while (c->newest)
        forget(c, c->newest);
    pthread_cond_destroy(&c->work);
    pthread_mutex_destroy(&c->lock);
    rv__free(c);
}
