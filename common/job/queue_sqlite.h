/* The inside of the SQLite back end, shared by its files only. */
#ifndef RV_QUEUE_SQLITE_H
#define RV_QUEUE_SQLITE_H

#include <sqlite3.h>

#include "job/queue.h"

/* Statements that are prepared once, on first use; the texts are in queue_sqlite_sql.c. */
typedef enum rv__sql {
    RV__SQL_INSERT,
    RV__SQL_FIND,
    RV__SQL_ITEMS,
    RV__SQL_BEFORE,
    RV__SQL_PICTURE,
    RV__SQL_DELETE,
    RV__SQL_CLAIM,
    RV__SQL_RELEASE,
    RV__SQL_ITEM,
    RV__SQL_SENT,
    RV__SQL_FINISH,
    RV__SQL_CANCEL,
    RV__SQL_EXPIRE_ITEMS,
    RV__SQL_EXPIRE,
    RV__SQL_FORGET,
    RV__SQL_COUNT,
    RV__SQL_POST_ADD,
    RV__SQL_POST_DUE,
    RV__SQL_POST_HOLD,
    RV__SQL_POST_DONE,
    RV__SQL_POST_RETRY,
    RV__SQL_POST_DEAD,
    RV__SQL_POST_LIST_DEAD,
    RV__SQL_POST_NEXT,
    RV__SQL_POST_REVIVE,
    RV__SQL_POST_DROP,
    RV__SQL_NOTE,
    RV__SQL_STATEMENTS
} rv__sql;

typedef struct rv__sqlite {
    rv__queue queue; /* first: a queue is its back end */
    sqlite3 *db;
    char *path;
    sqlite3_stmt *statements[RV__SQL_STATEMENTS];
    int64_t waiting; /* tasks; -1: count again */
} rv__sqlite;

extern const char *const rv__sqlite_texts[RV__SQL_STATEMENTS];
extern const char rv__sqlite_schema[];
extern const char rv__sqlite_from_1[]; /* what files of version 1 lack */

/* What the last failure of the database means; never RV_OK. */
rv_status rv__sqlite_fail(rv__sqlite *s, rv_error *err);

/* A statement ready to bind; NULL: see rv__sqlite_fail. */
sqlite3_stmt *rv__sqlite_get(rv__sqlite *s, rv__sql which);

/* Binds a text that is borrowed until the statement is reset; NULL is NULL. */
void rv__sqlite_bind(sqlite3_stmt *st, int at, const char *text);

/* Runs a statement that returns nothing and resets it. */
rv_status rv__sqlite_run(rv__sqlite *s, sqlite3_stmt *st, rv_error *err);

/* A text column (out; rv__free); NULL is NULL; *ok becomes false when there is no memory. */
char *rv__sqlite_column(sqlite3_stmt *st, int at, bool *ok);

/* queue_sqlite_posts.c */
rv_status rv__sqlite_post_add(rv__sqlite *s, const char *id, const rv__post *posts, size_t count,
                              rv_error *err);
rv_status rv__sqlite_post_put(rv__queue *q, const char *id, const rv__post *posts, size_t count,
                              rv_error *err);
rv_status rv__sqlite_post_revive(rv__queue *q, int64_t row, int64_t due_ms, bool *found,
                                 rv_error *err);
rv_status rv__sqlite_post_drop(rv__queue *q, int64_t row, bool *found, rv_error *err);
rv_status rv__sqlite_post_due(rv__queue *q, int64_t now_ms, int64_t hold_ms, rv__post *out,
                              size_t max, size_t *count, rv_error *err);
rv_status rv__sqlite_post_done(rv__queue *q, int64_t row, rv_error *err);
rv_status rv__sqlite_post_retry(rv__queue *q, int64_t row, int64_t due_ms, const char *why,
                                rv_error *err);
rv_status rv__sqlite_post_dead(rv__queue *q, int64_t row, const char *why, rv_error *err);
rv_status rv__sqlite_post_list_dead(rv__queue *q, int64_t after, rv__post *out, size_t max,
                                    size_t *count, rv_error *err);
rv_status rv__sqlite_post_next(rv__queue *q, int64_t *due_ms, rv_error *err);

#endif
