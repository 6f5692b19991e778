/* A pool: many small allocations that live and die together.  Not for sharing between threads. */
#ifndef RV_POOL_H
#define RV_POOL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Zero is an empty pool.  After the first failure it stays `failed`; the caller checks once at the end. */
typedef struct rv__pool {
    struct rv__pool_block *blocks;
    bool                   failed;
} rv__pool;

void *rv__pool_alloc(rv__pool *p, size_t size); /* zeroed, aligned for any type; NULL when out of memory */
char *rv__pool_text(rv__pool *p, const char *text, size_t len); /* a copy with a NUL */
char *rv__pool_format(rv__pool *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void  rv__pool_free(rv__pool *p);

#endif
