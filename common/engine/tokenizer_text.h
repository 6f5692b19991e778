/* What tokenizers do with text before it meets a vocabulary: patterns, normalizers, pre-tokenizers.
 * The steps have the names and the meaning of the "tokenizers" JSON format (tokenizer.json); a step
 * that is not known here is an error, never skipped.  Immutable after loading, so any thread may
 * use them. */
#ifndef RV_TOKENIZER_TEXT_H
#define RV_TOKENIZER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/status.h"

#define RV__TOKENIZER_TEXT_MAX  (256 << 10) /* bytes of a prompt                        */
#define RV__TOKENIZER_WORK_MAX  (4 << 20)   /* bytes it may become inside the tokenizer */
#define RV__TOKENIZER_STEPS_MAX 16

/* What one encode may still spend; see rv__pattern_next. */
typedef struct rv__tokenizer_work {
    const char *file; /* for messages */
    int hard_matches;
} rv__tokenizer_work;

/* A regular expression or a plain text to look for. */
typedef struct rv__pattern rv__pattern;

/* `literal` or an expression in the syntax of tokenizer.json (out; rv__pattern_free). */
rv_status rv__pattern_new(const char *text, bool literal, const char *file, rv__pattern **out,
                          rv_error *err);
void rv__pattern_free(rv__pattern *p);

/* The same from {"String": …} or {"Regex": …}. */
rv_status rv__pattern_load(const rv__value *json, const char *file, rv__pattern **out,
                           rv_error *err);

/* Goes through all matches of a text in order. */
typedef struct rv__pattern_scan {
    const rv__pattern *pattern;
    const char *text;
    size_t len, from;
    void *match; /* pcre2_match_data */
} rv__pattern_scan;

rv_status rv__pattern_begin(rv__pattern_scan *s, const rv__pattern *p, const char *text, size_t len,
                            rv_error *err);
/* *found says whether there is another match; it may be empty.  An expression that needs too many
 * steps fails. */
rv_status rv__pattern_next(rv__pattern_scan *s, rv__tokenizer_work *work, bool *found,
                           size_t *start, size_t *end, rv_error *err);
void rv__pattern_end(rv__pattern_scan *s);

/* A precompiled character map (SentencePiece's normalisation rules). */
typedef struct rv__charsmap rv__charsmap;

rv_status rv__charsmap_new(const void *data, size_t len, const char *file, rv__charsmap **out,
                           rv_error *err);
rv_status rv__charsmap_new_base64(const char *text, const char *file, rv__charsmap **out,
                                  rv_error *err);
void rv__charsmap_run(const rv__charsmap *map, const char *text, size_t len, rv__buf *out);
void rv__charsmap_free(rv__charsmap *map);

/* Pieces of text: spans in one buffer. */
typedef struct rv__piece {
    size_t start, len;
    bool first; /* begins where the prompt begins */
} rv__piece;

typedef struct rv__pieces {
    rv__buf text;
    rv__piece *list;
    size_t count, cap;
    bool failed;
} rv__pieces;

void rv__pieces_init(rv__pieces *p);
void rv__pieces_clear(rv__pieces *p); /* keeps the memory */
void rv__pieces_add(rv__pieces *p, const char *text, size_t len,
                    bool first); /* nothing when len is 0 */
void rv__pieces_free(rv__pieces *p);

/* ---- normalizers ---- */

typedef struct rv__normalizer_step {
    enum {
        RV__NORMALIZE_FORM,
        RV__NORMALIZE_LOWER,
        RV__NORMALIZE_STRIP,
        RV__NORMALIZE_REPLACE,
        RV__NORMALIZE_PREPEND,
        RV__NORMALIZE_CHARSMAP
    } kind;
    int form; /* rv__unicode_form */
    bool left, right;
    rv__pattern *pattern;
    char *content;
    rv__charsmap *map;
} rv__normalizer_step;

typedef struct rv__normalizer {
    rv__normalizer_step steps[RV__TOKENIZER_STEPS_MAX];
    size_t count;
} rv__normalizer;

/* Appends the steps described by `json` (may be NULL or null: none). */
rv_status rv__normalizer_load(rv__normalizer *n, const rv__value *json, const char *file,
                              rv_error *err);

/* Replaces the text in `io` by its normal form. */
rv_status rv__normalizer_run(const rv__normalizer *n, rv__buf *io, rv__tokenizer_work *work,
                             rv_error *err);
void rv__normalizer_free(rv__normalizer *n);

/* ---- pre-tokenizers ---- */

typedef enum rv__split_behavior {
    RV__SPLIT_REMOVED,
    RV__SPLIT_ISOLATED,
    RV__SPLIT_WITH_PREVIOUS,
    RV__SPLIT_WITH_NEXT,
    RV__SPLIT_CONTIGUOUS
} rv__split_behavior;

typedef struct rv__splitter_step {
    enum {
        RV__SPLITTER_PATTERN,
        RV__SPLITTER_BYTES,
        RV__SPLITTER_SPACES,
        RV__SPLITTER_METASPACE
    } kind;
    rv__pattern *pattern; /* PATTERN; BYTES: or NULL; METASPACE: or NULL when it does not split */
    rv__split_behavior behavior;
    bool invert;
    enum { RV__PREFIX_NEVER, RV__PREFIX_FIRST, RV__PREFIX_ALWAYS } prefix;
    char *replacement; /* METASPACE */
} rv__splitter_step;

typedef struct rv__splitter {
    rv__splitter_step steps[RV__TOKENIZER_STEPS_MAX];
    size_t count;
} rv__splitter;

rv_status rv__splitter_load(rv__splitter *s, const rv__value *json, const char *file,
                            rv_error *err);

/* Splits the pieces in `io`; `spare` is scratch memory of the same kind. */
rv_status rv__splitter_run(const rv__splitter *s, rv__pieces *io, rv__pieces *spare,
                           rv__tokenizer_work *work, rv_error *err);
void rv__splitter_free(rv__splitter *s);

#endif
