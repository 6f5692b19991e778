/* What tells the shim (shim.c) which call is to fail: one page that a test shares with the processes it torments,
 * a file named by $TORTURE, or memory of the program that has the shim linked in.  Tests only. */
#ifndef TORTURE_SHIM_H
#define TORTURE_SHIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One list for C and, by its order, for daemon.py. */
typedef enum torture_kind {
    TORTURE_ALLOC,  /* malloc calloc realloc                                             */
    TORTURE_READ,   /* read pread readv fread of regular files                           */
    TORTURE_WRITE,  /* write pwrite writev ftruncate fallocate of regular files          */
    TORTURE_MAP,    /* mmap                                                              */
    TORTURE_THREAD, /* pthread_create                                                    */
    TORTURE_SYNC,   /* fsync fdatasync                                                   */
    TORTURE_OPEN,   /* open openat fopen rename mkdir link, eventfd socket accept        */
    TORTURE_SEND,   /* send recv and friends of sockets                                  */
    TORTURE_KINDS
} torture_kind;

/* Everything is 64 bits wide, so that daemon.py packs it with one format. */
typedef struct torture_page {
    atomic_llong clock_s;  /* added to the time of day                                    */
    atomic_llong own_only; /* only calls out of the program itself count, not its libraries' */
    struct {
        atomic_llong calls;     /* how many there were                                    */
        atomic_llong countdown; /* n: the n-th call from now fails; 0: none               */
        atomic_llong lasting;   /* and so do all that follow                              */
        atomic_llong error;     /* errno of the failure                                   */
        atomic_llong failed;    /* how many did                                           */
    } kind[TORTURE_KINDS];
} torture_page;

extern torture_page *torture;

/* Of allocations made from begin on, those that are still there at the end: how many, and the call site of one. */
void torture_track_begin(void);
size_t torture_track_end(void **site);

#endif
