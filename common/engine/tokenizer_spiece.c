/* Loading a unigram model from SentencePiece's own file (protocol buffers).  Every length in it is
 * checked against the bytes that are left; what the file holds beyond vocabulary and character map
 * is skipped. */
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "tokenizer_parts.h"

/* Fields of sentencepiece_model.proto. */
enum { MODEL_PIECES = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum { TRAINER_TYPE = 3, NORMALIZER_CHARSMAP = 2 };
enum { TYPE_UNKNOWN = 2, TRAINER_UNIGRAM = 1 };

typedef struct reader {
    const unsigned char *data;
    size_t len;
    bool failed;
} reader;

typedef struct field {
    uint32_t number;
    uint64_t value; /* of a number; of a float its bits */
    reader bytes;   /* of a text or a message           */
    bool is_bytes;
} field;

static uint64_t read_varint(reader *r)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && r->len; shift += 7) {
        unsigned char byte = *r->data++;
        r->len--;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80))
            return value;
    }
    r->failed = true;
    return 0;
}

static uint64_t read_fixed(reader *r, size_t bytes)
{
    uint64_t value = 0;
    if (r->len < bytes) {
        r->failed = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)r->data[i] << (8 * i);
    r->data += bytes;
    r->len -= bytes;
    return value;
}

/* The next field of a message; false at its end, or when it is damaged (r->failed). */
static bool next_field(reader *r, field *f)
{
    *f = (field){0};
    if (!r->len || r->failed)
        return false;
    uint64_t key = read_varint(r);
    f->number = (uint32_t)(key >> 3);
    if (r->failed || key >> 3 == 0 || key >> 3 > UINT32_MAX) {
        r->failed = true;
        return false;
    }
    switch (key & 7) {
    case 0:
        f->value = read_varint(r);
        break;
    case 1:
        f->value = read_fixed(r, 8);
        break;
    case 5:
        f->value = read_fixed(r, 4);
        break;
    case 2:
        f->value = read_varint(r);
        if (r->failed || f->value > r->len) {
            r->failed = true;
            return false;
        }
        f->is_bytes = true;
        f->bytes = (reader){.data = r->data, .len = (size_t)f->value};
        r->data += f->value;
        r->len -= (size_t)f->value;
        break;
    default:
        r->failed = true;
    }
    return !r->failed;
}

static rv_status load_piece(rv__tokenizer *t, reader r, int64_t *unknown, rv_error *err)
{
    const char *text = "";
    size_t len = 0;
    float score = 0;
    field f;
    uint64_t type = 1;
    while (next_field(&r, &f)) {
        if (f.number == PIECE_TEXT && f.is_bytes) {
            text = (const char *)f.bytes.data;
            len = f.bytes.len;
        } else if (f.number == PIECE_SCORE && !f.is_bytes) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&score, &bits, sizeof score);
        } else if (f.number == PIECE_TYPE && !f.is_bytes) {
            type = f.value;
        }
    }
    if (r.failed || rv__utf8_valid(text, len) != len || memchr(text, 0, len))
        return rv__fail(err, RV_FORMAT, "%s: piece %zu is damaged", t->file, t->unigram.count);
    if (type == TYPE_UNKNOWN)
        *unknown = (int64_t)t->unigram.count;
    return rv__unigram_add(&t->unigram, text, len, (double)score, t->file, err);
}

static rv_status check_trainer(const rv__tokenizer *t, reader r, rv_error *err)
{
    field f;
    while (next_field(&r, &f))
        if (f.number == TRAINER_TYPE && f.value != TRAINER_UNIGRAM)
            return rv__fail(err, RV_UNSUPPORTED, "%s: not a unigram model", t->file);
    return r.failed ? rv__fail(err, RV_FORMAT, "%s: the trainer's settings are damaged", t->file)
                    : RV_OK;
}

static rv_status load_charsmap(rv__tokenizer *t, reader r, rv_error *err)
{
    field f;
    rv_status status = RV_OK;
    while (!status && next_field(&r, &f)) {
        if (f.number != NORMALIZER_CHARSMAP || !f.is_bytes || !f.bytes.len || t->normalizer.count)
            continue;
        rv__normalizer_step *step = &t->normalizer.steps[t->normalizer.count++];
        *step = (rv__normalizer_step){.kind = RV__NORMALIZE_CHARSMAP};
        status = rv__charsmap_new(f.bytes.data, f.bytes.len, t->file, &step->map, err);
    }
    if (!status && r.failed)
        status = rv__fail(err, RV_FORMAT, "%s: the normalizer's settings are damaged", t->file);
    return status;
}

static rv_status load_fields(rv__tokenizer *t, reader *r, int64_t *unknown, rv_error *err)
{
    field f;
    rv_status status = RV_OK;
    while (!status && next_field(r, &f)) {
        if (f.number == MODEL_PIECES && f.is_bytes)
            status = load_piece(t, f.bytes, unknown, err);
        else if (f.number == MODEL_TRAINER && f.is_bytes)
            status = check_trainer(t, f.bytes, err);
        else if (f.number == MODEL_NORMALIZER && f.is_bytes)
            status = load_charsmap(t, f.bytes, err);
    }
    if (!status && r->failed)
        status = rv__fail(err, RV_FORMAT, "%s: not a SentencePiece model, or damaged", t->file);
    return status;
}

/* T5 puts <extra_id_N> … <extra_id_0> behind the pieces.  They are pieces first, and special tokens
 * once those are sorted. */
static rv_status add_extra(rv__tokenizer *t, int64_t count, bool sorted, rv_error *err)
{
    rv_status status = RV_OK;
    if (count < 0 || count > 1000)
        return rv__fail(err, RV_FORMAT, "%s: %lld extra ids", t->file, (long long)count);
    for (int64_t i = count - 1; i >= 0 && !status; i--) {
        char text[32];
        int len = snprintf(text, sizeof text, "<extra_id_%lld>", (long long)i);
        if (sorted)
            status = rv__tokenizer_add(t, &(rv__added_token){.text = text, .id = -1}, err);
        else
            status = rv__unigram_add(&t->unigram, text, (size_t)len, 0, t->file, err);
    }
    return status;
}

/* Words are split at white space and each gets the mark of a space in front, as T5's tokenizer.json
 * says. */
static rv_status add_steps(rv__tokenizer *t, rv_error *err)
{
    static const char steps[] =
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
        "{\"type\":\"Metaspace\",\"prepend_scheme\":\"always\"}]}";
    rv__json_error why;
    rv__value *json = rv__json_parse(steps, sizeof steps - 1, &why);
    if (!json)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", t->file);
    rv_status status = rv__splitter_load(&t->splitter, json, t->file, err);
    rv__json_free(json);
    return status;
}

rv_status rv__tokenizer_load_spiece(rv__tokenizer *t, const void *data, size_t len,
                                    int64_t extra_ids, rv_error *err)
{
    reader r = {.data = data, .len = len};
    int64_t unknown = -1;
    t->is_unigram = true;
    rv_status status = load_fields(t, &r, &unknown, err);
    if (!status)
        status = add_extra(t, extra_ids, false, err);
    if (!status)
        status = rv__unigram_finish(&t->unigram, unknown, t->file, err);
    if (!status)
        status = add_extra(t, extra_ids, true, err);
    if (!status)
        status = add_steps(t, err);
    if (status)
        return status;
    int32_t end = rv__unigram_find(&t->unigram, "</s>", 4);
    if (end < 0)
        return rv__fail(err, RV_FORMAT, "%s: </s> is missing", t->file);
    t->after[t->after_count++] = end;
    return RV_OK;
}
