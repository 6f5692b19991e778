/* The durable queue in one SQLite file.  This process has the file for itself: the write-ahead log
 * survives its death at any moment, and what must outlive the machine's is synced. */
#include "queue_sqlite.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

enum {
    VERSION = 2,
    CHECK_MAX = 64 << 20,   /* a file that is larger is not read through at the start */
    RESERVE = 16 << 20,     /* bytes of the disk that new tasks leave alone           */
    REMEMBER_S = 7 * 86400, /* how long it is known that results expired              */
    BUSY_MS = 2000          /* a predecessor that is being killed may hold the file   */
};

/* ---- helpers ---- */

static rv_status disk_full(rv_error *err)
{
    rv_status status = rv__fail_code(err, RV_BUSY, "insufficientStorage", NULL,
                                     "the disk of the queue is full; try again later");
    if (err)
        err->retry_after_ms = 30000;
    return status;
}

rv_status rv__sqlite_fail(rv__sqlite *s, rv_error *err)
{
    int code = sqlite3_errcode(s->db) & 0xff, why = sqlite3_system_errno(s->db);
    bool is_full = why == ENOSPC || why == EDQUOT || why == EFBIG;
    if (code == SQLITE_FULL || (code == SQLITE_IOERR && is_full))
        return disk_full(err);
    if (code == SQLITE_NOMEM)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        return rv__fail(err, RV_IO, "%s is damaged or not a queue (%s); restore it or move it away",
                        s->path, sqlite3_errmsg(s->db));
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
        return rv__fail(err, RV_IO, "%s is in use by another process", s->path);
    return rv__fail(err, RV_IO, "%s: %s", s->path, sqlite3_errmsg(s->db));
}

sqlite3_stmt *rv__sqlite_get(rv__sqlite *s, rv__sql which)
{
    sqlite3_stmt **st = &s->statements[which];
    if (!*st)
        sqlite3_prepare_v3(s->db, rv__sqlite_texts[which], -1, SQLITE_PREPARE_PERSISTENT, st, NULL);
    return *st;
}

void rv__sqlite_bind(sqlite3_stmt *st, int at, const char *text)
{
    sqlite3_bind_text64(st, at, text, text ? strlen(text) : 0, SQLITE_STATIC, SQLITE_UTF8);
}

rv_status rv__sqlite_run(rv__sqlite *s, sqlite3_stmt *st, rv_error *err)
{
    int rc = sqlite3_step(st);
    rv_status status = rc == SQLITE_DONE || rc == SQLITE_ROW ? RV_OK : rv__sqlite_fail(s, err);
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return status;
}

char *rv__sqlite_column(sqlite3_stmt *st, int at, bool *ok)
{
    if (sqlite3_column_type(st, at) == SQLITE_NULL)
        return NULL;
    const char *text = (const char *)sqlite3_column_text(st, at);
    char *copy = text ? rv__strndup(text, (size_t)sqlite3_column_bytes(st, at)) : NULL;
    if (!copy)
        *ok = false;
    return copy;
}

static rv_status exec(rv__sqlite *s, const char *sql, rv_error *err)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? RV_OK
                                                                   : rv__sqlite_fail(s, err);
}

/* A statement about one task: its id is bound at the place. */
static rv_status about(rv__sqlite *s, rv__sql which, int at, const char *id, sqlite3_stmt **out,
                       rv_error *err)
{
    *out = rv__sqlite_get(s, which);
    if (!*out)
        return rv__sqlite_fail(s, err);
    rv__sqlite_bind(*out, at, id);
    return RV_OK;
}

/* ---- reading ---- */

static rv_status read_items(rv__sqlite *s, int64_t seq, rv__record *r, rv_error *err)
{
    sqlite3_stmt *st = rv__sqlite_get(s, RV__SQL_ITEMS);
    r->items = rv__calloc(r->count, sizeof *r->items);
    if (!r->items)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (!st)
        return rv__sqlite_fail(s, err);
    sqlite3_bind_int64(st, 1, seq);
    bool ok = true;
    int rc = sqlite3_step(st);
    for (; ok && rc == SQLITE_ROW; rc = sqlite3_step(st)) {
        int64_t place = sqlite3_column_int64(st, 0);
        if (place >= 0 && (size_t)place < r->count)
            r->items[place] = rv__sqlite_column(st, 1, &ok);
    }
    rv_status status = !ok                 ? rv__fail(err, RV_MEMORY, "out of memory")
                       : rc != SQLITE_DONE ? rv__sqlite_fail(s, err)
                                           : RV_OK;
    sqlite3_reset(st);
    return status;
}

static rv_status read_before(rv__sqlite *s, int64_t seq, rv__record *r, rv_error *err)
{
    sqlite3_stmt *st = rv__sqlite_get(s, RV__SQL_BEFORE);
    if (!st)
        return rv__sqlite_fail(s, err);
    sqlite3_bind_int64(st, 1, seq);
    bool found = sqlite3_step(st) == SQLITE_ROW;
    r->before = found ? sqlite3_column_int64(st, 0) : 0;
    rv_status status = found ? RV_OK : rv__sqlite_fail(s, err);
    sqlite3_reset(st);
    return status;
}

/* The task a statement with the columns of a record finds; out->id stays NULL when none. */
static rv_status read_record(rv__sqlite *s, sqlite3_stmt *st, rv__record *out, rv_error *err)
{
    *out = (rv__record){0};
    int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW) {
        rv_status status = rc == SQLITE_DONE ? RV_OK : rv__sqlite_fail(s, err);
        sqlite3_reset(st);
        return status;
    }
    bool ok = true;
    int64_t seq = sqlite3_column_int64(st, 0);
    *out = (rv__record){.id = rv__sqlite_column(st, 1, &ok),
                        .state = (rv__stored)sqlite3_column_int(st, 2),
                        .is_answer = sqlite3_column_int(st, 3) != 0,
                        .is_drawn = sqlite3_column_int(st, 4) != 0,
                        .attempts = sqlite3_column_int(st, 5),
                        .count = (size_t)sqlite3_column_int64(st, 6),
                        .task = rv__sqlite_column(st, 7, &ok),
                        .results_url = rv__sqlite_column(st, 8, &ok),
                        .error = rv__sqlite_column(st, 9, &ok),
                        .warnings = rv__sqlite_column(st, 10, &ok),
                        .created = sqlite3_column_int64(st, 11),
                        .expiry = sqlite3_column_int64(st, 12),
                        .sent = rv__sqlite_column(st, 13, &ok)};
    while (sqlite3_step(st) == SQLITE_ROW)
        continue; /* an UPDATE is complete only after its last row */
    sqlite3_reset(st);
    rv_status status = ok ? read_items(s, seq, out, err) : rv__fail(err, RV_MEMORY, "out of memory");
    if (status == RV_OK && out->state == RV__WAITING)
        status = read_before(s, seq, out, err);
    if (status != RV_OK)
        rv__record_free(out);
    return status;
}

static rv_status sqlite_find(rv__queue *q, const char *id, rv__record *out, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    sqlite3_stmt *st;
    *out = (rv__record){0};
    rv_status status = about(s, RV__SQL_FIND, 1, id, &st, err);
    if (status == RV_OK)
        status = read_record(s, st, out, err);
    if (status == RV_OK && out->id && out->expiry && out->expiry < time(NULL)) {
        if (out->is_answer)
            rv__record_free(out);
        else
            out->state = RV__EXPIRED; /* the sweep comes later */
    }
    return status;
}

static rv_status count(rv__sqlite *s, rv__stored state, int64_t *n, rv_error *err)
{
    sqlite3_stmt *st = rv__sqlite_get(s, RV__SQL_COUNT);
    if (!st)
        return rv__sqlite_fail(s, err);
    sqlite3_bind_int(st, 1, (int)state);
    bool found = sqlite3_step(st) == SQLITE_ROW;
    *n = found ? sqlite3_column_int64(st, 0) : 0;
    rv_status status = found ? RV_OK : rv__sqlite_fail(s, err);
    sqlite3_reset(st);
    return status;
}

static rv_status sqlite_counts(rv__queue *q, int64_t *waiting, int64_t *running, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    rv_status status = RV_OK;
    if (s->waiting < 0)
        status = count(s, RV__WAITING, &s->waiting, err);
    *waiting = s->waiting;
    return status == RV_OK ? count(s, RV__RUNNING, running, err) : status;
}

/* ---- writing ---- */

static rv_status insert(rv__sqlite *s, const rv__record *r, rv__stored state, bool is_answer,
                        rv_error *err)
{
    sqlite3_stmt *st;
    rv_status status = about(s, RV__SQL_INSERT, 1, r->id, &st, err);
    if (status != RV_OK)
        return status;
    sqlite3_bind_int(st, 2, (int)state);
    sqlite3_bind_int(st, 3, is_answer);
    sqlite3_bind_int(st, 4, r->is_drawn);
    sqlite3_bind_int64(st, 5, (int64_t)r->count);
    rv__sqlite_bind(st, 6, r->task);
    rv__sqlite_bind(st, 7, r->results_url);
    rv__sqlite_bind(st, 8, r->warnings);
    sqlite3_bind_int64(st, 9, r->created);
    sqlite3_bind_int64(st, 10, r->expiry);
    return rv__sqlite_run(s, st, err);
}

static rv_status delete_task(rv__sqlite *s, const char *id, rv_error *err)
{
    sqlite3_stmt *st;
    rv_status status = about(s, RV__SQL_DELETE, 1, id, &st, err);
    return status == RV_OK ? rv__sqlite_run(s, st, err) : status;
}

/* New tasks are refused while the disk still has room for what those before them will need. */
static bool has_room(const rv__sqlite *s, const rv__record *r)
{
    struct statvfs disk;
    if (statvfs(s->path, &disk) != 0)
        return true;
    uint64_t needed = RESERVE + 2 * (uint64_t)strlen(r->task) + ((uint64_t)r->count << 20);
    return (uint64_t)disk.f_bavail * disk.f_frsize >= needed;
}

static rv_status check_room(rv__sqlite *s, const rv__record *task, int64_t backlog, rv_error *err)
{
    int64_t waiting, running;
    rv_status status = sqlite_counts(&s->queue, &waiting, &running, err);
    if (status == RV_OK && waiting >= backlog) {
        status = rv__fail(err, RV_RATE_LIMIT, "%lld tasks wait already", (long long)waiting);
        if (err)
            err->retry_after_ms = 10000;
    }
    return status == RV_OK && !has_room(s, task) ? disk_full(err) : status;
}

static rv_status sqlite_submit(rv__queue *q, const rv__record *task, int64_t backlog,
                               rv__verdict *verdict, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    rv__record known;
    *verdict = RV__NEW;
    rv_status status = sqlite_find(q, task->id, &known, err);
    if (status != RV_OK)
        return status;
    bool same = false;
    if (known.id && known.state != RV__EXPIRED) {
        if (rv__record_same(task, &known, &same) != RV_OK)
            status = rv__fail(err, RV_MEMORY, "out of memory");
        *verdict = same ? RV__SAME : known.is_answer ? RV__NEW : RV__OTHER;
    }
    rv__record_free(&known);
    if (status != RV_OK || *verdict != RV__NEW)
        return status;
    status = check_room(s, task, backlog, err);
    if (status == RV_OK)
        status = delete_task(s, task->id, err);
    if (status == RV_OK)
        status = insert(s, task, RV__WAITING, false, err);
    if (status == RV_OK) {
        s->waiting++;
        q->poked = true;
    }
    return status;
}

static rv_status sqlite_item(rv__queue *q, const char *id, size_t index, const char *item,
                             const rv__post *posts, size_t post_count, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    sqlite3_stmt *st;
    rv_status status = about(s, RV__SQL_ITEM, 3, id, &st, err);
    if (status != RV_OK)
        return status;
    sqlite3_bind_int64(st, 1, (int64_t)index);
    rv__sqlite_bind(st, 2, item);
    status = rv__sqlite_run(s, st, err);
    bool is_new = sqlite3_changes(s->db) > 0;
    return status == RV_OK && is_new ? rv__sqlite_post_add(s, id, posts, post_count, err) : status;
}

static rv_status sqlite_sent(rv__queue *q, const char *id, const char *note, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    sqlite3_stmt *st;
    rv_status status = about(s, RV__SQL_SENT, 2, id, &st, err);
    if (status != RV_OK)
        return status;
    rv__sqlite_bind(st, 1, note);
    return rv__sqlite_run(s, st, err);
}

static rv_status sqlite_keep_answer(rv__queue *q, const rv__record *answer, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    rv__record known;
    rv_status status = sqlite_find(q, answer->id, &known, err);
    if (status != RV_OK)
        return status;
    bool is_task = known.id && !known.is_answer && known.state != RV__EXPIRED;
    rv__record_free(&known);
    if (is_task)
        return RV_OK;
    status = delete_task(s, answer->id, err);
    if (status == RV_OK) /* running for a moment, so that items may be added */
        status = insert(s, answer, RV__RUNNING, true, err);
    for (size_t i = 0; status == RV_OK && i < answer->count; i++)
        status = sqlite_item(q, answer->id, i, answer->items[i], NULL, 0, err);
    return status == RV_OK ? q->kind->finish(q, answer->id, RV__DONE, NULL, answer->warnings,
                                             answer->expiry, NULL, 0, err)
                           : status;
}

static rv_status sqlite_claim(rv__queue *q, rv__record *out, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    *out = (rv__record){0};
    sqlite3_stmt *st = rv__sqlite_get(s, RV__SQL_CLAIM);
    if (!st)
        return rv__sqlite_fail(s, err);
    rv_status status = read_record(s, st, out, err);
    if (status == RV_OK && out->id)
        s->waiting = s->waiting > 0 ? s->waiting - 1 : -1;
    return status;
}

static rv_status sqlite_release(rv__queue *q, const char *id, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    sqlite3_stmt *st;
    rv_status status = about(s, RV__SQL_RELEASE, 1, id, &st, err);
    s->waiting = -1;
    q->poked = true;
    return status == RV_OK ? rv__sqlite_run(s, st, err) : status;
}

static rv_status sqlite_finish(rv__queue *q, const char *id, rv__stored state, const char *error,
                               const char *warnings, int64_t expiry, const rv__post *posts,
                               size_t post_count, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    sqlite3_stmt *st;
    rv_status status = about(s, RV__SQL_FINISH, 5, id, &st, err);
    if (status != RV_OK)
        return status;
    sqlite3_bind_int(st, 1, (int)state);
    rv__sqlite_bind(st, 2, error);
    rv__sqlite_bind(st, 3, warnings);
    sqlite3_bind_int64(st, 4, expiry);
    status = rv__sqlite_run(s, st, err);
    bool is_end = sqlite3_changes(s->db) > 0;
    return status == RV_OK && is_end ? rv__sqlite_post_add(s, id, posts, post_count, err) : status;
}

static rv_status sqlite_note(rv__queue *q, const char *id, const char *error, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    sqlite3_stmt *st;
    rv_status status = about(s, RV__SQL_NOTE, 2, id, &st, err);
    if (status != RV_OK)
        return status;
    rv__sqlite_bind(st, 1, error);
    return rv__sqlite_run(s, st, err);
}

static rv_status sqlite_cancel(rv__queue *q, const char *id, const char *error, int64_t expiry,
                               rv__stored *was, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    rv__record known;
    sqlite3_stmt *st;
    rv_status status = sqlite_find(q, id, &known, err);
    if (status != RV_OK)
        return status;
    *was = known.id ? known.state : RV__EXPIRED;
    rv__record_free(&known);
    if (*was != RV__WAITING)
        return RV_OK;
    status = about(s, RV__SQL_CANCEL, 3, id, &st, err);
    if (status != RV_OK)
        return status;
    rv__sqlite_bind(st, 1, error);
    sqlite3_bind_int64(st, 2, expiry);
    s->waiting = -1;
    return rv__sqlite_run(s, st, err);
}

static rv_status sqlite_picture(rv__queue *q, const char *id, char **item, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    const char *uuid = strrchr(id, '/') + 1;
    bool ok = true;
    *item = NULL;
    sqlite3_stmt *st = rv__sqlite_get(s, RV__SQL_PICTURE);
    if (!st)
        return rv__sqlite_fail(s, err);
    rv__sqlite_bind(st, 1, uuid);
    sqlite3_bind_text(st, 2, id, (int)(uuid - id), SQLITE_STATIC);
    sqlite3_bind_int64(st, 3, time(NULL));
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *item = rv__sqlite_column(st, 0, &ok);
    rv_status status = !ok                                     ? rv__fail(err, RV_MEMORY, "out of memory")
                       : rc == SQLITE_ROW || rc == SQLITE_DONE ? RV_OK
                                                               : rv__sqlite_fail(s, err);
    sqlite3_reset(st);
    return status;
}

static rv_status sqlite_sweep(rv__queue *q, int64_t now, size_t *removed, rv_error *err)
{
    static const rv__sql steps[] = {RV__SQL_EXPIRE_ITEMS, RV__SQL_EXPIRE, RV__SQL_FORGET};
    rv__sqlite *s = (rv__sqlite *)q;
    *removed = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        sqlite3_stmt *st = rv__sqlite_get(s, steps[i]);
        if (!st)
            return rv__sqlite_fail(s, err);
        sqlite3_bind_int64(st, 1, now);
        if (steps[i] == RV__SQL_FORGET)
            sqlite3_bind_int64(st, 2, now - REMEMBER_S);
        rv_status status = rv__sqlite_run(s, st, err);
        if (status != RV_OK)
            return status;
        if (steps[i] == RV__SQL_EXPIRE)
            *removed = (size_t)sqlite3_changes(s->db);
    }
    return RV_OK;
}

/* ---- transactions ---- */

static void sqlite_rollback(rv__queue *q)
{
    rv__sqlite *s = (rv__sqlite *)q;
    if (!sqlite3_get_autocommit(s->db))
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    s->waiting = -1;
}

static rv_status sqlite_begin(rv__queue *q, bool lasting, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    if (!sqlite3_get_autocommit(s->db)) /* there was no memory for the last rollback */
        sqlite_rollback(q);
    rv_status status =
        exec(s, lasting ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", err);
    return status == RV_OK ? exec(s, "BEGIN IMMEDIATE", err) : status;
}

static rv_status sqlite_commit(rv__queue *q, rv_error *err)
{
    return exec((rv__sqlite *)q, "COMMIT", err);
}

/* ---- opening ---- */

static void sqlite_close(rv__queue *q)
{
    rv__sqlite *s = (rv__sqlite *)q;
    for (size_t i = 0; i < RV__SQL_STATEMENTS; i++)
        sqlite3_finalize(s->statements[i]);
    sqlite3_close(s->db);
    rv__free(s->path);
    rv__free(s);
}

/* One number that a statement returns first; -1 when there is none. */
static int64_t ask(rv__sqlite *s, const char *sql)
{
    sqlite3_stmt *st = NULL;
    int64_t n = -1;
    if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
        n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return n;
}

static rv_status check_whole(rv__sqlite *s, rv_error *err)
{
    int64_t pages = ask(s, "PRAGMA page_count"), size = ask(s, "PRAGMA page_size");
    if (pages < 0 || size < 0)
        return rv__sqlite_fail(s, err);
    if (pages * size > CHECK_MAX)
        return RV_OK;
    sqlite3_stmt *st = NULL;
    rv_status status = RV_OK;
    if (sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &st, NULL) != SQLITE_OK ||
        sqlite3_step(st) != SQLITE_ROW)
        status = rv__sqlite_fail(s, err);
    else if (strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0)
        status = rv__fail(err, RV_IO, "%s is damaged (%s); restore it or move it away", s->path,
                          (const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
    return status;
}

/* Makes the tables of a new file; refuses those of a later version. */
static rv_status prepare(rv__sqlite *s, rv_error *err)
{
    rv_status status = exec(s,
                            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                            "PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 67108864;"
                            "BEGIN EXCLUSIVE",
                            err);
    if (status != RV_OK)
        return status;
    int64_t version = ask(s, "PRAGMA user_version");
    if (version < 0)
        status = rv__sqlite_fail(s, err);
    else if (version > VERSION)
        status = rv__fail(err, RV_IO, "%s was written by a later version (%lld) of this program",
                          s->path, (long long)version);
    else if (version == 0)
        status = exec(s, rv__sqlite_schema, err);
    else
        status = check_whole(s, err);
    if (status == RV_OK && version == 1)
        status = exec(s, rv__sqlite_from_1, err);
    if (status == RV_OK)
        status = exec(s, "UPDATE tasks SET state = 0 WHERE state = 1; COMMIT", err);
    return status;
}

rv_status rv__queue_sqlite_open(const char *path, rv__queue **out, rv_error *err)
{
    static const rv__queue_kind kind = {.name = "sqlite",
                                        .close = sqlite_close,
                                        .begin = sqlite_begin,
                                        .commit = sqlite_commit,
                                        .rollback = sqlite_rollback,
                                        .submit = sqlite_submit,
                                        .find = sqlite_find,
                                        .keep_answer = sqlite_keep_answer,
                                        .claim = sqlite_claim,
                                        .release = sqlite_release,
                                        .item = sqlite_item,
                                        .sent = sqlite_sent,
                                        .finish = sqlite_finish,
                                        .cancel = sqlite_cancel,
                                        .picture = sqlite_picture,
                                        .sweep = sqlite_sweep,
                                        .counts = sqlite_counts,
                                        .note = sqlite_note,
                                        .post_add = rv__sqlite_post_put,
                                        .post_revive = rv__sqlite_post_revive,
                                        .post_drop = rv__sqlite_post_drop,
                                        .post_due = rv__sqlite_post_due,
                                        .post_done = rv__sqlite_post_done,
                                        .post_retry = rv__sqlite_post_retry,
                                        .post_dead = rv__sqlite_post_dead,
                                        .post_list_dead = rv__sqlite_post_list_dead,
                                        .post_next = rv__sqlite_post_next};
    *out = NULL;
    rv__sqlite *s = rv__calloc(1, sizeof *s);
    char *copy = s ? rv__strdup(path) : NULL;
    if (!copy) {
        rv__free(s);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    s->queue.kind = &kind;
    s->path = copy;
    s->waiting = -1;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    rv_status status = sqlite3_open_v2(path, &s->db, flags, NULL) == SQLITE_OK
                           ? RV_OK
                           : rv__sqlite_fail(s, err);
    if (status == RV_OK) {
        sqlite3_busy_timeout(s->db, BUSY_MS);
        status = prepare(s, err);
    }
    if (status != RV_OK) {
        sqlite_close(&s->queue);
        return status;
    }
    *out = &s->queue;
    return RV_OK;
}
