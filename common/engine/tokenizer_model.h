/* The models of tokenizers: from one piece of text to token ids.  Immutable after loading, so any
 * thread may use them. */
#ifndef RV_TOKENIZER_MODEL_H
#define RV_TOKENIZER_MODEL_H

#include "base/json.h"
#include "tokenizer_vocab.h"

/* A growing list of ids. */
typedef struct rv__ids {
    int32_t *data;
    size_t count, cap;
    bool failed;
} rv__ids;

void rv__ids_add(rv__ids *ids, int32_t id);
void rv__ids_free(rv__ids *ids);

/* Byte-pair encoding. */
typedef struct rv__bpe {
    rv__vocab vocab;
    rv__merges merges;
    char *prefix;    /* of every symbol of a piece but the first, may be NULL */
    char *suffix;    /* of the last symbol of a piece, may be NULL            */
    int32_t unknown; /* -1: what is unknown is left out           */
    bool fuse_unknown, byte_fallback, ignore_merges;
} rv__bpe;

rv_status rv__bpe_load(rv__bpe *b, const rv__value *model, const char *file,
                       rv_error *err); /* of a tokenizer.json */
/* Adds the tokens of a JSON object text -> id. */
rv_status rv__bpe_load_vocab(rv__bpe *b, const rv__value *object, const char *file, rv_error *err);
/* Adds the merge of two texts; `where` is its rank and its place for messages. */
rv_status rv__bpe_add_merge(rv__bpe *b, const char *left, size_t left_len, const char *right,
                            size_t right_len, size_t where, const char *file, rv_error *err);
rv_status rv__bpe_run(const rv__bpe *b, const char *text, size_t len, rv__ids *out, rv_error *err);
void rv__bpe_free(rv__bpe *b);

/* Unigram language model: the segmentation with the best sum of scores. */
typedef struct rv__unigram {
    rv__prefixes pieces; /* value: the id          */
    double *scores;      /* by id                  */
    size_t count, cap;
    double lowest;
    int32_t unknown;
    bool byte_fallback;
} rv__unigram;

rv_status rv__unigram_load(rv__unigram *u, const rv__value *model, const char *file, rv_error *err);
/* Adds the next piece; its id is the number of pieces before it. */
rv_status rv__unigram_add(rv__unigram *u, const char *text, size_t len, double score,
                          const char *file, rv_error *err);
/* Must follow the last piece; `unknown` is the id of what no piece covers. */
rv_status rv__unigram_finish(rv__unigram *u, int64_t unknown, const char *file, rv_error *err);
int32_t rv__unigram_find(const rv__unigram *u, const char *text, size_t len); /* -1: not there */
rv_status rv__unigram_run(const rv__unigram *u, const char *text, size_t len, rv__ids *out,
                          rv_error *err);
void rv__unigram_free(rv__unigram *u);

#endif
