/* The text side of HiDream-I1: a prompt becomes the states of four text encoders.
 * Tokenizers stay open; encoders are opened when they are needed and can be closed one after
 * another, so that no more than one of them takes memory at a time.  Everything belongs to the
 * device's thread. */
#ifndef RV_TEXT_H
#define RV_TEXT_H

#include "clip.h"
#include "llama.h"
#include "t5.h"
#include "tokenizer.h"

#define RV__TEXT_LENGTH 128 /* tokens per encoder unless told otherwise */

/* The encoders in the order they run. */
typedef enum rv__text_part {
    RV__CLIP_1,
    RV__CLIP_2,
    RV__T5,
    RV__LLAMA,
    RV__TEXT_PARTS
} rv__text_part;

typedef struct rv__text rv__text;

/* What a prompt means to the transformer; freed by rv__text_embeds_free, all zero is empty. */
typedef struct rv__text_embeds {
    float *pooled; /* [pooled_channels]: both CLIP vectors, one behind the other */
    float *t5; /* [t5_tokens][t5_channels]                                                       */
    float *llama; /* [llama_layers][llama_tokens][llama_channels]; only the last layer is normed */
    int64_t pooled_channels, t5_tokens, t5_channels, llama_layers, llama_tokens, llama_channels;
    size_t tokens[RV__TEXT_PARTS]; /* what the prompt has for each encoder, special tokens included
                                      … */
    size_t
        limits[RV__TEXT_PARTS]; /* … and how many of those it was given: fewer means it was cut */
} rv__text_embeds;

typedef struct rv__text_prompt {
    const char *text; /* UTF-8 */
    size_t len;
} rv__text_prompt;

/* Opens the four tokenizers; device and weights must outlive it (out; rv__text_close). */
rv_status rv__text_open(rv__device *d, const rv__weights *w, rv__text **out, rv_error *err);
void rv__text_close(rv__text *t);

/* Encodes `count` prompts into out[count], one encoder after the other; length: tokens per encoder
 * (max_sequence_length).  keep: leave the encoders open.  On failure everything in out is empty.
 * RV_VALIDATION (a prompt), RV_UNSUPPORTED (length), RV_FORMAT (a file), RV_MEMORY, RV_CANCELLED.
 */
rv_status rv__text_encode(rv__text *t, const rv__text_prompt *prompts, size_t count, size_t length,
                          bool keep, rv__text_embeds *out, rv__cancel_fn *cancelled, void *user,
                          rv_error *err);
void rv__text_embeds_free(rv__text_embeds *e);

/* ---- single steps, for tests and tools ---- */

const char *rv__text_name(rv__text_part part);           /* of the encoder: "text_encoder" …   */
const char *rv__text_tokenizer_name(rv__text_part part); /* "tokenizer" …                  */
/* Called whenever an encoder was opened, with its parameters, to change them; what fails closes it
 * again.  fn NULL: nobody. */
typedef rv_status rv__text_opened_fn(void *user, rv__text_part part, rv__params *params,
                                     rv_error *err);
void rv__text_on_open(rv__text *t, rv__text_opened_fn *fn, void *user);

const rv__tokenizer *rv__text_tokenizer(const rv__text *t, rv__text_part part);

/* Ids as the pipeline gives them to this encoder: padded or cut to `length` or the encoder's own
 * limit. */
rv_status rv__text_tokenize(const rv__text *t, rv__text_part part, const char *text, size_t len,
                            size_t length, rv__token_ids *out, rv_error *err);

/* Opens an encoder unless it is open; closes one, or all. */
rv_status rv__text_load(rv__text *t, rv__text_part part, rv_error *err);
void rv__text_unload(rv__text *t, rv__text_part part);
void rv__text_release(rv__text *t);

/* The open encoders; NULL while they are not. */
rv__llama *rv__text_llama(rv__text *t);

#endif
