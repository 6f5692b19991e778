/* Runware: the protocol our tasks are written in, so everything goes through as it was checked.
 * Pictures come back as base64; inline input pictures are uploaded first.  With "delivery": "async"
 * in the card the task is polled.  The service knows a taskUUID again, so a lost answer costs a
 * question and no second picture. */
#include "base/uuid.h"
#include "remote/service.h"

#include <string.h>

enum { BODY_MAX = 128 << 20, PHASE_UPLOAD = 0, PHASE_TASK = 2, PHASE_ASK = 3 };

static const char *const inputs[] = {"seedImage", "maskImage"};

/* What the form of our answer replaces, beside what is ours with every service. */
static const rv__mapping map[] = {
    {"taskType", "taskType", NULL}, {"taskUUID", "taskUUID", NULL}, {"model", "model", NULL}, {0}};

static void text_member(rv__buf *b, const char *key, const char *value)
{
    rv__buf_addf(b, "%s\"%s\":", b->data && b->data[b->len - 1] == '{' ? "" : ",", key);
    rv__json_write_string(b, value);
}

static void send_body(rv__errand *e, rv__buf *b, bool is_question, int delay_ms)
{
    rv__sending s = {
        .url = rv__strdup(e->url), .body = *b, .is_question = is_question, .delay_ms = delay_ms};
    rv__errand_send(e, &s);
}

static bool is_async(const rv__errand *e)
{
    return strcmp(rv__json_get_string(e->route, "delivery", "sync"), "async") == 0;
}

static void send_task(rv__errand *e)
{
    rv__buf b;
    rv__buf_init(&b, BODY_MAX);
    rv__buf_adds(&b, "[{");
    text_member(&b, "taskType", "imageInference");
    text_member(&b, "taskUUID", rv__task_uuid(e->task) ? rv__task_uuid(e->task) : "");
    text_member(&b, "model", e->model);
    text_member(&b, "outputType", "base64Data");
    text_member(&b, "deliveryMethod", is_async(e) ? "async" : "sync");
    rv__buf_adds(&b, ",\"includeCost\":true");
    for (const rv__value *v = rv__json_first(e->value); v; v = rv__json_next(v)) {
        const char *key = rv__json_key(v);
        const char *uploaded = strcmp(key, inputs[0]) == 0   ? e->inputs[0]
                               : strcmp(key, inputs[1]) == 0 ? e->inputs[1]
                                                             : NULL;
        if (rv__service_row(e->service, key))
            continue;
        rv__buf_addf(&b, ",\"%s\":", key);
        if (uploaded)
            rv__json_write_string(&b, uploaded);
        else
            rv__json_write_value(&b, v);
    }
    rv__buf_adds(&b, "}]");
    e->phase = PHASE_TASK;
    send_body(e, &b, false, 0);
}

/* Uploads the next inline picture, or sends the task. */
static void go_on(rv__errand *e, int from)
{
    for (int i = from; i < 2; i++) {
        const uint8_t *bytes;
        size_t len;
        void *owned;
        char uuid[RV__UUID_SIZE];
        if (!rv__errand_input(e, inputs[i], &bytes, &len, &owned))
            continue;
        rv__free(owned);
        const char *text = rv__json_get_string(e->value, inputs[i], "");
        if (!rv__uuid_make(uuid)) {
            rv__errand_fail(e, RV_IO, NULL, NULL, "the system gives no random numbers");
            return;
        }
        rv__buf b;
        rv__buf_init(&b, BODY_MAX);
        rv__buf_adds(&b, "[{");
        text_member(&b, "taskType", "imageUpload");
        text_member(&b, "taskUUID", uuid);
        text_member(&b, "image", text);
        rv__buf_adds(&b, "}]");
        e->phase = PHASE_UPLOAD + i;
        send_body(e, &b, true, 0);
        return;
    }
    send_task(e);
}

static void begin(rv__errand *e)
{
    go_on(e, 0);
}

static void ask(rv__errand *e)
{
    rv__buf b;
    rv__buf_init(&b, BODY_MAX);
    rv__buf_adds(&b, "[{");
    text_member(&b, "taskType", "getResponse");
    text_member(&b, "taskUUID", rv__task_uuid(e->task));
    rv__buf_adds(&b, "}]");
    e->phase = PHASE_ASK;
    send_body(e, &b, true, rv__errand_pause(e));
}

/* The class of an error code, by which every client of the service classifies it. */
static rv_status status_of(const char *code, int http)
{
    if (strstr(code, "Credits") || strstr(code, "Quota") || strstr(code, "Balance"))
        return RV_QUOTA;
    if (strstr(code, "RateLimit"))
        return RV_RATE_LIMIT;
    if (strstr(code, "ontentPolicy") || strstr(code, "ContentDetected") ||
        strcmp(code, "promptBlocked") == 0)
        return RV_SAFETY;
    if (strstr(code, "ApiKey") || strcmp(code, "unauthorized") == 0 ||
        strcmp(code, "forbidden") == 0)
        return RV_AUTH;
    if (strstr(code, "Timeout"))
        return RV_TIMEOUT;
    size_t len = strlen(code);
    if (len > 8 && strcmp(code + len - 8, "NotFound") == 0)
        return RV_NOT_FOUND;
    if (strncmp(code, "invalid", 7) == 0 || strncmp(code, "missing", 7) == 0 ||
        strncmp(code, "unsupported", 11) == 0 || strncmp(code, "unknownParameter", 16) == 0 ||
        strncmp(code, "incompatible", 12) == 0)
        return RV_VALIDATION;
    return http >= 400 ? rv__http_status(http) : RV_PROVIDER;
}

static const rv__value *first_error(const rv__value *body)
{
    const rv__value *first = rv__json_first(rv__json_get(body, "errors"));
    return first ? first : rv__json_get(body, "error");
}

static void refuse(rv__errand *e, int http, const rv__value *body)
{
    const rv__value *first = first_error(body);
    const char *code = rv__json_get_string(first, "code", "");
    if (strcmp(code, "conflictTaskUUID") == 0 && e->phase == PHASE_TASK) {
        if (rv__errand_accepted(e, rv__task_uuid(e->task)))
            ask(e); /* it has the task already: from an attempt whose answer was lost */
        return;
    }
    const rv__value *parameter = rv__json_get(first, "parameter");
    if (rv__json_is_array(parameter))
        parameter = rv__json_first(parameter);
    rv__errand_fail(e, status_of(code, http), *code ? code : NULL, rv__json_string(parameter), "%s",
                    rv__json_get_string(first, "message", "refused without a reason"));
}

static void read_item(rv__errand *e, size_t i, const rv__value *item)
{
    bool flagged = false;
    bool is_checked = rv__json_bool(rv__json_get(item, "NSFWContent"), &flagged);
    const char *text = rv__json_get_string(item, "imageBase64Data", NULL);
    rv__found f = {.base64 = text ? text : rv__json_get_string(item, "imageDataURI", NULL),
                   .url = rv__json_get_string(item, "imageURL", NULL),
                   .seed = rv__json_get(item, "seed"),
                   .cost = rv__json_get_number(item, "cost", -1),
                   .nsfw = is_checked ? flagged : -1};
    rv__errand_found(e, i, &f);
}

static void read_items(rv__errand *e, const rv__value *data)
{
    size_t i = 0;
    for (const rv__value *v = rv__json_first(data); v; v = rv__json_next(v), i++) {
        const char *status = rv__json_get_string(v, "status", "success");
        if (strcmp(status, "error") == 0) {
            refuse(e, 0, v);
            return;
        }
        if (strcmp(status, "success") == 0 &&
            (rv__json_get(v, "imageBase64Data") || rv__json_get(v, "imageURL") ||
             rv__json_get(v, "imageDataURI")))
            read_item(e, i, v);
        else
            rv__errand_progress(e, i, rv__json_get_number(v, "progress", -100) / 100);
    }
}

static void answer(rv__errand *e, int http, const rv__value *body)
{
    const rv__value *data = rv__json_get(body, "data");
    if (first_error(body) && !rv__json_size(data)) {
        refuse(e, 0, body);
        return;
    }
    if (e->phase < PHASE_TASK) {
        const char *uuid = rv__json_get_string(rv__json_first(data), "imageUUID", NULL);
        e->inputs[e->phase] = uuid ? rv__strdup(uuid) : NULL;
        if (e->inputs[e->phase])
            go_on(e, e->phase + 1);
        else
            rv__errand_fail(e, RV_PROVIDER, "uploadFailed", inputs[e->phase],
                            "the picture was not taken");
        return;
    }
    if (!e->id && !rv__errand_accepted(e, rv__task_uuid(e->task)))
        return;
    read_items(e, data);
    if (first_error(body) && e->told < e->wanted)
        refuse(e, 0, body);
    else if (e->told < e->wanted && (e->phase == PHASE_ASK || is_async(e)))
        ask(e);
}

const rv__service rv__runware = {.name = "runware",
                                 .label = "Runware",
                                 .url = "https://api.runware.ai/v1",
                                 .key_env = "RUNWARE_API_KEY",
                                 .map = map,
                                 .takes_all = true,
                                 .key_form = "Authorization: Bearer ",
                                 .is_idempotent = true,
                                 .begin = begin,
                                 .answer = answer,
                                 .refuse = refuse};
