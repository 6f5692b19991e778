/* Base64 both ways.  Pictures of many megabytes go through here: tables, no branch per character, and
 * 32 characters at a time where the processor can. */
#include "base64.h"

#include <stdint.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#define X 0x80 /* not in the alphabet */
static const uint8_t value[256] = {
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X, 62,  X,  X,  X, 63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61,  X,  X,  X,  X,  X,  X,
     X,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,  X,  X,  X,  X,  X,
     X, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
     X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
};
#undef X

size_t rv__base64_size(size_t len)
{
    return len > SIZE_MAX / 4 * 3 - 2 ? SIZE_MAX : (len + 2) / 3 * 4;
}

void rv__base64_encode(const void *data, size_t len, char *out)
{
    const uint8_t *in = data;
    for (; len >= 3; len -= 3, in += 3, out += 4) {
        uint32_t v = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        out[0] = alphabet[v >> 18];
        out[1] = alphabet[v >> 12 & 63];
        out[2] = alphabet[v >> 6 & 63];
        out[3] = alphabet[v & 63];
    }
    if (!len)
        return;
    uint32_t v = (uint32_t)in[0] << 16 | (len == 2 ? (uint32_t)in[1] << 8 : 0);
    out[0] = alphabet[v >> 18];
    out[1] = alphabet[v >> 12 & 63];
    out[2] = len == 2 ? alphabet[v >> 6 & 63] : '=';
    out[3] = '=';
}

/* The last group, where padding may stand: 1..3 bytes to out, 0 when it is wrong. */
static size_t decode_last(const uint8_t *in, uint8_t out[3])
{
    size_t padding = in[3] != '=' ? 0 : in[2] != '=' ? 1 : 2;
    uint32_t c = padding > 1 ? 0 : value[in[2]], d = padding ? 0 : value[in[3]];
    if ((value[in[0]] | value[in[1]] | c | d) & 0x80)
        return 0;
    uint32_t v = (uint32_t)value[in[0]] << 18 | (uint32_t)value[in[1]] << 12 | c << 6 | d;
    if (padding && (v & (padding == 1 ? 0xFFu : 0xFFFFu)))
        return 0; /* bits that belong to no byte */
    out[0] = (uint8_t)(v >> 16);
    out[1] = (uint8_t)(v >> 8);
    out[2] = (uint8_t)v;
    return 3 - padding;
}

#ifdef __x86_64__

/* Twice the same 16 bytes: what a shuffle within 128 bits looks up. */
#define TWICE(...) _mm256_setr_epi8(__VA_ARGS__, __VA_ARGS__)

/* Whole blocks of 32 characters, as long as 16 more follow; how many groups of four are done.  Stops
 * before a block with a character that is none of the alphabet.  Writes up to 8 bytes past the
 * decoded ones. */
__attribute__((target("avx2"))) static size_t decode_blocks(const uint8_t *in, size_t groups,
                                                            uint8_t *to)
{
    /* What must be added to a character, by its upper four bits; '/' has a row of its own. */
    const __m256i add = TWICE(0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0);
    /* A character is wrong when its rows of both tables have a bit in common. */
    const __m256i wrong_low = TWICE(0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11,
                                    0x13, 0x1A, 0x1B, 0x1B, 0x1B, 0x1A);
    const __m256i wrong_high = TWICE(0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10,
                                     0x10, 0x10, 0x10, 0x10, 0x10, 0x10);
    const __m256i order = TWICE(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
    const __m256i nibble = _mm256_set1_epi8(0x0f), slash = _mm256_set1_epi8('/');
    size_t done = 0;
    for (; groups - done >= 12; done += 8, in += 32, to += 24) {
        __m256i c = _mm256_loadu_si256((const __m256i *)in);
        __m256i high = _mm256_and_si256(_mm256_srli_epi32(c, 4), nibble);
        __m256i bad = _mm256_and_si256(_mm256_shuffle_epi8(wrong_low, _mm256_and_si256(c, nibble)),
                                       _mm256_shuffle_epi8(wrong_high, high));
        if (!_mm256_testz_si256(bad, bad))
            break;
        high = _mm256_add_epi8(high, _mm256_cmpeq_epi8(c, slash));
        __m256i six = _mm256_add_epi8(c, _mm256_shuffle_epi8(add, high));
        __m256i twelve = _mm256_maddubs_epi16(six, _mm256_set1_epi32(0x01400140));
        __m256i whole = _mm256_madd_epi16(twelve, _mm256_set1_epi32(0x00011000));
        whole = _mm256_shuffle_epi8(whole, order);
        whole = _mm256_permutevar8x32_epi32(whole, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
        _mm256_storeu_si256((__m256i *)to, whole);
    }
    return done;
}

static size_t decode_fast(const uint8_t *in, size_t groups, uint8_t *to)
{
    return to && __builtin_cpu_supports("avx2") ? decode_blocks(in, groups, to) : 0;
}

#else

static size_t decode_fast(const uint8_t *in, size_t groups, uint8_t *to)
{
    return 0;
}

#endif

bool rv__base64_decode(const char *text, size_t len, void *out, size_t *out_len)
{
    const uint8_t *in = (const uint8_t *)text;
    uint8_t *to = out, last[3];
    if (len % 4)
        return false;
    size_t groups = len / 4, fast = decode_fast(in, groups, to), done = fast * 3;
    uint32_t wrong = 0;
    in += fast * 4;
    for (size_t i = fast; i + 1 < groups; i++, in += 4, done += 3) {
        uint32_t a = value[in[0]], b = value[in[1]], c = value[in[2]], d = value[in[3]];
        wrong |= a | b | c | d;
        if (!to)
            continue;
        to[done] = (uint8_t)(a << 2 | b >> 4);
        to[done + 1] = (uint8_t)(b << 4 | c >> 2);
        to[done + 2] = (uint8_t)(c << 6 | d);
    }
    size_t rest = groups ? decode_last(in, last) : 0;
    if ((wrong & 0x80) || (groups && !rest))
        return false;
    for (size_t i = 0; to && i < rest; i++)
        to[done + i] = last[i];
    *out_len = done + rest;
    return true;
}
