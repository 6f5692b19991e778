/* Calls: a body in, one reply out, for every combination of answers and errors; storage, streams,
 * lifetimes. */
#include "job_fixture.h"

#include <poll.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/json.h"

typedef struct outcome {
    int done, events, images;
    bool free_in_event, free_in_done;
    char *stream; /* text of all events */
} outcome;

static void on_event(void *user, rv_call *call, rv_job *job, const rv_event *e)
{
    outcome *o = user;
    o->events++;
    o->images += e->kind == RV_EVENT_IMAGE;
    size_t len;
    char *text = rv_event_stream(job, e, &len);
    assert_non_null(text);
    assert_int_equal(strlen(text), len);
    char *longer = NULL;
    assert_true(asprintf(&longer, "%s%s", o->stream ? o->stream : "", text) >= 0);
    free(o->stream);
    o->stream = longer;
    rv_free(text);
    if (o->free_in_event)
        rv_call_free(call);
}

static void on_done(void *user, rv_call *call)
{
    outcome *o = user;
    o->done++;
    assert_non_null(rv_call_reply(call));
    if (o->free_in_done)
        rv_call_free(call);
}

static void drain(rv *r)
{
    struct pollfd p = {rv_fd(r), POLLIN, 0};
    while (rv_dispatch(r) > 0)
        poll(&p, 1, -1);
}

static rv_call *begin(rv *r, const char *body, outcome *o)
{
    rv_call_options options = {.event = on_event, .done = on_done, .user = o};
    rv_call *c = rv_call_begin(r, body, strlen(body), &options);
    assert_non_null(c);
    return c;
}

/* A finished reply as JSON. */
static rv__value *reply_value(const rv_call *c)
{
    const rv_reply *reply = rv_call_reply(c);
    assert_non_null(reply);
    assert_string_equal(reply->content_type, "application/json");
    rv__value *v = rv__json_parse(reply->body, reply->len, NULL);
    if (!v)
        fail_msg("not JSON: %.*s", (int)reply->len, reply->body);
    return v;
}

#define TASK(n, prompt, more)                                                                      \
    "{\"taskType\":\"imageInference\",\"taskUUID\":\"00000000-0000-4000-8000-00000000000" #n       \
    "\",\"model\":\"runware:97@3\",\"positivePrompt\":\"" prompt                                   \
    "\",\"width\":128,\"height\":128,\"steps\":2,\"seed\":7" more "}"
#define INLINE ",\"outputType\":\"base64Data\",\"outputFormat\":\"PNG\""

/* What a reply must look like. */
static const struct {
    const char *body;
    int http, data, errors; /* counts; 0 also means that the key is absent */
    const char *code;       /* of the first error                          */
    bool at_once;
} replies[] = {
    {"[" TASK(1, "a", INLINE) "]", 200, 1, 0, NULL, false},
    {TASK(1, "a", INLINE), 200, 1, 0, NULL, false},
    {"[" TASK(1, "a", INLINE ",\"numberResults\":3") "," TASK(2, "b", INLINE) "]", 200, 4, 0, NULL,
     false},
    {"[" TASK(1, "a", INLINE) "," TASK(2, "stub:fail=serverError", INLINE) "]", 200, 1, 1,
     "internalServerError", false},
    {"[" TASK(1, "stub:fail=safety", INLINE) "]", 400, 0, 1, "contentPolicyViolation", false},
    {"[" TASK(1, "stub:fail=busy", INLINE) "," TASK(2, "stub:fail=safety", INLINE) "]", 503, 0, 2,
     "serviceUnavailable", false},
    {"[" TASK(1, "stub:fail=timeout stub:after=2", INLINE ",\"numberResults\":3") "]", 200, 2, 1,
     "providerTimeout", false},
    {"[" TASK(1, "a", INLINE ",\"steps\":0") "," TASK(2, "b", INLINE) "]", 200, 1, 1,
     "invalidSteps", false},
    {"[" TASK(1, "a", ",\"outputType\":\"x\",\"outputQuality\":1") "]", 400, 0, 2,
     "invalidOutputType", true},
    {"[" TASK(1, "a", "") "]", 400, 0, 1, "unsupportedParameter", true},
    {"[" TASK(1, "a", INLINE ",\"deliveryMethod\":\"async\"") "]", 400, 0, 1,
     "unsupportedParameter", true},
    {"[" TASK(1, "a", INLINE ",\"webhookURL\":\"https://example.org/\"") "]", 400, 0, 1,
     "unsupportedParameter", true},
    {"[" TASK(1, "a", INLINE ",\"uploadEndpoint\":\"https://example.org/\"") "]", 400, 0, 1,
     "unsupportedParameter", true},
    {"[{\"taskType\":\"ping\",\"ping\":true}]", 200, 1, 0, NULL, true},
    {"[{\"taskType\":\"authentication\",\"apiKey\":\"k\"}]", 200, 1, 0, NULL, true},
    {"[{\"taskType\":\"authentication\",\"apiKey\":\"k\"}," TASK(1, "a", INLINE) "]", 200, 2, 0,
     NULL, false},
    {"[]", 400, 0, 1, "arrayTooSmall", true},
    {"", 400, 0, 1, "invalidRequestBody", true},
    {"[1", 400, 0, 1, "invalidRequestBody", true},
    {"[" TASK(1, "a", ",\"model\":\"runware:1@1\"") "]", 400, 0, 1, NULL,
     true}, /* a duplicate key */
};

static void check_reply(rv *r, size_t i)
{
    outcome o = {0};
    rv_call *c = begin(r, replies[i].body, &o);
    assert_int_equal(rv_call_reply(c) != NULL, replies[i].at_once);
    drain(r);
    assert_int_equal(o.done, !replies[i].at_once);
    const rv_reply *reply = rv_call_reply(c);
    rv__value *v = reply_value(c);
    const rv__value *errors = rv__json_get(v, "errors"), *first = rv__json_first(errors);
    if (reply->http_status != replies[i].http ||
        (int)rv__json_size(rv__json_get(v, "data")) != replies[i].data ||
        (int)rv__json_size(errors) != replies[i].errors)
        fail_msg("reply %zu: %d %.*s", i, reply->http_status, (int)reply->len, reply->body);
    assert_int_equal(errors != NULL, replies[i].errors > 0);
    assert_int_equal(rv__json_get(v, "error") != NULL, replies[i].http != 200);
    if (replies[i].code)
        assert_string_equal(rv__json_get_string(first, "code", ""), replies[i].code);
    if (replies[i].http != 200)
        assert_string_equal(rv__json_get_string(rv__json_get(v, "error"), "code", ""),
                            rv__json_get_string(first, "code", "-"));
    assert_int_equal(reply->retry_after_ms >= 0, replies[i].http == 503 || replies[i].http == 429);
    rv__json_free(v);
    rv_call_free(c);
    free(o.stream);
}

static void replies_have_the_right_form(void **state)
{
    rv *r = open_stub("0");
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
        check_reply(r, i);
    rv_close(r);
}

static void errors_name_their_task(void **state)
{
    rv *r = open_stub("0");
    outcome o = {0};
    rv_call *c = begin(
        r, "[" TASK(1, "stub:fail=safety", INLINE) "," TASK(2, "a", INLINE ",\"steps\":0") "]", &o);
    drain(r);
    rv__value *v = reply_value(c);
    const rv__value *e = rv__json_first(rv__json_get(v, "errors"));
    assert_string_equal(rv__json_get_string(e, "taskUUID", ""),
                        "00000000-0000-4000-8000-000000000001");
    assert_string_equal(rv__json_get_string(e, "taskType", ""), "imageInference");
    e = rv__json_next(e);
    assert_string_equal(rv__json_get_string(e, "taskUUID", ""),
                        "00000000-0000-4000-8000-000000000002");
    assert_string_equal(rv__json_get_string(e, "parameter", ""), "steps");
    rv__json_free(v);
    rv_call_free(c);
    free(o.stream);
    rv_close(r);
}

static void full_queue_is_429(void **state)
{
    rv *r = open_stub("0");
    rv_set(r, "queue", "1", NULL);
    outcome o = {0}, p = {0};
    rv_call *first = begin(r, "[" TASK(1, "stub:hang", INLINE) "]", &o);
    rv_call *second = begin(r, "[" TASK(2, "a", INLINE) "]", &p);
    const rv_reply *reply = rv_call_reply(second);
    assert_non_null(reply);
    assert_int_equal(reply->http_status, 429);
    assert_true(reply->retry_after_ms > 0);
    rv__value *v = reply_value(second);
    assert_string_equal(rv__json_get_string(rv__json_get(v, "error"), "code", ""),
                        "rateLimitExceeded");
    rv__json_free(v);
    rv_call_free(second);
    rv_call_free(first);
    free(o.stream);
    rv_close(r);
}

static void *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    void *bytes = malloc(*len);
    assert_int_equal(fread(bytes, 1, *len, f), *len);
    fclose(f);
    return bytes;
}

/* The picture of a one-task call in the given form (malloc). */
static void *picture(rv *r, int uuid, const char *type, const char *format, size_t *len)
{
    char more[128];
    snprintf(more, sizeof more,
             ",\"outputType\":\"%s\",\"outputFormat\":\"%s\",\"includeCost\":true", type, format);
    char *body = body_text(uuid, "a fox", more);
    outcome o = {0};
    rv_call *c = begin(r, body, &o);
    drain(r);
    rv__value *v = reply_value(c);
    const rv__value *item = rv__json_first(rv__json_get(v, "data"));
    const char *url = rv__json_get_string(item, "imageURL", NULL);
    const char *data = rv__json_get_string(item, "imageBase64Data", NULL);
    const char *uri = rv__json_get_string(item, "imageDataURI", NULL);
    assert_int_equal((url != NULL) + (data != NULL) + (uri != NULL), 1);
    assert_string_equal(rv__json_digits(rv__json_get(item, "seed")), "7");
    assert_int_equal(strlen(rv__json_get_string(item, "imageUUID", "")), 36);
    assert_true(rv__json_get_number(item, "cost", -1) > 0);
    assert_null(rv__json_get(item, "NSFWContent"));
    void *bytes;
    if (url) {
        assert_memory_equal(url, "file://", 7);
        bytes = read_file(url + 7, len);
    } else {
        const char *text = data ? data : strstr(uri, ";base64,") + 8;
        bytes = malloc(strlen(text));
        assert_true(rv__base64_decode(text, strlen(text), bytes, len));
    }
    rv__json_free(v);
    rv_call_free(c);
    free(body);
    free(o.stream);
    return bytes;
}

static void all_forms_are_the_same_file(void **state)
{
    char folder[] = "/tmp/test_call_XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    rv *r = open_stub("0");
    assert_int_equal(rv_set(r, "results_dir", folder, NULL), RV_OK);
    static const char *const formats[] = {"PNG", "JPG", "WEBP"};
    for (int f = 0; f < 3; f++) {
        size_t a_len, b_len, c_len;
        void *a = picture(r, 1, "URL", formats[f], &a_len);
        void *b = picture(r, 2, "base64Data", formats[f], &b_len);
        void *c = picture(r, 3, "dataURI", formats[f], &c_len);
        assert_int_equal(a_len, b_len);
        assert_int_equal(a_len, c_len);
        assert_memory_equal(a, b, a_len);
        assert_memory_equal(a, c, a_len);
        assert_null(memmem(a, a_len, "00000000-0000-4000", 18)); /* no identity inside */
        assert_non_null(memmem(a, a_len, "a fox", 5));           /* but the recipe     */
        free(a);
        free(b);
        free(c);
    }
    rv_close(r);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

static void urls_get_the_calls_prefix(void **state)
{
    char folder[] = "/tmp/test_call_XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    rv *r = open_stub("0");
    rv_set(r, "results_dir", folder, NULL);
    rv_set(r, "results_url", "https://a.example/", NULL);
    for (int own = 0; own < 2; own++) {
        rv_call_options options = {.results_url = own ? "https://b.example/r/" : NULL};
        const char *body = "[" TASK(1, "stub:nsfw", ",\"ttl\":60") "]";
        rv_call *c = rv_call_begin(r, body, strlen(body), &options);
        drain(r);
        rv__value *v = reply_value(c);
        const rv__value *item = rv__json_first(rv__json_get(v, "data"));
        const char *prefix = own ? "https://b.example/r/" : "https://a.example/";
        assert_memory_equal(rv__json_get_string(item, "imageURL", ""), prefix, strlen(prefix));
        bool flagged = false;
        assert_true(rv__json_bool(rv__json_get(item, "NSFWContent"), &flagged) && flagged);
        assert_null(rv__json_get(item, "cost"));
        rv__json_free(v);
        rv_call_free(c);
    }
    rv_close(r);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

/* A folder that cannot be used is an error of the task, not of the process. */
static void broken_storage_is_told(void **state)
{
    rv *r = open_stub("0");
    rv_set(r, "results_dir", "/proc/nowhere/results", NULL);
    outcome o = {0};
    rv_call *c = begin(r, "[" TASK(1, "a", "") "]", &o);
    assert_non_null(rv_call_reply(c));
    assert_int_equal(rv_call_reply(c)->http_status, 500);
    rv_call_free(c);
    rv_close(r);
}

static void seeds_are_exact(void **state)
{
    rv *r = open_stub("0");
    outcome o = {0};
    const char *body =
        "[{\"taskType\":\"imageInference\",\"taskUUID\":\"00000000-0000-4000-8000-000000000001\","
        "\"model\":\"runware:97@3\",\"positivePrompt\":\"a\",\"width\":128,\"height\":128,"
        "\"steps\":1,"
        "\"seed\":9223372036854775999,\"numberResults\":2" INLINE "}]";
    rv_call *c = begin(r, body, &o);
    drain(r);
    assert_non_null(
        memmem(rv_call_reply(c)->body, rv_call_reply(c)->len, "\"seed\":9223372036854775999", 26));
    assert_non_null(
        memmem(rv_call_reply(c)->body, rv_call_reply(c)->len, "\"seed\":9223372036854776000", 26));
    rv_call_free(c);
    free(o.stream);
    rv_close(r);
}

static void streams_tell_the_same(void **state)
{
    rv *r = open_stub("0");
    outcome o = {0};
    rv_call *c = begin(r, "[" TASK(1, "a", INLINE) "]", &o);
    drain(r);
    static const char *const order[] = {
        "event: queued\ndata: {", "event: started\n", "event: step\n",          "event: image\n",
        "\"item\":{\"taskType\"", "event: end\n",     "\"state\":\"done\"}\n\n"};
    const char *at = o.stream;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        at = strstr(at, order[i]);
        if (!at)
            fail_msg("%s is missing in %s", order[i], o.stream);
    }
    size_t len;
    char *reply = rv_reply_stream(rv_call_reply(c), &len);
    assert_memory_equal(reply, "event: reply\ndata: {\"status\":200,\"body\":{\"data\":[", 49);
    assert_string_equal(reply + len - 3, "}\n\n");
    rv_free(reply);
    rv_call_free(c);
    free(o.stream);
    rv_close(r);
}

static void calls_may_be_freed_anywhere(void **state)
{
    rv *r = open_stub("0");
    for (int i = 0; i < 4; i++) {
        outcome o = {.free_in_event = i == 0, .free_in_done = i == 1};
        rv_call *c = begin(r, "[" TASK(1, "a", INLINE) "," TASK(2, "stub:hang", INLINE) "]", &o);
        if (i == 2)
            rv_call_free(c); /* before anything */
        if (i == 1 || i == 3) {
            outcome p = {.free_in_done = i == 1};
            rv_call *d = begin(r, "[" TASK(3, "a", INLINE) "]", &p);
            while (!p.done)
                rv_dispatch(r);
            if (i == 3)
                rv_call_free(d);
            rv_call_free(c);
            free(p.stream);
        }
        drain(r);
        assert_int_equal(o.done, 0);
        if (i == 0)
            assert_int_equal(o.events, 1);
        free(o.stream);
    }
    rv_close(r);
}

static void calls_outlive_the_context(void **state)
{
    rv *r = open_stub("0");
    outcome o = {0};
    rv_call *c = begin(r, "[" TASK(1, "stub:hang", INLINE) "]", &o);
    rv_close(r);
    assert_null(rv_call_reply(c));
    rv_call_free(c);
    assert_int_equal(o.done, 0);
    free(o.stream);
}

/* The n-th allocation fails, for all n: the call is refused, or it has a well-formed reply. */
static void allocations_fail(void **state)
{
    const char *body = "[" TASK(1, "a", INLINE) "]";
    int good = 0;
    for (long n = 1; n < 3000 && good < 2; n += n < 300 ? 1 : 7) {
        rv *r = open_stub("0");
        rv_call_options options = {0};
        rv__alloc_fail_after(n);
        rv_call *c = rv_call_begin(r, body, strlen(body), &options);
        drain(r);
        rv__alloc_fail_after(0);
        if (c) {
            rv__value *v = reply_value(c);
            good += rv__json_get(v, "data") != NULL;
            assert_true(rv__json_get(v, "data") || rv__json_get(v, "error"));
            rv__json_free(v);
        }
        rv_call_free(c);
        rv_close(r);
    }
    assert_int_equal(good, 2);
}

/* A preview is a data URI of a file that can be decoded; without the setting there is none. */
static void streams_carry_previews(void **state)
{
    for (int on = 0; on < 2; on++) {
        rv *r = open_stub("0");
        assert_int_equal(rv_set(r, "preview_steps", on ? "2" : "0", NULL), RV_OK);
        outcome o = {0};
        char *body = body_text(1, "a fox", ",\"outputType\":\"base64Data\"");
        rv_call *c = begin(r, body, &o);
        drain(r);
        assert_int_equal(o.done, 1);
        const char *key = "\"preview\":\"data:image/jpeg;base64,";
        char *found = strstr(o.stream, key);
        assert_int_equal(found != NULL, on);
        if (found) {
            found += strlen(key);
            size_t len = strcspn(found, "\""), size = 0;
            assert_true(rv__base64_decode(found, len, found, &size));
            rv_image *image = NULL;
            assert_int_equal(rv_image_from_bytes(found, size, &image, NULL), RV_OK);
            assert_int_equal(rv_image_facts(image).width, 128 / 8);
            assert_non_null(rv_image_pixels(image));
            rv_image_unref(image);
        }
        rv_call_free(c);
        rv_close(r);
        free(body);
        free(o.stream);
    }
}

/* Warnings of the request and of the run stand beside the data, never under "errors". */
static void warnings_stand_beside_the_data(void **state)
{
    rv *r = open_stub("0");
    outcome o = {0};
    char *body = body_text(1, "stub:warn",
                           ",\"outputType\":\"base64Data\",\"negativePrompt\":\"rain\"");
    rv_call *c = begin(r, body, &o);
    drain(r);
    rv__value *v = reply_value(c);
    const rv__value *first = rv__json_first(rv__json_get(v, "warnings"));
    const rv__value *second = rv__json_next(first);
    assert_int_equal(rv_call_reply(c)->http_status, 200);
    assert_null(rv__json_get(v, "errors"));
    assert_int_equal(rv__json_size(rv__json_get(v, "data")), 1);
    assert_int_equal(rv__json_size(rv__json_get(v, "warnings")), 2);
    assert_string_equal(rv__json_get_string(first, "code", ""), "incompatibleParameters");
    assert_string_equal(rv__json_get_string(second, "code", ""), "stubWarning");
    assert_string_equal(rv__json_get_string(second, "parameter", ""), "positivePrompt");
    assert_string_equal(rv__json_get_string(second, "message", ""),
                        "the stub was told to \"warn\"");
    assert_non_null(rv__json_get(second, "taskUUID"));
    assert_non_null(strstr(o.stream, "\"state\":\"done\",\"warnings\":[{\"code\":\"stubWarning\""));
    rv__json_free(v);
    rv_call_free(c);
    rv_close(r);
    free(body);
    free(o.stream);
}

/* Takes all messages that are ready. */
static int take_messages(rv_call *c, rv__value **out, int n, int max)
{
    size_t len;
    char *text;
    while ((text = rv_call_message(c, &len))) {
        assert_int_equal(strlen(text), len);
        assert_true(n < max);
        out[n] = rv__json_parse(text, len, NULL);
        assert_non_null(out[n]);
        assert_false(rv__json_get(out[n], "data") && rv__json_get(out[n], "errors"));
        n++;
        rv_free(text);
    }
    return n;
}

static rv_call *start(rv *r, const char *body, const rv_call_options *options)
{
    rv_batch *b = rv_batch_parse(r, body, strlen(body));
    assert_non_null(b);
    rv_call *c = rv_call_start(r, b, options);
    rv_batch_unref(b);
    assert_non_null(c);
    return c;
}

static void messages_are_about_one_task(void **state)
{
    rv *r = open_stub("0");
    rv_call_options options = {.messages = true, .session = "00000000-0000-4000-8000-000000000009"};
    rv_call *c = start(r,
                       "[{\"taskType\":\"authentication\",\"apiKey\":\"k\"}," TASK(1, "a", INLINE)
                       "," TASK(2, "stub:fail=safety", INLINE) "," TASK(3, "b", INLINE ",\"width\":17")
                       "," TASK(4, "stub:warn", INLINE ",\"numberResults\":2") "]",
                       &options);
    rv__value *m[8];
    int n = take_messages(c, m, 0, 8); /* what needs no waiting */
    assert_int_equal(n, 2);
    assert_string_equal(
        rv__json_get_string(rv__json_first(rv__json_get(m[0], "data")), "connectionSessionUUID", ""),
        options.session);
    assert_non_null(rv__json_get(m[1], "errors"));
    assert_false(rv_call_is_told(c));
    drain(r);
    n = take_messages(c, m, n, 8);
    assert_int_equal(n, 6);
    assert_true(rv_call_is_told(c));
    assert_int_equal(rv_call_reply(c)->http_status, 200);
    assert_int_equal(rv_call_reply(c)->len, 0);
    int warnings = 0;
    for (int i = 0; i < n; i++) {
        warnings += rv__json_get(m[i], "warnings") != NULL;
        rv__json_free(m[i]);
    }
    assert_int_equal(warnings, 1);
    rv_call_free(c);
    rv_close(r);
}

static void a_body_without_tasks_is_one_message(void **state)
{
    rv *r = open_stub("0");
    rv_call *c = start(r, "[", &(rv_call_options){.messages = true});
    rv__value *m[2];
    assert_int_equal(take_messages(c, m, 0, 2), 1);
    assert_non_null(rv__json_get(m[0], "errors"));
    assert_true(rv_call_is_told(c));
    rv__json_free(m[0]);
    rv_call_free(c);
    rv_close(r);
}

static bool refuse(void *user, rv_batch *b, rv_error *err)
{
    assert_int_equal(rv_batch_size(b), 2);
    *err = (rv_error){.status = RV_RATE_LIMIT, .code = "rateLimitExceeded", .retry_after_ms = 7000};
    return false;
}

static void calls_can_be_refused_or_dry(void **state)
{
    rv *r = open_stub("0");
    rv_call *c = start(r, "[" TASK(1, "a", INLINE) "," TASK(2, "a", INLINE) "]",
                       &(rv_call_options){.admit = refuse});
    assert_int_equal(rv_call_reply(c)->http_status, 429);
    assert_int_equal(rv_call_reply(c)->retry_after_ms, 7000);
    rv__value *v = reply_value(c);
    assert_int_equal(rv__json_size(rv__json_get(v, "errors")), 2);
    rv__json_free(v);
    rv_call_free(c);
    c = start(r, "[" TASK(1, "stub:hang", INLINE ",\"numberResults\":3") "]",
              &(rv_call_options){.dry_run = true});
    v = reply_value(c);
    assert_int_equal(rv__json_size(rv__json_get(v, "data")), 3);
    assert_true(rv__json_get_bool(rv__json_first(rv__json_get(v, "data")), "dryRun", false));
    rv__json_free(v);
    rv_call_free(c);
    rv_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(replies_have_the_right_form),
                                       cmocka_unit_test(messages_are_about_one_task),
                                       cmocka_unit_test(a_body_without_tasks_is_one_message),
                                       cmocka_unit_test(calls_can_be_refused_or_dry),
                                       cmocka_unit_test(streams_carry_previews),
                                       cmocka_unit_test(warnings_stand_beside_the_data),
                                       cmocka_unit_test(errors_name_their_task),
                                       cmocka_unit_test(full_queue_is_429),
                                       cmocka_unit_test(all_forms_are_the_same_file),
                                       cmocka_unit_test(urls_get_the_calls_prefix),
                                       cmocka_unit_test(broken_storage_is_told),
                                       cmocka_unit_test(seeds_are_exact),
                                       cmocka_unit_test(streams_tell_the_same),
                                       cmocka_unit_test(calls_may_be_freed_anywhere),
                                       cmocka_unit_test(calls_outlive_the_context),
                                       cmocka_unit_test(allocations_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
