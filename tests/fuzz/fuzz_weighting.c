/* Prompt weighting: the first byte chooses the notation, the rest is a prompt.  What is accepted
 * covers its text without gaps, in order, with weights in range, and reads the same again when its
 * signs are escaped. */
#include <stdlib.h>
#include <string.h>

#include "engine/weighting.h"

static void require(int truth)
{
    if (!truth)
        abort();
}

static void check_clause(const rv__weighted_clause *c, size_t most)
{
    size_t at = 0, len = strlen(c->text);
    require(len <= most && c->span_count <= RV__WEIGHTING_MAX_SPAN);
    for (size_t i = 0; i < c->span_count; i++) {
        require(c->spans[i].from == at && c->spans[i].to > at);
        require(c->spans[i].weight >= 0 && c->spans[i].weight <= (float)RV__WEIGHT_MAX);
        at = c->spans[i].to;
    }
    require(at == len);
}

/* The text of a clause with every sign escaped is that text, all of one weight. */
static void check_escapes(rv__weighting syntax, const char *text)
{
    size_t n = 0;
    char *escaped = malloc(2 * strlen(text) + 1);
    if (!escaped)
        return;
    for (const char *p = text; *p; p++) {
        if (syntax != RV__WEIGHTING_NONE && strchr("()[]+-\"\\:", *p))
            escaped[n++] = '\\';
        escaped[n++] = *p;
    }
    escaped[n] = '\0';
    rv__weighted w;
    require(rv__weighted_parse(syntax, escaped, "p", &w, NULL) == RV_OK);
    require(w.count == 1 && strcmp(w.clauses[0].text, text) == 0 && w.clauses[0].span_count <= 1);
    rv__weighted_free(&w);
    free(escaped);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    rv__weighting syntax = (rv__weighting)(data[0] % 3);
    char *prompt = calloc(1, size);
    if (!prompt)
        return 0;
    memcpy(prompt, data + 1, size - 1);
    rv__weighted w;
    rv_error err = {0};
    if (rv__weighted_parse(syntax, prompt, "positivePrompt", &w, &err) == RV_OK) {
        require(w.count >= 1 && w.count <= RV__WEIGHTING_CLAUSES);
        require(w.join != RV__JOIN_NONE || w.count == 1);
        for (size_t i = 0; i < w.count; i++) {
            require(w.clauses[i].weight == w.clauses[i].weight);
            check_clause(&w.clauses[i], size);
            check_escapes(syntax, w.clauses[i].text);
        }
        if (syntax == RV__WEIGHTING_NONE)
            require(strcmp(w.clauses[0].text, prompt) == 0);
    } else {
        require(err.message[0] && !w.count && !w.clauses[0].text);
    }
    rv__weighted_free(&w);
    free(prompt);
    return 0;
}
