/* See daemon.h. */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "request.h"
#include "settings.h"

enum { POLL_MS = 20, PATIENCE_MS = 60000, LOG_TAIL = 400 };

struct grv_daemon {
    grv_daemon_fn *fn;
    void *user;
    char *folder, *socket, *log; /* of a started one */
    GPid pid;                    /* 0: none is running */
    guint watch, poll;
    gint64 started_us;
    char *where;
};

grv_daemon *grv_daemon_new(grv_daemon_fn *fn, void *user)
{
    grv_daemon *d = g_new0(grv_daemon, 1);
    d->fn = fn;
    d->user = user;
    return d;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void grv_daemon_free(grv_daemon *d)
{
    if (!d)
        return;
    if (d->watch)
        g_source_remove(d->watch);
    if (d->poll)
        g_source_remove(d->poll);
    if (d->pid) { /* it keeps nothing that must be saved */
        kill(d->pid, SIGKILL);
        waitpid(d->pid, NULL, 0);
    }
    if (d->folder)
        remove_tree(d->folder);
    g_free(d->folder);
    g_free(d->socket);
    g_free(d->log);
    g_free(d->where);
    g_free(d);
}

const char *grv_daemon_where(const grv_daemon *d)
{
    return d->where ? d->where : "";
}

static bool answers(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path)
        return false;
    memcpy(a.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0;
    if (fd >= 0)
        close(fd);
    return yes;
}

static void report(grv_daemon *d, const char *address, const char *where)
{
    g_free(d->where);
    d->where = g_strdup(where);
    d->fn(d->user, address, NULL);
}

static void complain(grv_daemon *d, int code, const char *message)
{
    GError *error = g_error_new_literal(GRV_ERROR, code, message);
    d->fn(d->user, NULL, error);
    g_error_free(error);
}

/* ---- starting one ---- */

static char *find_program(void)
{
    char *named = grv_settings_get("reveried", g_getenv("REVERIE_REVERIED"));
    char *here = grv_settings_here(), *beside = g_build_filename(here, "reveried", NULL),
         *found = NULL;
    const char *places[] = {named, beside, GRV_BINDIR "/reveried"};
    for (size_t i = 0; !found && i < G_N_ELEMENTS(places); i++) {
        if (places[i] && g_file_test(places[i], G_FILE_TEST_IS_EXECUTABLE))
            found = g_strdup(places[i]);
    }
    if (!found)
        found = g_find_program_in_path("reveried");
    g_free(named);
    g_free(here);
    g_free(beside);
    return found;
}

/* Folders of processes that were killed are swept here. */
static void sweep(const char *base)
{
    GDir *dir = g_dir_open(base, 0, NULL);
    for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
        gint64 pid = g_str_has_prefix(name, "gimp-") ? g_ascii_strtoll(name + 5, NULL, 10) : 0;
        if (pid <= 0 || kill((pid_t)pid, 0) == 0 || errno != ESRCH)
            continue;
        char *path = g_build_filename(base, name, NULL);
        remove_tree(path);
        g_free(path);
    }
    if (dir)
        g_dir_close(dir);
}

static void make_folder(grv_daemon *d)
{
    if (d->folder)
        return;
    char *base = g_build_filename(g_get_user_runtime_dir(), "reverie", NULL);
    struct sockaddr_un longest;
    sweep(base);
    d->folder = g_strdup_printf("%s/gimp-%d", base, (int)getpid());
    if (strlen(d->folder) + 8 > sizeof longest.sun_path ||
        g_mkdir_with_parents(d->folder, 0700) != 0) {
        g_free(d->folder);
        d->folder = g_dir_make_tmp("reverie-XXXXXX", NULL);
    }
    d->socket = g_build_filename(d->folder ? d->folder : "/", "s", NULL);
    d->log = g_build_filename(d->folder ? d->folder : "/", "log", NULL);
    g_free(base);
}

static void tie(gpointer parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != GPOINTER_TO_INT(parent))
        _exit(1);
}

/* The last line that the program said, for the message. */
static char *last_words(const grv_daemon *d)
{
    char *text = NULL;
    if (!g_file_get_contents(d->log, &text, NULL, NULL))
        return g_strdup("");
    g_strchomp(text);
    char *line = strrchr(text, '\n'), *valid = g_utf8_make_valid(line ? line + 1 : text, -1);
    if (strlen(valid) > LOG_TAIL)
        valid[g_utf8_find_prev_char(valid, valid + LOG_TAIL) - valid] = '\0';
    g_free(text);
    return valid;
}

static void on_exit_of_child(GPid pid, gint status, gpointer user)
{
    grv_daemon *d = user;
    d->watch = 0;
    d->pid = 0;
    g_spawn_close_pid(pid);
    if (!d->poll)
        return; /* it ran; whoever waits for a task hears it from the broken connection */
    g_source_remove(d->poll);
    d->poll = 0;
    char *words = last_words(d);
    char *message = g_strdup_printf(_("the engine could not be started: %s"), words);
    complain(d, RV_BUSY, message);
    g_free(message);
    g_free(words);
}

static gboolean look(gpointer user)
{
    grv_daemon *d = user;
    bool late = g_get_monotonic_time() - d->started_us > (gint64)PATIENCE_MS * 1000;
    if (!late && !answers(d->socket))
        return G_SOURCE_CONTINUE;
    d->poll = 0;
    char *address = g_strdup_printf("unix:%s", d->socket);
    if (late)
        complain(d, RV_TIMEOUT, _("the engine does not answer"));
    else
        report(d, address, _("engine of this plug-in"));
    g_free(address);
    return G_SOURCE_REMOVE;
}

static GStrv command_line(const grv_daemon *d, char *program)
{
    GStrvBuilder *b = g_strv_builder_new();
    char *state = g_build_filename(d->folder, "state", NULL),
         **folders = grv_settings_model_folders();
    char *threads = grv_settings_get("threads", NULL);
    g_strv_builder_add_many(b, program, "--socket", d->socket, "--state", state, "--grace", "0",
                            "--preview-steps", "1", NULL);
    for (char **f = folders; *f; f++)
        g_strv_builder_add_many(b, "--models", *f, NULL);
    if (threads)
        g_strv_builder_add_many(b, "--threads", threads, NULL);
    const char *executor = g_getenv("REVERIE_EXECUTOR"); /* stub: for tests without a model */
    if (executor)
        g_strv_builder_add_many(b, "--executor", executor, "--stub-ms",
                                g_getenv("REVERIE_STUB_MS") ? g_getenv("REVERIE_STUB_MS") : "0",
                                NULL);
    GStrv argv = g_strv_builder_end(b);
    g_strv_builder_unref(b);
    g_strfreev(folders);
    g_free(threads);
    g_free(state);
    return argv;
}

static void start(grv_daemon *d, char *program)
{
    GError *error = NULL;
    make_folder(d);
    GStrv argv = command_line(d, program);
    int log = d->folder ? open(d->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    bool ok = g_spawn_async_with_fds(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, tie,
                                     GINT_TO_POINTER((int)getpid()), &d->pid, -1, -1, log, &error);
    if (log >= 0)
        close(log);
    g_strfreev(argv);
    if (!ok) {
        d->pid = 0;
        complain(d, RV_BUSY, error->message);
        g_error_free(error);
        return;
    }
    d->started_us = g_get_monotonic_time();
    d->watch = g_child_watch_add(d->pid, on_exit_of_child, d);
    d->poll = g_timeout_add(POLL_MS, look, d);
}

/* ---- finding one ---- */

static char *find_running(void)
{
    char *own = g_build_filename(g_get_user_runtime_dir(), "reverie", "reveried.sock", NULL);
    const char *places[] = {own, "/run/reverie/reveried.sock"};
    char *found = NULL;
    for (size_t i = 0; !found && i < G_N_ELEMENTS(places); i++) {
        if (answers(places[i]))
            found = g_strdup_printf("unix:%s", places[i]);
    }
    g_free(own);
    return found;
}

void grv_daemon_want(grv_daemon *d)
{
    if (d->poll)
        return; /* on its way */
    char *server = grv_settings_get("server", g_getenv("REVERIE_SERVER"));
    char *address = server   ? g_strdup(server)
                    : d->pid ? g_strdup_printf("unix:%s", d->socket)
                             : find_running();
    char *program = address ? NULL : find_program();
    if (address)
        report(d, address, d->pid && !server ? _("engine of this plug-in") : address);
    else if (program)
        start(d, program);
    else
        complain(d, RV_BUSY,
                 _("no engine runs and the program reveried was not found: start it, install it, "
                   "or name a "
                   "server in the settings"));
    g_free(server);
    g_free(address);
    g_free(program);
}
