/* The folder of stored pictures.  Files appear by rename, so a reader never sees half a picture;
 * names cannot be guessed, so the folder may be served to everybody who knows one. */
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/uuid.h"

#define DIGITS        "abcdefghijklmnopqrstuvwxyz234567"
#define LETTERS       "abcdefghijklmnopqrstuvwxyz"
#define TEMPORARY     ".writing-"
#define TEMPORARY_TTL 3600 /* seconds */

enum { RANDOM_BYTES = 16, RANDOM_CHARS = 26 };

struct rv__store {
    int fd; /* of the folder */
    char *path;
};

rv_status rv__store_open(const char *folder, rv__store **out, rv_error *err)
{
    *out = NULL;
    if (mkdir(folder, 0755) != 0 && errno != EEXIST)
        return rv__fail(err, RV_IO, "the folder of results cannot be made: %s", strerror(errno));
    rv__store *s = rv__calloc(1, sizeof *s);
    if (!s)
        return rv__fail(err, RV_MEMORY, "out of memory");
    s->fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *path = realpath(folder, NULL);
    s->path = path ? rv__strdup(path) : NULL;
    free(path);
    if (s->fd < 0 || !s->path || faccessat(s->fd, ".", W_OK | X_OK, AT_EACCESS) != 0) {
        rv_status status =
            rv__fail(err, RV_IO, "the folder of results cannot be used: %s", strerror(errno));
        rv__store_close(s);
        return status;
    }
    *out = s;
    return RV_OK;
}

void rv__store_close(rv__store *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    rv__free(s->path);
    rv__free(s);
}

const char *rv__store_folder(const rv__store *s)
{
    return s->path;
}

/* 26 characters of 5 bits hold 130 bits; the last one has only 3 of them. */
static bool random_name(char out[RANDOM_CHARS + 1])
{
    uint8_t bytes[RANDOM_BYTES];
    if (!rv__random(bytes, sizeof bytes))
        return false;
    unsigned bits = 0, count = 0;
    size_t n = 0;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bits = (bits << 8 | bytes[i]) & 0xffff;
        count += 8;
        for (; count >= 5; count -= 5)
            out[n++] = DIGITS[bits >> (count - 5) & 31];
    }
    out[n++] = DIGITS[bits << (5 - count) & 31];
    out[n] = '\0';
    return true;
}

static bool write_all(int fd, const char *bytes, size_t len)
{
    while (len) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

static bool write_file(int folder, const char *name, const void *bytes, size_t len)
{
    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return false;
    bool ok = write_all(fd, bytes, len) && fsync(fd) == 0;
    int why = errno;
    if (close(fd) != 0 && ok) {
        ok = false;
        why = errno;
    }
    errno = why;
    return ok;
}

rv_status rv__store_put(rv__store *s, const void *bytes, size_t len, const char *ext,
                        int64_t expiry, char name[RV__STORE_NAME], rv_error *err)
{
    char random[RANDOM_CHARS + 1], temporary[sizeof TEMPORARY + RANDOM_CHARS];
    if (!random_name(random))
        return rv__fail(err, RV_IO, "the system gives no random numbers");
    snprintf(temporary, sizeof temporary, TEMPORARY "%s", random);
    int n = snprintf(name, RV__STORE_NAME, "%s-%" PRIx64 ".%s", random, (uint64_t)expiry, ext);
    if (n < 0 || n >= RV__STORE_NAME)
        return rv__fail(err, RV_INTERNAL, "the name of a stored picture is too long");
    if (write_file(s->fd, temporary, bytes, len) && renameat(s->fd, temporary, s->fd, name) == 0)
        return RV_OK;
    int why = errno;
    unlinkat(s->fd, temporary, 0);
    return rv__fail(err, RV_IO, "the picture cannot be stored: %s", strerror(why));
}

bool rv__store_expiry(const char *name, int64_t *expiry)
{
    if (strspn(name, DIGITS) != RANDOM_CHARS || name[RANDOM_CHARS] != '-')
        return false;
    const char *hex = name + RANDOM_CHARS + 1;
    size_t digits = strspn(hex, "0123456789abcdef");
    size_t ext = digits < 16 && hex[digits] == '.' ? strspn(hex + digits + 1, LETTERS) : 0;
    if (digits < 1 || ext < 1 || ext > 4 || hex[digits + 1 + ext])
        return false;
    *expiry = (int64_t)strtoull(hex, NULL, 16);
    return true;
}

static rv_status read_file(int fd, size_t max, char **bytes, size_t *len, rv_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return rv__fail(err, RV_NOT_FOUND, "no such picture is stored");
    if (st.st_size < 0 || (uint64_t)st.st_size > max)
        return rv__fail(err, RV_VALIDATION, "the file has more than %zu bytes", max);
    size_t size = (size_t)st.st_size, at = 0;
    char *data = rv__alloc(size + 1);
    if (!data)
        return rv__fail(err, RV_MEMORY, "out of memory");
    while (at < size) {
        ssize_t n = read(fd, data + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rv__free(data);
            return rv__fail(err, RV_IO, "a stored picture cannot be read");
        }
        at += (size_t)n;
    }
    *bytes = data;
    *len = size;
    return RV_OK;
}

rv_status rv__store_read(rv__store *s, const char *name, size_t max, char **bytes, size_t *len,
                         rv_error *err)
{
    int64_t expiry;
    bool is_ours = rv__store_expiry(name, &expiry) && (!expiry || expiry >= time(NULL));
    int fd = is_ours ? openat(s->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
    if (fd < 0)
        return rv__fail(err, RV_NOT_FOUND, "no such picture is stored");
    rv_status status = read_file(fd, max, bytes, len, err);
    close(fd);
    return status;
}

static bool must_go(int folder, const char *name, time_t now)
{
    int64_t expiry;
    if (rv__store_expiry(name, &expiry))
        return expiry && expiry < now;
    struct stat st;
    return strncmp(name, TEMPORARY, strlen(TEMPORARY)) == 0 &&
           fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           st.st_mtime < now - TEMPORARY_TTL;
}

size_t rv__store_sweep(rv__store *s, time_t now)
{
    int fd = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    size_t removed = 0;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (must_go(s->fd, e->d_name, now) && unlinkat(s->fd, e->d_name, 0) == 0)
            removed++;
    }
    closedir(dir);
    return removed;
}
