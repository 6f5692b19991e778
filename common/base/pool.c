/* Memory in blocks: small pieces are cut from the newest block, large ones get their own. */
#include "pool.h"

#include "memory.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define FIRST 1000 /* bytes of the first block: many pools stay small and live long */
#define BLOCK 4000

struct rv__pool_block {
    struct rv__pool_block *next;
    size_t                 used, size;
    alignas(max_align_t) unsigned char bytes[];
};

static struct rv__pool_block *add_block(rv__pool *p, size_t size)
{
    if (size > SIZE_MAX - sizeof(struct rv__pool_block))
        return NULL;
    struct rv__pool_block *b = rv__alloc(sizeof *b + size);
    if (!b)
        return NULL;
    b->used = 0;
    b->size = size;
    if (p->blocks && size > BLOCK) { /* keep cutting from the block in front */
        b->next = p->blocks->next;
        p->blocks->next = b;
    } else {
        b->next = p->blocks;
        p->blocks = b;
    }
    return b;
}

void *rv__pool_alloc(rv__pool *p, size_t size)
{
    size_t align = alignof(max_align_t);
    if (p->failed || size > SIZE_MAX - align) {
        p->failed = true;
        return NULL;
    }
    size = (size + align - 1) / align * align;
    struct rv__pool_block *b = p->blocks;
    size_t least = b ? BLOCK : FIRST;
    if (!b || b->size - b->used < size)
        b = add_block(p, size > least ? size : least);
    if (!b) {
        p->failed = true;
        return NULL;
    }
    void *piece = b->bytes + b->used;
    b->used += size;
    return memset(piece, 0, size);
}

char *rv__pool_text(rv__pool *p, const char *text, size_t len)
{
    char *copy = len < SIZE_MAX ? rv__pool_alloc(p, len + 1) : NULL;
    if (copy && len)
        memcpy(copy, text, len);
    return copy;
}

char *rv__pool_format(rv__pool *p, const char *format, ...)
{
    va_list args;
    char small[200]; /* mostly enough: printed once */
    va_start(args, format);
    int len = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (len >= 0 && (size_t)len < sizeof small)
        return rv__pool_text(p, small, (size_t)len);
    char *text = len < 0 ? NULL : rv__pool_alloc(p, (size_t)len + 1);
    if (!text)
        return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)len + 1, format, args);
    va_end(args);
    return text;
}

void rv__pool_free(rv__pool *p)
{
    while (p->blocks) {
        struct rv__pool_block *next = p->blocks->next;
        rv__free(p->blocks);
        p->blocks = next;
    }
    p->failed = false;
}
