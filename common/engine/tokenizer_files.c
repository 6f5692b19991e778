/* Loading tokenizers from JSON: tokenizer.json, CLIP's vocab.json with merges.txt, and the special
 * tokens of tokenizer_config.json.  What a file asks for and this code cannot do is an error that
 * names it. */
#include <string.h>

#include "tokenizer_parts.h"

/* The steps CLIP's files imply; what a tokenizer.json of CLIP says in full. */
#define CLIP_STEPS                                                                                 \
    "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"                  \
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\" "                     \
    "\"},{\"type\":\"Lowercase\"}]},"                                                              \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":" \
    "{\"Regex\":"                                                                                  \
    "\"<\\\\|startoftext\\\\|>|<\\\\|endoftext\\\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{"  \
    "N}]|"                                                                                         \
    "[^\\\\s\\\\p{L}\\\\p{N}]+\"},\"behavior\":\"Removed\",\"invert\":true},"                      \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}]}}"

#define CLIP_BEGIN "<|startoftext|>"
#define CLIP_END   "<|endoftext|>"

/* ---- added tokens ---- */

int32_t rv__tokenizer_find(const rv__tokenizer *t, const char *text)
{
    int32_t id = t->is_unigram ? rv__unigram_find(&t->unigram, text, strlen(text))
                               : rv__vocab_find(&t->bpe.vocab, text, strlen(text));
    for (size_t i = 0; i < t->added_count && id < 0; i++)
        if (strcmp(t->added[i].text, text) == 0)
            id = t->added[i].id;
    return id;
}

static size_t vocab_count(const rv__tokenizer *t)
{
    return t->is_unigram ? t->unigram.count : t->bpe.vocab.count;
}

/* The first id behind the vocabulary that no added token has. */
static int64_t next_id(const rv__tokenizer *t)
{
    int64_t id = (int64_t)vocab_count(t);
    for (size_t i = 0; i < t->added_count; i++)
        if (t->added[i].id >= id)
            id = (int64_t)t->added[i].id + 1;
    return id;
}

static bool is_added(const rv__tokenizer *t, const char *text)
{
    for (size_t i = 0; i < t->added_count; i++)
        if (strcmp(t->added[i].text, text) == 0)
            return true;
    return false;
}

rv_status rv__tokenizer_add(rv__tokenizer *t, const rv__added_token *token, rv_error *err)
{
    size_t len = strlen(token->text);
    if (len == 0 || is_added(t, token->text))
        return RV_OK;
    if (len > RV__VOCAB_TOKEN_MAX || t->added_count >= RV__TOKENIZER_ADDED_MAX)
        return rv__fail(err, RV_FORMAT, "%s: an added token is too long, or there are too many",
                        t->file);
    int64_t id = rv__tokenizer_find(t, token->text);
    if (id < 0)
        id = token->id >= 0 ? token->id : next_id(t);
    if (id > INT32_MAX)
        return rv__fail(err, RV_FORMAT, "%s: the id of an added token is out of range", t->file);
    if (t->added_count == t->added_cap) {
        size_t cap = t->added_cap ? t->added_cap * 2 : 64;
        rv__added_token *added = rv__realloc(t->added, cap * sizeof *added);
        if (!added)
            return rv__fail(err, RV_MEMORY, "%s: out of memory", t->file);
        t->added = added;
        t->added_cap = cap;
    }
    rv__added_token *a = &t->added[t->added_count];
    *a = *token;
    a->id = (int32_t)id;
    a->text = rv__strdup(token->text);
    if (!a->text)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", t->file);
    t->added_count++;
    return RV_OK;
}

/* A token is a text, or an object with its text as "content". */
static const char *token_text(const rv__value *v)
{
    const char *text = rv__json_string(v);
    return text ? text : rv__json_get_string(v, "content", NULL);
}

/* Adds a token that is a text or an object; `id` -1: not told. */
static rv_status add_json(rv__tokenizer *t, const rv__value *v, int64_t id, rv_error *err)
{
    const char *text = token_text(v);
    if (!text)
        return rv__fail(err, RV_FORMAT, "%s: an added token has no text", t->file);
    if (id < -1 || id > INT32_MAX)
        return rv__fail(err, RV_FORMAT, "%s: the id of an added token is out of range", t->file);
    rv__added_token token = {.id = (int32_t)id, .text = (char *)(uintptr_t)text};
    if (rv__json_is_object(v)) {
        token.normalized = rv__json_get_bool(v, "normalized", false);
        token.single_word = rv__json_get_bool(v, "single_word", false);
        token.strip_left = rv__json_get_bool(v, "lstrip", false);
        token.strip_right = rv__json_get_bool(v, "rstrip", false);
    }
    return rv__tokenizer_add(t, &token, err);
}

/* ---- what stands around a text ---- */

static rv_status wrap(rv__tokenizer *t, bool behind, int64_t id, rv_error *err)
{
    size_t *count = behind ? &t->after_count : &t->before_count;
    if (id < 0 || id > INT32_MAX)
        return rv__fail(err, RV_FORMAT, "%s: the id of a special token is out of range", t->file);
    if (*count == RV__TOKENIZER_WRAP_MAX)
        return rv__fail(err, RV_UNSUPPORTED, "%s: more than %d special tokens around a text",
                        t->file, RV__TOKENIZER_WRAP_MAX);
    if (behind) {
        t->after[(*count)++] = (int32_t)id;
        return RV_OK;
    }
    t->before[(*count)++] = (int32_t)id;
    return RV_OK;
}

static rv_status load_template(rv__tokenizer *t, const rv__value *json, rv_error *err)
{
    const rv__value *list = rv__json_get(json, "single"),
                    *special = rv__json_get(json, "special_tokens");
    bool behind = false;
    rv_status status = RV_OK;
    if (t->before_count || t->after_count)
        return rv__fail(err, RV_UNSUPPORTED, "%s: more than one template", t->file);
    for (const rv__value *v = rv__json_first(list); v && !status; v = rv__json_next(v)) {
        if (rv__json_get(v, "Sequence")) {
            if (behind)
                return rv__fail(err, RV_UNSUPPORTED, "%s: the template repeats the text", t->file);
            behind = true;
            continue;
        }
        const char *name = rv__json_get_string(rv__json_get(v, "SpecialToken"), "id", "");
        const rv__value *ids = rv__json_get(rv__json_get(special, name), "ids");
        if (!rv__json_size(ids))
            return rv__fail(err, RV_FORMAT, "%s: the template names a token without ids", t->file);
        for (const rv__value *n = rv__json_first(ids); n && !status; n = rv__json_next(n)) {
            int64_t id = -1;
            rv__json_int(n, &id);
            status = wrap(t, behind, id, err);
        }
    }
    if (!status && !behind)
        status = rv__fail(err, RV_FORMAT, "%s: the template lacks the text", t->file);
    return status;
}

/* ["text", id] of the older processors. */
static rv_status load_pair(rv__tokenizer *t, const rv__value *pair, bool behind, rv_error *err)
{
    int64_t id = -1;
    rv__json_int(rv__json_at(pair, 1), &id);
    return wrap(t, behind, id, err);
}

static rv_status load_processor(rv__tokenizer *t, const rv__value *json, rv_error *err)
{
    const char *type = rv__json_get_string(json, "type", "");
    rv_status status = RV_OK;
    if (!json || rv__json_is_null(json) || strcmp(type, "ByteLevel") == 0)
        return RV_OK;
    if (strcmp(type, "Sequence") == 0) {
        const rv__value *list = rv__json_get(json, "processors");
        for (const rv__value *v = rv__json_first(list); v && !status; v = rv__json_next(v))
            status = load_processor(t, v, err);
        return status;
    }
    if (strcmp(type, "TemplateProcessing") == 0)
        return load_template(t, json, err);
    if (strcmp(type, "RobertaProcessing") != 0 && strcmp(type, "BertProcessing") != 0)
        return rv__fail(err, RV_UNSUPPORTED, "%s: post-processor \"%.40s\" is not known", t->file,
                        type);
    status = load_pair(t, rv__json_get(json, "cls"), false, err);
    return status ? status : load_pair(t, rv__json_get(json, "sep"), true, err);
}

/* ---- tokenizer.json ---- */

static rv_status load_steps(rv__tokenizer *t, const rv__value *json, rv_error *err)
{
    rv_status status =
        rv__normalizer_load(&t->normalizer, rv__json_get(json, "normalizer"), t->file, err);
    if (!status)
        status = rv__splitter_load(&t->splitter, rv__json_get(json, "pre_tokenizer"), t->file, err);
    return status;
}

rv_status rv__tokenizer_load_json(rv__tokenizer *t, const rv__value *json, rv_error *err)
{
    const rv__value *model = rv__json_get(json, "model");
    const char *type =
        rv__json_get_string(model, "type", rv__json_get(model, "merges") ? "BPE" : "Unigram");
    rv_status status;
    if (strcmp(type, "BPE") == 0) {
        status = rv__bpe_load(&t->bpe, model, t->file, err);
    } else if (strcmp(type, "Unigram") == 0) {
        t->is_unigram = true;
        status = rv__unigram_load(&t->unigram, model, t->file, err);
    } else {
        status = rv__fail(err, RV_UNSUPPORTED, "%s: model \"%.40s\" is not known", t->file, type);
    }
    if (!status)
        status = load_steps(t, json, err);
    const rv__value *added = rv__json_get(json, "added_tokens");
    for (const rv__value *v = rv__json_first(added); v && !status; v = rv__json_next(v))
        status = add_json(t, v, rv__json_get_int(v, "id", -1), err);
    return status ? status : load_processor(t, rv__json_get(json, "post_processor"), err);
}

/* ---- CLIP ---- */

/* One merge per line; the first line names a version. */
static rv_status load_merges(rv__tokenizer *t, const char *text, size_t len, const char *file,
                             rv_error *err)
{
    size_t rank = 0, number = 0;
    rv_status status = RV_OK;
    for (const char *line = text, *stop = text + len; line < stop && !status;) {
        const char *end = memchr(line, '\n', (size_t)(stop - line));
        const char *next = end ? end + 1 : stop;
        size_t n = (size_t)((end ? end : stop) - line);
        if (n && line[n - 1] == '\r')
            n--;
        const char *space = memchr(line, ' ', n);
        bool header = number++ == 0 && memmem(line, n, "#version", 8);
        if (n == 0 || header) {
            line = next;
            continue;
        }
        if (!space)
            return rv__fail(err, RV_FORMAT, "%s: line %zu is not two tokens", file, number);
        status = rv__bpe_add_merge(&t->bpe, line, (size_t)(space - line), space + 1,
                                   (size_t)(line + n - space - 1), rank++, file, err);
        line = next;
    }
    return status;
}

static rv_status load_clip_steps(rv__tokenizer *t, rv_error *err)
{
    rv__json_error why;
    rv__value *json = rv__json_parse(CLIP_STEPS, strlen(CLIP_STEPS), &why);
    if (!json)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", t->file);
    rv_status status = load_steps(t, json, err);
    rv__json_free(json);
    return status;
}

rv_status rv__tokenizer_load_clip(rv__tokenizer *t, const rv__value *vocab, const char *merges,
                                  size_t merges_len, const char *merges_file, rv_error *err)
{
    rv_status status = rv__bpe_load_vocab(&t->bpe, vocab, t->file, err);
    if (!status)
        status = load_merges(t, merges, merges_len, merges_file, err);
    if (!status)
        status = load_clip_steps(t, err);
    t->is_clip = true;
    t->bpe.suffix = rv__strdup("</w>");
    if (!status && !t->bpe.suffix)
        status = rv__fail(err, RV_MEMORY, "%s: out of memory", t->file);
    return status;
}

/* ---- tokenizer_config.json ---- */

/* A special token by its name ("pad_token"): the configuration says it, else the map, else what its
 * class implies. A map beside a configuration that does not list its tokens is the older form and
 * comes first. */
static const rv__value *special_token(const rv__value *config, const rv__value *map,
                                      const char *name)
{
    const rv__value *a = rv__json_get(config, name), *b = rv__json_get(map, name);
    bool old = !rv__json_get(config, "added_tokens_decoder");
    if (token_text(old ? b : a))
        return old ? b : a;
    return token_text(old ? a : b) ? (old ? a : b) : NULL;
}

static const char *implied_token(const rv__tokenizer *t, const char *class, const char *name)
{
    bool clip = strncmp(class, "CLIP", 4) == 0 || (!*class && t->is_clip);
    bool t5 = strncmp(class, "T5", 2) == 0 || (!*class && t->is_unigram);
    if (clip)
        return strcmp(name, "bos_token") == 0 ? CLIP_BEGIN : CLIP_END;
    if (!t5)
        return NULL;
    if (strcmp(name, "eos_token") == 0)
        return "</s>";
    return strcmp(name, "unk_token") == 0   ? "<unk>"
           : strcmp(name, "pad_token") == 0 ? "<pad>"
                                            : NULL;
}

/* Adds the named special token and tells its id (-1: there is none). */
static rv_status add_special(rv__tokenizer *t, const rv__value *config, const rv__value *map,
                             const char *name, int32_t *id, rv_error *err)
{
    const rv__value *v = special_token(config, map, name);
    const char *text = token_text(v);
    rv_status status = RV_OK;
    *id = -1;
    if (text) {
        status = add_json(t, v, -1, err);
    } else {
        text = implied_token(t, rv__json_get_string(config, "tokenizer_class", ""), name);
        rv__added_token token = {.text = (char *)(uintptr_t)text, .id = -1};
        if (text && rv__tokenizer_find(t, text) >= 0)
            status = rv__tokenizer_add(t, &token, err);
        else
            text = NULL;
    }
    if (!status && text && *text)
        *id = rv__tokenizer_find(t, text);
    return status;
}

/* CLIP's two tokens, which nothing but its class names. */
static rv_status wrap_clip(rv__tokenizer *t, int32_t begin, int32_t end, rv_error *err)
{
    if (begin < 0 || end < 0)
        return rv__fail(err, RV_FORMAT, "%s: " CLIP_BEGIN " or " CLIP_END " is missing", t->file);
    rv_status status = wrap(t, false, begin, err);
    return status ? status : wrap(t, true, end, err);
}

static rv_status load_lists(rv__tokenizer *t, const rv__value *config, rv_error *err)
{
    rv_status status = RV_OK;
    const rv__value *decoder = rv__json_get(config, "added_tokens_decoder");
    for (const rv__value *v = rv__json_first(decoder); v && !status; v = rv__json_next(v)) {
        const char *key = rv__json_key(v);
        int64_t id = 0;
        size_t digits = strspn(key, "0123456789");
        for (size_t i = 0; i < digits && i < 10; i++)
            id = id * 10 + (key[i] - '0');
        if (!digits || digits > 10 || key[digits])
            return rv__fail(err, RV_FORMAT, "%s: added_tokens_decoder has a key that is no id",
                            t->file);
        status = add_json(t, v, id, err);
    }
    return status;
}

rv_status rv__tokenizer_load_config(rv__tokenizer *t, const rv__value *config, const rv__value *map,
                                    rv_error *err)
{
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    int32_t ids[7];
    double limit = rv__json_get_number(config, "model_max_length", 0);
    rv_status status = load_lists(t, config, err);
    t->limit = limit >= 1 && limit < INT32_MAX ? (size_t)limit : INT32_MAX;
    for (int i = 0; i < 7 && !status; i++)
        status = add_special(t, config, map, names[i], &ids[i], err);
    const rv__value *more = rv__json_get(config, "additional_special_tokens");
    if (!more)
        more = rv__json_get(map, "additional_special_tokens");
    for (const rv__value *v = rv__json_first(more); v && !status; v = rv__json_next(v))
        status = add_json(t, v, -1, err);
    if (status)
        return status;
    t->end = ids[1];
    t->pad = ids[4];
    if (!t->is_clip)
        return RV_OK;
    t->bpe.unknown = ids[2];
    return wrap_clip(t, ids[0], ids[1], err);
}
