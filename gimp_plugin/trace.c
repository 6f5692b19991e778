/* See trace.h. */
#include "trace.h"

#include <fcntl.h>
#include <libgimp/gimp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

enum { BEAT_MS = 2, ASK_MS = 40 };

static int file_of_trace(void)
{
    static int fd = -2;
    const char *path = g_getenv("REVERIE_TRACE");
    if (fd == -2)
        fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    return fd;
}

void grv_trace(const char *format, ...)
{
    if (file_of_trace() < 0)
        return;
    va_list args;
    va_start(args, format);
    char *text = g_strdup_vprintf(format, args);
    va_end(args);
    char *line = g_strdup_printf("%.3f %s\n", (double)g_get_monotonic_time() / 1000, text);
    for (const char *c = line; *c;) { /* one line in one call: other processes write here too */
        ssize_t n = write(file_of_trace(), c, strlen(c));
        if (n <= 0)
            break;
        c += n;
    }
    g_free(line);
    g_free(text);
}

static gint64 last_beat; /* microseconds; 0: none yet */

/* How long GIMP takes for a question that needs no work. */
static gboolean ask(gpointer user)
{
    gint64 before = g_get_monotonic_time();
    gimp_image_id_is_valid(1);
    grv_trace("answer %.1f", (double)(g_get_monotonic_time() - before) / 1000);
    last_beat = g_get_monotonic_time(); /* this wait is no gap of the plug-in's own */
    return G_SOURCE_CONTINUE;
}

static gboolean beat(gpointer user)
{
    static gint64 longest;
    gint64 now = g_get_monotonic_time(), gap = now - last_beat;
    if (last_beat && gap > longest) {
        longest = gap;
        grv_trace("gap %.1f", (double)(gap - BEAT_MS * 1000) / 1000);
    }
    last_beat = now;
    return G_SOURCE_CONTINUE;
}

void grv_trace_watch_loop(void)
{
    if (file_of_trace() < 0)
        return;
    g_timeout_add_full(G_PRIORITY_HIGH, BEAT_MS, beat, NULL, NULL);
    if (g_getenv("REVERIE_TRACE_ANSWERS"))
        g_timeout_add_full(G_PRIORITY_HIGH, ASK_MS, ask, NULL, NULL);
}
