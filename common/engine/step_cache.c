/* See step_cache.h.  The three rules are those of TeaCache, of the first-block cache of ParaAttention
 * and diffusers, and of cache-dit's DBCache, with thresholds turned round where the request's
 * direction is the other one. */
#include "step_cache.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

/* Relative changes that the fastest end of a threshold stands for, where the card says nothing. */
#define TEA_LIMIT   0.4
#define BLOCK_LIMIT 0.16

static double limit_of(const rv__value *card, const char *name, double otherwise)
{
    double limit = rv__json_get_number(rv__json_get(card, name), "limit", otherwise);

    return limit > 0 ? limit : 0;
}

static void read_tea(const rv__value *options, const rv__value *card, rv__cache_options *out)
{
    const rv__value *own = rv__json_get(card, "teaCache");
    const rv__value *list = rv__json_get(own, "polynomial"), *v = rv__json_first(list);

    out->kind = RV__TEA_CACHE;
    out->limit =
        limit_of(card, "teaCache", TEA_LIMIT) * rv__json_get_number(options, "teaCacheDistance", .5);
    out->by_time = strcmp(rv__json_get_string(own, "signal", ""), "time") == 0;
    out->polynomial[3] = 1; /* the change itself */
    if (rv__json_is_array(list) && rv__json_size(list) == 5)
        for (int i = 0; i < 5; i++, v = rv__json_next(v))
            if (!rv__json_number(v, &out->polynomial[i]))
                out->polynomial[i] = 0;
}

/* Low thresholds reuse more: 1 means never. */
static double turned(const rv__value *options, const char *threshold, double limit)
{
    double t = rv__json_get_number(options, threshold, .25);

    return t < 1 ? limit * (1 - t) : 0;
}

void rv__cache_read(const rv__value *options, const rv__value *card, int first, int end,
                    rv__cache_options *out)
{
    *out = (rv__cache_options){.first = first, .end = end};
    out->most = (int)rv__json_get_int(options, "cacheMaxConsecutiveSteps", 3);
    if (rv__json_get_bool(options, "teaCache", false)) {
        read_tea(options, card, out);
    } else if (rv__json_get_bool(options, "fbCache", false)) {
        out->kind = RV__FIRST_BLOCK_CACHE;
        out->limit = turned(options, "fbCacheThreshold", limit_of(card, "fbCache", BLOCK_LIMIT));
    } else if (rv__json_get_bool(options, "dbCache", false)) {
        int64_t interval = rv__json_get_int(options, "dbCacheSkipInterval", 5);

        out->kind = RV__DUAL_BLOCK_CACHE;
        out->limit = turned(options, "dbCacheThreshold", limit_of(card, "dbCache", BLOCK_LIMIT));
        out->most = interval < out->most ? (int)interval : out->most;
    }
    if (!(out->limit > 0) || out->most < 1 || first >= end)
        out->kind = RV__NO_CACHE;
}

const char *rv__cache_name(rv__cache_kind kind)
{
    static const char *const names[] = {NULL, "teaCache", "fbCache", "dbCache"};

    return names[kind];
}

/* ---- state ---- */

rv_status rv__step_cache_begin(rv__step_cache *c, const rv__cache_options *o, int rows, size_t n,
                               size_t kept, rv_error *err)
{
    size_t signal = (size_t)rows * n;

    rv__step_cache_free(c);
    c->options = *o;
    c->rows = rows;
    c->n = n;
    c->room = rv__alloc((2 * signal + kept) * sizeof *c->room);
    if (!c->room)
        return rv__fail(err, RV_MEMORY, "out of memory");
    c->now = c->room;
    c->before = c->now + signal;
    c->kept = c->before + signal;
    return RV_OK;
}

void rv__step_cache_free(rv__step_cache *c)
{
    rv__free(c->room);
    memset(c, 0, sizeof *c);
}

/* Mean |now - before| / mean |before| of one row. */
static double change(const float *now, const float *before, size_t n)
{
    double difference = 0, size = 0;

    for (size_t i = 0; i < n; i++) {
        difference += fabs((double)now[i] - (double)before[i]);
        size += fabs((double)before[i]);
    }
    return size > 0 ? difference / size : HUGE_VAL;
}

static double estimate(const double p[5], double x)
{
    return (((p[0] * x + p[1]) * x + p[2]) * x + p[3]) * x + p[4];
}

/* The largest change of any row; TeaCache's adds up until something is computed again. */
static double largest_change(rv__step_cache *c)
{
    double most = 0;

    for (int r = 0; r < c->rows; r++) {
        double d = change(c->now + (size_t)r * c->n, c->before + (size_t)r * c->n, c->n);

        if (c->options.kind == RV__TEA_CACHE)
            d = c->sum[r] += fabs(estimate(c->options.polynomial, d));
        most = d > most || isnan(d) ? d : most;
    }
    return most;
}

static void remember_signal(rv__step_cache *c)
{
    float *now = c->now;

    c->now = c->before;
    c->before = now;
    c->has_before = true;
}

bool rv__step_cache_skips(rv__step_cache *c, bool allowed)
{
    /* TeaCache adds up changes on every step, also where nothing may be skipped. */
    double d = c->has_before ? largest_change(c) : HUGE_VAL;
    bool skips = allowed && c->has_kept && d < c->options.limit && c->in_row < c->options.most;

    c->calls++;
    if (skips) {
        c->in_row++;
        c->skipped++;
    } else {
        c->in_row = 0;
        memset(c->sum, 0, sizeof c->sum);
    }
    if (!skips || c->options.kind == RV__TEA_CACHE)
        remember_signal(c);
    return skips;
}
