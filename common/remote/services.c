/* The services there are, whether a card's entry can be used, keys, and the executor that runs
 * errands. */
#include "remote/service.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "remote/errand.h"
#include "request/table.h"

enum { KEY_MAX = 4096, PAGE_MAX = 1 << 18 };

#define ADDRESS(name) &rv__##name,
static const rv__service *const services[] = {RV__SERVICES(ADDRESS)};

const rv__service *rv__service_at(size_t i)
{
    return i < sizeof services / sizeof *services ? services[i] : NULL;
}

const rv__service *rv__service_find(const char *name)
{
    for (size_t i = 0; rv__service_at(i); i++) {
        if (strcmp(services[i]->name, name) == 0)
            return services[i];
    }
    return NULL;
}

const char *rv__executor_name(const char *name)
{
    static const char *const own[] = {"engine", "stub", "daemon", "cache"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (strcmp(own[i], name) == 0)
            return own[i];
    }
    const rv__service *s = rv__service_find(name);
    return s ? s->name : NULL;
}

/* ---- keys ---- */

static rv_status read_key_file(const char *path, char **key, rv_error *err)
{
    char text[KEY_MAX];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return rv__fail_code(err, RV_AUTH, NULL, "key_file", "the key file cannot be read: %s",
                             strerror(errno));
    bool is_open_to_all = fstat(fd, &st) != 0 || (st.st_mode & 077);
    ssize_t n = is_open_to_all ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    if (is_open_to_all)
        return rv__fail_code(err, RV_AUTH, NULL, "key_file",
                             "the key file must not be accessible to others (chmod 600)");
    while (n > 0 && strchr(" \t\r\n", text[n - 1]))
        n--;
    if (n <= 0)
        return rv__fail_code(err, RV_AUTH, NULL, "key_file", "the key file holds no key");
    text[n] = 0;
    *key = rv__strdup(text);
    explicit_bzero(text, sizeof text);
    return *key ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");
}

/* A key becomes a header: one line of visible characters. */
static bool is_clean(const char *key)
{
    for (; *key; key++) {
        if (*key <= ' ' || *key > '~')
            return false;
    }
    return true;
}

rv_status rv__service_key(const rv__service *s, const rv__value *route, char **key, rv_error *err)
{
    const char *file = rv__json_get_string(route, "key_file", NULL);
    const char *named = rv__json_get_string(route, "key_env", NULL);
    const char *variable = named ? named : s->key_env;
    *key = NULL;
    if (file) {
        rv_status status = read_key_file(file, key, err);
        if (status != RV_OK)
            return status;
    } else {
        const char *value = getenv(variable);
        bool is_needed = named || !rv__json_get(route, "url");
        if (!value || !*value)
            return is_needed
                       ? rv__fail(err, RV_AUTH, "%s: the environment has no %s", s->label, variable)
                       : RV_OK;
        /* The usual key never goes to an address that only the card knows. */
        if (!named && rv__json_get(route, "url"))
            return RV_OK;
        *key = rv__strdup(value);
        if (!*key)
            return rv__fail(err, RV_MEMORY, "out of memory");
    }
    if (is_clean(*key))
        return RV_OK;
    explicit_bzero(*key, strlen(*key));
    rv__free(*key);
    *key = NULL;
    return rv__fail(err, RV_AUTH, "%s: the key has characters that no key has", s->label);
}

char *rv__service_url(const rv__service *s, const rv__value *route)
{
    char *url = rv__strdup(rv__json_get_string(route, "url", s->url));
    for (size_t n = url ? strlen(url) : 0; n && url[n - 1] == '/'; n--)
        url[n - 1] = 0;
    return url;
}

bool rv__service_ready(const rv__value *route)
{
    const rv__service *s = rv__service_find(rv__json_get_string(route, "name", ""));
    char *key = NULL;
    bool ready = s && rv__service_key(s, route, &key, NULL) == RV_OK;
    if (key)
        explicit_bzero(key, strlen(key));
    rv__free(key);
    return ready;
}

/* ---- what a service can say ---- */

/* What no service is asked for, and what is said outside the task: unless a service has a row of its
 * own. */
static const rv__mapping usual[] = {
    {"outputType", NULL, "done by us"},     {"includeCost", NULL, "done by us"},
    {"ttl", NULL, "done by us"},            {"deliveryMethod", NULL, "done by us"},
    {"webhookURL", NULL, "done by us"},     {"uploadEndpoint", NULL, "done by us"},
    {"taskType", NULL, "said by the address"}, {"taskUUID", NULL, "as Idempotency-Key"},
    {0},
};

const rv__mapping *rv__service_row(const rv__service *s, const char *path)
{
    const rv__mapping *const lists[] = {s->map, s->base, usual};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        for (const rv__mapping *m = lists[i]; m && m->parameter; m++) {
            if (strcmp(m->parameter, path) == 0)
                return m;
        }
    }
    return NULL;
}

static bool has_member_rows(const rv__service *s, const char *path)
{
    size_t len = strlen(path);
    for (const rv__mapping *m = s->map; m->parameter; m++) {
        if (strncmp(m->parameter, path, len) == 0 && m->parameter[len] == '.')
            return true;
    }
    return false;
}

static bool is_default(const rv__field *f, const rv__value *v)
{
    rv__buf b;
    rv__buf_init(&b, 1 << 16);
    rv__json_write_value(&b, v);
    char *text = rv__buf_take(&b, NULL);
    bool same = text && f && f->preset && strcmp(text, f->preset) == 0;
    rv__free(text);
    return same;
}

/* What is looked at: its place in the rows ("lora.weight") and in the task ("lora[0].weight"). */
typedef struct place {
    const char *row, *name;
} place;

enum { PLACE_MAX = 160 };

static rv_status check_value(const rv__service *s, const rv__field *f, const rv__value *v, place at,
                             rv_error *err);

static rv_status check_members(const rv__service *s, const rv__field *fields,
                               const rv__value *object, place at, rv_error *err)
{
    char row[PLACE_MAX], name[PLACE_MAX];
    for (const rv__value *v = rv__json_first(object); v; v = rv__json_next(v)) {
        const char *dot = *at.row ? "." : "", *key = rv__json_key(v);
        snprintf(row, sizeof row, "%.100s%s%.50s", at.row, dot, key);
        snprintf(name, sizeof name, "%.100s%s%.50s", at.name, dot, key);
        rv_status status =
            check_value(s, rv__field_find(fields, key), v, (place){row, name}, err);
        if (status != RV_OK)
            return status;
    }
    return RV_OK;
}

static rv_status check_list(const rv__service *s, const rv__field *f, const rv__value *list,
                            place at, rv_error *err)
{
    char name[PLACE_MAX];
    unsigned i = 0;
    rv_status status = RV_OK;
    for (const rv__value *v = rv__json_first(list); v && status == RV_OK; v = rv__json_next(v)) {
        snprintf(name, sizeof name, "%.100s[%u]", at.name, i++);
        status = check_members(s, f->fields, v, (place){at.row, name}, err);
    }
    return status;
}

static rv_status check_value(const rv__service *s, const rv__field *f, const rv__value *v, place at,
                             rv_error *err)
{
    bool has_row = rv__service_row(s, at.row), has_members = f && f->fields;
    if (has_row && !(has_members && has_member_rows(s, at.row)))
        return RV_OK;
    if (has_members && rv__json_is_object(v)) /* without a row it is refused by what it asks for */
        return check_members(s, f->fields, v, at, err);
    if (has_row && has_members)
        return check_list(s, f, v, at, err);
    bool is_empty = rv__json_is_array(v) && !rv__json_first(v);
    if (is_empty || is_default(f, v))
        return RV_OK;
    return rv__fail_code(err, RV_UNSUPPORTED, "unsupportedParameter", at.name,
                         "%s has no parameter for %s; leave it out, or use another executor",
                         s->label, at.name);
}

rv_status rv__service_check(const rv__service *s, const rv_task *t, const rv__value *route,
                            rv_error *err)
{
    rv_status status = s->takes_all ? RV_OK
                                    : check_members(s, rv__task_model(t)->fields,
                                                    rv__task_value(t), (place){"", ""}, err);
    return status == RV_OK && s->check ? s->check(t, route, err) : status;
}

static void write_name(rv__buf *b, const char *name)
{
    rv__buf_addf(b, "%s\"%s\":", b->len > 1 ? "," : "", name);
}

void rv__errand_member(rv__buf *b, const rv__errand *e, const char *parameter, const char *name)
{
    const rv__value *v = rv__json_get(e->value, parameter);
    if (!v)
        return;
    write_name(b, name);
    rv__json_write_value(b, v);
}

static void write_member(rv__buf *b, const rv__errand *e, const rv__mapping *m)
{
    const rv__value *v = rv__json_get(e->value, m->parameter);
    bool is_model = strcmp(m->parameter, "model") == 0;
    if (is_model || strcmp(m->parameter, "positivePrompt") == 0) {
        write_name(b, m->sent_as);
        rv__json_write_string(b, is_model ? e->model : rv__task_prompt(e->task));
    } else if (strcmp(m->parameter, "numberResults") == 0) {
        write_name(b, m->sent_as);
        rv__buf_addf(b, "%zu", e->wanted);
    } else if (!rv__json_is_object(v) && !rv__json_is_array(v)) {
        rv__errand_member(b, e, m->parameter, m->sent_as);
    }
}

void rv__errand_members(rv__buf *b, const rv__errand *e)
{
    rv__buf_adds(b, "{");
    for (const rv__mapping *m = e->service->map; m->parameter; m++) {
        if (m->sent_as && !m->how && !strchr(m->sent_as, '.'))
            write_member(b, e, m);
    }
}

static void write_cell(rv__buf *b, const rv__service *s, const char *path)
{
    const rv__mapping *m = rv__service_row(s, path);
    if (s->takes_all && !m)
        rv__buf_addf(b, " `%s` |", path);
    else if (!m)
        rv__buf_adds(b, " refused |");
    else if (!m->sent_as)
        rv__buf_addf(b, " %s |", m->how);
    else
        rv__buf_addf(b, " `%s`%s%s |", m->sent_as, m->how ? ", " : "", m->how ? m->how : "");
}

static void write_row(rv__buf *b, const char *path)
{
    rv__buf_addf(b, "| `%s` |", path);
    for (size_t i = 0; rv__service_at(i); i++)
        write_cell(b, services[i], path);
    rv__buf_adds(b, "\n");
}

/* Members of the parameters that HiDream has. */
static void write_member_rows(rv__buf *b, const rv__field *f)
{
    char path[PLACE_MAX];
    for (const rv__field *m = f->fields; m && m->name && (f->families & RV__HIDREAM); m++) {
        snprintf(path, sizeof path, "%s.%s", f->name, m->name);
        if (m->families & RV__HIDREAM)
            write_row(b, path);
    }
}

char *rv__services_page(void)
{
    rv__buf b;
    rv__buf_init(&b, PAGE_MAX);
    rv__buf_adds(&b, "# What services take\n\nGenerated from the code (`reverie schema "
                     "--services`). A parameter that "
                     "a service refuses is refused by name\nbefore anything is sent, unless it has "
                     "its default.\n\n"
                     "| parameter |");
    for (size_t i = 0; i < sizeof services / sizeof *services; i++)
        rv__buf_addf(&b, " %s |", services[i]->name);
    rv__buf_adds(&b, "\n|---|");
    for (size_t i = 0; i < sizeof services / sizeof *services; i++)
        rv__buf_adds(&b, "---|");
    rv__buf_adds(&b, "\n");
    for (const rv__field *f = rv__table; f->name; f++) {
        bool is_twin = f > rv__table && strcmp(f[-1].name, f->name) == 0;
        if (is_twin || f->legacy)
            continue;
        write_row(&b, f->name);
        write_member_rows(&b, f);
    }
    return rv__buf_take(&b, NULL);
}

/* ---- the executor ---- */

/* Answers are read and pictures decoded on the thread of their errand.  One does for most; the others
 * are started when those that run have their hands full, and stay. */
enum { THREADS = 4, CROWD = 4 /* transfers of a thread that are no reason for another one */ };

typedef struct client {
    rv__errand_options with[THREADS]; /* the same but for the thread; io NULL: not started */
    pthread_mutex_t lock;
    int count, most;
    char *ca_file;
} client;

/* The thread with the least to do. */
static rv__errand_options *choose(client *c)
{
    rv__errand_options *best = NULL;
    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < c->count; i++) {
        if (!best || rv__io_load(c->with[i].io) < rv__io_load(best->io))
            best = &c->with[i];
    }
    bool is_crowded = rv__io_load(best->io) >= CROWD && c->count < c->most;
    if (is_crowded && rv__io_open(&c->with[c->count].io, NULL) == RV_OK)
        best = &c->with[c->count++];
    pthread_mutex_unlock(&c->lock);
    return best;
}

static rv_status start(void *self, const rv_task *t, rv__port *port, rv_error *err)
{
    return rv__errand_start(choose(self), t, port, err);
}

static void cancel(void *self, rv__port *port)
{
    client *c = self;
    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < c->count; i++)
        rv__io_wake(c->with[i].io);
    pthread_mutex_unlock(&c->lock);
}

static void close_client(void *self)
{
    client *c = self;
    for (int i = 0; i < c->count; i++)
        rv__io_close(c->with[i].io);
    rv__breakers_free(c->with[0].breakers);
    pthread_mutex_destroy(&c->lock);
    rv__free(c->ca_file);
    rv__free(c);
}

rv_status rv__services_open(const rv__executor_options *o, const rv__guard *guard,
                            const rv__executor **executor, void **self, rv_error *err)
{
    static const rv__executor table = {
        .name = "services", .start = start, .cancel = cancel, .close = close_client};
    client *c = rv__calloc(1, sizeof *c);
    if (!c || pthread_mutex_init(&c->lock, NULL) != 0) {
        rv__free(c);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    c->most = processors < 1 ? 1 : processors > THREADS ? THREADS : (int)processors;
    c->ca_file = o->ca_file ? rv__strdup(o->ca_file) : NULL;
    rv__breakers *breakers = rv__breakers_new();
    for (int i = 0; i < THREADS; i++)
        c->with[i] = (rv__errand_options){.guard = guard,
                                          .ca_file = c->ca_file,
                                          .breakers = breakers,
                                          .silence_s = o->silence_s,
                                          .connect_ms = o->connect_ms,
                                          .pause_ms = o->pause_ms};
    rv_status s = !breakers || (o->ca_file && !c->ca_file)
                      ? rv__fail(err, RV_MEMORY, "out of memory")
                      : rv__io_open(&c->with[0].io, err);
    c->count = s == RV_OK;
    if (s != RV_OK) {
        close_client(c);
        return s;
    }
    *executor = &table;
    *self = c;
    return RV_OK;
}
