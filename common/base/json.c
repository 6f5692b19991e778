/* The only file that knows cJSON.  cJSON builds the tree; before it sees a text, the scanner below
 * checks every byte by the strict rules of json.h (cJSON itself accepts much more) and remembers
 * where the numbers are, so that their digits can be attached to the tree afterwards.  Nothing here
 * may depend on the locale. */
#include "json.h"

#include "utf8.h"

#include <cjson/cJSON.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DIGITS 63 /* cJSON's own limit for the text of a number */

const char rv__json_no_memory[] = "out of memory";

/* ---- the strict scanner ---------------------------------------------------------------------- */

typedef struct span {
    size_t at, len;
} span;

typedef struct scanner {
    const char *text;
    size_t      len, at;
    int         depth;
    size_t      values, max_values;
    span       *numbers; /* in document order */
    size_t      count, cap;
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
    if (c == 'u') {
        s->at++;
        return scan_unicode(s, start);
    }
    if (c < 0 || !memchr("\"\\/bfnrt", c, 8))
        return fail(s, start, "unknown escape in a text");
    s->at++;
    return true;
}

/* The high bit of every byte that a plain text must not have: quote, backslash, control, not ASCII. */
static uint64_t special_bytes(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;
    uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
    uint64_t zero = ((quote - ones) & ~quote) | ((slash - ones) & ~slash);
    uint64_t control = (word - ones * 0x20) & ~word;
    return (zero | control | word) & high;
}

/* Skips to the next quote, backslash, control character or wrong UTF-8, most of the way in words. */
static void skip_plain(scanner *s)
{
    while (s->at < s->len) {
        uint64_t word;
        while (s->len - s->at >= sizeof word) {
            memcpy(&word, s->text + s->at, sizeof word);
            if (special_bytes(word))
                break;
            s->at += sizeof word;
        }
        if (s->at == s->len)
            return;
        unsigned char c = (unsigned char)s->text[s->at];
        if (c == '"' || c == '\\' || c < 0x20)
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

static bool keep_number(scanner *s, size_t at, size_t len)
{
    if (s->count == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 16;
        span *more = rv__realloc(s->numbers, cap * sizeof *more);
        if (!more)
            return fail(s, at, rv__json_no_memory);
        s->numbers = more;
        s->cap = cap;
    }
    s->numbers[s->count++] = (span){at, len};
    return true;
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
    if (s->at - start > MAX_DIGITS)
        return fail(s, start, "a number has more than 63 characters");
    return keep_number(s, start, s->at - start);
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
        return scan_string(s);
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

/* ---- numbers, independent of the locale ------------------------------------------------------ */

static pthread_once_t locale_once = PTHREAD_ONCE_INIT;
static locale_t       c_locale; /* kept for the life of the process; (locale_t)0 when it could not be made */

static void make_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* Switches this thread to the C locale; give the result to leave_locale. */
static locale_t enter_locale(void)
{
    pthread_once(&locale_once, make_locale);
    return c_locale ? uselocale(c_locale) : (locale_t)0;
}

static void leave_locale(locale_t before)
{
    if (before)
        uselocale(before);
}

bool rv__json_read_number(const char *text, double *out)
{
    char *end = NULL;
    locale_t before = enter_locale();
    double v = strtod(text, &end);
    leave_locale(before);
    if (!*text || *end || !isfinite(v))
        return false;
    *out = v;
    return true;
}

/* Walks the tree in document order and gives each number its digits; numbers[*next] is the next one. */
static const char *attach(cJSON *item, const char *text, const span *numbers, size_t *next,
                          size_t *at)
{
    for (; item; item = item->next) {
        if (cJSON_IsNumber(item)) {
            span n = numbers[(*next)++];
            char *digits = cJSON_malloc(n.len + 1);
            if (!digits)
                return rv__json_no_memory;
            memcpy(digits, text + n.at, n.len);
            digits[n.len] = '\0';
            item->valuestring = digits; /* cJSON_Delete frees it with the item */
            item->valuedouble = strtod(digits, NULL);
            if (!isfinite(item->valuedouble)) {
                *at = n.at;
                return "a number is too large";
            }
        } else if (item->child) {
            const char *message = attach(item->child, text, numbers, next, at);
            if (message)
                return message;
        }
    }
    return NULL;
}

/* ---- parsing --------------------------------------------------------------------------------- */

/* cJSON notes the place of its last error in a static variable at every call; the lock keeps that
 * from being a data race between threads. */
static pthread_mutex_t parser_lock = PTHREAD_MUTEX_INITIALIZER;

static cJSON *build(const char *text, size_t len)
{
    pthread_mutex_lock(&parser_lock);
    cJSON *tree = cJSON_ParseWithLengthOpts(text, len, NULL, false);
    pthread_mutex_unlock(&parser_lock);
    return tree;
}

rv__value *rv__json_parse_limited(const char *text, size_t len, size_t max_values,
                                  rv__json_error *err)
{
    scanner s = {.text = text, .len = len, .max_values = max_values};
    cJSON *tree = NULL;
    if (scan_text(&s)) {
        tree = build(text, len);
        if (!tree)
            fail(&s, 0, rv__json_no_memory);
    }
    if (tree && s.count) {
        size_t next = 0, at = 0;
        locale_t before = enter_locale();
        const char *message = attach(tree, text, s.numbers, &next, &at);
        leave_locale(before);
        if (message) {
            fail(&s, at, message);
            cJSON_Delete(tree);
            tree = NULL;
        }
    }
    rv__free(s.numbers);
    if (!tree && err)
        *err = (rv__json_error){.offset = s.at, .message = s.message};
    return tree;
}

rv__value *rv__json_parse(const char *text, size_t len, rv__json_error *err)
{
    return rv__json_parse_limited(text, len, RV__JSON_VALUES, err);
}

void rv__json_free(rv__value *v)
{
    cJSON_Delete(v);
}

/* ---- looking things up ----------------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char *rv__json_duplicate(const rv__value *object)
{
    size_t count = rv__json_is_object(object) ? rv__json_size(object) : 0;
    const char **keys = count > 1 ? rv__alloc(count * sizeof *keys) : NULL;
    if (!keys)
        return NULL;
    size_t n = 0;
    for (const cJSON *m = object->child; m && n < count; m = m->next)
        keys[n++] = m->string;
    qsort(keys, n, sizeof *keys, compare_keys);
    const char *twice = NULL;
    for (size_t i = 1; i < n && !twice; i++) {
        if (strcmp(keys[i - 1], keys[i]) == 0)
            twice = keys[i];
    }
    rv__free(keys);
    return twice;
}

bool rv__json_is_object(const rv__value *v)
{
    return cJSON_IsObject(v);
}

bool rv__json_is_array(const rv__value *v)
{
    return cJSON_IsArray(v);
}

bool rv__json_is_string(const rv__value *v)
{
    return cJSON_IsString(v);
}

bool rv__json_is_number(const rv__value *v)
{
    return cJSON_IsNumber(v);
}

bool rv__json_is_bool(const rv__value *v)
{
    return cJSON_IsBool(v);
}

bool rv__json_is_null(const rv__value *v)
{
    return cJSON_IsNull(v);
}

const rv__value *rv__json_get(const rv__value *object, const char *key)
{
    return rv__json_is_object(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

const rv__value *rv__json_first(const rv__value *v)
{
    return v && (cJSON_IsArray(v) || cJSON_IsObject(v)) ? v->child : NULL;
}

const rv__value *rv__json_next(const rv__value *v)
{
    return v ? v->next : NULL;
}

const rv__value *rv__json_at(const rv__value *array, size_t i)
{
    const rv__value *v = rv__json_is_array(array) ? array->child : NULL;
    while (v && i--)
        v = v->next;
    return v;
}

size_t rv__json_size(const rv__value *v)
{
    size_t n = 0;
    for (v = rv__json_first(v); v; v = v->next)
        n++;
    return n;
}

const char *rv__json_key(const rv__value *member)
{
    return member ? member->string : NULL;
}

/* ---- values ---------------------------------------------------------------------------------- */

const char *rv__json_string(const rv__value *v)
{
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

const char *rv__json_digits(const rv__value *v)
{
    return cJSON_IsNumber(v) ? v->valuestring : NULL;
}

bool rv__json_number(const rv__value *v, double *out)
{
    if (!cJSON_IsNumber(v))
        return false;
    *out = v->valuedouble;
    return true;
}

bool rv__json_bool(const rv__value *v, bool *out)
{
    if (!cJSON_IsBool(v))
        return false;
    *out = cJSON_IsTrue(v);
    return true;
}

/* Reads the exponent after e or E; large ones are cut to a value that no 63 digits can balance. */
static int read_exponent(const char *text)
{
    bool negative = *text == '-';
    int value = 0;
    for (text += *text == '-' || *text == '+'; *text; text++)
        value = value < 1000 ? value * 10 + (*text - '0') : value;
    return negative ? -value : value;
}

/* Magnitude of the integer that the digits stand for; false when they stand for a fraction or more than 64 bits. */
static bool magnitude(const char *digits, bool *negative, uint64_t *out)
{
    char all[MAX_DIGITS + 1]; /* the digits without sign, point and leading zeros */
    int count = 0, scale = 0;
    bool fraction = false;
    *negative = *digits == '-';
    for (digits += *negative; *digits; digits++) {
        if (*digits == '.') {
            fraction = true;
        } else if (*digits == 'e' || *digits == 'E') {
            scale += read_exponent(digits + 1);
            break;
        } else {
            scale -= fraction;
            if (count || *digits != '0')
                all[count++] = *digits;
        }
    }
    for (; count && all[count - 1] == '0'; count--)
        scale++;
    if (count && (scale < 0 || count + scale > 20))
        return false;
    uint64_t value = 0;
    for (int i = 0; i < (count ? count + scale : 0); i++) {
        unsigned digit = i < count ? (unsigned)(all[i] - '0') : 0;
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

bool rv__json_uint(const rv__value *v, uint64_t *out)
{
    uint64_t value;
    bool negative;
    if (!rv__json_digits(v) || !magnitude(v->valuestring, &negative, &value) || (negative && value))
        return false;
    *out = value;
    return true;
}

bool rv__json_int(const rv__value *v, int64_t *out)
{
    uint64_t value;
    bool negative;
    if (!rv__json_digits(v) || !magnitude(v->valuestring, &negative, &value))
        return false;
    if (value > (uint64_t)INT64_MAX + negative)
        return false;
    *out = negative ? (int64_t)-value : (int64_t)value;
    return true;
}

int64_t rv__json_get_int(const rv__value *object, const char *key, int64_t fallback)
{
    rv__json_int(rv__json_get(object, key), &fallback);
    return fallback;
}

double rv__json_get_number(const rv__value *object, const char *key, double fallback)
{
    rv__json_number(rv__json_get(object, key), &fallback);
    return fallback;
}

bool rv__json_get_bool(const rv__value *object, const char *key, bool fallback)
{
    rv__json_bool(rv__json_get(object, key), &fallback);
    return fallback;
}

const char *rv__json_get_string(const rv__value *object, const char *key, const char *fallback)
{
    const char *text = rv__json_string(rv__json_get(object, key));
    return text ? text : fallback;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* The escape of a character that must not stand in a JSON text as it is. */
static void write_escape(rv__buf *b, unsigned char c)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    const char *known = c ? strchr(plain, c) : NULL;
    if (known) {
        char pair[2] = {'\\', letter[known - plain]};
        rv__buf_add(b, pair, 2);
    } else {
        rv__buf_addf(b, "\\u%04x", c);
    }
}

void rv__json_write_text(rv__buf *b, const char *text, size_t len)
{
    rv__buf_add(b, "\"", 1);
    size_t from = 0, i = 0;
    while (i < len) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
            i++;
            continue;
        }
        uint32_t character;
        size_t n = c < 0x80 ? 0 : rv__utf8_next(text + i, len - i, &character);
        if (n) {
            i += n;
            continue;
        }
        rv__buf_add(b, text + from, i - from);
        if (c < 0x80)
            write_escape(b, c);
        else
            rv__buf_adds(b, "\xEF\xBF\xBD"); /* U+FFFD: what we write is always valid */
        from = ++i;
    }
    rv__buf_add(b, text + from, len - from);
    rv__buf_add(b, "\"", 1);
}

void rv__json_write_string(rv__buf *b, const char *text)
{
    rv__json_write_text(b, text, strlen(text));
}

void rv__json_write_double(rv__buf *b, double v)
{
    if (!isfinite(v)) {
        rv__buf_adds(b, "null");
        return;
    }
    char text[40];
    locale_t before = enter_locale();
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, v);
        if (strtod(text, NULL) == v)
            break;
    }
    leave_locale(before);
    rv__buf_adds(b, text);
}

static void write_children(rv__buf *b, const cJSON *v, bool keys)
{
    for (const cJSON *m = v->child; m; m = m->next) {
        if (m != v->child)
            rv__buf_add(b, ",", 1);
        if (keys) {
            rv__json_write_string(b, m->string);
            rv__buf_add(b, ":", 1);
        }
        rv__json_write_value(b, m);
    }
}

void rv__json_write_value(rv__buf *b, const rv__value *v)
{
    if (cJSON_IsObject(v) || cJSON_IsArray(v)) {
        bool object = cJSON_IsObject(v);
        rv__buf_adds(b, object ? "{" : "[");
        write_children(b, v, object);
        rv__buf_adds(b, object ? "}" : "]");
    } else if (cJSON_IsString(v)) {
        rv__json_write_string(b, v->valuestring);
    } else if (cJSON_IsNumber(v) && v->valuestring) {
        rv__buf_adds(b, v->valuestring);
    } else if (cJSON_IsBool(v)) {
        rv__buf_adds(b, cJSON_IsTrue(v) ? "true" : "false");
    } else {
        rv__buf_adds(b, "null");
    }
}
