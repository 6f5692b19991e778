/* See rpc_message.h. */
#include "rpc_message.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

static const struct {
    const char *name;
    size_t at;
} numbers[] = {
    {"width", offsetof(rv__part_shape, width)}, {"height", offsetof(rv__part_shape, height)},
    {"t5", offsetof(rv__part_shape, t5)},       {"llama", offsetof(rv__part_shape, llama)},
    {"batch", offsetof(rv__part_shape, batch)},
};

enum { NUMBERS = sizeof numbers / sizeof *numbers };

static int64_t *number_at(rv__part_shape *s, size_t i)
{
    return (int64_t *)(void *)((char *)s + numbers[i].at);
}

/* ---- writing ---- */

void rv__rpc_write_hello(rv__buf *b, const rv__rpc_hello *h)
{
    rv__buf_addf(b, "{\"protocol\":%lld,\"blocks\":%lld,\"version\":", (long long)h->protocol,
                 (long long)h->blocks);
    rv__json_write_string(b, h->version);
    rv__buf_adds(b, ",\"weights\":");
    rv__json_write_string(b, h->weights);
    rv__buf_adds(b, "}");
}

void rv__rpc_write_shape(rv__buf *b, const rv__part_shape *s)
{
    rv__part_shape copy = *s;

    rv__buf_adds(b, "{");
    for (size_t i = 0; i < NUMBERS; i++)
        rv__buf_addf(b, "\"%s\":%lld,", numbers[i].name, (long long)*number_at(&copy, i));
    rv__buf_addf(b, "\"fast\":%s,\"spans\":[", s->is_fast ? "true" : "false");
    for (int i = 0; i < s->spans; i++)
        rv__buf_addf(b, "%s[%lld,%lld]", i ? "," : "", (long long)s->first[i],
                     (long long)s->end[i]);
    rv__buf_adds(b, "]}");
}

void rv__rpc_write_ready(rv__buf *b, const rv__rpc_ready *r)
{
    rv__buf_addf(b, "{\"weights\":%.0f,\"activations\":%.0f,\"resident\":%.0f}", r->weights,
                 r->activations, r->resident);
}

void rv__rpc_write_error(rv__buf *b, const rv_error *e)
{
    rv__buf_adds(b, "{\"status\":");
    rv__json_write_string(b, rv_status_word(e->status));
    rv__buf_adds(b, ",\"message\":");
    rv__json_write_string(b, e->message);
    rv__buf_adds(b, "}");
}

/* ---- reading ---- */

static rv__value *read_object(const char *text, size_t len, rv_error *err)
{
    rv__json_error why = {0};
    rv__value *v = rv__json_parse_limited(text, len, 256, &why);

    if (v && rv__json_is_object(v))
        return v;
    rv__fail(err, RV_FORMAT, "says what is no message: %s", v ? "not an object" : why.message);
    rv__json_free(v);
    return NULL;
}

static rv_status wrong(rv_error *err, const char *member)
{
    return rv__fail(err, RV_FORMAT, "says what is no message: %s", member);
}

static bool copy_text(const rv__value *v, const char *name, char *out, size_t size)
{
    const char *text = rv__json_get_string(v, name, NULL);

    if (!text || strlen(text) >= size)
        return false;
    snprintf(out, size, "%s", text);
    return true;
}

rv_status rv__rpc_read_hello(const char *text, size_t len, rv__rpc_hello *out, rv_error *err)
{
    rv__value *v = read_object(text, len, err);
    rv_status status = RV_OK;

    memset(out, 0, sizeof *out);
    if (!v)
        return RV_FORMAT;
    if (!rv__json_int(rv__json_get(v, "protocol"), &out->protocol))
        status = wrong(err, "protocol");
    else if (!rv__json_int(rv__json_get(v, "blocks"), &out->blocks))
        status = wrong(err, "blocks");
    else if (!copy_text(v, "version", out->version, sizeof out->version))
        status = wrong(err, "version");
    else if (!copy_text(v, "weights", out->weights, sizeof out->weights))
        status = wrong(err, "weights");
    rv__json_free(v);
    return status;
}

static rv_status read_spans(const rv__value *list, rv__part_shape *out, rv_error *err)
{
    if (!rv__json_is_array(list))
        return wrong(err, "spans");
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v)) {
        if (out->spans == RV__PART_SPANS || !rv__json_is_array(v) || rv__json_size(v) != 2 ||
            !rv__json_int(rv__json_at(v, 0), &out->first[out->spans]) ||
            !rv__json_int(rv__json_at(v, 1), &out->end[out->spans]))
            return wrong(err, "spans");
        out->spans++;
    }
    return RV_OK;
}

rv_status rv__rpc_read_shape(const char *text, size_t len, rv__part_shape *out, rv_error *err)
{
    rv__value *v = read_object(text, len, err);
    rv_status status = RV_OK;

    memset(out, 0, sizeof *out);
    if (!v)
        return RV_FORMAT;
    for (size_t i = 0; i < NUMBERS && status == RV_OK; i++)
        if (!rv__json_int(rv__json_get(v, numbers[i].name), number_at(out, i)))
            status = wrong(err, numbers[i].name);
    if (status == RV_OK && !rv__json_bool(rv__json_get(v, "fast"), &out->is_fast))
        status = wrong(err, "fast");
    if (status == RV_OK)
        status = read_spans(rv__json_get(v, "spans"), out, err);
    rv__json_free(v);
    return status;
}

rv_status rv__rpc_read_ready(const char *text, size_t len, rv__rpc_ready *out, rv_error *err)
{
    rv__value *v = read_object(text, len, err);

    if (!v)
        return RV_FORMAT;
    *out = (rv__rpc_ready){rv__json_get_number(v, "weights", 0),
                           rv__json_get_number(v, "activations", 0),
                           rv__json_get_number(v, "resident", 0)};
    rv__json_free(v);
    return RV_OK;
}

rv_status rv__rpc_read_error(const char *text, size_t len, char *out, size_t size)
{
    rv__value *v = read_object(text, len, NULL);
    const char *word = rv__json_get_string(v, "status", "");
    rv_status status = RV_PROVIDER;

    snprintf(out, size, "%s", rv__json_get_string(v, "message", "failed and does not say why"));
    for (int s = RV_OK + 1; s <= RV_MISUSE; s++)
        if (s != RV_CANCELLED && strcmp(word, rv_status_word((rv_status)s)) == 0)
            status = (rv_status)s;
    rv__json_free(v);
    return status;
}
