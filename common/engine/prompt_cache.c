/* See prompt_cache.h. */
#include "prompt_cache.h"

#include <string.h>

#include "base/memory.h"

enum { MOST = 2 }; /* prompts of one request */

typedef struct entry {
    struct entry *next; /* used before this one */
    char *prompt;
    rv__weighting weighting;
    size_t sequence, bytes;
    rv__text_embeds embeds;
} entry;

struct rv__prompt_cache {
    entry *first;
    size_t max;
};

rv__prompt_cache *rv__prompt_cache_new(size_t max_bytes)
{
    rv__prompt_cache *c = rv__calloc(1, sizeof *c);

    if (c)
        c->max = max_bytes;
    return c;
}

static void free_entry(entry *e)
{
    if (!e)
        return;
    rv__text_embeds_free(&e->embeds);
    rv__free(e->prompt);
    rv__free(e);
}

void rv__prompt_cache_clear(rv__prompt_cache *c)
{
    while (c->first) {
        entry *e = c->first;
        c->first = e->next;
        free_entry(e);
    }
}

void rv__prompt_cache_free(rv__prompt_cache *c)
{
    if (c)
        rv__prompt_cache_clear(c);
    rv__free(c);
}

static size_t size_of(const rv__text_embeds *e)
{
    return sizeof(float) * (size_t)(e->pooled_channels + e->t5_tokens * e->t5_channels +
                                    e->llama_layers * e->llama_tokens * e->llama_channels);
}

/* Moves the entry to the front. */
static entry *find(rv__prompt_cache *c, const char *prompt, rv__weighting weighting,
                   size_t sequence)
{
    for (entry **at = &c->first; *at; at = &(*at)->next)
        if ((*at)->sequence == sequence && (*at)->weighting == weighting &&
            strcmp((*at)->prompt, prompt) == 0) {
            entry *e = *at;
            *at = e->next;
            e->next = c->first;
            c->first = e;
            return e;
        }
    return NULL;
}

/* Forgets the oldest; the first `keep` stay. */
static void trim(rv__prompt_cache *c, size_t keep)
{
    size_t bytes = 0, n = 0;
    entry **at = &c->first;

    while (*at) {
        bytes += (*at)->bytes;
        if (++n > keep && bytes > c->max) {
            entry *e = *at;
            *at = e->next;
            bytes -= e->bytes;
            free_entry(e);
            continue;
        }
        at = &(*at)->next;
    }
}

/* Takes over the states. */
static rv_status add(rv__prompt_cache *c, const char *prompt, rv__weighting weighting,
                     size_t sequence, rv__text_embeds *embeds, rv_error *err)
{
    entry *e = rv__calloc(1, sizeof *e);

    if (e)
        e->prompt = rv__strdup(prompt);
    if (!e || !e->prompt) {
        rv__free(e);
        rv__text_embeds_free(embeds);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    e->weighting = weighting;
    e->sequence = sequence;
    e->embeds = *embeds;
    e->bytes = size_of(embeds);
    e->next = c->first;
    c->first = e;
    memset(embeds, 0, sizeof *embeds);
    return RV_OK;
}

/* Plain prompts, all at once: each encoder is opened for all of them. */
static rv_status encode(rv__text *text, const char *const *prompts, size_t count, size_t sequence,
                        rv__text_embeds *embeds, rv__cancel_fn *cancelled, void *user,
                        rv_error *err)
{
    rv__text_prompt list[MOST];

    for (size_t i = 0; i < count; i++)
        list[i] = (rv__text_prompt){prompts[i], strlen(prompts[i])};
    return rv__text_encode(text, list, count, sequence, true, embeds, cancelled, user, err);
}

static rv_status encode_weighted(rv__text *text, const char *const *prompts, size_t count,
                                 rv__weighting weighting, size_t sequence, rv__text_embeds *embeds,
                                 rv__cancel_fn *cancelled, void *user, rv_error *err)
{
    rv_status status = RV_OK;

    for (size_t i = 0; i < count && status == RV_OK; i++) {
        rv__weighted w;
        status = rv__weighted_parse(weighting, prompts[i], "positivePrompt", &w, err);
        if (status == RV_OK)
            status = rv__weighted_encode(text, &w, sequence, &embeds[i], cancelled, user, err);
        rv__weighted_free(&w);
    }
    return status;
}

static rv_status encode_missing(rv__prompt_cache *c, rv__text *text, const char *const *prompts,
                                size_t count, rv__weighting weighting, size_t sequence,
                                rv__cancel_fn *cancelled, void *user, rv_error *err)
{
    rv__text_embeds embeds[MOST] = {0};
    rv_status status;

    if (count == 0)
        return RV_OK;
    status = weighting == RV__WEIGHTING_NONE
                 ? encode(text, prompts, count, sequence, embeds, cancelled, user, err)
                 : encode_weighted(text, prompts, count, weighting, sequence, embeds, cancelled,
                                   user, err);
    for (size_t i = 0; i < count; i++) {
        if (status == RV_OK)
            status = add(c, prompts[i], weighting, sequence, &embeds[i], err);
        else
            rv__text_embeds_free(&embeds[i]);
    }
    return status;
}

rv_status rv__prompt_cache_get(rv__prompt_cache *c, rv__text *text, const char *const *prompts,
                               size_t count, rv__weighting weighting, size_t sequence,
                               const rv__text_embeds **out, rv__cancel_fn *cancelled, void *user,
                               rv_error *err)
{
    const char *missing[MOST] = {NULL};
    size_t n = 0;
    rv_status status;

    if (count > MOST)
        return rv__fail(err, RV_MISUSE, "too many prompts at once");
    for (size_t i = 0; i < count; i++)
        if (!find(c, prompts[i], weighting, sequence) &&
            (n == 0 || strcmp(missing[0], prompts[i]) != 0))
            missing[n++] = prompts[i];
    status = encode_missing(c, text, missing, n, weighting, sequence, cancelled, user, err);
    if (status != RV_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        out[i] = &find(c, prompts[i], weighting, sequence)->embeds;
    trim(c, count);
    return RV_OK;
}
