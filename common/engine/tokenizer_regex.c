/* Patterns of tokenizers on PCRE2.  The expression comes from a file and the text from a stranger:
 * matching runs under limits that bound its time and memory, and never on the C stack. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer_text.h"

#include <pcre2.h>
#include <string.h>

/* Steps of one attempt.  Expressions in use need a few per character of a word; an attempt that
 * exceeds EASY is repeated with HARD, and only a few of those are granted to one text, so the total
 * is bounded. */
#define EASY_STEPS   4096
#define HARD_STEPS   2000000
#define HARD_MATCHES 32
#define HEAP_KIB     65536
#define PATTERN_MAX  8192      /* bytes of an expression */
#define COMPILED_MAX (1 << 20) /* bytes of its compiled form */

struct rv__pattern {
    char *literal; /* NULL: an expression */
    size_t literal_len;
    pcre2_code *code;
    pcre2_match_context *easy, *hard;
};

static void *alloc_memory(size_t size, void *user)
{
    (void)user;
    return rv__alloc(size);
}

static void free_memory(void *p, void *user)
{
    (void)user;
    rv__free(p);
}

/* `\s` means the White_Space property in tokenizer.json; PCRE2's own also takes U+180E. */
static char *rewrite_spaces(const char *text)
{
    rv__buf b;
    rv__buf_init(&b, PATTERN_MAX * 16);
    for (const char *p = text; *p; p++) {
        if (p[0] != '\\' || !p[1]) {
            rv__buf_add(&b, p, 1);
            continue;
        }
        p++;
        if (*p == 's')
            rv__buf_adds(&b, "\\p{White_Space}");
        else if (*p == 'S')
            rv__buf_adds(&b, "\\P{White_Space}");
        else
            rv__buf_add(&b, p - 1, 2);
    }
    return rv__buf_take(&b, NULL);
}

static rv_status compile(rv__pattern *p, const char *text, pcre2_general_context *general,
                         const char *file, rv_error *err)
{
    char *rewritten = rewrite_spaces(text);
    pcre2_compile_context *context = pcre2_compile_context_create(general);
    rv_status status = RV_OK;
    int code = 0;
    PCRE2_SIZE offset = 0;
    if (!rewritten || !context) {
        status = rv__fail(err, RV_MEMORY, "%s: out of memory", file);
        goto out;
    }
    pcre2_set_max_pattern_compiled_length(context, COMPILED_MAX);
    pcre2_set_parens_nest_limit(context, 50);
    p->code =
        pcre2_compile((PCRE2_SPTR)rewritten, PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &offset, context);
    if (!p->code && code == PCRE2_ERROR_HEAP_FAILED)
        status = rv__fail(err, RV_MEMORY, "%s: out of memory", file);
    else if (!p->code)
        status =
            rv__fail(err, RV_FORMAT, "%s: regular expression is wrong near byte %zu (error %d)",
                     file, offset, code);
out:
    pcre2_compile_context_free(context);
    rv__free(rewritten);
    return status;
}

static pcre2_match_context *limits(pcre2_general_context *general, uint32_t steps)
{
    pcre2_match_context *context = pcre2_match_context_create(general);
    if (context) {
        pcre2_set_match_limit(context, steps);
        pcre2_set_depth_limit(context, steps);
        pcre2_set_heap_limit(context, HEAP_KIB);
    }
    return context;
}

static rv_status new_expression(rv__pattern *p, const char *text, const char *file, rv_error *err)
{
    if (strlen(text) > PATTERN_MAX)
        return rv__fail(err, RV_FORMAT, "%s: regular expression is longer than %d bytes", file,
                        PATTERN_MAX);
    pcre2_general_context *general = pcre2_general_context_create(alloc_memory, free_memory, NULL);
    if (!general)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", file);
    rv_status status = compile(p, text, general, file, err);
    if (!status) {
        p->easy = limits(general, EASY_STEPS);
        p->hard = limits(general, HARD_STEPS);
        if (!p->easy || !p->hard)
            status = rv__fail(err, RV_MEMORY, "%s: out of memory", file);
    }
    pcre2_general_context_free(general);
    return status;
}

rv_status rv__pattern_new(const char *text, bool literal, const char *file, rv__pattern **out,
                          rv_error *err)
{
    *out = NULL;
    if (!*text)
        return rv__fail(err, RV_FORMAT, "%s: empty pattern", file);
    rv__pattern *p = rv__calloc(1, sizeof *p);
    if (!p)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", file);
    rv_status status = RV_OK;
    if (literal) {
        p->literal_len = strlen(text);
        p->literal = rv__strdup(text);
        if (!p->literal)
            status = rv__fail(err, RV_MEMORY, "%s: out of memory", file);
    } else {
        status = new_expression(p, text, file, err);
    }
    if (status)
        rv__pattern_free(p);
    else
        *out = p;
    return status;
}

rv_status rv__pattern_load(const rv__value *json, const char *file, rv__pattern **out,
                           rv_error *err)
{
    const char *literal = rv__json_string(rv__json_get(json, "String"));
    const char *expression = rv__json_string(rv__json_get(json, "Regex"));
    *out = NULL;
    if (!literal == !expression)
        return rv__fail(err, RV_FORMAT, "%s: a pattern is neither a String nor a Regex", file);
    return rv__pattern_new(literal ? literal : expression, literal != NULL, file, out, err);
}

void rv__pattern_free(rv__pattern *p)
{
    if (!p)
        return;
    pcre2_code_free(p->code);
    pcre2_match_context_free(p->easy);
    pcre2_match_context_free(p->hard);
    rv__free(p->literal);
    rv__free(p);
}

rv_status rv__pattern_begin(rv__pattern_scan *s, const rv__pattern *p, const char *text, size_t len,
                            rv_error *err)
{
    *s = (rv__pattern_scan){.pattern = p, .text = text, .len = len};
    if (p->literal)
        return RV_OK;
    s->match = pcre2_match_data_create_from_pattern(p->code, NULL);
    return s->match ? RV_OK : rv__fail(err, RV_MEMORY, "no memory to match a regular expression");
}

void rv__pattern_end(rv__pattern_scan *s)
{
    pcre2_match_data_free(s->match);
    s->match = NULL;
}

static bool literal_next(rv__pattern_scan *s, size_t *start, size_t *end)
{
    const char *hit =
        memmem(s->text + s->from, s->len - s->from, s->pattern->literal, s->pattern->literal_len);
    if (!hit)
        return false;
    *start = (size_t)(hit - s->text);
    *end = *start + s->pattern->literal_len;
    s->from = *end;
    return true;
}

/* One attempt at s->from: PCRE2's result, with the second, dearer try when the first one runs into
 * its limit. */
static int attempt(rv__pattern_scan *s, rv__tokenizer_work *work)
{
    PCRE2_SPTR text = (PCRE2_SPTR)s->text;
    int result = pcre2_match(s->pattern->code, text, s->len, s->from, PCRE2_NO_UTF_CHECK, s->match,
                             s->pattern->easy);
    if (result != PCRE2_ERROR_MATCHLIMIT && result != PCRE2_ERROR_DEPTHLIMIT)
        return result;
    if (++work->hard_matches > HARD_MATCHES)
        return result;
    return pcre2_match(s->pattern->code, text, s->len, s->from, PCRE2_NO_UTF_CHECK, s->match,
                       s->pattern->hard);
}

rv_status rv__pattern_next(rv__pattern_scan *s, rv__tokenizer_work *work, bool *found,
                           size_t *start, size_t *end, rv_error *err)
{
    *found = false;
    if (s->from > s->len)
        return RV_OK;
    if (s->pattern->literal) {
        *found = literal_next(s, start, end);
        return RV_OK;
    }
    int result = attempt(s, work);
    if (result == PCRE2_ERROR_NOMATCH)
        return RV_OK;
    if (result == PCRE2_ERROR_NOMEMORY)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", work->file);
    if (result < 0)
        return rv__fail(err, RV_FORMAT,
                        "%s: the regular expression needs too long for this text (error %d)",
                        work->file, result);
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(s->match);
    if (at[0] < s->from || at[1] < at[0])
        return rv__fail(err, RV_FORMAT, "%s: the regular expression matches backwards", work->file);
    *found = true;
    *start = at[0];
    *end = at[1];
    s->from = at[1];
    if (at[0] == at[1]) { /* an empty match: go on behind the next character */
        s->from++;
        while (s->from < s->len && ((unsigned char)s->text[s->from] & 0xC0) == 0x80)
            s->from++;
    }
    return RV_OK;
}
