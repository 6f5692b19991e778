/* What the tests of jobs, calls and events share: a context with the stub, and requests made from
 * few words. */
#ifndef JOB_FIXTURE_H
#define JOB_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "reverie.h"

static inline rv *open_stub(const char *stub_ms)
{
    char models[4096];
    const char *root = getenv("SOURCE_ROOT");
    snprintf(models, sizeof models, "%s/config/models", root ? root : ".");
    rv *r = NULL;
    assert_int_equal(rv_open(&r), RV_OK);
    rv_error err;
    if (rv_set(r, "models", models, &err) != RV_OK)
        fail_msg("%s", err.message);
    assert_int_equal(rv_set(r, "executor", "stub", NULL), RV_OK);
    assert_int_equal(rv_set(r, "stub_ms", stub_ms, NULL), RV_OK);
    return r;
}

/* A context whose tasks go to a daemon. */
static inline rv *open_client(const char *address)
{
    rv *r = open_stub("0");
    rv_set(r, "executor", "auto", NULL);
    assert_int_equal(rv_set(r, "daemon", address, NULL), RV_OK);
    return r;
}

/* A body of one small task; n distinguishes the taskUUIDs, more is appended inside the object. */
static inline char *body_text(int n, const char *prompt, const char *more)
{
    char *text = NULL;
    int rc = asprintf(
        &text,
        "[{\"taskType\":\"imageInference\",\"taskUUID\":\"00000000-0000-4000-8000-%012d\","
        "\"model\":\"runware:97@3\",\"positivePrompt\":\"%s\",\"width\":128,\"height\":128,"
        "\"seed\":7,\"steps\":4%s}]",
        n, prompt, more);
    assert_true(rc > 0);
    return text;
}

static inline rv_batch *batch_of(rv *r, int n, const char *prompt, const char *more)
{
    char *text = body_text(n, prompt, more);
    rv_batch *b = rv_batch_parse(r, text, strlen(text));
    free(text);
    assert_non_null(b);
    const rv_issue *list;
    if (rv_batch_issues(b, &list))
        fail_msg("%s", list->message);
    return b;
}

/* What a sink saw. */
typedef struct seen {
    int queued, started, steps, images, ends, after_end;
    int last_step;
    rv_state state;
    rv_status status;
} seen;

static inline void see(void *user, rv_job *job, const rv_event *e)
{
    seen *s = user;
    s->after_end += s->ends > 0;
    s->queued += e->kind == RV_EVENT_QUEUED;
    s->started += e->kind == RV_EVENT_STARTED;
    s->images += e->kind == RV_EVENT_IMAGE;
    if (e->kind == RV_EVENT_STEP) {
        s->steps++;
        s->last_step = e->step;
    }
    if (e->kind == RV_EVENT_END) {
        s->ends++;
        s->state = rv_job_state(job);
        s->status = rv_job_error(job) ? rv_job_error(job)->status : RV_OK;
    }
}

static inline rv_job *submit(rv *r, rv_batch *b, seen *s)
{
    rv_sink sink = {see, s};
    rv_job *j = NULL;
    assert_int_equal(rv_submit(r, rv_batch_task(b, 0), s ? &sink : NULL, &j), RV_OK);
    return j;
}

#endif
