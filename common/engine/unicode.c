/* Unicode for the tokenizers, on utf8proc's tables.  utf8proc's own whole-text functions are not
 * used: their ordering of combining marks takes quadratic time on long runs, and a prompt is
 * hostile. */
#include "unicode.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

size_t rv__unicode_next(const char *text, size_t len, int32_t *codepoint)
{
    uint32_t character;
    size_t n = rv__utf8_next(text, len, &character);
    *codepoint = n ? (int32_t)character : 0xFFFD;
    return n ? n : 1;
}

size_t rv__unicode_back(const char *text, size_t end)
{
    do
        end--;
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80);
    return end;
}

void rv__unicode_add(rv__buf *out, int32_t codepoint)
{
    char bytes[4];
    rv__buf_add(out, bytes, rv__utf8_put((uint32_t)codepoint, bytes));
}

/* Code points in a growing array; `failed` like rv__buf. */
typedef struct codepoints {
    int32_t *data;
    size_t len, cap;
    bool failed;
} codepoints;

/* Makes room for `more` code points beyond len. */
static bool codepoints_room(codepoints *c, size_t more)
{
    if (c->failed)
        return false;
    if (c->cap - c->len >= more)
        return true;
    size_t cap = c->cap * 2 + more + 64;
    int32_t *data = cap > SIZE_MAX / sizeof *data ? NULL : rv__realloc(c->data, cap * sizeof *data);
    if (!data) {
        c->failed = true;
        return false;
    }
    c->data = data;
    c->cap = cap;
    return true;
}

static void decompose(codepoints *c, int32_t codepoint, utf8proc_option_t options)
{
    for (size_t room = 32;;) {
        if (!codepoints_room(c, room))
            return;
        int bound = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char(
            codepoint, c->data + c->len, (utf8proc_ssize_t)(c->cap - c->len), options, &bound);
        if (n < 0) {
            c->failed = true;
            return;
        }
        if ((size_t)n <= c->cap - c->len) {
            c->len += (size_t)n;
            return;
        }
        room = (size_t)n;
    }
}

static unsigned combining_class(int32_t codepoint)
{
    return (unsigned)utf8proc_get_property(codepoint)->combining_class & 0xFF;
}

/* Sorts one run of combining marks by class, equal classes in their order (the canonical ordering).
 */
static void sort_marks(int32_t *marks, size_t count, codepoints *scratch)
{
    size_t starts[257] = {0};
    bool sorted = true;
    for (size_t i = 0; i < count; i++) {
        starts[combining_class(marks[i]) + 1]++;
        if (i && combining_class(marks[i]) < combining_class(marks[i - 1]))
            sorted = false;
    }
    scratch->len = 0;
    if (sorted || !codepoints_room(scratch, count))
        return;
    for (size_t i = 1; i < 257; i++)
        starts[i] += starts[i - 1];
    for (size_t i = 0; i < count; i++)
        scratch->data[starts[combining_class(marks[i])]++] = marks[i];
    memcpy(marks, scratch->data, count * sizeof *marks);
}

static void order_marks(codepoints *c)
{
    codepoints scratch = {0};
    for (size_t i = 0; i < c->len;) {
        size_t end = i;
        while (end < c->len && combining_class(c->data[end]) != 0)
            end++;
        if (end - i > 1)
            sort_marks(c->data + i, end - i, &scratch);
        i = end + 1;
    }
    c->failed = c->failed || scratch.failed;
    rv__free(scratch.data);
}

static bool is_ascii(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] >= 0x80)
            return false;
    return true;
}

void rv__unicode_normalize(rv__unicode_form form, const char *text, size_t len, rv__buf *out)
{
    if (is_ascii(text, len)) {
        rv__buf_add(out, text, len);
        return;
    }
    bool compose = form == RV__NFC || form == RV__NFKC;
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if (form == RV__NFKC || form == RV__NFKD)
        options |= UTF8PROC_COMPAT;
    codepoints c = {0};
    for (size_t i = 0; i < len && !c.failed;) {
        int32_t codepoint;
        i += rv__unicode_next(text + i, len - i, &codepoint);
        decompose(&c, codepoint, options);
    }
    if (!c.failed)
        order_marks(&c);
    if (!c.failed && compose) {
        utf8proc_ssize_t n = utf8proc_normalize_utf32(c.data, (utf8proc_ssize_t)c.len,
                                                      UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        c.failed = n < 0;
        c.len = n < 0 ? 0 : (size_t)n;
    }
    for (size_t i = 0; i < c.len && !c.failed; i++)
        rv__unicode_add(out, c.data[i]);
    out->failed = out->failed || c.failed;
    rv__free(c.data);
}

void rv__unicode_lower(const char *text, size_t len, rv__buf *out)
{
    for (size_t i = 0; i < len;) {
        int32_t codepoint;
        i += rv__unicode_next(text + i, len - i, &codepoint);
        if (codepoint == 0x130) /* the only one whose full lower case is two code points */
            rv__buf_adds(out, "i\xCC\x87");
        else
            rv__unicode_add(out, utf8proc_tolower(codepoint));
    }
}

size_t rv__unicode_cluster(const char *text, size_t len)
{
    int32_t before, after;
    utf8proc_int32_t state = 0;
    size_t end = rv__unicode_next(text, len, &before);
    while (end < len) {
        size_t n = rv__unicode_next(text + end, len - end, &after);
        if (utf8proc_grapheme_break_stateful(before, after, &state))
            break;
        before = after;
        end += n;
    }
    return end;
}

bool rv__unicode_is_space(int32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

bool rv__unicode_is_word(int32_t codepoint)
{
    switch (utf8proc_category(codepoint)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return codepoint == 0x200C || codepoint == 0x200D;
    }
}
