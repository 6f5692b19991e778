/* Hash tables and the sorted prefix list of the tokenizers.  Limits are checked where things are
 * added; look-ups neither allocate nor fail. */
#include "tokenizer_vocab.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* A key per table, so that nobody can prepare texts that all fall into one slot.  Results do not
 * depend on it. */
static uint64_t random_key(void)
{
    uint64_t key = 0;
    if (getrandom(&key, sizeof key, GRND_NONBLOCK) != sizeof key)
        key = (uint64_t)(uintptr_t)&key;
    return key | 1;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)(a ^ 0x9E3779B97F4A7C15U) * (b ^ 0xD6E8FEB86659FD93U);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_text(uint64_t key, const char *text, size_t len)
{
    uint64_t hash = mix(key, len);
    for (; len >= 8; text += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        hash = mix(hash, word ^ key);
    }
    uint64_t rest = 0;
    if (len)
        memcpy(&rest, text, len);
    return mix(hash, rest ^ key);
}

/* ---- vocabulary ---- */

static rv__vocab_slot *vocab_slot(const rv__vocab *v, const char *text, size_t len)
{
    size_t i = (size_t)hash_text(v->key, text, len) & (v->cap - 1);
    for (;; i = (i + 1) & (v->cap - 1)) {
        rv__vocab_slot *s = &v->slots[i];
        if (s->id < 0 || (s->len == len && memcmp(v->texts.data + s->start, text, len) == 0))
            return s;
    }
}

static bool vocab_grow(rv__vocab *v)
{
    rv__vocab old = *v;
    v->cap = old.cap ? old.cap * 2 : 1024;
    v->slots = rv__alloc(v->cap * sizeof *v->slots);
    if (!v->slots) {
        *v = old;
        return false;
    }
    for (size_t i = 0; i < v->cap; i++)
        v->slots[i].id = -1;
    for (size_t i = 0; i < old.cap; i++) {
        const rv__vocab_slot *s = &old.slots[i];
        if (s->id >= 0)
            *vocab_slot(v, v->texts.data + s->start, s->len) = *s;
    }
    rv__free(old.slots);
    return true;
}

rv_status rv__vocab_add(rv__vocab *v, const char *text, size_t len, int64_t id, const char *file,
                        rv_error *err)
{
    if (!v->cap) {
        v->key = random_key();
        rv__buf_init(&v->texts, RV__VOCAB_BYTES_MAX);
    }
    if (v->count >= RV__VOCAB_MAX)
        return rv__fail(err, RV_FORMAT, "%s: more than %d tokens", file, RV__VOCAB_MAX);
    if (len == 0 || len > RV__VOCAB_TOKEN_MAX)
        return rv__fail(err, RV_FORMAT, "%s: token %lld has %zu bytes (1 to %d are possible)", file,
                        (long long)id, len, RV__VOCAB_TOKEN_MAX);
    if (id < 0 || id > INT32_MAX)
        return rv__fail(err, RV_FORMAT, "%s: token id %lld is out of range", file, (long long)id);
    if (v->count >= v->cap / 2 && !vocab_grow(v))
        return rv__fail(err, RV_MEMORY, "%s: out of memory", file);
    rv__vocab_slot *s = vocab_slot(v, text, len);
    if (s->id >= 0)
        return rv__fail(err, RV_FORMAT, "%s: tokens %d and %lld have the same text", file, s->id,
                        (long long)id);
    size_t start = v->texts.len;
    rv__buf_add(&v->texts, text, len);
    if (v->texts.failed)
        return rv__fail(err, RV_MEMORY, "%s: no memory for the vocabulary", file);
    *s = (rv__vocab_slot){(uint32_t)start, (uint32_t)len, (int32_t)id};
    v->count++;
    return RV_OK;
}

int32_t rv__vocab_find(const rv__vocab *v, const char *text, size_t len)
{
    return v->cap ? vocab_slot(v, text, len)->id : -1;
}

void rv__vocab_free(rv__vocab *v)
{
    rv__free(v->slots);
    rv__buf_free(&v->texts);
    *v = (rv__vocab){0};
}

/* ---- merges ---- */

static rv__merge *merges_slot(const rv__merges *m, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = (size_t)mix(m->key, pair) & (m->cap - 1);
    for (;; i = (i + 1) & (m->cap - 1)) {
        rv__merge *s = &m->slots[i];
        if (s->left < 0 || (s->left == left && s->right == right))
            return s;
    }
}

static bool merges_grow(rv__merges *m)
{
    rv__merges old = *m;
    m->cap = old.cap ? old.cap * 2 : 1024;
    m->slots = rv__alloc(m->cap * sizeof *m->slots);
    if (!m->slots) {
        *m = old;
        return false;
    }
    for (size_t i = 0; i < m->cap; i++)
        m->slots[i].left = -1;
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].left >= 0)
            *merges_slot(m, old.slots[i].left, old.slots[i].right) = old.slots[i];
    rv__free(old.slots);
    return true;
}

rv_status rv__merges_add(rv__merges *m, rv__merge merge, rv_error *err)
{
    if (!m->cap)
        m->key = random_key();
    if (m->count >= m->cap / 2 && !merges_grow(m))
        return rv__fail(err, RV_MEMORY, "no memory for the merges of a tokenizer");
    rv__merge *s = merges_slot(m, merge.left, merge.right);
    m->count += s->left < 0;
    *s = merge;
    return RV_OK;
}

const rv__merge *rv__merges_find(const rv__merges *m, int32_t left, int32_t right)
{
    if (!m->cap)
        return NULL;
    const rv__merge *s = merges_slot(m, left, right);
    return s->left < 0 ? NULL : s;
}

void rv__merges_free(rv__merges *m)
{
    rv__free(m->slots);
    *m = (rv__merges){0};
}

/* ---- prefixes ---- */

rv_status rv__prefixes_add(rv__prefixes *p, const char *text, size_t len, int32_t value,
                           rv_error *err)
{
    if (!p->cap)
        rv__buf_init(&p->texts, RV__VOCAB_BYTES_MAX);
    if (p->count == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 128;
        rv__prefix *list = rv__realloc(p->list, cap * sizeof *list);
        if (!list)
            return rv__fail(err, RV_MEMORY, "no memory for the tokens of a tokenizer");
        p->list = list;
        p->cap = cap;
    }
    p->list[p->count++] = (rv__prefix){(uint32_t)p->texts.len, (uint32_t)len, value};
    rv__buf_add(&p->texts, text, len);
    if (p->texts.failed)
        return rv__fail(err, RV_MEMORY, "no memory for the tokens of a tokenizer");
    return RV_OK;
}

static int compare_texts(const rv__prefix *x, const rv__prefix *y, const char *texts)
{
    int order = memcmp(texts + x->start, texts + y->start, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int compare_prefixes(const void *a, const void *b, void *texts)
{
    const rv__prefix *x = a, *y = b;
    int order = compare_texts(x, y, texts);
    return order ? order : (x->value > y->value) - (x->value < y->value);
}

bool rv__prefixes_sort(rv__prefixes *p)
{
    if (p->count > 1)
        qsort_r(p->list, p->count, sizeof *p->list, compare_prefixes, p->texts.data);
    for (size_t i = 1; i < p->count; i++)
        if (compare_texts(&p->list[i - 1], &p->list[i], p->texts.data) == 0)
            return false;
    return true;
}

rv__prefix_cursor rv__prefixes_begin(const rv__prefixes *p)
{
    return (rv__prefix_cursor){0, p->count, 0};
}

/* First text in [low, high) whose byte at `depth` is at least `byte`; all of them are longer than
 * depth. */
static size_t first_at_least(const rv__prefixes *p, size_t low, size_t high, size_t depth,
                             unsigned byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((unsigned char)p->texts.data[p->list[middle].start + depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool rv__prefixes_next(const rv__prefixes *p, rv__prefix_cursor *c, char byte, int32_t *value)
{
    unsigned wanted = (unsigned char)byte;
    *value = -1;
    while (c->low < c->high && p->list[c->low].len == c->depth)
        c->low++; /* these end before this byte; being the shortest they come first */
    c->low = first_at_least(p, c->low, c->high, c->depth, wanted);
    c->high = first_at_least(p, c->low, c->high, c->depth, wanted + 1);
    c->depth++;
    if (c->low < c->high && p->list[c->low].len == c->depth)
        *value = p->list[c->low].value;
    return c->low < c->high;
}

void rv__prefixes_free(rv__prefixes *p)
{
    rv__free(p->list);
    rv__buf_free(&p->texts);
    *p = (rv__prefixes){0};
}
