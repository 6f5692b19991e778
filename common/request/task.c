/* Batches: from the text of a request to checked, normalised tasks and all issues at once.  A batch
 * is built in one go, then never changes; the parsed text is gone by then, because issues and tasks
 * own what they need. */
#include "task.h"

#include "base/uuid.h"
#include "formats.h"
#include "normal.h"
#include "rules.h"
#include "values.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define MAX_VALUES 200000 /* of one request body */

#define GENERIC_DOCUMENTATION "https://runware.ai/docs/en/image-inference/api-reference"

struct rv_task {
    rv_batch *batch; /* not counted: tasks live in their batch */
    size_t index;
    const char *type, *uuid, *model_sent;
    const rv__model *model;
    bool checked; /* no errors */
    rv__value *value;
    _Atomic(char *) json; /* its text; written when somebody asks for it */
    size_t results;
    uint64_t seed, seed_min, seed_max;
    bool seed_drawn;
};

struct rv_batch {
    atomic_int refs;
    rv__pool pool;
    rv__issues issues;
    rv__models *models;
    rv_task *tasks;
    size_t size;
};

/* While a batch is being built. */
typedef struct builder {
    rv_batch *b;
    const rv__check_settings *settings;
    bool *twice; /* of each task: an earlier one has its UUID */
} builder;

/* ---- one task ---------------------------------------------------------------------------- */

static rv__pool *pool_of(const builder *w)
{
    return &w->b->pool;
}

/* The seed of a task that names none: 32 random bits, and never 0, which generic models refuse. */
static uint64_t draw_seed(void)
{
    uint32_t seed = 0;
    struct timespec now = {0};
    if (!rv__random(&seed, sizeof seed)) { /* a seed is no secret */
        clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint32_t)now.tv_nsec * 2654435761u;
    }
    return seed ? seed : 1;
}

static void normalise(rv_task *t, const rv__node *n)
{
    rv__pool *pool = &t->batch->pool;
    t->seed_drawn = !rv__node_given(n, "seed");
    t->value =
        rv__normal_task(n, t->model ? t->model->id : NULL, t->seed_drawn ? draw_seed() : 0);
    if (!t->value) {
        pool->failed = true;
        return;
    }
    t->results = (size_t)rv__json_get_int(t->value, "numberResults", 0);
    t->checked = true;
    const rv__field *f = NULL;
    if (rv__node_find(n, "seed", &f)) {
        rv__json_uint(rv__json_get(t->value, "seed"), &t->seed);
        t->seed_min = (uint64_t)f->min;
        t->seed_max = f->max_uint;
    }
}

/* " (served here: A, B, …)" for those who brought a name from elsewhere; "" without memory. */
static const char *served_models(const builder *w)
{
    enum { MOST = 6 };
    const rv__models *models = w->settings->models;
    size_t count = rv__models_count(models);
    const char *text = "";
    for (size_t i = 0; text && i < count && i < MOST; i++)
        text = rv__pool_format(pool_of(w), "%s%s%s", text, i ? ", " : "",
                               rv__models_at(models, i)->id);
    if (!text || !count)
        return "";
    text = rv__pool_format(pool_of(w), " (served here: %s%s)", text, count > MOST ? ", …" : "");
    return text ? text : "";
}

/* The model of a task, or an issue.  An absent or wrongly typed one gets that from the table. */
static const rv__model *resolve_model(const builder *w, const rv__value *v, const rv__place *task)
{
    const char *name = rv__json_string(v);
    if (!name)
        return NULL;
    const rv__model *m = rv__models_find(w->settings->models, name);
    if (m)
        return m;
    rv__pool *pool = pool_of(w);
    rv__place place = {.up = task, .name = "model"};
    const char *clipped = rv__clip(pool, name),
               *guess = rv__models_guess(w->settings->models, name);
    bool form = rv__air_valid(name);
    rv__problem p = {.rule = "model",
                     .code = form ? "modelNotFound" : "invalidModel",
                     .field = rv__field_find(rv__table, "model")};
    p.nearest = guess ? rv__pool_format(pool, "\"%s\"", guess) : NULL;
    const char *hint = guess ? rv__pool_format(pool, " (did you mean %s?)", guess)
                             : served_models(w);
    const char *what = form ? "is not served here"
                            : "is neither a model identifier like runware:97@3 nor an alias";
    rv__issues_at(&w->b->issues, &place, p, "model %s %s%s", clipped ? clipped : "", what,
                  hint ? hint : "");
    return NULL;
}

/* Is this member there but about something that is not a served model? */
static bool names_nothing(const rv__value *v, const rv__model *m)
{
    return rv__json_is_string(v) && !m;
}

static void check_image(const builder *w, rv_task *t, const rv__value *v, const rv__place *place,
                        bool good)
{
    const rv__value *model = rv__json_get(v, "model");
    rv__issues *issues = &w->b->issues;
    issues->documentation = GENERIC_DOCUMENTATION;
    t->model = resolve_model(w, model, place);
    if (t->model)
        issues->documentation =
            rv__json_get_string(t->model->card, "documentation", GENERIC_DOCUMENTATION);
    good &= !names_nothing(model, t->model);
    t->model_sent =
        t->model ? rv__pool_text(pool_of(w), rv__json_string(model), strlen(rv__json_string(model)))
                 : NULL;
    const rv__field *fields = t->model ? t->model->fields : rv__models_generic(w->settings->models);
    rv__pool slots = {0};
    rv__checker c = {issues, w->settings, t->model != NULL, &slots};
    rv__node n = {0};
    good &= rv__check_object(&c, v, fields, rv__table, place, &n);
    pool_of(w)->failed |= slots.failed;
    if (!pool_of(w)->failed) {
        good &= rv__check_rules(&c, &n, place);
        if (good)
            normalise(t, &n);
    }
    rv__pool_free(&slots);
}

static void check_simple(const builder *w, rv_task *t, const rv__value *v, const rv__field *fields,
                         const rv__place *place)
{
    rv__pool slots = {0};
    rv__checker c = {&w->b->issues, w->settings, true, &slots};
    rv__node n = {0};
    if (rv__check_object(&c, v, fields, NULL, place, &n))
        normalise(t, &n);
    pool_of(w)->failed |= slots.failed;
    rv__pool_free(&slots);
}

/* Task types beside imageInference. */
static const struct {
    const char *type;
    const rv__field *fields;
} simple_types[] = {
    {"getResponse", rv__response_table},
    {"imageUpload", rv__upload_table},
    {"authentication", rv__authentication_table},
    {"ping", rv__ping_table},
};

enum { SIMPLE_TYPES = sizeof simple_types / sizeof *simple_types };

static bool is_near(const char *type, const char *served)
{
    return strcasecmp(type, served) == 0 || rv__text_distance(type, served, 3) <= 3;
}

static void refuse_type(const builder *w, const rv_task *t, const rv__place *place)
{
    const char *near = is_near(t->type, "imageInference") ? "imageInference" : NULL;
    rv__buf list;
    rv__buf_init(&list, 1024);
    rv__buf_adds(&list, "imageInference");
    for (size_t i = 0; i < SIMPLE_TYPES; i++) {
        const char *type = simple_types[i].type;
        rv__buf_addf(&list, "%s%s", i + 1 < SIMPLE_TYPES ? ", " : " or ", type);
        near = !near && is_near(t->type, type) ? type : near;
    }
    rv__place at = {.up = place, .name = "taskType"};
    rv__problem p = {.code = "unsupportedTaskType", .rule = "unsupported"};
    p.nearest = near ? rv__pool_format(pool_of(w), "\"%s\"", near) : NULL;
    if (list.failed)
        pool_of(w)->failed = true;
    else
        rv__issues_at(&w->b->issues, &at, p, "taskType must be %s%s%s%s", list.data,
                      near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    rv__buf_free(&list);
}

/* What the task is; issues for what is not served. */
static void check_type(const builder *w, rv_task *t, const rv__value *v, const rv__place *place,
                       bool good)
{
    if (strcmp(t->type, "imageInference") == 0) {
        check_image(w, t, v, place, good);
        return;
    }
    for (size_t i = 0; i < SIMPLE_TYPES; i++) {
        if (strcmp(t->type, simple_types[i].type) == 0) {
            check_simple(w, t, v, simple_types[i].fields, place);
            return;
        }
    }
    refuse_type(w, t, place);
}

/* The task's UUID, when an earlier task of the batch has it already. */
static bool check_twice(const builder *w, const rv_task *t, const rv__place *place)
{
    if (!w->twice[t->index])
        return true;
    rv__place at = {.up = place, .name = "taskUUID"};
    rv__problem p = {.code = "duplicateTaskUUID", .rule = "duplicate"};
    rv__issues_at(&w->b->issues, &at, p, "taskUUID must differ from those of the other tasks");
    return false;
}

static char *copy_text(const builder *w, const rv__value *v)
{
    const char *text = rv__json_string(v);
    const char *clipped = text ? rv__clip(pool_of(w), text) : NULL;
    return clipped ? rv__pool_text(pool_of(w), clipped, strlen(clipped)) : NULL;
}

static void check_task(const builder *w, rv_task *t, const rv__value *v, const rv__place *place)
{
    rv__issues *issues = &w->b->issues;
    issues->task = t->index;
    issues->task_type = issues->task_uuid = issues->documentation = NULL;
    if (!rv__json_is_object(v)) {
        rv__problem p = {.code = "invalidRequestBody", .rule = "type"};
        rv__issues_at(issues, place, p, "each task must be an object");
        return;
    }
    issues->task_type = t->type = copy_text(w, rv__json_get(v, "taskType"));
    issues->task_uuid = t->uuid = copy_text(w, rv__json_get(v, "taskUUID"));
    bool good = check_twice(w, t, place);
    if (t->type)
        check_type(w, t, v, place, good);
    else
        check_image(w, t, v, place, false); /* most likely; the missing type gets its issue there */
    if (!good)
        t->checked = false;
}

/* ---- the whole body ---------------------------------------------------------------------- */

static void refuse_body(rv_batch *b, const char *rule, const char *code, const char *message)
{
    rv__place root = {0};
    rv__issues_at(&b->issues, &root, (rv__problem){.code = code, .rule = rule}, "%s", message);
}

static void refuse_size(rv_batch *b, int64_t max)
{
    char *message =
        rv__pool_format(&b->pool, "the body must have at most %lld tasks", (long long)max);
    if (message)
        refuse_body(b, "length", "arrayTooLarge", message);
}

static void refuse_json(rv_batch *b, const char *text, const rv__json_error *err)
{
    size_t line = 1, from = 0;
    for (size_t i = 0; i < err->offset; i++) {
        if (text[i] == '\n') {
            line++;
            from = i + 1;
        }
    }
    char *message = rv__pool_format(&b->pool, "the body is not valid JSON: %s (line %zu, byte %zu)",
                                    err->message, line, err->offset - from + 1);
    if (message)
        refuse_body(b, "json", "invalidRequestBody", message);
}

typedef struct named {
    const char *uuid;
    size_t index;
} named;

static int compare_named(const void *a, const void *b)
{
    const named *x = a, *y = b;
    int order = strcasecmp(x->uuid, y->uuid);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* Marks every task whose UUID an earlier one has. */
static void find_twice(builder *w, const rv__value *first)
{
    size_t size = w->b->size, n = 0, index = 0;
    named *list = rv__pool_alloc(pool_of(w), (size + 1) * sizeof *list);
    w->twice = rv__pool_alloc(pool_of(w), size + 1);
    if (!list || !w->twice)
        return;
    for (const rv__value *v = first; v && index < size; v = rv__json_next(v), index++) {
        const char *uuid = rv__json_string(rv__json_get(v, "taskUUID"));
        if (uuid)
            list[n++] = (named){uuid, index};
    }
    qsort(list, n, sizeof *list, compare_named);
    for (size_t i = 1; i < n; i++)
        w->twice[list[i].index] = strcasecmp(list[i - 1].uuid, list[i].uuid) == 0;
}

static void check_body(builder *w, const rv__value *body)
{
    rv_batch *b = w->b;
    bool list = rv__json_is_array(body);
    const rv__value *first = list ? rv__json_first(body) : body;
    size_t size = list ? rv__json_size(body) : 1;
    b->tasks = rv__pool_alloc(&b->pool, (size + 1) * sizeof *b->tasks);
    b->size = b->tasks ? size : 0;
    find_twice(w, first);
    const rv__value *v = first;
    for (size_t i = 0; i < size && !b->pool.failed; i++, v = rv__json_next(v)) {
        rv__place root = {0}, element = {.up = &root, .index = i, .task = true};
        rv__place only = {.task = true};
        rv_task *t = &b->tasks[i];
        t->batch = b;
        t->index = i;
        atomic_init(&t->json, NULL);
        check_task(w, t, v, list ? &element : &only);
    }
}

static void build(builder *w, const char *json, size_t len)
{
    rv_batch *b = w->b;
    rv__json_error err = {0};
    rv__value *body = rv__json_parse_limited(json, len, MAX_VALUES, &err);
    if (!body && err.message == rv__json_no_memory)
        b->pool.failed = true;
    else if (!body)
        refuse_json(b, json, &err);
    else if (!rv__json_is_array(body) && !rv__json_is_object(body))
        refuse_body(b, "type", "invalidRequestBody", "the body must be an array of task objects");
    else if (rv__json_is_array(body) && !rv__json_first(body))
        refuse_body(b, "length", "arrayTooSmall", "the body must have at least one task");
    else if (w->settings->max_tasks && rv__json_is_array(body) &&
             rv__json_size(body) > (size_t)w->settings->max_tasks)
        refuse_size(b, w->settings->max_tasks);
    else
        check_body(w, body);
    rv__json_free(body);
}

rv_batch *rv__batch_parse(const rv__check_settings *s, const char *json, size_t len)
{
    rv_batch *b = rv__calloc(1, sizeof *b);
    if (!b)
        return NULL;
    atomic_init(&b->refs, 1);
    b->issues.pool = &b->pool;
    b->models = rv__models_ref(s->models);
    builder w = {.b = b, .settings = s};
    build(&w, json, len);
    if (!b->issues.list) { /* an empty list needs its end mark too */
        b->issues.list = rv__calloc(1, sizeof *b->issues.list);
        b->pool.failed |= !b->issues.list;
    }
    if (!b->pool.failed)
        return b;
    rv_batch_unref(b);
    return NULL;
}

rv_batch *rv_batch_ref(rv_batch *b)
{
    atomic_fetch_add(&b->refs, 1);
    return b;
}

void rv_batch_unref(rv_batch *b)
{
    if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
        return;
    for (size_t i = 0; i < b->size; i++) {
        rv__free(atomic_load(&b->tasks[i].json));
        rv__json_free(b->tasks[i].value);
    }
    rv__issues_free(&b->issues);
    rv__models_free(b->models);
    rv__pool_free(&b->pool);
    rv__free(b);
}

/* ---- reading a batch --------------------------------------------------------------------- */

size_t rv_batch_issues(const rv_batch *b, const rv_issue **list)
{
    if (list)
        *list = b->issues.list;
    return b->issues.errors;
}

char *rv_batch_issues_json(const rv_batch *b)
{
    rv__buf out;
    rv__buf_init(&out, SIZE_MAX / 2);
    rv__buf_adds(&out, "[");
    for (size_t i = 0; i < b->issues.count; i++) {
        if (i)
            rv__buf_adds(&out, ",");
        rv__issue_json(&out, &b->issues, &b->issues.list[i]);
    }
    rv__buf_adds(&out, "]");
    return rv__buf_take(&out, NULL);
}

void rv__issue_error_json(rv__buf *out, const rv_batch *b, const rv_issue *issue)
{
    rv__issue_wire(out, &b->issues, issue);
}

size_t rv_batch_size(const rv_batch *b)
{
    return b->size;
}

rv_task *rv_batch_task(rv_batch *b, size_t i)
{
    return i < b->size && b->tasks[i].checked ? &b->tasks[i] : NULL;
}

/* ---- reading a task ---------------------------------------------------------------------- */

const char *rv_task_json(const rv_task *task, size_t *len)
{
    rv_task *t = (rv_task *)task; /* what it says does not change */
    char *json = atomic_load(&t->json), *known = NULL;
    if (!json) {
        rv__buf b;
        rv__buf_init(&b, SIZE_MAX / 2);
        rv__json_write_value(&b, t->value);
        json = rv__buf_take(&b, NULL);
        if (json && !atomic_compare_exchange_strong(&t->json, &known, json)) {
            rv__free(json);
            json = known; /* another thread was faster */
        }
    }
    if (len)
        *len = json ? strlen(json) : 0;
    return json;
}

const rv__value *rv__task_value(const rv_task *t)
{
    return t->value;
}

const rv__model *rv__task_model(const rv_task *t)
{
    return t->model;
}

const char *rv__task_model_sent(const rv_task *t)
{
    return t->model_sent;
}

const char *rv__task_uuid(const rv_task *t)
{
    return t->uuid;
}

const char *rv__task_type(const rv_task *t)
{
    return t->type;
}

rv_batch *rv__task_batch(const rv_task *t)
{
    return t->batch;
}

size_t rv__task_results(const rv_task *t)
{
    return t->results;
}

const char *rv__task_prompt(const rv_task *t)
{
    const char *prompt = rv__json_get_string(t->value, "positivePrompt", "");
    return strcmp(prompt, "__BLANK__") == 0 ? "" : prompt;
}

void rv__task_cache_steps(const rv_task *t, int64_t *start, int64_t *end)
{
    const rv__value *a = rv__json_get(t->value, "acceleratorOptions");
    int64_t steps = rv__json_get_int(t->value, "steps", 1);
    int64_t from = rv__percent_step(steps, rv__json_get_int(a, "cacheStartStepPercentage", 0));
    int64_t to = rv__percent_step(steps, rv__json_get_int(a, "cacheEndStepPercentage", 100));
    *start = rv__json_get_int(a, "cacheStartStep", from);
    *end = rv__json_get_int(a, "cacheEndStep", to);
}

bool rv__task_seed_drawn(const rv_task *t)
{
    return t->seed_drawn;
}

uint64_t rv__task_seed(const rv_task *t, size_t i)
{
    uint64_t room = t->seed_max - t->seed; /* how many more fit below the maximum */
    return i <= room ? t->seed + i : t->seed_min + (i - room - 1);
}

double rv__task_cost(const rv_task *t)
{
    return rv__task_price(t, t->model ? rv__json_get(t->model->card, "price") : NULL);
}

double rv__task_price(const rv_task *t, const rv__value *price)
{
    double base = rv__json_get_number(price, "base", 0);
    double per_step = rv__json_get_number(price, "perStep", 0);
    double per_megapixel = rv__json_get_number(price, "perMegapixel", 0);
    if (!price)
        return -1;
    double pixels =
        rv__json_get_number(t->value, "width", 0) * rv__json_get_number(t->value, "height", 0);
    double cost =
        base + per_step * rv__json_get_number(t->value, "steps", 0) + per_megapixel * pixels / 1e6;
    return round(cost * 1e4) / 1e4;
}
