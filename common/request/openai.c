/* From a request of the OpenAI images protocol to one Runware task.  Every value that stands for a
 * Runware parameter is passed on as it came, so that the parameter table alone judges it; only what
 * has no counterpart there (sizes, ratios, words of this protocol) is read here. */
#include "openai.h"

#include "base/uuid.h"
#include "openai_size.h"
#include "openai_input.h"
#include "table.h"

#include <string.h>
#include <strings.h>

enum { MAX_VALUES = 200000, NAMES_MAX = 64, BODY_MAX = 96 << 20 };

#define FAL       "[\"fal\"]"
#define REPLICATE "[\"replicate\"]"

const rv__openai_field rv__openai_fields[] = {
    {"prompt", "positivePrompt", NULL, "renamed", NULL, false},
    {"negative_prompt", "negativePrompt", NULL, "renamed", NULL, false},
    {"model", NULL, "\"type\":\"string\",\"description\":\"Identifier or alias of the model.\"",
     "converted", NULL, false},
    {"n", "numberResults", "\"maximum\":10", "renamed", NULL, false},
    {"seed", "seed", NULL, "passthrough", NULL, false},
    {"size", NULL,
     "\"type\":\"string\",\"default\":\"auto\",\"examples\":[\"1024x1024\",\"16:9\",\"auto\"],"
     "\"description\":\"WIDTHxHEIGHT in pixels, a ratio, or auto for the model's own size.\"",
     "converted", NULL, false},
    {"aspect_ratio", NULL,
     "\"type\":\"string\",\"examples\":[\"16:9\",\"1:1\"],\"description\":\"Ratio of width and "
     "height; the area is that of resolution, or of the model's own size.\"",
     "converted", NULL, false},
    {"resolution", NULL,
     "\"type\":\"string\",\"examples\":[\"1K\",\"2K\"],\"description\":\"As many pixels as a "
     "square of so many times 1024.\"",
     "converted", NULL, false},
    {"response_format", NULL,
     "\"type\":\"string\",\"enum\":[\"url\",\"b64_json\"],\"default\":\"url\","
     "\"description\":\"How the answer carries the pictures.\"",
     "emulated", NULL, false},
    {"output_format", NULL,
     "\"type\":\"string\",\"enum\":[\"png\",\"jpeg\",\"webp\"],\"default\":\"png\","
     "\"description\":\"File format.\"",
     "emulated", NULL, false},
    {"output_compression", NULL,
     "\"type\":\"integer\",\"minimum\":0,\"maximum\":100,\"default\":95,\"description\":\"Quality "
     "of jpeg and webp files.\"",
     "emulated", NULL, false},
    {"quality", NULL, "\"type\":\"string\",\"description\":\"Without effect here; use steps.\"",
     "passthrough", NULL, false},
    {"style", NULL, "\"type\":\"string\",\"description\":\"Without effect here.\"", "passthrough",
     NULL, false},
    {"background", NULL,
     "\"type\":\"string\",\"enum\":[\"auto\",\"opaque\"],\"description\":\"Pictures are opaque.\"",
     "passthrough", NULL, false},
    {"moderation", NULL, "\"type\":\"string\",\"description\":\"Without effect here.\"",
     "passthrough", NULL, false},
    {"input_fidelity", NULL,
     "\"type\":\"string\",\"description\":\"Without effect here; use strength.\"", "passthrough",
     NULL, true},
    {"user", NULL, "\"type\":\"string\",\"description\":\"Without effect here.\"", "passthrough",
     NULL, false},
    {"stream", NULL,
     "\"type\":\"boolean\",\"default\":false,\"description\":\"Answers with server-sent events.\"",
     "emulated", NULL, false},
    {"partial_images", NULL,
     "\"type\":\"integer\",\"minimum\":0,\"maximum\":3,\"default\":0,\"description\":\"Pictures "
     "of the work in progress in a stream.\"",
     "emulated", NULL, false},
    {"image", "seedImage", "\"x-format\":\"picture\"", "renamed", NULL, true},
    {"images", "seedImage", "\"x-format\":\"picture\"", "renamed", NULL, true},
    {"mask", "maskImage",
     "\"description\":\"The picture may change where the mask is transparent, or white in a mask "
     "without transparency.\"",
     "converted", NULL, true},
    {"num_inference_steps", "steps", NULL, "renamed", FAL, false},
    {"guidance_scale", "CFGScale", NULL, "renamed", FAL, false},
    {"enable_safety_checker", NULL,
     "\"type\":\"boolean\",\"default\":false,\"description\":\"Looks for unsafe content.\"",
     "converted", FAL, false},
    {"sync_mode", NULL,
     "\"type\":\"boolean\",\"default\":false,\"description\":\"Returns data URIs.\"", "emulated",
     FAL, false},
    {"output_quality", NULL,
     "\"type\":\"integer\",\"minimum\":0,\"maximum\":100,\"description\":\"Quality of jpeg and "
     "webp files.\"",
     "emulated", REPLICATE, false},
    {"model_type", NULL, "\"type\":\"string\",\"enum\":[\"fast\"]", "passthrough", REPLICATE,
     false},
    {"speed_mode", NULL,
     "\"type\":\"string\",\"enum\":[\"Extra Juiced 🚀 (even more speed)\","
     "\"Juiced 🔥 (more speed)\",\"Lightly Juiced 🍊 (more consistent)\","
     "\"Unsqueezed 🍋 (highest quality)\"],\"description\":\"Speed against quality.\"",
     "converted", REPLICATE, false},
    {0},
};

/* Members that are read after all of them are known. */
typedef struct taken {
    const rv__value *size, *ratio, *resolution, *response, *format, *sync, *safety;
    const rv__value *image, *mask, *stream, *partials, *prompt, *given_type, *compression;
    const char *ratio_name, *compression_name;
    bool has_size, has_cost, has_uuid, has_format, has_quality;
} taken;

typedef struct work {
    rv__openai *o;
    rv__buf b;
    const rv__model *card; /* NULL: not known */
    const rv__part *parts;
    size_t part_count;
    taken t;
    const char *uuid; /* of a task that names none; NULL: a new one */
} work;

/* ---- notes ------------------------------------------------------------------------------- */

static void note(rv__openai *o, rv__openai_note **list, const char *parameter, const char *message)
{
    rv__openai_note *n = rv__pool_alloc(&o->pool, sizeof *n);
    if (!n)
        return;
    *n = (rv__openai_note){rv__pool_text(&o->pool, parameter, strlen(parameter)),
                           rv__pool_text(&o->pool, message, strlen(message)), NULL};
    while (*list)
        list = &(*list)->next;
    *list = n;
}

void rv__openai_refuse(rv__openai *o, const char *parameter, const char *message)
{
    note(o, &o->errors, parameter, message ? message : "out of memory");
}

static void remember(rv__openai *o, const char *runware, const char *sent)
{
    if (o->names_count == NAMES_MAX)
        return;
    char *copy = rv__pool_text(&o->pool, sent, strlen(sent));
    char *name = rv__pool_text(&o->pool, runware, strlen(runware));
    if (!copy || !name)
        return;
    o->names[o->names_count][0] = name;
    o->names[o->names_count++][1] = copy;
}

/* Begins a member of the task. */
static void member(work *w, const char *runware, const char *sent)
{
    rv__buf_adds(&w->b, ",");
    rv__json_write_string(&w->b, runware);
    rv__buf_adds(&w->b, ":");
    remember(w->o, runware, sent);
}

/* ---- members of the request -------------------------------------------------------------- */

static const rv__openai_field *find_field(const char *name)
{
    for (const rv__openai_field *f = rv__openai_fields; f->name; f++) {
        if (strcmp(f->name, name) == 0)
            return f;
    }
    return NULL;
}

/* Keeps a member for later; false when it is none of those. */
static bool take(work *w, const char *name, const rv__value *v)
{
    taken *t = &w->t;
    struct {
        const char *name;
        const rv__value **to;
    } const rows[] = {{"size", &t->size},
                      {"resolution", &t->resolution},
                      {"response_format", &t->response},
                      {"output_format", &t->format},
                      {"sync_mode", &t->sync},
                      {"enable_safety_checker", &t->safety},
                      {"image", &t->image},
                      {"images", &t->image},
                      {"mask", &t->mask},
                      {"stream", &t->stream},
                      {"partial_images", &t->partials}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(name, rows[i].name) == 0) {
            *rows[i].to = v;
            return true;
        }
    }
    if (strcmp(name, "aspect_ratio") == 0) {
        t->ratio = v;
        return true;
    }
    if (strcmp(name, "output_compression") == 0 || strcmp(name, "output_quality") == 0) {
        t->compression = v;
        t->compression_name = name;
        return true;
    }
    return strcmp(name, "model") == 0; /* read before */
}

/* Names of our own table that this protocol has no place for. */
static bool is_foreign(const char *name)
{
    static const char *const names[] = {"deliveryMethod", "webhookURL", "uploadEndpoint"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

static void watch_runware(work *w, const char *name)
{
    w->t.has_size |= strcmp(name, "width") == 0 || strcmp(name, "height") == 0;
    w->t.has_cost |= strcmp(name, "includeCost") == 0;
    w->t.has_uuid |= strcmp(name, "taskUUID") == 0;
    w->t.has_format |= strcmp(name, "outputFormat") == 0;
    w->t.has_quality |= strcmp(name, "outputQuality") == 0;
}

static void ignore(work *w, const char *name)
{
    note(w->o, &w->o->warnings, name,
         rv__pool_format(&w->o->pool, "%.80s has no effect here", name));
}

/* The words of speed_mode begin differently; the rest is decoration. */
static void write_speed(work *w, const rv__value *v)
{
    static const struct {
        const char *begin;
        double distance;
    } modes[] = {{"Extra Juiced", 0.5}, {"Juiced", 0.3}, {"Lightly Juiced", 0.15}};
    const char *text = rv__json_string(v);
    if (text && strncmp(text, "Unsqueezed", 10) == 0)
        return;
    for (size_t i = 0; text && i < sizeof modes / sizeof *modes; i++) {
        if (strncmp(text, modes[i].begin, strlen(modes[i].begin)) != 0)
            continue;
        member(w, "acceleratorOptions", "speed_mode");
        rv__buf_adds(&w->b, "{\"teaCache\":true,\"teaCacheDistance\":");
        rv__json_write_double(&w->b, modes[i].distance);
        rv__buf_adds(&w->b, "}");
        return;
    }
    rv__openai_refuse(w->o, "speed_mode",
                      "speed_mode must begin with Extra Juiced, Juiced, Lightly Juiced or "
                      "Unsqueezed");
}

static void write_count(work *w, const rv__value *v)
{
    int64_t n = 0;
    if (rv__json_int(v, &n) && n > 10) {
        rv__openai_refuse(w->o, "n", "n must be between 1 and 10 (nearest: 10)");
        return;
    }
    member(w, "numberResults", "n");
    rv__json_write_value(&w->b, v);
}

static void write_own(work *w, const rv__openai_field *f, const rv__value *v)
{
    const char *text = rv__json_string(v), *name = f->name;
    rv__openai *o = w->o;
    if (strcmp(name, "speed_mode") == 0) {
        write_speed(w, v);
    } else if (strcmp(name, "n") == 0) {
        write_count(w, v);
    } else if (strcmp(name, "seed") == 0 && rv__json_digits(v) &&
               strcmp(rv__json_digits(v), "-1") == 0) {
        return; /* another way to say: any */
    } else if (f->runware) {
        member(w, f->runware, name);
        rv__json_write_value(&w->b, v);
    } else if (strcmp(name, "background") == 0 && text && strcmp(text, "transparent") == 0) {
        rv__openai_refuse(o, name,
                          "background must be opaque or auto: pictures have no alpha here");
    } else if (strcmp(name, "quality") == 0) {
        o->quality = text ? rv__pool_text(&o->pool, text, strlen(text)) : NULL;
        ignore(w, name);
    } else if (strcmp(name, "background") != 0 && strcmp(name, "user") != 0 &&
               strcmp(name, "model_type") != 0) {
        ignore(w, name);
    }
}

static void read_member(work *w, const rv__value *v)
{
    const char *name = rv__json_key(v);
    const rv__openai_field *f = find_field(name);
    if (rv__json_is_null(v))
        return;
    if (strcmp(name, "prompt") == 0)
        w->t.prompt = v;
    if (take(w, name, v))
        return;
    if (f) {
        write_own(w, f, v);
    } else if (is_foreign(name)) {
        rv__openai_refuse(
            w->o, name, rv__pool_format(&w->o->pool, "%s is not available in this protocol", name));
    } else if (strcmp(name, "taskType") != 0 && rv__field_find(rv__table, name)) {
        watch_runware(w, name);
        member(w, name, name);
        rv__json_write_value(&w->b, v);
        if (strcmp(name, "outputType") == 0)
            w->t.given_type = v;
    } else {
        ignore(w, name);
    }
}

/* ---- what needs more than one member ------------------------------------------------------ */

static bool is_true(work *w, const rv__value *v, const char *name)
{
    bool on = false;
    if (v && !rv__json_bool(v, &on))
        rv__openai_refuse(w->o, name,
                          rv__pool_format(&w->o->pool, "%s must be true or false", name));
    return on;
}

/* OpenAI's own models, and all edits there, answer with base64 unless told otherwise, and clients
 * rely on it. */
static bool answers_inline(const rv__openai *o)
{
    const char *model = o->model ? o->model : "";
    return o->kind == RV_OPENAI_EDITS || strncmp(model, "gpt-image", 9) == 0 ||
           strncmp(model, "chatgpt-image", 13) == 0;
}

static void write_output_type(work *w)
{
    taken *t = &w->t;
    const char *text = rv__json_string(t->response);
    bool inline_data = answers_inline(w->o);
    if (t->response && text && strcmp(text, "b64_json") == 0)
        inline_data = true;
    else if (t->response && text && strcmp(text, "url") == 0)
        inline_data = false;
    else if (t->response)
        rv__openai_refuse(w->o, "response_format", "response_format must be url or b64_json");
    bool uri = is_true(w, t->sync, "sync_mode");
    if (t->given_type && !w->o->stream)
        return;
    if (t->given_type) /* its member stands in the task already: the stream cannot have it */
        rv__openai_refuse(w->o, "outputType", "outputType has no meaning in a stream");
    member(w, "outputType", t->sync ? "sync_mode" : "response_format");
    rv__buf_adds(&w->b, w->o->stream || inline_data ? "\"base64Data\""
                        : uri                       ? "\"dataURI\""
                                                    : "\"URL\"");
}

static void write_format(work *w)
{
    static const char *const words[][2] = {
        {"png", "PNG"}, {"jpeg", "JPG"}, {"jpg", "JPG"}, {"webp", "WEBP"}};
    const char *text = rv__json_string(w->t.format);
    if (w->t.has_format)
        return;
    const char *name = w->t.format ? NULL : "PNG";
    for (size_t i = 0; text && i < 4; i++) {
        if (strcasecmp(text, words[i][0]) == 0)
            name = words[i][1];
    }
    if (!name)
        rv__openai_refuse(w->o, "output_format",
                          "output_format must be png, jpeg or webp (this build writes no others)");
    member(w, "outputFormat", "output_format");
    rv__json_write_string(&w->b, name ? name : "PNG");
}

/* 0 to 100 here, 20 to 99 in the table. */
static void write_compression(work *w)
{
    const rv__value *v = w->t.compression;
    int64_t n = 0;
    if (!v || w->t.has_quality)
        return;
    if (!rv__json_int(v, &n) || n < 0 || n > 100) {
        rv__openai_refuse(w->o, w->t.compression_name,
                          rv__pool_format(&w->o->pool, "%s must be an integer from 0 to 100",
                                          w->t.compression_name));
        return;
    }
    member(w, "outputQuality", w->t.compression_name);
    rv__buf_addf(&w->b, "%d", n < 20 ? 20 : n > 99 ? 99 : (int)n);
}

static void read_stream(work *w)
{
    int64_t n = 0;
    w->o->stream = is_true(w, w->t.stream, "stream");
    const rv__value *v = w->t.partials;
    if (v && (!rv__json_int(v, &n) || n < 0 || n > 3))
        rv__openai_refuse(w->o, "partial_images", "partial_images must be an integer from 0 to 3");
    else
        w->o->partials = (int)n;
}

static void write_size(work *w, int64_t input_width, int64_t input_height)
{
    rv__openai_size s = {.fields = w->card ? w->card->fields : rv__table,
                         .size = w->t.size,
                         .ratio = w->t.ratio,
                         .resolution = w->t.resolution,
                         .input_width = w->t.has_size ? 0 : input_width,
                         .input_height = input_height};
    rv__openai_size_find(&s);
    if (s.wrong)
        rv__openai_refuse(w->o, s.parameter, s.wrong);
    if (w->t.has_size && s.width)
        rv__openai_refuse(w->o, s.parameter,
                          "width and height are there already: use either them or this");
    if (!s.width || w->t.has_size)
        return;
    member(w, "width", s.parameter);
    rv__buf_addf(&w->b, "%lld", (long long)s.width);
    member(w, "height", s.parameter);
    rv__buf_addf(&w->b, "%lld", (long long)s.height);
}

static void write_input(work *w, rv__openai_input *in)
{
    if (in->picture) {
        member(w, "seedImage", "image");
        rv__json_write_string(&w->b, in->picture);
    }
    if (in->mask) {
        member(w, "maskImage", "mask");
        rv__json_write_string(&w->b, in->mask);
    }
    for (size_t i = 0; i < in->more_count; i++) {
        if (!i)
            member(w, "referenceImages", "image");
        rv__buf_adds(&w->b, i ? "," : "[");
        rv__json_write_string(&w->b, in->more[i]);
    }
    rv__buf_adds(&w->b, in->more_count ? "]" : "");
}

static void read_input(work *w)
{
    rv__openai_input in = {0};
    bool wanted = w->o->kind != RV_OPENAI_GENERATIONS;
    if (wanted || w->t.image || w->t.mask)
        rv__openai_input_read(w->o, w->t.image, w->t.mask, w->parts, w->part_count, wanted, &in);
    write_size(w, in.width, in.height);
    write_input(w, &in);
    w->o->input_pictures = (in.picture != NULL) + in.more_count;
    rv__openai_input_free(&in);
}

static void write_rest(work *w)
{
    char uuid[RV__UUID_SIZE];
    read_stream(w);
    write_output_type(w);
    write_format(w);
    write_compression(w);
    read_input(w);
    if (w->t.safety) {
        member(w, "safety", "enable_safety_checker");
        rv__buf_addf(&w->b, "{\"checkContent\":%s}",
                     is_true(w, w->t.safety, "enable_safety_checker") ? "true" : "false");
    }
    if (!w->t.has_cost)
        rv__buf_adds(&w->b, ",\"includeCost\":true");
    if (!w->t.has_uuid && (w->uuid || rv__uuid_make(uuid)))
        rv__buf_addf(&w->b, ",\"taskUUID\":\"%s\"", w->uuid ? w->uuid : uuid);
    if (!w->t.prompt && w->o->kind == RV_OPENAI_VARIATIONS)
        rv__buf_adds(&w->b, ",\"positivePrompt\":\"__BLANK__\"");
    const char *prompt = rv__json_string(w->t.prompt);
    w->o->text_tokens = prompt ? (strlen(prompt) + 3) / 4 : 0;
}

static void read_model(work *w, const rv__models *models, const rv__model *fallback,
                       const rv__value *v)
{
    rv__openai *o = w->o;
    const char *name = rv__json_string(v);
    if (rv__json_is_null(v))
        v = NULL;
    w->card = name ? rv__models_find(models, name) : v ? NULL : fallback;
    name = name ? name : !v && fallback ? fallback->id : NULL;
    o->model = name ? rv__pool_text(&o->pool, name, strlen(name)) : NULL;
    if (v || name)
        member(w, "model", "model");
    if (name)
        rv__json_write_string(&w->b, name);
    else if (v)
        rv__json_write_value(&w->b, v);
}

static void read_object(work *w, const rv__models *models, const rv__model *fallback,
                        const rv__value *object)
{
    const char *twice = rv__json_duplicate(object);
    if (twice)
        rv__openai_refuse(w->o, twice, "the body has this member twice");
    read_model(w, models, fallback, rv__json_get(object, "model"));
    for (const rv__value *v = rv__json_first(object); v; v = rv__json_next(v))
        read_member(w, v);
    write_rest(w);
}

/* ---- bodies ------------------------------------------------------------------------------ */

/* Forms know texts only: what the name wants as a number, a truth value or a structure is passed on
 * as such when it reads like one. */
static bool reads_as_json(const char *name, const char *text, size_t len)
{
    const rv__openai_field *own = find_field(name);
    const rv__field *f = rv__field_find(rv__table, own && own->runware ? own->runware : name);
    bool may = own && own->schema &&
               (strstr(own->schema, "\"integer\"") || strstr(own->schema, "\"boolean\""));
    if (!may && (!f || f->type == RV__TEXT))
        return false;
    rv__value *v = rv__json_parse(text, len, NULL);
    bool ok = v && !rv__json_is_string(v);
    rv__json_free(v);
    return ok;
}

/* The text fields of a form as one object. */
static char *fields_of(const rv__part *parts, size_t count, size_t *len)
{
    rv__buf b;
    rv__buf_init(&b, BODY_MAX);
    rv__buf_adds(&b, "{");
    for (size_t i = 0; i < count; i++) {
        const rv__part *p = &parts[i];
        if (p->is_file)
            continue;
        rv__buf_adds(&b, b.len > 1 ? "," : "");
        rv__json_write_string(&b, p->name);
        rv__buf_adds(&b, ":");
        if (reads_as_json(p->name, p->data, p->len))
            rv__buf_add(&b, p->data, p->len);
        else
            rv__json_write_text(&b, p->data, p->len);
    }
    rv__buf_adds(&b, "}");
    return rv__buf_take(&b, len);
}

static void refuse_json(rv__openai *o, const rv__json_error *err)
{
    rv__openai_refuse(o, "",
                      rv__pool_format(&o->pool, "the body is not valid JSON: %s (byte %zu)",
                                      err->message, err->offset + 1));
}

static void read_text(work *w, const rv__models *models, const rv__model *fallback,
                      const char *text, size_t len)
{
    rv__json_error err = {0};
    rv__value *v = rv__json_parse_limited(text, len, MAX_VALUES, &err);
    if (v && rv__json_is_object(v))
        read_object(w, models, fallback, v);
    else if (v)
        rv__openai_refuse(w->o, "", "the body must be a JSON object");
    else if (err.message == rv__json_no_memory)
        w->o->pool.failed = true;
    else
        refuse_json(w->o, &err);
    rv__json_free(v);
}

static void read_form(work *w, const rv__models *models, const rv__model *fallback,
                      const char *content_type, const char *body, size_t len)
{
    rv__part *parts = rv__calloc(RV__PARTS_MAX, sizeof *parts);
    if (!parts) {
        w->o->pool.failed = true;
        return;
    }
    size_t count = 0, text_len = 0;
    const char *wrong = rv__multipart_read(content_type, body, len, parts, &count);
    if (wrong) {
        rv__openai_refuse(w->o, "", wrong);
    } else {
        w->parts = parts;
        w->part_count = count;
        char *text = fields_of(parts, count, &text_len);
        if (text)
            read_text(w, models, fallback, text, text_len);
        w->o->pool.failed |= !text;
        rv__free(text);
    }
    rv__free(parts);
}

bool rv__openai_translate(const rv__models *models, const rv__model *fallback, rv_openai_kind kind,
                          const char *content_type, const char *body, size_t len, const char *uuid,
                          rv__openai *out)
{
    *out = (rv__openai){.kind = kind};
    out->names = rv__pool_alloc(&out->pool, NAMES_MAX * sizeof *out->names);
    if (!out->names)
        return false;
    work w = {.o = out, .uuid = uuid};
    rv__buf_init(&w.b, BODY_MAX);
    rv__buf_adds(&w.b, "[{\"taskType\":\"imageInference\"");
    if (rv__multipart_is(content_type))
        read_form(&w, models, fallback, content_type, body, len);
    else
        read_text(&w, models, fallback, body, len);
    rv__buf_adds(&w.b, "}]");
    out->task = rv__buf_take(&w.b, &out->task_len);
    return out->task && !out->pool.failed;
}

void rv__openai_free(rv__openai *o)
{
    rv__free(o->task);
    rv__pool_free(&o->pool);
    *o = (rv__openai){0};
}

/* ---- names in errors ---------------------------------------------------------------------- */

const char *rv__openai_name(const rv__openai *o, const char *parameter)
{
    static const char *const usual[][2] = {{"positivePrompt", "prompt"},
                                           {"negativePrompt", "negative_prompt"},
                                           {"width", "size"},
                                           {"height", "size"},
                                           {"numberResults", "n"},
                                           {"outputType", "response_format"},
                                           {"seedImage", "image"},
                                           {"maskImage", "mask"},
                                           {"outputFormat", "output_format"}};
    size_t len = parameter ? strcspn(parameter, ".[,") : 0;
    for (size_t i = 0; parameter && i < o->names_count; i++) {
        if (strlen(o->names[i][0]) == len && strncmp(o->names[i][0], parameter, len) == 0)
            return strcmp(o->names[i][0], o->names[i][1]) == 0 ? parameter : o->names[i][1];
    }
    for (size_t i = 0; parameter && i < sizeof usual / sizeof *usual; i++) {
        if (strlen(usual[i][0]) == len && strncmp(usual[i][0], parameter, len) == 0)
            return usual[i][1];
    }
    return parameter;
}

const char *rv__openai_sentence(rv__openai *o, const char *parameter, const char *message)
{
    const char *name = rv__openai_name(o, parameter);
    if (!name || strcmp(name, parameter) == 0 || strchr(parameter, ','))
        return message;
    size_t len = strlen(parameter);
    if (strncmp(message, parameter, len) == 0 && strcmp(name, "size") != 0)
        return rv__pool_format(&o->pool, "%s%s", name, message + len);
    return rv__pool_format(&o->pool, "%s: %s", name, message);
}
