/* Prompts through four tokenizers and four encoders, with the limits the diffusers pipeline sets.
 * Must keep the order of encoders: it is the order in which memory is given back. */
#include "text.h"

#include <string.h>

/* The pipeline gives CLIP no more tokens than this, whatever its positions. */
#define CLIP_LENGTH_MAX 218

struct rv__text {
    rv__device *device;
    const rv__weights *weights;
    rv__tokenizer *tokenizers[RV__TEXT_PARTS];
    rv__clip *clip[2];
    rv__t5 *t5;
    rv__llama *llama;
    rv__text_opened_fn *opened;
    void *opened_user;
};

const char *rv__text_name(rv__text_part part)
{
    static const char *const names[] = {"text_encoder", "text_encoder_2", "text_encoder_3",
                                        "text_encoder_4"};
    return names[part];
}

const char *rv__text_tokenizer_name(rv__text_part part)
{
    static const char *const names[] = {"tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4"};
    return names[part];
}

rv_status rv__text_open(rv__device *d, const rv__weights *w, rv__text **out, rv_error *err)
{
    *out = NULL;
    rv__text *t = rv__calloc(1, sizeof *t);
    if (!t)
        return rv__fail(err, RV_MEMORY, "out of memory");
    t->device = d;
    t->weights = w;
    rv_status status = RV_OK;
    for (int i = 0; i < RV__TEXT_PARTS && !status; i++)
        status = rv__tokenizer_open(w, rv__text_tokenizer_name((rv__text_part)i), &t->tokenizers[i],
                                    err);
    if (status) {
        rv__text_close(t);
        return status;
    }
    rv__tokenizer *llama = t->tokenizers[RV__LLAMA];
    if (rv__tokenizer_end(llama) >= 0) /* the pipeline pads Llama with its end token */
        rv__tokenizer_set_pad(llama, rv__tokenizer_end(llama));
    *out = t;
    return RV_OK;
}

void rv__text_close(rv__text *t)
{
    if (!t)
        return;
    rv__text_release(t);
    for (int i = 0; i < RV__TEXT_PARTS; i++)
        rv__tokenizer_close(t->tokenizers[i]);
    rv__free(t);
}

const rv__tokenizer *rv__text_tokenizer(const rv__text *t, rv__text_part part)
{
    return t->tokenizers[part];
}

rv_status rv__text_tokenize(const rv__text *t, rv__text_part part, const char *text, size_t len,
                            size_t length, rv__token_ids *out, rv_error *err)
{
    const rv__tokenizer *tokenizer = t->tokenizers[part];
    size_t most = part < RV__T5 ? CLIP_LENGTH_MAX : rv__tokenizer_limit(tokenizer);
    *out = (rv__token_ids){0};
    if (length < 1 || length > RV__TEXT_LENGTH_MAX)
        return rv__fail(err, RV_UNSUPPORTED, "maximum sequence length must be 1 to %d",
                        RV__TEXT_LENGTH_MAX);
    return rv__tokenizer_encode(tokenizer, text, len, length < most ? length : most, out, err);
}

/* ---- encoders ---- */

void rv__text_on_open(rv__text *t, rv__text_opened_fn *fn, void *user)
{
    t->opened = fn;
    t->opened_user = user;
}

static rv_status open_part(rv__text *t, rv__text_part part, rv_error *err)
{
    const char *name = rv__text_name(part);
    switch (part) {
    case RV__CLIP_1:
    case RV__CLIP_2:
        return rv__clip_open(t->device, t->weights, name, &t->clip[part], err);
    case RV__T5:
        return rv__t5_open(t->device, t->weights, name, &t->t5, err);
    case RV__LLAMA:
        return rv__llama_open(t->device, t->weights, name, &t->llama, err);
    default:
        return rv__fail(err, RV_INTERNAL, "no such text encoder");
    }
}

static rv__params *params_of(const rv__text *t, rv__text_part part)
{
    if (part == RV__T5)
        return t->t5 ? rv__t5_params(t->t5) : NULL;
    if (part == RV__LLAMA)
        return t->llama ? rv__llama_params(t->llama) : NULL;
    return t->clip[part] ? rv__clip_params(t->clip[part]) : NULL;
}

rv_status rv__text_load(rv__text *t, rv__text_part part, rv_error *err)
{
    if (part >= RV__TEXT_PARTS || params_of(t, part))
        return part < RV__TEXT_PARTS ? RV_OK : rv__fail(err, RV_INTERNAL, "no such text encoder");
    rv_status status = open_part(t, part, err);
    if (status == RV_OK && t->opened)
        status = t->opened(t->opened_user, part, params_of(t, part), err);
    if (status != RV_OK)
        rv__text_unload(t, part);
    return status;
}

void rv__text_unload(rv__text *t, rv__text_part part)
{
    if (part == RV__CLIP_1 || part == RV__CLIP_2) {
        rv__clip_close(t->clip[part]);
        t->clip[part] = NULL;
    } else if (part == RV__T5) {
        rv__t5_close(t->t5);
        t->t5 = NULL;
    } else if (part == RV__LLAMA) {
        rv__llama_close(t->llama);
        t->llama = NULL;
    }
}

void rv__text_release(rv__text *t)
{
    for (int i = 0; i < RV__TEXT_PARTS; i++)
        rv__text_unload(t, (rv__text_part)i);
}

rv__llama *rv__text_llama(rv__text *t)
{
    return t->llama;
}

/* ---- encoding ---- */

/* Makes *list hold `count` floats, keeping what is there. */
static rv_status grow(float **list, size_t count, rv_error *err)
{
    float *bigger =
        count < SIZE_MAX / sizeof **list ? rv__realloc(*list, count * sizeof *bigger) : NULL;
    if (!bigger)
        return rv__fail(err, RV_MEMORY, "no memory for the states of the prompt");
    *list = bigger;
    return RV_OK;
}

static rv_status run_clip(rv__clip *c, const rv__text_run *run, rv__text_embeds *out, rv_error *err)
{
    int64_t before = out->pooled_channels;
    rv_status status = grow(&out->pooled, (size_t)(before + rv__clip_channels(c)), err);
    if (status)
        return status;
    out->pooled_channels += rv__clip_channels(c);
    return rv__clip_run(c, run, out->pooled + before, err);
}

static rv_status run_t5(rv__t5 *t5, const rv__text_run *run, rv__text_embeds *out, rv_error *err)
{
    out->t5_tokens = (int64_t)run->tokens->length;
    out->t5_channels = rv__t5_channels(t5);
    rv_status status = grow(&out->t5, (size_t)(out->t5_tokens * out->t5_channels), err);
    return status ? status : rv__t5_run(t5, run, out->t5, err);
}

static rv_status run_llama(rv__llama *llama, const rv__text_run *run, rv__text_embeds *out,
                           rv_error *err)
{
    out->llama_layers = rv__llama_layers(llama);
    out->llama_tokens = (int64_t)run->tokens->length;
    out->llama_channels = rv__llama_channels(llama);
    rv_status status = grow(
        &out->llama, (size_t)(out->llama_layers * out->llama_tokens * out->llama_channels), err);
    return status ? status : rv__llama_run(llama, run, out->llama, err);
}

static rv_status encode_part(rv__text *t, rv__text_part part, const rv__text_prompt *prompt,
                             size_t length, rv__text_embeds *out, rv__cancel_fn *cancelled,
                             void *user, rv_error *err)
{
    rv__token_ids tokens;
    rv_status status = rv__text_tokenize(t, part, prompt->text, prompt->len, length, &tokens, err);
    if (status)
        return status;
    rv__text_run run = {.tokens = &tokens, .cancelled = cancelled, .cancelled_user = user};
    out->tokens[part] = tokens.total;
    out->limits[part] = tokens.used;
    if (part == RV__T5)
        status = run_t5(t->t5, &run, out, err);
    else if (part == RV__LLAMA)
        status = run_llama(t->llama, &run, out, err);
    else
        status = run_clip(t->clip[part], &run, out, err);
    rv__token_ids_free(&tokens);
    return status;
}

rv_status rv__text_encode(rv__text *t, const rv__text_prompt *prompts, size_t count, size_t length,
                          bool keep, rv__text_embeds *out, rv__cancel_fn *cancelled, void *user,
                          rv_error *err)
{
    rv_status status = RV_OK;
    memset(out, 0, count * sizeof *out);
    for (int i = 0; i < RV__TEXT_PARTS && !status; i++) {
        rv__text_part part = (rv__text_part)i;
        status = rv__text_load(t, part, err);
        for (size_t k = 0; k < count && !status; k++)
            status = encode_part(t, part, &prompts[k], length, &out[k], cancelled, user, err);
        if (!keep)
            rv__text_unload(t, part);
    }
    for (size_t k = 0; k < count && status; k++)
        rv__text_embeds_free(&out[k]);
    return status;
}

void rv__text_embeds_free(rv__text_embeds *e)
{
    rv__free(e->pooled);
    rv__free(e->t5);
    rv__free(e->llama);
    *e = (rv__text_embeds){0};
}
