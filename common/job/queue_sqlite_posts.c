/* Posts in SQLite: rows that wait until they were sent, or were given up. */
#include "queue_sqlite.h"

rv_status rv__sqlite_post_add(rv__sqlite *s, const char *id, const rv__post *posts, size_t count,
                              rv_error *err)
{
    for (size_t i = 0; i < count; i++) {
        sqlite3_stmt *st = rv__sqlite_get(s, RV__SQL_POST_ADD);
        if (!st)
            return rv__sqlite_fail(s, err);
        rv__sqlite_bind(st, 1, id);
        rv__sqlite_bind(st, 2, posts[i].kind);
        rv__sqlite_bind(st, 3, posts[i].target);
        rv__sqlite_bind(st, 4, posts[i].body);
        sqlite3_bind_int64(st, 5, posts[i].index);
        sqlite3_bind_int64(st, 6, posts[i].due_ms);
        rv_status status = rv__sqlite_run(s, st, err);
        if (status != RV_OK)
            return status;
        s->queue.poked = true;
    }
    return RV_OK;
}

rv_status rv__sqlite_post_put(rv__queue *q, const char *id, const rv__post *posts, size_t count,
                              rv_error *err)
{
    return rv__sqlite_post_add((rv__sqlite *)q, id, posts, count, err);
}

static bool read_post(sqlite3_stmt *st, rv__post *p)
{
    bool ok = true;
    *p = (rv__post){.row = sqlite3_column_int64(st, 0),
                    .task = rv__sqlite_column(st, 1, &ok),
                    .kind = rv__sqlite_column(st, 2, &ok),
                    .target = rv__sqlite_column(st, 3, &ok),
                    .body = rv__sqlite_column(st, 4, &ok),
                    .index = sqlite3_column_int64(st, 5),
                    .attempts = sqlite3_column_int(st, 6),
                    .due_ms = sqlite3_column_int64(st, 7),
                    .why = rv__sqlite_column(st, 8, &ok),
                    .is_dead = sqlite3_column_int(st, 9) != 0};
    return ok;
}

/* Posts that a statement with two numbers finds. */
static rv_status list(rv__sqlite *s, rv__sql which, int64_t from, rv__post *out, size_t max,
                      size_t *count, rv_error *err)
{
    *count = 0;
    sqlite3_stmt *st = rv__sqlite_get(s, which);
    if (!st)
        return rv__sqlite_fail(s, err);
    sqlite3_bind_int64(st, 1, from);
    sqlite3_bind_int64(st, 2, (int64_t)max);
    bool ok = true;
    int rc = sqlite3_step(st);
    for (; ok && rc == SQLITE_ROW && *count < max; rc = sqlite3_step(st))
        ok = read_post(st, &out[(*count)++]);
    rv_status status = !ok                                     ? rv__fail(err, RV_MEMORY, "out of memory")
                       : rc != SQLITE_DONE && rc != SQLITE_ROW ? rv__sqlite_fail(s, err)
                                                               : RV_OK;
    sqlite3_reset(st);
    for (; status != RV_OK && *count; --*count)
        rv__post_free(&out[*count - 1]);
    return status;
}

/* Runs a statement about one post: number, text and row, each where its place is not 0. */
static rv_status change(rv__queue *q, rv__sql which, int number_at, int64_t number, int text_at,
                        const char *text, int row_at, int64_t row, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    sqlite3_stmt *st = rv__sqlite_get(s, which);
    if (!st)
        return rv__sqlite_fail(s, err);
    if (number_at)
        sqlite3_bind_int64(st, number_at, number);
    if (text_at)
        rv__sqlite_bind(st, text_at, text);
    sqlite3_bind_int64(st, row_at, row);
    return rv__sqlite_run(s, st, err);
}

rv_status rv__sqlite_post_due(rv__queue *q, int64_t now_ms, int64_t hold_ms, rv__post *out,
                              size_t max, size_t *count, rv_error *err)
{
    rv_status status = list((rv__sqlite *)q, RV__SQL_POST_DUE, now_ms, out, max, count, err);
    for (size_t i = 0; status == RV_OK && i < *count; i++)
        status = change(q, RV__SQL_POST_HOLD, 1, now_ms + hold_ms, 0, NULL, 2, out[i].row, err);
    for (; status != RV_OK && *count; --*count)
        rv__post_free(&out[*count - 1]);
    return status;
}

rv_status rv__sqlite_post_done(rv__queue *q, int64_t row, rv_error *err)
{
    return change(q, RV__SQL_POST_DONE, 0, 0, 0, NULL, 1, row, err);
}

rv_status rv__sqlite_post_retry(rv__queue *q, int64_t row, int64_t due_ms, const char *why,
                                rv_error *err)
{
    return change(q, RV__SQL_POST_RETRY, 1, due_ms, 2, why, 3, row, err);
}

rv_status rv__sqlite_post_dead(rv__queue *q, int64_t row, const char *why, rv_error *err)
{
    return change(q, RV__SQL_POST_DEAD, 0, 0, 1, why, 2, row, err);
}

rv_status rv__sqlite_post_revive(rv__queue *q, int64_t row, int64_t due_ms, bool *found,
                                 rv_error *err)
{
    rv_status status = change(q, RV__SQL_POST_REVIVE, 1, due_ms, 0, NULL, 2, row, err);
    *found = status == RV_OK && sqlite3_changes(((rv__sqlite *)q)->db) > 0;
    q->poked |= *found;
    return status;
}

rv_status rv__sqlite_post_drop(rv__queue *q, int64_t row, bool *found, rv_error *err)
{
    rv_status status = change(q, RV__SQL_POST_DROP, 0, 0, 0, NULL, 1, row, err);
    *found = status == RV_OK && sqlite3_changes(((rv__sqlite *)q)->db) > 0;
    return status;
}

rv_status rv__sqlite_post_list_dead(rv__queue *q, int64_t after, rv__post *out, size_t max,
                                    size_t *count, rv_error *err)
{
    return list((rv__sqlite *)q, RV__SQL_POST_LIST_DEAD, after, out, max, count, err);
}

rv_status rv__sqlite_post_next(rv__queue *q, int64_t *due_ms, rv_error *err)
{
    rv__sqlite *s = (rv__sqlite *)q;
    sqlite3_stmt *st = rv__sqlite_get(s, RV__SQL_POST_NEXT);
    if (!st || sqlite3_step(st) != SQLITE_ROW)
        return rv__sqlite_fail(s, err);
    *due_ms = sqlite3_column_int64(st, 0);
    sqlite3_reset(st);
    return RV_OK;
}
