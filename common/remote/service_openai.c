/* Services with the OpenAI images protocol: OpenAI itself and servers like it, Lumenfall with its
 * additions, and another Reverie, which takes our own parameters beside those of the protocol.
 * Pictures come as base64.  With a seedImage the request is an edit, in multipart form. */
#include "base/uuid.h"
#include "remote/service.h"

#include <stdio.h>
#include <string.h>

enum { BODY_MAX = 192 << 20 };

/* What all of them call by the same name. */
static const rv__mapping protocol[] = {
    {"model", "model", NULL},
    {"positivePrompt", "prompt", NULL},
    {"width", "size", "WxH"},
    {"height", "size", "WxH"},
    {"numberResults", "n", NULL},
    {"outputFormat", "output_format", NULL},
    {"outputQuality", "output_compression", "not for PNG"},
    {"seedImage", "image", "as an edit"},
    {0},
};

static const rv__mapping openai_map[] = {
    {"seed", NULL, "not known there: another picture each time"},
    {"steps", NULL, "not known there: the service decides"},
    {0},
};

static const rv__mapping lumenfall_map[] = {
    {"negativePrompt", "negative_prompt", NULL},
    {"seed", "seed", NULL},
    {"steps", "num_inference_steps", "models of fal; others ignore it"},
    {"safety", "enable_safety_checker", NULL},
    {"safety.checkContent", "enable_safety_checker", NULL},
    {"safety.mode", "enable_safety_checker", "unless none"},
    {0},
};

/* Another Reverie takes every other parameter under our own names, and sends its pixels as they
 * are: encoding them twice would change them. */
static const rv__mapping reverie_map[] = {
    {"negativePrompt", "negative_prompt", NULL},
    {"outputFormat", NULL, "done by us"},
    {"outputQuality", NULL, "done by us"},
    {"maskImage", "mask", "as an edit"},
    {0},
};

static bool is_reverie(const rv__errand *e)
{
    return e->service == &rv__reverie;
}

static bool is_lumenfall(const rv__errand *e)
{
    return e->service == &rv__lumenfall;
}

static rv_status check(const rv_task *t, const rv__value *route, rv_error *err)
{
    bool is_blank = strcmp(rv__task_prompt(t), "") == 0;
    return is_blank ? rv__fail_code(err, RV_UNSUPPORTED, "unsupportedParameter", "positivePrompt",
                                    "pictures without a prompt cannot be asked for there")
                    : RV_OK;
}

/* A request is JSON or a form; both are lists of names and values. */
typedef struct form {
    rv__buf b;
    const char *boundary; /* NULL: JSON */
} form;

static void name_of(form *f, const char *name)
{
    if (f->boundary)
        rv__buf_addf(&f->b, "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n",
                     f->boundary, name);
    else
        rv__buf_addf(&f->b, "%s\"%s\":", f->b.len > 1 ? "," : "", name);
}

static void end_of(form *f)
{
    if (f->boundary)
        rv__buf_adds(&f->b, "\r\n");
}

static void add_text(form *f, const char *name, const char *text)
{
    name_of(f, name);
    if (f->boundary)
        rv__buf_adds(&f->b, text);
    else
        rv__json_write_string(&f->b, text);
    end_of(f);
}

static void add_value(form *f, const char *name, const rv__value *v)
{
    if (!v)
        return;
    if (f->boundary && rv__json_string(v)) {
        add_text(f, name, rv__json_string(v));
        return;
    }
    name_of(f, name);
    rv__json_write_value(&f->b, v);
    end_of(f);
}

static bool add_file(form *f, rv__errand *e, const char *parameter, const char *name)
{
    const uint8_t *bytes;
    size_t len;
    void *owned;
    if (!rv__errand_input(e, parameter, &bytes, &len, &owned))
        return false;
    bool is_png = len > 8 && memcmp(bytes, "\x89PNG", 4) == 0,
         is_jpeg = len > 3 && bytes[0] == 0xff;
    const char *kind = is_png ? "png" : is_jpeg ? "jpeg" : "webp";
    rv__buf_addf(&f->b,
                 "--%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%s.%s\"\r\n"
                 "Content-Type: image/%s\r\n\r\n",
                 f->boundary, name, name, kind, kind);
    rv__buf_add(&f->b, bytes, len);
    rv__buf_adds(&f->b, "\r\n");
    rv__free(owned);
    return true;
}

static void add_extras(form *f, const rv__errand *e)
{
    if (is_lumenfall(e) || is_reverie(e)) {
        add_text(f, "response_format", "b64_json");
        add_value(f, "negative_prompt", rv__json_get(e->value, "negativePrompt"));
    }
    if (is_lumenfall(e)) {
        add_value(f, "seed", rv__json_get(e->value, "seed"));
        add_value(f, "num_inference_steps", rv__json_get(e->value, "steps"));
        add_value(f, "enable_safety_checker",
                  rv__json_get(rv__json_get(e->value, "safety"), "checkContent"));
    }
    for (const rv__value *v = rv__json_first(e->value); is_reverie(e) && v; v = rv__json_next(v)) {
        if (!rv__service_row(e->service, rv__json_key(v)))
            add_value(f, rv__json_key(v), v);
    }
}

static void add_number(form *f, const char *name, int64_t n)
{
    name_of(f, name);
    rv__buf_addf(&f->b, "%lld", (long long)n);
    end_of(f);
}

static void fill(form *f, rv__errand *e)
{
    const char *format =
        is_reverie(e) ? "PNG" : rv__json_get_string(e->value, "outputFormat", "JPG");
    char size[40];
    snprintf(size, sizeof size, "%dx%d", (int)rv__json_get_int(e->value, "width", 1024),
             (int)rv__json_get_int(e->value, "height", 1024));
    add_text(f, "model", e->model);
    add_text(f, "prompt", rv__task_prompt(e->task));
    add_number(f, "n", (int64_t)e->wanted);
    add_text(f, "size", size);
    add_text(f, "output_format",
             strcmp(format, "JPG") == 0   ? "jpeg"
             : strcmp(format, "PNG") == 0 ? "png"
                                          : "webp");
    if (strcmp(format, "PNG") != 0)
        add_number(f, "output_compression", rv__json_get_int(e->value, "outputQuality", 95));
    add_extras(f, e);
}

static void begin(rv__errand *e)
{
    bool is_edit = rv__json_get(e->value, "seedImage");
    char boundary[RV__UUID_SIZE], type[100];
    if (!rv__uuid_make(boundary)) {
        rv__errand_fail(e, RV_IO, NULL, NULL, "the system gives no random numbers");
        return;
    }
    snprintf(type, sizeof type, "multipart/form-data; boundary=%s", boundary);
    form f = {.boundary = is_edit ? boundary : NULL};
    rv__buf_init(&f.b, BODY_MAX);
    if (!is_edit)
        rv__buf_adds(&f.b, "{");
    fill(&f, e);
    if (is_edit && !add_file(&f, e, "seedImage", "image")) {
        rv__buf_free(&f.b);
        rv__errand_fail(e, RV_UNSUPPORTED, NULL, "seedImage", "the picture is not at hand");
        return;
    }
    if (is_edit)
        add_file(&f, e, "maskImage", "mask");
    if (is_edit)
        rv__buf_addf(&f.b, "--%s--\r\n", boundary);
    else
        rv__buf_adds(&f.b, "}");
    rv__sending s = {.url = rv__format("%s/images/%s", e->url, is_edit ? "edits" : "generations"),
                     .body = f.b,
                     .content_type = is_edit ? type : NULL};
    rv__errand_send(e, &s);
}

static void refuse(rv__errand *e, int http, const rv__value *body)
{
    const rv__value *error = rv__json_get(body, "error");
    const char *code = rv__json_get_string(error, "code", rv__json_get_string(error, "type", ""));
    const char *text = rv__json_is_object(error) ? rv__json_get_string(error, "message", NULL)
                                                 : rv__json_string(error);
    bool is_blocked = strstr(code, "CONTENT_POLICY") || strstr(code, "content_policy") ||
                      strstr(code, "moderation");
    rv_status s = is_blocked                                                      ? RV_SAFETY
                  : strstr(code, "insufficient_quota") || strstr(code, "BALANCE") ? RV_QUOTA
                  : http == 400 || http == 422                                    ? RV_VALIDATION
                                               : rv__http_status(http);
    rv__errand_fail(e, s, is_blocked ? "providerContentPolicyViolation" : NULL,
                    rv__json_get_string(error, "param", NULL), "%s",
                    text ? text : "refused without a reason");
}

static void answer(rv__errand *e, int http, const rv__value *body)
{
    const rv__value *data = rv__json_get(body, "data");
    double cost = rv__json_get_number(rv__json_get(body, "metadata"), "cost", -1);
    size_t i = 0;
    for (const rv__value *v = rv__json_first(data); v; v = rv__json_next(v), i++) {
        rv__found f = {.base64 = rv__json_get_string(v, "b64_json", NULL),
                       .url = rv__json_get_string(v, "url", NULL),
                       .seed = rv__json_get(v, "seed"),
                       .cost = cost >= 0 ? cost / (double)rv__json_size(data) : -1,
                       .nsfw = -1};
        rv__errand_found(e, i, &f);
    }
    if (!i)
        refuse(e, 0, body);
}

const rv__service rv__openai = {.name = "openai",
                                .label = "OpenAI",
                                .url = "https://api.openai.com/v1",
                                .key_env = "OPENAI_API_KEY",
                                .key_form = "Authorization: Bearer ",
                                .map = openai_map,
                                .base = protocol,
                                .wants_files = true,
                                .check = check,
                                .begin = begin,
                                .answer = answer,
                                .refuse = refuse};

const rv__service rv__lumenfall = {.name = "lumenfall",
                                   .label = "Lumenfall",
                                   .url = "https://api.lumenfall.ai/openai/v1",
                                   .key_env = "LUMENFALL_API_KEY",
                                   .key_form = "Authorization: Bearer ",
                                   .map = lumenfall_map,
                                   .base = protocol,
                                   .wants_files = true,
                                   .check = check,
                                   .begin = begin,
                                   .answer = answer,
                                   .refuse = refuse};

const rv__service rv__reverie = {.name = "reverie",
                                 .label = "Reverie",
                                 .url = "http://127.0.0.1:8188/v1",
                                 .key_env = "REVERIE_API_KEY",
                                 .map = reverie_map,
                                 .base = protocol,
                                 .takes_all = true,
                                 .key_form = "Authorization: Bearer ",
                                 .wants_files = true,
                                 .check = check,
                                 .begin = begin,
                                 .answer = answer,
                                 .refuse = refuse};
