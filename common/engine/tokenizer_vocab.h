/* Look-up structures of the tokenizers: token text -> id, pair of ids -> merge, and longest-prefix
 * search.  The texts come from files nobody vouches for: sizes are limited and hashing is keyed, so
 * no file can make look-ups slow. */
#ifndef RV_TOKENIZER_VOCAB_H
#define RV_TOKENIZER_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

#define RV__VOCAB_MAX       (1 << 20) /* tokens                  */
#define RV__VOCAB_TOKEN_MAX 1024      /* bytes of one token      */
#define RV__VOCAB_BYTES_MAX (64 << 20)

/* Token texts and their ids. */
typedef struct rv__vocab_slot {
    uint32_t start, len; /* in `texts`            */
    int32_t id;          /* -1: the slot is empty */
} rv__vocab_slot;

typedef struct rv__vocab {
    rv__vocab_slot *slots;
    size_t count, cap; /* cap is a power of two */
    uint64_t key;
    rv__buf texts;
} rv__vocab;

/* Adds a token; what is wrong with it is told in err, which begins with `file`. */
rv_status rv__vocab_add(rv__vocab *v, const char *text, size_t len, int64_t id, const char *file,
                        rv_error *err);
int32_t rv__vocab_find(const rv__vocab *v, const char *text, size_t len); /* -1: not there */
void rv__vocab_free(rv__vocab *v);

/* Pairs of token ids and what they merge to. */
typedef struct rv__merge {
    int32_t left, right; /* left -1: the slot is empty */
    int32_t id;          /* the token they become      */
    int32_t rank;        /* lower ranks merge first    */
} rv__merge;

typedef struct rv__merges {
    rv__merge *slots;
    size_t count, cap;
    uint64_t key;
} rv__merges;

/* Adds a merge; of two for the same pair the later one counts. */
rv_status rv__merges_add(rv__merges *m, rv__merge merge, rv_error *err);
const rv__merge *rv__merges_find(const rv__merges *m, int32_t left, int32_t right);
void rv__merges_free(rv__merges *m);

/* A sorted list of texts that is searched byte by byte. */
typedef struct rv__prefix {
    uint32_t start, len; /* in `texts` */
    int32_t value;
} rv__prefix;

typedef struct rv__prefixes {
    rv__prefix *list;
    size_t count, cap;
    rv__buf texts;
} rv__prefixes;

typedef struct rv__prefix_cursor {
    size_t low, high, depth;
} rv__prefix_cursor;

/* Adds a text (not empty); rv__prefixes_sort must follow before the first search. */
rv_status rv__prefixes_add(rv__prefixes *p, const char *text, size_t len, int32_t value,
                           rv_error *err);

/* Sorts; false when a text appears twice (a search then finds its lowest value). */
bool rv__prefixes_sort(rv__prefixes *p);

/* Starts a search, and narrows it by one byte: false when no text begins like that; *value gets the
 * value of the text that ends here, or -1. */
rv__prefix_cursor rv__prefixes_begin(const rv__prefixes *p);
bool rv__prefixes_next(const rv__prefixes *p, rv__prefix_cursor *c, char byte, int32_t *value);

void rv__prefixes_free(rv__prefixes *p);

#endif
