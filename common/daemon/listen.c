/* Unix socket and service manager.  Replacing a stale socket is done under a lock file, so that two
 * daemons that start at once cannot take each other's path away. */
#include "listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"

enum { FIRST_INHERITED = 3, BACKLOG = 256 };

/* LISTEN_PID and LISTEN_FDS, the protocol of socket activation. */
static int inherited(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    if (!pid || !count || strtol(pid, NULL, 10) != getpid() || strtol(count, NULL, 10) < 1)
        return -1;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    fcntl(FIRST_INHERITED, F_SETFD, FD_CLOEXEC);
    return FIRST_INHERITED;
}

static rv_status take_lock(const char *path, int *fd, rv_error *err)
{
    char *name = rv__format("%s.lock", path);
    if (!name)
        return rv__fail(err, RV_MEMORY, "out of memory");
    *fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    rv_status s = RV_OK;
    if (*fd < 0)
        s = rv__fail(err, RV_IO, "%s: %s", name, strerror(errno));
    else if (flock(*fd, LOCK_EX | LOCK_NB) != 0)
        s = rv__fail(err, RV_IO, "%s: another reveried uses this socket", path);
    rv__free(name);
    return s;
}

/* Removes a socket nobody listens on.  Anything else at the path is left alone. */
static rv_status clear_path(const struct sockaddr_un *a, rv_error *err)
{
    struct stat st;
    if (lstat(a->sun_path, &st) != 0)
        return errno == ENOENT ? RV_OK
                               : rv__fail(err, RV_IO, "%s: %s", a->sun_path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return rv__fail(err, RV_IO, "%s exists and is not a socket", a->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_alive = fd >= 0 && connect(fd, (const struct sockaddr *)a, sizeof *a) == 0;
    if (fd >= 0)
        close(fd);
    if (is_alive)
        return rv__fail(err, RV_IO, "%s: another process listens there", a->sun_path);
    return unlink(a->sun_path) == 0 ? RV_OK
                                    : rv__fail(err, RV_IO, "%s: %s", a->sun_path, strerror(errno));
}

static rv_status bind_socket(rv__listener *l, const struct sockaddr_un *a, rv_error *err)
{
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0117); /* the file is never open to others, not even for a moment */
    bool ok = l->fd >= 0 && bind(l->fd, (const struct sockaddr *)a, sizeof *a) == 0;
    int why = errno;
    umask(old);
    if (ok && listen(l->fd, BACKLOG) != 0) {
        why = errno;
        ok = false;
    }
    return ok ? RV_OK : rv__fail(err, RV_IO, "%s: %s", a->sun_path, strerror(why));
}

rv_status rv__listen_open(const char *path, rv__listener *l, rv_error *err)
{
    *l = (rv__listener){.fd = inherited(), .lock_fd = -1};
    if (l->fd >= 0)
        return RV_OK;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (!path)
        return rv__fail(err, RV_VALIDATION, "--socket is missing");
    if (strlen(path) >= sizeof a.sun_path)
        return rv__fail(err, RV_VALIDATION, "the socket's path has more than %zu characters",
                        sizeof a.sun_path - 1);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    rv_status s = take_lock(path, &l->lock_fd, err);
    if (s == RV_OK)
        s = clear_path(&a, err);
    if (s == RV_OK)
        s = bind_socket(l, &a, err);
    if (s == RV_OK && !(l->path = rv__strdup(path)))
        s = rv__fail(err, RV_MEMORY, "out of memory");
    if (s != RV_OK)
        rv__listen_close(l);
    return s;
}

void rv__listen_close(rv__listener *l)
{
    if (l->path)
        unlink(l->path);
    if (l->fd >= 0)
        close(l->fd);
    if (l->lock_fd >= 0)
        close(l->lock_fd);
    rv__free(l->path);
    *l = (rv__listener){.fd = -1, .lock_fd = -1};
}

void rv__listen_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;
    if (len < 2 || len >= sizeof a.sun_path)
        return;
    memcpy(a.sun_path, path, len);
    if (*path == '@')
        a.sun_path[0] = '\0'; /* abstract name */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&a, size);
    close(fd);
}
