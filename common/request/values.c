/* Checking single values: kind, range, step, words, length and form.  Every problem becomes an
 * issue; nothing stops at the first. */
#include "values.h"

#include "base/utf8.h"
#include "formats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

double rv__field_max(const rv__field *f, const rv__check_settings *s)
{
    if (!f->capped)
        return f->max;
    double cap = (double)(s && s->max_steps > 0 ? s->max_steps : RV__MAX_STEPS);
    return f->max != 0 && f->max < cap ? f->max : cap;
}

/* ---- issues of one value ----------------------------------------------------------------- */

typedef struct subject {
    const rv__checker *c;
    const rv__field *f;
    const rv__value *v;
    const rv__place *place;
} subject;

static rv__pool *pool_of(const subject *s)
{
    return s->c->issues->pool;
}

static const char *invalid(const subject *s)
{
    return s->f->code ? s->f->code : rv__code_for(pool_of(s), "invalid", s->f->name);
}

static const char *subject_name(const subject *s)
{
    const char *name = rv__place_dotted(pool_of(s), s->place);
    return name ? name : "";
}

/* Adds an issue about the subject; the sentence is "NAME must WHAT (nearest: VALUE)". */
static bool refuse(const subject *s, const char *rule, const char *code, const char *nearest,
                   const char *what)
{
    rv__problem p = {.code = code,
                     .rule = rule,
                     .field = s->f,
                     .max = s->f->type == RV__INT ? rv__field_max(s->f, s->c->settings) : 0,
                     .nearest = nearest};
    rv__issues_at(s->c->issues, s->place, p, nearest ? "%s must %s (nearest: %s)" : "%s must %s",
                  subject_name(s), what ? what : "be another value", nearest);
    return false;
}

static const char *kind_of(const rv__value *v)
{
    if (rv__json_is_string(v))
        return "a text";
    if (rv__json_is_number(v))
        return "a number";
    if (rv__json_is_bool(v))
        return "true or false";
    if (rv__json_is_null(v))
        return "null";
    return rv__json_is_array(v) ? "a list" : "an object";
}

static bool refuse_kind(const subject *s)
{
    static const char *const wanted[] = {
        [RV__BOOL] = "true or false", [RV__INT] = "an integer",
        [RV__UINT] = "an integer",    [RV__FLOAT] = "a number",
        [RV__TEXT] = "a text",        [RV__TEXTS] = "a list of texts",
        [RV__OBJECT] = "an object",   [RV__LIST] = "a list of objects",
    };
    const char *what =
        rv__pool_format(pool_of(s), "be %s, not %s", wanted[s->f->type], kind_of(s->v));
    return refuse(s, "type", invalid(s), NULL, what);
}

/* ---- numbers ----------------------------------------------------------------------------- */

static const char *number_text(rv__pool *pool, double v)
{
    rv__buf b;
    rv__buf_init(&b, 64);
    rv__json_write_double(&b, v);
    char *text = b.failed ? NULL : rv__pool_text(pool, b.data, b.len);
    pool->failed |= b.failed;
    rv__buf_free(&b);
    return text;
}

/* Multiples of 0.01 are computed as n / 100, which is the double that their text stands for. */
static double on_grid(double n, double step)
{
    return step < 1 ? n / round(1 / step) : n * step;
}

/* The valid value closest to v. */
static double nearest_number(const rv__field *f, double max, double v)
{
    if (v < f->min)
        v = f->min;
    if (max != 0 && v > max)
        v = max;
    if (f->step == 0 || fabs(v / f->step) > 1e15)
        return v;
    double n = floor(v / f->step + 0.5), highest = max != 0 ? floor(max / f->step + 1e-9) : n;
    double lowest = ceil(f->min / f->step - 1e-9);
    n = n > highest ? highest : n;
    return on_grid(n < lowest ? lowest : n, f->step);
}

static bool refuse_range(const subject *s, double max, const char *nearest)
{
    rv__pool *pool = pool_of(s);
    const char *low = number_text(pool, s->f->min), *high = number_text(pool, max);
    const char *what = !low || !high ? NULL
                       : max != 0    ? rv__pool_format(pool, "be between %s and %s", low, high)
                                     : rv__pool_format(pool, "be at least %s", low);
    return refuse(s, "range", invalid(s), nearest, what);
}

static bool refuse_step(const subject *s, const char *nearest)
{
    const char *step = number_text(pool_of(s), s->f->step);
    const char *what = step ? rv__pool_format(pool_of(s), "be a multiple of %s", step) : NULL;
    return refuse(s, "step", invalid(s), nearest, what);
}

static bool check_int(const subject *s)
{
    double d, max = rv__field_max(s->f, s->c->settings);
    int64_t i;
    if (!rv__json_number(s->v, &d))
        return refuse_kind(s);
    int64_t step = (int64_t)s->f->step;
    bool whole = rv__json_int(s->v, &i);
    bool inside = whole && (double)i >= s->f->min && (max == 0 || (double)i <= max);
    if (inside && (!step || i % step == 0))
        return true;
    const char *nearest = number_text(pool_of(s), nearest_number(s->f, max, round(d)));
    if (!whole && fabs(d) < 9e18)
        return refuse(s, "type", invalid(s), nearest, "be an integer");
    return inside ? refuse_step(s, nearest) : refuse_range(s, max, nearest);
}

static bool check_uint(const subject *s)
{
    double d;
    uint64_t u;
    if (!rv__json_number(s->v, &d))
        return refuse_kind(s);
    bool whole = rv__json_uint(s->v, &u);
    if (!whole && d > 0 && d < 1.8e19)
        return refuse(s, "type", invalid(s), NULL, "be an integer");
    uint64_t min = (uint64_t)s->f->min;
    if (whole && u >= min && u <= s->f->max_uint)
        return true;
    uint64_t nearest = d > 1 ? s->f->max_uint : min;
    const char *text = rv__pool_format(pool_of(s), "%llu", (unsigned long long)nearest);
    const char *what = rv__pool_format(pool_of(s), "be between %llu and %llu",
                                       (unsigned long long)min, (unsigned long long)s->f->max_uint);
    return refuse(s, "range", invalid(s), text, what);
}

static bool check_float(const subject *s)
{
    double v;
    if (!rv__json_number(s->v, &v))
        return refuse_kind(s);
    bool inside = v >= s->f->min && (s->f->max == 0 || v <= s->f->max);
    double n = s->f->step != 0 ? v / s->f->step : 0;
    bool fits = fabs(n) > 1e15 || fabs(n - round(n)) <= 1e-6;
    if (inside && fits)
        return true;
    const char *nearest = number_text(pool_of(s), nearest_number(s->f, s->f->max, v));
    return inside ? refuse_step(s, nearest) : refuse_range(s, s->f->max, nearest);
}

/* ---- texts ------------------------------------------------------------------------------- */

static bool check_size(const subject *s, size_t n, const char *unit)
{
    const rv__field *f = s->f;
    if (n >= f->min_size && (!f->max_size || n <= f->max_size))
        return true;
    const char *what;
    if (!f->max_size)
        what = rv__pool_format(pool_of(s), "have at least %zu %s", f->min_size, unit);
    else if (f->min_size == f->max_size)
        what = rv__pool_format(pool_of(s), "have %zu %s, not %zu", f->min_size, unit, n);
    else
        what = rv__pool_format(pool_of(s), "have %zu to %zu %s, not %zu", f->min_size, f->max_size,
                               unit, n);
    return refuse(s, "length", f->length_code ? f->length_code : invalid(s), NULL, what);
}

/* The words of an enum in a sentence, or how many there are. */
static const char *list_words(rv__pool *pool, const rv__word *words)
{
    size_t n = 0;
    while (words[n].word)
        n++;
    if (n > 8)
        return rv__pool_format(pool, "be one of %zu known words", n);
    const char *text = "be ";
    for (size_t i = 0; i < n && text; i++) {
        const char *before = i == 0 ? "" : i + 1 == n ? " or " : ", ";
        text = rv__pool_format(pool, "%s%s%s", text, before, words[i].word);
    }
    return text;
}

static bool check_word(const subject *s, const char *text)
{
    if (rv__word_find(s->f->words, text))
        return true;
    const char *guess = rv__word_guess(s->f->words, text);
    const char *nearest = guess ? rv__pool_format(pool_of(s), "\"%s\"", guess) : NULL;
    return refuse(s, "enum", invalid(s), nearest, list_words(pool_of(s), s->f->words));
}

static bool check_format(const subject *s, const char *text)
{
    const char *expected = rv__format_wrong(s->f->format, s->c->settings->strict_uuid, text);
    if (!expected)
        return true;
    return refuse(s, "format", invalid(s), NULL, rv__pool_format(pool_of(s), "be %s", expected));
}

static bool check_text(const subject *s)
{
    const char *text = rv__json_string(s->v);
    if (!text)
        return refuse_kind(s);
    if (s->f->words)
        return check_word(s, text);
    if (s->f->min_size || s->f->max_size) {
        if (!check_size(s, rv__utf8_count(text, strlen(text)), "characters"))
            return false;
    }
    return check_format(s, text);
}

static bool check_texts(const subject *s)
{
    if (!rv__json_is_array(s->v))
        return refuse_kind(s);
    bool good = check_size(s, rv__json_size(s->v), "items");
    rv__field item = *s->f; /* one item: a text with the list's format and code */
    item.type = RV__TEXT;
    item.min_size = item.max_size = 0;
    size_t i = 0;
    for (const rv__value *v = rv__json_first(s->v); v; v = rv__json_next(v), i++) {
        rv__place place = {.up = s->place, .index = i};
        subject one = {s->c, &item, v, &place};
        good &= check_text(&one);
    }
    return good;
}

/* ---- objects and lists ------------------------------------------------------------------- */

static bool check_nested(const subject *s, rv__slot *slot)
{
    slot->nodes = rv__pool_alloc(s->c->slots, sizeof *slot->nodes);
    if (!slot->nodes || !rv__json_is_object(s->v))
        return slot->nodes ? refuse_kind(s) : false;
    slot->count = 1;
    return rv__check_object(s->c, s->v, s->f->fields, s->f->source, s->place, slot->nodes);
}

static bool check_list(const subject *s, rv__slot *slot)
{
    if (!rv__json_is_array(s->v))
        return refuse_kind(s);
    size_t n = rv__json_size(s->v), i = 0;
    if (!check_size(s, n, "items"))
        return false;
    slot->nodes = rv__pool_alloc(s->c->slots, (n + 1) * sizeof *slot->nodes);
    if (!slot->nodes)
        return false;
    bool good = true;
    rv__field item = *s->f;
    item.type = RV__OBJECT;
    for (const rv__value *v = rv__json_first(s->v); v; v = rv__json_next(v), i++) {
        rv__place place = {.up = s->place, .index = i};
        subject one = {s->c, &item, v, &place};
        if (rv__json_is_object(v))
            good &= rv__check_object(s->c, v, s->f->fields, s->f->source, &place, &slot->nodes[i]);
        else
            good = refuse_kind(&one);
    }
    slot->count = good ? n : 0;
    return good;
}

static bool check_value(const subject *s, rv__slot *slot)
{
    switch (s->f->type) {
    case RV__BOOL:
        return rv__json_is_bool(s->v) || refuse_kind(s);
    case RV__INT:
        return check_int(s);
    case RV__UINT:
        return check_uint(s);
    case RV__FLOAT:
        return check_float(s);
    case RV__TEXT:
        return check_text(s);
    case RV__TEXTS:
        return check_texts(s);
    case RV__OBJECT:
        return check_nested(s, slot);
    case RV__LIST:
        return check_list(s, slot);
    }
    return false;
}

/* A name that the model's rows do not have.  True when the task may run all the same. */
static bool check_stranger(const rv__checker *c, const char *name, const rv__field *fields,
                           const rv__field *source, const rv__place *place)
{
    const rv__field *other = source ? rv__field_find(source, name) : NULL;
    if (other && !c->known)
        return true; /* some model may have it */
    if (other) {
        rv__problem p = {.code = "unsupportedParameter", .rule = "unsupported"};
        rv__issues_at(c->issues, place, p, "%s is not supported by this model",
                      rv__place_dotted(c->issues->pool, place));
        return false;
    }
    const char *guess = rv__field_guess(fields, name);
    rv__problem p = {
        .code = "unknownParameter", .rule = "unknown", .warning = c->settings->lenient};
    p.nearest = guess ? rv__pool_format(c->issues->pool, "\"%s\"", guess) : NULL;
    rv__issues_at(c->issues, place, p,
                  guess ? "%s is not a parameter (did you mean %s?)" : "%s is not a parameter",
                  rv__place_dotted(c->issues->pool, place), guess);
    return c->settings->lenient;
}

/* First pass: which member belongs to which row. */
static bool match_members(const rv__checker *c, const rv__value *object, const rv__field *source,
                          const rv__place *above, rv__node *n)
{
    bool good = true;
    for (const rv__value *v = rv__json_first(object); v; v = rv__json_next(v)) {
        const char *name = rv__json_key(v);
        rv__place place = {.up = above, .name = name};
        const rv__field *f = rv__field_find(n->fields, name);
        if (!f) {
            good &= rv__json_is_null(v) || check_stranger(c, name, n->fields, source, &place);
            continue;
        }
        rv__slot *slot = &n->slots[f - n->fields];
        if (slot->seen) {
            subject s = {c, f, v, &place};
            rv__problem p = {.code = invalid(&s), .rule = "duplicate"};
            rv__issues_at(c->issues, &place, p, "%s is given twice", subject_name(&s));
            slot->bad = true;
            good = false;
            continue;
        }
        slot->seen = true;
        const char *text = f->skip_empty ? rv__json_string(v) : NULL;
        if (!rv__json_is_null(v) && !(text && !*text))
            slot->value = v;
    }
    return good;
}

/* Second pass: each row in the table's order. */
static bool check_row(const rv__checker *c, const rv__field *f, rv__slot *slot,
                      const rv__place *above)
{
    rv__place place = {.up = above, .name = slot->value ? rv__json_key(slot->value) : f->name};
    subject s = {c, f, slot->value, &place};
    if (slot->value) {
        if (!slot->bad && !check_value(&s, slot))
            slot->bad = true;
        return !slot->bad;
    }
    if (!f->required)
        return !slot->bad;
    rv__problem p = {
        .code = rv__code_for(pool_of(&s), "missing", f->name), .rule = "required", .field = f};
    rv__issues_at(c->issues, &place, p, "%s is required", subject_name(&s));
    slot->bad = true;
    return false;
}

bool rv__check_object(const rv__checker *c, const rv__value *object, const rv__field *fields,
                      const rv__field *source, const rv__place *place, rv__node *out)
{
    size_t count = 0;
    while (fields[count].name)
        count++;
    out->fields = fields;
    out->slots = rv__pool_alloc(c->slots, (count + 1) * sizeof *out->slots);
    if (!out->slots)
        return false;
    bool good = match_members(c, object, source, place, out);
    for (size_t i = 0; i < count; i++)
        good &= check_row(c, &fields[i], &out->slots[i], place);
    return good;
}

/* ---- reading the tree -------------------------------------------------------------------- */

/* The length of the name, if it is the path's first one; else 0. */
static size_t begins(const char *path, const char *name)
{
    size_t i = 0;
    while (name[i] && name[i] == path[i])
        i++;
    return !name[i] && (!path[i] || path[i] == '.') ? i : 0;
}

const rv__slot *rv__node_find(const rv__node *n, const char *path, const rv__field **field)
{
    for (;;) {
        size_t len = 0;
        const rv__field *f = n->fields;
        while (f->name && !(len = begins(path, f->name)))
            f++;
        if (!f->name)
            return NULL;
        const rv__slot *slot = &n->slots[f - n->fields];
        if (field)
            *field = f;
        if (!path[len])
            return slot;
        if (f->type != RV__OBJECT || slot->count != 1)
            return NULL;
        n = slot->nodes;
        path += len + 1;
    }
}

bool rv__node_given(const rv__node *n, const char *path)
{
    const rv__slot *s = rv__node_find(n, path, NULL);
    return s && s->value && !s->bad;
}

/* The good value of a path, or NULL with *preset set to its default (which may be NULL too). */
static const rv__value *value_of(const rv__node *n, const char *path, const char **preset)
{
    const rv__field *f = NULL;
    const rv__slot *s = rv__node_find(n, path, &f);
    *preset = s && !s->bad && !s->value ? f->preset : NULL;
    return s && !s->bad ? s->value : NULL;
}

bool rv__node_number(const rv__node *n, const char *path, double *out)
{
    const char *preset;
    const rv__value *v = value_of(n, path, &preset);
    if (v)
        return rv__json_number(v, out);
    return preset && rv__json_read_number(preset, out);
}

bool rv__node_int(const rv__node *n, const char *path, int64_t *out)
{
    double d;
    const char *preset;
    const rv__value *v = value_of(n, path, &preset);
    if (v)
        return rv__json_int(v, out);
    if (!rv__node_number(n, path, &d))
        return false;
    *out = (int64_t)d;
    return true;
}

bool rv__node_true(const rv__node *n, const char *path)
{
    const char *preset;
    bool b = false;
    const rv__value *v = value_of(n, path, &preset);
    rv__json_bool(v, &b);
    return v ? b : preset && strcmp(preset, "true") == 0;
}

const char *rv__node_text(const rv__node *n, const char *path, char *room, size_t size)
{
    const char *preset;
    const rv__value *v = value_of(n, path, &preset);
    const char *text = rv__json_string(v);
    if (text) {
        const rv__field *f = NULL;
        rv__node_find(n, path, &f);
        return f->words ? rv__word_find(f->words, text)->word : text;
    }
    if (!preset || preset[0] != '"')
        return NULL;
    snprintf(room, size, "%.*s", (int)strcspn(preset + 1, "\""), preset + 1);
    return room;
}
