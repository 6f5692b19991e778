/* torture [-s SECONDS] [-p POINTS] [SCENE [KIND [N [lasting]]]]: plays each scene while the n-th call of each kind fails, once or
 * from then on, for every n (or as many as fit, evenly spread).  Each play is a process of its own, which must end by
 * itself, keep what it was given for nothing, and play well once nothing fails any more.  Prints TAP. */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "scenes.h"
#include "shim.h"

enum { PATIENCE_S = 60, CLEAN = 0, BROKEN = 3, LEAKED = 4, ILL = 5 };

static const struct {
    const char *name;
    int error;
} kinds[TORTURE_KINDS] = {{"alloc", ENOMEM}, {"read", EIO},   {"write", ENOSPC}, {"map", ENOMEM},
                          {"thread", EAGAIN}, {"sync", EIO}, {"open", EMFILE},  {"send", ECONNRESET}};

static int tests, failures;
static long points_done;

_Noreturn void broken(const char *format, ...)
{
    char text[512];
    va_list args;
    for (int k = 0; k < TORTURE_KINDS; k++)
        atomic_store(&torture->kind[k].countdown, 0);
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    dprintf(1, "# %.*s\n", len < (int)sizeof text ? len : (int)sizeof text - 1, text);
    _exit(BROKEN);
}

static void make_folder(char folder[64])
{
    snprintf(folder, 64, "/tmp/torture-XXXXXX");
    if (!mkdtemp(folder)) {
        perror("torture: a folder");
        exit(2);
    }
}

static void drop_folder(const char *folder)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0)
        fprintf(stderr, "torture: %s stays\n", folder);
}

/* One scene with the n-th call failing (0: none), in this process. */
static int play(const scene *s, torture_kind kind, long n, bool lasting, const char *folder)
{
    void *site = NULL;
    torture_track_begin();
    atomic_store(&torture->own_only, s->own_only);
    atomic_store(&torture->kind[kind].lasting, lasting);
    atomic_store(&torture->kind[kind].error, kinds[kind].error);
    atomic_store(&torture->kind[kind].countdown, n);
    bool ok = s->play(folder);
    atomic_store(&torture->kind[kind].countdown, 0);
    size_t left = torture_track_end(&site);
    if (left && n) {
        Dl_info where = {0};
        dladdr(site, &where);
        dprintf(1, "# %zu blocks are left, one of %s+%#zx\n", left, where.dli_fname ? where.dli_fname : "?",
                (size_t)((char *)site - (char *)where.dli_fbase));
        return LEAKED;
    }
    if (!n && !ok)
        return ILL;
    char fresh[128];
    snprintf(fresh, sizeof fresh, "%s/fresh", folder);
    return n && (mkdir(fresh, 0700) != 0 || !s->play(fresh)) ? ILL : CLEAN;
}

/* The same in a child; its exit status, or minus the signal that ended it. */
static int play_apart(const scene *s, torture_kind kind, long n, bool lasting)
{
    char folder[64];
    int status = 0;
    make_folder(folder);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE_S);
        _exit(play(s, kind, n, lasting, folder));
    }
    if (child < 0 || waitpid(child, &status, 0) < 0)
        status = W_EXITCODE(2, 0);
    drop_folder(folder);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void note(const scene *s, torture_kind kind, long n, bool lasting, int status)
{
    static const char *const words[] = {"", "", "could not be played", "a promise was broken", "memory leaked",
                                        "does not play well afterwards"};
    const char *how = status == -SIGALRM ? "hung" : status < 0 ? "crashed" : words[status < 6 ? status : 2];
    printf("# %s: %s when %s %ld fails%s (status %d)\n", s->name, how, kinds[kind].name, n,
           lasting ? " and all after it" : "", status);
}

/* How many calls of each kind the scene makes when all is well. */
static bool count_calls(const scene *s, long calls[TORTURE_KINDS])
{
    char folder[64];
    make_folder(folder);
    for (int round = 0; round < 2; round++) { /* the first fills what is made once */
        for (int k = 0; k < TORTURE_KINDS; k++)
            atomic_store(&torture->kind[k].calls, 0);
        int status = play(s, TORTURE_ALLOC, 0, false, folder);
        if (status != CLEAN) {
            note(s, TORTURE_ALLOC, 0, false, status);
            drop_folder(folder);
            return false;
        }
        drop_folder(folder);
        mkdir(folder, 0700);
    }
    for (int k = 0; k < TORTURE_KINDS; k++)
        calls[k] = (long)atomic_load(&torture->kind[k].calls);
    drop_folder(folder);
    return true;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Every point, or as many as `most` and the time allow; those left out lie between those taken. */
static void sweep(const scene *s, torture_kind kind, long calls, long most, double until)
{
    long taken = 0, bad = 0, step = calls > most ? (calls + most - 1) / most : 1;
    for (int lasting = 0; lasting < 2; lasting++) {
        for (long n = 1 + (lasting ? step / 2 : 0); n <= calls && (now() < until || taken < 4); n += step) {
            int status = play_apart(s, kind, n, lasting);
            taken++;
            if (status != CLEAN && bad++ < 10)
                note(s, kind, n, lasting, status);
        }
    }
    points_done += taken;
    failures += bad > 0;
    printf("%s %d - %s %s (%ld points of %ld calls)\n", bad ? "not ok" : "ok", ++tests, s->name, kinds[kind].name,
           taken, calls);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    double seconds = 1e9;
    long most = 1L << 40;
    for (int c; (c = getopt(argc, argv, "s:p:")) != -1;) {
        if (c == 's')
            seconds = strtod(optarg, NULL);
        else if (c == 'p')
            most = strtol(optarg, NULL, 10);
        else
            return 2;
    }
    const char *name = optind < argc ? argv[optind] : NULL, *kind = optind + 1 < argc ? argv[optind + 1] : NULL;
    long only = optind + 2 < argc ? strtol(argv[optind + 2], NULL, 10) : 0;
    setenv("OMP_NUM_THREADS", "1", 1); /* threads do not survive fork */
    size_t scenes = 0, at = 0;
    for (size_t i = 0; i < torture_scene_count; i++)
        scenes += !name || !strcmp(torture_scenes[i].name, name);
    double begin = now();
    for (size_t i = 0; i < torture_scene_count; i++) {
        const scene *s = &torture_scenes[i];
        long calls[TORTURE_KINDS];
        if (name && strcmp(s->name, name))
            continue;
        double until = begin + seconds * (double)++at / (double)scenes;
        if (!count_calls(s, calls)) {
            printf("not ok %d - %s without failures\n", ++tests, s->name);
            failures++;
            continue;
        }
        for (int k = 0; k < TORTURE_KINDS; k++) {
            if (!calls[k] || (kind && strcmp(kinds[k].name, kind)))
                continue;
            if (only) {
                bool lasting = optind + 3 < argc;
                int status = play_apart(s, k, only, lasting);
                note(s, k, only, lasting, status);
            } else {
                double left = until - now();
                sweep(s, k, calls[k], most, k == TORTURE_ALLOC ? now() + left * 0.7 : until);
            }
        }
    }
    printf("1..%d\n# %ld points in %.0f s\n", tests, points_done, now() - begin);
    return failures ? 1 : 0;
}
