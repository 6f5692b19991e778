/* What the tests of the request model share: the cards of the source tree plus a generic one, and
 * short ways to look at issues. */
#ifndef REQUEST_HELPER_H
#define REQUEST_HELPER_H

#include "request/rules.h"
#include "request/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GENERIC_MODEL "test:generic@1"
#define TASK_UUID     "a770f077-f413-47de-9dac-be0b26a35da6"
#define PNG_BASE64                                                                                 \
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABXvMqOgAAAABJRU5ErkJg" \
    "gg=="

static rv__models *models;

static char *source_path(const char *below)
{
    const char *root = getenv("SOURCE_ROOT");
    return rv__format("%s/%s", root ? root : ".", below);
}

static int load_models(void **state)
{
    static const char generic[] =
        "{\"id\":\"" GENERIC_MODEL
        "\",\"name\":\"Generic\",\"aliases\":[\"generic\"],\"family\":\"generic\"}";
    rv_error err = {0};
    char *path = source_path("config/models");
    models = rv__models_new();
    rv_status s = rv__models_add(models, path, &err);
    if (s == RV_OK)
        s = rv__models_add_json(models, generic, strlen(generic), "", &err);
    if (s != RV_OK)
        print_message("%s\n", err.message);
    rv__free(path);
    return s == RV_OK ? 0 : -1;
}

static int free_models(void **state)
{
    rv__models_free(models);
    models = NULL;
    return 0;
}

static rv_batch *parse_with(const char *text, rv__check_settings s)
{
    s.models = models;
    rv_batch *b = rv__batch_parse(&s, text, strlen(text));
    assert_non_null(b);
    return b;
}

static rv_batch *parse(const char *text)
{
    return parse_with(text, (rv__check_settings){0});
}

/* A task of a model with more members (`,"steps":3` or ""). */
static char *task_text(const char *model, const char *more)
{
    bool generic = strcmp(model, GENERIC_MODEL) == 0;
    return rv__format(
        "[{\"taskType\":\"imageInference\",\"taskUUID\":\"" TASK_UUID "\",\"model\":\"%s\","
        "\"positivePrompt\":\"a quiet harbour\"%s%s}]",
        model, generic && !strstr(more, "\"width\"") ? ",\"width\":1024,\"height\":1024" : "",
        more);
}

__attribute__((unused)) static rv_batch *parse_task(const char *model, const char *more)
{
    char *text = task_text(model, more);
    rv_batch *b = parse(text);
    rv__free(text);
    return b;
}

static void print_issues(const rv_batch *b)
{
    char *json = rv_batch_issues_json(b);
    print_message("%s\n", json);
    rv_free(json);
}

/* The issue with this code and parameter, or NULL. */
__attribute__((unused)) static const rv_issue *find_issue(const rv_batch *b, const char *code,
                                                          const char *parameter)
{
    const rv_issue *list;
    rv_batch_issues(b, &list);
    for (; list->message; list++) {
        const char *p = list->parameter ? list->parameter : "";
        if (strcmp(list->code, code) == 0 && (!parameter || strcmp(p, parameter) == 0))
            return list;
    }
    return NULL;
}

__attribute__((unused)) static size_t count_issues(const rv_batch *b)
{
    const rv_issue *list;
    size_t n = 0;
    for (rv_batch_issues(b, &list); list[n].message; n++)
        continue;
    return n;
}

/* Exactly one issue: this one. */
__attribute__((unused)) static void assert_only_issue(const rv_batch *b, const char *code,
                                                      const char *parameter, const char *rule,
                                                      const char *path)
{
    const rv_issue *list;
    rv_batch_issues(b, &list);
    bool same = count_issues(b) == 1 && strcmp(list->code, code) == 0 &&
                strcmp(list->rule, rule) == 0 &&
                strcmp(list->parameter ? list->parameter : "", parameter ? parameter : "") == 0 &&
                list->paths[0] && strcmp(list->paths[0], path) == 0;
    if (!same) {
        print_message("expected %s %s %s %s\n", code, parameter ? parameter : "", rule, path);
        print_issues(b);
    }
    assert_true(same);
}

__attribute__((unused)) static void assert_clean(const rv_batch *b)
{
    if (count_issues(b))
        print_issues(b);
    assert_int_equal(count_issues(b), 0);
}

__attribute__((unused)) static char *read_source(const char *below)
{
    char *path = source_path(below);
    FILE *f = fopen(path, "rb");
    if (!f)
        print_message("%s is missing\n", path);
    assert_non_null(f);
    rv__free(path);
    rv__buf b;
    rv__buf_init(&b, 1 << 24);
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;)
        rv__buf_add(&b, part, n);
    fclose(f);
    return rv__buf_take(&b, NULL);
}

#endif
