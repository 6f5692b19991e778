/* Models as the OpenAI protocol lists them, and the schema of a request in that protocol.  What a
 * parameter may be is taken from the model's own table; only the names are this protocol's. */
#include "openai.h"

#include "describe.h"
#include "openai_models.h"
#include "table.h"
#include "task.h"

#include <string.h>

static void write_text(rv__buf *b, const char *name, const char *text)
{
    if (!text)
        return;
    rv__buf_addf(b, ",\"%s\":", name);
    rv__json_write_string(b, text);
}

/* The short name: the first alias, or the identifier. */
static const char *slug_of(const rv__model *m)
{
    const char *first = rv__json_string(rv__json_first(rv__json_get(m->card, "aliases")));
    return first ? first : m->id;
}

/* Without the closing brace.  root is the identifier behind an alias. */
static void write_model(rv__buf *b, const rv__model *m, const char *id)
{
    rv__buf_adds(b, "{\"id\":");
    rv__json_write_string(b, id);
    rv__buf_addf(b, ",\"object\":\"model\",\"created\":%lld",
                 (long long)rv__json_get_int(m->card, "x-created", 0));
    write_text(b, "owned_by", rv__json_get_string(m->card, "x-owner", "reverie"));
    write_text(b, "root", m->id);
    write_text(b, "name", m->name);
    write_text(b, "description", rv__json_get_string(m->card, "description", NULL));
    write_text(b, "documentation", rv__json_get_string(m->card, "documentation", NULL));
    const rv__value *aliases = rv__json_get(m->card, "aliases");
    rv__buf_adds(b, ",\"aliases\":");
    if (aliases)
        rv__json_write_value(b, aliases);
    else
        rv__buf_adds(b, "[]");
}

char *rv__openai_models(const rv__models *models)
{
    rv__buf b;
    rv__buf_init(&b, 1 << 24);
    rv__buf_adds(&b, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < rv__models_count(models); i++) {
        const rv__model *m = rv__models_at(models, i);
        const char *slug = slug_of(m);
        rv__buf_adds(&b, i ? "," : "");
        write_model(&b, m, m->id);
        rv__buf_adds(&b, "}");
        if (strcmp(slug, m->id) == 0)
            continue;
        rv__buf_adds(&b, ",");
        write_model(&b, m, slug);
        rv__buf_adds(&b, "}");
    }
    rv__buf_adds(&b, "]}");
    return rv__buf_take(&b, NULL);
}

/* A property from its row of the table, with the changes this protocol makes. */
static void write_property(rv__buf *b, const rv__openai_field *own, const rv__field *row)
{
    rv__json_write_string(b, own->name);
    rv__buf_adds(b, ":{");
    if (row)
        rv__describe_row(b, row, own->schema && strstr(own->schema, "\"maximum\""));
    if (own->schema)
        rv__buf_addf(b, "%s%s", row ? "," : "", own->schema);
    if (own->mode)
        rv__buf_addf(b, ",\"x-modes\":[\"%s\"]", own->mode);
    if (own->providers)
        rv__buf_addf(b, ",\"x-providers\":%s", own->providers);
    rv__buf_adds(b, "}");
}

/* Our own parameters that have no name of this protocol are accepted under theirs. */
static bool is_extension(const rv__field *row)
{
    static const char *const hidden[] = {
        "taskType",       "taskUUID",       "model",          "deliveryMethod", "webhookURL",
        "uploadEndpoint", "outputType",     "outputFormat",   "outputQuality",  "seedImage",
        "maskImage",      "positivePrompt", "negativePrompt", "numberResults",  "seed"};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        if (strcmp(row->name, hidden[i]) == 0)
            return false;
    }
    return !row->legacy;
}

static void write_schema(rv__buf *b, const rv__model *m)
{
    rv__buf_adds(b, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\"");
    write_text(b, "title", m->name);
    rv__buf_adds(b, ",\"type\":\"object\",\"required\":[\"prompt\"],\"properties\":{");
    const char *before = "";
    for (const rv__openai_field *f = rv__openai_fields; f->name; f++) {
        const rv__field *row = f->runware ? rv__field_find(m->fields, f->runware) : NULL;
        bool absent = (f->runware && !row) ||
                      (f->edits_only && !f->runware && !rv__field_find(m->fields, "seedImage"));
        if (absent)
            continue;
        rv__buf_adds(b, before);
        write_property(b, f, row);
        before = ",";
    }
    for (const rv__field *row = m->fields; row->name; row++) {
        if (!is_extension(row))
            continue;
        rv__openai_field f = {.name = row->name, .mode = "passthrough"};
        rv__buf_adds(b, before);
        write_property(b, &f, row);
        before = ",";
    }
    rv__buf_adds(b, "}}");
}

char *rv__openai_model(const rv__models *models, const char *id, const char *schema)
{
    const rv__model *m = rv__models_find(models, id);
    if (!m)
        return NULL;
    rv__buf b;
    rv__buf_init(&b, 1 << 24);
    write_model(&b, m, id);
    if (schema && strcmp(schema, "runware") == 0) {
        char *text = rv__schema_json(models, m->id);
        rv__buf_adds(&b, ",\"schema\":");
        rv__buf_adds(&b, text ? text : "null");
        rv__free(text);
    } else if (schema && *schema && strcmp(schema, "false") != 0 && strcmp(schema, "0") != 0) {
        rv__buf_adds(&b, ",\"schema\":");
        write_schema(&b, m);
    }
    rv__buf_adds(&b, "}");
    return rv__buf_take(&b, NULL);
}
