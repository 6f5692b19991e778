/* Requests of the OpenAI images protocol, JSON and forms: the first byte chooses the kind, the first line behind it is
 * the Content-Type.  Whatever comes, the translation gives a task's JSON, which is then judged like any other. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "request/openai.h"
#include "request/task.h"

static rv__models *models;

static void open_models(void)
{
    models = rv__models_new();
    if (!models || rv__models_add(models, SOURCE_ROOT "/config/models", NULL) != RV_OK)
        abort();
}

static void judge(rv__openai *o)
{
    rv__check_settings s = {.models = models, .lenient = true};
    const rv_issue *list;
    rv_batch *b = rv__batch_parse(&s, o->task, o->task_len);
    if (!b)
        abort();
    rv_batch_issues(b, &list);
    for (; list->message; list++) {
        if (!rv__openai_sentence(o, list->parameter, list->message))
            abort();
        if (list->parameter && !rv__openai_name(o, list->parameter))
            abort();
    }
    rv_batch_unref(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!models)
        open_models();
    const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
    if (!line)
        return 0;
    size_t type_len = (size_t)(line - data - (line > data)), len = size - (size_t)(line - data) - 1;
    char *type = strndup((const char *)data + 1, type_len), *body = malloc(len ? len : 1);
    if (!type || !body)
        abort();
    if (len)
        memcpy(body, line + 1, len);
    rv__openai o;
    if (!rv__openai_translate(models, NULL, data[0] % 3, *type ? type : NULL, body, len, NULL, &o))
        abort();
    if (!o.errors && !o.task)
        abort();
    if (o.task)
        judge(&o);
    rv__openai_free(&o);
    free(type);
    free(body);
    return 0;
}
