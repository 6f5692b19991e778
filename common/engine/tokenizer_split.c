/* Pre-tokenizers: the steps that cut the text into pieces, which a model then turns into tokens one
 * by one. */
#include <string.h>

#include "tokenizer_text.h"
#include "unicode.h"

/* The words of GPT-2, which "ByteLevel" splits into unless told not to. */
#define BYTE_LEVEL_WORDS                                                                           \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* ---- pieces ---- */

void rv__pieces_init(rv__pieces *p)
{
    *p = (rv__pieces){0};
    rv__buf_init(&p->text, RV__TOKENIZER_WORK_MAX);
}

void rv__pieces_clear(rv__pieces *p)
{
    p->text.len = 0;
    p->count = 0;
}

void rv__pieces_add(rv__pieces *p, const char *text, size_t len, bool first)
{
    if (len == 0 || p->failed)
        return;
    if (p->count == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 64;
        rv__piece *list = rv__realloc(p->list, cap * sizeof *list);
        if (!list) {
            p->failed = true;
            return;
        }
        p->list = list;
        p->cap = cap;
    }
    p->list[p->count++] = (rv__piece){p->text.len, len, first};
    rv__buf_add(&p->text, text, len);
    p->failed = p->text.failed;
}

void rv__pieces_free(rv__pieces *p)
{
    rv__buf_free(&p->text);
    rv__free(p->list);
    rv__pieces_init(p);
}

/* ---- loading ---- */

static rv_status load_pattern(rv__splitter_step *step, const rv__value *json, const char *file,
                              rv_error *err)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *behavior = rv__json_get_string(json, "behavior", "");
    step->kind = RV__SPLITTER_PATTERN;
    step->invert = rv__json_get_bool(json, "invert", false);
    for (int i = 0; i < 5; i++)
        if (strcmp(behavior, names[i]) == 0) {
            step->behavior = (rv__split_behavior)i;
            return rv__pattern_load(rv__json_get(json, "pattern"), file, &step->pattern, err);
        }
    return rv__fail(err, RV_UNSUPPORTED, "%s: split behavior \"%.40s\" is not known", file,
                    behavior);
}

static rv_status load_bytes(rv__splitter_step *step, const rv__value *json, const char *file,
                            rv_error *err)
{
    step->kind = RV__SPLITTER_BYTES;
    step->prefix =
        rv__json_get_bool(json, "add_prefix_space", true) ? RV__PREFIX_ALWAYS : RV__PREFIX_NEVER;
    step->behavior = RV__SPLIT_ISOLATED;
    if (!rv__json_get_bool(json, "use_regex", true))
        return RV_OK;
    return rv__pattern_new(BYTE_LEVEL_WORDS, false, file, &step->pattern, err);
}

static rv_status load_metaspace(rv__splitter_step *step, const rv__value *json, const char *file,
                                rv_error *err)
{
    const char *replacement = rv__json_get_string(json, "replacement", "\xE2\x96\x81");
    bool prefix = rv__json_get_bool(json, "add_prefix_space", true); /* older files */
    const char *scheme = rv__json_get_string(json, "prepend_scheme", prefix ? "always" : "never");
    int32_t codepoint;
    step->kind = RV__SPLITTER_METASPACE;
    step->behavior = RV__SPLIT_WITH_NEXT;
    if (!*replacement ||
        rv__unicode_next(replacement, strlen(replacement), &codepoint) != strlen(replacement))
        return rv__fail(err, RV_FORMAT, "%s: the replacement of a space must be one character",
                        file);
    if (strcmp(scheme, "always") == 0)
        step->prefix = RV__PREFIX_ALWAYS;
    else if (strcmp(scheme, "first") == 0)
        step->prefix = RV__PREFIX_FIRST;
    else if (strcmp(scheme, "never") != 0)
        return rv__fail(err, RV_UNSUPPORTED, "%s: prepend_scheme \"%.40s\" is not known", file,
                        scheme);
    step->replacement = rv__strdup(replacement);
    if (!step->replacement)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", file);
    if (!rv__json_get_bool(json, "split", true))
        return RV_OK;
    return rv__pattern_new(replacement, true, file, &step->pattern, err);
}

rv_status rv__splitter_load(rv__splitter *s, const rv__value *json, const char *file, rv_error *err)
{
    if (!json || rv__json_is_null(json))
        return RV_OK;
    const char *type = rv__json_get_string(json, "type", "");
    if (strcmp(type, "Sequence") == 0) {
        rv_status status = RV_OK;
        const rv__value *list = rv__json_get(json, "pretokenizers");
        for (const rv__value *v = rv__json_first(list); v && !status; v = rv__json_next(v))
            status = rv__splitter_load(s, v, file, err);
        return status;
    }
    if (s->count == RV__TOKENIZER_STEPS_MAX)
        return rv__fail(err, RV_UNSUPPORTED, "%s: more than %d pre-tokenizers", file,
                        RV__TOKENIZER_STEPS_MAX);
    rv__splitter_step *step = &s->steps[s->count++];
    *step = (rv__splitter_step){.kind = RV__SPLITTER_SPACES};
    if (strcmp(type, "WhitespaceSplit") == 0)
        return RV_OK;
    if (strcmp(type, "Split") == 0)
        return load_pattern(step, json, file, err);
    if (strcmp(type, "ByteLevel") == 0)
        return load_bytes(step, json, file, err);
    if (strcmp(type, "Metaspace") == 0)
        return load_metaspace(step, json, file, err);
    return rv__fail(err, RV_UNSUPPORTED, "%s: pre-tokenizer \"%.40s\" is not known", file, type);
}

void rv__splitter_free(rv__splitter *s)
{
    for (size_t i = 0; i < s->count; i++) {
        rv__pattern_free(s->steps[i].pattern);
        rv__free(s->steps[i].replacement);
    }
    *s = (rv__splitter){0};
}

/* ---- splitting ---- */

/* Collects the parts of one piece: matches and what lies between them, joined as the behavior
 * wants. */
typedef struct collector {
    rv__pieces *out;
    const char *text;
    rv__split_behavior behavior;
    bool invert, first;
    size_t start, end; /* the part that may still grow; empty when start == end */
    bool open_match;   /* kind of that part                                       */
} collector;

static void emit(collector *c, size_t start, size_t end)
{
    rv__pieces_add(c->out, c->text + start, end - start, c->first && start == 0);
}

static void flush(collector *c, size_t at)
{
    emit(c, c->start, c->end);
    c->start = c->end = at;
}

static void collect(collector *c, size_t start, size_t end, bool match)
{
    match = match != c->invert;
    switch (c->behavior) {
    case RV__SPLIT_REMOVED:
        if (!match)
            emit(c, start, end);
        return;
    case RV__SPLIT_ISOLATED:
        emit(c, start, end);
        return;
    case RV__SPLIT_WITH_PREVIOUS: /* a match ends the open part, if that is no match itself */
        if (!match || c->open_match)
            flush(c, start);
        break;
    case RV__SPLIT_WITH_NEXT: /* a match begins a part, which what is no match may join */
        if (match || !c->open_match)
            flush(c, start);
        break;
    case RV__SPLIT_CONTIGUOUS:
        if (match != c->open_match)
            flush(c, start);
        break;
    }
    c->end = end;
    c->open_match = match;
}

static rv_status split(const rv__splitter_step *step, const char *text, size_t len, bool first,
                       rv__pieces *out, rv__tokenizer_work *work, rv_error *err)
{
    collector c = {.out = out,
                   .text = text,
                   .behavior = step->behavior,
                   .invert = step->invert,
                   .first = first};
    rv__pattern_scan scan;
    size_t done = 0, start, end;
    bool found = true;
    rv_status status = rv__pattern_begin(&scan, step->pattern, text, len, err);
    while (!status && !out->failed) {
        status = rv__pattern_next(&scan, work, &found, &start, &end, err);
        if (status || !found)
            break;
        if (start > done)
            collect(&c, done, start, false);
        collect(&c, start, end, true);
        done = end;
    }
    if (!status) {
        if (done < len)
            collect(&c, done, len, false);
        flush(&c, len);
    }
    rv__pattern_end(&scan);
    return status;
}

static void split_spaces(const char *text, size_t len, bool first, rv__pieces *out)
{
    size_t start = 0;
    for (size_t i = 0; i < len;) {
        int32_t codepoint;
        size_t n = rv__unicode_next(text + i, len - i, &codepoint);
        if (rv__unicode_is_space(codepoint)) {
            rv__pieces_add(out, text + start, i - start, first && start == 0);
            start = i + n;
        }
        i += n;
    }
    rv__pieces_add(out, text + start, len - start, first && start == 0);
}

/* Writes bytes as the characters GPT-2 gave them: printable ones stand for themselves, the others
 * are moved. */
static void add_bytes(rv__buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int32_t byte = (unsigned char)text[i];
        if (byte <= 0x20)
            byte += 0x100;
        else if (byte >= 0x7F && byte <= 0xA0)
            byte += 0x121 - 0x7F;
        else if (byte == 0xAD)
            byte = 0x143;
        rv__unicode_add(out, byte);
    }
}

static bool wants_prefix(const rv__splitter_step *step, bool first)
{
    return step->prefix == RV__PREFIX_ALWAYS || (step->prefix == RV__PREFIX_FIRST && first);
}

static rv_status split_bytes(const rv__splitter_step *step, const char *text, size_t len,
                             bool first, rv__pieces *out, rv__tokenizer_work *work, rv_error *err)
{
    rv__pieces words;
    rv__buf prefixed, mapped;
    rv_status status = RV_OK;
    rv__pieces_init(&words);
    rv__buf_init(&prefixed, RV__TOKENIZER_WORK_MAX);
    rv__buf_init(&mapped, RV__TOKENIZER_WORK_MAX);
    if (wants_prefix(step, first) && text[0] != ' ')
        rv__buf_adds(&prefixed, " ");
    rv__buf_add(&prefixed, text, len);
    if (!prefixed.failed && step->pattern)
        status = split(step, prefixed.data, prefixed.len, first, &words, work, err);
    else if (!prefixed.failed)
        rv__pieces_add(&words, prefixed.data, prefixed.len, first);
    for (size_t i = 0; i < words.count && !status && !words.failed; i++) {
        mapped.len = 0;
        add_bytes(&mapped, words.text.data + words.list[i].start, words.list[i].len);
        if (!mapped.failed)
            rv__pieces_add(out, mapped.data, mapped.len, words.list[i].first);
    }
    out->failed = out->failed || prefixed.failed || words.failed || mapped.failed;
    rv__pieces_free(&words);
    rv__buf_free(&prefixed);
    rv__buf_free(&mapped);
    return status;
}

static rv_status split_metaspace(const rv__splitter_step *step, const char *text, size_t len,
                                 bool first, rv__pieces *out, rv__tokenizer_work *work,
                                 rv_error *err)
{
    rv__buf b;
    rv_status status = RV_OK;
    size_t mark = strlen(step->replacement);
    rv__buf_init(&b, RV__TOKENIZER_WORK_MAX);
    bool begins = text[0] == ' ' || (len >= mark && memcmp(text, step->replacement, mark) == 0);
    if (!begins && wants_prefix(step, first))
        rv__buf_adds(&b, step->replacement);
    for (size_t i = 0; i < len; i++) {
        if (text[i] == ' ')
            rv__buf_adds(&b, step->replacement);
        else
            rv__buf_add(&b, text + i, 1);
    }
    if (b.failed)
        out->failed = true;
    else if (step->pattern)
        status = split(step, b.data, b.len, first, out, work, err);
    else
        rv__pieces_add(out, b.data, b.len, first);
    rv__buf_free(&b);
    return status;
}

static rv_status run_step(const rv__splitter_step *step, const char *text, const rv__piece *piece,
                          rv__pieces *out, rv__tokenizer_work *work, rv_error *err)
{
    switch (step->kind) {
    case RV__SPLITTER_PATTERN:
        return split(step, text, piece->len, piece->first, out, work, err);
    case RV__SPLITTER_BYTES:
        return split_bytes(step, text, piece->len, piece->first, out, work, err);
    case RV__SPLITTER_METASPACE:
        return split_metaspace(step, text, piece->len, piece->first, out, work, err);
    case RV__SPLITTER_SPACES:
        split_spaces(text, piece->len, piece->first, out);
        break;
    }
    return RV_OK;
}

rv_status rv__splitter_run(const rv__splitter *s, rv__pieces *io, rv__pieces *spare,
                           rv__tokenizer_work *work, rv_error *err)
{
    rv_status status = RV_OK;
    for (size_t i = 0; i < s->count && !status && !io->failed; i++) {
        rv__pieces_clear(spare);
        for (size_t k = 0; k < io->count && !status && !spare->failed; k++)
            status = run_step(&s->steps[i], io->text.data + io->list[k].start, &io->list[k], spare,
                              work, err);
        rv__pieces swap = *io;
        *io = *spare;
        *spare = swap;
    }
    if (!status && io->failed)
        status = rv__fail(err, RV_MEMORY, "%s: the text becomes too long", work->file);
    return status;
}
