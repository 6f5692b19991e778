/* See memo.h.  A note is {"service":…,"url":…,"ids":[…],"open":…}. */
#include "remote/memo.h"

#include <string.h>

#include "base/json.h"

enum { NOTE_MAX = 1 << 16 };

static bool is_about(const rv__value *note, const char *service, const char *url)
{
    return strcmp(rv__json_get_string(note, "service", ""), service) == 0 &&
           strcmp(rv__json_get_string(note, "url", ""), url) == 0;
}

bool rv__memo_is_about(const char *note, const char *service, const char *url)
{
    rv__value *v = rv__json_parse(note, strlen(note), NULL);
    bool yes = v && is_about(v, service, url);
    rv__json_free(v);
    return yes;
}

static void add_id(rv__memo *m, const char *id)
{
    if (m->ids.len)
        rv__buf_adds(&m->ids, ",");
    rv__json_write_string(&m->ids, id);
}

rv_status rv__memo_open(rv__memo *m, rv__port *port, const char *service, const char *url,
                        rv_error *err)
{
    *m = (rv__memo){.port = port, .service = service, .url = url};
    rv__buf_init(&m->ids, NOTE_MAX);
    if (!port->earlier)
        return RV_OK;
    m->earlier = rv__json_parse(port->earlier, strlen(port->earlier), NULL);
    if (!m->earlier)
        return rv__fail(err, RV_MEMORY, "out of memory");
    m->next_id = rv__json_first(rv__json_get(m->earlier, "ids"));
    for (const rv__value *v = m->next_id; v; v = rv__json_next(v))
        add_id(m, rv__json_string(v) ? rv__json_string(v) : "");
    m->is_open = rv__json_get_bool(m->earlier, "open", true);
    m->is_kept = true;
    return RV_OK;
}

void rv__memo_close(rv__memo *m)
{
    rv__json_free(m->earlier);
    rv__buf_free(&m->ids);
}

const char *rv__memo_next(rv__memo *m)
{
    const rv__value *v = m->next_id;
    m->next_id = v ? rv__json_next(v) : NULL;
    return v ? rv__json_string(v) : NULL;
}

static bool keep(rv__memo *m)
{
    rv__buf b;
    rv__buf_init(&b, NOTE_MAX);
    rv__buf_adds(&b, "{\"service\":");
    rv__json_write_string(&b, m->service);
    rv__buf_adds(&b, ",\"url\":");
    rv__json_write_string(&b, m->url);
    rv__buf_addf(&b, ",\"ids\":[%.*s],\"open\":%s}", (int)m->ids.len,
                 m->ids.len ? m->ids.data : "", m->is_open ? "true" : "false");
    char *text = m->ids.failed ? NULL : rv__buf_take(&b, NULL);
    bool ok = text && (!m->port->note || m->port->note(m->port, text));
    rv__buf_free(&b);
    rv__free(text);
    m->is_kept |= ok;
    return ok;
}

bool rv__memo_send(rv__memo *m)
{
    if (m->is_open && m->is_kept)
        return true; /* a repeat */
    m->is_open = true;
    return keep(m);
}

void rv__memo_take(rv__memo *m, const char *id)
{
    add_id(m, id);
    m->is_open = false;
    keep(m); /* without it the next process ends the task with an error: nothing is paid twice */
}

void rv__memo_drop(rv__memo *m)
{
    if (m->is_kept && m->port->note)
        m->port->note(m->port, NULL);
    m->is_kept = false;
}
