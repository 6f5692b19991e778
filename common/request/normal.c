/* Writing the normalised task.  Only called for tasks without errors, so every value is good. */
#include "normal.h"

#include "rules.h"

#include <stdio.h>
#include <string.h>

typedef struct writer {
    rv__buf *b;
    const rv__node *task;
    const char *model;
    uint64_t seed;
    bool caches_off; /* the scheduler leaves no cache any use */
} writer;

static void write_name(writer *w, const char *name, bool *first)
{
    rv__buf_adds(w->b, *first ? "\"" : ",\"");
    rv__buf_adds(w->b, name);
    rv__buf_adds(w->b, "\":");
    *first = false;
}

static void write_object(writer *w, const rv__node *n);

static void write_texts(writer *w, const rv__value *list)
{
    const char *before = "[";
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v), before = ",") {
        rv__buf_adds(w->b, before);
        rv__json_write_string(w->b, rv__json_string(v));
    }
    rv__buf_adds(w->b, *before == '[' ? "[]" : "]");
}

static void write_list(writer *w, const rv__slot *s)
{
    rv__buf_adds(w->b, "[");
    for (size_t i = 0; i < s->count; i++) {
        if (i)
            rv__buf_adds(w->b, ",");
        write_object(w, &s->nodes[i]);
    }
    rv__buf_adds(w->b, "]");
}

static void write_given(writer *w, const rv__field *f, const rv__slot *s)
{
    int64_t i = 0;
    uint64_t u = 0;
    double d = 0;
    bool b = false;
    switch (f->type) {
    case RV__BOOL:
        rv__json_bool(s->value, &b);
        rv__buf_adds(w->b, b ? "true" : "false");
        break;
    case RV__INT:
        rv__json_int(s->value, &i);
        rv__json_write_int(w->b, i);
        break;
    case RV__UINT:
        rv__json_uint(s->value, &u);
        rv__json_write_uint(w->b, u);
        break;
    case RV__FLOAT:
        rv__json_number(s->value, &d);
        rv__json_write_double(w->b, d == 0 ? 0 : d); /* no negative zero */
        break;
    case RV__TEXT:
        rv__json_write_string(w->b, f->words
                                        ? rv__word_find(f->words, rv__json_string(s->value))->word
                                        : rv__json_string(s->value));
        break;
    case RV__TEXTS:
        write_texts(w, s->value);
        break;
    case RV__OBJECT:
        write_object(w, s->nodes);
        break;
    case RV__LIST:
        write_list(w, s);
        break;
    }
}

/* An explicit mode wins over checkContent, and both over the old top-level checkNSFW. */
static void write_safety(writer *w, const rv__node *task, bool *first)
{
    char room[16];
    bool given = rv__node_given(task, "safety");
    bool check =
        given ? rv__node_true(task, "safety.checkContent") : rv__node_true(task, "checkNSFW");
    if (!given && !check)
        return;
    const char *mode = check ? "fast" : "none";
    if (rv__node_given(task, "safety.mode"))
        mode = rv__node_text(task, "safety.mode", room, sizeof room);
    write_name(w, "safety", first);
    rv__buf_addf(w->b, "{\"checkContent\":%s,\"mode\":\"%s\"}",
                 strcmp(mode, "none") == 0 ? "false" : "true", mode);
}

/* What one parameter means beyond its row.  True when it has been written (or must not be). */
static bool write_special(writer *w, const rv__node *n, const rv__field *f, const rv__slot *s,
                          bool *first)
{
    if (w->caches_off && f->type == RV__BOOL && n != w->task && strstr(f->name, "Cache")) {
        write_name(w, f->name, first);
        rv__buf_adds(w->b, "false");
        return true;
    }
    if (n != w->task)
        return false;
    if (strcmp(f->name, "safety") == 0) {
        write_safety(w, n, first);
        return true;
    }
    if (strcmp(f->name, "seed") == 0 && !s->value) {
        write_name(w, f->name, first);
        rv__json_write_uint(w->b, w->seed);
        return true;
    }
    if (strcmp(f->name, "model") == 0 && w->model) {
        write_name(w, f->name, first);
        rv__json_write_string(w->b, w->model);
        return true;
    }
    return f->legacy;
}

static void write_object(writer *w, const rv__node *n)
{
    bool first = true;
    rv__buf_adds(w->b, "{");
    for (const rv__field *f = n->fields; f->name; f++) {
        const rv__slot *s = &n->slots[f - n->fields];
        if (write_special(w, n, f, s, &first))
            continue;
        if (!s->value && !f->preset)
            continue;
        write_name(w, f->name, &first);
        if (s->value)
            write_given(w, f, s);
        else
            rv__buf_adds(w->b, f->preset);
    }
    rv__buf_adds(w->b, "}");
}

void rv__normal_write(rv__buf *b, const rv__node *task, const char *model, uint64_t seed)
{
    char room[64];
    const char *scheduler = rv__node_text(task, "scheduler", room, sizeof room);
    writer w = {.b = b,
                .task = task,
                .model = model,
                .seed = seed,
                .caches_off = scheduler && rv__scheduler_is_stochastic(scheduler)};
    write_object(&w, task);
}
