/* Jobs: limits, cancelling at each state, merging, lifetimes in any order, fork, failing
 * allocations. */
#include "job_fixture.h"

#include "job/context.h"
#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void nap(int ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

static void runs_to_its_end(void **state)
{
    rv *r = open_stub("0");
    rv_batch *b = batch_of(r, 1, "a fox", ",\"numberResults\":3");
    seen s = {0};
    rv_job *j = submit(r, b, &s);
    assert_int_equal(rv_job_state(j), RV_QUEUED);
    assert_null(rv_job_image(j, 0));
    assert_int_equal(rv_wait(r, j, -1), RV_OK);
    assert_int_equal(rv_job_state(j), RV_DONE);
    assert_null(rv_job_error(j));
    assert_int_equal(s.queued, 1);
    assert_int_equal(s.started, 1);
    assert_int_equal(s.images, 3);
    assert_int_equal(s.ends, 1);
    assert_int_equal(s.after_end, 0);
    assert_int_equal(rv_job_images(j), 3);
    for (size_t i = 0; i < 3; i++) {
        rv_image_info info = rv_image_facts(rv_job_image(j, i));
        assert_int_equal(info.seed, 7 + i);
        assert_int_equal(info.width, 128);
        assert_int_equal(info.channels, 3);
        assert_int_equal(strlen(info.uuid), 36);
        assert_non_null(rv_image_pixels(rv_job_image(j, i)));
    }
    assert_null(rv_job_image(j, 3));
    assert_int_equal(rv_dispatch(r), 0);
    rv_job_unref(j);
    rv_batch_unref(b);
    rv_close(r);
}

static void pictures_repeat(void **state)
{
    rv *r = open_stub("0");
    rv_batch *three = batch_of(r, 1, "a fox", ",\"numberResults\":3");
    rv_batch *second = batch_of(r, 2, "a fox", ",\"numberResults\":1");
    rv_batch *other = batch_of(r, 3, "a bear", "");
    rv_job *a = submit(r, three, NULL), *b = submit(r, second, NULL), *c = submit(r, other, NULL);
    rv_wait(r, a, -1);
    rv_wait(r, b, -1);
    rv_wait(r, c, -1);
    size_t size = 128 * 128 * 3;
    const uint8_t *first = rv_image_pixels(rv_job_image(a, 0));
    assert_memory_equal(first, rv_image_pixels(rv_job_image(b, 0)), size);
    assert_memory_not_equal(first, rv_image_pixels(rv_job_image(a, 1)), size);
    assert_memory_not_equal(first, rv_image_pixels(rv_job_image(c, 0)), size);
    rv_job_unref(a);
    rv_job_unref(b);
    rv_job_unref(c);
    rv_batch_unref(three);
    rv_batch_unref(second);
    rv_batch_unref(other);
    rv_close(r);
}

static void queue_is_bounded(void **state)
{
    rv *r = open_stub("0");
    assert_int_equal(rv_set(r, "queue", "2", NULL), RV_OK);
    rv_batch *b = batch_of(r, 1, "stub:hang", "");
    rv_job *first = submit(r, b, NULL), *second = submit(r, b, NULL), *third = NULL;
    assert_int_equal(rv_submit(r, rv_batch_task(b, 0), NULL, &third), RV_BUSY);
    assert_null(third);
    rv_job_cancel(first);
    assert_int_equal(rv_wait(r, first, -1), RV_OK);
    assert_int_equal(rv_submit(r, rv_batch_task(b, 0), NULL, &third), RV_OK);
    rv_job_unref(first);
    rv_job_unref(second);
    rv_job_unref(third);
    rv_batch_unref(b);
    rv_close(r);
}

/* How long it takes until the queue is empty is told by the tasks before. */
static void queue_tells_when(void **state)
{
    rv *r = open_stub("20");
    assert_int_equal(rv__job_wait_ms(r, 100), -1);
    rv_batch *b = batch_of(r, 1, "a fox", "");
    rv_job *j = submit(r, b, NULL);
    assert_int_equal(rv_wait(r, j, -1), RV_OK);
    int64_t one = rv__job_wait_ms(r, 4), many = rv__job_wait_ms(r, 40);
    assert_true(one >= 20 && many >= 9 * one);
    assert_int_equal(rv__job_wait_ms(r, 1 << 30), 600000);
    rv_job_unref(j);
    rv_batch_unref(b);
    rv_close(r);
}

static void cancel_while_queued(void **state)
{
    rv *r = open_stub("0");
    rv_batch *b = batch_of(r, 1, "stub:hang", "");
    rv_job *blockers[8]; /* as many as there can be workers */
    for (int i = 0; i < 8; i++)
        blockers[i] = submit(r, b, NULL);
    seen s = {0};
    rv_job *j = submit(r, b, &s);
    rv_job_cancel(j);
    rv_job_cancel(j);
    assert_int_equal(rv_wait(r, j, -1), RV_OK);
    assert_int_equal(s.queued, 1);
    assert_int_equal(s.started, 0);
    assert_int_equal(s.ends, 1);
    assert_int_equal(s.state, RV_STOPPED);
    assert_int_equal(s.status, RV_CANCELLED);
    rv_job_cancel(j); /* after the end: nothing */
    assert_int_equal(rv_job_state(j), RV_STOPPED);
    rv_job_unref(j);
    for (int i = 0; i < 8; i++)
        rv_job_unref(blockers[i]);
    rv_batch_unref(b);
    rv_close(r);
}

static void *cancel_from_thread(void *job)
{
    nap(5);
    rv_job_cancel(job);
    rv_job_unref(job);
    return NULL;
}

static void cancel_while_running(void **state)
{
    rv *r = open_stub("0");
    rv_batch *b = batch_of(r, 1, "stub:hang", "");
    seen s = {0};
    rv_job *j = submit(r, b, &s);
    while (!s.started) {
        struct pollfd p = {rv_fd(r), POLLIN, 0};
        poll(&p, 1, -1);
        rv_dispatch(r);
    }
    assert_int_equal(rv_job_state(j), RV_RUNNING);
    assert_int_equal(rv_wait(r, j, 1), RV_TIMEOUT);
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_from_thread, rv_job_ref(j));
    assert_int_equal(rv_wait(r, j, -1), RV_OK);
    pthread_join(thread, NULL);
    assert_int_equal(s.state, RV_STOPPED);
    assert_int_equal(s.ends, 1);
    rv_job_unref(j);
    rv_batch_unref(b);
    rv_close(r);
}

static void cancel_races_with_the_end(void **state)
{
    rv *r = open_stub("0");
    rv_batch *b = batch_of(r, 1, "a fox", "");
    for (int i = 0; i < 200; i++) {
        seen s = {0};
        rv_job *j = submit(r, b, &s);
        pthread_t thread;
        bool threaded = i % 10 == 0;
        if (threaded)
            pthread_create(&thread, NULL, cancel_from_thread, rv_job_ref(j));
        else if (i % 3)
            rv_job_cancel(j);
        assert_int_equal(rv_wait(r, j, -1), RV_OK);
        if (threaded)
            pthread_join(thread, NULL);
        assert_int_equal(s.ends, 1);
        assert_true(s.state == RV_DONE || s.state == RV_STOPPED);
        rv_job_unref(j);
    }
    rv_batch_unref(b);
    rv_close(r);
}

static void failures_are_told(void **state)
{
    rv *r = open_stub("0");
    rv_batch *b = batch_of(r, 1, "stub:fail=serverError stub:after=1", ",\"numberResults\":2");
    seen s = {0};
    rv_job *j = submit(r, b, &s);
    rv_wait(r, j, -1);
    assert_int_equal(s.state, RV_FAILED);
    assert_int_equal(s.status, RV_SERVER);
    assert_int_equal(s.images, 1);
    assert_non_null(rv_job_image(j, 0));
    assert_null(rv_job_image(j, 1));
    rv_job_unref(j);
    rv_batch_unref(b);
    b = batch_of(r, 2, "stub:short", "");
    j = submit(r, b, &s);
    rv_wait(r, j, -1);
    assert_int_equal(rv_job_error(j)->status, RV_INTERNAL);
    rv_job_unref(j);
    rv_batch_unref(b);
    rv_close(r);
}

/* Steps that nobody fetched are merged into the newest; nothing else is. */
static void steps_merge(void **state)
{
    rv *r = open_stub("0");
    rv_batch *b = batch_of(r, 1, "a fox", ",\"numberResults\":2");
    rv_batch *mark = batch_of(r, 2, "a fox", "");
    seen s = {0}, unused = {0};
    rv_job *j = submit(r, b, &s);
    nap(300); /* long past its end on any machine that is not stuck; a slower one only merges less
               */
    rv_job *k = submit(r, mark, &unused);
    rv_wait(r, j, -1);
    rv_wait(r, k, -1);
    assert_int_equal(s.images, 2);
    assert_int_equal(s.ends, 1);
    assert_int_equal(s.last_step, 4);
    assert_true(s.steps <= 8);
    rv_job_unref(j);
    rv_job_unref(k);
    rv_batch_unref(b);
    rv_batch_unref(mark);
    rv_close(r);
}

/* One dispatch tells at most 64 events and leaves the descriptor readable for the rest. */
static void dispatch_is_bounded(void **state)
{
    rv *r = open_stub("0");
    rv_batch *b = batch_of(r, 1, "stub:hang", "");
    enum { N = 60 };
    seen s[N];
    memset(s, 0, sizeof s);
    rv_job *jobs[N];
    for (int i = 0; i < N; i++)
        jobs[i] = submit(r, b, &s[i]);
    for (int i = 0; i < N; i++)
        rv_job_cancel(jobs[i]);
    struct pollfd p = {rv_fd(r), POLLIN, 0};
    assert_int_equal(poll(&p, 1, 0), 1);
    rv_dispatch(r);
    int events = 0;
    for (int i = 0; i < N; i++)
        events += s[i].queued + s[i].started + s[i].steps + s[i].images + s[i].ends;
    assert_int_equal(events, 64);
    assert_int_equal(poll(&p, 1, 0), 1);
    while (rv_dispatch(r) > 0)
        poll(&p, 1, -1);
    assert_int_equal(poll(&p, 1, 0), 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(s[i].ends, 1);
        assert_int_equal(s[i].state, RV_STOPPED);
        rv_job_unref(jobs[i]);
    }
    rv_batch_unref(b);
    rv_close(r);
}

static void close_in_any_order(void **state)
{
    for (int order = 0; order < 4; order++) {
        rv *r = open_stub("0");
        rv_batch *b = batch_of(r, 1, order & 1 ? "stub:hang" : "a fox", "");
        seen s = {0};
        rv_job *j = submit(r, b, &s);
        rv_image *image = NULL;
        if (!(order & 1)) {
            rv_wait(r, j, -1);
            image = rv_image_ref(rv_job_image(j, 0));
        }
        if (order & 2)
            rv_batch_unref(b);
        rv_close(r);
        rv_job_cancel(j);
        assert_int_equal(rv_job_state(j), order & 1 ? RV_STOPPED : RV_DONE);
        assert_int_equal(s.ends, order & 1 ? 0 : 1);
        rv_job_unref(j);
        if (!(order & 2)) {
            size_t len;
            assert_non_null(rv_task_json(rv_batch_task(b, 0), &len));
            rv_batch_unref(b);
        }
        if (image)
            assert_non_null(rv_image_pixels(image));
        rv_image_unref(image);
    }
}

static void dropped_handles_run_on(void **state)
{
    rv *r = open_stub("0");
    rv_batch *b = batch_of(r, 1, "a fox", "");
    seen s = {0};
    rv_job_unref(submit(r, b, &s));
    rv_batch_unref(b);
    struct pollfd p = {rv_fd(r), POLLIN, 0};
    while (rv_dispatch(r) > 0)
        poll(&p, 1, -1);
    assert_int_equal(s.ends, 1);
    assert_int_equal(s.state, RV_DONE);
    rv_close(r);
}

/* A context may be opened before fork and used after it, in parent and child. */
static void fork_before_first_submit(void **state)
{
    rv *r = open_stub("0");
    rv_batch *b = batch_of(r, 1, "a fox", "");
    pid_t child = fork();
    seen s = {0};
    rv_job *j = submit(r, b, &s);
    bool ok = rv_wait(r, j, -1) == RV_OK && s.state == RV_DONE;
    rv_job_unref(j);
    rv_batch_unref(b);
    rv_close(r);
    if (child == 0)
        _exit(ok ? 0 : 1);
    int status = 1;
    waitpid(child, &status, 0);
    assert_true(ok);
    assert_int_equal(status, 0);
}

/* After the first submit a child must not use it, and says so instead of hanging. */
static void fork_after_first_submit(void **state)
{
    rv *r = open_stub("0");
    rv_batch *b = batch_of(r, 1, "a fox", "");
    rv_job *j = submit(r, b, NULL), *k = NULL;
    rv_wait(r, j, -1);
    pid_t child = fork();
    if (child == 0) {
        rv_status s = rv_submit(r, rv_batch_task(b, 0), NULL, &k);
        rv_close(r);
        _exit(s == RV_MISUSE ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    rv_job_unref(j);
    rv_batch_unref(b);
    rv_close(r);
}

static void misuse(void *user, rv_job *job, const rv_event *e)
{
    rv *r = *(rv **)user;
    rv_close(r); /* refused */
    assert_int_equal(rv_wait(r, job, 0), RV_MISUSE);
}

static void count_log(void *user, rv_log_level level, const char *message)
{
    ++*(int *)user;
}

static void misuse_is_refused(void **state)
{
    rv *r = open_stub("0");
    int lines = 0;
    rv_set_log(r, count_log, &lines);
    rv_batch *b = batch_of(r, 1, "a fox", "");
    rv_job *j = NULL;
    assert_int_equal(rv_submit(r, NULL, NULL, &j), RV_MISUSE);
    rv_sink sink = {misuse, &r};
    assert_int_equal(rv_submit(r, rv_batch_task(b, 0), &sink, &j), RV_OK);
    rv_wait(r, j, -1);
    assert_true(lines > 3);
    rv_error err;
    assert_int_equal(rv_set(r, "queue", "3", &err), RV_MISUSE);
    rv_job_unref(j);
    rv_batch_unref(b);
    rv_close(r);
}

/* The n-th allocation fails, for all n: every job still ends exactly once or is refused. */
static void allocations_fail(void **state)
{
    int done = 0;
    for (long n = 1; n < 400 && done < 3; n++) {
        rv *r = open_stub("0");
        rv_batch *b = batch_of(r, 1, "a fox", "");
        seen s = {0};
        rv_sink sink = {see, &s};
        rv_job *j = NULL;
        rv__alloc_fail_after(n);
        rv_status status = rv_submit(r, rv_batch_task(b, 0), &sink, &j);
        if (status == RV_OK)
            rv_wait(r, j, -1);
        rv__alloc_fail_after(0);
        if (status == RV_OK) {
            assert_int_equal(s.ends, 1);
            assert_true(s.state == RV_DONE || s.status == RV_MEMORY);
            done += s.state == RV_DONE;
        } else {
            assert_int_equal(status, RV_MEMORY);
            assert_null(j);
        }
        rv_job_unref(j);
        rv_batch_unref(b);
        rv_close(r);
    }
    assert_int_equal(done, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_to_its_end),         cmocka_unit_test(pictures_repeat),
        cmocka_unit_test(queue_is_bounded), cmocka_unit_test(queue_tells_when),        cmocka_unit_test(cancel_while_queued),
        cmocka_unit_test(cancel_while_running),    cmocka_unit_test(cancel_races_with_the_end),
        cmocka_unit_test(failures_are_told),       cmocka_unit_test(steps_merge),
        cmocka_unit_test(dispatch_is_bounded),     cmocka_unit_test(close_in_any_order),
        cmocka_unit_test(dropped_handles_run_on),  cmocka_unit_test(fork_before_first_submit),
        cmocka_unit_test(fork_after_first_submit), cmocka_unit_test(misuse_is_refused),
        cmocka_unit_test(allocations_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
