/* fal: the queue of fal.ai (submit, status, result), whose HiDream models take a small set of
 * parameters.  Addresses in its answers are not used: they are made from the base address and the
 * request's name. */
#include "remote/service.h"

#include <stdio.h>
#include <string.h>

enum { BODY_MAX = 64 << 20, PHASE_SUBMIT = 0, PHASE_STATUS, PHASE_RESULT };

static const rv__mapping map[] = {
    {"model", NULL, "said by the address"},
    {"positivePrompt", "prompt", NULL},
    {"negativePrompt", "negative_prompt", NULL},
    {"width", "image_size.width", NULL},
    {"height", "image_size.height", NULL},
    {"steps", "num_inference_steps", NULL},
    {"CFGScale", "guidance_scale", "HiDream-I1 Full only"},
    {"seed", "seed", NULL},
    {"numberResults", "num_images", NULL},
    {"lora", "loras", "HiDream-I1 Full only"},
    {"lora.model", "loras.path", "the address that the card has for it"},
    {"lora.weight", "loras.scale", NULL},
    {"safety", "enable_safety_checker", NULL},
    {"safety.checkContent", "enable_safety_checker", NULL},
    {"safety.mode", "enable_safety_checker", "unless none"},
    {"seedImage", "image_url", "image-to-image models only"},
    {"strength", "strength", "image-to-image models only"},
    {"outputFormat", "output_format", "WEBP: made by us from PNG"},
    {"outputQuality", NULL, "done by us"},
    {0},
};

static bool is_full(const rv__value *route)
{
    return strstr(rv__json_get_string(route, "model", ""), "full");
}

/* Where fal finds a LoRA: the card's "loras": {"NAME": "ADDRESS"}; NULL when the card knows none. */
static const char *lora_address(const rv__value *route, const rv__value *lora)
{
    return rv__json_get_string(rv__json_get(route, "loras"),
                               rv__json_get_string(lora, "model", ""), NULL);
}

static rv_status check_loras(const rv__value *list, const rv__value *route, rv_error *err)
{
    unsigned i = 0;
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v), i++) {
        char name[40];
        snprintf(name, sizeof name, "lora[%u].model", i);
        if (!lora_address(route, v))
            return rv__fail_code(err, RV_UNSUPPORTED, "unsupportedParameter", name,
                                 "the card has no address for this LoRA that fal could fetch");
    }
    return RV_OK;
}

static rv_status check(const rv_task *t, const rv__value *route, rv_error *err)
{
    const rv__value *v = rv__task_value(t);
    bool takes_pictures = strstr(rv__json_get_string(route, "model", ""), "image-to-image");
    const char *wrong = NULL;
    if (!is_full(route) && rv__json_get_number(v, "CFGScale", 0) > 0)
        wrong = "CFGScale";
    if (!is_full(route) && rv__json_get(v, "lora"))
        wrong = "lora";
    if (!takes_pictures && rv__json_get(v, "seedImage"))
        wrong = "seedImage";
    if (strcmp(rv__task_prompt(t), "") == 0)
        wrong = "positivePrompt";
    if (wrong)
        return rv__fail_code(err, RV_UNSUPPORTED, "unsupportedParameter", wrong,
                             "this model of fal cannot do %s as asked", wrong);
    return check_loras(rv__json_get(v, "lora"), route, err);
}

static void write_loras(rv__buf *b, const rv__value *route, const rv__value *list)
{
    const char *comma = "";
    rv__buf_adds(b, ",\"loras\":[");
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v)) {
        rv__buf_addf(b, "%s{\"path\":", comma);
        rv__json_write_string(b, lora_address(route, v));
        rv__buf_adds(b, ",\"scale\":");
        rv__json_write_double(b, rv__json_get_number(v, "weight", 1));
        rv__buf_adds(b, "}");
        comma = ",";
    }
    rv__buf_adds(b, "]");
}

static void ask(rv__errand *e, int phase, int delay_ms);

static void begin(rv__errand *e)
{
    if (rv__errand_resume(e)) {
        ask(e, PHASE_STATUS, 0);
        return;
    }
    const char *format = rv__json_get_string(e->value, "outputFormat", "JPG");
    bool is_checked = rv__json_get_bool(rv__json_get(e->value, "safety"), "checkContent", false);
    rv__buf b;
    rv__buf_init(&b, BODY_MAX);
    rv__errand_members(&b, e);
    rv__buf_addf(&b, ",\"image_size\":{\"width\":%d,\"height\":%d}",
                 (int)rv__json_get_int(e->value, "width", 1024),
                 (int)rv__json_get_int(e->value, "height", 1024));
    rv__errand_member(&b, e, "seedImage", "image_url");
    rv__errand_member(&b, e, "strength", "strength");
    if (is_full(e->route))
        rv__errand_member(&b, e, "CFGScale", "guidance_scale");
    if (rv__json_get(e->value, "lora"))
        write_loras(&b, e->route, rv__json_get(e->value, "lora"));
    rv__buf_addf(&b, ",\"enable_safety_checker\":%s,\"output_format\":\"%s\"}",
                 is_checked ? "true" : "false", strcmp(format, "JPG") == 0 ? "jpeg" : "png");
    rv__sending s = {.url = rv__format("%s/%s", e->url, e->model), .body = b};
    e->phase = PHASE_SUBMIT;
    rv__errand_send(e, &s);
}

/* owner/app: deeper segments of the model's name do not count here. */
static char *request_url(const rv__errand *e, const char *end)
{
    const char *slash = strchr(e->model, '/');
    size_t len =
        slash ? (size_t)(slash + 1 - e->model) + strcspn(slash + 1, "/") : strlen(e->model);
    return rv__format("%s/%.*s/requests/%s%s", e->url, (int)len, e->model, e->id, end);
}

static void ask(rv__errand *e, int phase, int delay_ms)
{
    rv__sending s = {.url = request_url(e, phase == PHASE_STATUS ? "/status" : ""),
                     .is_question = true,
                     .delay_ms = delay_ms};
    e->phase = phase;
    rv__errand_send(e, &s);
}

static void refuse(rv__errand *e, int http, const rv__value *body)
{
    const rv__value *detail = rv__json_get(body, "detail");
    const rv__value *first = rv__json_is_array(detail) ? rv__json_first(detail) : NULL;
    const char *type =
        rv__json_get_string(first, "type", rv__json_get_string(body, "error_type", ""));
    const char *text =
        first ? rv__json_get_string(first, "msg", "refused") : rv__json_string(detail);
    const rv__value *where = rv__json_get(first, "loc");
    const rv__value *last = where ? rv__json_at(where, rv__json_size(where) - 1) : NULL;
    rv_status s = strcmp(type, "content_policy_violation") == 0 ? RV_SAFETY
                  : http == 422                                 ? RV_VALIDATION
                                                                : rv__http_status(http);
    rv__errand_fail(e, s, s == RV_SAFETY ? "providerContentPolicyViolation" : NULL,
                    rv__json_string(last), "%s", text ? text : "refused without a reason");
}

static void read_result(rv__errand *e, const rv__value *body)
{
    const rv__value *flags = rv__json_get(body, "has_nsfw_concepts");
    size_t i = 0;
    for (const rv__value *v = rv__json_first(rv__json_get(body, "images")); v;
         v = rv__json_next(v), i++) {
        bool flagged = false;
        bool is_checked = rv__json_bool(rv__json_at(flags, i), &flagged);
        /* One seed is told, that of the first; the others follow it as ours do. */
        rv__found f = {.url = rv__json_get_string(v, "url", NULL),
                       .seed = i ? NULL : rv__json_get(body, "seed"),
                       .cost = -1,
                       .nsfw = is_checked ? flagged : -1};
        rv__errand_found(e, i, &f);
    }
}

static void answer(rv__errand *e, int http, const rv__value *body)
{
    const char *status = rv__json_get_string(body, "status", "");
    if (e->phase == PHASE_SUBMIT) {
        if (rv__errand_accepted(e, rv__json_get_string(body, "request_id", NULL)))
            ask(e, PHASE_STATUS, rv__errand_pause(e));
    } else if (e->phase == PHASE_RESULT) {
        read_result(e, body);
    } else if (strcmp(status, "COMPLETED") == 0) {
        ask(e, PHASE_RESULT, 0);
    } else if (strcmp(status, "IN_QUEUE") == 0 || strcmp(status, "IN_PROGRESS") == 0) {
        ask(e, PHASE_STATUS, rv__errand_pause(e));
    } else {
        rv__errand_fail(e, RV_PROVIDER, NULL, NULL, "the task ended as %.40s",
                        *status ? status : "nothing");
    }
}

static bool cancel(rv__errand *e, bool *is_put, char **url)
{
    *is_put = true;
    *url = request_url(e, "/cancel");
    return true;
}

const rv__service rv__fal = {.name = "fal",
                             .label = "fal",
                             .url = "https://queue.fal.run",
                             .key_env = "FAL_KEY",
                             .key_form = "Authorization: Key ",
                             .map = map,
                             .check = check,
                             .begin = begin,
                             .answer = answer,
                             .refuse = refuse,
                             .cancel = cancel};
