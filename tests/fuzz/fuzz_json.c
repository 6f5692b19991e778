/* JSON from hostile bytes: what is accepted must come out as JSON that reads back the same; and
 * base64. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/json.h"
#include "base/utf8.h"

static void walk(const rv__value *v)
{
    int64_t i;
    uint64_t u;
    double d;
    if (rv__json_is_number(v) && (!rv__json_number(v, &d) || !rv__json_digits(v)))
        abort();
    if (rv__json_int(v, &i) && i >= 0 && (!rv__json_uint(v, &u) || u != (uint64_t)i))
        abort();
    const char *text = rv__json_string(v);
    if (text && rv__utf8_valid(text, strlen(text)) != strlen(text))
        abort();
    (void)rv__json_duplicate(v);
    for (v = rv__json_first(v); v; v = rv__json_next(v))
        walk(v);
}

static char *write(const rv__value *v, size_t *len)
{
    rv__buf b;
    rv__buf_init(&b, 1 << 26);
    rv__json_write_value(&b, v);
    return rv__buf_take(&b, len);
}

static void use_json(const char *text, size_t size)
{
    rv__json_error err = {0};
    rv__value *v = rv__json_parse(text, size, &err);
    if (!v) {
        if (!err.message || err.offset > size)
            abort();
        return;
    }
    walk(v);
    size_t len, again_len;
    char *once = write(v, &len);
    rv__value *back = once ? rv__json_parse(once, len, NULL) : NULL;
    char *twice = back ? write(back, &again_len) : NULL;
    if (!twice || strcmp(once, twice) != 0)
        abort();
    rv__free(once);
    rv__free(twice);
    rv__json_free(back);
    rv__json_free(v);
}

static void use_base64(const char *text, size_t size)
{
    char *out = malloc(size / 4 * 3 + 1), *back = malloc(size + 4);
    size_t len;
    if (out && back && rv__base64_decode(text, size, out, &len)) {
        rv__base64_encode(out, len, back);
        if (rv__base64_size(len) != size || memcmp(back, text, size) != 0)
            abort(); /* strict: one text for each byte string */
    }
    free(out);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    use_json(copy, size);
    use_base64(copy, size);
    free(copy);
    return 0;
}
