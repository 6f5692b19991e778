/* Memory: every allocation of the library goes through these, so that tests can make the n-th one fail.
 * All return NULL when out of memory and never abort.  Sizes are checked before multiplication. */
#ifndef RV_MEMORY_H
#define RV_MEMORY_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

void *rv__alloc(size_t size);
void *rv__calloc(size_t count, size_t size); /* zeroed; NULL when count * size overflows */
void *rv__realloc(void *p, size_t size);
char *rv__strdup(const char *text);
char *rv__strndup(const char *text, size_t len); /* copies exactly len bytes and adds a NUL */
char *rv__format(const char *format, ...) __attribute__((format(printf, 1, 2)));
void  rv__free(void *p);

/* Makes the n-th allocation from now (1 is the next) and all after it fail; 0 switches that off.  Tests only. */
void rv__alloc_fail_after(long n);

/* A growing text or byte buffer with a mandatory cap.  After the first failure (cap or memory) it stays `failed`,
 * adds do nothing, and the caller checks once at the end. */
typedef struct rv__buf {
    char  *data; /* NUL-terminated when not NULL */
    size_t len, cap, max;
    bool   failed;
} rv__buf;

void  rv__buf_init(rv__buf *b, size_t max);
void  rv__buf_add(rv__buf *b, const void *data, size_t len);
void  rv__buf_adds(rv__buf *b, const char *text);
void  rv__buf_addf(rv__buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *rv__buf_take(rv__buf *b, size_t *len); /* out (rv__free); NULL when failed; len may be NULL; b is empty again */
void  rv__buf_free(rv__buf *b);

#endif
