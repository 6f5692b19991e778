/* Checking and counting UTF-8.  Long stretches of ASCII (base64) go eight bytes at a time. */
#include "utf8.h"

#include <stdbool.h>
#include <string.h>

static bool is_tail(unsigned char c)
{
    return (c & 0xC0) == 0x80;
}

size_t rv__utf8_next(const char *text, size_t len, uint32_t *character)
{
    const unsigned char *s = (const unsigned char *)text;
    if (!len)
        return 0;
    if (s[0] < 0x80) {
        *character = s[0];
        return 1;
    }
    size_t need = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || len < need || !is_tail(s[1]))
        return 0;
    uint32_t c = s[0] & (0x7Fu >> need);
    for (size_t i = 1; i < need; i++) {
        if (!is_tail(s[i]))
            return 0;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (c < least[need] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return 0;
    *character = c;
    return need;
}

size_t rv__utf8_valid(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len) {
        uint64_t word;
        while (len - i >= sizeof word) {
            memcpy(&word, text + i, sizeof word);
            if (word & UINT64_C(0x8080808080808080))
                break;
            i += sizeof word;
        }
        uint32_t c;
        size_t n = rv__utf8_next(text + i, len - i, &c);
        if (!n)
            break;
        i += n;
    }
    return i;
}

/* The high bit of every byte that no plain text has: quote, backslash, control, not ASCII. */
static uint64_t special_bytes(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;
    uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
    uint64_t zero = ((quote - ones) & ~quote) | ((slash - ones) & ~slash);
    uint64_t control = (word - ones * 0x20) & ~word;
    return (zero | control | word) & high;
}

size_t rv__utf8_plain(const char *text, size_t len)
{
    size_t i = 0;
    for (uint64_t word; len - i >= sizeof word; i += sizeof word) {
        memcpy(&word, text + i, sizeof word);
        if (special_bytes(word))
            break;
    }
    for (; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\')
            break;
    }
    return i;
}

size_t rv__utf8_count(const char *text, size_t len)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    size_t tails = 0, i = 0;
    for (uint64_t word; len - i >= sizeof word; i += sizeof word) {
        memcpy(&word, text + i, sizeof word);
        tails += (size_t)((word >> 7 & ~(word >> 6) & ones) * ones >> 56); /* the sum of its bytes */
    }
    for (; i < len; i++)
        tails += is_tail((unsigned char)text[i]);
    return len - tails;
}

size_t rv__utf8_put(uint32_t c, char out[4])
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    static const unsigned char mark[] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(mark[n] | c);
    return n;
}
