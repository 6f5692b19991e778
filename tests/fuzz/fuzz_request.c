/* Request bodies from hostile bytes: checked, reported in both JSON forms, normalised.  What comes
 * out must be JSON, and a normalised task must be a request that is normalised already. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "request/task.h"

static const char full[] =
    "{\"id\":\"runware:97@1\",\"name\":\"Full\",\"aliases\":[\"hidream-i1-full\"],"
    "\"parameters\":{\"CFGScale\":{\"default\":5}},\"price\":{\"perStep\":0.0003}}";
static const char every[] =
    "{\"id\":\"runware:101@1\",\"name\":\"Generic\",\"family\":\"generic\"}";

static rv__models *models;

static void open_models(void)
{
    models = rv__models_new();
    if (!models || rv__models_add_json(models, full, strlen(full), "", NULL) != RV_OK ||
        rv__models_add_json(models, every, strlen(every), "", NULL) != RV_OK)
        abort();
}

static void must_be_json(const char *text, size_t len)
{
    rv__value *v = text ? rv__json_parse(text, len, NULL) : NULL;
    if (!v)
        abort();
    rv__json_free(v);
}

static void use_issues(const rv_batch *b)
{
    const rv_issue *list;
    size_t errors = rv_batch_issues(b, &list), counted = 0;
    for (const rv_issue *i = list; i->message; i++) {
        rv__buf out;
        rv__buf_init(&out, 1 << 20);
        rv__issue_error_json(&out, b, i);
        must_be_json(out.data, out.len);
        rv__buf_free(&out);
        if (!i->code || !i->rule || !i->paths || !i->paths[0])
            abort();
        counted += !i->warning;
    }
    if (counted > errors || (errors && !counted))
        abort();
    char *json = rv_batch_issues_json(b);
    must_be_json(json, json ? strlen(json) : 0);
    rv_free(json);
}

static void use_task(const rv_task *t)
{
    size_t len;
    const char *json = rv_task_json(t, &len);
    rv__check_settings s = {.models = models};
    rv_batch *again = rv__batch_parse(&s, json, len);
    rv_task *same = again ? rv_batch_task(again, 0) : NULL;
    if (!same || strcmp(rv_task_json(same, NULL), json) != 0)
        abort();
    for (size_t i = 0; i < rv__task_results(t); i++) {
        if (rv__task_seed(t, i) > UINT64_C(9223372036854776000))
            abort();
    }
    if (rv__task_model(t)) {
        int64_t start, end;
        rv__task_cache_steps(t, &start, &end);
        (void)rv__task_cost(t);
        if (start < 0 || end < 0 || !rv__task_prompt(t))
            abort();
    }
    rv_batch_unref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!models)
        open_models();
    char *copy = malloc(size ? size : 1); /* exactly as large: a read behind it is found */
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    rv__check_settings s = {.models = models, .strict_uuid = size & 1, .lenient = size & 2};
    rv_batch *b = rv__batch_parse(&s, copy, size);
    free(copy); /* a batch borrows nothing */
    if (!b)
        abort();
    use_issues(b);
    for (size_t i = 0; i < rv_batch_size(b); i++) {
        if (rv_batch_task(b, i))
            use_task(rv_batch_task(b, i));
    }
    rv_batch_unref(b);
    return 0;
}
