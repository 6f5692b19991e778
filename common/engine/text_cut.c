/* See text_cut.h. */
#include "engine/text_cut.h"

#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

enum { NOTE_MAX = 440, QUOTE_MAX = 24 };

/* Where words end; spaces are those of ASCII, which every tokenizer splits at. */
typedef struct words {
    size_t *ends, count;
} words;

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool split(const char *text, size_t len, words *w)
{
    *w = (words){.ends = rv__alloc((len / 2 + 1) * sizeof *w->ends)};
    for (size_t i = 0; w->ends && i < len; i++)
        if (!is_space(text[i]) && (i + 1 == len || is_space(text[i + 1])))
            w->ends[w->count++] = i + 1;
    return w->ends != NULL;
}

/* Ids that a text has for an encoder, and how many of them it gets. */
static bool count_ids(const rv__text *t, rv__text_part part, const char *text, size_t len,
                      size_t length, size_t *total, size_t *used)
{
    rv__token_ids ids;
    bool ok = rv__text_tokenize(t, part, text, len, length, &ids, NULL) == RV_OK;
    *total = ok ? ids.total : 0;
    *used = ok ? ids.used : 0;
    if (ok)
        rv__token_ids_free(&ids);
    return ok;
}

/* How many whole words reach the encoder; all of them unless it is cut. */
static size_t reach(const rv__text *t, rv__text_part part, const char *text, const words *w,
                    size_t length)
{
    size_t total, used, low = 0, high = w->count;
    size_t len = w->count ? w->ends[w->count - 1] : 0;
    if (!count_ids(t, part, text, len, length, &total, &used) || total <= used)
        return w->count;
    while (low + 1 < high) {
        size_t middle = low + (high - low) / 2;
        if (count_ids(t, part, text, w->ends[middle - 1], length, &total, &used) && total <= used)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The last word that is read, n of the text, shortened at a character's border. */
static void quote(rv__buf *b, const char *text, const words *w, size_t n)
{
    size_t end = w->ends[n - 1], from = end;
    while (from && !is_space(text[from - 1]))
        from--;
    size_t len = end - from;
    bool is_long = len > QUOTE_MAX;
    if (is_long)
        len = rv__utf8_valid(text + from, QUOTE_MAX);
    rv__buf_addf(b, "after word %zu (\"%.*s%s\")", n, (int)len, text + from, is_long ? "…" : "");
}

char *rv__text_cut(const rv__text *t, const char *prompt, size_t length)
{
    static const char *const names[] = {"CLIP-L", "CLIP-G", "T5", "Llama"};
    const char *before = "is longer than the model reads: ";
    words w;
    rv__buf b;
    rv__buf_init(&b, NOTE_MAX);
    if (!split(prompt, strlen(prompt), &w))
        return NULL;
    for (int i = 0; i < RV__TEXT_PARTS; i++) {
        size_t n = reach(t, (rv__text_part)i, prompt, &w, length);
        if (n == w.count)
            continue;
        rv__buf_addf(&b, "%s%s stops ", before, names[i]);
        if (n)
            quote(&b, prompt, &w, n);
        else
            rv__buf_adds(&b, "inside word 1");
        before = ", ";
    }
    if (b.len)
        rv__buf_addf(&b, " of %zu", w.count);
    rv__free(w.ends);
    char *note = b.len ? rv__buf_take(&b, NULL) : NULL;
    rv__buf_free(&b);
    return note;
}
