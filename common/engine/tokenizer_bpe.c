/* Byte-pair encoding as the "tokenizers" library does it: symbols merge in order of rank, then of
 * place, kept in a heap so that one long word costs n log n. */
#include <stdio.h>
#include <string.h>

#include "tokenizer_model.h"
#include "unicode.h"

void rv__ids_add(rv__ids *ids, int32_t id)
{
    if (ids->failed)
        return;
    if (ids->count == ids->cap) {
        size_t cap = ids->cap ? ids->cap * 2 : 128;
        int32_t *data = rv__realloc(ids->data, cap * sizeof *data);
        if (!data) {
            ids->failed = true;
            return;
        }
        ids->data = data;
        ids->cap = cap;
    }
    ids->data[ids->count++] = id;
}

void rv__ids_free(rv__ids *ids)
{
    rv__free(ids->data);
    *ids = (rv__ids){0};
}

/* ---- loading ---- */

rv_status rv__bpe_load_vocab(rv__bpe *b, const rv__value *object, const char *file, rv_error *err)
{
    if (!rv__json_is_object(object))
        return rv__fail(err, RV_FORMAT, "%s: the vocabulary is not an object", file);
    for (const rv__value *v = rv__json_first(object); v; v = rv__json_next(v)) {
        const char *text = rv__json_key(v);
        int64_t id = -1;
        if (!rv__json_int(v, &id))
            return rv__fail(err, RV_FORMAT, "%s: entry %zu of the vocabulary has no whole number",
                            file, b->vocab.count);
        rv_status status = rv__vocab_add(&b->vocab, text, strlen(text), id, file, err);
        if (status)
            return status;
    }
    if (!b->vocab.count)
        return rv__fail(err, RV_FORMAT, "%s: the vocabulary is empty", file);
    return RV_OK;
}

rv_status rv__bpe_add_merge(rv__bpe *b, const char *left, size_t left_len, const char *right,
                            size_t right_len, size_t where, const char *file, rv_error *err)
{
    char merged[2 * RV__VOCAB_TOKEN_MAX];
    size_t skip = b->prefix ? strlen(b->prefix) : 0;
    if (where >= INT32_MAX || left_len > RV__VOCAB_TOKEN_MAX || right_len > RV__VOCAB_TOKEN_MAX ||
        right_len < skip)
        return rv__fail(err, RV_FORMAT, "%s: merge %zu cannot be", file, where);
    memcpy(merged, left, left_len);
    memcpy(merged + left_len, right + skip, right_len - skip);
    rv__merge merge = {.left = rv__vocab_find(&b->vocab, left, left_len),
                       .right = rv__vocab_find(&b->vocab, right, right_len),
                       .id = rv__vocab_find(&b->vocab, merged, left_len + right_len - skip),
                       .rank = (int32_t)where};
    if (merge.left < 0 || merge.right < 0 || merge.id < 0)
        return rv__fail(err, RV_FORMAT, "%s: merge %zu names a token that is not in the vocabulary",
                        file, where);
    return rv__merges_add(&b->merges, merge, err);
}

/* A merge is "left right" or ["left", "right"]. */
static rv_status load_merge(rv__bpe *b, const rv__value *v, size_t where, const char *file,
                            rv_error *err)
{
    const char *text = rv__json_string(v);
    if (text) {
        const char *space = strchr(text, ' ');
        if (!space || strchr(space + 1, ' '))
            return rv__fail(err, RV_FORMAT, "%s: merge %zu is not two tokens", file, where);
        return rv__bpe_add_merge(b, text, (size_t)(space - text), space + 1, strlen(space + 1),
                                 where, file, err);
    }
    const char *left = rv__json_string(rv__json_at(v, 0)),
               *right = rv__json_string(rv__json_at(v, 1));
    if (!left || !right || rv__json_size(v) != 2)
        return rv__fail(err, RV_FORMAT, "%s: merge %zu is not two tokens", file, where);
    return rv__bpe_add_merge(b, left, strlen(left), right, strlen(right), where, file, err);
}

static rv_status load_affix(char **out, const rv__value *model, const char *key, const char *file,
                            rv_error *err)
{
    const char *text = rv__json_get_string(model, key, "");
    if (!*text)
        return RV_OK;
    if (strlen(text) > 64)
        return rv__fail(err, RV_FORMAT, "%s: %s is too long", file, key);
    *out = rv__strdup(text);
    return *out ? RV_OK : rv__fail(err, RV_MEMORY, "%s: out of memory", file);
}

rv_status rv__bpe_load(rv__bpe *b, const rv__value *model, const char *file, rv_error *err)
{
    double dropout = rv__json_get_number(model, "dropout", 0);
    if (dropout != 0)
        return rv__fail(err, RV_UNSUPPORTED,
                        "%s: a tokenizer with dropout gives different ids each time", file);
    b->fuse_unknown = rv__json_get_bool(model, "fuse_unk", false);
    b->byte_fallback = rv__json_get_bool(model, "byte_fallback", false);
    b->ignore_merges = rv__json_get_bool(model, "ignore_merges", false);
    rv_status status = load_affix(&b->prefix, model, "continuing_subword_prefix", file, err);
    if (!status)
        status = load_affix(&b->suffix, model, "end_of_word_suffix", file, err);
    if (!status)
        status = rv__bpe_load_vocab(b, rv__json_get(model, "vocab"), file, err);
    size_t where = 0;
    const rv__value *merges = rv__json_get(model, "merges");
    if (!status && !rv__json_is_array(merges))
        status = rv__fail(err, RV_FORMAT, "%s: there is no list of merges", file);
    for (const rv__value *v = status ? NULL : rv__json_first(merges); v && !status;
         v = rv__json_next(v))
        status = load_merge(b, v, where++, file, err);
    const char *unknown = rv__json_get_string(model, "unk_token", NULL);
    b->unknown = unknown ? rv__vocab_find(&b->vocab, unknown, strlen(unknown)) : -1;
    if (!status && unknown && b->unknown < 0)
        status = rv__fail(err, RV_FORMAT, "%s: unk_token is not in the vocabulary", file);
    return status;
}

void rv__bpe_free(rv__bpe *b)
{
    rv__vocab_free(&b->vocab);
    rv__merges_free(&b->merges);
    rv__free(b->prefix);
    rv__free(b->suffix);
    *b = (rv__bpe){.unknown = -1};
}

/* ---- merging ---- */

typedef struct symbol {
    int32_t id;             /* -1: merged into the one before it */
    int32_t previous, next; /* -1: none                          */
} symbol;

typedef struct candidate {
    int32_t rank, place, id;
} candidate;

typedef struct word {
    const rv__bpe *bpe;
    symbol *symbols;
    size_t count, cap;
    candidate *heap;
    size_t heap_count, heap_cap;
    bool failed;
} word;

static void word_free(word *w)
{
    rv__free(w->symbols);
    rv__free(w->heap);
}

static void add_symbol(word *w, int32_t id)
{
    if (w->count == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 32;
        symbol *symbols = rv__realloc(w->symbols, cap * sizeof *symbols);
        if (!symbols) {
            w->failed = true;
            return;
        }
        w->symbols = symbols;
        w->cap = cap;
    }
    int32_t previous = (int32_t)w->count - 1;
    if (previous >= 0)
        w->symbols[previous].next = (int32_t)w->count;
    w->symbols[w->count++] = (symbol){id, previous, -1};
}

static bool before(candidate a, candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.place < b.place;
}

static void heap_push(word *w, candidate c)
{
    if (w->heap_count == w->heap_cap) {
        size_t cap = w->heap_cap ? w->heap_cap * 2 : 64;
        candidate *heap = rv__realloc(w->heap, cap * sizeof *heap);
        if (!heap) {
            w->failed = true;
            return;
        }
        w->heap = heap;
        w->heap_cap = cap;
    }
    size_t i = w->heap_count++;
    for (; i > 0 && before(c, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static candidate heap_pop(word *w)
{
    candidate top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->heap_count)
            break;
        if (child + 1 < w->heap_count && before(w->heap[child + 1], w->heap[child]))
            child++;
        if (!before(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

/* Remembers the merge of the symbol at `place` with the one behind it, if there is one. */
static void consider(word *w, int32_t place)
{
    if (place < 0 || w->symbols[place].next < 0)
        return;
    const symbol *left = &w->symbols[place], *right = &w->symbols[left->next];
    const rv__merge *m = rv__merges_find(&w->bpe->merges, left->id, right->id);
    if (m)
        heap_push(w, (candidate){m->rank, place, m->id});
}

static void merge_all(word *w)
{
    for (size_t i = 0; i < w->count; i++)
        consider(w, (int32_t)i);
    while (w->heap_count && !w->failed) {
        candidate c = heap_pop(w);
        symbol *left = &w->symbols[c.place];
        if (left->id < 0 || left->next < 0)
            continue;
        symbol *right = &w->symbols[left->next];
        const rv__merge *m = rv__merges_find(&w->bpe->merges, left->id, right->id);
        if (!m || m->id != c.id)
            continue; /* one of the two has changed since */
        left->id = c.id;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0)
            w->symbols[left->next].previous = c.place;
        consider(w, left->previous);
        consider(w, c.place);
    }
}

/* ---- running ---- */

/* Adds the bytes of an unknown symbol as <0xNN> tokens; false when the vocabulary lacks one of
 * them. */
static bool add_byte_tokens(word *w, const char *text, size_t len)
{
    int32_t ids[RV__VOCAB_TOKEN_MAX];
    char name[8];
    if (len > RV__VOCAB_TOKEN_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        int n = snprintf(name, sizeof name, "<0x%02X>", (unsigned)(unsigned char)text[i]);
        ids[i] = rv__vocab_find(&w->bpe->vocab, name, (size_t)n);
        if (ids[i] < 0)
            return false;
    }
    for (size_t i = 0; i < len && !w->failed; i++)
        add_symbol(w, ids[i]);
    return true;
}

/* The symbol text[start, end) with the affixes its place asks for: its id, or -1. */
static int32_t find_symbol(const rv__bpe *b, const char *text, size_t len, size_t start, size_t end,
                           char *buffer, size_t *used)
{
    size_t n = 0;
    if (start > 0 && b->prefix) {
        n = strlen(b->prefix);
        memcpy(buffer, b->prefix, n);
    }
    memcpy(buffer + n, text + start, end - start);
    n += end - start;
    if (end == len && b->suffix) {
        memcpy(buffer + n, b->suffix, strlen(b->suffix));
        n += strlen(b->suffix);
    }
    *used = n;
    return rv__vocab_find(&b->vocab, buffer, n);
}

static void add_symbols(word *w, const char *text, size_t len)
{
    const rv__bpe *b = w->bpe;
    bool unknown = false; /* one is waiting to be added */
    for (size_t i = 0; i < len && !w->failed;) {
        char buffer[4 + 2 * 64];
        int32_t codepoint;
        size_t n = rv__unicode_next(text + i, len - i, &codepoint), used;
        int32_t id = find_symbol(b, text, len, i, i + n, buffer, &used);
        i += n;
        if (id < 0 && b->byte_fallback && add_byte_tokens(w, buffer, used))
            continue;
        if (unknown && (id >= 0 || !b->fuse_unknown)) {
            add_symbol(w, b->unknown);
            unknown = false;
        }
        if (id >= 0)
            add_symbol(w, id);
        else
            unknown = b->unknown >= 0;
    }
    if (unknown && !w->failed)
        add_symbol(w, b->unknown);
}

rv_status rv__bpe_run(const rv__bpe *b, const char *text, size_t len, rv__ids *out, rv_error *err)
{
    if (b->ignore_merges) {
        int32_t whole = rv__vocab_find(&b->vocab, text, len);
        if (whole >= 0) {
            rv__ids_add(out, whole);
            return RV_OK;
        }
    }
    word w = {.bpe = b};
    add_symbols(&w, text, len);
    if (!w.failed)
        merge_all(&w);
    for (size_t i = 0; i < w.count && !w.failed; i++)
        if (w.symbols[i].id >= 0)
            rv__ids_add(out, w.symbols[i].id);
    word_free(&w);
    if (w.failed || out->failed)
        return rv__fail(err, RV_MEMORY, "no memory to tokenize");
    return RV_OK;
}
