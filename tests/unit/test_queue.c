/* The durable queue by its interface: what is stored comes back, also after the process is gone. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "job/queue.h"

typedef struct place {
    char folder[64], path[128];
    rv__queue *q;
    pid_t server; /* a Valkey of this test, or 0 */
} place;

static void reopen(place *p)
{
    rv_error err;
    rv__queue_close(p->q);
    if (rv__queue_open(p->path, &p->q, &err) != RV_OK)
        fail_msg("%s", err.message);
}

/* A port that nobody uses right now. */
static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static int setup_valkey(void **state)
{
    char port[16];
    rv_error err;
    place *p = calloc(1, sizeof *p);
    snprintf(p->folder, sizeof p->folder, "/tmp/rv-queue-XXXXXX");
    assert_non_null(mkdtemp(p->folder));
    snprintf(port, sizeof port, "%d", free_port());
    snprintf(p->path, sizeof p->path, "redis://127.0.0.1:%s/1?lease=300", port);
    p->server = fork();
    if (p->server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        execlp("valkey-server", "valkey-server", "--port", port, "--bind", "127.0.0.1", "--dir",
               p->folder, "--appendonly", "yes", "--save", "", NULL);
        _exit(127);
    }
    *state = p;
    for (int i = 0; i < 1000 && rv__queue_open(p->path, &p->q, &err) != RV_OK; i++)
        usleep(10000);
    if (!p->q)
        fail_msg("%s", err.message);
    return 0;
}

static int setup(void **state)
{
    place *p = calloc(1, sizeof *p);
    snprintf(p->folder, sizeof p->folder, "/tmp/rv-queue-XXXXXX");
    assert_non_null(mkdtemp(p->folder));
    snprintf(p->path, sizeof p->path, "%s/queue.db", p->folder);
    *state = p;
    reopen(p);
    return 0;
}

static int teardown(void **state)
{
    place *p = *state;
    char command[160];
    rv__queue_close(p->q);
    if (p->server) {
        kill(p->server, SIGKILL);
        waitpid(p->server, NULL, 0);
    }
    snprintf(command, sizeof command, "rm -rf %s", p->folder);
    assert_int_equal(system(command), 0);
    free(p);
    return 0;
}

#define DO(call)                                                                                   \
    do {                                                                                           \
        rv_error do_err;                                                                           \
        rv_error *err = &do_err;                                                                   \
        assert_int_equal(q->kind->begin(q, true, err), RV_OK);                                     \
        if ((call) != RV_OK)                                                                       \
            fail_msg("%s: %s", #call, do_err.message);                                             \
        assert_int_equal(q->kind->commit(q, err), RV_OK);                                          \
    } while (0)

static rv__record record_of(const char *id, const char *task, size_t count)
{
    return (rv__record){.id = (char *)id, .task = (char *)task, .count = count, .created = 1000};
}

static rv__verdict offer(rv__queue *q, const rv__record *r)
{
    rv__verdict v;
    DO(q->kind->submit(q, r, 100, &v, err));
    return v;
}

static rv__record find(rv__queue *q, const char *id)
{
    rv__record r;
    DO(q->kind->find(q, id, &r, err));
    return r;
}

static rv__record claim(rv__queue *q)
{
    rv__record r;
    DO(q->kind->claim(q, &r, err));
    return r;
}

static void a_task_from_end_to_end(void **state)
{
    place *p = *state;
    rv__queue *q = p->q;
    rv__record r = record_of("/a", "{\"seed\":7,\"x\":\"1\"}", 2);
    r.results_url = "http://h/r/";
    assert_int_equal(offer(q, &r), RV__NEW);
    rv__record found = find(q, "/a");
    assert_string_equal(found.task, r.task);
    assert_string_equal(found.results_url, "http://h/r/");
    assert_int_equal(found.state, RV__WAITING);
    assert_int_equal(found.count, 2);
    rv__record_free(&found);

    rv__record mine = claim(q);
    assert_string_equal(mine.id, "/a");
    assert_int_equal(mine.attempts, 1);
    rv__record none = claim(q);
    assert_null(none.id);
    DO(q->kind->item(q, "/a", 1, "{\"i\":1}", NULL, 0, err));
    DO(q->kind->item(q, "/a", 1, "{\"i\":\"late\"}", NULL, 0, err));
    reopen(p); /* the process died: the task waits again and knows what was made */
    q = p->q;
    rv__record_free(&mine);
    mine = claim(q);
    assert_in_range(mine.attempts, 1, 2); /* a Valkey is told that it was given back */
    assert_null(mine.items[0]);
    assert_string_equal(mine.items[1], "{\"i\":1}");
    rv__record_free(&mine);
    DO(q->kind->item(q, "/a", 0, "{\"i\":0}", NULL, 0, err));
    DO(q->kind->finish(q, "/a", RV__DONE, NULL, "{\"w\":1}", 0, NULL, 0, err));
    DO(q->kind->finish(q, "/a", RV__FAILED, "{}", NULL, 0, NULL, 0, err));
    reopen(p);
    q = p->q;
    found = find(q, "/a");
    assert_int_equal(found.state, RV__DONE);
    assert_string_equal(found.items[0], "{\"i\":0}");
    assert_string_equal(found.warnings, "{\"w\":1}");
    assert_null(found.error);
    rv__record_free(&found);
    found = find(q, "/b");
    assert_null(found.id);
}

static void the_same_id(void **state)
{
    rv__queue *q = ((place *)*state)->q;
    rv__record first = record_of("/a", "{\"seed\":7,\"taskUUID\":\"A\",\"x\":1}", 1);
    rv__record same = record_of("/a", "{\"seed\":7,\"taskUUID\":\"a\",\"x\":1}", 1);
    rv__record other = record_of("/a", "{\"seed\":8,\"taskUUID\":\"a\",\"x\":1}", 1);
    assert_int_equal(offer(q, &first), RV__NEW);
    assert_int_equal(offer(q, &same), RV__SAME);
    assert_int_equal(offer(q, &other), RV__OTHER);
    first.id = same.id = other.id = "/drawn"; /* seeds that nobody asked for say nothing */
    first.is_drawn = same.is_drawn = true;
    same.task = other.task;
    assert_int_equal(offer(q, &first), RV__NEW);
    assert_int_equal(offer(q, &same), RV__SAME);
    assert_int_equal(offer(q, &other), RV__OTHER);
    rv__record found = find(q, "/drawn");
    assert_string_equal(found.task, first.task); /* its seed stays */
    assert_true(found.is_drawn);
    rv__record_free(&found);
}

static void order_and_release(void **state)
{
    rv__queue *q = ((place *)*state)->q;
    const char *ids[] = {"/1", "/2", "/3"};
    for (int i = 0; i < 3; i++) {
        rv__record r = record_of(ids[i], "{}", 1);
        assert_int_equal(offer(q, &r), RV__NEW);
    }
    rv__record found = find(q, "/3");
    assert_int_equal(found.before, ((place *)*state)->server ? 0 : 2);
    rv__record_free(&found);
    for (int i = 0; i < 2; i++) {
        rv__record r = claim(q);
        assert_string_equal(r.id, "/1");
        assert_int_equal(r.attempts, 1); /* what was given back was no attempt */
        rv__record_free(&r);
        DO(q->kind->release(q, "/1", err));
    }
    int64_t waiting, running;
    DO(q->kind->counts(q, &waiting, &running, err));
    assert_int_equal(waiting + running, 3);
    assert_int_equal(running, ((place *)*state)->server ? 1 : 0); /* given back, not asked for */
}

static void expect_note(rv__queue *q, const char *note)
{
    rv__record r = claim(q);
    assert_string_equal(r.id, "/1");
    assert_string_equal(r.sent ? r.sent : "none", note);
    rv__record_free(&r);
}

/* What the one who runs a task leaves for the next one. */
static void notes(void **state)
{
    rv__queue *q = ((place *)*state)->q;
    rv__record r = record_of("/1", "{}", 1);
    offer(q, &r);
    expect_note(q, "none");
    DO(q->kind->sent(q, "/1", "{\"a\":1}", err));
    DO(q->kind->sent(q, "/1", "{\"a\":2}", err));
    DO(q->kind->release(q, "/1", err));
    expect_note(q, "{\"a\":2}");
    DO(q->kind->sent(q, "/1", NULL, err));
    DO(q->kind->release(q, "/1", err));
    expect_note(q, "none");
}

/* A file of the version before has no place for notes. */
static void an_older_file(void **state)
{
    place *p = *state;
    rv__record r = record_of("/1", "{}", 1);
    offer(p->q, &r);
    rv__queue_close(p->q);
    p->q = NULL;
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(p->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "ALTER TABLE tasks DROP COLUMN sent; PRAGMA user_version = 1",
                                  NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    reopen(p);
    rv__queue *q = p->q;
    expect_note(q, "none");
    DO(q->kind->sent(q, "/1", "x", err));
    reopen(p);
    expect_note(p->q, "x");
}

static void a_full_backlog(void **state)
{
    rv__queue *q = ((place *)*state)->q;
    rv__record a = record_of("/a", "{}", 1), b = record_of("/b", "{}", 1);
    rv__verdict v;
    rv_error err;
    assert_int_equal(q->kind->submit(q, &a, 1, &v, &err), RV_OK);
    assert_int_equal(q->kind->submit(q, &b, 1, &v, &err), RV_RATE_LIMIT);
    assert_string_equal(err.code, "rateLimitExceeded");
    assert_true(err.retry_after_ms > 0);
    assert_int_equal(q->kind->submit(q, &a, 1, &v, &err), RV_OK); /* a repeat is no new task */
    assert_int_equal(v, RV__SAME);
}

static void cancelling(void **state)
{
    rv__queue *q = ((place *)*state)->q;
    rv__record a = record_of("/a", "{}", 1);
    rv__stored was;
    offer(q, &a);
    DO(q->kind->cancel(q, "/none", "{}", 0, &was, err));
    assert_int_equal(was, RV__EXPIRED);
    DO(q->kind->cancel(q, "/a", "{\"code\":\"c\"}", 0, &was, err));
    assert_int_equal(was, RV__WAITING);
    DO(q->kind->cancel(q, "/a", "{}", 0, &was, err));
    assert_int_equal(was, RV__STOPPED);
    rv__record found = find(q, "/a");
    assert_int_equal(found.state, RV__STOPPED);
    assert_string_equal(found.error, "{\"code\":\"c\"}");
    rv__record_free(&found);
    found = claim(q);
    assert_null(found.id);
}

static void answers(void **state)
{
    rv__queue *q = ((place *)*state)->q;
    char *items[] = {"{\"i\":0}", "{\"i\":1}"};
    rv__record a = record_of("/a", "{\"x\":1}", 2);
    a.items = items;
    a.expiry = time(NULL) + 100;
    DO(q->kind->keep_answer(q, &a, err));
    DO(q->kind->keep_answer(q, &a, err));
    rv__record found = find(q, "/a");
    assert_true(found.is_answer);
    assert_int_equal(found.state, RV__DONE);
    assert_string_equal(found.items[1], items[1]);
    rv__record_free(&found);
    rv__record task = record_of("/a", "{\"x\":2}", 1); /* an answer makes way for a task */
    assert_int_equal(offer(q, &task), RV__NEW);
    DO(q->kind->keep_answer(q, &a, err)); /* but not the other way round */
    found = find(q, "/a");
    assert_false(found.is_answer);
    assert_int_equal(found.state, RV__WAITING);
    rv__record_free(&found);
}

static void expiry(void **state)
{
    rv__queue *q = ((place *)*state)->q;
    rv__record a = record_of("/a", "{}", 1);
    int64_t now = time(NULL);
    size_t removed;
    offer(q, &a);
    rv__record mine = claim(q);
    rv__record_free(&mine);
    DO(q->kind->item(q, "/a", 0, "{}", NULL, 0, err));
    DO(q->kind->finish(q, "/a", RV__DONE, NULL, NULL, now - 1, NULL, 0, err));
    rv__record found = find(q, "/a"); /* before any sweep */
    assert_int_equal(found.state, RV__EXPIRED);
    rv__record_free(&found);
    DO(q->kind->sweep(q, now, &removed, err));
    assert_int_equal(removed, ((place *)*state)->server ? 0 : 1);
    found = find(q, "/a");
    assert_int_equal(found.state, RV__EXPIRED);
    assert_null(found.task);
    assert_null(found.items[0]);
    rv__record_free(&found);
    DO(q->kind->sweep(q, now + 30 * 86400, &removed, err));
    found = find(q, "/a"); /* a Valkey has a clock of its own */
    assert_true(!found.id || ((place *)*state)->server);
    rv__record_free(&found);
    assert_int_equal(offer(q, &a), RV__NEW);
}

static void posts(void **state)
{
    rv__queue *q = ((place *)*state)->q;
    rv__record a = record_of("/a", "{}", 1);
    rv__post sent[2] = {{.kind = "webhook", .target = "http://h/1", .body = "{1}", .due_ms = 50},
                        {.kind = "upload", .target = "http://h/2", .body = "{2}", .due_ms = 10}};
    rv__post got[4];
    size_t n;
    int64_t next;
    offer(q, &a);
    rv__record mine = claim(q);
    rv__record_free(&mine);
    DO(q->kind->post_next(q, &next, err));
    assert_int_equal(next, 0);
    DO(q->kind->item(q, "/a", 0, "{}", sent, 2, err));
    DO(q->kind->item(q, "/a", 0, "{}", sent, 2, err)); /* the item is there: nothing is sent twice */
    DO(q->kind->post_next(q, &next, err));
    assert_int_equal(next, 10);
    DO(q->kind->post_due(q, 100, 1000, got, 4, &n, err));
    assert_int_equal(n, 2);
    assert_string_equal(got[0].kind, "upload");
    assert_string_equal(got[1].target, "http://h/1");
    assert_string_equal(got[1].body, "{1}");
    assert_string_equal(got[1].task, "/a");
    int64_t upload = got[0].row, webhook = got[1].row;
    rv__post_free(&got[0]);
    rv__post_free(&got[1]);
    DO(q->kind->post_due(q, 1000, 1000, got, 4, &n, err)); /* they are being sent */
    assert_int_equal(n, 0);
    DO(q->kind->post_done(q, upload, err));
    DO(q->kind->post_retry(q, webhook, 300, "HTTP 500", err));
    DO(q->kind->post_due(q, 300, 1000, got, 4, &n, err));
    assert_int_equal(n, 1);
    assert_int_equal(got[0].attempts, 1);
    assert_string_equal(got[0].why, "HTTP 500");
    rv__post_free(&got[0]);
    /* What nothing could have planned so far ahead was planned before the clock was put back. */
    DO(q->kind->post_retry(q, webhook, 500 + RV__POST_FAR_MS, "HTTP 500", err));
    DO(q->kind->post_due(q, 500, 1000, got, 4, &n, err));
    assert_int_equal(n, 0);
    DO(q->kind->post_due(q, 499, 1000, got, 4, &n, err));
    assert_int_equal(n, 1);
    assert_int_equal(got[0].due_ms, 500 + RV__POST_FAR_MS);
    rv__post_free(&got[0]);
    DO(q->kind->post_due(q, 500, 1000, got, 4, &n, err));
    assert_int_equal(n, 0);
    DO(q->kind->post_dead(q, webhook, "gone", err));
    DO(q->kind->post_due(q, 100000, 1000, got, 4, &n, err));
    assert_int_equal(n, 0);
    DO(q->kind->post_list_dead(q, 0, got, 4, &n, err));
    assert_int_equal(n, 1);
    assert_true(got[0].is_dead);
    assert_string_equal(got[0].why, "gone");
    rv__post_free(&got[0]);
}

/* ---- several processes ---- */

/* A task whose process says nothing any more is given to another, and the first one's writes no
 * longer count; one that is spoken for stays. */
static void a_lease(void **state)
{
    place *p = *state;
    rv__queue *q = p->q, *other = NULL;
    rv__record a = record_of("/a", "{}", 2), mine, theirs = {0};
    assert_int_equal(rv__queue_open(p->path, &other, NULL), RV_OK);
    offer(q, &a);
    mine = claim(q);
    assert_string_equal(mine.id, "/a");
    for (int i = 0; i < 6; i++) {
        q->kind->tick(q);
        usleep(100000);
        theirs = claim(other);
        assert_null(theirs.id);
    }
    for (int i = 0; i < 100 && !theirs.id; i++) {
        usleep(50000);
        theirs = claim(other);
    }
    assert_string_equal(theirs.id, "/a");
    assert_int_equal(theirs.attempts, 2);
    DO(q->kind->item(q, "/a", 0, "{\"late\":1}", NULL, 0, err));
    assert_int_equal(q->kind->sent(q, "/a", "late", NULL), RV_CANCELLED);
    DO(q->kind->finish(q, "/a", RV__FAILED, "{}", NULL, 0, NULL, 0, err));
    rv__queue *first = q;
    q = other;
    DO(q->kind->item(q, "/a", 0, "{\"i\":0}", NULL, 0, err));
    DO(q->kind->item(q, "/a", 1, "{\"i\":1}", NULL, 0, err));
    DO(q->kind->finish(q, "/a", RV__DONE, NULL, NULL, 0, NULL, 0, err));
    q = first;
    rv__record found = find(q, "/a");
    assert_int_equal(found.state, RV__DONE);
    assert_string_equal(found.items[0], "{\"i\":0}");
    rv__record_free(&found);
    rv__record_free(&mine);
    rv__record_free(&theirs);
    rv__queue_close(other);
}

static void note_ring(void *user, const char *topic)
{
    int which = !topic                                ? 0
                : strcmp(topic, "/a") == 0             ? 1
                : strcmp(topic, RV__RING_CANCEL) == 0 ? 2
                                                       : 3;
    atomic_fetch_add((atomic_int *)user + which, 1);
}

static void wait_for_ring(atomic_int *count)
{
    for (int i = 0; i < 1000 && !atomic_load(count); i++)
        usleep(10000);
    assert_true(atomic_load(count) > 0);
}

/* What one process says of a task, another one hears, and may end it. */
static void news(void **state)
{
    place *p = *state;
    rv__queue *q = p->q, *other = NULL;
    rv__record a = record_of("/a", "{}", 1);
    rv__stored was;
    atomic_int rings[4] = {0};
    char *id;
    assert_int_equal(rv__queue_open(p->path, &other, NULL), RV_OK);
    assert_int_equal(other->kind->listen(other, note_ring, rings, NULL), RV_OK);
    wait_for_ring(&rings[0]); /* from here on it hears everything */
    offer(q, &a);
    rv__record mine = claim(q);
    DO(q->kind->progress(q, "/a", 0, 3, 8, err));
    wait_for_ring(&rings[1]);
    rv__record found = find(other, "/a");
    assert_int_equal(found.step, 3);
    assert_int_equal(found.steps, 8);
    assert_false(found.is_unwanted);
    rv__record_free(&found);
    DO(q->kind->unwanted(q, &id, err));
    assert_null(id);
    DO(other->kind->cancel(other, "/a", "{}", 0, &was, err));
    assert_int_equal(was, RV__RUNNING);
    wait_for_ring(&rings[2]);
    DO(q->kind->unwanted(q, &id, err));
    assert_string_equal(id, "/a");
    rv__free(id);
    DO(q->kind->unwanted(q, &id, err)); /* told once */
    assert_null(id);
    found = find(other, "/a");
    assert_true(found.is_unwanted);
    rv__record_free(&found);
    DO(other->kind->progress(other, "/a", 0, 4, 8, err)); /* not its task: changes nothing */
    found = find(q, "/a");
    assert_int_equal(found.step, 3);
    rv__record_free(&found);
    rv__record_free(&mine);
    rv__queue_close(other);
}

/* The server goes away and comes back with what it had. */
static void a_dead_server(void **state)
{
    place *p = *state;
    rv__queue *q = p->q;
    rv_error err;
    rv__record a = record_of("/a", "{}", 1), found = {0};
    rv__verdict v;
    offer(q, &a);
    kill(p->server, SIGKILL);
    waitpid(p->server, NULL, 0);
    p->server = 0;
    rv_status s = q->kind->begin(q, true, &err);
    if (s == RV_OK)
        s = q->kind->submit(q, &a, 10, &v, &err);
    assert_int_equal(s, RV_BUSY);
    assert_true(err.retry_after_ms > 0);
    assert_int_equal(q->kind->begin(q, true, &err), RV_BUSY);
    char port[16];
    snprintf(port, sizeof port, "%ld", strtol(strstr(p->path, "127.0.0.1:") + 10, NULL, 10));
    p->server = fork();
    if (p->server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        execlp("valkey-server", "valkey-server", "--port", port, "--bind", "127.0.0.1", "--dir",
               p->folder, "--appendonly", "yes", "--save", "", NULL);
        _exit(127);
    }
    s = RV_BUSY;
    for (int i = 0; i < 1000 && s != RV_OK; i++) {
        usleep(10000);
        s = q->kind->begin(q, true, &err);
        if (s == RV_OK)
            s = q->kind->find(q, "/a", &found, &err);
    }
    assert_int_equal(s, RV_OK);
    assert_string_equal(found.id, "/a");
    rv__record_free(&found);
}

static void addresses_that_are_none(void **state)
{
    static const char *const bad[] = {"redis://h:0", "redis://h:70000", "redis://h?lease=1",
                                      "redis://h?x=1"};
    rv__queue *q;
    rv_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(rv__queue_open(bad[i], &q, &err), RV_VALIDATION);
        assert_null(q);
    }
    assert_int_equal(rv__queue_open("redis://127.0.0.1:1", &q, &err), RV_BUSY);
    assert_non_null(strstr(err.message, "127.0.0.1:1"));
}

static void pictures(void **state)
{
    rv__queue *q = ((place *)*state)->q;
    char uuid[] = "11111111-2222-4333-8444-555555555555", *item = NULL;
    char *items[] = {"{\"imageUUID\":\"11111111-2222-4333-8444-555555555555\",\"x\":1}"};
    rv__record a = record_of("me/a", "{}", 1);
    a.items = items;
    a.expiry = time(NULL) + 100;
    DO(q->kind->keep_answer(q, &a, err));
    const struct {
        const char *owner;
        bool has;
    } rows[] = {{"me", true}, {"m", false}, {"", false}, {"you", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *id = rv__queue_id(rows[i].owner, uuid);
        DO(q->kind->picture(q, id, &item, err));
        assert_int_equal(item != NULL, rows[i].has);
        rv__free(item);
        rv__free(id);
    }
}

static void rolled_back(void **state)
{
    rv__queue *q = ((place *)*state)->q;
    rv__record a = record_of("/a", "{}", 1);
    rv__verdict v;
    int64_t waiting, running;
    assert_int_equal(q->kind->begin(q, false, NULL), RV_OK);
    assert_int_equal(q->kind->submit(q, &a, 10, &v, NULL), RV_OK);
    q->kind->rollback(q);
    rv__record found = find(q, "/a");
    assert_null(found.id);
    DO(q->kind->counts(q, &waiting, &running, err));
    assert_int_equal(waiting, 0);
}

/* What cannot be used is said with its path, and nothing is overwritten. */
static void files_that_are_no_queue(void **state)
{
    place *p = *state;
    rv_error err;
    rv__queue *second = NULL;
    assert_int_equal(rv__queue_open(p->path, &second, &err), RV_IO);
    assert_non_null(strstr(err.message, "in use by another process"));
    rv__queue_close(p->q);
    p->q = NULL;
    FILE *f = fopen(p->path, "r+b");
    assert_non_null(f);
    for (int i = 0; i < 8192; i++)
        fputc('x', f);
    fclose(f);
    assert_int_equal(rv__queue_open(p->path, &second, &err), RV_IO);
    assert_non_null(strstr(err.message, p->path));
    assert_non_null(strstr(err.message, "damaged"));
    assert_int_equal(rv__queue_open("/nowhere/queue.db", &second, &err), RV_IO);
    assert_non_null(strstr(err.message, "/nowhere/queue.db"));
}

static void a_damaged_page(void **state)
{
    place *p = *state;
    char text[2000];
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < 50; i++) {
        char id[16], task[2100];
        snprintf(id, sizeof id, "/%d", i);
        snprintf(task, sizeof task, "{\"x\":\"%s\"}", text);
        rv__record r = record_of(id, task, 1);
        offer(p->q, &r);
    }
    rv__queue_close(p->q); /* writes the log back into the file */
    p->q = NULL;
    FILE *f = fopen(p->path, "r+b");
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    for (long at = 4096; at + 4096 <= size; at += 4096) {
        fseek(f, at, SEEK_SET);
        fwrite("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1, 12, f);
    }
    fclose(f);
    rv_error err;
    assert_int_equal(rv__queue_open(p->path, &p->q, &err), RV_IO);
    assert_non_null(strstr(err.message, "damaged"));
}

/* Without memory an operation fails as a whole, says so, and can be repeated. */
static void failing_allocations(void **state)
{
    place *p = *state;
    rv__record a = record_of("/a", "{\"x\":1,\"seed\":3}", 2);
    offer(p->q, &a);
    for (long n = 1;; n++) {
        rv__record out = {0};
        rv__verdict v;
        rv_error err;
        rv__queue *q = p->q;
        assert_int_equal(q->kind->begin(q, false, NULL), RV_OK);
        rv__alloc_fail_after(n);
        rv_status s = q->kind->submit(q, &a, 10, &v, &err);
        bool decided = s == RV_OK && v == RV__SAME;
        if (s == RV_OK)
            s = q->kind->claim(q, &out, &err);
        rv__alloc_fail_after(0);
        rv__record_free(&out);
        q->kind->rollback(q);
        if (s == RV_OK && decided)
            break;
        assert_int_equal(s, RV_MEMORY);
    }
    rv__queue_close(p->q);
    p->q = NULL;
    for (long n = 1;; n++) {
        rv__alloc_fail_after(n);
        rv_status s = rv__queue_open(p->path, &p->q, NULL);
        rv__alloc_fail_after(0);
        if (s == RV_OK)
            break;
        assert_int_equal(s, RV_MEMORY);
    }
}

static void ids(void **state)
{
    char *id = rv__queue_id("Ann", "ABCDEF00-0000-4000-8000-00000000000A");
    assert_string_equal(id, "Ann/abcdef00-0000-4000-8000-00000000000a");
    rv__free(id);
    id = rv__queue_id(NULL, "A");
    assert_string_equal(id, "/a");
    rv__free(id);
}

#define TEST(f)   cmocka_unit_test_setup_teardown(f, setup, teardown)
#define VALKEY(f) {"valkey_" #f, f, setup_valkey, teardown, NULL}


int main(void)
{
    const struct CMUnitTest tests[] = {TEST(a_task_from_end_to_end),
                                       TEST(the_same_id),
                                       TEST(order_and_release),
                                       TEST(notes),
                                       TEST(an_older_file),
                                       TEST(a_full_backlog),
                                       TEST(cancelling),
                                       TEST(answers),
                                       TEST(expiry),
                                       TEST(posts),
                                       TEST(rolled_back),
                                       TEST(files_that_are_no_queue),
                                       TEST(a_damaged_page),
                                       TEST(failing_allocations),
                                       TEST(pictures),
                                       cmocka_unit_test(ids),
                                       cmocka_unit_test(addresses_that_are_none),
                                       VALKEY(a_task_from_end_to_end),
                                       VALKEY(the_same_id),
                                       VALKEY(order_and_release),
                                       VALKEY(notes),
                                       VALKEY(a_full_backlog),
                                       VALKEY(cancelling),
                                       VALKEY(answers),
                                       VALKEY(expiry),
                                       VALKEY(posts),
                                       VALKEY(pictures),
                                       VALKEY(a_lease),
                                       VALKEY(news),
                                       VALKEY(a_dead_server)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
