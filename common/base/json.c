/* The only file that knows cJSON.  cJSON builds the tree; before it sees a text, json_scan.c
 * checks every byte by the strict rules of json.h (cJSON itself accepts much more) and remembers
 * where the numbers and the long texts are, so that digits and bytes can be attached to the tree
 * afterwards: cJSON never walks over megabytes of base64.  Nothing here may depend on the locale. */
#include "json.h"

#include "json_scan.h"
#include "utf8.h"

#include <cjson/cJSON.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char rv__json_no_memory[] = "out of memory";

/* ---- numbers, independent of the locale -------------------------------------------------- */

static pthread_once_t locale_once = PTHREAD_ONCE_INIT;
static locale_t c_locale; /* kept for the life of the process; 0 when there is none */

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

static double read_in_c(const char *digits)
{
    locale_t before = enter_locale();
    double value = strtod(digits, NULL);
    leave_locale(before);
    return value;
}

/* The value of a number's text. */
static double value_of(const char *digits, size_t len)
{
    double value = 0;
    if (len > 15) /* more may need rounding */
        return read_in_c(digits);
    for (size_t i = 0; i < len; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return read_in_c(digits);
        value = value * 10 + (digits[i] - '0');
    }
    return value;
}

/* What walks over the tree, and the text that it came from. */
typedef struct attacher {
    const char *text;
    const rv__json_span *next; /* what the tree lacks, in document order */
    size_t at;                 /* of what is wrong                       */
} attacher;

/* The digits of a number, or a text that was left out: out, cJSON_Delete frees it with its item. */
static char *take_span(attacher *a, cJSON *item)
{
    rv__json_span s = *a->next++;
    char *text = cJSON_malloc(s.len + 1);
    if (!text)
        return NULL;
    memcpy(text, a->text + s.at, s.len);
    text[s.len] = '\0';
    cJSON_free(item->valuestring);
    item->valuestring = text;
    a->at = s.at;
    return text;
}

/* Walks the tree in document order and gives numbers their digits and texts that were left out
 * their bytes. */
static const char *attach(attacher *a, cJSON *item)
{
    for (; item; item = item->next) {
        if (cJSON_IsNumber(item)) {
            const char *digits = take_span(a, item);
            if (!digits)
                return rv__json_no_memory;
            item->valuedouble = value_of(digits, strlen(digits));
            if (!isfinite(item->valuedouble))
                return "a number is too large";
        } else if (cJSON_IsString(item)) {
            if (strcmp(item->valuestring, RV__JSON_LEFT_OUT) == 0 && !take_span(a, item))
                return rv__json_no_memory;
        } else if (item->child) {
            const char *message = attach(a, item->child);
            if (message)
                return message;
        }
    }
    return NULL;
}

/* ---- parsing ----------------------------------------------------------------------------- */

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

/* Gives the tree what it lacks; true when all is good. */
static bool finish(cJSON *tree, const char *text, const rv__json_scanned *scanned,
                   rv__json_error *err)
{
    attacher a = {.text = text, .next = scanned->spans};
    const char *message = attach(&a, tree);
    *err = (rv__json_error){.offset = message == rv__json_no_memory ? 0 : a.at, .message = message};
    return !message;
}

rv__value *rv__json_parse_limited(const char *text, size_t len, size_t max_values,
                                  rv__json_error *err)
{
    rv__json_error none, *wrong = err ? err : &none;
    rv__json_scanned scanned;
    if (!rv__json_scan(text, len, max_values, &scanned, wrong))
        return NULL;
    const rv__buf *rest = &scanned.rest;
    cJSON *tree = rest->len ? build(rest->data, rest->len) : build(text, len);
    if (!tree)
        *wrong = (rv__json_error){.message = rv__json_no_memory};
    if (tree && scanned.count && !finish(tree, text, &scanned, wrong)) {
        cJSON_Delete(tree);
        tree = NULL;
    }
    rv__json_scanned_free(&scanned);
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

/* ---- looking things up ------------------------------------------------------------------- */

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
    const cJSON *v = rv__json_is_object(object) ? object->child : NULL;
    while (v && (v->string[0] != key[0] || strcmp(v->string, key) != 0))
        v = v->next;
    return v;
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

/* ---- values ------------------------------------------------------------------------------ */

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

/* Magnitude of the integer that the digits stand for; false when they stand for a fraction or more
 * than 64 bits. */
static bool magnitude(const char *digits, bool *negative, uint64_t *out)
{
    char all[RV__JSON_DIGITS + 1]; /* the digits without sign, point and leading zeros */
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

/* ---- building ---------------------------------------------------------------------------- */

rv__value *rv__json_new_object(void)
{
    return cJSON_CreateObject();
}

/* Takes the item, also on failure. */
static cJSON *add(cJSON *to, const char *name, cJSON *item)
{
    bool ok = item && (name ? cJSON_AddItemToObjectCS(to, name, item) : cJSON_AddItemToArray(to, item));
    if (ok)
        return item;
    cJSON_Delete(item);
    return NULL;
}

rv__value *rv__json_add_object(rv__value *to, const char *name)
{
    return add(to, name, cJSON_CreateObject());
}

rv__value *rv__json_add_array(rv__value *to, const char *name)
{
    return add(to, name, cJSON_CreateArray());
}

bool rv__json_add_text(rv__value *to, const char *name, const char *text)
{
    return add(to, name, cJSON_CreateString(text));
}

bool rv__json_add_bool(rv__value *to, const char *name, bool v)
{
    return add(to, name, cJSON_CreateBool(v));
}

static bool add_number(cJSON *to, const char *name, const char *digits, size_t len)
{
    cJSON *item = cJSON_CreateNumber(value_of(digits, len));
    char *copy = item ? cJSON_malloc(len + 1) : NULL;
    if (!copy) {
        cJSON_Delete(item);
        return false;
    }
    memcpy(copy, digits, len + 1);
    item->valuestring = copy; /* cJSON_Delete frees it with the item */
    return add(to, name, item);
}

static bool add_written(cJSON *to, const char *name, rv__buf *digits)
{
    bool ok = !digits->failed && add_number(to, name, digits->data, digits->len);
    rv__buf_free(digits);
    return ok;
}

bool rv__json_add_int(rv__value *to, const char *name, int64_t v)
{
    rv__buf b;
    rv__buf_init(&b, 64);
    rv__json_write_int(&b, v);
    return add_written(to, name, &b);
}

bool rv__json_add_uint(rv__value *to, const char *name, uint64_t v)
{
    rv__buf b;
    rv__buf_init(&b, 64);
    rv__json_write_uint(&b, v);
    return add_written(to, name, &b);
}

bool rv__json_add_double(rv__value *to, const char *name, double v)
{
    rv__buf b;
    rv__buf_init(&b, 64);
    rv__json_write_double(&b, v);
    return add_written(to, name, &b);
}

bool rv__json_add_scalar(rv__value *to, const char *name, const char *json)
{
    size_t len = strlen(json);
    if (*json == 't' || *json == 'f')
        return rv__json_add_bool(to, name, *json == 't');
    if (*json != '"')
        return add_number(to, name, json, len);
    char *text = rv__strndup(json + 1, len - 2);
    bool ok = text && rv__json_add_text(to, name, text);
    rv__free(text);
    return ok;
}

/* ---- writing ----------------------------------------------------------------------------- */

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
    while ((i += rv__utf8_plain(text + i, len - i)) < len) {
        unsigned char c = (unsigned char)text[i];
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

void rv__json_write_uint(rv__buf *b, uint64_t v)
{
    char text[20], *from = text + sizeof text;
    do {
        *--from = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    rv__buf_add(b, from, (size_t)(text + sizeof text - from));
}

void rv__json_write_int(rv__buf *b, int64_t v)
{
    if (v < 0)
        rv__buf_add(b, "-", 1);
    rv__json_write_uint(b, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void rv__json_write_double(rv__buf *b, double v)
{
    if (!isfinite(v)) {
        rv__buf_adds(b, "null");
        return;
    }
    if (fabs(v) < 1e15 && v == (double)(int64_t)v && !(v == 0 && signbit(v))) {
        rv__json_write_int(b, (int64_t)v);
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
