/* The strict rules of json.h, byte by byte.  Allocates nothing but what it hands out; never looks at
 * a text twice. */
#include "json_scan.h"

#include "utf8.h"

#include <string.h>

enum { LONG_TEXT = 64 };

typedef struct scanner {
    const char *text;
    size_t len, at;
    int depth;
    size_t values, max_values;
    rv__json_scanned out;
    size_t cap;    /* of its spans */
    size_t copied; /* of the text; up to here `rest` is complete */
    bool has_escapes;    /* the newest text */
    const char *message; /* set by the first failure; `at` is its place */
} scanner;

static bool fail(scanner *s, size_t at, const char *message)
{
    if (!s->message) {
        s->message = message;
        s->at = at;
    }
    return false;
}

static int peek(const scanner *s)
{
    return s->at < s->len ? (unsigned char)s->text[s->at] : -1;
}

static void skip_space(scanner *s)
{
    while (s->at < s->len && memchr(" \t\n\r", s->text[s->at], 4))
        s->at++;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The four hexadecimal digits at s->at, or -1. */
static int32_t scan_hex4(scanner *s)
{
    if (s->len - s->at < 4)
        return -1;
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(s->text[s->at + (size_t)i]);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    s->at += 4;
    return value;
}

/* After a backslash and the letter u. */
static bool scan_unicode(scanner *s, size_t start)
{
    int32_t c = scan_hex4(s);
    if (c < 0)
        return fail(s, start, "an escape \\u needs four hexadecimal digits");
    if (c == 0)
        return fail(s, start, "texts must not contain the character U+0000");
    if (c >= 0xDC00 && c <= 0xDFFF)
        return fail(s, start, "half of a surrogate pair");
    if (c < 0xD800 || c > 0xDBFF)
        return true;
    if (s->len - s->at < 6 || s->text[s->at] != '\\' || s->text[s->at + 1] != 'u')
        return fail(s, start, "half of a surrogate pair");
    s->at += 2;
    c = scan_hex4(s);
    return (c >= 0xDC00 && c <= 0xDFFF) || fail(s, start, "half of a surrogate pair");
}

static bool scan_escape(scanner *s)
{
    size_t start = s->at++;
    int c = peek(s);
    s->has_escapes = true;
    if (c == 'u') {
        s->at++;
        return scan_unicode(s, start);
    }
    if (c < 0 || !memchr("\"\\/bfnrt", c, 8))
        return fail(s, start, "unknown escape in a text");
    s->at++;
    return true;
}

/* Skips to the next quote, backslash, control character or wrong UTF-8. */
static void skip_plain(scanner *s)
{
    for (;;) {
        s->at += rv__utf8_plain(s->text + s->at, s->len - s->at);
        if (s->at == s->len || (unsigned char)s->text[s->at] < 0x80)
            return;
        uint32_t character;
        size_t n = rv__utf8_next(s->text + s->at, s->len - s->at, &character);
        if (!n)
            return;
        s->at += n;
    }
}

static bool scan_string(scanner *s)
{
    size_t start = s->at++;
    for (;;) {
        skip_plain(s);
        int c = peek(s);
        if (c < 0)
            return fail(s, start, "a text is not closed");
        if (c == '"') {
            s->at++;
            return true;
        }
        if (c < 0x20)
            return fail(s, s->at, "control characters in a text must be escaped");
        if (c >= 0x80)
            return fail(s, s->at, "not valid UTF-8");
        if (!scan_escape(s))
            return false;
    }
}

static size_t skip_digits(scanner *s)
{
    size_t start = s->at;
    while (s->at < s->len && s->text[s->at] >= '0' && s->text[s->at] <= '9')
        s->at++;
    return s->at - start;
}

static bool keep(scanner *s, size_t at, size_t len)
{
    if (s->out.count == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 16;
        rv__json_span *more = rv__realloc(s->out.spans, cap * sizeof *more);
        if (!more)
            return fail(s, at, rv__json_no_memory);
        s->out.spans = more;
        s->cap = cap;
    }
    s->out.spans[s->out.count++] = (rv__json_span){at, len};
    return true;
}

/* The text's bytes [at, at + len) are not for cJSON. */
static bool leave_out(scanner *s, size_t at, size_t len)
{
    rv__buf_add(&s->out.rest, s->text + s->copied, at - s->copied);
    rv__buf_adds(&s->out.rest, RV__JSON_LEFT_OUT);
    s->copied = at + len;
    return keep(s, at, len) && (!s->out.rest.failed || fail(s, at, rv__json_no_memory));
}

/* A text that is a value: a long one without escapes is left out. */
static bool scan_text_value(scanner *s)
{
    size_t at = s->at + 1;
    s->has_escapes = false;
    if (!scan_string(s))
        return false;
    size_t len = s->at - 1 - at;
    return len < LONG_TEXT || s->has_escapes || leave_out(s, at, len);
}

static bool scan_number(scanner *s)
{
    static const char wrong[] = "not a valid number";
    size_t start = s->at;
    if (peek(s) == '-')
        s->at++;
    size_t first = s->at, digits = skip_digits(s);
    if (!digits || (digits > 1 && s->text[first] == '0'))
        return fail(s, start, digits ? "a number must not start with a zero" : wrong);
    if (peek(s) == '.') {
        s->at++;
        if (!skip_digits(s))
            return fail(s, start, wrong);
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-')
            s->at++;
        if (!skip_digits(s))
            return fail(s, start, wrong);
    }
    if (s->at - start > RV__JSON_DIGITS)
        return fail(s, start, "a number has more than 63 characters");
    return keep(s, start, s->at - start);
}

static bool scan_word(scanner *s, const char *word)
{
    size_t n = strlen(word);
    if (s->len - s->at < n || memcmp(s->text + s->at, word, n) != 0)
        return fail(s, s->at, "a value was expected here");
    s->at += n;
    return true;
}

static bool scan_value(scanner *s);

static bool scan_member(scanner *s)
{
    if (peek(s) != '"')
        return fail(s, s->at, "a name in quotation marks was expected here");
    if (!scan_string(s))
        return false;
    skip_space(s);
    if (peek(s) != ':')
        return fail(s, s->at, "a colon was expected here");
    s->at++;
    skip_space(s);
    return scan_value(s);
}

/* Elements or members up to the closing bracket. */
static bool scan_list(scanner *s, char close, bool (*item)(scanner *))
{
    size_t start = s->at++;
    if (++s->depth > RV__JSON_DEPTH)
        return fail(s, start, "nested too deeply");
    skip_space(s);
    if (peek(s) != close) {
        for (;;) {
            if (!item(s))
                return false;
            skip_space(s);
            if (peek(s) != ',')
                break;
            s->at++;
            skip_space(s);
        }
    }
    if (peek(s) != close)
        return fail(s, s->at,
                    s->at < s->len ? "a comma or a closing bracket was expected here"
                                   : "the text ends early");
    s->at++;
    s->depth--;
    return true;
}

static bool scan_value(scanner *s)
{
    if (++s->values > s->max_values)
        return fail(s, s->at, "too many values");
    switch (peek(s)) {
    case '{':
        return scan_list(s, '}', scan_member);
    case '[':
        return scan_list(s, ']', scan_value);
    case '"':
        return scan_text_value(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return scan_number(s);
    case -1:
        return fail(s, s->at, "the text ends early");
    default:
        return fail(s, s->at, "a value was expected here");
    }
}

static bool scan_text(scanner *s)
{
    if (s->len >= 3 && memcmp(s->text, "\xEF\xBB\xBF", 3) == 0)
        return fail(s, 0, "a byte-order mark is not allowed");
    skip_space(s);
    if (!scan_value(s))
        return false;
    skip_space(s);
    return s->at == s->len || fail(s, s->at, "text after the end of the value");
}

bool rv__json_scan(const char *text, size_t len, size_t max_values, rv__json_scanned *out,
                   rv__json_error *err)
{
    scanner s = {.text = text, .len = len, .max_values = max_values};
    rv__buf_init(&s.out.rest, SIZE_MAX / 2);
    bool good = scan_text(&s);
    if (good && s.copied) {
        rv__buf_add(&s.out.rest, text + s.copied, len - s.copied);
        good = !s.out.rest.failed || fail(&s, len, rv__json_no_memory);
    }
    if (good) {
        *out = s.out;
    } else {
        rv__json_scanned_free(&s.out);
        *err = (rv__json_error){.offset = s.at, .message = s.message};
    }
    return good;
}

void rv__json_scanned_free(rv__json_scanned *s)
{
    rv__free(s->spans);
    rv__buf_free(&s->rest);
    *s = (rv__json_scanned){0};
}
