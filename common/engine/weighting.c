/* See weighting.h; this file reads the notations.  Must never look at more than the prompt. */
#include "weighting.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

#define PLUS  1.1
#define MINUS 0.9

enum { QUOTE_MAX = 40 };

rv__weighting rv__weighting_named(const char *name)
{
    if (name && strcmp(name, "compel") == 0)
        return RV__WEIGHTING_COMPEL;
    return name && strcmp(name, "sdEmbeds") == 0 ? RV__WEIGHTING_SD_EMBEDS : RV__WEIGHTING_NONE;
}

static rv_status wrong(rv_error *err, const char *parameter, const char *why)
{
    return rv__fail_code(err, RV_VALIDATION, "invalidPromptWeighting", parameter,
                         "%s: prompt weighting: %s", parameter, why);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && is_space(*p))
        p++;
    return p;
}

/* "1", "0.8", ".5": the end of it, or p when there is none.  Independent of the locale. */
static const char *read_number(const char *p, const char *end, double *out)
{
    const char *start = p;
    double value = 0, place = 1;
    int digits = 0;

    for (; p < end && is_digit(*p); p++, digits++)
        value = fmin(value * 10 + (*p - '0'), 1e9);
    if (p < end && *p == '.' && (digits || (p + 1 < end && is_digit(p[1]))))
        for (p++; p < end && is_digit(*p); p++, digits++)
            value += (*p - '0') * (place /= 10);
    *out = value;
    return digits ? p : start;
}

/* ---- one clause ---- */

/* A bracket that is open. */
typedef struct bracket {
    char sign;
    size_t from; /* first byte inside, of the plain text */
} bracket;

typedef struct reader {
    const char *at, *end;
    char *text;       /* the plain text so far ... */
    double *weights;  /* ... and the weight of each byte */
    size_t len, word; /* word: where the last one began */
    bracket open[RV__WEIGHTING_DEPTH];
    size_t depth;
} reader;

static void weigh(reader *r, size_t from, double by)
{
    for (size_t i = from; i < r->len; i++)
        r->weights[i] *= by;
}

static void put(reader *r, char c)
{
    r->weights[r->len] = 1;
    r->text[r->len++] = c;
    if (is_space(c) || c == ',' || c == ';' || c == '(' || c == ')')
        r->word = r->len;
}

static bool ends_word(const char *p, const char *end)
{
    return p == end || is_space(*p) || strchr(",.;:!?)\"", *p) != NULL;
}

/* A run of one sign behind a word or a bracket: its end and what it counts. */
static const char *read_signs(const char *p, const char *end, double *by)
{
    char sign = p < end ? *p : '\0';

    *by = 1;
    if (sign != '+' && sign != '-')
        return p;
    for (; p < end && *p == sign; p++)
        *by *= sign == '+' ? PLUS : MINUS;
    return p;
}

/* What stands behind a closed bracket of compel. */
static double read_suffix(reader *r)
{
    double by;
    const char *p = read_signs(r->at, r->end, &by);

    if (p == r->at) {
        p = read_number(r->at, r->end, &by);
        if (p == r->at || !ends_word(p, r->end))
            return 1;
    }
    r->at = p;
    return by;
}

/* ":1.5)" of sdEmbeds, at the colon: past the bracket when it is one. */
static bool read_colon(reader *r, double *by)
{
    const char *p = skip_space(r->at + 1, r->end), *q = read_number(p, r->end, by);

    if (q == p)
        return false;
    q = skip_space(q, r->end);
    if (q == r->end || *q != ')')
        return false;
    r->at = q + 1;
    return true;
}

static bool open_bracket(reader *r, char sign)
{
    if (r->depth == RV__WEIGHTING_DEPTH)
        return false;
    r->open[r->depth++] = (bracket){sign, r->len};
    r->word = r->len;
    return true;
}

static double sd_weight(char sign)
{
    return sign == '(' ? PLUS : 1 / PLUS;
}

/* Reads what begins with a sign of sdEmbeds; false: nested too deeply. */
static bool read_sd(reader *r, char c)
{
    bracket *top = r->depth ? &r->open[r->depth - 1] : NULL;
    double by;

    if (c == '(' || c == '[') {
        r->at++;
        return open_bracket(r, c);
    }
    if (top && c == ':' && top->sign == '(' && read_colon(r, &by)) {
        weigh(r, top->from, by);
        r->depth--;
        return true;
    }
    r->at++;
    if (top && ((c == ')' && top->sign == '(') || (c == ']' && top->sign == '['))) {
        weigh(r, top->from, sd_weight(top->sign));
        r->depth--;
    } else {
        put(r, c);
    }
    return true;
}

static bool read_compel(reader *r, char c)
{
    const char *p = r->at;
    double by;

    if (c == '(') {
        r->at++;
        return open_bracket(r, c);
    }
    if (c == ')' && r->depth) {
        size_t from = r->open[--r->depth].from;
        r->at++;
        weigh(r, from, read_suffix(r));
        r->word = r->len;
        return true;
    }
    if (c == '+' || c == '-') {
        p = read_signs(p, r->end, &by);
        if (r->word < r->len && ends_word(p, r->end)) {
            weigh(r, r->word, by);
            r->at = p;
            return true;
        }
    }
    r->at++;
    put(r, c);
    return true;
}

static bool read_text(rv__weighting syntax, reader *r)
{
    bool is_sd = syntax == RV__WEIGHTING_SD_EMBEDS, has_signs = syntax != RV__WEIGHTING_NONE;

    while (r->at < r->end) {
        char c = *r->at;
        if (has_signs && c == '\\' && r->at + 1 < r->end && strchr("()[]+-\"\\:", r->at[1])) {
            put(r, r->at[1]);
            r->at += 2;
        } else if (has_signs && strchr(is_sd ? "()[]:" : "()+-", c)) {
            if (!(is_sd ? read_sd(r, c) : read_compel(r, c)))
                return false;
        } else {
            put(r, c);
            r->at++;
        }
    }
    while (is_sd && r->depth) {
        bracket *b = &r->open[--r->depth];
        weigh(r, b->from, sd_weight(b->sign));
    }
    return true;
}

/* How much of a text an error quotes: whole characters. */
static int quoted(const char *text, size_t len)
{
    return len > QUOTE_MAX ? (int)rv__utf8_valid(text, QUOTE_MAX) : (int)len;
}

/* Bytes of one weight become spans. */
static rv_status make_spans(const reader *r, rv__weighted_clause *c, const char *parameter,
                            rv_error *err)
{
    for (size_t i = 0; i < r->len;) {
        size_t from = i;
        while (i < r->len && r->weights[i] == r->weights[from])
            i++;
        if (!(r->weights[from] <= RV__WEIGHT_MAX))
            return rv__fail_code(err, RV_VALIDATION, "invalidPromptWeighting", parameter,
                                 "%s: prompt weighting: \"%.*s\" would count %g times, the most is "
                                 "%g",
                                 parameter, quoted(r->text + from, i - from), r->text + from,
                                 r->weights[from], RV__WEIGHT_MAX);
        if (c->span_count == RV__WEIGHTING_MAX_SPAN)
            return wrong(err, parameter, "more than 256 parts of different weight");
        c->spans[c->span_count++] = (rv__weighted_span){from, i, (float)r->weights[from]};
    }
    return RV_OK;
}

static rv_status read_clause(rv__weighting syntax, const char *text, size_t len,
                             const char *parameter, rv__weighted_clause *c, rv_error *err)
{
    reader *r = rv__calloc(1, sizeof *r);
    rv_status status = RV_OK;

    c->weight = 1;
    c->text = rv__calloc(1, len + 1);
    c->spans = rv__calloc(RV__WEIGHTING_MAX_SPAN, sizeof *c->spans);
    if (r)
        r->weights = rv__calloc(len + 1, sizeof *r->weights);
    if (!r || !r->weights || !c->text || !c->spans) {
        status = rv__fail(err, RV_MEMORY, "out of memory");
    } else {
        r->at = text;
        r->end = text + len;
        r->text = c->text;
        status = read_text(syntax, r)
                     ? make_spans(r, c, parameter, err)
                     : wrong(err, parameter, "brackets are nested more than 64 deep");
    }
    if (r)
        rv__free(r->weights);
    rv__free(r);
    return status;
}

/* ---- ("one", "two").blend(1, 0.8) ---- */

typedef struct call {
    const char *text[RV__WEIGHTING_CLAUSES]; /* inside the quotes */
    size_t len[RV__WEIGHTING_CLAUSES], count, weight_count;
    double weights[RV__WEIGHTING_CLAUSES];
    bool is_blend, is_raw, has_too_many;
} call;

static const char *take(const char *p, const char *end, const char *word)
{
    size_t len = strlen(word);

    p = skip_space(p, end);
    return (size_t)(end - p) >= len && memcmp(p, word, len) == 0 ? p + len : NULL;
}

/* One quoted text; a backslash keeps the next character from ending it. */
static const char *take_quoted(const char *p, const char *end, call *c)
{
    p = take(p, end, "\"");
    if (!p)
        return NULL;
    const char *from = p;
    while (p < end && *p != '"')
        p += *p == '\\' && p + 1 < end ? 2 : 1;
    if (p >= end)
        return NULL;
    c->has_too_many |= c->count == RV__WEIGHTING_CLAUSES;
    if (!c->has_too_many) {
        c->text[c->count] = from;
        c->len[c->count++] = (size_t)(p - from);
    }
    return p + 1;
}

static const char *take_weight(const char *p, const char *end, call *c)
{
    const char *minus = take(p, end, "-"), *from = skip_space(minus ? minus : p, end), *q;
    double value;

    q = take(p, end, "no_normalize");
    if (q) {
        c->is_raw = true;
        return q;
    }
    q = read_number(from, end, &value);
    if (q == from)
        return NULL;
    c->has_too_many |= c->weight_count == RV__WEIGHTING_CLAUSES;
    if (!c->has_too_many)
        c->weights[c->weight_count++] = minus ? -value : value;
    return q;
}

/* Says whether the whole prompt is a call; if not, it is text. */
static bool read_call(const char *p, const char *end, call *c)
{
    const char *q;

    p = take(p, end, "(");
    while (p && (p = take_quoted(p, end, c)) && (q = take(p, end, ",")))
        p = q;
    p = p ? take(p, end, ")") : NULL;
    if (!p)
        return false;
    q = take(p, end, ".blend");
    c->is_blend = q != NULL;
    p = q ? q : take(p, end, ".and");
    p = p ? take(p, end, "(") : NULL;
    if (p && take(p, end, ")"))
        p = take(p, end, ")");
    else {
        while (p && (p = take_weight(p, end, c)) && (q = take(p, end, ",")))
            p = q;
        p = p ? take(p, end, ")") : NULL;
    }
    return p && skip_space(p, end) == end;
}

static rv_status weigh_clauses(call *c, rv__weighted *out, const char *parameter, rv_error *err)
{
    double sum = 0;

    for (size_t i = 0; i < c->count; i++) {
        double w = c->weight_count ? c->weights[i] : 1;
        if (!(fabs(w) <= RV__WEIGHT_MAX) || (w < 0 && !c->is_blend))
            return wrong(err, parameter,
                         c->is_blend ? "weights of .blend() are from -10 to 10"
                                     : "weights of .and() are from 0 to 10");
        sum += w;
        c->weights[i] = w;
    }
    if (c->is_blend && !c->is_raw && !(sum > 1e-3))
        return wrong(err, parameter,
                     "the weights of .blend() must have a sum above 0, or be followed by "
                     "no_normalize");
    for (size_t i = 0; i < c->count; i++)
        out->clauses[i].weight =
            (float)(c->is_blend && !c->is_raw ? c->weights[i] / sum : c->weights[i]);
    return RV_OK;
}

static rv_status read_joined(rv__weighting syntax, call *c, const char *parameter,
                             rv__weighted *out, rv_error *err)
{
    rv_status status = RV_OK;

    if (c->has_too_many)
        return wrong(err, parameter, ".blend() and .and() take at most 8 prompts");
    if (c->weight_count != c->count && (c->is_blend || c->weight_count))
        return rv__fail_code(err, RV_VALIDATION, "invalidPromptWeighting", parameter,
                             "%s: prompt weighting: %zu prompts, but %zu weights", parameter,
                             c->count, c->weight_count);
    out->join = c->is_blend ? RV__JOIN_BLEND : RV__JOIN_AND;
    for (; out->count < c->count && status == RV_OK; out->count++)
        status = read_clause(syntax, c->text[out->count], c->len[out->count], parameter,
                             &out->clauses[out->count], err);
    return status == RV_OK ? weigh_clauses(c, out, parameter, err) : status;
}

rv_status rv__weighted_parse(rv__weighting syntax, const char *prompt, const char *parameter,
                             rv__weighted *out, rv_error *err)
{
    size_t len = strlen(prompt);
    call c = {0};
    rv_status status;

    *out = (rv__weighted){0};
    if (syntax == RV__WEIGHTING_COMPEL && read_call(prompt, prompt + len, &c)) {
        status = read_joined(syntax, &c, parameter, out, err);
    } else {
        out->count = 1;
        status = read_clause(syntax, prompt, len, parameter, &out->clauses[0], err);
    }
    if (status != RV_OK)
        rv__weighted_free(out);
    return status;
}

void rv__weighted_free(rv__weighted *w)
{
    for (size_t i = 0; i < RV__WEIGHTING_CLAUSES; i++) {
        rv__free(w->clauses[i].text);
        rv__free(w->clauses[i].spans);
    }
    *w = (rv__weighted){0};
}
