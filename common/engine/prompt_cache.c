/* See prompt_cache.h. */
#include "prompt_cache.h"

#include <string.h>

#include "base/memory.h"

enum { MOST = 2 }; /* prompts of one request */

typedef struct entry {
    struct entry *next; /* used before this one */
    char *prompt;
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

void rv__prompt_cache_free(rv__prompt_cache *c)
{
    if (!c)
        return;
    while (c->first) {
        entry *e = c->first;
        c->first = e->next;
        free_entry(e);
    }
    rv__free(c);
}

static size_t size_of(const rv__text_embeds *e)
{
    return sizeof(float) * (size_t)(e->pooled_channels + e->t5_tokens * e->t5_channels +
                                    e->llama_layers * e->llama_tokens * e->llama_channels);
}

/* Moves the entry to the front. */
static entry *find(rv__prompt_cache *c, const char *prompt, size_t sequence)
{
    for (entry **at = &c->first; *at; at = &(*at)->next)
        if ((*at)->sequence == sequence && strcmp((*at)->prompt, prompt) == 0) {
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
static rv_status add(rv__prompt_cache *c, const char *prompt, size_t sequence,
                     rv__text_embeds *embeds, rv_error *err)
{
    entry *e = rv__calloc(1, sizeof *e);

    if (e)
        e->prompt = rv__strdup(prompt);
    if (!e || !e->prompt) {
        rv__free(e);
        rv__text_embeds_free(embeds);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    e->sequence = sequence;
    e->embeds = *embeds;
    e->bytes = size_of(embeds);
    e->next = c->first;
    c->first = e;
    memset(embeds, 0, sizeof *embeds);
    return RV_OK;
}

static rv_status encode(rv__prompt_cache *c, rv__text *text, const char *const *prompts,
                        size_t count, size_t sequence, rv__cancel_fn *cancelled, void *user,
                        rv_error *err)
{
    rv__text_prompt list[MOST];
    rv__text_embeds embeds[MOST];
    rv_status status;

    if (count == 0)
        return RV_OK;
    memset(embeds, 0, sizeof embeds);
    for (size_t i = 0; i < count; i++)
        list[i] = (rv__text_prompt){prompts[i], strlen(prompts[i])};
    status = rv__text_encode(text, list, count, sequence, true, embeds, cancelled, user, err);
    for (size_t i = 0; i < count; i++) {
        if (status == RV_OK)
            status = add(c, prompts[i], sequence, &embeds[i], err);
        else
            rv__text_embeds_free(&embeds[i]);
    }
    return status;
}

rv_status rv__prompt_cache_get(rv__prompt_cache *c, rv__text *text, const char *const *prompts,
                               size_t count, size_t sequence, const rv__text_embeds **out,
                               rv__cancel_fn *cancelled, void *user, rv_error *err)
{
    const char *missing[MOST] = {NULL};
    size_t n = 0;
    rv_status status;

    if (count > MOST)
        return rv__fail(err, RV_MISUSE, "too many prompts at once");
    for (size_t i = 0; i < count; i++)
        if (!find(c, prompts[i], sequence) && (n == 0 || strcmp(missing[0], prompts[i]) != 0))
            missing[n++] = prompts[i];
    status = encode(c, text, missing, n, sequence, cancelled, user, err);
    if (status != RV_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        out[i] = &find(c, prompts[i], sequence)->embeds;
    trim(c, count);
    return RV_OK;
}
