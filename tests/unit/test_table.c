/* The parameter table, row by row: boundary values are made from the table itself and sent through
 * the whole checker. Also what the table says against what the pages say, where a slip would go
 * unnoticed otherwise. */
#include "request_helper.h"

#include "base/pool.h"
#include "request/describe.h"
#include "request/formats.h"

#include <math.h>

static size_t tried; /* values sent */

/* A row with the way to it: the task text is before + value + after. */
typedef struct way {
    const char *model, *path, *pointer, *before, *after;
    const rv__field *f;
} way;

typedef struct texts {
    rv__pool pool;
    const char *model;
} texts;

static const char *good_value(texts *t, const rv__field *f);

/* The required members of an object, without braces. */
static const char *good_members(texts *t, const rv__field *fields, const char *except)
{
    const char *all = "";
    for (const rv__field *f = fields; f->name; f++) {
        if (f->required && strcmp(f->name, except) != 0)
            all = rv__pool_format(&t->pool, "%s,\"%s\":%s", all, f->name, good_value(t, f));
    }
    return all;
}

static const char *good_text(texts *t, const rv__field *f)
{
    if (strcmp(f->name, "taskType") == 0)
        return "imageInference";
    if (strcmp(f->name, "model") == 0 && !f->format)
        return t->model;
    switch (f->format) {
    case RV__UUID:
        return TASK_UUID;
    case RV__URL:
        return "https://example.com/hook?key=1";
    case RV__AIR:
        return "civitai:139562@297320";
    case RV__PICTURE:
        return "data:image/png;base64," PNG_BASE64;
    case RV__COLOR:
        return "#FF5733";
    case RV__HEX8:
        return "0123abCD";
    default:
        return f->words ? f->words->word : "some words";
    }
}

static const char *number(texts *t, double v)
{
    return rv__pool_format(&t->pool, "%.15g", v);
}

static const char *good_value(texts *t, const rv__field *f)
{
    const char *text = rv__pool_format(&t->pool, "\"%s\"", good_text(t, f));
    switch (f->type) {
    case RV__BOOL:
        return "true";
    case RV__TEXT:
        return text;
    case RV__TEXTS:
        return rv__pool_format(&t->pool, "[%s]", text);
    case RV__OBJECT:
    case RV__LIST: {
        const char *members = good_members(t, f->fields, "");
        return rv__pool_format(&t->pool, f->type == RV__LIST ? "[{%s}]" : "{%s}",
                               *members ? members + 1 : "");
    }
    default:
        return number(t, f->min);
    }
}

static void show(const way *w, const char *value, const rv_batch *b, const char *what)
{
    print_message("%s: %s = %.80s: %s\n", w->model, w->path, value, what);
    print_issues(b);
}

static rv_batch *send(texts *t, const way *w, const char *value)
{
    tried++;
    rv_batch *b = parse(rv__pool_format(&t->pool, "%s%s%s", w->before, value, w->after));
    return b;
}

/* Is an issue about this place, and not about how it goes with others? */
static const rv_issue *own_issue(const rv_batch *b, const char *pointer)
{
    const rv_issue *list;
    rv_batch_issues(b, &list);
    for (; list->message; list++) {
        if (strcmp(list->rule, "cross") != 0 && list->paths[0] && !list->paths[1] &&
            strcmp(list->paths[0], pointer) == 0)
            return list;
    }
    return NULL;
}

static void accept(texts *t, const way *w, const char *value)
{
    rv_batch *b = send(t, w, value);
    const rv_issue *list;
    rv_batch_issues(b, &list);
    for (; list->message; list++) {
        bool dependent = strcmp(list->rule, "cross") == 0 ||
                         strcmp(list->code, "missingSeedImage") == 0 ||
                         strcmp(list->code, "missingMaskImage") == 0 ||
                         strcmp(list->code, "missingReferenceImages") == 0;
        if (!dependent)
            show(w, value, b, "should be accepted");
        assert_true(dependent);
    }
    rv_batch_unref(b);
}

static const char *expected_code(texts *t, const rv__field *f, const char *rule)
{
    if (strcmp(rule, "length") == 0 && f->length_code)
        return f->length_code;
    return f->code ? f->code : rv__code_for(&t->pool, "invalid", f->name);
}

/* nearest: the value the issue must propose, or NULL for any. */
static void refuse(texts *t, const way *w, const char *value, const char *rule, const char *nearest)
{
    rv_batch *b = send(t, w, value);
    const rv_issue *i = own_issue(b, w->pointer);
    bool right = i && strcmp(i->rule, rule) == 0 &&
                 strcmp(i->code, expected_code(t, w->f, rule)) == 0 &&
                 strcmp(i->parameter, w->path) == 0 && !i->warning &&
                 strstr(i->message, w->path) == i->message;
    right =
        right && (!nearest || (i->nearest && strtod(i->nearest, NULL) == strtod(nearest, NULL)));
    if (!right)
        show(w, value, b, rule);
    assert_true(right);
    assert_null(rv_batch_task(b, 0));
    if (i->nearest && strcmp(rule, "enum") != 0)
        accept(t, w, i->nearest);
    rv_batch_unref(b);
}

/* ---- values of one row ------------------------------------------------------------------- */

static void try_kinds(texts *t, const way *w)
{
    static const char *const kinds[] = {"true", "7.5", "\"7\"", "[]", "{}", "[[]]"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        rv__type type = w->f->type;
        bool fits = (type == RV__BOOL && i == 0) || (type == RV__FLOAT && i == 1) ||
                    (type == RV__TEXT && i == 2) ||
                    ((type == RV__TEXTS || type == RV__LIST) && (i == 3 || i == 5)) ||
                    (type == RV__OBJECT && i == 4);
        if (!fits)
            refuse(t, w, kinds[i], "type", NULL);
    }
}

static void try_int(texts *t, const way *w)
{
    const rv__field *f = w->f;
    double max = rv__field_max(f, NULL), step = f->step ? f->step : 1;
    accept(t, w, number(t, f->min));
    accept(t, w, rv__pool_format(&t->pool, "%.15g.0", f->min));
    refuse(t, w, number(t, f->min - 1), "range", number(t, f->min));
    refuse(t, w, "-1e300", "range", number(t, f->min));
    refuse(t, w, rv__pool_format(&t->pool, "%.15g.5", f->min), "type", NULL);
    if (max != 0) {
        accept(t, w, number(t, max));
        refuse(t, w, number(t, max + 1), "range", number(t, max));
        refuse(t, w, "9223372036854775808", "range", number(t, max));
    } else {
        accept(t, w, "9223372036854774784");
    }
    if (f->step != 0) {
        accept(t, w, number(t, f->min + step));
        refuse(t, w, number(t, f->min + 1), "step", number(t, f->min));
        refuse(t, w, number(t, f->min + step - 1), "step", number(t, f->min + step));
    }
}

static void try_uint(texts *t, const way *w)
{
    unsigned long long max = w->f->max_uint;
    accept(t, w, number(t, w->f->min));
    accept(t, w, rv__pool_format(&t->pool, "%llu", max));
    accept(t, w, "9007199254740993");
    refuse(t, w, rv__pool_format(&t->pool, "%llu", max + 1), "range", NULL);
    refuse(t, w, "18446744073709551616", "range", NULL);
    refuse(t, w, number(t, w->f->min - 1), "range", number(t, w->f->min));
    refuse(t, w, "1.5", "type", NULL);
}

static void try_float(texts *t, const way *w)
{
    const rv__field *f = w->f;
    accept(t, w, number(t, f->min));
    refuse(t, w, number(t, f->min - 0.01), "range", number(t, f->min));
    if (f->max != 0) {
        accept(t, w, number(t, f->max));
        accept(t, w, number(t, (f->min + f->max) / 2));
        refuse(t, w, number(t, f->max + 0.01), "range", number(t, f->max));
    } else {
        accept(t, w, "123456.78");
        accept(t, w, "1e300");
    }
    if (f->step != 0) {
        accept(t, w, number(t, f->min + 0.29)); /* 0.29 is no multiple of 0.01 in doubles */
        accept(t, w, number(t, f->min + 0.57));
        refuse(t, w, number(t, f->min + 0.295), "step", NULL);
        refuse(t, w, number(t, f->min + 0.2901), "step", number(t, f->min + 0.29));
    } else {
        accept(t, w, number(t, f->min + 0.12345));
    }
}

/* A text of n characters, each of two bytes. */
static const char *long_text(texts *t, size_t n)
{
    char *text = rv__pool_alloc(&t->pool, 2 * n + 3);
    text[0] = '"';
    for (size_t i = 0; i < n; i++)
        memcpy(text + 1 + 2 * i, "\xc3\xa9", 2);
    text[2 * n + 1] = '"';
    return text;
}

static void try_words(texts *t, const way *w)
{
    for (const rv__word *word = w->f->words; word->word; word++) {
        char lower[64];
        size_t n = strlen(word->word);
        for (size_t i = 0; i <= n; i++)
            lower[i] = (char)(word->word[i] >= 'A' && word->word[i] <= 'Z' ? word->word[i] + 32
                                                                           : word->word[i]);
        accept(t, w, rv__pool_format(&t->pool, "\"%s\"", word->word));
        accept(t, w, rv__pool_format(&t->pool, "\"%s\"", lower));
        if (word->also)
            accept(t, w, rv__pool_format(&t->pool, "\"%s\"", word->also));
        refuse(t, w, rv__pool_format(&t->pool, "\"%s!\"", word->word), "enum", NULL);
    }
    refuse(t, w, "\"\"", "enum", NULL);
    refuse(t, w, "\"nothing of the kind\"", "enum", NULL);
}

static void try_text(texts *t, const way *w)
{
    const rv__field *f = w->f;
    accept(t, w, good_value(t, f));
    if (f->words) {
        try_words(t, w);
        return;
    }
    if (f->format && !f->skip_empty)
        refuse(t, w, "\"not this\"", "format", NULL);
    if (f->max_size) {
        accept(t, w, long_text(t, f->min_size ? f->min_size : 1));
        accept(t, w, long_text(t, f->max_size));
        refuse(t, w, long_text(t, f->max_size + 1), "length", NULL);
    }
    if (f->skip_empty)
        accept(t, w, "\"\"");
    if (f->min_size > 1 || (f->min_size && !f->skip_empty))
        refuse(t, w, long_text(t, f->min_size - 1 ? f->min_size - 1 : 0), "length", NULL);
}

static const char *many(texts *t, const rv__field *f, size_t n)
{
    const char *one = good_value(t, f), *all = "";
    for (size_t i = 0; i < n; i++)
        all =
            rv__pool_format(&t->pool, "%s%s%.*s", all, i ? "," : "", (int)strlen(one) - 2, one + 1);
    return rv__pool_format(&t->pool, "[%s]", all);
}

static void try_list(texts *t, const way *w)
{
    const rv__field *f = w->f;
    accept(t, w, many(t, f, f->min_size));
    accept(t, w, many(t, f, 1));
    if (f->max_size) {
        accept(t, w, many(t, f, f->max_size));
        refuse(t, w, many(t, f, f->max_size + 1), "length", NULL);
    }
    if (f->min_size)
        refuse(t, w, "[]", "length", NULL);
}

static void try_row(texts *t, const way *w)
{
    try_kinds(t, w);
    switch (w->f->type) {
    case RV__INT:
        try_int(t, w);
        break;
    case RV__UINT:
        try_uint(t, w);
        break;
    case RV__FLOAT:
        try_float(t, w);
        break;
    case RV__TEXT:
        try_text(t, w);
        break;
    case RV__TEXTS:
    case RV__LIST:
        try_list(t, w);
        break;
    default:
        accept(t, w, good_value(t, w->f));
    }
    bool needed = w->f->required ||
                  (w->f->code && !w->f->preset); /* sizes without default: a rule asks for them */
    if (!needed)
        accept(t, w, "null");
    rv_batch *b = send(t, w, "null");
    const rv_issue *i = own_issue(b, w->pointer);
    assert_int_equal(i != NULL, needed);
    assert_true(!i || strcmp(i->code, rv__code_for(&t->pool, "missing", w->f->name)) == 0);
    rv_batch_unref(b);
}

/* ---- all rows ---------------------------------------------------------------------------- */

static void walk(const char *model, const rv__field *fields, const char *path, const char *pointer,
                 const char *before, const char *after)
{
    for (const rv__field *f = fields; f->name; f++) {
        if (*path == '\0' && (!strcmp(f->name, "taskType") || !strcmp(f->name, "taskUUID") ||
                              !strcmp(f->name, "model")))
            continue; /* they decide what is checked at all: test_task */
        texts t = {.model = model};
        const char *others = good_members(&t, fields, f->name);
        bool top = *path == '\0';
        way w = {.model = model, .f = f};
        w.path = rv__pool_format(&t.pool, "%s%s%s", path, top ? "" : ".", f->name);
        w.pointer = rv__pool_format(&t.pool, "%s/%s", pointer, f->name);
        if (top && (!strcmp(f->name, "width") || !strcmp(f->name, "height"))) /* its partner */
            others = rv__pool_format(&t.pool, "%s,\"%s\":1024", others,
                                     f->name[0] == 'w' ? "height" : "width");
        else if (top)
            others = rv__pool_format(&t.pool, "%s,\"width\":1024,\"height\":1024", others);
        w.before = rv__pool_format(&t.pool, "%s%s%s\"%s\":", before, *others ? others + 1 : "",
                                   *others ? "," : "", f->name);
        w.after = rv__pool_format(&t.pool, "}%s", after);
        try_row(&t, &w);
        if (f->fields) {
            bool list = f->type == RV__LIST;
            walk(model, f->fields, rv__pool_format(&t.pool, "%s%s", w.path, list ? "[0]" : ""),
                 rv__pool_format(&t.pool, "%s%s", w.pointer, list ? "/0" : ""),
                 rv__pool_format(&t.pool, "%s%s{", w.before, list ? "[" : ""),
                 rv__pool_format(&t.pool, "%s%s", list ? "]" : "", w.after));
        }
        rv__pool_free(&t.pool);
    }
}

static void test_boundaries(const char *model)
{
    const rv__model *m = rv__models_find(models, model);
    tried = 0;
    walk(m->id, m->fields, "", "/0", "[{", "]");
    print_message("# %zu values for %s\n", tried, model);
    assert_true(tried > 400);
}

static void test_boundaries_hidream(void **state)
{
    test_boundaries("runware:97@1");
    test_boundaries("runware:97@3");
}

static void test_boundaries_generic(void **state)
{
    test_boundaries("generic");
}

/* ---- the rows themselves ----------------------------------------------------------------- */

static void check_rows(const rv__field *rows, size_t *count)
{
    for (const rv__field *f = rows; f->name; f++) {
        ++*count;
        assert_non_null(f->label);
        assert_non_null(f->help);
        assert_non_null(f->group);
        assert_true(f->families && f->type);
        assert_true((f->fields != NULL) == (f->type == RV__OBJECT || f->type == RV__LIST));
        assert_true(f->type != RV__UINT || f->max_uint);
        assert_true(!f->words || f->type == RV__TEXT);
        for (const rv__field *g = f + 1; g->name; g++)
            assert_true(strcmp(f->name, g->name) != 0 || !(f->families & g->families));
        if (f->fields)
            check_rows(f->fields, count);
    }
}

static void test_rows_are_complete(void **state)
{
    size_t count = 0;
    check_rows(rv__table, &count);
    check_rows(rv__authentication_table, &count);
    check_rows(rv__ping_table, &count);
    assert_true(count > 120);
    const rv__field *acc =
        rv__field_find(rv__models_find(models, "runware:97@1")->fields, "acceleratorOptions");
    size_t members = 0;
    while (acc->fields[members].name)
        members++;
    assert_int_equal(members, 12); /* of the model pages */
    acc = rv__field_find(rv__models_find(models, "generic")->fields, "acceleratorOptions");
    for (members = 0; acc->fields[members].name; members++)
        continue;
    assert_int_equal(members, 10); /* of the reference */
}

static void test_words_are_complete(void **state)
{
    size_t n = 0;
    while (rv__scheduler_words[n].word)
        n++;
    assert_true(n >= 75);
    assert_string_equal(rv__scheduler_words[0].word, "DDIM");
    assert_string_equal(rv__scheduler_words[n - 1].word, "UniPC Uniform Karras");
    for (n = 0; rv__style_preset_words[n].word; n++)
        continue;
    assert_int_equal(n, 62);
}

static void test_guesses(void **state)
{
    const rv__field *rows = rv__models_find(models, "runware:97@1")->fields;
    static const char *const pairs[][2] = {
        {"stepz", "steps"},
        {"Steps", "steps"},
        {"cfgscale", "CFGScale"},
        {"cfg_scale", "CFGScale"},
        {"negative_prompt", "negativePrompt"},
        {"positivPrompt", "positivePrompt"},
        {"outputfromat", "outputFormat"},
        {"widht", "width"},
        {"numResults", "numberResults"},
        {"n", NULL},
        {"somethingElse", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const char *guess = rv__field_guess(rows, pairs[i][0]);
        if ((guess == NULL) != (pairs[i][1] == NULL) || (guess && strcmp(guess, pairs[i][1])))
            print_message("%s: %s\n", pairs[i][0], guess ? guess : "-");
        assert_true(guess ? pairs[i][1] && strcmp(guess, pairs[i][1]) == 0 : !pairs[i][1]);
    }
    assert_string_equal(rv__word_guess(rv__scheduler_words, "Euler A"), "Euler a");
    assert_string_equal(rv__word_guess(rv__scheduler_words, "DPM++ 2M Karas"), "DPM++ 2M Karras");
    assert_int_equal(rv__text_distance("abcd", "abdc", 3), 1);
    assert_int_equal(rv__text_distance("abc", "xyz", 2), 3);
}

static void test_page_is_current(void **state)
{
    char *page = rv__parameters_page(), *file = read_source("common/request/parameters.md");
    bool same = strcmp(page, file) == 0;
    if (!same)
        print_message(
            "parameters.md is old: build/reverie schema --docs > common/request/parameters.md\n");
    rv__free(page);
    rv__free(file);
    assert_true(same);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boundaries_hidream),
        cmocka_unit_test(test_boundaries_generic),
        cmocka_unit_test(test_rows_are_complete),
        cmocka_unit_test(test_words_are_complete),
        cmocka_unit_test(test_guesses),
        cmocka_unit_test(test_page_is_current),
    };
    return cmocka_run_group_tests(tests, load_models, free_models);
}
