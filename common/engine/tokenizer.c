/* Tokenizers: opening the files of a folder, and running the steps over a prompt.  Must not know
 * any model. */
#include "tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "tokenizer_parts.h"
#include "unicode.h"

#define JSON_VALUES_MAX (8 << 20) /* of a tokenizer.json; Llama's has about a million */

/* ---- opening ---- */

/* The files of a folder, wherever they are kept. */
typedef struct files {
    rv__tokenizer_file_fn *read;
    const void *source;
    const char *folder;
} files;

static const char *read_file(const files *f, const char *name, size_t *len)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    return f->read(f->source, path, len);
}

static bool has_file(const files *f, const char *name)
{
    size_t len;
    return read_file(f, name, &len) != NULL;
}

/* Parses a file of the folder; *out stays NULL when there is none. */
static rv_status load_json(const files *f, const char *name, rv__value **out, rv_error *err)
{
    size_t len;
    const char *text = read_file(f, name, &len), *folder = f->folder;
    *out = NULL;
    if (!text)
        return RV_OK;
    rv__json_error why = {0};
    *out = rv__json_parse_limited(text, len, JSON_VALUES_MAX, &why);
    if (!*out && why.message == rv__json_no_memory)
        return rv__fail(err, RV_MEMORY, "%s/%s: out of memory", folder, name);
    if (!*out)
        return rv__fail(err, RV_FORMAT, "%s/%s: %s (byte %zu)", folder, name, why.message,
                        why.offset);
    if (rv__json_is_object(*out))
        return RV_OK;
    rv__json_free(*out);
    *out = NULL;
    return rv__fail(err, RV_FORMAT, "%s/%s: not a JSON object", folder, name);
}

static void name_file(rv__tokenizer *t, const files *f, const char *name)
{
    snprintf(t->file, sizeof t->file, "%s/%s", f->folder, name);
}

static rv_status load_clip(rv__tokenizer *t, const files *f, rv_error *err)
{
    rv__value *vocab;
    size_t len;
    char merges_file[160];
    const char *merges = read_file(f, "merges.txt", &len);
    snprintf(merges_file, sizeof merges_file, "%s/merges.txt", f->folder);
    name_file(t, f, "vocab.json");
    rv_status status = load_json(f, "vocab.json", &vocab, err);
    if (!status)
        status = rv__tokenizer_load_clip(t, vocab, merges, len, merges_file, err);
    rv__json_free(vocab);
    return status;
}

static rv_status load_fast(rv__tokenizer *t, const files *f, rv_error *err)
{
    rv__value *json;
    name_file(t, f, "tokenizer.json");
    rv_status status = load_json(f, "tokenizer.json", &json, err);
    if (!status)
        status = rv__tokenizer_load_json(t, json, err);
    rv__json_free(json);
    return status;
}

static rv_status load_spiece(rv__tokenizer *t, const files *f, const rv__value *config,
                             rv_error *err)
{
    size_t len;
    const char *data = read_file(f, "spiece.model", &len);
    name_file(t, f, "spiece.model");
    return rv__tokenizer_load_spiece(t, data, len, rv__json_get_int(config, "extra_ids", 100), err);
}

/* CLIP's own files come first, as its tokenizer.json may lack the padding its maker chose; T5's
 * tokenizer.json comes before its spiece.model, as the reference pipeline reads it first. */
static rv_status load_model(rv__tokenizer *t, const files *f, const rv__value *config,
                            rv_error *err)
{
    const char *class = rv__json_get_string(config, "tokenizer_class", "CLIPTokenizer");
    bool pair = has_file(f, "vocab.json") && has_file(f, "merges.txt");
    if (pair && (strncmp(class, "CLIP", 4) == 0 || !has_file(f, "tokenizer.json")))
        return load_clip(t, f, err);
    if (has_file(f, "tokenizer.json"))
        return load_fast(t, f, err);
    if (has_file(f, "spiece.model"))
        return load_spiece(t, f, config, err);
    return rv__fail(err, RV_NOT_FOUND,
                    "%s: no tokenizer.json, spiece.model, or vocab.json with merges.txt",
                    f->folder);
}

/* Sorts the texts of the added tokens for the search; normalized ones are normalized like the
 * prompt. */
static rv_status index_added(rv__tokenizer *t, rv_error *err)
{
    rv__tokenizer_work work = {.file = t->file};
    rv_status status = RV_OK;
    for (size_t i = 0; i < t->added_count && !status; i++) {
        const rv__added_token *a = &t->added[i];
        if (!a->normalized) {
            status = rv__prefixes_add(&t->plain, a->text, strlen(a->text), (int32_t)i, err);
            continue;
        }
        rv__buf b;
        rv__buf_init(&b, RV__TOKENIZER_WORK_MAX);
        rv__buf_adds(&b, a->text);
        status = rv__normalizer_run(&t->normalizer, &b, &work, err);
        if (!status && b.len)
            status = rv__prefixes_add(&t->normalized, b.data, b.len, (int32_t)i, err);
        rv__buf_free(&b);
    }
    if (!status) { /* two that normalize to the same text find the first of them */
        rv__prefixes_sort(&t->plain);
        rv__prefixes_sort(&t->normalized);
    }
    return status;
}

rv_status rv__tokenizer_open_files(rv__tokenizer_file_fn *read, const void *source,
                                   const char *folder, rv__tokenizer **out, rv_error *err)
{
    files f = {read, source, folder};
    rv__value *config = NULL, *map = NULL;
    *out = NULL;
    rv__tokenizer *t = rv__calloc(1, sizeof *t);
    if (!t)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", folder);
    t->pad = t->end = t->bpe.unknown = -1;
    t->limit = INT32_MAX;
    name_file(t, &f, "tokenizer_config.json");
    rv_status status = load_json(&f, "tokenizer_config.json", &config, err);
    if (!status)
        status = load_json(&f, "special_tokens_map.json", &map, err);
    if (!status)
        status = load_model(t, &f, config, err);
    if (!status)
        status = rv__tokenizer_load_config(t, config, map, err);
    if (!status)
        status = index_added(t, err);
    rv__json_free(config);
    rv__json_free(map);
    if (status)
        rv__tokenizer_close(t);
    else
        *out = t;
    return status;
}

static const char *read_weights_file(const void *source, const char *path, size_t *len)
{
    return rv__weights_file(source, path, len);
}

rv_status rv__tokenizer_open(const rv__weights *w, const char *folder, rv__tokenizer **out,
                             rv_error *err)
{
    return rv__tokenizer_open_files(read_weights_file, w, folder, out, err);
}

void rv__tokenizer_close(rv__tokenizer *t)
{
    if (!t)
        return;
    rv__normalizer_free(&t->normalizer);
    rv__splitter_free(&t->splitter);
    rv__bpe_free(&t->bpe);
    rv__unigram_free(&t->unigram);
    for (size_t i = 0; i < t->added_count; i++)
        rv__free(t->added[i].text);
    rv__free(t->added);
    rv__prefixes_free(&t->plain);
    rv__prefixes_free(&t->normalized);
    rv__free(t);
}

int32_t rv__tokenizer_pad(const rv__tokenizer *t)
{
    return t->pad;
}

int32_t rv__tokenizer_end(const rv__tokenizer *t)
{
    return t->end;
}

void rv__tokenizer_set_pad(rv__tokenizer *t, int32_t id)
{
    t->pad = id;
}

size_t rv__tokenizer_limit(const rv__tokenizer *t)
{
    return t->limit;
}

/* ---- encoding ---- */

typedef struct encoding {
    const rv__tokenizer *t;
    rv__tokenizer_work work;
    rv__pieces pieces, spare;
    rv__ids ids;
    rv_error *err;
} encoding;

/* The stretches of text between added tokens go to one of these. */
typedef rv_status gap_fn(encoding *e, const char *text, size_t len, bool first);

static rv_status encode_pieces(encoding *e)
{
    const rv__tokenizer *t = e->t;
    rv_status status = rv__splitter_run(&t->splitter, &e->pieces, &e->spare, &e->work, e->err);
    for (size_t i = 0; i < e->pieces.count && !status; i++) {
        const char *text = e->pieces.text.data + e->pieces.list[i].start;
        if (t->is_unigram)
            status = rv__unigram_run(&t->unigram, text, e->pieces.list[i].len, &e->ids, e->err);
        else
            status = rv__bpe_run(&t->bpe, text, e->pieces.list[i].len, &e->ids, e->err);
    }
    return status;
}

static rv_status encode_words(encoding *e, const char *text, size_t len, bool first)
{
    rv__pieces_clear(&e->pieces);
    rv__pieces_add(&e->pieces, text, len, first);
    if (e->pieces.failed)
        return rv__fail(e->err, RV_MEMORY, "%s: out of memory", e->work.file);
    return encode_pieces(e);
}

/* Longest added token at or behind *from: its place in the list, or -1. */
static int32_t next_added(const rv__prefixes *p, const char *text, size_t len, size_t *from,
                          size_t *end)
{
    for (; *from < len && p->count; (*from)++) {
        rv__prefix_cursor c = rv__prefixes_begin(p);
        int32_t best = -1, value;
        for (size_t i = *from; i < len && rv__prefixes_next(p, &c, text[i], &value); i++)
            if (value >= 0) {
                best = value;
                *end = i + 1;
            }
        if (best >= 0)
            return best;
    }
    return -1;
}

static bool is_own_word(const char *text, size_t len, size_t start, size_t end)
{
    int32_t codepoint;
    if (start > 0) {
        size_t back = rv__unicode_back(text, start);
        rv__unicode_next(text + back, start - back, &codepoint);
        if (rv__unicode_is_word(codepoint))
            return false;
    }
    if (end == len)
        return true;
    rv__unicode_next(text + end, len - end, &codepoint);
    return !rv__unicode_is_word(codepoint);
}

/* Widens a match over the spaces around it, but not below `least`. */
static void widen(const rv__added_token *a, const char *text, size_t len, size_t least,
                  size_t *start, size_t *end)
{
    int32_t codepoint;
    while (a->strip_left && *start > least) {
        size_t back = rv__unicode_back(text, *start);
        rv__unicode_next(text + back, *start - back, &codepoint);
        if (!rv__unicode_is_space(codepoint))
            break;
        *start = back;
    }
    while (a->strip_right && *end < len) {
        size_t n = rv__unicode_next(text + *end, len - *end, &codepoint);
        if (!rv__unicode_is_space(codepoint))
            break;
        *end += n;
    }
}

/* Cuts the text at added tokens: their ids are taken as they are, the rest goes to `gap`. */
static rv_status cut(encoding *e, const rv__prefixes *p, const char *text, size_t len, bool first,
                     gap_fn *gap)
{
    size_t done = 0, from = 0, end;
    int32_t place;
    rv_status status = RV_OK;
    while (!status && (place = next_added(p, text, len, &from, &end)) >= 0) {
        const rv__added_token *a = &e->t->added[place];
        size_t start = from;
        from = end;
        if (a->single_word && !is_own_word(text, len, start, end))
            continue;
        widen(a, text, len, done, &start, &end);
        if (start > done)
            status = gap(e, text + done, start - done, first && done == 0);
        rv__ids_add(&e->ids, a->id);
        from = done = end;
    }
    if (!status && done < len)
        status = gap(e, text + done, len - done, first && done == 0);
    return status;
}

static rv_status encode_plain(encoding *e, const char *text, size_t len, bool first)
{
    rv__buf b;
    rv__buf_init(&b, RV__TOKENIZER_WORK_MAX);
    rv__buf_add(&b, text, len);
    rv_status status = rv__normalizer_run(&e->t->normalizer, &b, &e->work, e->err);
    if (!status && b.len)
        status = cut(e, &e->t->normalized, b.data, b.len, first, encode_words);
    rv__buf_free(&b);
    return status;
}

/* Puts the special tokens around the ids, cut or padded to `length` (0: neither). */
static rv_status arrange(const rv__tokenizer *t, const rv__ids *ids, size_t length,
                         rv__token_ids *out, rv_error *err)
{
    size_t wrap = t->before_count + t->after_count, kept = ids->count, i = 0;
    out->total = kept + wrap;
    if (length && out->total > length) {
        if (length < wrap)
            return rv__fail(err, RV_UNSUPPORTED,
                            "%s: %zu tokens leave no room for the special ones", t->file, length);
        kept = length - wrap;
    }
    out->used = kept + wrap;
    out->length = length ? length : out->used;
    if (out->used < out->length && t->pad < 0)
        return rv__fail(err, RV_UNSUPPORTED, "%s: no padding token", t->file);
    out->ids = rv__calloc(out->length, sizeof *out->ids);
    out->mask = rv__calloc(out->length, sizeof *out->mask);
    if (!out->ids || !out->mask)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", t->file);
    for (size_t k = 0; k < t->before_count; k++)
        out->ids[i++] = t->before[k];
    for (size_t k = 0; k < kept; k++)
        out->ids[i++] = ids->data[k];
    for (size_t k = 0; k < t->after_count; k++)
        out->ids[i++] = t->after[k];
    for (size_t k = 0; k < out->length; k++) {
        out->mask[k] = k < out->used;
        if (k >= out->used)
            out->ids[k] = t->pad;
    }
    return RV_OK;
}

rv_status rv__tokenizer_encode(const rv__tokenizer *t, const char *text, size_t len, size_t length,
                               rv__token_ids *out, rv_error *err)
{
    *out = (rv__token_ids){0};
    if (len > RV__TOKENIZER_TEXT_MAX)
        return rv__fail(err, RV_VALIDATION, "text is longer than %d bytes", RV__TOKENIZER_TEXT_MAX);
    size_t valid = rv__utf8_valid(text, len);
    if (valid != len)
        return rv__fail(err, RV_VALIDATION, "text is not UTF-8 from byte %zu on", valid);
    encoding e = {.t = t, .work = {.file = t->file}, .err = err};
    rv__pieces_init(&e.pieces);
    rv__pieces_init(&e.spare);
    rv_status status = cut(&e, &t->plain, text, len, true, encode_plain);
    if (!status && e.ids.failed)
        status = rv__fail(err, RV_MEMORY, "%s: out of memory", t->file);
    if (!status)
        status = arrange(t, &e.ids, length, out, err);
    if (status)
        rv__token_ids_free(out);
    rv__pieces_free(&e.pieces);
    rv__pieces_free(&e.spare);
    rv__ids_free(&e.ids);
    return status;
}

void rv__token_ids_free(rv__token_ids *t)
{
    rv__free(t->ids);
    rv__free(t->mask);
    *t = (rv__token_ids){0};
}
