/* Prompt weighting: which parts of a prompt count how much, in the two notations of the protocol.
 *
 * compel:    word+  word--  (some words)+  (some words)1.3, nested; the whole prompt may be
 *            ("one", "two").blend(1, 0.8)  or  ("one", "two").and()
 * sdEmbeds:  (words)  (words:1.5)  [words], nested
 *
 * A + or a pair of round brackets of sdEmbeds counts 1.1, a - 0.9, a pair of square ones 1 / 1.1;
 * a backslash takes a sign's meaning away, a bracket that is never closed holds to the end, one
 * that was never opened is text.  No prompt may crash it or make it take more than a moment. */
#ifndef RV_WEIGHTING_H
#define RV_WEIGHTING_H

#include "text.h"

typedef enum rv__weighting {
    RV__WEIGHTING_NONE, /* every sign is text */
    RV__WEIGHTING_COMPEL,
    RV__WEIGHTING_SD_EMBEDS
} rv__weighting;

/* The value of promptWeighting in requests; NULL and other words are NONE. */
rv__weighting rv__weighting_named(const char *name);

#define RV__WEIGHT_MAX         10.0 /* largest weight of a part; the least is 0 */
#define RV__WEIGHTING_CLAUSES  8
#define RV__WEIGHTING_DEPTH    64
#define RV__WEIGHTING_MAX_SPAN 256 /* parts of different weight in one clause */

/* Bytes [from, to) of a clause. */
typedef struct rv__weighted_span {
    size_t from, to;
    float weight;
} rv__weighted_span;

typedef struct rv__weighted_clause {
    char *text; /* without signs */
    rv__weighted_span
        *spans; /* in order, from the first byte to the last; none for an empty text */
    size_t span_count;
    float weight;
} rv__weighted_clause;

typedef struct rv__weighted {
    rv__weighted_clause clauses[RV__WEIGHTING_CLAUSES];
    size_t count; /* at least 1 */
    enum { RV__JOIN_NONE, RV__JOIN_BLEND, RV__JOIN_AND } join;
} rv__weighted;

/* Reads a prompt (out; rv__weighted_free, all zero after a failure).  Weights of a blend come out
 * with the sum 1 unless its last argument is no_normalize.  RV_VALIDATION names `parameter`. */
rv_status rv__weighted_parse(rv__weighting syntax, const char *prompt, const char *parameter,
                             rv__weighted *out, rv_error *err);
void rv__weighted_free(rv__weighted *w);

/* The states of a weighted prompt (out; rv__text_embeds_free): as rv__text_encode with keep, and
 * exactly its result when every weight is 1.  T5's and Llama's states z of a word of weight w
 * become e + w (z - e), e being those of an empty prompt at the same place; CLIP's vectors, which
 * have no places, know weights only between clauses. */
rv_status rv__weighted_encode(rv__text *t, const rv__weighted *w, size_t length,
                              rv__text_embeds *out, rv__cancel_fn *cancelled, void *user,
                              rv_error *err);

/* rv__text_cut of the clauses; of .and(), whether all find room. */
char *rv__weighted_cut(const rv__text *t, const rv__weighted *w, size_t length);

#endif
