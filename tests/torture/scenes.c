/* Requests, pictures, stored files, the queue, jobs and calls, weights and the engine, each as one small life. */
#include "scenes.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/tokenizer.h"
#include "engine/weights_write.h"
#include "job/queue.h"
#include "job/store.h"
#include "reverie.h"

#define DEMO SOURCE_ROOT "/config/models/reverie-demo.gguf"
#define TINY SOURCE_ROOT "/tests/golden/tiny-hidream"
#define TASK                                                                                                    \
    "\"taskType\":\"imageInference\",\"model\":\"runware:97@3\",\"positivePrompt\":\"a fox\",\"width\":128,"    \
    "\"height\":128,\"steps\":2,\"taskUUID\":\"00000000-0000-4000-8000-00000000000"

/* ---- a context with the stub ---- */

static rv *open_stub(const char *folder)
{
    rv *r;
    char results[512];
    snprintf(results, sizeof results, "%s/results", folder);
    if (rv_open(&r) != RV_OK)
        return NULL;
    if (rv_set(r, "models", SOURCE_ROOT "/config/models", NULL) == RV_OK &&
        rv_set(r, "executor", "stub", NULL) == RV_OK && rv_set(r, "results_dir", results, NULL) == RV_OK &&
        rv_set(r, "results_url", "http://h/", NULL) == RV_OK)
        return r;
    rv_close(r);
    return NULL;
}

static bool requests(const char *folder)
{
    static const char *const bodies[] = {
        "[{" TASK "1\",\"numberResults\":2},{" TASK "1\",\"width\":1001,\"colour\":\"red\",\"lora\":[{}]}]",
        "[{" TASK "2\",\"seedImage\":\"x\",\"strength\":2,\"scheduler\":\"Eular\",\"outputFormat\":\"png\"}]",
        "{\"taskType\":\"getResponse\"}", "[{\"a\":[1,2,{\"b\":1e999}]}", "[[[]]]"};
    rv *r = open_stub(folder);
    bool ok = r != NULL;
    for (size_t i = 0; r && i < sizeof bodies / sizeof *bodies; i++) {
        rv_batch *b = rv_batch_parse(r, bodies[i], strlen(bodies[i]));
        char *issues = b ? rv_batch_issues_json(b) : NULL;
        if (b && i && !rv_batch_issues(b, NULL))
            broken("a bad request passes");
        ok = ok && issues;
        rv_free(issues);
        rv_batch_unref(b);
    }
    char *schema = r ? rv_schema_json(r, "runware:97@3") : NULL, *models = r ? rv_models_json(r) : NULL;
    ok = ok && schema && models;
    rv_free(schema);
    rv_free(models);
    rv_close(r);
    return ok;
}

/* ---- pictures ---- */

static bool through(rv_image *image, const char *format)
{
    void *bytes = NULL;
    size_t len;
    rv_error err;
    rv_image *again = NULL, *half = NULL;
    bool ok = rv_image_encode(image, format, 80, &bytes, &len, &err) == RV_OK &&
              rv_image_from_bytes(bytes, len, &again, &err) == RV_OK && rv_image_pixels(again) &&
              rv_image_resize(again, 20, 30, &half) == RV_OK;
    if (ok && (rv_image_facts(again).width != 64 || rv_image_facts(half).height != 30))
        broken("%s: another size came back", format);
    if (ok && !strcmp(format, "PNG") && memcmp(rv_image_pixels(again), rv_image_pixels(image), 64 * 48 * 3) != 0)
        broken("a PNG file has other pixels");
    rv_free(bytes);
    rv_image_unref(again);
    rv_image_unref(half);
    return ok;
}

static bool saved_whole(rv_image *image, const char *path)
{
    rv_error err;
    rv_status status = rv_image_save(image, path, &err);
    FILE *f = fopen(path, "rb");
    if (status != RV_OK && f)
        broken("%s is there although it was not written", path);
    if (f)
        fclose(f);
    remove(path);
    return status == RV_OK;
}

static bool pictures(const char *folder)
{
    uint8_t pixels[64 * 48 * 3];
    char path[512];
    rv_image *image = NULL;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 7 % 251);
    bool ok = rv_image_from_pixels(pixels, 64, 48, 3, &image) == RV_OK;
    ok = ok && through(image, "PNG") && through(image, "JPG") && through(image, "WEBP");
    snprintf(path, sizeof path, "%s/saved.png", folder);
    ok = image && saved_whole(image, path) && ok;
    rv_image_unref(image);
    return ok;
}

static bool store(const char *folder)
{
    rv__store *s = NULL;
    rv_error err;
    char name[RV__STORE_NAME], path[512], *bytes = NULL;
    size_t len;
    snprintf(path, sizeof path, "%s/store", folder);
    if (rv__store_open(path, &s, &err) != RV_OK)
        return false;
    bool ok = rv__store_put(s, "picture", 7, "png", time(NULL) + 1000, name, &err) == RV_OK;
    ok = ok && rv__store_read(s, name, 100, &bytes, &len, &err) == RV_OK;
    if (ok && (len != 7 || memcmp(bytes, "picture", 7) != 0))
        broken("another file came back");
    rv__free(bytes);
    ok = rv__store_sweep(s, time(NULL) + 10000) == 1 && ok;
    rv__store_close(s);
    return ok;
}

/* ---- the queue: what was committed is there when it is opened anew ---- */

static bool change(rv__queue *q, int step, rv__verdict *verdict)
{
    rv_error err;
    rv__record task = {.id = "/a", .task = "{\"seed\":7}", .count = 1, .created = 1000}, claimed = {0};
    rv__post post = {.task = "/a", .kind = "webhook", .target = "http://h/", .body = "{}", .due_ms = 1};
    if (q->kind->begin(q, true, &err) != RV_OK)
        return false;
    rv_status status = RV_OK;
    if (step == 0)
        status = q->kind->submit(q, &task, 10, verdict, &err);
    if (step == 1)
        status = q->kind->claim(q, &claimed, &err);
    if (step == 2)
        status = q->kind->item(q, "/a", 0, "{\"i\":0}", &post, 1, &err);
    if (step == 3)
        status = q->kind->finish(q, "/a", RV__DONE, NULL, NULL, 0, NULL, 0, &err);
    bool ok = status == RV_OK && (step != 1 || claimed.id);
    if (!ok)
        q->kind->rollback(q);
    else if (q->kind->commit(q, &err) != RV_OK)
        ok = false;
    rv__record_free(&claimed);
    return ok;
}

/* How far it came, as the file tells. */
static int stage(rv__queue *q)
{
    rv__record r;
    rv_error err;
    int stage = -1;
    if (q->kind->begin(q, false, &err) != RV_OK)
        return -1;
    if (q->kind->find(q, "/a", &r, &err) == RV_OK) {
        stage = !r.id ? 0 : r.state == RV__DONE ? 4 : r.items && r.items[0] ? 3 : r.state == RV__RUNNING ? 2 : 1;
        rv__record_free(&r);
    }
    q->kind->rollback(q);
    return stage;
}

static bool queue(const char *folder)
{
    rv__queue *q = NULL;
    rv_error err;
    rv__verdict verdict;
    char path[512];
    int done = 0;
    snprintf(path, sizeof path, "%s/queue.db", folder);
    if (rv__queue_open(path, &q, &err) != RV_OK)
        return false;
    while (done < 4 && change(q, done, &verdict))
        done++;
    int now = stage(q);
    if (now >= 0 && (now < done || now > done + 1)) /* a commit may fail and have happened all the same */
        broken("committed up to %d, but the queue says %d", done, now);
    rv__queue_close(q);
    q = NULL;
    if (rv__queue_open(path, &q, &err) == RV_OK) {
        now = stage(q);
        if (now == 1 && done == 2)
            now = 2; /* what ran waits again */
        if (now >= 0 && now < done)
            broken("committed up to %d, but opened anew it says %d", done, now);
    }
    rv__queue_close(q);
    return done == 4 && now == 4;
}

/* ---- jobs and calls ---- */

typedef struct ending {
    int ends, images;
    rv_state state;
} ending;

static void see(void *user, rv_job *job, const rv_event *e)
{
    ending *s = user;
    if (s->ends)
        broken("an event after the end");
    s->images += e->kind == RV_EVENT_IMAGE;
    if (e->kind == RV_EVENT_END) {
        s->ends++;
        s->state = rv_job_state(job);
        if (s->state == RV_FAILED && !(rv_job_error(job) && *rv_job_error(job)->message))
            broken("a job failed without a word");
    }
}

static bool run_job(rv *r, const char *body, ending *seen)
{
    rv_sink sink = {see, seen};
    rv_job *j = NULL;
    rv_batch *b = rv_batch_parse(r, body, strlen(body));
    rv_task *t = b ? rv_batch_task(b, 0) : NULL;
    bool ok = t && rv_submit(r, t, &sink, &j) == RV_OK;
    if (ok && rv_wait(r, j, 20000) != RV_OK)
        broken("a job does not end");
    if (ok && seen->ends != 1)
        broken("%d ends", seen->ends);
    rv_job_unref(j);
    rv_batch_unref(b);
    return ok && seen->state == RV_DONE;
}

static bool jobs(const char *folder)
{
    rv *r = open_stub(folder);
    ending seen = {0};
    bool ok = r && run_job(r, "[{" TASK "1\",\"numberResults\":2}]", &seen);
    if (ok && seen.images != 2)
        broken("done with %d pictures", seen.images);
    rv_close(r);
    return ok;
}

static void done(void *user, rv_call *call)
{
    (void)call;
    ++*(int *)user;
}

/* The HTTP status of a body's reply; 0: no memory for the call. */
static int ask(rv *r, const char *body, int openai)
{
    int ended = 0;
    rv_openai_options o = {.kind = RV_OPENAI_GENERATIONS, .call = {.done = done, .user = &ended}};
    rv_call *c = openai ? rv_openai_begin(r, body, strlen(body), &o) : rv_call_begin(r, body, strlen(body), &o.call);
    if (!c)
        return 0;
    struct pollfd p = {rv_fd(r), POLLIN, 0};
    for (int i = 0; !rv_call_reply(c); i++) {
        rv_dispatch(r);
        if (!rv_call_reply(c))
            poll(&p, 1, 10); /* a tenth of a wake-up that is lost for want of a descriptor */
        if (i > 2000)
            broken("a call does not end");
    }
    const rv_reply *reply = rv_call_reply(c);
    int status = reply->http_status;
    if (status < 200 || status > 599 || (reply->len && !reply->body))
        broken("no reply");
    rv_call_free(c);
    return status;
}

static bool calls(const char *folder)
{
    rv *r = open_stub(folder);
    bool ok = r && ask(r, "[{" TASK "1\",\"numberResults\":2},{" TASK "2\",\"outputType\":\"base64Data\"}]", 0) == 200;
    ok = r && ask(r, "{\"prompt\":\"a fox\",\"size\":\"256x256\",\"n\":2,\"response_format\":\"b64_json\"}", 1) == 200 && ok;
    rv_close(r);
    return ok;
}

/* Tasks that are acknowledged are there, with their result, for whoever opens the store next. */
static bool stored(const char *folder)
{
    char path[512];
    rv *r = open_stub(folder);
    int accepted = 0;
    snprintf(path, sizeof path, "%s/tasks.db", folder);
    bool ok = r && rv_set(r, "store", path, NULL) == RV_OK;
    if (ok) {
        accepted = ask(r, "[{" TASK "3\",\"deliveryMethod\":\"async\"}]", 0);
        ok = accepted == 200;
        for (int i = 0; ok && i < 3; i++)
            ok = ask(r, "[{\"taskType\":\"getResponse\",\"taskUUID\":\"00000000-0000-4000-8000-000000000003\"}]", 0) == 200;
    }
    rv_close(r);
    FILE *f = accepted == 200 ? fopen(path, "rb") : NULL;
    if (accepted == 200 && !f && errno == ENOENT)
        broken("acknowledged, but nothing is stored");
    if (f)
        fclose(f);
    return ok;
}

/* ---- weights and the engine ---- */

static void written(void *user, const char *part, const rv__tensor *t, enum ggml_type to, size_t bytes)
{
    ++*(int *)user;
}

static bool weights(const char *folder)
{
    rv__weights *w = NULL, *again = NULL;
    rv__tokenizer *t = NULL;
    rv__token_ids ids = {0};
    rv_error err;
    char path[512];
    int tensors = 0;
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    bool ok = rv__weights_open(DEMO, &w, &err) == RV_OK;
    ok = ok && rv__tokenizer_open(w, "tokenizer", &t, &err) == RV_OK &&
         rv__tokenizer_encode(t, "a red house", 11, 0, &ids, &err) == RV_OK;
    rv__token_ids_free(&ids);
    rv__tokenizer_close(t);
    rv__weights_close(w);
    if (rv__weights_open(TINY, &w, &err) != RV_OK)
        return false;
    rv_status status = rv__weights_write(w, path, GGML_TYPE_F16, 2, written, &tensors, &err);
    FILE *f = fopen(path, "rb");
    if (status != RV_OK && f)
        broken("%s is there although it was not written", path);
    if (f)
        fclose(f);
    ok = status == RV_OK && rv__weights_open(path, &again, &err) == RV_OK && ok;
    rv__weights_close(again);
    rv__weights_close(w);
    remove(path);
    return ok;
}

static bool engine(const char *folder)
{
    static const char body[] =
        "[{\"taskType\":\"imageInference\",\"model\":\"local:tiny-hidream@1\",\"positivePrompt\":\"a fox\","
        "\"width\":128,\"height\":128,\"steps\":1,\"seed\":5,"
        "\"taskUUID\":\"00000000-0000-4000-8000-000000000004\"}]";
    rv *r;
    ending seen = {0};
    (void)folder;
    if (rv_open(&r) != RV_OK)
        return false;
    bool ok = rv_set(r, "model", TINY, NULL) == RV_OK && rv_set(r, "threads", "1", NULL) == RV_OK &&
              run_job(r, body, &seen);
    rv_close(r);
    return ok;
}

const scene torture_scenes[] = {
    {"requests", requests, false}, {"pictures", pictures, false}, {"store", store, false},
    {"queue", queue, false},       {"jobs", jobs, false},         {"calls", calls, false},
    {"stored", stored, false},     {"weights", weights, true},    {"engine", engine, true},
};
const size_t torture_scene_count = sizeof torture_scenes / sizeof *torture_scenes;
