/* See parameters.h. */
#include "parameters.h"

#include <string.h>

enum { DEPTH_MAX = 4 };

/* Identity, pictures and delivery are ours to decide, sizes are options. */
static bool is_ours(const char *name)
{
    static const char *const ours[] = {
        "taskType",    "taskUUID",       "width",         "height",
        "seedImage",   "maskImage",      "maskMargin",    "outpaint",
        "outputType",  "outputFormat",   "outputQuality", "ttl",
        "includeCost", "deliveryMethod", "webhookURL",    "uploadEndpoint"};
    for (size_t i = 0; i < G_N_ELEMENTS(ours); i++) {
        if (strcmp(name, ours[i]) == 0)
            return true;
    }
    return false;
}

static grv_kind kind_of(const cJSON *field)
{
    static const struct {
        const char *type;
        grv_kind k;
    } kinds[] = {{"string", GRV_TEXT},
                 {"integer", GRV_INTEGER},
                 {"number", GRV_REAL},
                 {"boolean", GRV_SWITCH},
                 {"array", GRV_LIST}};
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItem(field, "type"));
    for (size_t i = 0; type && i < G_N_ELEMENTS(kinds); i++) {
        if (strcmp(type, kinds[i].type) == 0)
            return kinds[i].k;
    }
    return GRV_OTHER;
}

static void walk(const cJSON *fields, const char *before, int depth, grv_parameter_fn *fn,
                 void *user)
{
    const cJSON *f = NULL;
    cJSON_ArrayForEach(f, fields)
    {
        if (cJSON_IsTrue(cJSON_GetObjectItem(f, "deprecated")) || (!depth && is_ours(f->string)))
            continue;
        char *path = g_strconcat(before, f->string, NULL), *deeper = g_strconcat(path, ".", NULL);
        const cJSON *below = cJSON_GetObjectItem(f, "properties");
        if (below && depth < DEPTH_MAX)
            walk(below, deeper, depth + 1, fn, user);
        else
            fn(user, path, kind_of(f), f);
        g_free(path);
        g_free(deeper);
    }
}

void grv_parameters_each(grv_engine *e, const char *model, grv_action action, grv_parameter_fn *fn,
                         void *user)
{
    char *text = rv_schema_json(grv_engine_context(e), model);
    cJSON *schema = text ? cJSON_Parse(text) : NULL;
    cJSON *fields = cJSON_GetObjectItem(schema, "properties");
    if (action == GRV_GENERATE)
        cJSON_DeleteItemFromObject(fields, "strength");
    walk(fields, "", 0, fn, user);
    cJSON_Delete(schema);
    rv_free(text);
}

cJSON *grv_parameter_place(cJSON *task, const char *path, const char **last)
{
    cJSON *object = task;
    for (const char *dot = strchr(path, '.'); dot; dot = strchr(path, '.')) {
        char *name = g_strndup(path, (size_t)(dot - path));
        cJSON *next = cJSON_GetObjectItemCaseSensitive(object, name);
        object = next ? next : cJSON_AddObjectToObject(object, name);
        g_free(name);
        path = dot + 1;
    }
    *last = path;
    return object;
}

const cJSON *grv_parameter_find(const cJSON *task, const char *path)
{
    char **names = g_strsplit(path, ".", -1);
    for (char **n = names; task && *n; n++)
        task = cJSON_GetObjectItemCaseSensitive(task, *n);
    g_strfreev(names);
    return task;
}
