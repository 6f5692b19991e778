/* Maps weight files for reading.  Must never block on a pipe or a device somebody put in a model
 * folder. */
#include "mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static rv_status map_descriptor(int fd, const char *path, rv__mapped *out, rv_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return rv__fail(err, RV_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return rv__fail(err, RV_FORMAT, "%s: not a regular file", path);
    if (st.st_size <= 0)
        return rv__fail(err, RV_FORMAT, "%s: the file is empty", path);
    if ((uintmax_t)st.st_size > SIZE_MAX / 2)
        return rv__fail(err, RV_FORMAT, "%s: the file is too large for this machine", path);
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return rv__fail(err, errno == ENOMEM ? RV_MEMORY : RV_IO, "%s: cannot be mapped: %s", path,
                        strerror(errno));
    *out = (rv__mapped){data, (size_t)st.st_size};
    return RV_OK;
}

rv_status rv__mapped_open(const char *path, rv__mapped *out, rv_error *err)
{
    *out = (rv__mapped){0};
    /* O_NONBLOCK: opening a pipe must not wait for its writer; it means nothing for regular files.
     */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return rv__fail(err, errno == ENOENT ? RV_NOT_FOUND : RV_IO, "%s: %s", path,
                        strerror(errno));
    rv_status status = map_descriptor(fd, path, out, err);
    close(fd); /* the mapping stays */
    return status;
}

void rv__mapped_close(rv__mapped *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size);
    *m = (rv__mapped){0};
}
