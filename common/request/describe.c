/* JSON schemas, the list of models and the reference page.  Says only what the
 * tables say. */
#include "describe.h"

#include "formats.h"
#include "rules.h"
#include "task.h"

#include <dirent.h>
#include <string.h>

static void write_text(rv__buf *b, const char *name, const char *text)
{
    if (!text)
        return;
    rv__buf_addf(b, ",\"%s\":", name);
    rv__json_write_string(b, text);
}

static void write_number(rv__buf *b, const char *name, double v)
{
    rv__buf_addf(b, ",\"%s\":", name);
    rv__json_write_double(b, v);
}

static bool is_number(const rv__field *f)
{
    return f->type == RV__INT || f->type == RV__UINT || f->type == RV__FLOAT;
}

/* ---- schema ------------------------------------------------------------------------------ */

static void write_limits(rv__buf *b, const rv__field *f, bool no_maximum)
{
    if (!is_number(f))
        return;
    write_number(b, "minimum", f->min);
    if (f->type == RV__UINT && !no_maximum)
        rv__buf_addf(b, ",\"maximum\":%llu", (unsigned long long)f->max_uint);
    else if (f->max != 0 && !no_maximum)
        write_number(b, "maximum", f->max);
    if (f->step != 0)
        write_number(b, "multipleOf", f->step);
}

static void write_sizes(rv__buf *b, const rv__field *f, const char *least, const char *most)
{
    if (f->min_size && !f->skip_empty)
        rv__buf_addf(b, ",\"%s\":%zu", least, f->min_size);
    if (f->max_size)
        rv__buf_addf(b, ",\"%s\":%zu", most, f->max_size);
}

static void write_words(rv__buf *b, const rv__word *words)
{
    rv__buf_adds(b, ",\"enum\":[");
    bool help = false;
    for (const rv__word *w = words; w->word; w++) {
        if (w != words)
            rv__buf_adds(b, ",");
        rv__json_write_string(b, w->word);
        help |= w->help != NULL;
    }
    rv__buf_adds(b, help ? "],\"x-help\":{" : "]");
    const char *before = "";
    for (const rv__word *w = words; help && w->word; w++) {
        if (!w->help)
            continue;
        rv__buf_adds(b, before);
        rv__json_write_string(b, w->word);
        rv__buf_adds(b, ":");
        rv__json_write_string(b, w->help);
        before = ",";
    }
    rv__buf_adds(b, help ? "}" : "");
}

/* Standard names of formats; ours get a name of our own. */
static void write_format(rv__buf *b, rv__form format)
{
    bool standard = format == RV__UUID || format == RV__URL;
    write_text(b, standard ? "format" : "x-format", rv__format_word(format));
}

static void write_members(rv__buf *b, const rv__field *fields, const rv__model *model);

static void write_items(rv__buf *b, const rv__field *f)
{
    rv__buf_adds(b, ",\"items\":{\"type\":");
    if (f->type == RV__TEXTS) {
        rv__buf_adds(b, "\"string\"");
        write_format(b, f->format);
    } else {
        rv__buf_adds(b, "\"object\"");
        write_members(b, f->fields, NULL);
    }
    rv__buf_adds(b, "}");
}

/* What only the model's card knows: the task type and the names that mean this model. */
static void write_constant(rv__buf *b, const rv__field *f, const rv__model *model)
{
    if (model && strcmp(f->name, "taskType") == 0)
        rv__buf_adds(b, ",\"const\":\"imageInference\"");
    if (!model || strcmp(f->name, "model") != 0)
        return;
    rv__buf_adds(b, ",\"enum\":[");
    rv__json_write_string(b, model->id);
    for (const rv__value *v = rv__json_first(rv__json_get(model->card, "aliases")); v;
         v = rv__json_next(v)) {
        rv__buf_adds(b, ",");
        rv__json_write_value(b, v);
    }
    rv__buf_adds(b, "],\"default\":");
    rv__json_write_string(b, model->id);
}

static void write_row(rv__buf *b, const rv__field *f, const rv__model *model, bool no_maximum)
{
    const char *type = f->type == RV__FLOAT ? "number" : rv__type_word(f->type);
    rv__buf_addf(b, "\"type\":\"%s\"", type);
    write_text(b, "title", f->label);
    write_text(b, "description", f->help);
    write_constant(b, f, model);
    write_limits(b, f, no_maximum);
    bool list = f->type == RV__TEXTS || f->type == RV__LIST;
    write_sizes(b, f, list ? "minItems" : "minLength", list ? "maxItems" : "maxLength");
    if (f->words)
        write_words(b, f->words);
    if (f->preset)
        rv__buf_addf(b, ",\"default\":%s", f->preset);
    if (!list)
        write_format(b, f->format);
    if (list)
        write_items(b, f);
    if (f->type == RV__OBJECT)
        write_members(b, f->fields, NULL);
    write_text(b, "x-group", f->group);
    write_text(b, "x-unit", f->unit);
}

void rv__describe_row(rv__buf *b, const rv__field *f, bool no_maximum)
{
    write_row(b, f, NULL, no_maximum);
}

static void write_property(rv__buf *b, const rv__field *f, const rv__model *model)
{
    rv__json_write_string(b, f->name);
    rv__buf_adds(b, ":{");
    write_row(b, f, model, false);
    rv__buf_adds(b, f->legacy ? ",\"deprecated\":true}" : "}");
}

static void write_members(rv__buf *b, const rv__field *fields, const rv__model *model)
{
    const char *before = "";
    rv__buf_adds(b, ",\"properties\":{");
    for (const rv__field *f = fields; f->name; f++, before = ",") {
        rv__buf_adds(b, before);
        write_property(b, f, model);
    }
    rv__buf_adds(b, "},\"required\":[");
    before = "";
    for (const rv__field *f = fields; f->name; f++) {
        if (!f->required)
            continue;
        rv__buf_addf(b, "%s\"%s\"", before, f->name);
        before = ",";
    }
    rv__buf_adds(b, "],\"additionalProperties\":false");
}

/* Has the model every parameter of a rule's first place?  Other rules do not concern it. */
static bool concerns(const rv__field *fields, const char *path)
{
    char name[64];
    while (fields) {
        size_t n = strcspn(path, ".[");
        if (n >= sizeof name)
            return false;
        memcpy(name, path, n);
        name[n] = '\0';
        const rv__field *f = rv__field_find(fields, name);
        path += n + strspn(path + n, ".[]");
        if (!f || !*path)
            return f;
        fields = f->fields;
    }
    return false;
}

static void write_rules(rv__buf *b, const rv__field *fields)
{
    const char *before = "";
    rv__buf_adds(b, ",\"x-rules\":[");
    for (const rv__rule *r = rv__rules; r->name; r++) {
        if (!concerns(fields, r->fields[0]) || (r->fields[1] && !concerns(fields, r->fields[1])))
            continue;
        rv__buf_addf(b, "%s{\"name\":\"%s\"", before, r->name);
        write_text(b, "code", r->code);
        write_text(b, "description", r->sentence);
        rv__buf_adds(b, ",\"parameters\":[");
        for (size_t i = 0; i < RV__RULE_FIELDS && r->fields[i]; i++) {
            rv__buf_adds(b, i ? "," : "");
            rv__json_write_string(b, r->fields[i]);
        }
        rv__buf_adds(b, r->warning ? "],\"warning\":true}" : "]}");
        before = ",";
    }
    rv__buf_adds(b, "]");
}

char *rv__schema_json(const rv__models *m, const char *id)
{
    const rv__model *model = rv__models_find(m, id);
    if (!model)
        return NULL;
    rv__buf b;
    rv__buf_init(&b, 1 << 22);
    rv__buf_adds(&b, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\"");
    write_text(&b, "title", model->name);
    write_text(&b, "description", rv__json_get_string(model->card, "description", NULL));
    rv__buf_adds(&b, ",\"type\":\"object\"");
    write_members(&b, model->fields, model);
    const rv__field *width = rv__field_find(model->fields, "width");
    if (width && width->preset)
        rv__buf_adds(&b, ",\"dependentRequired\":{\"width\":[\"height\"],\"height\":[\"width\"]}");
    write_rules(&b, model->fields);
    rv__buf_adds(&b, "}");
    return rv__buf_take(&b, NULL);
}

static void write_name(rv__buf *b, const char *name, size_t len, int *count)
{
    char *copy = rv__strndup(name, len);
    rv__buf_adds(b, (*count)++ ? "," : ",\"loras\":[");
    rv__json_write_string(b, copy ? copy : "");
    rv__free(copy);
}

/* LoRAs by the names that requests use: those of the card, then the files of its folder. */
static void write_loras(rv__buf *b, const rv__model *model)
{
    static const char ending[] = ".safetensors";
    const rv__value *map = rv__json_get(model->engine, "loras");
    const char *folder = rv__json_get_string(model->engine, "lora_folder", NULL);
    int count = 0;
    for (const rv__value *v = rv__json_first(map); v; v = rv__json_next(v))
        write_name(b, rv__json_key(v), strlen(rv__json_key(v)), &count);
    char *path = !folder            ? NULL
                 : folder[0] == '/' ? rv__strdup(folder)
                                    : rv__format("%s/%s", model->folder, folder);
    DIR *dir = path ? opendir(path) : NULL;
    for (const struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir)) {
        size_t len = strlen(d->d_name), tail = sizeof ending - 1;
        if (len > tail && d->d_name[0] != '.' && strcmp(d->d_name + len - tail, ending) == 0)
            write_name(b, d->d_name, len - tail, &count);
    }
    if (dir)
        closedir(dir);
    rv__free(path);
    if (count)
        rv__buf_adds(b, "]");
}

char *rv__models_json(const rv__models *m)
{
    rv__buf b;
    rv__buf_init(&b, 1 << 24);
    rv__buf_adds(&b, "[");
    for (size_t i = 0; i < rv__models_count(m); i++) {
        const rv__model *model = rv__models_at(m, i);
        const rv__value *aliases = rv__json_get(model->card, "aliases");
        rv__buf_adds(&b, i ? ",{\"id\":" : "{\"id\":");
        rv__json_write_string(&b, model->id);
        rv__buf_adds(&b, ",\"aliases\":");
        if (aliases)
            rv__json_write_value(&b, aliases);
        else
            rv__buf_adds(&b, "[]");
        write_text(&b, "name", model->name);
        write_text(&b, "description", rv__json_get_string(model->card, "description", NULL));
        write_text(&b, "documentation", rv__json_get_string(model->card, "documentation", NULL));
        write_text(&b, "licence", rv__json_get_string(model->card, "licence", NULL));
        write_loras(&b, model);
        rv__buf_adds(&b, "}");
    }
    rv__buf_adds(&b, "]");
    return rv__buf_take(&b, NULL);
}

/* ---- reference page ---------------------------------------------------------------------- */

static void page_range(rv__buf *b, const rv__field *f)
{
    if (is_number(f)) {
        rv__json_write_double(b, f->min);
        rv__buf_adds(b, " – ");
        if (f->type == RV__UINT)
            rv__buf_addf(b, "%llu", (unsigned long long)f->max_uint);
        else if (f->max != 0)
            rv__json_write_double(b, f->max);
        else
            rv__buf_adds(b, f->capped ? "setting `max_steps`" : "∞");
        if (f->step != 0) {
            rv__buf_adds(b, ", × ");
            rv__json_write_double(b, f->step);
        }
    } else if (f->words == rv__scheduler_words) {
        rv__buf_adds(b, "see below");
    } else if (f->words && f->words != rv__style_preset_words) {
        for (const rv__word *w = f->words; w->word; w++)
            rv__buf_addf(b, "%s`%s`", w == f->words ? "" : " ", w->word);
    } else if (f->min_size || f->max_size) {
        bool list = f->type == RV__TEXTS || f->type == RV__LIST;
        rv__buf_addf(b, "%zu – ", f->skip_empty ? 0 : f->min_size);
        if (f->max_size)
            rv__buf_addf(b, "%zu", f->max_size);
        else
            rv__buf_adds(b, "∞");
        rv__buf_adds(b, list ? " items" : " characters");
    } else if (f->format) {
        rv__buf_adds(b, rv__format_word(f->format));
    }
}

static void page_row(rv__buf *b, const rv__field *f, const char *path)
{
    static const char *const families[] = {"", "HiDream", "generic", "all"};
    rv__buf_addf(b, "| `%s%s`%s | %s | ", path, f->name, f->required ? " *" : "",
                 rv__type_word(f->type));
    page_range(b, f);
    rv__buf_addf(b, " | %s%s%s | %s | %s", f->preset ? "`" : "", f->preset ? f->preset : "",
                 f->preset ? "`" : "", families[f->families], f->help);
    if (f->unit)
        rv__buf_addf(b, " Unit: %s.", f->unit);
    if (f->also)
        rv__buf_addf(b, " Also `%s`.", f->also);
    rv__buf_adds(b, " |\n");
}

static void page_level(rv__buf *b, const rv__field *rows, const char *path)
{
    for (const rv__field *f = rows; f->name; f++) {
        page_row(b, f, path);
        bool repeated = f != rows && f[-1].name && strcmp(f[-1].name, f->name) == 0;
        char *below = rv__format("%s%s%s.", path, f->name, f->type == RV__LIST ? "[]" : "");
        if (below && f->fields && !repeated)
            page_level(b, f->fields, below);
        b->failed |= !below;
        rv__free(below);
    }
}

static void page_rules(rv__buf *b)
{
    rv__buf_adds(b, "\n## Rules across parameters\n\n| rule | parameters | code | meaning "
                    "|\n|---|---|---|---|\n");
    for (const rv__rule *r = rv__rules; r->name; r++) {
        rv__buf_addf(b, "| %s |", r->name);
        for (size_t i = 0; i < RV__RULE_FIELDS && r->fields[i]; i++)
            rv__buf_addf(b, " `%s`", r->fields[i]);
        rv__buf_addf(b, " | %s | %s |\n", r->warning ? "(warning)" : r->code, r->sentence);
    }
}

static void page_words(rv__buf *b, const char *title, const rv__word *words)
{
    rv__buf_addf(b, "\n## %s\n\n", title);
    for (const rv__word *w = words; w->word; w++)
        rv__buf_addf(b, "%s`%s`%s%s",
                     w == words              ? ""
                     : w[-1].help || w->help ? "\n"
                                             : " ",
                     w->word, w->help ? " – " : "", w->help ? w->help : "");
    rv__buf_adds(b, "\n");
}

char *rv__parameters_page(void)
{
    rv__buf b;
    rv__buf_init(&b, 1 << 22);
    rv__buf_adds(
        &b,
        "# Parameters of imageInference\n\n"
        "Generated by `reverie schema --docs`; a test compares it with the tables.\n\n"
        "Models: *HiDream* are the pages of runware:97@1, 97@2 and 97@3, *generic* is the "
        "reference of\n"
        "the task type. A model card may change defaults and limits, or take rows of the other "
        "family.\n"
        "A star marks what must be given. Words are compared without regard to case; `null` counts "
        "as\n"
        "absent.\n\n"
        "| parameter | type | range | default | models | meaning |\n|---|---|---|---|---|---|\n");
    page_level(&b, rv__table, "");
    page_rules(&b);
    page_words(&b, "Schedulers", rv__scheduler_words);
    page_words(&b, "Style presets", rv__style_preset_words);
    return rv__buf_take(&b, NULL);
}
