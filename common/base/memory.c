/* Allocation with failure injection, and the growing buffer.  Nothing here may abort. */
#include "memory.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_long fail_after; /* 0: never; n: the n-th allocation and all later ones fail */

static bool must_fail(void)
{
    if (atomic_load_explicit(&fail_after, memory_order_relaxed) == 0)
        return false;
    if (atomic_load(&fail_after) == 1)
        return true;
    atomic_fetch_sub(&fail_after, 1);
    return false;
}

void rv__alloc_fail_after(long n)
{
    atomic_store(&fail_after, n);
}

void *rv__alloc(size_t size)
{
    return must_fail() ? NULL : malloc(size ? size : 1);
}

void *rv__calloc(size_t count, size_t size)
{
    if (must_fail() || (size && count > SIZE_MAX / size))
        return NULL;
    return calloc(count ? count : 1, size ? size : 1);
}

void *rv__realloc(void *p, size_t size)
{
    return must_fail() ? NULL : realloc(p, size ? size : 1);
}

char *rv__strndup(const char *text, size_t len)
{
    char *copy = len < SIZE_MAX ? rv__alloc(len + 1) : NULL;
    if (!copy)
        return NULL;
    if (len)
        memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *rv__strdup(const char *text)
{
    return rv__strndup(text, strlen(text));
}

char *rv__format(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len < 0 ? NULL : rv__alloc((size_t)len + 1);
    if (!text)
        return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)len + 1, format, args);
    va_end(args);
    return text;
}

void rv__free(void *p)
{
    free(p);
}

void rv__buf_init(rv__buf *b, size_t max)
{
    *b = (rv__buf){.max = max};
}

/* Makes room for `more` bytes and a NUL; false (and failed) when the cap or the memory is reached. */
static bool reserve(rv__buf *b, size_t more)
{
    if (b->failed || more > b->max || b->len > b->max - more) {
        b->failed = true;
        return false;
    }
    size_t need = b->len + more + 1;
    if (need <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    char *data = rv__realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void rv__buf_add(rv__buf *b, const void *data, size_t len)
{
    if (!reserve(b, len))
        return;
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void rv__buf_adds(rv__buf *b, const char *text)
{
    rv__buf_add(b, text, strlen(text));
}

void rv__buf_addf(rv__buf *b, const char *format, ...)
{
    va_list args;
    size_t room = b->data ? b->cap - b->len : 0; /* mostly enough: printed once */
    va_start(args, format);
    int len = vsnprintf(room ? b->data + b->len : NULL, room, format, args);
    va_end(args);
    if (len < 0 || !reserve(b, (size_t)len)) {
        b->failed = true;
        if (room)
            b->data[b->len] = '\0';
        return;
    }
    if ((size_t)len >= room) {
        va_start(args, format);
        vsnprintf(b->data + b->len, (size_t)len + 1, format, args);
        va_end(args);
    }
    b->len += (size_t)len;
}

char *rv__buf_take(rv__buf *b, size_t *len)
{
    if (!reserve(b, 0)) {
        rv__buf_free(b);
        return NULL;
    }
    b->data[b->len] = '\0';
    char *data = b->data;
    if (len)
        *len = b->len;
    rv__buf_init(b, b->max);
    return data;
}

void rv__buf_free(rv__buf *b)
{
    rv__free(b->data);
    rv__buf_init(b, b->max);
}
