/* The client of the daemon with a real reveried, which is killed and comes back while the context
 * lives on, and which keeps tasks for it.  Every daemon started here is ended here. */
#include "../unit/job_fixture.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"

typedef struct real {
    char folder[64], address[128], socket[96];
    pid_t pid;
} real;

static void real_start(real *d, const char *stub_ms)
{
    char state[96], program[4096], models[4096];
    snprintf(state, sizeof state, "%s/state", d->folder);
    snprintf(program, sizeof program, "%s/reveried", getenv("BUILD_ROOT"));
    snprintf(models, sizeof models, "%s/config/models", getenv("SOURCE_ROOT"));
    d->pid = fork();
    if (d->pid == 0) {
        execl(program, program, "--socket", d->socket, "--state", state, "--models", models,
              "--executor", "stub", "--stub-ms", stub_ms, NULL);
        _exit(127);
    }
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", d->socket);
    for (int tries = 0; tries < 6000; tries++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int rc = connect(fd, (struct sockaddr *)&a, sizeof a);
        close(fd);
        if (rc == 0)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    fail_msg("the daemon does not start");
}

static void real_open(real *d)
{
    snprintf(d->folder, sizeof d->folder, "/tmp/test_daemon_XXXXXX");
    assert_non_null(mkdtemp(d->folder));
    snprintf(d->socket, sizeof d->socket, "%s/socket", d->folder);
    snprintf(d->address, sizeof d->address, "unix:%s", d->socket);
}

static void real_kill(real *d, int sig)
{
    kill(d->pid, sig);
    waitpid(d->pid, NULL, 0);
}

static void real_close(real *d)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", d->folder);
    assert_int_equal(system(command), 0);
}

static rv_status run_one(rv *r, const char *prompt, real *kill_when_started)
{
    rv_batch *b = batch_of(r, 1, prompt, "");
    seen s = {0};
    rv_job *j = submit(r, b, &s);
    while (kill_when_started && !s.started && !s.ends) {
        struct pollfd p = {rv_fd(r), POLLIN, 0};
        poll(&p, 1, -1);
        rv_dispatch(r);
    }
    if (kill_when_started)
        real_kill(kill_when_started, SIGKILL);
    rv_wait(r, j, -1);
    rv_status status = s.state == RV_DONE ? RV_OK : s.status;
    if (status == RV_BUSY)
        assert_true(rv_job_error(j)->retry_after_ms > 0);
    rv_job_unref(j);
    rv_batch_unref(b);
    return status;
}

static void daemon_comes_and_goes(void **state)
{
    real d;
    real_open(&d);
    rv *r = open_client(d.address);
    assert_int_equal(run_one(r, "a fox", NULL), RV_BUSY);
    real_start(&d, "0");
    assert_int_equal(run_one(r, "a fox", NULL), RV_OK);
    assert_int_equal(run_one(r, "stub:hang", &d), RV_BUSY);
    assert_int_equal(run_one(r, "a fox", NULL), RV_BUSY);
    real_start(&d, "0");
    assert_int_equal(run_one(r, "a fox", NULL), RV_OK);
    assert_int_equal(run_one(r, "stub:fail=safety", NULL), RV_SAFETY);
    real_kill(&d, SIGTERM); /* its kept connection is dead now */
    real_start(&d, "0");
    assert_int_equal(run_one(r, "a fox", NULL), RV_OK);
    rv_close(r);
    real_kill(&d, SIGTERM);
    real_close(&d);
}

/* The normalised task passes the daemon's check again: every form of a task survives the hop. */
static void tasks_survive_the_hop(void **state)
{
    static const char *const more[] = {
        ",\"seed\":9223372036854776000,\"numberResults\":1",
        ",\"scheduler\":\"Euler Karras\",\"CFGScale\":3.25",
        ",\"negativePrompt\":\"blur\",\"CFGScale\":2",
        ",\"acceleratorOptions\":{\"teaCache\":true,"
        "\"cacheStartStepPercentage\":10}",
        ",\"acceleratorOptions\":{\"fbCache\":true,\"cacheStartStep\":1,\"cacheEndStep\":3}",
        ",\"safety\":{\"checkContent\":true}",
        ",\"outputFormat\":\"WEBP\",\"outputQuality\":50",
        ",\"lora\":[{\"model\":\"civitai:1@2\",\"weight\":0.5}]",
        ",\"ttl\":60,\"includeCost\":true"};
    real d;
    real_open(&d);
    real_start(&d, "0");
    rv *r = open_client(d.address);
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        for (int as_call = 0; as_call < 2; as_call++) {
            char *body = body_text(1, "a fox", more[i]);
            /* body_text gives a seed already; the last one of a duplicate is an error, so it is cut
             * out. */
            char *seed = strstr(body, "\"seed\":7,");
            if (strstr(more[i], "\"seed\""))
                memmove(seed, seed + 9, strlen(seed + 9) + 1);
            if (as_call) {
                rv_call *c = rv_call_begin(r, body, strlen(body), NULL);
                struct pollfd p = {rv_fd(r), POLLIN, 0};
                while (rv_dispatch(r) > 0)
                    poll(&p, 1, -1);
                if (rv_call_reply(c)->http_status != 200)
                    fail_msg("%s: %.*s", more[i], (int)rv_call_reply(c)->len,
                             rv_call_reply(c)->body);
                rv_call_free(c);
            } else {
                rv_batch *b = rv_batch_parse(r, body, strlen(body));
                const rv_issue *issue;
                if (rv_batch_issues(b, &issue))
                    fail_msg("%s: %s", more[i], issue->message);
                rv_job *j = submit(r, b, NULL);
                rv_wait(r, j, -1);
                if (rv_job_state(j) != RV_DONE)
                    fail_msg("%s: %s", more[i], rv_job_error(j)->message);
                rv_job_unref(j);
                rv_batch_unref(b);
            }
            free(body);
        }
    }
    rv_close(r);
    real_kill(&d, SIGTERM);
    real_close(&d);
}

static void warnings_arrive(void **state)
{
    real d;
    real_open(&d);
    real_start(&d, "0");
    rv *r = open_client(d.address);
    rv_batch *b = batch_of(r, 1, "stub:warn", "");
    rv_job *j = submit(r, b, NULL);
    assert_null(rv_job_warning(j, 0));
    rv_wait(r, j, -1);
    assert_int_equal(rv_job_state(j), RV_DONE);
    assert_string_equal(rv_job_warning(j, 0), "the stub was told to \"warn\"");
    assert_null(rv_job_warning(j, 1));
    rv_job_unref(j);
    rv_batch_unref(b);
    rv_close(r);
    real_kill(&d, SIGTERM);
    real_close(&d);
}

static void many_at_once(void **state)
{
    real d;
    real_open(&d);
    real_start(&d, "1");
    rv *r = open_client(d.address);
    enum { N = 40 };
    rv_batch *b[N];
    rv_job *j[N];
    seen s[N];
    memset(s, 0, sizeof s);
    for (int i = 0; i < N; i++) {
        b[i] = batch_of(r, i, i % 4 ? "a fox" : "stub:hang", "");
        j[i] = submit(r, b[i], &s[i]);
    }
    for (int i = 0; i < N; i += 4)
        rv_job_cancel(j[i]);
    for (int i = 0; i < N; i++) {
        rv_wait(r, j[i], -1);
        assert_int_equal(s[i].ends, 1);
        assert_int_equal(s[i].state, i % 4 ? RV_DONE : RV_STOPPED);
        rv_job_unref(j[i]);
        rv_batch_unref(b[i]);
    }
    rv_close(r);
    real_kill(&d, SIGTERM);
    real_close(&d);
}

/* ---- tasks that the daemon keeps ---- */

typedef struct passed {
    char *text; /* of a stream */
    int done;
    bool leaves; /* in its first text */
} passed;

static void on_passed_text(void *user, rv_call *call, const char *text, size_t len)
{
    passed *p = user;
    char *longer = NULL;
    assert_true(len > 2 && memcmp(text + len - 2, "\n\n", 2) == 0);
    assert_true(asprintf(&longer, "%s%.*s", p->text ? p->text : "", (int)len, text) >= 0);
    free(p->text);
    p->text = longer;
    if (p->leaves)
        rv_call_free(call);
}

static void on_passed_done(void *user, rv_call *call)
{
    ((passed *)user)->done++;
    assert_non_null(rv_call_reply(call));
}

static void run_calls(rv *r)
{
    struct pollfd p = {rv_fd(r), POLLIN, 0};
    while (rv_dispatch(r) > 0)
        poll(&p, 1, 1000);
}

/* The reply of a call, freed with it. */
static rv__value *take_reply(rv_call *c, int http_status)
{
    const rv_reply *reply = rv_call_reply(c);
    assert_non_null(reply);
    if (reply->http_status != http_status)
        fail_msg("%d %.*s", reply->http_status, (int)reply->len, reply->body);
    rv__value *v = rv__json_parse(reply->body, reply->len, NULL);
    assert_non_null(v);
    rv_call_free(c);
    return v;
}

static rv__value *ask_body(rv *r, const char *body, const char *owner, int http_status)
{
    passed p = {0};
    rv_call_options o = {.owner = owner, .done = on_passed_done, .user = &p};
    rv_call *c = rv_call_begin(r, body, strlen(body), &o);
    run_calls(r);
    assert_int_equal(p.done, 1);
    return take_reply(c, http_status);
}

static rv__value *ask_task(rv *r, rv_task_verb verb, const char *uuid, passed *p, int http_status)
{
    rv_call_options o = {.owner = "me", .text = on_passed_text, .done = on_passed_done, .user = p};
    rv_call *c = rv_call_task(r, verb, uuid, &o);
    run_calls(r);
    if (p->leaves)
        return NULL;
    return take_reply(c, http_status);
}

static const char *word(const rv__value *reply, const char *list, const char *key)
{
    return rv__json_get_string(rv__json_first(rv__json_get(reply, list)), key, "-");
}

#define UUID_1 "00000000-0000-4000-8000-000000000001"
#define UUID_2 "00000000-0000-4000-8000-000000000002"
#define LATER  ",\"deliveryMethod\":\"async\""

static void asynchronous_tasks_are_passed_on(rv *r)
{
    char *body = body_text(1, "a fox", LATER), *other = body_text(1, "a bear", LATER);
    rv__value *v;
    for (int i = 0; i < 2; i++) { /* and once more: the same acknowledgement */
        v = ask_body(r, body, "me", 200);
        assert_string_equal(word(v, "data", "taskUUID"), UUID_1);
        assert_int_equal(rv__json_size(rv__json_first(rv__json_get(v, "data"))), 2);
        rv__json_free(v);
    }
    v = ask_body(r, other, "me", 400);
    assert_string_equal(word(v, "errors", "code"), "conflictTaskUUID");
    assert_string_equal(word(v, "errors", "parameter"), "taskUUID");
    rv__json_free(v);
    free(body);
    free(other);
}

static void their_results_come(rv *r)
{
    static const char question[] = "[{\"taskType\":\"getResponse\",\"taskUUID\":\"" UUID_1 "\"}]";
    passed p = {0};
    rv__value *v = ask_task(r, RV_TASK_EVENTS, UUID_1, &p, 200);
    assert_string_equal(word(v, "data", "status"), "success");
    assert_non_null(strstr(p.text, "event: image\n"));
    assert_non_null(strstr(p.text, "event: end\n"));
    assert_null(strstr(p.text, "event: reply"));
    rv__json_free(v);
    free(p.text);
    v = ask_body(r, question, "me", 200);
    assert_string_equal(word(v, "data", "status"), "success");
    rv__json_free(v);
    v = ask_body(r, question, "you", 404);
    assert_string_equal(word(v, "errors", "code"), "taskNotFound");
    rv__json_free(v);
    v = ask_task(r, RV_TASK_STATUS, UUID_1, &p, 200);
    assert_string_equal(word(v, "data", "status"), "success");
    rv__json_free(v);
}

static void they_can_be_cancelled(rv *r)
{
    char *body = body_text(2, "stub:hang", LATER);
    passed p = {0}, leaver = {.leaves = true};
    rv__json_free(ask_body(r, body, "me", 200));
    ask_task(r, RV_TASK_EVENTS, UUID_2, &leaver, 0); /* whoever watches may leave at any time */
    assert_int_equal(leaver.done, 0);
    rv__value *v = ask_task(r, RV_TASK_CANCEL, UUID_2, &p, 200);
    bool cancelled = false;
    assert_true(rv__json_bool(rv__json_get(rv__json_first(rv__json_get(v, "data")), "cancelled"),
                              &cancelled));
    assert_true(cancelled);
    rv__json_free(v);
    p = (passed){0};
    v = ask_task(r, RV_TASK_EVENTS, UUID_2, &p, 200);
    assert_string_equal(word(v, "data", "status"), "error");
    assert_string_equal(word(v, "errors", "code"), "taskCancelled");
    assert_non_null(strstr(p.text, "\"state\":\"stopped\""));
    rv__json_free(v);
    free(p.text);
    free(leaver.text);
    free(body);
}

static void kept_tasks_through_the_client(void **state)
{
    real d;
    real_open(&d);
    rv *r = open_client(d.address);
    char *body = body_text(1, "a fox", LATER);
    rv__value *v = ask_body(r, body, "me", 503); /* nobody is there yet */
    assert_string_equal(word(v, "errors", "code"), "serviceUnavailable");
    rv__json_free(v);
    free(body);
    real_start(&d, "0");
    asynchronous_tasks_are_passed_on(r);
    their_results_come(r);
    they_can_be_cancelled(r);
    real_kill(&d, SIGKILL);
    passed p = {0};
    rv__json_free(ask_task(r, RV_TASK_EVENTS, UUID_1, &p, 503));
    rv_close(r);
    real_close(&d);
}

/* Calls that still wait when their context is closed, or are freed first. */
static void kept_tasks_and_closing(void **state)
{
    real d;
    real_open(&d);
    real_start(&d, "0");
    for (int i = 0; i < 3; i++) {
        rv *r = open_client(d.address);
        passed p = {0};
        char *body = body_text(2, "stub:hang", LATER);
        p.done = 0;
        rv__json_free(ask_body(r, body, "me", 200));
        rv_call_options o = {.owner = "me", .done = on_passed_done, .user = &p};
        rv_call *c = rv_call_task(r, RV_TASK_EVENTS, UUID_2, &o);
        if (i == 0)
            rv_call_free(c);
        rv_dispatch(r);
        rv_close(r);
        if (i)
            rv_call_free(c);
        assert_int_equal(p.done, 0);
        free(body);
    }
    real_kill(&d, SIGKILL);
    real_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(daemon_comes_and_goes),
                                       cmocka_unit_test(tasks_survive_the_hop),
                                       cmocka_unit_test(warnings_arrive),
                                       cmocka_unit_test(many_at_once),
                                       cmocka_unit_test(kept_tasks_through_the_client),
                                       cmocka_unit_test(kept_tasks_and_closing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
