/* Issues: places, messages, and the two JSON forms (ours with pointers, the service's error
 * object). */
#include "issues.h"

#include "base/utf8.h"
#include "task.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define CLIP 80 /* bytes of a foreign name that a message repeats */

/* ---- places ------------------------------------------------------------------------------ */

const char *rv__clip(rv__pool *pool, const char *text)
{
    size_t n = strnlen(text, CLIP + 1);
    if (n <= CLIP)
        return text;
    return rv__pool_format(pool, "%.*s…", (int)rv__utf8_valid(text, CLIP), text);
}

/* A name as a JSON pointer wants it: ~ and / are escaped. */
static const char *escape(rv__pool *pool, const char *name)
{
    name = rv__clip(pool, name);
    if (!name || !strpbrk(name, "~/"))
        return name;
    char *out = rv__pool_alloc(pool, 2 * strlen(name) + 1), *to = out;
    for (; out && *name; name++) {
        *to++ = *name == '/' ? '~' : *name;
        if (*name == '~' || *name == '/')
            *to++ = *name == '~' ? '0' : '1';
    }
    return out;
}

char *rv__place_pointer(rv__pool *pool, const rv__place *place)
{
    if (!place || !place->up)
        return rv__pool_text(pool, "", 0);
    const char *above = rv__place_pointer(pool, place->up);
    if (!place->name)
        return rv__pool_format(pool, "%s/%zu", above ? above : "", place->index);
    const char *name = escape(pool, place->name);
    return rv__pool_format(pool, "%s/%s", above ? above : "", name ? name : "");
}

char *rv__place_dotted(rv__pool *pool, const rv__place *place)
{
    if (!place || !place->up || place->task)
        return rv__pool_text(pool, "", 0);
    const char *above = rv__place_dotted(pool, place->up);
    above = above ? above : "";
    if (!place->name)
        return rv__pool_format(pool, "%s[%zu]", above, place->index);
    const char *name = rv__clip(pool, place->name);
    return rv__pool_format(pool, "%s%s%s", above, *above ? "." : "", name ? name : "");
}

const char *rv__code_for(rv__pool *pool, const char *prefix, const char *name)
{
    char *code = rv__pool_format(pool, "%s%s", prefix, name);
    if (code) {
        char *first = code + strlen(prefix);
        *first = (char)toupper((unsigned char)*first);
    }
    return code;
}

/* ---- the error object -------------------------------------------------------------------- */

static void write_key(rv__buf *b, const char *name)
{
    rv__buf_add(b, ",\"", 2);
    rv__buf_adds(b, name);
    rv__buf_add(b, "\":", 2);
}

static void write_limit(rv__buf *b, const char *name, double v)
{
    write_key(b, name);
    rv__json_write_double(b, v);
}

static void write_words(rv__buf *b, const rv__word *words)
{
    rv__buf_adds(b, ",\"allowedValues\":[");
    for (const rv__word *w = words; w->word; w++) {
        if (w != words)
            rv__buf_adds(b, ",");
        rv__json_write_string(b, w->word);
    }
    rv__buf_adds(b, "]");
}

/* What the error object says about a field's limits. */
static char *limits_of(rv__pool *pool, const rv__field *f, double max)
{
    rv__buf b;
    rv__buf_init(&b, 65536);
    rv__buf_addf(&b, ",\"type\":\"%s\"", rv__type_word(f->type));
    if (f->type == RV__INT || f->type == RV__FLOAT || f->type == RV__UINT) {
        write_limit(&b, "min", f->min);
        if (f->type == RV__UINT)
            rv__buf_addf(&b, ",\"max\":%llu", (unsigned long long)f->max_uint);
        else if (max != 0 || f->max != 0)
            write_limit(&b, "max", max != 0 ? max : f->max);
        if (f->step != 0)
            write_limit(&b, "multiplier", f->step);
    } else if (f->min_size || f->max_size) {
        write_limit(&b, "min", (double)f->min_size);
        if (f->max_size)
            write_limit(&b, "max", (double)f->max_size);
    }
    if (f->words)
        write_words(&b, f->words);
    char *text = b.failed ? NULL : rv__pool_text(pool, b.data, b.len);
    pool->failed |= b.failed;
    rv__buf_free(&b);
    return text;
}

/* BASE#request-<path>, where the path is in lower case, dots are dashes and places in lists are
 * left out. */
static char *document_of(rv__pool *pool, const char *base, const char *parameter)
{
    char *out = rv__pool_format(pool, "%s#request-%s", base, parameter);
    if (!out)
        return NULL;
    char *to = out + strlen(base) + 9;
    for (const char *from = to; *from; from++) {
        if (*from == '[')
            from += strcspn(from, "]");
        else
            *to++ = *from == '.' ? '-' : (char)tolower((unsigned char)*from);
    }
    *to = '\0';
    return out;
}

/* ---- collecting -------------------------------------------------------------------------- */

/* Room for one more and the end mark. */
static bool make_room(rv__issues *l)
{
    if (l->count + 2 <= l->cap)
        return true;
    size_t cap = l->cap ? l->cap * 2 : 8;
    rv_issue *list = rv__realloc(l->list, cap * sizeof *list);
    if (list)
        l->list = list;
    char **limits = rv__realloc(l->limits, cap * sizeof *limits);
    if (limits)
        l->limits = limits;
    char **documents = rv__realloc(l->documents, cap * sizeof *documents);
    if (documents)
        l->documents = documents;
    if (!list || !limits || !documents) {
        l->pool->failed = true;
        return false;
    }
    l->cap = cap;
    return true;
}

static const char *join(rv__pool *pool, const char **parts, size_t n)
{
    const char *all = n ? parts[0] : NULL;
    for (size_t i = 1; i < n && all; i++)
        all = rv__pool_format(pool, "%s,%s", all, parts[i] ? parts[i] : "");
    return all && *all ? all : NULL;
}

static void add(rv__issues *l, const rv__problem *p, const char *message)
{
    if (!p->warning)
        l->errors++;
    if (l->count > RV__MAX_ISSUES || !make_room(l))
        return;
    bool last = l->count == RV__MAX_ISSUES;
    const char **paths = rv__pool_alloc(l->pool, (p->places + 1) * sizeof *paths);
    for (size_t i = 0; paths && i < p->places; i++)
        paths[i] = p->pointers[i];
    const char *parameter = join(l->pool, p->parameters, p->places);
    bool linked = l->documentation && parameter && (p->field || strcmp(p->rule, "cross") == 0);
    l->limits[l->count] = p->field ? limits_of(l->pool, p->field, p->max) : NULL;
    l->documents[l->count] =
        linked ? document_of(l->pool, l->documentation, p->parameters[0]) : NULL;
    l->list[l->count++] = (rv_issue){
        .task = l->task,
        .paths = paths,
        .parameter = last ? NULL : parameter,
        .code = last ? "invalidRequestBody" : p->code,
        .rule = last ? "length" : p->rule,
        .message = last ? "there are more problems than can be listed" : message,
        .nearest = last ? NULL : p->nearest,
        .task_type = l->task_type,
        .task_uuid = l->task_uuid,
        .warning = p->warning && !last,
    };
    l->list[l->count] = (rv_issue){0};
}

static char *message_of(rv__pool *pool, const char *format, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    size_t n = strlen(text);
    return rv__pool_text(pool, text, n < sizeof text - 1 ? n : rv__utf8_valid(text, n));
}

void rv__issues_add(rv__issues *l, const rv__problem *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *message = message_of(l->pool, format, args);
    va_end(args);
    if (message)
        add(l, p, message);
}

void rv__issues_at(rv__issues *l, const rv__place *place, rv__problem p, const char *format, ...)
{
    const char *pointer = rv__place_pointer(l->pool, place);
    const char *parameter = rv__place_dotted(l->pool, place);
    va_list args;
    va_start(args, format);
    char *message = message_of(l->pool, format, args);
    va_end(args);
    if (!pointer || !parameter || !message)
        return;
    p.pointers = &pointer;
    p.parameters = &parameter;
    p.places = 1;
    add(l, &p, message);
}

void rv__issues_free(rv__issues *l)
{
    rv__free(l->list);
    rv__free(l->limits);
    rv__free(l->documents);
    *l = (rv__issues){0};
}

/* ---- writing ----------------------------------------------------------------------------- */

static void write_member(rv__buf *b, const char *name, const char *text)
{
    if (!text)
        return;
    write_key(b, name);
    rv__json_write_string(b, text);
}

void rv__issue_json(rv__buf *b, const rv__issues *l, const rv_issue *issue)
{
    size_t i = (size_t)(issue - l->list);
    rv__buf_addf(b, "{\"task\":%zu,\"paths\":[", issue->task);
    for (const char *const *path = issue->paths; *path; path++) {
        if (path != issue->paths)
            rv__buf_adds(b, ",");
        rv__json_write_string(b, *path);
    }
    rv__buf_adds(b, "]");
    write_member(b, "parameter", issue->parameter);
    write_member(b, "code", issue->code);
    write_member(b, "rule", issue->rule);
    write_member(b, "message", issue->message);
    if (issue->nearest)
        rv__buf_addf(b, ",\"nearest\":%s", issue->nearest);
    if (l->limits[i])
        rv__buf_adds(b, l->limits[i]);
    write_member(b, "documentation", l->documents[i]);
    write_member(b, "taskType", issue->task_type);
    write_member(b, "taskUUID", issue->task_uuid);
    rv__buf_adds(b, issue->warning ? ",\"warning\":true}" : "}");
}

/* A parameter of several places is an array on the wire. */
static void write_parameter(rv__buf *b, const char *parameter)
{
    if (!parameter)
        return;
    if (!strchr(parameter, ',')) {
        write_member(b, "parameter", parameter);
        return;
    }
    rv__buf_adds(b, ",\"parameter\":[");
    for (const char *at = parameter; *at;) {
        size_t n = strcspn(at, ",");
        if (at != parameter)
            rv__buf_adds(b, ",");
        rv__json_write_text(b, at, n);
        at += n + (at[n] == ',');
    }
    rv__buf_adds(b, "]");
}

void rv__issue_wire(rv__buf *b, const rv__issues *l, const rv_issue *issue)
{
    size_t i = (size_t)(issue - l->list);
    rv__buf_adds(b, "{\"code\":");
    rv__json_write_string(b, issue->code);
    write_member(b, "message", issue->message);
    if (issue->paths[0] && issue->paths[1])
        write_parameter(b, issue->parameter);
    else
        write_member(b, "parameter", issue->parameter);
    if (l->limits[i])
        rv__buf_adds(b, l->limits[i]);
    write_member(b, "documentation", l->documents[i]);
    write_member(b, "taskType", issue->task_type);
    write_member(b, "taskUUID", issue->task_uuid);
    rv__buf_adds(b, "}");
}

rv_status rv__issue_status(const rv_issue *issue)
{
    if (strcmp(issue->code, "modelNotFound") == 0)
        return RV_NOT_FOUND;
    return strcmp(issue->code, "missingApiKey") == 0 ? RV_AUTH : RV_VALIDATION;
}
