/* See executor_lora.h.  Must never let a name leave the folder of LoRAs. */
#include "executor_lora.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

enum { MAX_LORAS = 32 };

static rv_status blame(rv_error *err, rv_status status, size_t i, const char *member,
                       const char *what, const char *why)
{
    char parameter[48];
    snprintf(parameter, sizeof parameter, "lora[%zu].%s", i, member);
    return rv__fail_code(err, status,
                         status == RV_NOT_FOUND ? "modelNotFound" : "unsupportedParameter",
                         parameter, "%s: \"%.100s\" %s", parameter, what, why);
}

static char *in_folder(const rv__model *model, const char *path)
{
    return path[0] == '/' ? rv__strdup(path) : rv__format("%s/%s", model->folder, path);
}

/* The file of a LoRA (out; rv__free). */
static rv_status find_file(const rv__model *model, const char *name, size_t i, char **out,
                           rv_error *err)
{
    const rv__value *map = rv__json_get(model->engine, "loras");
    const char *path = rv__json_get_string(map, name, NULL);
    const char *folder = rv__json_get_string(model->engine, "lora_folder", NULL);
    char *file = NULL;
    if (!path && (!folder || strchr(name, '/') || name[0] == '.'))
        return blame(err, RV_NOT_FOUND, i, "model", name, "is not known for this model");
    if (!path && !(file = rv__format("%s/%s.safetensors", folder, name)))
        return rv__fail(err, RV_MEMORY, "out of memory");
    *out = in_folder(model, path ? path : file);
    rv__free(file);
    if (!*out)
        return rv__fail(err, RV_MEMORY, "out of memory");
    return path || access(*out, F_OK) == 0
               ? RV_OK
               : blame(err, RV_NOT_FOUND, i, "model", name, "is not known for this model");
}

static rv_status read_one(const rv__value *v, const rv__model *model, size_t i, rv__lora_use *use,
                          char **file, rv_error *err)
{
    const char *name = rv__json_get_string(v, "model", "");
    const char *stage = rv__json_get_string(v, "transformer", "both");
    if (strcmp(stage, "both") != 0)
        return blame(err, RV_UNSUPPORTED, i, "transformer", stage,
                     "is for models with two transformers; this one has one for all steps");
    use->weight = rv__json_get_number(v, "weight", 1);
    rv_status status = find_file(model, name, i, file, err);
    use->path = *file;
    return status;
}

rv_status rv__executor_loras(rv__pipeline *p, const rv__value *task, const rv__model *model,
                             rv_error *err)
{
    const rv__value *list = rv__json_get(task, "lora");
    rv__lora_use uses[MAX_LORAS];
    char *files[MAX_LORAS] = {0};
    size_t count = 0;
    rv_status status = RV_OK;
    for (const rv__value *v = rv__json_first(list); v && status == RV_OK; v = rv__json_next(v)) {
        status = count < MAX_LORAS
                     ? read_one(v, model, count, &uses[count], &files[count], err)
                     : rv__fail_code(err, RV_UNSUPPORTED, NULL, "lora", "at most %d", MAX_LORAS);
        count++;
    }
    if (status == RV_OK)
        status = rv__pipeline_loras(p, uses, count, err);
    for (size_t i = 0; i < MAX_LORAS; i++)
        rv__free(files[i]);
    return status;
}
