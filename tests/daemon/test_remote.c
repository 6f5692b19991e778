/* The client of the daemon against servers that say anything at all: every task ends, once, with
 * the right error.  No daemon of ours takes part. */
#include "../unit/job_fixture.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/json.h"

/* ---- a server that follows a script ---- */

typedef struct fake {
    pthread_t thread;
    int fd, port;
    const char *answer; /* sent after each request, then the connection is closed */
    size_t len;
    bool hold; /* keep the connection open until the client closes it    */
    char request[65536];
    int served;
} fake;

static void read_request(fake *f, int c)
{
    size_t at = 0;
    for (;;) {
        ssize_t n = recv(c, f->request + at, sizeof f->request - 1 - at, 0);
        if (n <= 0)
            return;
        at += (size_t)n;
        f->request[at] = '\0';
        const char *body = strstr(f->request, "\r\n\r\n"),
                   *length = strcasestr(f->request, "content-length: ");
        if (body && length &&
            at >= (size_t)(body + 4 - f->request) + strtoul(length + 16, NULL, 10))
            return;
    }
}

static void *serve(void *arg)
{
    fake *f = arg;
    for (;;) {
        int c = accept(f->fd, NULL, NULL);
        if (c < 0)
            return NULL;
        read_request(f, c);
        for (size_t at = 0; at < f->len;) { /* in small pieces, as a network might */
            size_t piece = f->len - at < 700 ? f->len - at : 700;
            ssize_t n = send(c, f->answer + at, piece, MSG_NOSIGNAL);
            if (n <= 0)
                break;
            at += (size_t)n;
        }
        char byte;
        if (f->hold)
            (void)!recv(c, &byte, 1, 0);
        close(c);
        f->served++;
    }
}

static void fake_start(fake *f, const char *answer, size_t len)
{
    memset(f, 0, sizeof *f);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    f->answer = answer;
    f->len = len;
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(f->fd, 8), 0);
    getsockname(f->fd, (struct sockaddr *)&a, &size);
    f->port = ntohs(a.sin_port);
    pthread_create(&f->thread, NULL, serve, f);
}

static void fake_stop(fake *f)
{
    shutdown(f->fd, SHUT_RDWR);
    pthread_join(f->thread, NULL);
    close(f->fd);
}

static rv *open_fake(const fake *f)
{
    char address[64];
    snprintf(address, sizeof address, "http://127.0.0.1:%d", f->port);
    return open_client(address);
}

#define STREAM "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
#define PNG                                                                                        \
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
#define ITEM(seed)                                                                                 \
    "{\"taskType\":\"imageInference\",\"imageUUID\":\"u\",\"seed\":" #seed                         \
    ",\"imageBase64Data\":\"" PNG "\"}"
#define IMAGE "event: image\ndata: {\"index\":0,\"item\":" ITEM(18446744073709551615) "}\n\n"
#define END   "event: end\ndata: {\"state\":\"done\"}\n\n"
#define BEGIN "event: queued\ndata: {\"position\":0}\n\n: comment\n\nevent: started\ndata: {}\n\n"
#define STEP  "event: step\ndata: {\"index\":0,\"step\":1,\"steps\":4}\n\n"

#define PREVIEW(text)                                                                              \
    "event: step\ndata: {\"index\":0,\"step\":2,\"steps\":4,\"preview\":" text "}\n\n"

/* What the server says, and how the task ends. */
static const struct {
    const char *answer;
    rv_status status;
    const char *message; /* part of it */
} answers[] = {
    {STREAM BEGIN STEP IMAGE END, RV_OK, ""},
    {STREAM BEGIN PREVIEW("\"data:image/png;base64," PNG "\"") IMAGE END, RV_OK, ""},
    {STREAM BEGIN PREVIEW("\"data:,%\"") PREVIEW("7") PREVIEW("\"x\"") IMAGE END, RV_OK, ""},
    {STREAM BEGIN STEP IMAGE "event: reply\ndata: {\"status\":200,\"body\":{\"data\":[]}}\n\n",
     RV_OK, ""},
    {STREAM BEGIN STEP, RV_BUSY, "went away while it worked"},
    {STREAM, RV_BUSY, "went away"},
    {"", RV_BUSY, "cannot be reached"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" BEGIN, RV_BUSY, "went away"},
    {STREAM BEGIN END, RV_BUSY, "went away"},
    {STREAM BEGIN END "event: reply\ndata: {\"status\":200,\"body\":{\"data\":[]}}\n\n",
     RV_PROVIDER, "0 of 1"},
    {STREAM "event: image\ndata: {\"index\":1,\"item\":" ITEM(1) "}\n\n", RV_PROVIDER,
     "not asked for"},
    {STREAM "event: image\ndata: {\"index\":0}\n\n", RV_PROVIDER, "not asked for"},
    {STREAM "event: image\ndata: {\"index\":0,\"item\":{}}\n\n", RV_PROVIDER, "without picture"},
    {STREAM "event: image\ndata: {\"index\":0,\"item\":{\"imageURL\":\"http://x/\"}}\n\n",
     RV_PROVIDER, "by URL"},
    {STREAM "event: image\ndata: {\"index\":0,\"item\":{\"imageBase64Data\":\"a\"}}\n\n",
     RV_PROVIDER, "base64"},
    {STREAM "event: image\ndata: {\"index\":0,\"item\":{\"imageBase64Data\":\"aGVsbG8=\"}}\n\n",
     RV_PROVIDER, "PNG"},
    {STREAM "event: image\ndata: {\"index\":\n\n", RV_PROVIDER, "not JSON"},
    {STREAM "event: reply\ndata: "
            "{\"status\":400,\"body\":{\"errors\":[{\"code\":\"contentPolicyViolation\","
            "\"message\":\"no\",\"parameter\":[\"positivePrompt\",\"x\"]}]}}\n\n",
     RV_SAFETY, "no"},
    {STREAM "event: reply\ndata: "
            "{\"status\":503,\"retryAfter\":7000,\"body\":{\"errors\":[{\"code\":\"x\"}]}}\n\n",
     RV_BUSY, "without a reason"},
    {STREAM "event: reply\ndata: {\"status\":\"x\"}\n\n", RV_SERVER, "without a reason"},
    {"HTTP/1.1 429 Too Many\r\nRetry-After: 3\r\nContent-Length: 64\r\n\r\n"
     "{\"errors\":[{\"code\":\"rateLimitExceeded\",\"message\":\"full\"}]}      ",
     RV_RATE_LIMIT, "full"},
    {"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 13\r\n\r\n<html></html>", RV_PROVIDER,
     "HTTP status 502"},
    {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", RV_SERVER,
     "status 302"},
    {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"data\":[" ITEM(3) "]}", RV_OK, ""},
    {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"data\":[" ITEM(3) "," ITEM(4) "]}",
     RV_PROVIDER, "not asked"},
    {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"data\":[]}", RV_PROVIDER, "0 of 1"},
    {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"data\":[", RV_PROVIDER, "not JSON"},
    {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"errors\":[{\"message\":\"no\"}]}", RV_SERVER,
     "no"},
    {"SSH-2.0-OpenSSH_9.2\r\n", RV_BUSY, ""},
};

static void any_answer_ends_the_task(void **state)
{
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        fake f;
        fake_start(&f, answers[i].answer, strlen(answers[i].answer));
        rv *r = open_fake(&f);
        rv_batch *b = batch_of(r, 1, "a fox", "");
        seen s = {0};
        rv_job *j = submit(r, b, &s);
        assert_int_equal(rv_wait(r, j, -1), RV_OK);
        const rv_error *err = rv_job_error(j);
        if (s.ends != 1 || s.status != answers[i].status ||
            (err && !strstr(err->message, answers[i].message)))
            fail_msg("answer %zu: status %d, %s", i, s.status, err ? err->message : "done");
        rv_job_unref(j);
        rv_batch_unref(b);
        rv_close(r);
        fake_stop(&f);
    }
}

static void pixels_and_facts_arrive(void **state)
{
    fake f;
    const char *answer = STREAM BEGIN STEP IMAGE END;
    fake_start(&f, answer, strlen(answer));
    rv *r = open_fake(&f);
    rv_batch *b = batch_of(r, 1, "a \\\"fox\\\"",
                           ",\"outputType\":\"URL\",\"ttl\":60,\"outputFormat\":\"JPG\"");
    seen s = {0};
    rv_job *j = submit(r, b, &s);
    rv_wait(r, j, -1);
    assert_int_equal(s.started, 1);
    assert_int_equal(s.steps, 1);
    assert_int_equal(s.images, 1);
    rv_image_info info = rv_image_facts(rv_job_image(j, 0));
    assert_int_equal(info.width, 1);
    assert_true(info.seed == UINT64_MAX);
    assert_string_equal(info.uuid, "u");
    assert_non_null(rv_image_pixels(rv_job_image(j, 0)));
    char *body = strstr(f.request, "\r\n\r\n");
    rv__value *sent = rv__json_parse(body + 4, strlen(body + 4), NULL);
    const rv__value *t = rv__json_first(sent);
    assert_string_equal(rv__json_get_string(t, "positivePrompt", ""), "a \"fox\"");
    assert_string_equal(rv__json_get_string(t, "outputType", ""), "base64Data");
    assert_string_equal(rv__json_get_string(t, "outputFormat", ""), "PNG");
    assert_null(rv__json_get(t, "ttl"));
    assert_memory_equal(f.request, "POST /generate?stream=1 HTTP/1.1\r\n", 34);
    assert_null(rv__json_duplicate(t));
    rv__json_free(sent);
    rv_job_unref(j);
    rv_batch_unref(b);
    rv_close(r);
    fake_stop(&f);
}

/* A call passes finished items on, digit by digit. */
static void calls_pass_items_on(void **state)
{
    fake f;
    const char *answer = STREAM BEGIN IMAGE END;
    fake_start(&f, answer, strlen(answer));
    rv *r = open_fake(&f);
    char *body = body_text(1, "a fox", ",\"outputType\":\"base64Data\"");
    rv_call_options options = {.results_url = "https://h/r/"};
    rv_call *c = rv_call_begin(r, body, strlen(body), &options);
    struct pollfd p = {rv_fd(r), POLLIN, 0};
    while (rv_dispatch(r) > 0)
        poll(&p, 1, -1);
    const rv_reply *reply = rv_call_reply(c);
    assert_int_equal(reply->http_status, 200);
    assert_int_equal(reply->len, strlen("{\"data\":[" ITEM(18446744073709551615) "]}"));
    assert_memory_equal(reply->body, "{\"data\":[" ITEM(18446744073709551615) "]}", reply->len);
    assert_non_null(strstr(f.request, "Reverie-Results-URL: https://h/r/\r\n"));
    rv_call_free(c);
    free(body);
    rv_close(r);
    fake_stop(&f);
}

typedef struct looked {
    int width, pixels;
} looked;

static void look(void *user, rv_call *call, rv_job *job, const rv_event *e)
{
    looked *l = user;
    if (e->kind != RV_EVENT_IMAGE)
        return;
    l->width = rv_image_facts(rv_job_image(job, 0)).width;
    l->pixels = rv_image_pixels(rv_job_image(job, 0)) != NULL;
}

/* Items carry their picture along; it is decoded when somebody looks, and may be nonsense. */
static void items_can_be_looked_at(void **state)
{
    static const struct {
        const char *answer;
        int width, pixels;
    } rows[] = {
        {STREAM IMAGE END, 1, 1},
        {STREAM
         "event: image\ndata: {\"index\":0,\"item\":{\"imageDataURI\":\"data:image/png;base64," PNG
         "\"}}\n\n" END,
         1, 1},
        {STREAM "event: image\ndata: {\"index\":0,\"item\":{\"imageDataURI\":\"x\"}}\n\n" END, 0,
         0},
        {STREAM "event: image\ndata: {\"index\":0,\"item\":{\"imageBase64Data\":\"!\"}}\n\n" END, 0,
         0},
        {STREAM "event: image\ndata: {\"index\":0,\"item\":{\"imageURL\":\"http://x/\"}}\n\n" END,
         0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fake f;
        fake_start(&f, rows[i].answer, strlen(rows[i].answer));
        rv *r = open_fake(&f);
        char *body = body_text(1, "a fox", "");
        looked l = {-1, -1};
        rv_call_options options = {.event = look, .user = &l};
        rv_call *c = rv_call_begin(r, body, strlen(body), &options);
        struct pollfd p = {rv_fd(r), POLLIN, 0};
        while (rv_dispatch(r) > 0)
            poll(&p, 1, -1);
        assert_int_equal(rv_call_reply(c)->http_status, 200);
        assert_int_equal(l.width, rows[i].width);
        assert_int_equal(l.pixels, rows[i].pixels);
        rv_call_free(c);
        free(body);
        rv_close(r);
        fake_stop(&f);
    }
}

/* A cancelled task closes its connection and ends, whatever the server does. */
static void cancel_closes_the_transfer(void **state)
{
    fake f;
    const char *answer = STREAM BEGIN;
    fake_start(&f, answer, strlen(answer));
    f.hold = true;
    rv *r = open_fake(&f);
    rv_batch *b = batch_of(r, 1, "a fox", "");
    for (int i = 0; i < 3; i++) {
        seen s = {0};
        rv_job *j = submit(r, b, &s);
        if (i)
            while (!s.started) {
                struct pollfd p = {rv_fd(r), POLLIN, 0};
                poll(&p, 1, -1);
                rv_dispatch(r);
            }
        rv_job_cancel(j);
        assert_int_equal(rv_wait(r, j, -1), RV_OK);
        assert_int_equal(s.state, RV_STOPPED);
        rv_job_unref(j);
    }
    seen s = {0};
    rv_job *j = submit(r, b, &s); /* and one that is still open at the end */
    rv_batch_unref(b);
    rv_close(r);
    assert_int_equal(rv_job_state(j), RV_STOPPED);
    rv_job_unref(j);
    fake_stop(&f);
}

/* The n-th allocation fails, for all n, on whichever thread it happens: the task still ends once.
 */
static void allocations_fail(void **state)
{
    fake f;
    const char *answer = STREAM BEGIN STEP IMAGE END;
    fake_start(&f, answer, strlen(answer));
    int done = 0;
    for (long n = 1; n < 400 && done < 3; n++) {
        rv *r = open_fake(&f);
        rv_batch *b = batch_of(r, 1, "a fox", "");
        seen s = {0};
        rv_sink sink = {see, &s};
        rv_job *j = NULL;
        rv__alloc_fail_after(n);
        rv_status status = rv_submit(r, rv_batch_task(b, 0), &sink, &j);
        if (status == RV_OK) {
            rv_wait(r, j, -1);
            assert_int_equal(s.ends, 1);
            done += s.state == RV_DONE;
        }
        rv__alloc_fail_after(0);
        rv_job_unref(j);
        rv_batch_unref(b);
        rv_close(r);
    }
    assert_int_equal(done, 3);
    fake_stop(&f);
}

static void bad_addresses_are_refused(void **state)
{
    static const char *const addresses[] = {"ftp://x", "localhost:80", "x"};
    for (size_t i = 0; i < 3; i++) {
        rv *r = open_client(addresses[i]);
        rv_batch *b = batch_of(r, 1, "a", "");
        rv_job *j;
        assert_int_equal(rv_submit(r, rv_batch_task(b, 0), NULL, &j), RV_VALIDATION);
        rv_batch_unref(b);
        rv_close(r);
    }
}

/* The key travels as a bearer token, and only where nobody can read it on the way. */
static void keys_travel_safely(void **state)
{
    static const char *const refused[][2] = {{"http://example.org", "k"},
                                             {"http://127.0.0.1.example.org/", "k"},
                                             {"http://localhost:1@example.org/", "k"},
                                             {"http://localhost:1", "a b"},
                                             {"https://localhost:1", "a\r\nX: y"}};
    const char *answer = STREAM BEGIN IMAGE END;
    fake f;
    fake_start(&f, answer, strlen(answer));
    rv *r = open_fake(&f);
    seen s = {0};
    assert_int_equal(rv_set(r, "daemon_key", "s3cret", NULL), RV_OK);
    rv_batch *b = batch_of(r, 1, "a fox", "");
    rv_job *j = submit(r, b, &s);
    assert_int_equal(rv_wait(r, j, 20000), RV_OK);
    assert_int_equal(rv_job_state(j), RV_DONE);
    assert_non_null(strstr(f.request, "Authorization: Bearer s3cret\r\n"));
    rv_job_unref(j);
    rv_batch_unref(b);
    rv_close(r);
    fake_stop(&f);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        r = open_client(refused[i][0]);
        assert_int_equal(rv_set(r, "daemon_key", refused[i][1], NULL), RV_OK);
        b = batch_of(r, 1, "a", "");
        assert_int_equal(rv_submit(r, rv_batch_task(b, 0), NULL, &j), RV_VALIDATION);
        rv_batch_unref(b);
        rv_close(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_answer_ends_the_task),   cmocka_unit_test(pixels_and_facts_arrive),
        cmocka_unit_test(calls_pass_items_on),        cmocka_unit_test(items_can_be_looked_at),
        cmocka_unit_test(cancel_closes_the_transfer), cmocka_unit_test(bad_addresses_are_refused),
        cmocka_unit_test(allocations_fail),           cmocka_unit_test(keys_travel_safely)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
