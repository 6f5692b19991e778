/* Building the normalised task.  Only called for tasks without errors, so every value is good. */
#include "normal.h"

#include "rules.h"

#include <string.h>

typedef struct writer {
    const rv__node *task;
    const char *model;
    uint64_t seed;
    bool caches_off; /* the scheduler leaves no cache any use */
} writer;

static bool add_object(writer *w, rv__value *to, const char *name, const rv__node *n);

static bool add_texts(rv__value *to, const char *name, const rv__value *list)
{
    rv__value *copy = rv__json_add_array(to, name);
    for (const rv__value *v = rv__json_first(list); copy && v; v = rv__json_next(v)) {
        if (!rv__json_add_text(copy, NULL, rv__json_string(v)))
            return false;
    }
    return copy;
}

static bool add_list(writer *w, rv__value *to, const char *name, const rv__slot *s)
{
    rv__value *list = rv__json_add_array(to, name);
    for (size_t i = 0; list && i < s->count; i++) {
        if (!add_object(w, list, NULL, &s->nodes[i]))
            return false;
    }
    return list;
}

static bool add_given(writer *w, rv__value *to, const rv__field *f, const rv__slot *s)
{
    int64_t i = 0;
    uint64_t u = 0;
    double d = 0;
    bool b = false;
    const char *text = rv__json_string(s->value);
    switch (f->type) {
    case RV__BOOL:
        return rv__json_bool(s->value, &b) && rv__json_add_bool(to, f->name, b);
    case RV__INT:
        return rv__json_int(s->value, &i) && rv__json_add_int(to, f->name, i);
    case RV__UINT:
        return rv__json_uint(s->value, &u) && rv__json_add_uint(to, f->name, u);
    case RV__FLOAT: /* no negative zero */
        return rv__json_number(s->value, &d) && rv__json_add_double(to, f->name, d == 0 ? 0 : d);
    case RV__TEXT:
        return rv__json_add_text(to, f->name, f->words ? rv__word_find(f->words, text)->word : text);
    case RV__TEXTS:
        return add_texts(to, f->name, s->value);
    case RV__OBJECT:
        return add_object(w, to, f->name, s->nodes);
    case RV__LIST:
        return add_list(w, to, f->name, s);
    }
    return false;
}

/* An explicit mode wins over checkContent, and both over the old top-level checkNSFW. */
static bool add_safety(const rv__node *task, rv__value *to)
{
    char room[16];
    bool given = rv__node_given(task, "safety");
    bool check =
        given ? rv__node_true(task, "safety.checkContent") : rv__node_true(task, "checkNSFW");
    if (!given && !check)
        return true;
    const char *mode = check ? "fast" : "none";
    if (rv__node_given(task, "safety.mode"))
        mode = rv__node_text(task, "safety.mode", room, sizeof room);
    rv__value *safety = rv__json_add_object(to, "safety");
    return safety && rv__json_add_bool(safety, "checkContent", strcmp(mode, "none") != 0) &&
           rv__json_add_text(safety, "mode", mode);
}

static bool add_field(writer *w, rv__value *to, const rv__node *n, const rv__field *f)
{
    const rv__slot *s = &n->slots[f - n->fields];
    bool is_top = n == w->task;
    if (!is_top && w->caches_off && f->type == RV__BOOL && strstr(f->name, "Cache"))
        return rv__json_add_bool(to, f->name, false);
    if (is_top && strcmp(f->name, "safety") == 0)
        return add_safety(n, to);
    if (is_top && strcmp(f->name, "seed") == 0 && !s->value)
        return rv__json_add_uint(to, f->name, w->seed);
    if (is_top && strcmp(f->name, "model") == 0 && w->model)
        return rv__json_add_text(to, f->name, w->model);
    if (is_top && f->legacy)
        return true;
    if (s->value)
        return add_given(w, to, f, s);
    return !f->preset || rv__json_add_scalar(to, f->name, f->preset);
}

static bool add_object(writer *w, rv__value *to, const char *name, const rv__node *n)
{
    rv__value *object = rv__json_add_object(to, name);
    bool ok = object;
    for (const rv__field *f = n->fields; ok && f->name; f++)
        ok = add_field(w, object, n, f);
    return ok;
}

rv__value *rv__normal_task(const rv__node *task, const char *model, uint64_t seed)
{
    char room[64];
    const char *scheduler = rv__node_text(task, "scheduler", room, sizeof room);
    writer w = {.task = task,
                .model = model,
                .seed = seed,
                .caches_off = scheduler && rv__scheduler_is_stochastic(scheduler)};
    rv__value *object = rv__json_new_object();
    bool ok = object;
    for (const rv__field *f = task->fields; ok && f->name; f++)
        ok = add_field(&w, object, task, f);
    if (ok)
        return object;
    rv__json_free(object);
    return NULL;
}
