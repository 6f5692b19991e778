/* The OpenAI images protocol: what becomes of a request, what its answers, errors and streams look
 * like, and that no form crashes the reader. */
#include "job_fixture.h"

#include <poll.h>
#include <pthread.h>

#include "base/base64.h"
#include "base/json.h"
#include "base/uuid.h"
#include "job/call.h"
#include "request/multipart.h"
#include "request/openai.h"

typedef struct stream {
    char *text;
    int partials, completed, done;
} stream;

static void on_event(void *user, rv_call *call, rv_job *job, const rv_event *e)
{
    stream *s = user;
    size_t len;
    char *text = rv_openai_event(call, job, e, &len);
    if (!text)
        return;
    char *longer = NULL;
    assert_true(asprintf(&longer, "%s%s", s->text ? s->text : "", text) >= 0);
    free(s->text);
    s->text = longer;
    s->partials += strstr(text, ".partial_image\n") != NULL;
    s->completed += strstr(text, ".completed\n") != NULL;
    rv_free(text);
}

static void on_done(void *user, rv_call *call)
{
    ((stream *)user)->done++;
}

static rv_call *run(rv *r, rv_openai_options o, const char *body, size_t len, stream *s)
{
    o.call.event = on_event;
    o.call.done = on_done;
    o.call.user = s;
    rv_call *c = rv_openai_begin(r, body, len, &o);
    assert_non_null(c);
    struct pollfd p = {rv_fd(r), POLLIN, 0};
    while (!rv_call_reply(c) && poll(&p, 1, 10000) > 0)
        rv_dispatch(r);
    assert_non_null(rv_call_reply(c));
    return c;
}

static rv__value *answer(const rv_call *c)
{
    const rv_reply *reply = rv_call_reply(c);
    rv__value *v = rv__json_parse(reply->body, reply->len, NULL);
    if (!v)
        fail_msg("not JSON: %.*s", (int)reply->len, reply->body);
    return v;
}

static const rv__value *at(const rv__value *v, const char *path)
{
    char part[64];
    while (v && *path) {
        size_t n = strcspn(path, ".");
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        bool is_index = *part >= '0' && *part <= '9';
        v = is_index ? rv__json_at(v, (size_t)strtoul(part, NULL, 10)) : rv__json_get(v, part);
        path += n + (path[n] == '.');
    }
    return v;
}

static const char *text_at(const rv__value *v, const char *path)
{
    const char *text = rv__json_string(at(v, path));
    return text ? text : "(none)";
}

#define SMALL "\"prompt\":\"a fox\",\"size\":\"128x128\",\"steps\":2,\"seed\":7"
#define B64   SMALL ",\"response_format\":\"b64_json\""

/* ---- translation ------------------------------------------------------------------------- */

/* What stands in the task for a body; the model is the demo's (256 x 256) unless named. */
static const struct {
    const char *body, *expected;
} translations[] = {
    {"{\"prompt\":\"p\"}", "\"positivePrompt\":\"p\""},
    {"{\"prompt\":\"p\"}", "\"model\":\"reverie:1@1\""},
    {"{\"prompt\":\"p\"}", "\"outputType\":\"URL\""},
    {"{\"prompt\":\"p\"}", "\"outputFormat\":\"PNG\""},
    {"{\"prompt\":\"p\",\"model\":null}", "\"model\":\"reverie:1@1\""},
    {"{\"prompt\":\"p\",\"model\":\"hidream-i1-fast\"}", "\"model\":\"hidream-i1-fast\""},
    {"{\"prompt\":\"p\",\"model\":\"gpt-image-1\"}", "\"outputType\":\"base64Data\""},
    {"{\"prompt\":\"p\",\"response_format\":\"b64_json\"}", "\"outputType\":\"base64Data\""},
    {"{\"prompt\":\"p\",\"sync_mode\":true}", "\"outputType\":\"dataURI\""},
    {"{\"prompt\":\"p\",\"stream\":true}", "\"outputType\":\"base64Data\""},
    {"{\"prompt\":\"p\",\"outputType\":\"dataURI\"}", "\"outputType\":\"dataURI\""},
    {"{\"prompt\":\"p\",\"n\":3}", "\"numberResults\":3"},
    {"{\"prompt\":\"p\",\"seed\":18446744073709551615}", "\"seed\":18446744073709551615"},
    {"{\"prompt\":\"p\",\"negative_prompt\":\"q\"}", "\"negativePrompt\":\"q\""},
    {"{\"prompt\":\"p\",\"num_inference_steps\":4}", "\"steps\":4"},
    {"{\"prompt\":\"p\",\"guidance_scale\":2.5}", "\"CFGScale\":2.5"},
    {"{\"prompt\":\"p\",\"scheduler\":\"Euler\"}", "\"scheduler\":\"Euler\""},
    {"{\"prompt\":\"p\",\"enable_safety_checker\":true}", "\"safety\":{\"checkContent\":true}"},
    {"{\"prompt\":\"p\",\"output_format\":\"jpeg\"}", "\"outputFormat\":\"JPG\""},
    {"{\"prompt\":\"p\",\"output_format\":\"WEBP\"}", "\"outputFormat\":\"WEBP\""},
    {"{\"prompt\":\"p\",\"output_compression\":50}", "\"outputQuality\":50"},
    {"{\"prompt\":\"p\",\"output_compression\":0}", "\"outputQuality\":20"},
    {"{\"prompt\":\"p\",\"output_quality\":100}", "\"outputQuality\":99"},
    {"{\"prompt\":\"p\",\"speed_mode\":\"Juiced \\ud83d\\udd25 (more speed)\"}",
     "\"teaCache\":true"},
    {"{\"prompt\":\"p\",\"size\":\"512x256\"}", "\"width\":512,\"height\":256"},
    {"{\"prompt\":\"p\",\"size\":\"512\xc3\x97"
     "256\"}",
     "\"width\":512,\"height\":256"},
    {"{\"prompt\":\"p\",\"size\":\"16:9\",\"resolution\":\"1K\"}", "\"width\":1360,\"height\":768"},
    {"{\"prompt\":\"p\",\"aspect_ratio\":\"1:1\",\"resolution\":\"2K\"}",
     "\"width\":2048,\"height\":2048"},
    {"{\"prompt\":\"p\",\"resolution\":\"0.5k\"}", "\"width\":512,\"height\":512"},
    {"{\"prompt\":\"p\",\"aspect_ratio\":\"16:9\"}", "\"width\":336,\"height\":192"},
    {"{\"prompt\":\"p\",\"model\":\"hidream-i1-fast\",\"size\":\"9:16\"}",
     "\"width\":768,\"height\":1360"},
    {"{\"prompt\":\"p\",\"size\":\"1024x768\",\"aspect_ratio\":\"4:3\"}",
     "\"width\":1024,\"height\":768"},
};

static rv__models *cards(void)
{
    char path[4096];
    const char *root = getenv("SOURCE_ROOT");
    snprintf(path, sizeof path, "%s/config/models", root ? root : ".");
    rv__models *m = rv__models_new();
    rv_error err;
    if (rv__models_add(m, path, &err) != RV_OK)
        fail_msg("%s", err.message);
    return m;
}

static void translate_each_member(void **state)
{
    rv__models *m = cards();
    const rv__model *fallback = rv__models_find(m, "default");
    for (size_t i = 0; i < sizeof translations / sizeof *translations; i++) {
        const char *body = translations[i].body;
        rv__openai o;
        assert_true(
            rv__openai_translate(m, fallback, RV_OPENAI_GENERATIONS, NULL, body, strlen(body), NULL, &o));
        if (o.errors)
            fail_msg("%s: %s", body, o.errors->message);
        if (!strstr(o.task, translations[i].expected))
            fail_msg("%s: %s", body, o.task);
        rv__openai_free(&o);
    }
    rv__models_free(m);
}

/* Without a size the model's own holds, and -1 is any seed. */
static void leave_defaults_to_the_table(void **state)
{
    rv__models *m = cards();
    const char *body = "{\"prompt\":\"p\",\"size\":\"auto\",\"seed\":-1,\"n\":null}";
    rv__openai o;
    assert_true(rv__openai_translate(m, NULL, RV_OPENAI_GENERATIONS, "application/json", body,
                                     strlen(body), NULL, &o));
    assert_null(strstr(o.task, "\"width\""));
    assert_null(strstr(o.task, "\"seed\""));
    assert_null(strstr(o.task, "numberResults"));
    rv__openai_free(&o);
    rv__models_free(m);
}

/* ---- errors ------------------------------------------------------------------------------ */

/* Body, HTTP status, code, param, and a part of the message. */
static const struct {
    const char *body;
    int http;
    const char *code, *param, *message;
} refusals[] = {
    {"{\"size\":\"128x128\"}", 400, "INVALID_REQUEST", "prompt", "prompt"},
    {"{\"prompt\":\"\"}", 400, "INVALID_REQUEST", "prompt", "prompt"},
    {"{\"prompt\":5}", 400, "INVALID_REQUEST", "prompt", "prompt must be"},
    {"{\"prompt\":\"p\",\"n\":0}", 400, "INVALID_REQUEST", "n", "n must be"},
    {"{\"prompt\":\"p\",\"n\":11}", 400, "INVALID_REQUEST", "n", "between 1 and 10"},
    {"{\"prompt\":\"p\",\"n\":\"2\"}", 400, "INVALID_REQUEST", "n", "n must be"},
    {"{\"prompt\":\"p\",\"size\":\"100x100\"}", 400, "INVALID_REQUEST", "size", "128"},
    {"{\"prompt\":\"p\",\"size\":\"1000x1001\"}", 400, "INVALID_REQUEST", "size", "16"},
    {"{\"prompt\":\"p\",\"size\":\"large\"}", 400, "INVALID_REQUEST", "size", "16:9"},
    {"{\"prompt\":\"p\",\"size\":512}", 400, "INVALID_REQUEST", "size", "size must be"},
    {"{\"prompt\":\"p\",\"aspect_ratio\":\"wide\"}", 400, "INVALID_REQUEST", "aspect_ratio",
     "16:9"},
    {"{\"prompt\":\"p\",\"size\":\"512x512\",\"aspect_ratio\":\"16:9\"}", 400, "INVALID_REQUEST",
     "aspect_ratio", "contradict"},
    {"{\"prompt\":\"p\",\"resolution\":\"4K\"}", 400, "INVALID_REQUEST", "resolution", "2048"},
    {"{\"prompt\":\"p\",\"resolution\":\"big\"}", 400, "INVALID_REQUEST", "resolution", "tier"},
    {"{\"prompt\":\"p\",\"response_format\":\"jpg\"}", 400, "INVALID_REQUEST", "response_format",
     "b64_json"},
    {"{\"prompt\":\"p\",\"output_format\":\"avif\"}", 400, "INVALID_REQUEST", "output_format",
     "webp"},
    {"{\"prompt\":\"p\",\"output_compression\":101}", 400, "INVALID_REQUEST", "output_compression",
     "100"},
    {"{\"prompt\":\"p\",\"background\":\"transparent\"}", 400, "INVALID_REQUEST", "background",
     "opaque"},
    {"{\"prompt\":\"p\",\"partial_images\":4}", 400, "INVALID_REQUEST", "partial_images", "3"},
    {"{\"prompt\":\"p\",\"stream\":\"yes\"}", 400, "INVALID_REQUEST", "stream", "true or false"},
    {"{\"prompt\":\"p\",\"seed\":\"seven\"}", 400, "INVALID_REQUEST", "seed", "seed must be"},
    {"{\"prompt\":\"p\",\"num_inference_steps\":0}", 400, "INVALID_REQUEST", "num_inference_steps",
     "num_inference_steps must be"},
    {"{\"prompt\":\"p\",\"steps\":0}", 400, "INVALID_REQUEST", "steps", "steps must be"},
    {"{\"prompt\":\"p\",\"webhookURL\":\"https://example.org/\"}", 400, "INVALID_REQUEST",
     "webhookURL", "not available"},
    {"{\"prompt\":\"p\",\"model\":\"no-such-model\"}", 404, "MODEL_NOT_FOUND", "model",
     "no-such-model"},
    {"{\"prompt\":\"p\",\"model\":\"runware:1@1\"}", 404, "MODEL_NOT_FOUND", "model", "not served"},
    {"{\"prompt\":\"p\",\"model\":\"hidream-i1-fast\",\"image\":\"x\"}", 400, "INVALID_REQUEST",
     "image", "image"},
    {"{\"prompt\":\"p\",\"prompt\":\"q\"}", 400, "INVALID_REQUEST", "prompt", "twice"},
    {"[]", 400, "INVALID_REQUEST", NULL, "JSON object"},
    {"{", 400, "INVALID_REQUEST", NULL, "not valid JSON"},
    {"", 400, "INVALID_REQUEST", NULL, "not valid JSON"},
    {"{\"prompt\":\"stub:fail=safety\",\"response_format\":\"b64_json\",\"size\":\"128x128\"}", 400,
     "CONTENT_POLICY_VIOLATION", NULL, "fail"},
    {"{\"prompt\":\"stub:fail=busy\",\"response_format\":\"b64_json\",\"size\":\"128x128\"}", 503,
     "SERVICE_UNAVAILABLE", NULL, "fail"},
    {"{\"prompt\":\"p\"}", 400, "INVALID_REQUEST", "response_format", "stored"},
};

static void refuse_in_their_words(void **state)
{
    rv *r = open_stub("0");
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        stream s = {0};
        rv_openai_options o = {.kind = RV_OPENAI_GENERATIONS};
        rv_call *c = run(r, o, refusals[i].body, strlen(refusals[i].body), &s);
        rv__value *v = answer(c);
        const rv__value *e = rv__json_get(v, "error");
        const char *param = rv__json_string(rv__json_get(e, "param"));
        const char *message = text_at(e, "message");
        if (rv_call_reply(c)->http_status != refusals[i].http ||
            strcmp(text_at(e, "code"), refusals[i].code) != 0 ||
            strcmp(param ? param : "", refusals[i].param ? refusals[i].param : "") != 0 ||
            !strstr(message, refusals[i].message))
            fail_msg("%s: %d %.*s", refusals[i].body, rv_call_reply(c)->http_status,
                     (int)rv_call_reply(c)->len, rv_call_reply(c)->body);
        assert_non_null(rv__json_first(rv__json_get(e, "details")));
        bool repeat = rv_call_reply(c)->http_status == 503;
        assert_int_equal(rv_call_reply(c)->retry_after_ms >= 0, repeat);
        assert_int_equal(rv_call_header(c, 0).name != NULL, !repeat); /* x-should-retry: false */
        rv__json_free(v);
        rv_call_free(c);
    }
    rv_close(r);
}

static void tell_all_problems(void **state)
{
    static const char body[] = "{\"size\":\"1x1\",\"n\":99,\"output_format\":\"gif\"}";
    rv *r = open_stub("0");
    stream s = {0};
    rv_call *c = run(r, (rv_openai_options){0}, body, sizeof body - 1, &s);
    rv__value *v = answer(c);
    assert_true(rv__json_size(at(v, "error.details")) >= 4);
    assert_non_null(strstr(text_at(v, "error.message"), "size"));
    assert_non_null(strstr(text_at(v, "error.message"), "output_format"));
    rv__json_free(v);
    rv_call_free(c);
    rv_close(r);
}

/* ---- answers ----------------------------------------------------------------------------- */

static void answer_with_pictures(void **state)
{
    static const char body[] = "{" B64 ",\"n\":2,\"style\":\"vivid\",\"output_format\":\"webp\"}";
    rv *r = open_stub("0");
    stream s = {0};
    rv_call *c = run(r, (rv_openai_options){0}, body, sizeof body - 1, &s);
    rv__value *v = answer(c);
    assert_int_equal(rv_call_reply(c)->http_status, 200);
    assert_int_equal(rv__json_size(at(v, "data")), 2);
    assert_int_equal(rv__json_get_int(at(v, "data.0"), "seed", -1), 7);
    assert_int_equal(rv__json_get_int(at(v, "data.1"), "seed", -1), 8);
    assert_true(strlen(text_at(v, "data.0.b64_json")) > 50);
    assert_true(rv__json_get_int(v, "created", 0) > 1600000000);
    assert_string_equal(text_at(v, "size"), "128x128");
    assert_string_equal(text_at(v, "output_format"), "webp");
    assert_int_equal(rv__json_get_int(at(v, "usage"), "output_tokens", 0), 2 * 64);
    assert_string_equal(text_at(v, "metadata.executed_model"), "reverie:1@1");
    assert_string_equal(text_at(v, "warnings.0.parameter"), "style");
    assert_string_equal(rv_call_header(c, 0).name, "X-Lumenfall-Provider");
    rv__json_free(v);
    rv_call_free(c);
    rv_close(r);
}

static void stream_partial_pictures(void **state)
{
    static const char body[] = "{\"prompt\":\"a fox\",\"size\":\"128x128\",\"steps\":8,"
                               "\"stream\":true,\"partial_images\":2}";
    rv *r = open_stub("5");
    stream s = {0};
    rv_openai_options o = {.call = {.event = on_event, .done = on_done, .user = &s}};
    rv_call *c = rv_openai_begin(r, body, sizeof body - 1, &o);
    assert_true(rv_openai_streams(c));
    rv_call_free(c);
    c = run(r, (rv_openai_options){0}, body, sizeof body - 1, &s);
    assert_true(s.partials >= 1 && s.partials <= 2);
    assert_int_equal(s.completed, 1);
    assert_non_null(strstr(s.text, "\"type\":\"image_generation.completed\""));
    assert_non_null(strstr(s.text, "\"usage\":{"));
    assert_null(rv_openai_stream_error(c, NULL));
    free(s.text);
    rv_call_free(c);
    rv_close(r);
}

/* The same key of the same owner is the same task, unless the body names another. */
static void idempotency_keys(void **state)
{
    static const char plain[] = "{\"prompt\":\"a fox\",\"size\":\"128x128\",\"steps\":1}";
    static const char named[] = "{\"prompt\":\"a fox\",\"size\":\"128x128\",\"steps\":1,"
                                "\"taskUUID\":\"a770f077-f413-47de-9dac-be0b26a35da6\"}";
    static const struct {
        const char *key, *owner, *body;
    } rows[] = {{"one", "a", plain}, {"one", "a", plain}, {"two", "a", plain},
                {"one", "b", plain}, {"one", "a", named}, {"", "a", plain}, {"", "a", plain}};
    enum { ROWS = sizeof rows / sizeof *rows };
    rv *r = open_stub("0");
    char uuids[ROWS][40];
    for (size_t i = 0; i < ROWS; i++) {
        rv_openai_options o = {.idempotency_key = rows[i].key, .call = {.owner = rows[i].owner}};
        stream s = {0};
        rv_call *c = run(r, o, rows[i].body, strlen(rows[i].body), &s);
        snprintf(uuids[i], sizeof uuids[i], "%s", rv__task_uuid(c->slots[0].task));
        assert_true(rv__uuid_is_v4(uuids[i], strlen(uuids[i])));
        free(s.text);
        rv_call_free(c);
    }
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t k = 0; k < i; k++)
            assert_int_equal(strcmp(uuids[i], uuids[k]) == 0, i == 1 && k == 0);
    }
    assert_string_equal(uuids[4], "a770f077-f413-47de-9dac-be0b26a35da6");
    rv_close(r);
}

typedef struct parsing {
    rv *r;
    rv_openai_request *request;
} parsing;

static void *parse(void *user)
{
    static const char body[] = "{\"prompt\":\"a fox\",\"size\":\"128x128\",\"steps\":1,"
                               "\"response_format\":\"b64_json\"}";
    parsing *p = user;
    rv_openai_options o = {.idempotency_key = "one", .call = {.owner = "a"}};
    p->request = rv_openai_parse(p->r, body, sizeof body - 1, &o);
    return NULL;
}

/* Parsed on another thread, started here, once. */
static void start_what_another_thread_parsed(void **state)
{
    (void)state;
    parsing p = {.r = open_stub("0")};
    rv_batch_unref(rv_batch_parse(p.r, "[]", 2)); /* reads the cards */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, parse, &p), 0);
    pthread_join(thread, NULL);
    assert_non_null(p.request);
    rv_call_options o = {.owner = "a"};
    rv_call *c = rv_openai_start(p.r, p.request, &o);
    assert_non_null(c);
    assert_null(rv_openai_start(p.r, p.request, &o));
    rv_openai_request_free(p.request);
    struct pollfd fd = {rv_fd(p.r), POLLIN, 0};
    while (!rv_call_reply(c) && poll(&fd, 1, 10000) > 0)
        rv_dispatch(p.r);
    assert_non_null(rv_call_reply(c));
    assert_int_equal(rv_call_reply(c)->http_status, 200);
    rv_call_free(c);
    parse(&p);
    rv_openai_request_free(p.request); /* never started */
    rv_openai_request_free(NULL);
    rv_close(p.r);
}

static void end_a_stream_with_an_error(void **state)
{
    static const char body[] =
        "{\"prompt\":\"stub:fail=serverError\",\"size\":\"128x128\",\"stream\":true}";
    rv *r = open_stub("0");
    stream s = {0};
    rv_call *c = run(r, (rv_openai_options){0}, body, sizeof body - 1, &s);
    size_t len = 0;
    char *text = rv_openai_stream_error(c, &len);
    assert_non_null(text);
    assert_memory_equal(text, "event: error\ndata: {\"error\":", 28);
    rv_free(text);
    rv_call_free(c);
    rv_close(r);
}

static void estimate_without_running(void **state)
{
    static const char body[] = "{\"prompt\":\"p\",\"model\":\"hidream-i1-full\",\"n\":2}";
    rv *r = open_stub("0");
    stream s = {0};
    rv_call *c = run(r, (rv_openai_options){.call.dry_run = true}, body, sizeof body - 1, &s);
    rv__value *v = answer(c);
    assert_int_equal(s.done, 0);
    assert_int_equal(rv__json_get_int(v, "total_cost_micros", 0), 18000);
    assert_int_equal(rv__json_get_int(at(v, "components.0"), "unit_price", 0), 9000);
    rv__json_free(v);
    rv_call_free(c);
    rv_close(r);
}

/* ---- forms ------------------------------------------------------------------------------- */

#define CRLF "\r\n"
#define FORM "multipart/form-data; boundary=xyz"

static void add(rv__buf *b, const char *name, const char *file, const void *data, size_t len)
{
    rv__buf_addf(b, "--xyz" CRLF "Content-Disposition: form-data; name=\"%s\"", name);
    if (file)
        rv__buf_addf(b, "; filename=\"%s\"" CRLF "Content-Type: image/png", file);
    rv__buf_adds(b, CRLF CRLF);
    rv__buf_add(b, data, len);
    rv__buf_adds(b, CRLF);
}

static void *png(int width, int height, int channels, uint8_t alpha, size_t *len)
{
    uint8_t *pixels = malloc((size_t)(width * height * channels));
    memset(pixels, 90, (size_t)(width * height * channels));
    for (int i = 3; channels == 4 && i < width * height * 4; i += 4)
        pixels[i] = i < width * height * 2 ? alpha : 255;
    rv_image *image = NULL;
    void *bytes = NULL;
    assert_int_equal(rv_image_from_pixels(pixels, width, height, channels, &image), RV_OK);
    assert_int_equal(rv_image_encode(image, "PNG", 95, &bytes, len, NULL), RV_OK);
    rv_image_unref(image);
    free(pixels);
    return bytes;
}

static void read_forms(void **state)
{
    rv__models *m = cards();
    size_t len, holes_len;
    void *plain = png(160, 96, 3, 0, &len), *holes = png(160, 96, 4, 0, &holes_len);
    rv__buf b;
    rv__buf_init(&b, 1 << 20);
    add(&b, "prompt", NULL, "a \"fox\"", 7);
    add(&b, "n", NULL, "2", 1);
    add(&b, "seed", NULL, "42", 2);
    add(&b, "image[]", "a.png", plain, len);
    add(&b, "mask", "m.png", holes, holes_len);
    rv__buf_adds(&b, "--xyz--" CRLF);
    rv__openai o;
    assert_true(rv__openai_translate(m, rv__models_find(m, "default"), RV_OPENAI_EDITS, FORM,
                                     b.data, b.len, NULL, &o));
    assert_null(o.errors);
    assert_non_null(strstr(o.task, "\"positivePrompt\":\"a \\\"fox\\\"\""));
    assert_non_null(strstr(o.task, "\"numberResults\":2"));
    assert_non_null(strstr(o.task, "\"seed\":42"));
    assert_non_null(strstr(o.task, "\"seedImage\":\""));
    assert_non_null(strstr(o.task, "\"maskImage\":\""));
    assert_non_null(strstr(o.task, "\"width\":160,\"height\":128")); /* brought inside the limits */
    rv__openai_free(&o);
    rv__buf_free(&b);
    rv_free(plain);
    rv_free(holes);
    rv__models_free(m);
}

/* Every prefix of a form, and every byte of it changed: an answer or an error, never a crash. */
static void survive_broken_forms(void **state)
{
    static const char form[] =
        "--xyz" CRLF "Content-Disposition: form-data; name=\"prompt\"" CRLF CRLF "a" CRLF
        "--xyz" CRLF "Content-Disposition: form-data; name=\"image\"; "
        "filename=\"a.png\"" CRLF CRLF "b" CRLF "--xyz--" CRLF;
    rv__part parts[RV__PARTS_MAX];
    size_t count;
    assert_null(rv__multipart_read(FORM, form, sizeof form - 1, parts, &count));
    assert_int_equal(count, 2);
    assert_true(parts[1].is_file);
    for (size_t n = 0; n < sizeof form - 3; n++) {
        char *copy = malloc(n + 1);
        memcpy(copy, form, n);
        rv__multipart_read(FORM, copy, n, parts, &count);
        free(copy);
        copy = strdup(form);
        copy[n] ^= 0x15;
        rv__multipart_read(FORM, copy, sizeof form - 1, parts, &count);
        free(copy);
    }
    assert_non_null(
        rv__multipart_read("multipart/form-data", form, sizeof form - 1, parts, &count));
    assert_non_null(rv__multipart_read("multipart/form-data; boundary=\"", form, 9, parts, &count));
    assert_null(rv__multipart_read("multipart/form-data; charset=x; boundary=\"xyz\"", form,
                                   sizeof form - 1, parts, &count));
}

static void refuse_what_is_no_picture(void **state)
{
    rv *r = open_stub("0");
    rv__buf b;
    rv__buf_init(&b, 1 << 20);
    add(&b, "prompt", NULL, "a", 1);
    add(&b, "image", "a.png", "GIF89a", 6);
    rv__buf_adds(&b, "--xyz--" CRLF);
    stream s = {0};
    rv_openai_options o = {.kind = RV_OPENAI_EDITS, .content_type = FORM};
    rv_call *c = run(r, o, b.data, b.len, &s);
    rv__value *v = answer(c);
    assert_int_equal(rv_call_reply(c)->http_status, 400);
    assert_string_equal(text_at(v, "error.param"), "image");
    rv__json_free(v);
    rv_call_free(c);
    o.content_type = NULL;
    c = run(r, o, "{\"prompt\":\"p\"}", 14, &s);
    v = answer(c);
    assert_string_equal(text_at(v, "error.message"),
                        "image must be given: the picture to start from");
    rv__json_free(v);
    rv_call_free(c);
    rv__buf_free(&b);
    rv_close(r);
}

/* ---- models ------------------------------------------------------------------------------ */

static void list_models(void **state)
{
    rv *r = open_stub("0");
    char *text = rv_openai_models(r);
    rv__value *v = rv__json_parse(text, strlen(text), NULL);
    assert_string_equal(text_at(v, "object"), "list");
    assert_string_equal(text_at(v, "data.0.object"), "model");
    rv__json_free(v);
    rv_free(text);
    text = rv_openai_model(r, "fal-ai/hidream-i1-fast", "true");
    v = rv__json_parse(text, strlen(text), NULL);
    assert_string_equal(text_at(v, "id"), "fal-ai/hidream-i1-fast");
    assert_string_equal(text_at(v, "root"), "runware:97@3");
    assert_int_equal(rv__json_get_int(at(v, "schema.properties.n"), "maximum", 0), 10);
    assert_int_equal(rv__json_get_int(at(v, "schema.properties.steps"), "default", 0), 16);
    assert_null(at(v, "schema.properties.image"));
    rv__json_free(v);
    rv_free(text);
    text = rv_openai_model(r, "reverie-demo", "runware");
    assert_non_null(strstr(text, "\"positivePrompt\""));
    rv_free(text);
    assert_null(rv_openai_model(r, "nothing", NULL));
    rv_close(r);
}

/* Every allocation of a request fails once: an answer or NULL, never a crash or a leak. */
static void survive_without_memory(void **state)
{
    static const char body[] = "{" B64 ",\"n\":2,\"style\":\"vivid\",\"size\":\"16:9\"}";
    rv__models *m = cards();
    for (long n = 1; n < 400; n++) {
        rv__openai o;
        rv__alloc_fail_after(n);
        bool ok = rv__openai_translate(m, rv__models_find(m, "default"), RV_OPENAI_GENERATIONS,
                                       NULL, body, sizeof body - 1, NULL, &o);
        rv__alloc_fail_after(0);
        rv__openai_free(&o);
        if (ok && n > 300)
            break;
    }
    rv__models_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(translate_each_member),
        cmocka_unit_test(leave_defaults_to_the_table),
        cmocka_unit_test(refuse_in_their_words),
        cmocka_unit_test(tell_all_problems),
        cmocka_unit_test(answer_with_pictures),
        cmocka_unit_test(stream_partial_pictures),
        cmocka_unit_test(start_what_another_thread_parsed),
        cmocka_unit_test(end_a_stream_with_an_error),
        cmocka_unit_test(idempotency_keys),
        cmocka_unit_test(estimate_without_running),
        cmocka_unit_test(read_forms),
        cmocka_unit_test(survive_broken_forms),
        cmocka_unit_test(refuse_what_is_no_picture),
        cmocka_unit_test(list_models),
        cmocka_unit_test(survive_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
