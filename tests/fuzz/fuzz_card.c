/* Model cards from hostile bytes: taken or refused with words; a card that is taken describes itself and its tasks. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "remote/service.h"
#include "request/task.h"

static const char body[] = "[{\"taskType\":\"imageInference\",\"model\":\"fuzz:1@1\",\"positivePrompt\":\"a\","
                           "\"taskUUID\":\"00000000-0000-4000-8000-000000000001\",\"numberResults\":2}]";

static void use(rv__models *models)
{
    rv__check_settings s = {.models = models, .lenient = true};
    rv_batch *b = rv__batch_parse(&s, body, sizeof body - 1);
    if (!b)
        abort();
    rv_task *t = rv_batch_task(b, 0);
    if (t) {
        (void)rv__task_cost(t);
        const rv__model *m = rv__task_model(t);
        if (!m || !m->id || strcmp(m->id, "fuzz:1@1") != 0)
            abort();
    }
    char *issues = rv_batch_issues_json(b);
    rv__value *v = issues ? rv__json_parse(issues, strlen(issues), NULL) : NULL;
    if (!v)
        abort();
    rv__json_free(v);
    rv_free(issues);
    rv_batch_unref(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rv__models *models = rv__models_new();
    char *copy = malloc(size ? size : 1);
    rv_error err = {0};
    if (!models || !copy)
        abort();
    if (size)
        memcpy(copy, data, size);
    rv_status status = rv__models_add_json(models, copy, size, "/nowhere", &err);
    free(copy);
    if (status == RV_OK)
        use(models);
    else if (!*err.message)
        abort();
    rv__models_free(models);
    return 0;
}
