/* Pictures that a task names by URL: fetched before the task waits for a worker, refused with words
 * that say nothing about what is behind a URL, given up when the task is cancelled. */
#include "job_fixture.h"

#include <poll.h>
#include <sys/socket.h>

#include "http_fixture.h"

#include "base/base64.h"
#include "job/context.h"
#include "job/inputs.h"

#define PNG64                                                                                      \
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"

static uint8_t png[128];
static size_t png_len;
static char picture[512], bomb[512], wrong_length[512];
static size_t picture_len, bomb_len;
static char redirect[256], redirect_loop[256], redirect_inside[256], redirect_file[256];

#define HEAD(more) "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n" more "\r\n"
#define NOISE                                                                                      \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab"

static route routes[] = {
    {"/picture", picture},
    {"/bomb", bomb},
    {"/text", HEAD("Content-Length: 5\r\n") "hello"},
    {"/empty", HEAD("Content-Length: 0\r\n")},
    {"/large", HEAD("Content-Length: 99999999\r\n")},
    {"/endless", HEAD("Connection: close\r\n") NOISE NOISE NOISE NOISE, .is_endless = true},
    {"/silent", .is_silent = true},
    {"/missing", "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno!"},
    {"/nothing", "HTTP/1.1 204 No Content\r\n\r\n"},
    {"/redirect-inside", redirect_inside},
    {"/redirect-file", redirect_file},
    {"/redirect-loop", redirect_loop},
    {"/redirect", redirect},
    {"/cut", wrong_length},
    {"/nonsense", "SSH-2.0-OpenSSH_9.2\r\n"},
    {"/zipped", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08zz"},
    {NULL},
};

static server s;

static size_t with_png(char *to, size_t size, const char *head, const uint8_t *file)
{
    int n = snprintf(to, size, "%s", head);
    memcpy(to + n, file, png_len);
    return (size_t)n + png_len;
}

static int begin(void **state)
{
    uint8_t huge[sizeof png];
    char head[128];
    if (!rv__base64_decode(PNG64, strlen(PNG64), png, &png_len))
        return -1;
    memcpy(huge, png, png_len);
    memset(huge + 16, 0x7f, 1); /* width 0x7f000001 */
    snprintf(head, sizeof head, HEAD("Content-Length: %zu\r\n"), png_len);
    picture_len = with_png(picture, sizeof picture, head, png);
    bomb_len = with_png(bomb, sizeof bomb, head, huge);
    size_t cut = with_png(wrong_length, sizeof wrong_length, HEAD("Content-Length: 5000\r\n"), png);
    server_start(&s, routes);
    snprintf(redirect, sizeof redirect,
             "HTTP/1.1 302 Found\r\nLocation: /picture\r\nContent-Length: 0\r\n\r\n");
    snprintf(redirect_loop, sizeof redirect_loop,
             "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:%d/redirect-loop\r\n"
             "Content-Length: 0\r\n\r\n", s.port);
    snprintf(redirect_inside, sizeof redirect_inside,
             "HTTP/1.1 301 Moved\r\nLocation: http://[::1]:%d/picture\r\nContent-Length: 0\r\n\r\n",
             s.port);
    snprintf(redirect_file, sizeof redirect_file,
             "HTTP/1.1 301 Moved\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n");
    for (route *r = routes; r->path; r++) {
        if (strcmp(r->path, "/picture") == 0)
            r->len = picture_len;
        else if (strcmp(r->path, "/bomb") == 0)
            r->len = bomb_len;
        else if (strcmp(r->path, "/cut") == 0)
            r->len = cut;
    }
    return 0;
}

static int finish(void **state)
{
    server_stop(&s);
    return 0;
}

static rv *open_context(const char *allow)
{
    rv *r = open_stub("0");
    assert_int_equal(rv_set(r, "fetch_allow", allow, NULL), RV_OK);
    assert_int_equal(rv_set(r, "fetch_ports", "*", NULL), RV_OK);
    assert_int_equal(rv_set(r, "fetch_timeout", "1", NULL), RV_OK);
    assert_int_equal(rv_set(r, "fetch_size", "100000", NULL), RV_OK);
    return r;
}

/* A task of a model that takes pictures. */
static char *body_with(const char *seed, const char *mask)
{
    char *text = NULL;
    int rc = asprintf(&text,
                      "[{\"taskType\":\"imageInference\",\"taskUUID\":"
                      "\"00000000-0000-4000-8000-000000000001\",\"model\":\"reverie:1@1\","
                      "\"positivePrompt\":\"a\",\"width\":128,\"height\":128,\"seed\":7,"
                      "\"outputType\":\"base64Data\",\"outputFormat\":\"PNG\","
                      "\"seedImage\":\"%s\"%s%s%s}]",
                      seed, mask ? ",\"maskImage\":\"" : "", mask ? mask : "", mask ? "\"" : "");
    assert_true(rc > 0);
    return text;
}

static rv_batch *batch_with(rv *r, const char *seed, const char *mask)
{
    char *text = body_with(seed, mask);
    rv_batch *b = rv_batch_parse(r, text, strlen(text));
    const rv_issue *list;
    if (rv_batch_issues(b, &list))
        fail_msg("%s: %s", text, list->message);
    free(text);
    return b;
}

static char *url_of(const char *path)
{
    char *text = NULL;
    assert_true(asprintf(&text, "http://127.0.0.1:%d%s", s.port, path) > 0);
    return text;
}

static void outcomes(void **state)
{
    static const struct {
        const char *path, *code, *message; /* code NULL: it works */
    } rows[] = {
        {"/picture", NULL, NULL},
        {"/picture?token=a%2Fb", NULL, NULL},
        {"/redirect", NULL, NULL},
        {"/bomb", "invalidSeedImage", "pixels"},
        {"/text", "invalidSeedImage", "not a PNG"},
        {"/empty", "invalidSeedImage", "not a PNG"},
        {"/zipped", "invalidSeedImage", "not a PNG"},
        {"/nothing", "invalidSeedImage", "not a PNG"},
        {"/large", "invalidSeedImage", "more than 100000 bytes"},
        {"/endless", "invalidSeedImage", "more than 100000 bytes"},
        {"/missing", "invalidSeedImage", "HTTP status 404"},
        {"/other", "invalidSeedImage", "HTTP status 404"},
        {"/silent", "downloadFailed", "cannot be fetched"},
        {"/redirect-inside", "downloadFailed", "cannot be fetched"},
        {"/redirect-file", "downloadFailed", "cannot be fetched"},
        {"/redirect-loop", "invalidSeedImage", "more than 3 redirects"},
        {"/nonsense", "downloadFailed", "cannot be fetched"},
    };
    rv *r = open_context("127.0.0.1");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *url = url_of(rows[i].path);
        rv_batch *b = batch_with(r, url, NULL);
        rv_job *j;
        assert_int_equal(rv_submit(r, rv_batch_task(b, 0), NULL, &j), RV_OK);
        assert_int_equal(rv_wait(r, j, 20000), RV_OK);
        const rv_error *err = rv_job_error(j);
        if (!rows[i].code && err)
            fail_msg("%s: %s %s", rows[i].path, err->code, err->message);
        if (rows[i].code &&
            (!err || strcmp(err->code, rows[i].code) != 0 || err->status != RV_VALIDATION ||
             strcmp(err->parameter, "seedImage") != 0 || !strstr(err->message, rows[i].message)))
            fail_msg("%s: %s %s", rows[i].path, err ? err->code : "-", err ? err->message : "-");
        rv_job_unref(j);
        rv_batch_unref(b);
        free(url);
    }
    rv_close(r);
}

/* What can be seen in the text is refused when the task is submitted, by its parameter. */
static void refusals_at_once(void **state)
{
    static const char *const urls[] = {"http://127.0.0.1/x", "http://[::1]/", "http://0x7f.1/",
                                       "http://a:b@example.org/", "http://169.254.169.254/latest"};
    rv *r = open_stub("0");
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        char *body = body_with(PNG64, urls[i]);
        rv_call *c = rv_call_begin(r, body, strlen(body), NULL);
        const rv_reply *reply = rv_call_reply(c);
        assert_non_null(reply);
        assert_int_equal(reply->http_status, 400);
        assert_non_null(strstr(reply->body, "\"invalidMaskImage\""));
        rv_call_free(c);
        free(body);
    }
    rv_close(r);
}

/* Behind a name: refused at the socket, and told like everything that cannot be reached. */
static void names_of_closed_addresses(void **state)
{
    rv *r = open_context("203.0.113.1");
    char *url = NULL;
    int before = atomic_load(&s.connections);
    assert_true(asprintf(&url, "http://localhost:%d/picture", s.port) > 0);
    rv_batch *b = batch_with(r, url, NULL);
    rv_job *j;
    assert_int_equal(rv_submit(r, rv_batch_task(b, 0), NULL, &j), RV_OK);
    assert_int_equal(rv_wait(r, j, 20000), RV_OK);
    assert_string_equal(rv_job_error(j)->code, "downloadFailed");
    assert_null(strstr(rv_job_error(j)->message, "allowed"));
    assert_int_equal(atomic_load(&s.connections), before);
    assert_int_equal(atomic_load(&r->fetches_refused), 1);
    rv_job_unref(j);
    rv_batch_unref(b);
    free(url);
    rv_close(r);
}

static void both_pictures_arrive(void **state)
{
    rv *r = open_context("127.0.0.0/8");
    char *url = url_of("/picture"), *mask = url_of("/redirect");
    rv_batch *b = batch_with(r, url, mask);
    rv_job *j;
    assert_int_equal(rv_submit(r, rv_batch_task(b, 0), NULL, &j), RV_OK);
    assert_int_equal(rv_wait(r, j, 20000), RV_OK);
    assert_int_equal(rv_job_state(j), RV_DONE);
    const char *names[] = {"seedImage", "maskImage"};
    for (int i = 0; i < 2; i++) {
        const uint8_t *bytes = NULL;
        size_t len = 0;
        assert_true(rv__inputs_get(j->inputs, names[i], &bytes, &len));
        assert_int_equal(len, png_len);
        assert_memory_equal(bytes, png, png_len);
    }
    rv_job_unref(j);
    rv_batch_unref(b);
    free(url);
    free(mask);
    rv_close(r);
}

static void cancelled_and_closed_in_between(void **state)
{
    char *url = url_of("/silent");
    for (int close_it = 0; close_it < 2; close_it++) {
        rv *r = open_context("127.0.0.1");
        rv_set(r, "fetch_timeout", "600", NULL);
        rv_batch *b = batch_with(r, url, NULL);
        rv_job *j;
        int before = atomic_load(&s.requests);
        assert_int_equal(rv_submit(r, rv_batch_task(b, 0), NULL, &j), RV_OK);
        while (atomic_load(&s.requests) == before)
            poll(NULL, 0, 1);
        if (!close_it) {
            rv_job_cancel(j);
            assert_int_equal(rv_wait(r, j, 20000), RV_OK);
            assert_int_equal(rv_job_state(j), RV_STOPPED);
        }
        rv_close(r);
        rv_job_unref(j);
        rv_batch_unref(b);
    }
    free(url);
}

/* A URL of ours is read from the folder, whatever the guard thinks of its host. */
static void results_as_inputs(void **state)
{
    char folder[] = "/tmp/test_inputs_XXXXXX", command[64], url[256], name[RV__STORE_NAME];
    assert_non_null(mkdtemp(folder));
    rv *r = open_stub("0");
    rv_set(r, "results_dir", folder, NULL);
    rv_set(r, "results_url", "http://127.0.0.1:9/images/", NULL);
    assert_int_equal(rv__context_store(r, NULL), RV_OK);
    assert_int_equal(rv__store_put(r->store, png, png_len, "png", 0, name, NULL), RV_OK);
    const struct {
        const char *name, *code;
        int http;
    } rows[] = {
        {name, "\"imageUUID\"", 200},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaa-0.png", "invalidSeedImage", 400},  /* not there   */
        {"aaaaaaaaaaaaaaaaaaaaaaaaaa-1.png", "invalidSeedImage", 400},  /* expired     */
        {"../secret.png", "invalidSeedImage", 400},                     /* not a name  */
        {"aaaaaaaaaaaaaaaaaaaaaaaaaa-0.png/../x", "invalidSeedImage", 400},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(url, sizeof url, "http://127.0.0.1:9/images/%s", rows[i].name);
        char *body = body_with(url, NULL);
        rv_call *c = rv_call_begin(r, body, strlen(body), NULL);
        struct pollfd p = {rv_fd(r), POLLIN, 0};
        while (!rv_call_reply(c) && rv_dispatch(r) >= 0 && !rv_call_reply(c))
            poll(&p, 1, -1);
        const rv_reply *reply = rv_call_reply(c);
        if (reply->http_status != rows[i].http || !strstr(reply->body, rows[i].code))
            fail_msg("%s: %.*s", rows[i].name, (int)reply->len, reply->body);
        rv_call_free(c);
        free(body);
    }
    rv_close(r);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

static void without_memory(void **state)
{
    char *url = url_of("/picture");
    for (long n = 1; n < 60; n++) {
        rv *r = open_context("127.0.0.1");
        rv_batch *b = batch_with(r, url, NULL);
        rv_job *j = NULL;
        rv__alloc_fail_after(n);
        rv_status status = rv_submit(r, rv_batch_task(b, 0), NULL, &j);
        if (status == RV_OK)
            assert_int_equal(rv_wait(r, j, 20000), RV_OK);
        rv__alloc_fail_after(0);
        assert_true(status == RV_OK || status == RV_MEMORY);
        if (j && rv_job_error(j))
            assert_int_equal(rv_job_error(j)->status, RV_MEMORY);
        rv_job_unref(j);
        rv_batch_unref(b);
        rv_close(r);
    }
    free(url);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outcomes),
        cmocka_unit_test(refusals_at_once),
        cmocka_unit_test(names_of_closed_addresses),
        cmocka_unit_test(both_pictures_arrive),
        cmocka_unit_test(cancelled_and_closed_in_between),
        cmocka_unit_test(results_as_inputs),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, begin, finish);
}
