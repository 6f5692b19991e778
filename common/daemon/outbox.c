/* What the daemon could not deliver, for its operator: GET /outbox lists dead webhooks and uploads,
 * POST /outbox/N sends one again, DELETE /outbox/N forgets it ("all" means all of them).  Targets
 * are shown without their queries, bodies not at all. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "daemon/server.h"
#include "job/context.h"

enum { PAGE = 100, TEXT_MAX = 1 << 20 };

typedef enum verb { LIST, REVIVE, DROP } verb;

/* One request; freed when the desk and the connection are both done with it. */
struct rv__errand {
    rv__op op; /* first */
    rv__errand *next;
    rv__server *server;
    struct MHD_Connection *connection;
    verb verb;
    int64_t row; /* to be changed, 0: all; or after which the list begins */
    rv__post posts[PAGE];
    size_t count, changed;
    bool is_at_desk, is_gone, is_suspended;
    rv_status status;
    rv_error error;
};

static void forget_posts(rv__errand *e)
{
    for (size_t i = 0; i < e->count; i++)
        rv__post_free(&e->posts[i]);
    e->count = 0;
}

static void release(rv__errand *e)
{
    if (e->is_at_desk || !e->is_gone)
        return;
    for (rv__errand **at = &e->server->errands; *at; at = &(*at)->next) {
        if (*at == e) {
            *at = e->next;
            break;
        }
    }
    forget_posts(e);
    rv__free(e);
}

/* ---- at the desk ---- */

static rv_status change(rv__errand *e, rv__queue *q, int64_t row, rv_error *err)
{
    bool found = false;
    int64_t now_ms = (int64_t)time(NULL) * 1000;
    rv_status s = e->verb == REVIVE ? q->kind->post_revive(q, row, now_ms, &found, err)
                                    : q->kind->post_drop(q, row, &found, err);
    e->changed += found;
    return s;
}

static rv_status change_all(rv__errand *e, rv__queue *q, rv_error *err)
{
    rv_status s = RV_OK;
    int64_t after = 0;
    do {
        forget_posts(e);
        s = q->kind->post_list_dead(q, after, e->posts, PAGE, &e->count, err);
        for (size_t i = 0; i < e->count && s == RV_OK; i++) {
            after = e->posts[i].row;
            s = change(e, q, after, err);
        }
    } while (s == RV_OK && e->count);
    return s;
}

static rv_status work(rv__op *op, rv__queue *q, rv_error *err)
{
    rv__errand *e = (rv__errand *)op;
    e->changed = 0;
    forget_posts(e);
    if (e->verb == LIST)
        return q->kind->post_list_dead(q, e->row, e->posts, PAGE, &e->count, err);
    return e->row ? change(e, q, e->row, err) : change_all(e, q, err);
}

static void done(rv__op *op, rv_status status, const rv_error *err)
{
    rv__errand *e = (rv__errand *)op;
    e->is_at_desk = false;
    e->status = status;
    if (status != RV_OK)
        e->error = *err;
    if (e->is_suspended)
        MHD_resume_connection(e->connection);
    e->is_suspended = false;
    release(e);
}

/* ---- answers ---- */

static void write_text(rv__buf *b, const char *key, const char *text)
{
    rv__buf_addf(b, ",\"%s\":", key);
    rv__json_write_string(b, text ? text : "");
}

static void write_post(rv__buf *b, const rv__post *p)
{
    const char *slash = strrchr(p->task, '/');
    char *target = rv__guard_log_form(p->target);
    rv__buf_addf(b, "{\"row\":%" PRId64, p->row);
    write_text(b, "kind", p->kind);
    write_text(b, "taskUUID", slash ? slash + 1 : p->task);
    if (p->index >= 0)
        rv__buf_addf(b, ",\"index\":%" PRId64, p->index);
    write_text(b, "target", target);
    rv__buf_addf(b, ",\"attempts\":%d", p->attempts);
    write_text(b, "why", p->why);
    rv__buf_adds(b, "}");
    rv__free(target);
}

static enum MHD_Result answer(rv__errand *e)
{
    if (e->status != RV_OK)
        return rv__respond_error(e->connection, rv_status_http(e->status), e->error.code,
                                 e->error.message);
    if (e->verb != LIST && e->row && !e->changed)
        return rv__respond_error(e->connection, 404, "postNotFound", "there is no such dead post");
    rv__buf b;
    rv__buf_init(&b, TEXT_MAX);
    if (e->verb == LIST) {
        rv__buf_adds(&b, "{\"dead\":[");
        for (size_t i = 0; i < e->count; i++) {
            rv__buf_adds(&b, i ? "," : "");
            write_post(&b, &e->posts[i]);
        }
        rv__buf_addf(&b, "],\"more\":%s}", e->count == PAGE ? "true" : "false");
    } else {
        rv__buf_addf(&b, "{\"%s\":%zu}", e->verb == REVIVE ? "revived" : "dropped", e->changed);
    }
    size_t len = 0;
    char *text = rv__buf_take(&b, &len);
    enum MHD_Result result = text ? rv__respond_owned(e->connection, 200, text, len) : MHD_NO;
    return result;
}

/* ---- requests ---- */

static bool read_number(const char *text, int64_t *out)
{
    size_t digits = strspn(text, "0123456789");
    *out = strtoll(text, NULL, 10);
    return digits && digits < 19 && !text[digits] && *out > 0;
}

/* NULL: what it wants cannot be understood, or there is no memory. */
static rv__errand *errand_new(rv__server *s, struct MHD_Connection *c, const char *path,
                              const char *method)
{
    rv__errand *e = rv__calloc(1, sizeof *e);
    if (!e)
        return NULL;
    const char *after = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "after");
    const char *name = *path == '/' ? path + 1 : "";
    bool is_all = strcmp(name, "all") == 0, ok;
    if (strcmp(method, "GET") == 0) {
        e->verb = LIST;
        ok = !*path && (!after || read_number(after, &e->row));
    } else {
        e->verb = strcmp(method, "POST") == 0 ? REVIVE : DROP;
        ok = (e->verb == REVIVE || strcmp(method, "DELETE") == 0) &&
             (is_all || read_number(name, &e->row));
    }
    if (!ok) {
        rv__free(e);
        return NULL;
    }
    e->server = s;
    e->connection = c;
    e->op.work = work;
    e->op.done = done;
    e->next = s->errands;
    s->errands = e;
    return e;
}

enum MHD_Result rv__outbox_handle(rv__server *s, struct MHD_Connection *c, const char *path,
                                  const char *method, void **state)
{
    for (rv__errand *e = s->errands; e; e = e->next) {
        if (e == *state)
            return answer(e);
    }
    rv__errand *e = s->r->desk ? errand_new(s, c, path, method) : NULL;
    if (!e)
        return rv__respond_error(c, 400, "invalidRequestBody",
                                 "there are GET /outbox[?after=N], POST /outbox/N|all and DELETE "
                                 "/outbox/N|all");
    *state = e;
    e->is_at_desk = e->is_suspended = true;
    MHD_suspend_connection(c);
    rv__desk_post(s->r->desk, &e->op);
    return MHD_YES;
}

void rv__outbox_completed(rv__server *s, void *state)
{
    for (rv__errand *e = s->errands; e; e = e->next) {
        if (e != state)
            continue;
        e->is_gone = true;
        release(e);
        return;
    }
}

void rv__outbox_drop(rv__server *s)
{
    for (rv__errand *e = s->errands; e; e = e->next) {
        e->status = RV_BUSY;
        rv__fail(&e->error, RV_BUSY, "the process is stopping");
        if (e->is_suspended)
            MHD_resume_connection(e->connection);
        e->is_suspended = false;
    }
}
