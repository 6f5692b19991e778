/* Checked configuration, ids and graphs of the text encoders.  Must let nothing through that a
 * graph would assert on. */
#include "text_encoder.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- configuration ---- */

rv_status rv__config_open(rv__config *c, const rv__weights *w, const char *part,
                          const char *model_type, rv_error *err)
{
    char path[128];
    *c = (rv__config){.part = part, .err = err};
    snprintf(path, sizeof path, "%s/config.json", part);
    c->status = rv__weights_json(w, path, &c->json, err);
    if (c->status)
        return c->status;
    const char *type = rv__json_get_string(c->json, "model_type", model_type);
    if (strcmp(type, model_type) != 0)
        c->status = rv__fail(err, RV_UNSUPPORTED, "%s: model_type \"%.40s\" is not %s", path, type,
                             model_type);
    return c->status;
}

void rv__config_close(rv__config *c)
{
    rv__json_free(c->json);
    c->json = NULL;
}

void rv__config_fail(rv__config *c, const char *key, const char *why)
{
    if (!c->status)
        c->status = rv__fail(c->err, RV_FORMAT, "%s/config.json: %s %s", c->part, key, why);
}

int64_t rv__config_int(rv__config *c, const char *key, int64_t least, int64_t most,
                       int64_t fallback)
{
    const rv__value *v = rv__json_get(c->json, key);
    int64_t value = fallback;
    if (!v && fallback < least)
        rv__config_fail(c, key, "is missing");
    else if (v && (!rv__json_int(v, &value) || value < least || value > most))
        rv__config_fail(c, key, "is out of range");
    return c->status ? least : value;
}

double rv__config_number(rv__config *c, const rv__value *object, const char *key, double least,
                         double most, double fallback)
{
    const rv__value *v = rv__json_get(object, key);
    double value = fallback;
    if (!v && fallback < least)
        rv__config_fail(c, key, "is missing");
    else if (v && (!rv__json_number(v, &value) || !(value >= least && value <= most)))
        rv__config_fail(c, key, "is out of range");
    return c->status ? least : value;
}

rv__activation rv__config_activation(rv__config *c, const char *key, const char *fallback)
{
    static const struct {
        const char *name;
        rv__activation kind;
    } known[] = {{"quick_gelu", RV__GELU_QUICK},
                 {"gelu", RV__GELU_ERF},
                 {"gelu_new", RV__GELU_TANH},
                 {"silu", RV__SILU},
                 {"gelu_pytorch_tanh", RV__GELU_TANH}};
    const char *name = rv__json_get_string(c->json, key, fallback);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0)
            return known[i].kind;
    rv__config_fail(c, key, "is an activation that is not known here");
    return RV__SILU;
}

/* ---- ids ---- */

rv_status rv__text_check(const rv__token_ids *tokens, int64_t vocabulary, const char *part,
                         rv_error *err)
{
    if (tokens->length < 1 || tokens->length > RV__TEXT_LENGTH_MAX)
        return rv__fail(err, RV_UNSUPPORTED, "%s: %zu tokens (1 to %d are possible)", part,
                        tokens->length, RV__TEXT_LENGTH_MAX);
    if (!tokens->mask[0])
        return rv__fail(err, RV_INTERNAL, "%s: the text begins with padding", part);
    for (size_t i = 0; i < tokens->length; i++)
        if (tokens->ids[i] < 0 || tokens->ids[i] >= vocabulary)
            return rv__fail(err, RV_FORMAT,
                            "%s: the tokenizer gives id %d, but there are %lld embeddings", part,
                            tokens->ids[i], (long long)vocabulary);
    return RV_OK;
}

/* ---- graphs ---- */

bool rv__text_graph_fits(rv__text_graph *g, size_t length, const rv__text_run *run)
{
    if (g->graph && g->length == length && !g->tapped && !run->taps)
        return true;
    rv__text_graph_free(g);
    return false;
}

rv_status rv__text_graph_begin(rv__text_graph *g, rv__device *d, size_t length, int64_t layers,
                               int64_t mask_heads, const rv__text_run *run, rv_error *err)
{
    int64_t n = (int64_t)length;
    g->graph = rv__graph_new(d, (size_t)(layers + 1) * 64);
    if (!g->graph)
        return rv__fail(err, RV_MEMORY, "out of memory");
    g->length = length;
    g->tapped = run->taps != NULL;
    rv__graph_taps(g->graph, run->taps, run->taps_user);
    g->ids = rv__graph_input(g->graph, GGML_TYPE_I32, n, 1, 1, 1);
    g->mask = rv__graph_input(g->graph, GGML_TYPE_F32, n, n, mask_heads, 1);
    return RV_OK;
}

void rv__text_graph_free(rv__text_graph *g)
{
    rv__graph_free(g->graph);
    *g = (rv__text_graph){0};
}

rv_status rv__text_graph_causal(rv__text_graph *g, const int32_t *padding, rv_error *err)
{
    size_t n = g->length;
    float *mask = rv__alloc(n * n * sizeof *mask);
    if (!mask)
        return rv__fail(err, RV_MEMORY, "out of memory");
    for (size_t query = 0; query < n; query++)
        for (size_t key = 0; key < n; key++)
            mask[query * n + key] = key <= query && (!padding || padding[key]) ? 0.0f : -INFINITY;
    rv__graph_set(g->graph, g->mask, mask, n * n * sizeof *mask);
    rv__free(mask);
    return RV_OK;
}
