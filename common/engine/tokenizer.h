/* Tokenizers: a prompt becomes token ids, exactly those of the Hugging Face pipeline.  One
 * implementation serves all: the steps of a tokenizer.json, or the same steps made from the older
 * files (vocab.json + merges.txt of CLIP, spiece.model of T5).  Immutable after opening, so any
 * thread may encode. No file and no prompt may crash it or make it take more than a moment. */
#ifndef RV_TOKENIZER_H
#define RV_TOKENIZER_H

#include "base/status.h"
#include "weights.h"

typedef struct rv__tokenizer rv__tokenizer;

/* Ids as a text encoder gets them.  Freed by rv__token_ids_free; all zero is empty. */
typedef struct rv__token_ids {
    int32_t *ids;
    int32_t *mask; /* 1: token, 0: padding                                            */
    size_t length; /* of ids and mask                                                 */
    size_t used;   /* ids before the padding                                          */
    size_t total;  /* ids the whole prompt has; more than `used`: the end was cut off */
} rv__token_ids;

/* Reads the files of one folder of the model: "tokenizer", "tokenizer_2" … (out;
 * rv__tokenizer_close). RV_NOT_FOUND, RV_FORMAT, RV_UNSUPPORTED, RV_MEMORY; errors begin with the
 * file's name. */
rv_status rv__tokenizer_open(const rv__weights *w, const char *folder, rv__tokenizer **out,
                             rv_error *err);
void rv__tokenizer_close(rv__tokenizer *t);

/* Tokenizes UTF-8.  length 0: as many ids as there are.  Else exactly `length` ids: padded on the
 * right, or cut so that the special tokens at both ends stay.  RV_VALIDATION: no UTF-8, too long;
 * RV_UNSUPPORTED: no padding token, length leaves no room for the special tokens. */
rv_status rv__tokenizer_encode(const rv__tokenizer *t, const char *text, size_t len, size_t length,
                               rv__token_ids *out, rv_error *err);
void rv__token_ids_free(rv__token_ids *t);

/* Id that fills up, -1: none.  Llama has none of its own; the pipeline then takes the
 * end-of-sequence id. */
int32_t rv__tokenizer_pad(const rv__tokenizer *t);
int32_t rv__tokenizer_end(const rv__tokenizer *t);        /* -1: none */
void rv__tokenizer_set_pad(rv__tokenizer *t, int32_t id); /* before sharing it */

/* Longest input the model's makers name (model_max_length). */
size_t rv__tokenizer_limit(const rv__tokenizer *t);

#endif
