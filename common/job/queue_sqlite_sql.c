/* The texts of the SQLite back end: its tables and every statement. */
#include "queue_sqlite.h"

/* States are those of rv__stored.  A task's `seq` is its place in the row. */
const char rv__sqlite_schema[] =
    "CREATE TABLE tasks (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " state INTEGER NOT NULL, is_answer INTEGER NOT NULL, is_drawn INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL DEFAULT 0, pictures INTEGER NOT NULL, task TEXT, results_url TEXT,"
    " error TEXT, warnings TEXT, sent TEXT, created INTEGER NOT NULL,"
    " expiry INTEGER NOT NULL DEFAULT 0);"
    "CREATE INDEX tasks_waiting ON tasks (seq) WHERE state = 0;"
    "CREATE INDEX tasks_expiry ON tasks (expiry) WHERE expiry > 0;"
    "CREATE TABLE items (task INTEGER NOT NULL REFERENCES tasks (seq) ON DELETE CASCADE,"
    " place INTEGER NOT NULL, item TEXT NOT NULL, PRIMARY KEY (task, place));"
    "CREATE INDEX items_picture ON items (json_extract(item, '$.imageUUID'));"
    "CREATE TABLE posts (row INTEGER PRIMARY KEY AUTOINCREMENT, task TEXT NOT NULL,"
    " kind TEXT NOT NULL, target TEXT NOT NULL, body TEXT NOT NULL, place INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL DEFAULT 0, due INTEGER NOT NULL, why TEXT,"
    " is_dead INTEGER NOT NULL DEFAULT 0);"
    "CREATE INDEX posts_due ON posts (due) WHERE is_dead = 0;"
    "PRAGMA user_version = 2;";

const char rv__sqlite_from_1[] =
    "ALTER TABLE tasks ADD COLUMN sent TEXT; PRAGMA user_version = 2;";

#define RECORD                                                                                     \
    "seq, id, state, is_answer, is_drawn, attempts, pictures, task, results_url, error, warnings," \
    " created, expiry, sent"
#define RV__TEXT_OF(value) #value
#define RV__TEXT(value) RV__TEXT_OF(value)
#define POST "row, task, kind, target, body, place, attempts, due, why, is_dead"

const char *const rv__sqlite_texts[RV__SQL_STATEMENTS] = {
    [RV__SQL_INSERT] =
        "INSERT INTO tasks (id, state, is_answer, is_drawn, pictures, task, results_url, warnings,"
        " created, expiry) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [RV__SQL_FIND] = "SELECT " RECORD " FROM tasks WHERE id = ?",
    [RV__SQL_ITEMS] = "SELECT place, item FROM items WHERE task = ?",
    [RV__SQL_BEFORE] = "SELECT count(*) FROM tasks WHERE state = 0 AND seq < ?",
    [RV__SQL_PICTURE] = "SELECT item FROM items JOIN tasks ON seq = items.task"
                        " WHERE json_extract(item, '$.imageUUID') = ?1"
                        " AND substr(id, 1, length(?2)) = ?2 AND (expiry = 0 OR expiry >= ?3)",
    [RV__SQL_DELETE] = "DELETE FROM tasks WHERE id = ?",
    [RV__SQL_CLAIM] = "UPDATE tasks SET state = 1, attempts = attempts + 1 WHERE seq ="
                      " (SELECT seq FROM tasks WHERE state = 0 ORDER BY seq LIMIT 1)"
                      " RETURNING " RECORD,
    [RV__SQL_RELEASE] = "UPDATE tasks SET state = 0, attempts = max(attempts - 1, 0)"
                        " WHERE id = ? AND state = 1",
    [RV__SQL_ITEM] = "INSERT OR IGNORE INTO items (task, place, item)"
                     " SELECT seq, ?, ? FROM tasks WHERE id = ? AND state < 2",
    [RV__SQL_SENT] = "UPDATE tasks SET sent = ? WHERE id = ? AND state < 2",
    [RV__SQL_FINISH] = "UPDATE tasks SET state = ?, error = ?,"
                       " warnings = coalesce(warnings || ',' || ?3, warnings, ?3), expiry = ?4"
                       " WHERE id = ?5 AND state < 2",
    [RV__SQL_CANCEL] = "UPDATE tasks SET state = 4, error = ?, expiry = ?"
                       " WHERE id = ? AND state = 0",
    [RV__SQL_EXPIRE_ITEMS] = "DELETE FROM items WHERE task IN"
                             " (SELECT seq FROM tasks WHERE expiry > 0 AND expiry < ?)",
    [RV__SQL_EXPIRE] = "UPDATE tasks SET state = 5, task = NULL, error = NULL, warnings = NULL"
                       " WHERE expiry > 0 AND expiry < ? AND state BETWEEN 2 AND 4"
                       " AND is_answer = 0",
    [RV__SQL_FORGET] = "DELETE FROM tasks WHERE expiry > 0"
                       " AND (expiry < ?2 OR (is_answer = 1 AND expiry < ?1))",
    [RV__SQL_COUNT] = "SELECT count(*) FROM tasks WHERE state = ?",
    [RV__SQL_POST_ADD] = "INSERT INTO posts (task, kind, target, body, place, due)"
                         " VALUES (?, ?, ?, ?, ?, ?)",
    [RV__SQL_POST_DUE] = "SELECT " POST " FROM posts WHERE is_dead = 0"
                         " AND (due <= ?1 OR due > ?1 + " RV__TEXT(RV__POST_FAR_MS) ")"
                         " ORDER BY due, row LIMIT ?2",
    [RV__SQL_POST_HOLD] = "UPDATE posts SET due = ? WHERE row = ?",
    [RV__SQL_POST_DONE] = "DELETE FROM posts WHERE row = ?",
    [RV__SQL_POST_RETRY] = "UPDATE posts SET due = ?, why = ?, attempts = attempts + 1"
                           " WHERE row = ?",
    [RV__SQL_POST_DEAD] = "UPDATE posts SET is_dead = 1, why = ?, attempts = attempts + 1"
                          " WHERE row = ?",
    [RV__SQL_POST_LIST_DEAD] = "SELECT " POST " FROM posts WHERE is_dead = 1 AND row > ?"
                               " ORDER BY row LIMIT ?",
    [RV__SQL_POST_REVIVE] = "UPDATE posts SET is_dead = 0, attempts = 0, due = ?"
                            " WHERE row = ? AND is_dead = 1",
    [RV__SQL_POST_DROP] = "DELETE FROM posts WHERE row = ? AND is_dead = 1",
    [RV__SQL_NOTE] = "UPDATE tasks SET warnings = coalesce(warnings || ',', '') || ?"
                     " WHERE id = ? AND state < 5",
    [RV__SQL_POST_NEXT] = "SELECT coalesce(min(due), 0) FROM posts WHERE is_dead = 0",
};
