/* Parses server-sent events incrementally.  Lines end with LF, CR LF or CR; comments and unknown
 * fields are skipped. */
#include "sse.h"

#include <stdio.h>
#include <string.h>

void rv__sse_init(rv__sse *s, size_t max_event)
{
    memset(s, 0, sizeof *s);
    rv__buf_init(&s->line, max_event);
    rv__buf_init(&s->data, max_event);
}

void rv__sse_free(rv__sse *s)
{
    rv__buf_free(&s->line);
    rv__buf_free(&s->data);
}

/* Empties a buffer but keeps its memory: the next event is often as long. */
static void clear(rv__buf *b)
{
    b->len = 0;
    if (b->data)
        *b->data = '\0';
}

static bool dispatch(rv__sse *s, rv__sse_fn *event, void *user)
{
    bool go_on = true;
    if (s->has_data)
        go_on = event(user, *s->name ? s->name : "message", s->data.data, s->data.len);
    clear(&s->data);
    s->has_data = false;
    *s->name = '\0';
    return go_on;
}

static void field(rv__sse *s, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    size_t name = colon ? (size_t)(colon - line) : len;
    const char *value = colon ? colon + 1 : line + len;
    if (colon && value < line + len && *value == ' ')
        value++;
    size_t size = (size_t)(line + len - value);
    if (name == 4 && memcmp(line, "data", 4) == 0) {
        if (s->has_data)
            rv__buf_adds(&s->data, "\n");
        rv__buf_add(&s->data, value, size);
        s->has_data = true;
    } else if (name == 5 && memcmp(line, "event", 5) == 0) {
        snprintf(s->name, sizeof s->name, "%.*s",
                 (int)(size < sizeof s->name ? size : sizeof s->name), value);
    }
}

static bool end_line(rv__sse *s, rv__sse_fn *event, void *user)
{
    if (!s->line.len)
        return dispatch(s, event, user);
    field(s, s->line.data, s->line.len);
    clear(&s->line);
    return !s->data.failed;
}

/* First line end in the text, or its end. */
static size_t line_length(const char *bytes, size_t len)
{
    const char *lf = memchr(bytes, '\n', len);
    size_t n = lf ? (size_t)(lf - bytes) : len;
    const char *cr = memchr(bytes, '\r', n);
    return cr ? (size_t)(cr - bytes) : n;
}

bool rv__sse_feed(rv__sse *s, const char *bytes, size_t len, rv__sse_fn *event, void *user)
{
    while (len) {
        if (s->after_cr && *bytes == '\n') {
            bytes++;
            len--;
        }
        s->after_cr = false;
        if (!len)
            break;
        size_t n = line_length(bytes, len);
        rv__buf_add(&s->line, bytes, n);
        if (s->line.failed)
            return false;
        if (n == len)
            break;
        s->after_cr = bytes[n] == '\r';
        bytes += n + 1;
        len -= n + 1;
        if (!end_line(s, event, user))
            return false;
    }
    return true;
}
