/* Looking rows up, guessing what a misspelled name meant, and cutting the table to one model. */
#include "base/pool.h"
#include "table.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

const char *rv__type_word(rv__type type)
{
    static const char *const words[] = {
        [RV__BOOL] = "boolean",  [RV__INT] = "integer", [RV__UINT] = "integer",
        [RV__FLOAT] = "float",   [RV__TEXT] = "string", [RV__TEXTS] = "array",
        [RV__OBJECT] = "object", [RV__LIST] = "array",
    };
    return words[type];
}

/* strcmp, told by the first character most of the time. */
static bool same(const char *a, const char *b)
{
    return a[0] == b[0] && strcmp(a, b) == 0;
}

const rv__field *rv__field_find(const rv__field *rows, const char *name)
{
    for (const rv__field *f = rows; f->name; f++) {
        if (same(f->name, name) || (f->also && same(f->also, name)))
            return f;
    }
    return NULL;
}

const rv__word *rv__word_find(const rv__word *words, const char *text)
{
    for (const rv__word *w = words; w->word; w++) {
        if (strcasecmp(w->word, text) == 0 || (w->also && strcasecmp(w->also, text) == 0))
            return w;
    }
    return NULL;
}

/* ---- guessing ---------------------------------------------------------------------------- */

#define GUESS_SIZE 64 /* longer texts are not guessed */

/* Cost of standing `a` for `b`, in halves: nothing, half for another case, one. */
static size_t replace_cost(char a, char b)
{
    if (a == b)
        return 0;
    return tolower((unsigned char)a) == tolower((unsigned char)b) ? 1 : 2;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t rv__text_distance(const char *a, const char *b, size_t limit)
{
    size_t rows[3][GUESS_SIZE + 1]; /* the row being filled and the two before it, in halves */
    size_t n = strnlen(a, GUESS_SIZE + 1), m = strnlen(b, GUESS_SIZE + 1);
    if (n > GUESS_SIZE || m > GUESS_SIZE || n > m + limit || m > n + limit)
        return limit + 1;
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = 2 * j;
    for (size_t i = 1; i <= n; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *older = rows[(i + 1) % 3];
        row[0] = 2 * i;
        for (size_t j = 1; j <= m; j++) {
            row[j] = least(least(above[j], row[j - 1]) + 2,
                           above[j - 1] + replace_cost(a[i - 1], b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], older[j - 2] + 2);
        }
    }
    size_t distance = (rows[n % 3][m] + 1) / 2;
    return distance <= limit ? distance : limit + 1;
}

/* How many differences still count as a slip: a third of the letters, at most three. */
static size_t tolerance(const char *text)
{
    size_t n = strnlen(text, GUESS_SIZE + 1);
    return n < 3 ? 0 : least(n / 3, 3);
}

static bool same_ignoring_case(const char *a, const char *b)
{
    return strcasecmp(a, b) == 0;
}

const char *rv__field_guess(const rv__field *rows, const char *name)
{
    const char *best = NULL;
    size_t smallest = tolerance(name) + 1;
    for (const rv__field *f = rows; f->name; f++) {
        if (f->legacy)
            continue;
        if (same_ignoring_case(f->name, name))
            return f->name;
        size_t d = rv__text_distance(name, f->name, smallest);
        if (d < smallest) {
            smallest = d;
            best = f->name;
        }
    }
    return best;
}

const char *rv__word_guess(const rv__word *words, const char *text)
{
    const char *best = NULL;
    size_t smallest = tolerance(text) + 1;
    for (const rv__word *w = words; w->word; w++) {
        size_t d = rv__text_distance(text, w->word, smallest);
        if (d < smallest) {
            smallest = d;
            best = w->word;
        }
    }
    return best;
}

/* ---- the table of one model -------------------------------------------------------------- */

typedef struct cut {
    rv__pool *pool;
    unsigned family;
    const rv__value *extensions, *overrides;
    size_t used; /* overrides that found their row */
    rv_error *err;
    rv_status status;
} cut;

/* Does a list of dotted paths name this one, something below it or something above it? */
static bool extends(const rv__value *list, const char *path)
{
    size_t n = strlen(path);
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v)) {
        const char *named = rv__json_string(v);
        size_t m = named ? strlen(named) : 0;
        if (m && strncmp(named, path, least(n, m)) == 0 &&
            (n == m || (n < m ? named[n] == '.' : path[m] == '.')))
            return true;
    }
    return false;
}

/* Is this the row of its name that the model takes?  The family's own row beats an extension. */
static bool takes(const cut *c, const rv__field *rows, const rv__field *f, const char *path)
{
    if (f->families & c->family)
        return true;
    if (!extends(c->extensions, path))
        return false;
    for (const rv__field *other = rows; other->name; other++) {
        if (other != f && strcmp(other->name, f->name) == 0 &&
            ((other->families & c->family) || other < f))
            return false;
    }
    return true;
}

static rv_status wrong(cut *c, const char *path, const char *what)
{
    if (c->status == RV_OK)
        c->status = rv__fail(c->err, RV_FORMAT, "parameters.%s: %s", path, what);
    return c->status;
}

static bool in_words(const rv__word *words, const char *word)
{
    const rv__word *w = words && word ? rv__word_find(words, word) : NULL;
    return w && strcmp(w->word, word) == 0;
}

/* Is a default of the right kind and inside the (already changed) limits? */
static bool fits(const rv__field *f, const rv__value *v)
{
    double d;
    int64_t i;
    uint64_t u;
    switch (f->type) {
    case RV__BOOL:
        return rv__json_is_bool(v);
    case RV__INT:
        return rv__json_int(v, &i) && (double)i >= f->min && (f->max == 0 || (double)i <= f->max) &&
               (f->step == 0 || i % (int64_t)f->step == 0);
    case RV__UINT:
        return rv__json_uint(v, &u) && u <= f->max_uint;
    case RV__FLOAT:
        return rv__json_number(v, &d) && d >= f->min && (f->max == 0 || d <= f->max);
    case RV__TEXT:
        return rv__json_is_string(v) && (!f->words || in_words(f->words, rv__json_string(v)));
    default:
        return false;
    }
}

/* A smaller list of words. */
static const rv__word *cut_words(cut *c, const rv__field *f, const rv__value *list,
                                 const char *path)
{
    size_t n = rv__json_size(list), i = 0;
    rv__word *words = rv__pool_alloc(c->pool, (n + 1) * sizeof *words);
    if (!words)
        return f->words;
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v)) {
        if (!in_words(f->words, rv__json_string(v))) {
            wrong(c, path, "words must come from the table");
            return f->words;
        }
        words[i++] = *rv__word_find(f->words, rv__json_string(v));
    }
    return words;
}

static void change_size(cut *c, size_t *size, const rv__value *v, const char *path)
{
    int64_t n;
    if (!rv__json_int(v, &n) || n < 0 || n > INT32_MAX)
        wrong(c, path, "sizes must be whole numbers");
    else
        *size = (size_t)n;
}

/* One member of an override; the default comes last, when the limits are known. */
static void change_member(cut *c, rv__field *f, const rv__value *v, const char *path)
{
    const char *key = rv__json_key(v);
    bool number = f->type == RV__INT || f->type == RV__FLOAT;
    if (strcmp(key, "min") == 0 && number && rv__json_is_number(v))
        rv__json_number(v, &f->min);
    else if (strcmp(key, "max") == 0 && number && rv__json_is_number(v))
        rv__json_number(v, &f->max);
    else if (strcmp(key, "step") == 0 && number && rv__json_is_number(v))
        rv__json_number(v, &f->step);
    else if (strcmp(key, "required") == 0 && rv__json_is_bool(v))
        rv__json_bool(v, &f->required);
    else if (strcmp(key, "minSize") == 0)
        change_size(c, &f->min_size, v, path);
    else if (strcmp(key, "maxSize") == 0)
        change_size(c, &f->max_size, v, path);
    else if (strcmp(key, "words") == 0 && f->words && rv__json_size(v))
        f->words = cut_words(c, f, v, path);
    else if (strcmp(key, "default") != 0)
        wrong(c, path, "must have min, max, step, minSize, maxSize, words, required or default");
}

static void change(cut *c, rv__field *f, const rv__value *with, const char *path)
{
    if (!rv__json_is_object(with)) {
        wrong(c, path, "must be an object");
        return;
    }
    for (const rv__value *v = rv__json_first(with); v; v = rv__json_next(v))
        change_member(c, f, v, path);
    if (f->step < 0 || (f->type == RV__INT && f->step > 0 && f->step < 1) ||
        (f->max != 0 && f->max < f->min))
        wrong(c, path, "min, max and step contradict each other");
    const rv__value *preset = rv__json_get(with, "default");
    if (!preset || c->status != RV_OK)
        return;
    if (rv__json_is_null(preset)) {
        f->preset = NULL;
        return;
    }
    if (!fits(f, preset)) {
        wrong(c, path, "the default is outside the limits");
        return;
    }
    rv__buf b;
    rv__buf_init(&b, 4096);
    rv__json_write_value(&b, preset);
    if (b.data)
        f->preset = rv__pool_text(c->pool, b.data, b.len);
    c->pool->failed |= b.failed;
    rv__buf_free(&b);
}

/* The rows of one level (path is "" or ends with a dot), and below. */
static const rv__field *cut_level(cut *c, const rv__field *rows, const char *path)
{
    size_t n = 0;
    for (const rv__field *f = rows; f->name; f++)
        n++;
    rv__field *out = rv__pool_alloc(c->pool, (n + 1) * sizeof *out), *to = out;
    for (const rv__field *f = rows; out && f->name && c->status == RV_OK; f++) {
        char *full = rv__pool_format(c->pool, "%s%s", path, f->name);
        if (!full)
            break;
        if (!takes(c, rows, f, full))
            continue;
        *to = *f;
        const rv__value *with = rv__json_get(c->overrides, full);
        if (with) {
            c->used++;
            change(c, to, with, full);
        }
        if (f->fields) {
            char *below = rv__pool_format(c->pool, "%s.", full);
            to->source = f->fields;
            to->fields = below ? cut_level(c, f->fields, below) : NULL;
        }
        to++;
    }
    return out;
}

/* Every path that a card extends its family by must exist. */
static void check_extensions(cut *c)
{
    for (const rv__value *v = rv__json_first(c->extensions); v; v = rv__json_next(v)) {
        const char *path = rv__json_string(v);
        const rv__field *rows = rv__table, *f = NULL;
        char name[GUESS_SIZE];
        while (path && rows) {
            size_t n = strcspn(path, ".");
            if (n >= sizeof name)
                break;
            memcpy(name, path, n);
            name[n] = '\0';
            f = rv__field_find(rows, name);
            rows = f ? f->fields : NULL;
            path = path[n] ? path + n + 1 : NULL;
        }
        if (path || !f) {
            c->status = rv__fail(c->err, RV_FORMAT, "extensions: %s is not a parameter",
                                 rv__json_string(v) ? rv__json_string(v) : "a value");
            return;
        }
    }
}

rv_status rv__fields_for(rv__pool *pool, unsigned family, const rv__value *extensions,
                         const rv__value *overrides, const rv__field **out, rv_error *err)
{
    cut c = {.pool = pool,
             .family = family,
             .extensions = extensions,
             .overrides = overrides,
             .err = err};
    check_extensions(&c);
    if (c.status != RV_OK)
        return c.status;
    *out = cut_level(&c, rv__table, "");
    if (c.status != RV_OK)
        return c.status;
    if (pool->failed)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (c.used != rv__json_size(overrides))
        return rv__fail(err, RV_FORMAT, "parameters: some names are not parameters of this model");
    return RV_OK;
}
