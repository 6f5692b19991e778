/* See unfinished.h.  One small file per process beside the settings, named after it. */
#include "unfinished.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <unistd.h>

#include "settings.h"

#define PREFIX "painting-"

static char *path_of(const char *name)
{
    return g_build_filename(grv_settings_folder(), name, NULL);
}

void grv_unfinished_set(guint count)
{
    static guint before;
    if (count == before)
        return;
    before = count;
    char *name = g_strdup_printf(PREFIX "%d", (int)getpid()), *path = path_of(name);
    char *text = g_strdup_printf("%u\n", count);
    if (count)
        g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL);
    else
        g_remove(path);
    g_free(text);
    g_free(path);
    g_free(name);
}

guint grv_unfinished_take(void)
{
    guint sum = 0;
    GDir *dir = g_dir_open(grv_settings_folder(), 0, NULL);
    for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
        gint64 pid = g_str_has_prefix(name, PREFIX)
                         ? g_ascii_strtoll(name + sizeof PREFIX - 1, NULL, 10)
                         : 0;
        if (pid <= 0 || (pid != getpid() && (kill((pid_t)pid, 0) == 0 || errno != ESRCH)))
            continue;
        char *path = path_of(name), *text = NULL;
        if (g_file_get_contents(path, &text, NULL, NULL))
            sum += (guint)CLAMP(g_ascii_strtoll(text, NULL, 10), 0, 1000);
        g_remove(path);
        g_free(text);
        g_free(path);
    }
    if (dir)
        g_dir_close(dir);
    return sum;
}
