/* Starting threads of the library: signals blocked, processors of the whole program, a name for the
 * debugger. */
#ifndef RV_THREADS_H
#define RV_THREADS_H

#include <pthread.h>

/* pthread_create with all signals blocked that are not faults; its result. */
int rv__thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

/* First thing in the new thread; name of at most 15 characters. */
void rv__thread_prepare(const char *name);

#endif
