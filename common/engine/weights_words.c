/* Tokenizers out of llama.cpp's GGUF files: their key-value pairs become the files that the model's
 * repository would have, so that one reader serves both.  Must never guess: what a file says in a
 * way that is not known here is left to the owner's own tokenizer folder. */
#include "weights_internal.h"

#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

/* How Llama 3 splits a text into words. */
#define LLAMA_STEPS                                                                                \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"        \
    "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?"      \
    "[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"        \
    "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","                         \
    "\"add_prefix_space\":false,\"use_regex\":false}]}"

enum { MOST_TOKENS = 1 << 20, CONTROL = 3, USER = 4 /* kinds of tokens */ };

/* The texts of an array, one after the other. */
typedef struct texts {
    const unsigned char *at;
    uint64_t left;
} texts;

static const rv__gguf_pair *find(const rv__gguf *g, const char *key)
{
    size_t count;
    const rv__gguf_pair *list = rv__gguf_pairs(g, &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].key, key) == 0)
            return &list[i];
    return NULL;
}

static bool open_texts(const rv__gguf *g, const char *key, texts *out)
{
    const rv__gguf_pair *p = find(g, key);
    if (!p || !p->is_array || p->type != GGUF_TYPE_STRING || p->count > MOST_TOKENS)
        return false;
    *out = (texts){p->data, p->count};
    return true;
}

/* Lengths were checked when the file was opened. */
static bool next_text(texts *t, const char **text, size_t *len)
{
    uint64_t n;
    if (!t->left)
        return false;
    memcpy(&n, t->at, sizeof n);
    *text = (const char *)t->at + sizeof n;
    *len = (size_t)n;
    t->at += sizeof n + n;
    t->left--;
    return true;
}

/* An array of 32 bits each, one per token; NULL when it is not that. */
static const unsigned char *numbers(const rv__gguf *g, const char *key, enum gguf_type type,
                                    uint64_t count)
{
    const rv__gguf_pair *p = find(g, key);
    return p && p->is_array && p->type == type && p->count == count ? p->data : NULL;
}

static int32_t number_at(const unsigned char *list, uint64_t i)
{
    int32_t v;
    memcpy(&v, list + 4 * i, sizeof v);
    return v;
}

static bool text_is(const rv__gguf *g, const char *key, const char *text)
{
    const char *at;
    size_t len;
    return rv__gguf_text(g, key, &at, &len) && len == strlen(text) && memcmp(at, text, len) == 0;
}

static rv_status put(rv__weights *w, const char *path, rv__buf *b, rv_error *err)
{
    size_t len;
    char *text = rv__buf_take(b, &len);
    return text ? rv__weights_add_file(w, path, text, len, err)
                : rv__fail(err, RV_MEMORY, "%.100s: out of memory", w->path);
}

/* ---- Llama: byte pairs ---- */

static void write_vocabulary(rv__buf *b, texts tokens, const unsigned char *types)
{
    const char *text, *comma = "";
    size_t len;
    rv__buf_adds(b, "\"vocab\":{");
    for (uint64_t id = 0; next_text(&tokens, &text, &len); id++) {
        int32_t type = number_at(types, id);
        if (type == CONTROL || type == USER || rv__utf8_valid(text, len) != len ||
            memchr(text, 0, len))
            continue;
        rv__buf_adds(b, comma);
        rv__json_write_text(b, text, len);
        rv__buf_addf(b, ":%llu", (unsigned long long)id);
        comma = ",";
    }
    rv__buf_adds(b, "}");
}

static void write_merges(rv__buf *b, texts merges)
{
    const char *text, *comma = "";
    size_t len;
    rv__buf_adds(b, ",\"merges\":[");
    while (next_text(&merges, &text, &len)) {
        rv__buf_adds(b, comma);
        rv__json_write_text(b, text, len);
        comma = ",";
    }
    rv__buf_adds(b, "]");
}

/* Tokens that are no words. */
static void write_special(rv__buf *b, texts tokens, const unsigned char *types)
{
    const char *text, *comma = "";
    size_t len;
    rv__buf_adds(b, "\"added_tokens\":[");
    for (uint64_t id = 0; next_text(&tokens, &text, &len); id++) {
        int32_t type = number_at(types, id);
        if (type != CONTROL && type != USER)
            continue;
        rv__buf_addf(b, "%s{\"id\":%llu,\"special\":true,\"content\":", comma,
                     (unsigned long long)id);
        rv__json_write_text(b, text, len);
        rv__buf_adds(b, "}");
        comma = ",";
    }
    rv__buf_adds(b, "]");
}

static bool token_by_key(const rv__gguf *g, const char *key, texts tokens, uint64_t *id,
                         const char **text, size_t *len)
{
    if (!rv__gguf_uint(g, key, id))
        return false;
    for (uint64_t i = 0; next_text(&tokens, text, len); i++)
        if (i == *id)
            return true;
    return false;
}

static void write_template(rv__buf *b, const rv__gguf *g, texts tokens)
{
    const char *text;
    size_t len;
    uint64_t id;
    if (!token_by_key(g, "tokenizer.ggml.bos_token_id", tokens, &id, &text, &len))
        return;
    rv__buf_adds(b, ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
                    "{\"SpecialToken\":{\"id\":\"bos\"}},{\"Sequence\":{\"id\":\"A\"}}],"
                    "\"special_tokens\":{\"bos\":{\"id\":\"bos\",\"ids\":[");
    rv__buf_addf(b, "%llu]}}}", (unsigned long long)id);
}

static rv_status add_llama(rv__weights *w, const rv__gguf *g, rv_error *err)
{
    texts tokens, merges;
    const unsigned char *types = NULL;
    const char *text;
    size_t len;
    uint64_t id;
    rv__buf b;
    bool known = text_is(g, "tokenizer.ggml.model", "gpt2") &&
                 (text_is(g, "tokenizer.ggml.pre", "llama-bpe") ||
                  text_is(g, "tokenizer.ggml.pre", "llama3") ||
                  text_is(g, "tokenizer.ggml.pre", "llama-v3"));
    if (!known || !open_texts(g, "tokenizer.ggml.tokens", &tokens) ||
        !open_texts(g, "tokenizer.ggml.merges", &merges) ||
        !(types = numbers(g, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, tokens.left)))
        return RV_OK;
    rv__buf_init(&b, RV_MODEL_MAX_FILE_BYTES);
    rv__buf_adds(&b, "{\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,");
    write_vocabulary(&b, tokens, types);
    write_merges(&b, merges);
    rv__buf_adds(&b, "},\"pre_tokenizer\":" LLAMA_STEPS ",");
    write_special(&b, tokens, types);
    write_template(&b, g, tokens);
    rv__buf_adds(&b, "}");
    rv_status status = put(w, "tokenizer_4/tokenizer.json", &b, err);
    if (status != RV_OK)
        return status;
    rv__buf_init(&b, RV_MODEL_MAX_FILE_BYTES);
    rv__buf_adds(&b, "{\"tokenizer_class\":\"PreTrainedTokenizerFast\"");
    if (token_by_key(g, "tokenizer.ggml.eos_token_id", tokens, &id, &text, &len)) {
        rv__buf_adds(&b, ",\"eos_token\":");
        rv__json_write_text(&b, text, len);
    }
    rv__buf_adds(&b, "}");
    return put(w, "tokenizer_4/tokenizer_config.json", &b, err);
}

/* ---- T5: SentencePiece, written as its own file ---- */

static void write_varint(rv__buf *b, uint64_t v)
{
    for (; v > 127; v >>= 7)
        rv__buf_add(b, &(unsigned char){(unsigned char)(v | 128)}, 1);
    rv__buf_add(b, &(unsigned char){(unsigned char)v}, 1);
}

/* A field of bytes of a protocol buffer. */
static void write_bytes(rv__buf *b, unsigned number, const void *data, size_t len)
{
    write_varint(b, number << 3 | 2);
    write_varint(b, len);
    rv__buf_add(b, data, len);
}

static void write_piece(rv__buf *b, const char *text, size_t len, const unsigned char *score,
                        int32_t type)
{
    rv__buf piece;
    rv__buf_init(&piece, 1 << 20);
    write_bytes(&piece, 1, text, len);
    write_varint(&piece, 2 << 3 | 5);
    rv__buf_add(&piece, score, 4);
    write_varint(&piece, 3 << 3);
    write_varint(&piece, (uint64_t)type);
    write_bytes(b, 1, piece.data, piece.len);
    b->failed |= piece.failed;
    rv__buf_free(&piece);
}

/* What llama.cpp's converter puts behind the pieces, to fill the model's table. */
static bool is_filler(const char *text, size_t len)
{
    return (len > 4 && memcmp(text, "[PAD", 4) == 0) ||
           (len > 10 && memcmp(text, "<extra_id_", 10) == 0);
}

static rv_status add_t5(rv__weights *w, const rv__gguf *g, rv_error *err)
{
    static const char config[] = "{\"tokenizer_class\":\"T5Tokenizer\",\"model_max_length\":512}";
    texts tokens;
    const unsigned char *types = NULL, *scores = NULL;
    const rv__gguf_pair *map = find(g, "tokenizer.ggml.precompiled_charsmap");
    const char *text;
    size_t len;
    rv__buf b, normalizer;
    if (!text_is(g, "tokenizer.ggml.model", "t5") ||
        !open_texts(g, "tokenizer.ggml.tokens", &tokens) ||
        !(types = numbers(g, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, tokens.left)) ||
        !(scores = numbers(g, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, tokens.left)))
        return RV_OK;
    rv__buf_init(&b, RV_MODEL_MAX_FILE_BYTES);
    for (uint64_t id = 0; next_text(&tokens, &text, &len) && !is_filler(text, len); id++)
        write_piece(&b, text, len, scores + 4 * id, number_at(types, id));
    if (map && map->is_array && (map->type == GGUF_TYPE_UINT8 || map->type == GGUF_TYPE_INT8)) {
        rv__buf_init(&normalizer, RV_MODEL_MAX_FILE_BYTES);
        write_bytes(&normalizer, 2, map->data, (size_t)map->count);
        write_bytes(&b, 3, normalizer.data, normalizer.len);
        b.failed |= normalizer.failed;
        rv__buf_free(&normalizer);
    }
    rv_status status = put(w, "tokenizer_3/spiece.model", &b, err);
    if (status != RV_OK)
        return status;
    rv__buf_init(&b, 1 << 10);
    rv__buf_adds(&b, config);
    return put(w, "tokenizer_3/tokenizer_config.json", &b, err);
}

/* ---- both ---- */

static bool has_folder(const rv__weights *w, const char *folder)
{
    size_t n = strlen(folder);
    for (size_t i = 0; i < w->n_files; i++)
        if (strncmp(w->files[i].path, folder, n) == 0)
            return true;
    return false;
}

rv_status rv__weights_add_words(rv__weights *w, rv_error *err)
{
    rv_status status = RV_OK;
    if (w->t5_gguf && !has_folder(w, "tokenizer_3/"))
        status = add_t5(w, w->t5_gguf, err);
    if (status == RV_OK && w->llama_gguf && !has_folder(w, "tokenizer_4/"))
        status = add_llama(w, w->llama_gguf, err);
    return status;
}
