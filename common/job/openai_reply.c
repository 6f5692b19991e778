/* Answers and errors of the OpenAI images protocol, made of a call whose jobs have ended. */
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "openai_call.h"
#include "route.h"

enum { PATCH = 16, DEFAULT_RETRY_MS = 2000 };

static const char no_memory_body[] =
    "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"param\":null,"
    "\"code\":\"INTERNAL_ERROR\"}}";

/* ---- errors ------------------------------------------------------------------------------ */

/* Lumenfall's code and OpenAI's type for an HTTP status. */
static const struct {
    int http;
    const char *code, *type;
} kinds[] = {{400, "INVALID_REQUEST", "invalid_request_error"},
             {401, "AUTHENTICATION_FAILED", "authentication_error"},
             {402, "INSUFFICIENT_BALANCE", "billing_error"},
             {403, "PERMISSION_DENIED", "permission_error"},
             {404, "NOT_FOUND", "invalid_request_error"},
             {405, "METHOD_NOT_ALLOWED", "invalid_request_error"},
             {408, "REQUEST_TIMEOUT", "invalid_request_error"},
             {409, "CONFLICT", "invalid_request_error"},
             {413, "REQUEST_TOO_LARGE", "invalid_request_error"},
             {415, "UNSUPPORTED_MEDIA_TYPE", "invalid_request_error"},
             {429, "RATE_LIMITED", "rate_limit_error"},
             {499, "CANCELLED", "invalid_request_error"},
             {500, "INTERNAL_ERROR", "server_error"},
             {502, "UPSTREAM_ERROR", "server_error"},
             {503, "SERVICE_UNAVAILABLE", "server_error"},
             {504, "UPSTREAM_TIMEOUT", "server_error"}};

static size_t kind_of(int http)
{
    size_t count = sizeof kinds / sizeof *kinds;
    for (size_t i = 0; i < count; i++) {
        if (kinds[i].http == http)
            return i;
    }
    return http >= 500 ? count - 4 : 0;
}

static const char *code_of(int http, const char *code)
{
    static const char *const words[][2] = {
        {"modelNotFound", "MODEL_NOT_FOUND"},
        {"invalidModel", "MODEL_NOT_FOUND"},
        {"modelDisabled", "MODEL_DISABLED"},
        {"contentPolicyViolation", "CONTENT_POLICY_VIOLATION"},
        {"providerContentPolicyViolation", "CONTENT_POLICY_VIOLATION"}};
    for (size_t i = 0; code && i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i][0], code) == 0)
            return words[i][1];
    }
    return kinds[kind_of(http)].code;
}

static void write_error(rv__buf *b, int http, const char *code, const char *param,
                        const char *message)
{
    rv__buf_adds(b, "{\"error\":{\"message\":");
    rv__json_write_string(b, message);
    rv__buf_addf(b, ",\"type\":\"%s\",\"param\":", kinds[kind_of(http)].type);
    if (param && *param)
        rv__json_write_string(b, param);
    else
        rv__buf_adds(b, "null");
    rv__buf_adds(b, ",\"code\":");
    rv__json_write_string(b, code_of(http, code));
}

char *rv_openai_error(int http_status, const char *code, const char *message)
{
    rv__buf b;
    rv__buf_init(&b, 1 << 16);
    write_error(&b, http_status, code, NULL, message);
    rv__buf_adds(&b, "}}");
    return rv__buf_take(&b, NULL);
}

/* All that is wrong with a request, as one text and as details. */
typedef struct problems {
    rv__openai *request;
    rv__buf text, details;
    size_t count;
    int http;
    const char *code, *param;
    int64_t retry_after_ms;
} problems;

static void add_sentence(problems *p, const char *sentence)
{
    rv__buf_adds(&p->text, p->count ? "; " : "");
    rv__buf_adds(&p->text, sentence ? sentence : "");
    rv__buf_adds(&p->details, p->count++ ? "," : "");
}

static void set_first(problems *p, int http, const char *code, const char *param)
{
    if (p->count)
        return;
    p->http = http;
    p->code = code;
    p->param = param;
}

static void add_note(problems *p, const rv__openai_note *n)
{
    set_first(p, 400, NULL, n->parameter);
    add_sentence(p, n->message);
    rv__buf_adds(&p->details, "{\"message\":");
    rv__json_write_string(&p->details, n->message ? n->message : "");
    rv__buf_adds(&p->details, ",\"param\":");
    rv__json_write_string(&p->details, n->parameter ? n->parameter : "");
    rv__buf_adds(&p->details, "}");
}

static void add_issue(problems *p, const rv_call *c, const rv_issue *issue)
{
    int http =
        strcmp(issue->code, "invalidModel") == 0 ? 404 : rv_status_http(rv__issue_status(issue));
    set_first(p, http, issue->code, rv__openai_name(p->request, issue->parameter));
    add_sentence(p, rv__openai_sentence(p->request, issue->parameter, issue->message));
    rv__issue_error_json(&p->details, c->batch, issue);
}

static void add_failure(problems *p, const rv_error *err)
{
    bool is_foreign = err->http_status >= 400 && err->http_status <= 599;
    const char *name = *err->parameter ? err->parameter : NULL;
    set_first(p, is_foreign ? err->http_status : rv_status_http(err->status), err->code,
              rv__openai_name(p->request, name));
    p->retry_after_ms = err->retry_after_ms;
    const char *message = *err->message ? err->message : rv_status_text(err->status);
    add_sentence(p, name ? rv__openai_sentence(p->request, name, message) : message);
    rv__buf_adds(&p->details, "{\"code\":");
    rv__json_write_string(&p->details, err->code);
    rv__buf_adds(&p->details, ",\"message\":");
    rv__json_write_string(&p->details, message);
    rv__buf_adds(&p->details, "}");
}

/* Problems the translation found come first.  When it could not read the body at all, the task that
 * stands for it has nothing to add. */
static void collect(problems *p, const rv_call *c)
{
    bool is_unreadable = false;
    const rv_issue *issue = NULL;
    for (rv__openai_note *n = p->request->errors; n; n = n->next) {
        is_unreadable |= !*n->parameter;
        add_note(p, n);
    }
    rv_batch_issues(c->batch, &issue);
    for (; !is_unreadable && issue && issue->message; issue++) {
        if (!issue->warning)
            add_issue(p, c, issue);
    }
    for (size_t i = 0; i < c->count; i++) {
        const rv__slot *slot = &c->slots[i];
        const rv_error *err = slot->job ? rv_job_error(slot->job) : &slot->error;
        if (err && err->status != RV_OK)
            add_failure(p, err);
    }
}

static int write_failure(rv__buf *b, const rv_call *c, int64_t *retry_after_ms)
{
    problems p = {.request = &c->openai->request, .retry_after_ms = -1};
    rv__buf_init(&p.text, 1 << 20);
    rv__buf_init(&p.details, 1 << 24);
    collect(&p, c);
    if (p.count) {
        write_error(b, p.http, p.code, p.param, p.text.data ? p.text.data : "");
        rv__buf_adds(b, ",\"details\":[");
        rv__buf_adds(b, p.details.data ? p.details.data : "");
        rv__buf_adds(b, "]}}");
    }
    bool can_retry = p.http == 429 || p.http == 503;
    *retry_after_ms = p.retry_after_ms < 0 && can_retry ? DEFAULT_RETRY_MS : p.retry_after_ms;
    b->failed |= p.text.failed || p.details.failed;
    rv__buf_free(&p.text);
    rv__buf_free(&p.details);
    return p.count ? p.http : 0;
}

/* ---- answers ----------------------------------------------------------------------------- */

static const rv_task *task_of(const rv_call *c)
{
    return c->count ? rv_batch_task(c->batch, 0) : NULL;
}

/* Tokens are what is worked on: patches of the pictures, and a quarter of the prompt's bytes. */
void rv__openai_usage(rv__buf *b, const rv_call *c, size_t pictures)
{
    const rv__value *v = rv__task_value(task_of(c));
    int64_t width = rv__json_get_int(v, "width", 0), height = rv__json_get_int(v, "height", 0);
    uint64_t patches = (uint64_t)(width / PATCH * (height / PATCH));
    uint64_t text = c->openai->request.text_tokens;
    uint64_t in = patches * c->openai->request.input_pictures, out = patches * pictures;
    rv__buf_addf(b,
                 "\"usage\":{\"input_tokens\":%" PRIu64 ",\"output_tokens\":%" PRIu64
                 ",\"total_tokens\":%" PRIu64 ",\"input_tokens_details\":{\"text_tokens\":%" PRIu64
                 ",\"image_tokens\":%" PRIu64 "}}",
                 text + in, out, text + in + out, text, in);
}

static void add_text(rv__buf *b, const char *key, const char *text)
{
    if (!text)
        return;
    rv__buf_addf(b, "\"%s\":", key);
    rv__json_write_string(b, text);
    rv__buf_adds(b, ",");
}

void rv__openai_facts(rv__buf *b, const rv_call *c)
{
    const rv__value *v = rv__task_value(task_of(c));
    const char *format = rv__json_get_string(v, "outputFormat", "PNG");
    rv__buf_addf(b, "\"size\":\"%lldx%lld\",", (long long)rv__json_get_int(v, "width", 0),
                 (long long)rv__json_get_int(v, "height", 0));
    add_text(b, "output_format",
             strcmp(format, "JPG") == 0    ? "jpeg"
             : strcmp(format, "WEBP") == 0 ? "webp"
                                           : "png");
    const char *quality = c->openai->request.quality;
    add_text(b, "quality", quality ? quality : "auto");
    add_text(b, "background", "opaque");
}

const char *rv__openai_base64(const rv_job *j, size_t i, size_t *len)
{
    static const char key[] = "\"imageBase64Data\":\"";
    const char *item = rv__job_item(j, i);
    const char *at = item ? strstr(item, key) : NULL;
    if (!at)
        return NULL;
    at += sizeof key - 1;
    *len = strcspn(at, "\"");
    return at;
}

/* The text of a member of an item, still escaped as JSON. */
static bool add_item_text(rv__buf *b, const char *item, const char *key, const char *name)
{
    char mark[32];
    size_t n = 0;
    n = strlen(key);
    memcpy(mark, "\"", 1);
    memcpy(mark + 1, key, n);
    memcpy(mark + 1 + n, "\":\"", 4);
    const char *at = strstr(item, mark);
    if (!at)
        return false;
    at += n + 4;
    size_t len = 0;
    while (at[len] && at[len] != '"')
        len += at[len] == '\\' && at[len + 1] ? 2 : 1;
    rv__buf_addf(b, "\"%s\":\"", name);
    rv__buf_add(b, at, len);
    rv__buf_adds(b, "\"");
    return true;
}

static void write_item(rv__buf *b, const rv_job *j, size_t i)
{
    const char *item = rv__job_item(j, i);
    rv_image_info info = rv_image_facts(j->images[i]);
    rv__buf_adds(b, "{");
    bool ok = add_item_text(b, item, "imageBase64Data", "b64_json") ||
              add_item_text(b, item, "imageURL", "url") ||
              add_item_text(b, item, "imageDataURI", "url");
    rv__buf_addf(b, "%s\"seed\":%" PRIu64, ok ? "," : "", info.seed);
    if (info.nsfw >= 0)
        rv__buf_addf(b, ",\"nsfw\":%s", info.nsfw ? "true" : "false");
    rv__buf_adds(b, "}");
}

/* US dollars of all pictures that came; what has no price costs nothing here. */
static double cost_of(const rv_job *j)
{
    double sum = 0;
    for (size_t i = 0; i < rv_job_images(j); i++) {
        const rv_image *image = rv_job_image(j, i);
        double cost = image ? rv_image_facts(image).cost : -1;
        sum += cost > 0 ? cost : 0;
    }
    return round(sum * 1e6) / 1e6;
}

static double cost_of_known(const rv__value *items)
{
    double sum = 0;
    for (const rv__value *v = rv__json_first(items); v; v = rv__json_next(v))
        sum += rv__json_get_number(v, "cost", 0);
    return round(sum * 1e6) / 1e6;
}

/* j is NULL where the answer was known. */
static void write_metadata(rv__buf *b, const rv_call *c, const rv_job *j, double cost)
{
    const rv__model *model = rv__task_model(task_of(c));
    rv__buf_adds(b, "\"metadata\":{");
    add_text(b, "model", c->openai->request.model);
    add_text(b, "executed_model", model ? model->id : NULL);
    rv__provider p = rv__route_provider(j);
    int attempts = j ? rv_job_facts(j).attempts : 1;
    add_text(b, "provider", p.name);
    add_text(b, "provider_name", p.label);
    rv__buf_adds(b, "\"cost\":");
    rv__json_write_double(b, cost);
    rv__buf_addf(b, ",\"cost_currency\":\"USD\",\"attempts\":%d}", attempts ? attempts : 1);
}

static void write_warnings(rv__buf *b, const rv_call *c)
{
    const rv_issue *issue = NULL;
    const char *before = ",\"warnings\":[";
    for (rv__openai_note *n = c->openai->request.warnings; n; n = n->next) {
        rv__buf_addf(b, "%s{\"code\":\"ignoredParameter\",\"message\":", before);
        rv__json_write_string(b, n->message ? n->message : "");
        rv__buf_adds(b, ",\"parameter\":");
        rv__json_write_string(b, n->parameter ? n->parameter : "");
        rv__buf_adds(b, "}");
        before = ",";
    }
    rv_batch_issues(c->batch, &issue);
    for (; issue && issue->message; issue++) {
        if (!issue->warning)
            continue;
        rv__buf_adds(b, before);
        rv__issue_error_json(b, c->batch, issue);
        before = ",";
    }
    const rv_job *j = c->slots[0].job;
    if (j && rv_job_warning(j, 0)) {
        rv__buf_adds(b, before[1] ? before : "");
        rv__job_warnings_json(j, !before[1], b);
        before = ",";
    }
    rv__buf_adds(b, before[1] ? "" : "]");
}

static size_t write_items(rv__buf *b, const rv_job *j)
{
    size_t made = 0;
    for (size_t i = 0; i < rv_job_images(j); i++) {
        if (!rv__job_item(j, i))
            continue;
        rv__buf_adds(b, made++ ? "," : "");
        write_item(b, j, i);
    }
    return made;
}

rv__value *rv__openai_known(const rv_call *c)
{
    const rv__slot *slot = c->count ? &c->slots[0] : NULL;
    char *text = slot && !slot->job && slot->item ? rv__format("[%s]", slot->item) : NULL;
    rv__value *items = text ? rv__json_parse(text, strlen(text), NULL) : NULL;
    rv__free(text);
    return items;
}

static size_t write_known(rv__buf *b, const rv__value *items)
{
    size_t made = 0;
    for (const rv__value *v = rv__json_first(items); v; v = rv__json_next(v), made++) {
        const char *base64 = rv__json_get_string(v, "imageBase64Data", NULL);
        const char *url = rv__json_get_string(v, "imageURL", NULL);
        rv__buf_addf(b, "%s{\"%s\":", made ? "," : "", base64 ? "b64_json" : "url");
        url = url ? url : rv__json_get_string(v, "imageDataURI", "");
        rv__json_write_string(b, base64 ? base64 : url);
        rv__buf_adds(b, ",\"seed\":");
        rv__json_write_value(b, rv__json_get(v, "seed"));
        if (rv__json_get(v, "NSFWContent"))
            rv__buf_addf(b, ",\"nsfw\":%s",
                         rv__json_get_bool(v, "NSFWContent", false) ? "true" : "false");
        rv__buf_adds(b, "}");
    }
    return made;
}

static void write_answer(rv__buf *b, const rv_call *c)
{
    const rv_job *j = c->slots[0].job;
    rv__value *known = rv__openai_known(c);
    rv__buf_addf(b, "{\"created\":%lld,", (long long)time(NULL));
    add_text(b, "id", rv__task_uuid(task_of(c)));
    rv__buf_adds(b, "\"data\":[");
    size_t made = j ? write_items(b, j) : write_known(b, known);
    rv__buf_adds(b, "],");
    rv__openai_facts(b, c);
    rv__openai_usage(b, c, made);
    rv__buf_adds(b, ",");
    write_metadata(b, c, j, j ? cost_of(j) : cost_of_known(known));
    write_warnings(b, c);
    rv__buf_adds(b, "}");
    b->failed |= !j && !known;
    rv__json_free(known);
}

/* What it would cost, by the model's card. */
static void write_estimate(rv__buf *b, const rv_call *c)
{
    const rv_task *t = task_of(c);
    rv_task_info info = rv_task_facts(t);
    double micros = info.cost > 0 ? round(info.cost * 1e6) : 0;
    double each = info.results ? micros / (double)info.results : 0;
    rv__buf_adds(b, "{\"estimated\":true,");
    add_text(b, "model", c->openai->request.model);
    rv__buf_addf(b,
                 "\"provider\":\"reverie\",\"total_cost_micros\":%.0f,\"currency\":\"USD\","
                 "\"components\":[{\"type\":\"image\",\"metric\":\"images\",\"quantity\":%zu,"
                 "\"billable_quantity\":%zu,\"unit_price\":%.0f,\"total_cost\":%.0f}],",
                 micros, info.results, info.results, each, micros);
    rv__openai_facts(b, c);
    rv__openai_usage(b, c, info.results);
    write_warnings(b, c);
    rv__buf_adds(b, "}");
}

static void add_header(rv__openai_state *s, const char *name, const char *value)
{
    if (value && s->header_count < 4)
        s->headers[s->header_count++] = (rv_header){name, value};
}

/* Texts of the model come from the cards, not from the request: a header must carry nothing that
 * somebody else chose. */
static void add_headers(rv_call *c, int http)
{
    const rv_task *t = task_of(c);
    const rv__model *model = t ? rv__task_model(t) : NULL;
    bool may_help = http == 408 || http == 409 || http == 429 || http == 502 || http == 503;
    if (http >= 400 && !may_help)
        add_header(c->openai, "x-should-retry", "false");
    if (http == 200) {
        add_header(c->openai, "X-Lumenfall-Provider",
                   rv__route_provider(c->count ? c->slots[0].job : NULL).name);
        add_header(c->openai, "X-Lumenfall-Model", model ? model->id : NULL);
    }
}

void rv__openai_reply(rv_call *c)
{
    rv__buf b;
    size_t len = 0;
    int64_t retry_after_ms = -1;
    rv__buf_init(&b, SIZE_MAX / 4);
    int http = write_failure(&b, c, &retry_after_ms);
    if (!http && c->options.dry_run)
        write_estimate(&b, c);
    else if (!http)
        write_answer(&b, c);
    http = http ? http : 200;
    c->body = rv__buf_take(&b, &len);
    rv__buf_free(&b);
    c->reply = (rv_reply){http, "application/json", c->body, len, retry_after_ms};
    if (!c->body)
        c->reply =
            (rv_reply){500, "application/json", no_memory_body, sizeof no_memory_body - 1, -1};
    add_headers(c, c->reply.http_status);
}
