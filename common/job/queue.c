/* What all back ends of the durable queue share: records, names of tasks, when two tasks are one. */
#include "queue.h"

#include <ctype.h>
#include <string.h>

#include "base/json.h"

enum { ID_MAX = 1024, IDENTITY_MAX = 128 << 20 };

void rv__record_free(rv__record *r)
{
    for (size_t i = 0; r->items && i < r->count; i++)
        rv__free(r->items[i]);
    rv__free(r->items);
    rv__free(r->id);
    rv__free(r->task);
    rv__free(r->results_url);
    rv__free(r->error);
    rv__free(r->warnings);
    rv__free(r->sent);
    *r = (rv__record){0};
}

void rv__post_free(rv__post *p)
{
    rv__free(p->task);
    rv__free(p->kind);
    rv__free(p->target);
    rv__free(p->body);
    rv__free(p->why);
    *p = (rv__post){0};
}

char *rv__queue_text(const char *text, bool *ok)
{
    char *copy = text ? rv__strdup(text) : NULL;
    if (text && !copy)
        *ok = false;
    return copy;
}

char *rv__queue_id(const char *owner, const char *task_uuid)
{
    char *id = rv__format("%.*s/%s", ID_MAX, owner ? owner : "", task_uuid);
    char *uuid = id ? strrchr(id, '/') + 1 : NULL;
    for (; uuid && *uuid; uuid++)
        *uuid = (char)tolower((unsigned char)*uuid);
    return id;
}

/* Members of a task that decide what it is, as text; NULL: out of memory, or no JSON. */
static char *identity(const rv__record *r)
{
    rv__value *v = r->task ? rv__json_parse(r->task, strlen(r->task), NULL) : NULL;
    if (!v)
        return NULL;
    rv__buf b;
    rv__buf_init(&b, IDENTITY_MAX);
    for (const rv__value *m = rv__json_first(v); m; m = rv__json_next(m)) {
        const char *key = rv__json_key(m);
        if (!key) /* a damaged row: it is no object */
            break;
        if (strcmp(key, "taskUUID") == 0 || (r->is_drawn && strcmp(key, "seed") == 0))
            continue;
        rv__json_write_string(&b, key);
        rv__buf_adds(&b, ":");
        rv__json_write_value(&b, m);
        rv__buf_adds(&b, ",");
    }
    rv__json_free(v);
    return rv__buf_take(&b, NULL);
}

rv_status rv__record_same(const rv__record *a, const rv__record *b, bool *same)
{
    *same = false;
    if (a->is_drawn != b->is_drawn)
        return RV_OK;
    char *x = identity(a), *y = identity(b);
    bool ok = x && y;
    *same = ok && strcmp(x, y) == 0;
    rv__free(x);
    rv__free(y);
    return ok ? RV_OK : RV_MEMORY;
}

rv_status rv__queue_open(const char *where, rv__queue **out, rv_error *err)
{
    *out = NULL;
    bool is_url = strncmp(where, "redis://", 8) == 0 || strncmp(where, "valkey://", 9) == 0;
    return is_url ? rv__queue_valkey_open(where, out, err)
                  : rv__queue_sqlite_open(where, out, err);
}

void rv__queue_close(rv__queue *q)
{
    if (q)
        q->kind->close(q);
}
