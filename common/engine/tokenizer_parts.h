/* What a tokenizer is made of; shared by the files that load it and the one that runs it, and by
 * their tests. */
#ifndef RV_TOKENIZER_PARTS_H
#define RV_TOKENIZER_PARTS_H

#include "tokenizer.h"
#include "tokenizer_model.h"
#include "tokenizer_text.h"

#define RV__TOKENIZER_WRAP_MAX  8 /* special tokens before or after a text */
#define RV__TOKENIZER_ADDED_MAX 4096

/* A token that is found in the text before anything else happens to it. */
typedef struct rv__added_token {
    char *text;
    int32_t id;
    bool normalized; /* looked for in the normalized text */
    bool single_word, strip_left, strip_right;
} rv__added_token;

struct rv__tokenizer {
    char file[128]; /* for messages: the file most of it came from */
    rv__normalizer normalizer;
    rv__splitter splitter;
    bool is_unigram, is_clip; /* is_clip: from vocab.json and merges.txt */
    rv__bpe bpe;
    rv__unigram unigram;
    rv__added_token *added;
    size_t added_count, added_cap;
    rv__prefixes plain, normalized; /* texts of added tokens; value: place in `added` */
    int32_t before[RV__TOKENIZER_WRAP_MAX], after[RV__TOKENIZER_WRAP_MAX];
    size_t before_count, after_count;
    int32_t pad, end;
    size_t limit;
};

/* Bytes of a file by its path, or NULL; borrowed until the tokenizer is open. */
typedef const char *rv__tokenizer_file_fn(const void *source, const char *path, size_t *len);

/* rv__tokenizer_open for files that are not those of a model. */
rv_status rv__tokenizer_open_files(rv__tokenizer_file_fn *read, const void *source,
                                   const char *folder, rv__tokenizer **out, rv_error *err);

/* Loaders: each fills the model, the steps and the special tokens around a text. */
rv_status rv__tokenizer_load_json(rv__tokenizer *t, const rv__value *json, rv_error *err);
rv_status rv__tokenizer_load_clip(rv__tokenizer *t, const rv__value *vocab, const char *merges,
                                  size_t merges_len, const char *merges_file, rv_error *err);
rv_status rv__tokenizer_load_spiece(rv__tokenizer *t, const void *data, size_t len,
                                    int64_t extra_ids, rv_error *err);

/* Special tokens of tokenizer_config.json and special_tokens_map.json (each may be NULL). */
rv_status rv__tokenizer_load_config(rv__tokenizer *t, const rv__value *config, const rv__value *map,
                                    rv_error *err);

/* Adds a token unless one with this text is there.  id -1: the vocabulary's, or the next free. */
rv_status rv__tokenizer_add(rv__tokenizer *t, const rv__added_token *token, rv_error *err);

/* Id of a text among the added tokens and in the vocabulary; -1: none. */
int32_t rv__tokenizer_find(const rv__tokenizer *t, const char *text);

#endif
