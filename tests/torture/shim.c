/* Calls to the C library that fail when they are told to, and a time of day that jumps.  Linked into tests/torture's
 * own program, and preloaded into whole processes (libtorture.so).  Never part of what is installed. */
#undef _FILE_OFFSET_BITS /* both names of each call are here, the one with 64 too */
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void __libc_free(void *p);

static torture_page own_page;
torture_page *torture = &own_page;
static uintptr_t program_begin, program_end;

static int first_object(struct dl_phdr_info *info, size_t size, void *user)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && p->p_flags & PF_X) {
            program_begin = info->dlpi_addr + p->p_vaddr;
            program_end = program_begin + p->p_memsz;
        }
    }
    return 1; /* the program itself comes first */
}

__attribute__((constructor)) static void attach(void)
{
    dl_iterate_phdr(first_object, NULL);
    const char *path = getenv("TORTURE");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    long page = syscall(SYS_mmap, NULL, sizeof *torture, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0L);
    if (page != -1 && page)
        torture = (torture_page *)page;
    syscall(SYS_close, fd);
}

/* Counts a call; whether it must fail, with errno set. */
static bool fails(torture_kind kind, const void *caller)
{
    torture_page *t = torture;
    if (atomic_load_explicit(&t->own_only, memory_order_relaxed) &&
        ((uintptr_t)caller < program_begin || (uintptr_t)caller >= program_end))
        return false;
    atomic_fetch_add_explicit(&t->kind[kind].calls, 1, memory_order_relaxed);
    if (!atomic_load_explicit(&t->kind[kind].countdown, memory_order_relaxed))
        return false;
    long long left = atomic_fetch_sub(&t->kind[kind].countdown, 1);
    bool lasts = atomic_load(&t->kind[kind].lasting);
    if (left > 1)
        return false;
    if (left < 1 || lasts) /* below one: several threads counted at once */
        atomic_store(&t->kind[kind].countdown, lasts);
    if (left < 1 && !lasts)
        return false;
    atomic_fetch_add(&t->kind[kind].failed, 1);
    errno = (int)atomic_load(&t->kind[kind].error);
    return true;
}

/* ---- what is allocated and not given back ---- */

enum { SLOTS = 1 << 18 };

static struct {
    void *p, *site;
} *slots;
static atomic_bool is_tracking;
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static char gone; /* an empty slot that others lie behind */

static size_t slot_of(const void *p)
{
    return ((uintptr_t)p >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 46;
}

static void *remember(void *p, void *site)
{
    if (!p || !atomic_load_explicit(&is_tracking, memory_order_relaxed))
        return p;
    pthread_mutex_lock(&slots_lock);
    size_t i = slot_of(p);
    while (slots[i].p && slots[i].p != &gone)
        i = (i + 1) % SLOTS;
    slots[i].p = p;
    slots[i].site = site;
    pthread_mutex_unlock(&slots_lock);
    return p;
}

static void forget(void *p)
{
    if (!p || !atomic_load_explicit(&is_tracking, memory_order_relaxed))
        return;
    pthread_mutex_lock(&slots_lock);
    size_t i = slot_of(p);
    while (slots[i].p && slots[i].p != p)
        i = (i + 1) % SLOTS;
    if (slots[i].p)
        slots[i].p = &gone;
    pthread_mutex_unlock(&slots_lock);
}

void torture_track_begin(void)
{
    slots = mmap(NULL, SLOTS * sizeof *slots, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    atomic_store(&is_tracking, slots != MAP_FAILED);
}

size_t torture_track_end(void **site)
{
    size_t count = 0;
    if (!atomic_exchange(&is_tracking, false))
        return 0;
    for (size_t i = 0; i < SLOTS; i++) {
        Dl_info where = {0};
        if (!slots[i].p || slots[i].p == &gone)
            continue;
        dladdr(slots[i].site, &where);
        if (where.dli_fname && strstr(where.dli_fname, "/ld-linux"))
            continue; /* of threads that are gone: the system keeps it for the next ones */
        count++;
        *site = slots[i].site;
    }
    munmap(slots, SLOTS * sizeof *slots);
    return count;
}

SHOWN void *malloc(size_t size)
{
    return fails(TORTURE_ALLOC, CALLER) ? NULL : remember(__libc_malloc(size), CALLER);
}

SHOWN void *calloc(size_t count, size_t size)
{
    return fails(TORTURE_ALLOC, CALLER) ? NULL : remember(__libc_calloc(count, size), CALLER);
}

SHOWN void *realloc(void *p, size_t size)
{
    if (fails(TORTURE_ALLOC, CALLER))
        return NULL;
    forget(p); /* before it is given back: another thread may be handed the same address */
    void *q = __libc_realloc(p, size);
    return remember(q || !size ? q : p, CALLER) == p && !q ? NULL : q;
}

SHOWN void free(void *p)
{
    forget(p);
    __libc_free(p);
}

/* ---- files and sockets ---- */

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
    real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static bool is_file(int fd)
{
    struct stat st;
    int was = errno;
    bool is = fd > 2 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    errno = was;
    return is;
}

static bool is_socket(int fd)
{
    struct stat st;
    int was = errno;
    bool is = fd > 2 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
    errno = was;
    return is;
}

static bool file_fails(torture_kind kind, int fd, const void *caller)
{
    return is_file(fd) ? fails(kind, caller) : is_socket(fd) && fails(TORTURE_SEND, caller);
}

#define OF_FILE(kind, type, name, parameters, ...) \
    SHOWN type name parameters \
    { \
        REAL(name); \
        return file_fails(kind, fd, CALLER) ? -1 : real(__VA_ARGS__); \
    }

#define OF_ANY(kind, failed, type, name, parameters, ...) \
    SHOWN type name parameters \
    { \
        REAL(name); \
        return fails(kind, CALLER) ? failed : real(__VA_ARGS__); \
    }

OF_FILE(TORTURE_READ, ssize_t, read, (int fd, void *to, size_t n), fd, to, n)
OF_FILE(TORTURE_READ, ssize_t, pread, (int fd, void *to, size_t n, off_t at), fd, to, n, at)
OF_FILE(TORTURE_READ, ssize_t, pread64, (int fd, void *to, size_t n, off64_t at), fd, to, n, at)
OF_FILE(TORTURE_READ, ssize_t, readv, (int fd, const struct iovec *v, int n), fd, v, n)
OF_FILE(TORTURE_WRITE, ssize_t, write, (int fd, const void *from, size_t n), fd, from, n)
OF_FILE(TORTURE_WRITE, ssize_t, pwrite, (int fd, const void *from, size_t n, off_t at), fd, from, n, at)
OF_FILE(TORTURE_WRITE, ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t at), fd, from, n, at)
OF_FILE(TORTURE_WRITE, ssize_t, writev, (int fd, const struct iovec *v, int n), fd, v, n)
OF_FILE(TORTURE_WRITE, int, ftruncate, (int fd, off_t size), fd, size)
OF_FILE(TORTURE_WRITE, int, ftruncate64, (int fd, off64_t size), fd, size)
OF_FILE(TORTURE_SYNC, int, fsync, (int fd), fd)
OF_FILE(TORTURE_SYNC, int, fdatasync, (int fd), fd)
OF_FILE(TORTURE_SEND, ssize_t, send, (int fd, const void *from, size_t n, int flags), fd, from, n, flags)
OF_FILE(TORTURE_SEND, ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), fd, m, flags)
OF_FILE(TORTURE_SEND, ssize_t, recv, (int fd, void *to, size_t n, int flags), fd, to, n, flags)
OF_FILE(TORTURE_SEND, ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), fd, m, flags)
OF_ANY(TORTURE_OPEN, NULL, FILE *, fopen, (const char *path, const char *how), path, how)
OF_ANY(TORTURE_OPEN, NULL, FILE *, fopen64, (const char *path, const char *how), path, how)
OF_ANY(TORTURE_OPEN, -1, int, rename, (const char *from, const char *to), from, to)
OF_ANY(TORTURE_OPEN, -1, int, renameat, (int a, const char *from, int b, const char *to), a, from, b, to)
OF_ANY(TORTURE_OPEN, -1, int, mkdir, (const char *path, mode_t mode), path, mode)
OF_ANY(TORTURE_OPEN, -1, int, link, (const char *from, const char *to), from, to)
OF_ANY(TORTURE_OPEN, -1, int, eventfd, (unsigned first, int flags), first, flags)
OF_ANY(TORTURE_OPEN, -1, int, socket, (int domain, int type, int protocol), domain, type, protocol)
OF_ANY(TORTURE_MAP, MAP_FAILED, void *, mmap,
       (void *at, size_t size, int protection, int flags, int fd, off_t offset), at, size, protection, flags, fd,
       offset)
OF_ANY(TORTURE_MAP, MAP_FAILED, void *, mmap64,
       (void *at, size_t size, int protection, int flags, int fd, off64_t offset), at, size, protection, flags, fd,
       offset)

SHOWN size_t fread(void *to, size_t size, size_t n, FILE *f)
{
    REAL(fread);
    if (!fails(TORTURE_READ, CALLER))
        return real(to, size, n, f);
    f->_flags |= 0x20; /* what ferror looks at in glibc */
    return 0;
}

SHOWN int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
    va_end(args);
    return fails(TORTURE_OPEN, CALLER) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

SHOWN int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
    va_end(args);
    return fails(TORTURE_OPEN, CALLER) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

SHOWN int openat(int folder, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
    va_end(args);
    return fails(TORTURE_OPEN, CALLER) ? -1 : (int)syscall(SYS_openat, folder, path, flags, mode);
}

SHOWN int fallocate(int fd, int mode, off_t at, off_t len)
{
    return file_fails(TORTURE_WRITE, fd, CALLER) ? -1 : (int)syscall(SYS_fallocate, fd, mode, at, len);
}

SHOWN int posix_fallocate(int fd, off_t at, off_t len)
{
    REAL(posix_fallocate);
    return file_fails(TORTURE_WRITE, fd, CALLER) ? errno : real(fd, at, len);
}

SHOWN int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    REAL(pthread_create);
    return fails(TORTURE_THREAD, CALLER) ? EAGAIN : real(thread, attr, run, arg);
}

/* ---- the time of day ---- */

SHOWN int clock_gettime(clockid_t clock, struct timespec *t)
{
    REAL(clock_gettime);
    int rc = real(clock, t);
    if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        t->tv_sec += atomic_load_explicit(&torture->clock_s, memory_order_relaxed);
    return rc;
}

SHOWN time_t time(time_t *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out)
        *out = t.tv_sec;
    return t.tv_sec;
}

SHOWN int gettimeofday(struct timeval *t, void *zone)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
