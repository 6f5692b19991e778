/* Reading model cards and finding models.  Cards come from the operator: mistakes in them are told
 * with file and member, and a wrong card never half counts. */
#include "models.h"

#include "base/pool.h"
#include "formats.h"
#include "table.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define MAX_CARD (1 << 20) /* bytes */

typedef struct entry {
    rv__model model; /* first: what the others see */
    rv__value *card;
    char *folder;
    rv__pool pool; /* its table */
    bool replaced; /* by a newer card, or not to be served */
} entry;

struct rv__models {
    atomic_int refs;
    entry **list;
    size_t count, cap;
    rv__pool pool;
    const rv__field *generic;
};

/* ---- life -------------------------------------------------------------------------------- */

rv__models *rv__models_new(void)
{
    rv__models *m = rv__calloc(1, sizeof *m);
    if (!m)
        return NULL;
    atomic_init(&m->refs, 1);
    if (rv__fields_for(&m->pool, RV__GENERIC, NULL, NULL, &m->generic, NULL) == RV_OK)
        return m;
    rv__models_free(m);
    return NULL;
}

rv__models *rv__models_ref(const rv__models *models)
{
    rv__models *m = (rv__models *)models; /* counting is no change that readers see */
    atomic_fetch_add(&m->refs, 1);
    return m;
}

static void free_entry(entry *e)
{
    if (!e)
        return;
    rv__json_free(e->card);
    rv__free(e->folder);
    rv__pool_free(&e->pool);
    rv__free(e);
}

void rv__models_free(rv__models *m)
{
    if (!m || atomic_fetch_sub(&m->refs, 1) != 1)
        return;
    for (size_t i = 0; i < m->count; i++)
        free_entry(m->list[i]);
    rv__free(m->list);
    rv__pool_free(&m->pool);
    rv__free(m);
}

/* ---- checking a card --------------------------------------------------------------------- */

static bool all_texts(const rv__value *list)
{
    if (!rv__json_is_array(list))
        return false;
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v)) {
        if (!rv__json_string(v) || !*rv__json_string(v))
            return false;
    }
    return true;
}

static bool all_prices(const rv__value *price)
{
    double d;
    for (const rv__value *v = rv__json_first(price); v; v = rv__json_next(v)) {
        const char *key = rv__json_key(v);
        if (!rv__json_number(v, &d) || d < 0 ||
            (strcmp(key, "base") && strcmp(key, "perStep") && strcmp(key, "perMegapixel")))
            return false;
    }
    return rv__json_is_object(price);
}

static bool all_executors(const rv__value *list)
{
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v)) {
        if (!rv__json_string(rv__json_get(v, "name")))
            return false;
    }
    return rv__json_is_array(list);
}

/* What a member of a card must be, or NULL when it is that. */
static const char *member_wrong(const rv__value *v)
{
    const char *key = rv__json_key(v), *text = rv__json_string(v);
    if (strncmp(key, "x-", 2) == 0)
        return NULL;
    if (strcmp(key, "id") == 0)
        return text && rv__air_valid(text) ? NULL : "must be an identifier like runware:97@3";
    if (strcmp(key, "name") == 0)
        return text && *text ? NULL : "must be a text";
    if (strcmp(key, "description") == 0 || strcmp(key, "licence") == 0 ||
        strcmp(key, "provenance") == 0)
        return text ? NULL : "must be a text";
    if (strcmp(key, "documentation") == 0)
        return text && rv__url_valid(text) ? NULL : "must be a URL";
    if (strcmp(key, "family") == 0)
        return text && (!strcmp(text, "hidream") || !strcmp(text, "generic"))
                   ? NULL
                   : "must be hidream or generic";
    if (strcmp(key, "aliases") == 0 || strcmp(key, "extensions") == 0)
        return all_texts(v) ? NULL : "must be a list of texts";
    if (strcmp(key, "price") == 0)
        return all_prices(v) ? NULL : "must have base, perStep or perMegapixel, numbers from 0";
    if (strcmp(key, "executors") == 0)
        return all_executors(v) ? NULL : "must be a list of objects with a name";
    if (strcmp(key, "parameters") == 0 || strcmp(key, "engine") == 0)
        return rv__json_is_object(v) ? NULL : "must be an object";
    return "is not a member of a model card";
}

static rv_status check_card(const rv__value *card, rv_error *err)
{
    if (!rv__json_is_object(card))
        return rv__fail(err, RV_FORMAT, "a model card must be an object");
    const char *twice = rv__json_duplicate(card);
    if (twice)
        return rv__fail(err, RV_FORMAT, "%s is there twice", twice);
    for (const rv__value *v = rv__json_first(card); v; v = rv__json_next(v)) {
        const char *wrong = member_wrong(v);
        if (wrong)
            return rv__fail(err, RV_FORMAT, "%s %s", rv__json_key(v), wrong);
    }
    if (!rv__json_get(card, "id") || !rv__json_get(card, "name"))
        return rv__fail(err, RV_FORMAT, "id and name are required");
    return RV_OK;
}

/* ---- adding ------------------------------------------------------------------------------ */

static rv_status put(rv__models *m, entry *e, rv_error *err)
{
    if (m->count == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 8;
        entry **list = rv__realloc(m->list, cap * sizeof *list);
        if (!list)
            return rv__fail(err, RV_MEMORY, "out of memory");
        m->list = list;
        m->cap = cap;
    }
    for (size_t i = 0; i < m->count; i++) { /* older batches may still use the older one */
        if (strcmp(m->list[i]->model.id, e->model.id) == 0)
            m->list[i]->replaced = true;
    }
    m->list[m->count++] = e;
    return RV_OK;
}

static rv_status fill(entry *e, const char *folder, rv_error *err)
{
    rv_status s = check_card(e->card, err);
    if (s != RV_OK)
        return s;
    e->folder = rv__strdup(folder);
    if (!e->folder)
        return rv__fail(err, RV_MEMORY, "out of memory");
    e->model = (rv__model){
        .id = rv__json_get_string(e->card, "id", ""),
        .name = rv__json_get_string(e->card, "name", ""),
        .card = e->card,
        .engine = rv__json_get(e->card, "engine"),
        .folder = e->folder,
    };
    bool generic = strcmp(rv__json_get_string(e->card, "family", "hidream"), "generic") == 0;
    return rv__fields_for(&e->pool, generic ? RV__GENERIC : RV__HIDREAM,
                          rv__json_get(e->card, "extensions"), rv__json_get(e->card, "parameters"),
                          &e->model.fields, err);
}

rv_status rv__models_add_json(rv__models *m, const char *json, size_t len, const char *folder,
                              rv_error *err)
{
    rv__json_error wrong = {0};
    entry *e = rv__calloc(1, sizeof *e);
    if (!e)
        return rv__fail(err, RV_MEMORY, "out of memory");
    e->card = rv__json_parse(json, len, &wrong);
    rv_status s = RV_OK;
    if (!e->card)
        s = rv__fail(err, wrong.message == rv__json_no_memory ? RV_MEMORY : RV_FORMAT,
                     "byte %zu: %s", wrong.offset, wrong.message);
    if (s == RV_OK)
        s = fill(e, folder, err);
    if (s == RV_OK)
        s = put(m, e, err);
    if (s != RV_OK)
        free_entry(e);
    return s;
}

/* Puts the file's name in front of what went wrong in it. */
static rv_status name_file(rv_error *err, rv_status s, const char *path)
{
    if (s == RV_OK || !err)
        return s;
    rv_error inner = *err;
    return rv__fail(err, s, "%s: %s", path, inner.message);
}

static rv_status read_file(const char *path, char **text, size_t *len, rv_error *err)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return rv__fail(err, errno == ENOENT ? RV_NOT_FOUND : RV_IO, "cannot be opened");
    *text = rv__alloc(MAX_CARD + 1);
    *len = *text ? fread(*text, 1, MAX_CARD + 1, f) : 0;
    bool bad = ferror(f);
    fclose(f);
    if (*text && !bad && *len <= MAX_CARD)
        return RV_OK;
    rv_status s = !*text ? rv__fail(err, RV_MEMORY, "out of memory")
                  : bad  ? rv__fail(err, RV_IO, "cannot be read")
                         : rv__fail(err, RV_FORMAT, "is too large for a model card");
    rv__free(*text);
    return s;
}

/* The absolute folder part of a path (out; rv__free), so that a later chdir does no harm. */
static char *folder_of(const char *path)
{
    char *real = realpath(path, NULL);
    char *slash = real ? strrchr(real, '/') : NULL;
    char *folder = slash ? rv__strndup(real, slash == real ? 1 : (size_t)(slash - real)) : NULL;
    free(real);
    return folder;
}

static rv_status add_file(rv__models *m, const char *path, rv_error *err)
{
    char *text = NULL, *folder = NULL;
    size_t len = 0;
    rv_status s = read_file(path, &text, &len, err);
    if (s == RV_OK) {
        folder = folder_of(path);
        s = folder ? rv__models_add_json(m, text, len, folder, err)
                   : rv__fail(err, RV_MEMORY, "out of memory");
        rv__free(text);
        rv__free(folder);
    }
    return name_file(err, s, path);
}

static int is_card(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return d->d_name[0] != '.' && n > 5 && strcmp(d->d_name + n - 5, ".json") == 0;
}

static rv_status add_folder(rv__models *m, const char *path, rv_error *err)
{
    struct dirent **names = NULL;
    int n = scandir(path, &names, is_card, alphasort);
    rv_status s = n < 0 ? rv__fail(err, RV_IO, "%s: cannot be read", path) : RV_OK;
    for (int i = 0; i < n; i++) {
        char *file = s == RV_OK ? rv__format("%s/%s", path, names[i]->d_name) : NULL;
        if (s == RV_OK)
            s = file ? add_file(m, file, err) : rv__fail(err, RV_MEMORY, "out of memory");
        rv__free(file);
        free(names[i]);
    }
    free(names);
    return s;
}

/* ---- weights without a card -------------------------------------------------------------- */

static bool contains(const char *text, const char *word)
{
    return strcasestr(text, word) != NULL;
}

/* Which of the three models a name means; NULL when it does not tell. */
static const char *variant_of_name(const char *name)
{
    if (!contains(name, "hidream"))
        return NULL;
    return contains(name, "fast")   ? "runware:97@3"
           : contains(name, "dev")  ? "runware:97@2"
           : contains(name, "full") ? "runware:97@1"
                                    : NULL;
}

/* The same by the scheduler's settings: UniPC is Full, a shift of 6 is Dev, 3 is Fast. */
static const char *variant_of_folder(const char *path)
{
    char *file = rv__format("%s/scheduler/scheduler_config.json", path), *text = NULL;
    size_t len = 0;
    const char *id = NULL;
    if (file && read_file(file, &text, &len, NULL) == RV_OK) {
        rv__value *v = rv__json_parse(text, len, NULL);
        double shift = rv__json_get_number(v, "shift", 0);
        if (contains(rv__json_get_string(v, "_class_name", ""), "UniPC"))
            id = "runware:97@1";
        else if (shift == 6 || shift == 3)
            id = shift == 6 ? "runware:97@2" : "runware:97@3";
        rv__json_free(v);
        rv__free(text);
    }
    rv__free(file);
    return id;
}

/* The name of a weights file or folder as a model name: word characters only. */
static void short_name(const char *path, char *out, size_t size)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t from = end;
    while (from && path[from - 1] != '/')
        from--;
    if (end - from > 5 && strcmp(path + end - 5, ".gguf") == 0)
        end -= 5;
    size_t n = 0;
    for (; from < end && n + 1 < size; from++) {
        char c = path[from];
        bool word =
            (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.';
        out[n++] = word ? c : '-';
    }
    out[n] = '\0';
}

static void write_member(rv__buf *b, const char *name, const char *text)
{
    rv__buf_addf(b, ",\"%s\":", name);
    rv__json_write_string(b, text);
}

/* A copy of a known model's card with other weights. */
static void write_copy(rv__buf *b, const rv__value *card)
{
    for (const rv__value *v = rv__json_first(card); v; v = rv__json_next(v)) {
        if (strcmp(rv__json_key(v), "id") == 0 || strcmp(rv__json_key(v), "engine") == 0)
            continue;
        rv__buf_addf(b, ",\"%s\":", rv__json_key(v));
        rv__json_write_value(b, v);
    }
}

static void write_engine(rv__buf *b, const rv__value *engine, const char *weights)
{
    rv__buf_adds(b, ",\"engine\":{\"weights\":");
    rv__json_write_string(b, weights);
    for (const rv__value *v = rv__json_first(engine); v; v = rv__json_next(v)) {
        if (strcmp(rv__json_key(v), "weights") == 0)
            continue;
        rv__buf_addf(b, ",\"%s\":", rv__json_key(v));
        rv__json_write_value(b, v);
    }
    rv__buf_adds(b, "}}");
}

/* What our engine does beyond the service's own description of these models. */
#define ENGINE_EXTENSIONS                                                                          \
    "[\"seedImage\",\"maskImage\",\"maskMargin\",\"strength\",\"outpaint\",\"promptWeighting\"]"

/* A card for weights: that of the model they are, if its card is known, else a plain one. */
static rv_status add_weights(rv__models *m, const char *path, bool folder, rv_error *err)
{
    char name[128], *real = realpath(path, NULL);
    if (!real)
        return rv__fail(err, RV_NOT_FOUND, "%s: cannot be opened", path);
    short_name(real, name, sizeof name);
    const char *id = folder ? variant_of_folder(real) : NULL;
    id = id ? id : variant_of_name(name);
    const rv__model *known = id ? rv__models_find(m, id) : NULL;
    rv__buf b;
    rv__buf_init(&b, MAX_CARD);
    if (known)
        rv__buf_addf(&b, "{\"id\":\"%s\"", known->id);
    else
        rv__buf_addf(&b, "{\"id\":\"local:%s@1\"", name);
    if (known)
        write_copy(&b, known->card);
    else
        write_member(&b, "name", name);
    if (!known || !rv__json_get(known->card, "extensions"))
        rv__buf_adds(&b, ",\"extensions\":" ENGINE_EXTENSIONS);
    write_engine(&b, known ? known->engine : NULL, real);
    rv_status s = b.failed ? rv__fail(err, RV_MEMORY, "out of memory")
                           : rv__models_add_json(m, b.data, b.len, "/", err);
    rv__buf_free(&b);
    free(real);
    return name_file(err, s, path);
}

static bool has_weights(const char *path)
{
    struct stat st;
    static const char *const marks[] = {"model_index.json", "transformer", "diffusion_models",
                                        "unet"};
    bool yes = false;
    for (size_t i = 0; i < sizeof marks / sizeof *marks && !yes; i++) {
        char *mark = rv__format("%s/%s", path, marks[i]);
        yes = mark && stat(mark, &st) == 0;
        rv__free(mark);
    }
    return yes;
}

rv_status rv__models_add(rv__models *m, const char *path, rv_error *err)
{
    struct stat st;
    size_t n = strlen(path);
    if (stat(path, &st) != 0)
        return rv__fail(err, errno == ENOENT ? RV_NOT_FOUND : RV_IO, "%s: cannot be opened", path);
    if (S_ISDIR(st.st_mode))
        return has_weights(path) ? add_weights(m, path, true, err) : add_folder(m, path, err);
    if (n > 5 && strcmp(path + n - 5, ".gguf") == 0)
        return add_weights(m, path, false, err);
    return add_file(m, path, err);
}

/* ---- finding ----------------------------------------------------------------------------- */

static bool has_alias(const rv__model *model, const char *id)
{
    for (const rv__value *v = rv__json_first(rv__json_get(model->card, "aliases")); v;
         v = rv__json_next(v)) {
        if (strcmp(rv__json_string(v), id) == 0)
            return true;
    }
    return false;
}

/* An id beats an alias; among aliases the newest card wins. */
const rv__model *rv__models_find(const rv__models *m, const char *id)
{
    const rv__model *found = NULL;
    for (size_t i = m->count; i-- > 0;) {
        const entry *e = m->list[i];
        if (e->replaced)
            continue;
        if (strcmp(e->model.id, id) == 0)
            return &e->model;
        if (!found && has_alias(&e->model, id))
            found = &e->model;
    }
    return found;
}

/* Whether text matches a pattern of len characters in which * stands for any characters. */
static bool matches(const char *pattern, size_t len, const char *text)
{
    const char *end = pattern + len, *star = NULL, *retry = NULL;
    while (*text) {
        if (pattern < end && *pattern == '*') {
            star = ++pattern;
            retry = text;
        } else if (pattern < end && *pattern == *text) {
            pattern++;
            text++;
        } else if (star) { /* let the last star swallow one character more */
            pattern = star;
            text = ++retry;
        } else {
            return false;
        }
    }
    while (pattern < end && *pattern == '*')
        pattern++;
    return pattern == end;
}

static bool has_match(const rv__model *model, const char *pattern, size_t len)
{
    if (matches(pattern, len, model->id))
        return true;
    for (const rv__value *v = rv__json_first(rv__json_get(model->card, "aliases")); v;
         v = rv__json_next(v)) {
        if (matches(pattern, len, rv__json_string(v)))
            return true;
    }
    return false;
}

void rv__models_keep(rv__models *m, const char *patterns)
{
    for (size_t i = 0; i < m->count; i++) {
        bool is_kept = false;
        for (const char *p = patterns; *p && !is_kept;) {
            size_t len = strcspn(p, " ");
            is_kept = len > 0 && has_match(&m->list[i]->model, p, len);
            p += len + (p[len] == ' ');
        }
        if (!is_kept)
            m->list[i]->replaced = true;
    }
}

static void nearer(const char *id, const char *candidate, size_t *smallest, const char **best)
{
    size_t d = rv__text_distance(id, candidate, *smallest);
    if (d < *smallest) {
        *smallest = d;
        *best = candidate;
    }
}

const char *rv__models_guess(const rv__models *m, const char *id)
{
    size_t smallest = strchr(id, ':') ? 2 : 3; /* one digit makes another AIR id */
    const char *best = NULL;
    for (size_t i = 0; i < m->count; i++) {
        const entry *e = m->list[i];
        if (e->replaced)
            continue;
        nearer(id, e->model.id, &smallest, &best);
        for (const rv__value *v = rv__json_first(rv__json_get(e->card, "aliases")); v;
             v = rv__json_next(v))
            nearer(id, rv__json_string(v), &smallest, &best);
    }
    return best;
}

size_t rv__models_count(const rv__models *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->count; i++)
        n += !m->list[i]->replaced;
    return n;
}

const rv__model *rv__models_at(const rv__models *m, size_t i)
{
    for (size_t k = 0; k < m->count; k++) {
        if (!m->list[k]->replaced && i-- == 0)
            return &m->list[k]->model;
    }
    return NULL;
}

const rv__field *rv__models_generic(const rv__models *m)
{
    return m->generic;
}

static char *path_of_card(const rv__model *m, const char *path)
{
    return path[0] == '/' ? rv__strdup(path) : rv__format("%s/%s", m->folder, path);
}

/* The object of paths of a card, as text, each path from the card's place. */
static char *parts_of_card(const rv__model *m, const rv__value *parts)
{
    rv__buf b;
    rv__buf_init(&b, MAX_CARD * 2);
    rv__buf_adds(&b, "{");
    for (const rv__value *v = rv__json_first(parts); v; v = rv__json_next(v)) {
        const char *path = rv__json_string(v);
        char *full = path && *path ? path_of_card(m, path) : rv__strdup("");
        if (v != rv__json_first(parts))
            rv__buf_adds(&b, ",");
        rv__json_write_string(&b, rv__json_key(v));
        rv__buf_adds(&b, ":");
        if (full)
            rv__json_write_string(&b, full);
        else
            b.failed = true;
        rv__free(full);
    }
    rv__buf_adds(&b, "}");
    return rv__buf_take(&b, NULL);
}

char *rv__model_weights(const rv__model *m)
{
    const rv__value *weights = rv__json_get(m->engine, "weights");
    const char *path = rv__json_string(weights);
    if (rv__json_is_object(weights))
        return parts_of_card(m, weights);
    return path && *path ? path_of_card(m, path) : NULL;
}
