/* Unigram tokenizer: the best path through all pieces that occur in a text (Viterbi), with scores
 * summed in double as the "tokenizers" library does, so that near ties fall the same way. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tokenizer_model.h"
#include "unicode.h"

/* Unknown characters score this much less than the worst piece. */
#define UNKNOWN_PENALTY 10.0

/* Longer pieces would make a search cost more than a prompt deserves; SentencePiece writes at most
 * 16 characters. */
#define PIECE_MAX 256

/* ---- loading ---- */

rv_status rv__unigram_add(rv__unigram *u, const char *text, size_t len, double score,
                          const char *file, rv_error *err)
{
    if (u->count >= RV__VOCAB_MAX)
        return rv__fail(err, RV_FORMAT, "%s: more than %d pieces", file, RV__VOCAB_MAX);
    if (len == 0 || len > PIECE_MAX)
        return rv__fail(err, RV_FORMAT, "%s: piece %zu has %zu bytes (1 to %d are possible)", file,
                        u->count, len, PIECE_MAX);
    if (!isfinite(score) || fabs(score) > 1e9)
        return rv__fail(err, RV_FORMAT, "%s: the score of piece %zu is not a number", file,
                        u->count);
    if (u->count == u->cap) {
        size_t cap = u->cap ? u->cap * 2 : 1024;
        double *scores = rv__realloc(u->scores, cap * sizeof *scores);
        if (!scores)
            return rv__fail(err, RV_MEMORY, "%s: out of memory", file);
        u->scores = scores;
        u->cap = cap;
    }
    rv_status status = rv__prefixes_add(&u->pieces, text, len, (int32_t)u->count, err);
    if (status)
        return status;
    if (u->count == 0 || score < u->lowest)
        u->lowest = score;
    u->scores[u->count++] = score;
    return RV_OK;
}

rv_status rv__unigram_finish(rv__unigram *u, int64_t unknown, const char *file, rv_error *err)
{
    if (unknown < 0 || (uint64_t)unknown >= u->count)
        return rv__fail(err, RV_FORMAT, "%s: the unknown token %lld is none of the %zu pieces",
                        file, (long long)unknown, u->count);
    u->unknown = (int32_t)unknown;
    if (!rv__prefixes_sort(&u->pieces))
        return rv__fail(err, RV_FORMAT, "%s: a piece appears twice", file);
    return RV_OK;
}

rv_status rv__unigram_load(rv__unigram *u, const rv__value *model, const char *file, rv_error *err)
{
    const rv__value *list = rv__json_get(model, "vocab");
    if (!rv__json_is_array(list))
        return rv__fail(err, RV_FORMAT, "%s: the vocabulary is not a list", file);
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v)) {
        const char *text = rv__json_string(rv__json_at(v, 0));
        double score = 0;
        if (!text || rv__json_size(v) != 2 || !rv__json_number(rv__json_at(v, 1), &score))
            return rv__fail(err, RV_FORMAT, "%s: piece %zu is not a text and a score", file,
                            u->count);
        rv_status status = rv__unigram_add(u, text, strlen(text), score, file, err);
        if (status)
            return status;
    }
    u->byte_fallback = rv__json_get_bool(model, "byte_fallback", false);
    return rv__unigram_finish(u, rv__json_get_int(model, "unk_id", -1), file, err);
}

void rv__unigram_free(rv__unigram *u)
{
    rv__prefixes_free(&u->pieces);
    rv__free(u->scores);
    *u = (rv__unigram){0};
}

int32_t rv__unigram_find(const rv__unigram *u, const char *text, size_t len)
{
    rv__prefix_cursor c = rv__prefixes_begin(&u->pieces);
    int32_t value = -1;
    for (size_t i = 0; i < len; i++)
        if (!rv__prefixes_next(&u->pieces, &c, text[i], &value))
            return -1;
    return value;
}

/* ---- running ---- */

typedef struct node {
    double score;   /* of the best path that ends here */
    uint32_t start; /* of its last piece; UINT32_MAX: no path ends here */
    int32_t id;
} node;

static void improve(node *n, double score, size_t start, int32_t id)
{
    if (n->start == UINT32_MAX || score > n->score)
        *n = (node){score, (uint32_t)start, id};
}

/* Fills nodes[0..len] with the best paths. */
static void search(const rv__unigram *u, const char *text, size_t len, node *nodes)
{
    for (size_t i = 0; i <= len; i++)
        nodes[i] = (node){0, UINT32_MAX, u->unknown};
    for (size_t start = 0; start < len;) {
        int32_t codepoint, id;
        size_t character = rv__unicode_next(text + start, len - start, &codepoint);
        bool covered = false;
        double score = nodes[start].score;
        rv__prefix_cursor c = rv__prefixes_begin(&u->pieces);
        for (size_t end = start; end < len && rv__prefixes_next(&u->pieces, &c, text[end], &id);) {
            end++;
            if (id < 0)
                continue;
            improve(&nodes[end], u->scores[id] + score, start, id);
            covered = covered || end - start == character;
        }
        if (!covered)
            improve(&nodes[start + character], u->lowest - UNKNOWN_PENALTY + score, start,
                    u->unknown);
        start += character;
    }
}

/* Adds the ids of a stretch no piece covers. */
static void add_unknown(const rv__unigram *u, const char *text, size_t len, rv__ids *out)
{
    int32_t id = rv__unigram_find(u, text, len);
    size_t before = out->count;
    if (id >= 0) {
        rv__ids_add(out, id);
        return;
    }
    for (size_t i = 0; i < len && u->byte_fallback; i++) {
        char name[8];
        int n = snprintf(name, sizeof name, "<0x%02X>", (unsigned)(unsigned char)text[i]);
        id = rv__unigram_find(u, name, (size_t)n);
        if (id < 0)
            break;
        rv__ids_add(out, id);
        if (i + 1 == len)
            return;
    }
    out->count = before;
    rv__ids_add(out, u->unknown);
}

/* Turns the chain of best pieces, which runs backwards, around: nodes[k].start becomes the end of
 * the piece at k. */
static void turn_around(node *nodes, size_t len)
{
    uint32_t end = (uint32_t)len;
    int32_t id = nodes[len].id;
    uint32_t start = nodes[len].start;
    while (end > 0) {
        node before = nodes[start];
        nodes[start].start = end;
        nodes[start].id = id;
        end = start;
        id = before.id;
        start = before.start;
    }
}

rv_status rv__unigram_run(const rv__unigram *u, const char *text, size_t len, rv__ids *out,
                          rv_error *err)
{
    node *nodes = len < UINT32_MAX ? rv__alloc((len + 1) * sizeof *nodes) : NULL;
    if (!nodes)
        return rv__fail(err, RV_MEMORY, "no memory to tokenize");
    search(u, text, len, nodes);
    turn_around(nodes, len);
    for (size_t i = 0; i < len;) {
        size_t end = nodes[i].start;
        if (nodes[i].id != u->unknown) {
            rv__ids_add(out, nodes[i].id);
            i = end;
            continue;
        }
        while (end < len && nodes[end].id == u->unknown) /* unknown stretches become one token */
            end = nodes[end].start;
        add_unknown(u, text + i, end - i, out);
        i = end;
    }
    rv__free(nodes);
    return out->failed ? rv__fail(err, RV_MEMORY, "no memory to tokenize") : RV_OK;
}
