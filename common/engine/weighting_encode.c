/* See weighting.h; this file turns weights into states of the text encoders. */
#include "weighting.h"

#include <string.h>

#include "base/memory.h"
#include "text_cut.h"

/* States of one encoder: rows of places, one block of them per layer. */
typedef struct states {
    float *x;
    size_t layers, rows, channels;
} states;

static states states_of(const rv__text_embeds *e, rv__text_part part)
{
    if (part == RV__T5)
        return (states){e->t5, 1, (size_t)e->t5_tokens, (size_t)e->t5_channels};
    return (states){e->llama, (size_t)e->llama_layers, (size_t)e->llama_tokens,
                    (size_t)e->llama_channels};
}

static float *row(const states *s, size_t layer, size_t place)
{
    return s->x + (layer * s->rows + place) * s->channels;
}

/* T5 ends with a special id, Llama begins with one. */
static size_t trailing(rv__text_part part)
{
    return part == RV__T5;
}

/* ---- words ---- */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* How many ids the first `len` bytes have, without the special one at the end.  Spaces there belong
 * to the next word. */
static rv_status place_after(const rv__text *t, rv__text_part part, const char *text, size_t len,
                             size_t length, size_t *place, rv_error *err)
{
    rv__token_ids ids;

    while (len && is_space(text[len - 1]))
        len--;
    rv_status status = rv__text_tokenize(t, part, text, len, length, &ids, err);
    if (status != RV_OK)
        return status;
    *place = ids.total > trailing(part) ? ids.total - trailing(part) : 0;
    rv__token_ids_free(&ids);
    return RV_OK;
}

/* z = e + w (z - e) */
static void move(const states *z, const states *e, size_t from, size_t to, float w)
{
    for (size_t layer = 0; layer < z->layers; layer++)
        for (size_t place = from; place < to; place++) {
            float *a = row(z, layer, place);
            const float *b = row(e, layer, place);
            for (size_t k = 0; k < z->channels; k++)
                a[k] = b[k] + w * (a[k] - b[k]);
        }
}

static rv_status weigh_part(const rv__text *t, rv__text_part part, const rv__weighted_clause *c,
                            float all, size_t length, rv__text_embeds *z, const rv__text_embeds *e,
                            rv_error *err)
{
    states to = states_of(z, part), from = states_of(e, part);
    size_t most = z->limits[part] - trailing(part), place;
    rv_status status = place_after(t, part, c->text, 0, length, &place, err);

    for (size_t i = 0; i < c->span_count && status == RV_OK; i++) {
        const rv__weighted_span *s = &c->spans[i];
        size_t begin = place;
        status = place_after(t, part, c->text, s->to, length, &place, err);
        if (status == RV_OK && s->weight * all != 1 && place > begin)
            move(&to, &from, begin, place < most ? place : most, s->weight * all);
    }
    return status;
}

static bool has_weights(const rv__weighted_clause *c, float all)
{
    for (size_t i = 0; i < c->span_count; i++)
        if (c->spans[i].weight * all != 1)
            return true;
    return false;
}

/* A blend's weights are those of whole prompts, not of their words. */
static float clause_factor(const rv__weighted *w, size_t i)
{
    return w->join == RV__JOIN_AND ? w->clauses[i].weight : 1;
}

static bool needs_empty(const rv__weighted *w)
{
    for (size_t i = 0; i < w->count; i++)
        if (has_weights(&w->clauses[i], clause_factor(w, i)))
            return true;
    return false;
}

/* ---- clauses ---- */

/* sum = sum * a + x * b over n values. */
static void mix(float *sum, float a, const float *x, float b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] = sum[i] * a + x[i] * b;
}

/* Into the first. */
static void blend(const rv__weighted *w, rv__text_embeds *list)
{
    for (size_t i = 0; i < w->count; i++) {
        float own = i ? 1 : w->clauses[0].weight, other = i ? w->clauses[i].weight : 0;
        mix(list[0].pooled, own, list[i].pooled, other, (size_t)list[0].pooled_channels);
        for (int part = RV__T5; part <= RV__LLAMA; part++) {
            states to = states_of(&list[0], (rv__text_part)part),
                   from = states_of(&list[i], (rv__text_part)part);
            mix(to.x, own, from.x, other, to.layers * to.rows * to.channels);
        }
    }
}

static void copy_rows(const states *to, size_t at, const states *from, size_t first, size_t count)
{
    for (size_t layer = 0; layer < to->layers; layer++)
        memcpy(row(to, layer, at), row(from, layer, first), count * to->channels * sizeof *to->x);
}

/* The clauses' own rows one behind the other, then the padding of the last, as many rows as any
 * prompt has. */
static void chain(const rv__weighted *w, const rv__text_embeds *list, rv__text_part part,
                  const states *to)
{
    size_t at = 0;

    for (size_t i = 0; i < w->count; i++) {
        states from = states_of(&list[i], part);
        size_t used = list[i].limits[part], room = to->rows - at;
        size_t count = used < room ? used : room;
        copy_rows(to, at, &from, 0, count);
        at += count;
        if (i + 1 == w->count)
            copy_rows(to, at, &from, at < used ? used : at, to->rows - at);
    }
}

/* Into the first. */
static rv_status join(const rv__weighted *w, rv__text_embeds *list, rv_error *err)
{
    float sum = 0;

    for (int part = RV__T5; part <= RV__LLAMA; part++) {
        states to = states_of(&list[0], (rv__text_part)part);
        float **own = part == RV__T5 ? &list[0].t5 : &list[0].llama;
        to.x = rv__alloc(to.layers * to.rows * to.channels * sizeof *to.x);
        if (!to.x)
            return rv__fail(err, RV_MEMORY, "out of memory");
        chain(w, list, (rv__text_part)part, &to);
        rv__free(*own);
        *own = to.x;
    }
    for (size_t i = 0; i < w->count; i++)
        sum += w->clauses[i].weight;
    if (sum > 0)
        for (size_t i = 0; i < w->count; i++)
            mix(list[0].pooled, i ? 1 : w->clauses[0].weight / sum, list[i].pooled,
                i ? w->clauses[i].weight / sum : 0, (size_t)list[0].pooled_channels);
    return RV_OK;
}

static rv_status weigh_all(const rv__text *t, const rv__weighted *w, size_t length,
                           rv__text_embeds *list, rv_error *err)
{
    const rv__text_embeds *empty = &list[w->count];
    rv_status status = RV_OK;

    for (size_t i = 0; i < w->count && status == RV_OK; i++) {
        float all = clause_factor(w, i);
        if (!has_weights(&w->clauses[i], all))
            continue;
        status = weigh_part(t, RV__T5, &w->clauses[i], all, length, &list[i], empty, err);
        if (status == RV_OK)
            status = weigh_part(t, RV__LLAMA, &w->clauses[i], all, length, &list[i], empty, err);
    }
    if (status == RV_OK && w->join == RV__JOIN_BLEND)
        blend(w, list);
    else if (status == RV_OK && w->join == RV__JOIN_AND && w->count > 1)
        status = join(w, list, err);
    return status;
}

rv_status rv__weighted_encode(rv__text *t, const rv__weighted *w, size_t length,
                              rv__text_embeds *out, rv__cancel_fn *cancelled, void *user,
                              rv_error *err)
{
    rv__text_prompt prompts[RV__WEIGHTING_CLAUSES + 1];
    rv__text_embeds list[RV__WEIGHTING_CLAUSES + 1] = {0};
    size_t n = w->count;

    for (size_t i = 0; i < n; i++)
        prompts[i] = (rv__text_prompt){w->clauses[i].text, strlen(w->clauses[i].text)};
    if (needs_empty(w))
        prompts[n++] = (rv__text_prompt){"", 0};
    *out = (rv__text_embeds){0};
    rv_status status = rv__text_encode(t, prompts, n, length, true, list, cancelled, user, err);
    if (status == RV_OK)
        status = weigh_all(t, w, length, list, err);
    if (status == RV_OK) {
        *out = list[0];
        list[0] = (rv__text_embeds){0};
    }
    for (size_t i = 0; i < n; i++)
        rv__text_embeds_free(&list[i]);
    return status;
}

/* ---- what does not fit ---- */

static bool overflows(const rv__text *t, const rv__weighted *w, rv__text_part part, size_t length)
{
    size_t used = 0, rows = 0;

    for (size_t i = 0; i < w->count; i++) {
        rv__token_ids ids;
        const char *text = w->clauses[i].text;
        if (rv__text_tokenize(t, part, text, strlen(text), length, &ids, NULL) != RV_OK)
            return false;
        used += ids.used;
        rows = ids.length;
        rv__token_ids_free(&ids);
    }
    return used > rows;
}

char *rv__weighted_cut(const rv__text *t, const rv__weighted *w, size_t length)
{
    for (size_t i = 0; i < w->count; i++) {
        char *note = rv__text_cut(t, w->clauses[i].text, length);
        if (note && w->count > 1) {
            char *longer = rv__format("(clause %zu) %s", i + 1, note);
            rv__free(note);
            return longer;
        }
        if (note)
            return note;
    }
    for (int part = RV__T5; part <= RV__LLAMA && w->join == RV__JOIN_AND; part++)
        if (overflows(t, w, (rv__text_part)part, length))
            return rv__format("has clauses that %s together has no room for: the last are cut",
                              part == RV__T5 ? "T5" : "Llama");
    return NULL;
}
