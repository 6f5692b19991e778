/* json.c: what is accepted, what is refused and where, exact numbers, writing, and out of memory. */
#include "base/json.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

static rv__value *parse(const char *text)
{
    rv__json_error err = {0};
    rv__value *v = rv__json_parse(text, strlen(text), &err);
    if (!v)
        print_message("refused at %zu: %s\n", err.offset, err.message);
    assert_non_null(v);
    return v;
}

static void refused(const char *text, size_t len, size_t offset, const char *message)
{
    rv__json_error err = {0};
    rv__value *v = rv__json_parse(text, len, &err);
    if (v)
        print_message("accepted: %s\n", text);
    assert_null(v);
    assert_non_null(err.message);
    if (!strstr(err.message, message) || err.offset != offset)
        print_message("%s: at %zu: %s\n", text, err.offset, err.message);
    assert_non_null(strstr(err.message, message));
    assert_int_equal(err.offset, offset);
    assert_null(rv__json_parse(text, len, NULL));
}

static void test_refuses(void **state)
{
    static const struct {
        const char *text;
        size_t      offset;
        const char *message;
    } rows[] = {
        {"", 0, "ends early"},
        {"  ", 2, "ends early"},
        {"[1,2", 4, "ends early"},
        {"[1 2]", 3, "comma or a closing bracket"},
        {"[1,]", 3, "value was expected"},
        {"{\"a\":1,}", 7, "name in quotation marks"},
        {"{a:1}", 1, "name in quotation marks"},
        {"{\"a\" 1}", 5, "colon"},
        {"[1] x", 4, "after the end"},
        {"[1][2]", 3, "after the end"},
        {"nul", 0, "value was expected"},
        {"True", 0, "value was expected"},
        {"'a'", 0, "value was expected"},
        {"\xEF\xBB\xBF[]", 0, "byte-order mark"},
        {"01", 0, "start with a zero"},
        {"-01", 0, "start with a zero"},
        {"1.", 0, "not a valid number"},
        {".5", 0, "value was expected"},
        {"-", 0, "not a valid number"},
        {"+1", 0, "value was expected"},
        {"1e", 0, "not a valid number"},
        {"1e+", 0, "not a valid number"},
        {"[0, 1e999]", 4, "too large"},
        {"-1e999", 0, "too large"},
        {"NaN", 0, "value was expected"},
        {"0x10", 1, "after the end"},
        {"\"a", 0, "not closed"},
        {"\"a\\\"", 0, "not closed"},
        {"\"a\nb\"", 2, "control characters"},
        {"\"\t\"", 1, "control characters"},
        {"\"\\q\"", 1, "unknown escape"},
        {"\"\\", 1, "unknown escape"},
        {"\"\\u12\"", 1, "four hexadecimal"},
        {"\"\\u12g4\"", 1, "four hexadecimal"},
        {"\"x\\u0000\"", 2, "U+0000"},
        {"{\"x\\u0000\":1}", 3, "U+0000"},
        {"\"\\ud800\"", 1, "surrogate"},
        {"\"\\ud800\\u0041\"", 1, "surrogate"},
        {"\"\\udc00\"", 1, "surrogate"},
        {"\"\xff\"", 1, "UTF-8"},
        {"\"ab\xc3\"", 3, "UTF-8"},
        {"\"\xc0\x80\"", 1, "UTF-8"},
        {"\"\xed\xa0\x80\"", 1, "UTF-8"},
        {"\"\xf4\x90\x80\x80\"", 1, "UTF-8"},
        {"{\"\xe2\x82\":1}", 2, "UTF-8"},
        {"/**/1", 0, "value was expected"},
        {"1111111111222222222233333333334444444444555555555566666666667777", 0, "63 characters"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refused(rows[i].text, strlen(rows[i].text), rows[i].offset, rows[i].message);
    refused("[\0]", 3, 1, "value was expected");
    refused("1\0", 2, 1, "after the end");
    refused("\"a\0b\"", 5, 2, "control characters");
}

static void test_accepts(void **state)
{
    static const char *const rows[] = {
        "0", "-0", "0.5", "-1.25e-3", "1E+2", "true", "false", "null", "\"\"", "[]", "{}", " [ ] ", "\t{\r\n}\n",
        "[[],{},\"\",0]", "{\"\":{\"a\":[1,2,3]}}", "\"\\u00e9\\ud83c\\udf4a\\/\\b\\f\\n\\r\\t\\\\\\\"\"",
        "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x8d\x8a\"", "\"\x7f\"", "1e-999",
        "111111111122222222223333333333444444444455555555556666666666777",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        rv__json_free(parse(rows[i]));
}

static void test_depth_and_values(void **state)
{
    char text[2 * RV__JSON_DEPTH + 3];
    memset(text, '[', RV__JSON_DEPTH);
    memset(text + RV__JSON_DEPTH, ']', RV__JSON_DEPTH);
    text[2 * RV__JSON_DEPTH] = '\0';
    rv__json_free(parse(text));
    memset(text, '[', RV__JSON_DEPTH + 1);
    memset(text + RV__JSON_DEPTH + 1, ']', RV__JSON_DEPTH + 1);
    refused(text, 2 * RV__JSON_DEPTH + 2, RV__JSON_DEPTH, "too deeply");

    rv__json_error err;
    rv__value *v = rv__json_parse_limited("[1,2]", 5, 3, &err);
    assert_non_null(v);
    rv__json_free(v);
    assert_null(rv__json_parse_limited("[1,2,3]", 7, 3, &err));
    assert_string_equal(err.message, "too many values");
}

static void test_text(void **state)
{
    rv__value *v = parse("\"\\u00e9\\ud83c\\udf4a\\/\\n\"");
    assert_string_equal(rv__json_string(v), "\xc3\xa9\xf0\x9f\x8d\x8a/\n");
    rv__json_free(v);
}

/* digits, whether they are an int64, which, whether a uint64, which */
static void test_integers(void **state)
{
    static const struct {
        const char *digits;
        bool        is_int;
        int64_t     i;
        bool        is_uint;
        uint64_t    u;
    } rows[] = {
        {"0", true, 0, true, 0},
        {"-0", true, 0, true, 0},
        {"0.000", true, 0, true, 0},
        {"0e999", true, 0, true, 0},
        {"42", true, 42, true, 42},
        {"-42", true, -42, false, 0},
        {"1024.0", true, 1024, true, 1024},
        {"1e3", true, 1000, true, 1000},
        {"1.5e1", true, 15, true, 15},
        {"100e-2", true, 1, true, 1},
        {"0.0000001e7", true, 1, true, 1},
        {"1.5", false, 0, false, 0},
        {"1e-1", false, 0, false, 0},
        {"9007199254740993", true, INT64_C(9007199254740993), true, UINT64_C(9007199254740993)},
        {"9223372036854775807", true, INT64_MAX, true, UINT64_C(9223372036854775807)},
        {"-9223372036854775808", true, INT64_MIN, false, 0},
        {"-9223372036854775809", false, 0, false, 0},
        {"9223372036854776000", false, 0, true, UINT64_C(9223372036854776000)},
        {"18446744073709551615", false, 0, true, UINT64_MAX},
        {"18446744073709551616", false, 0, false, 0},
        {"1e19", false, 0, true, UINT64_C(10000000000000000000)},
        {"1e20", false, 0, false, 0},
        {"1e300", false, 0, false, 0},
        {"99999999999999999999999999999999999999999999999999999999999e-58", false, 0, false, 0},
        {"10000000000000000000000000000000000000000000000000000000000e-57", true, 10, true, 10},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv__value *v = parse(rows[i].digits);
        int64_t s = 0;
        uint64_t u = 0;
        if (rv__json_int(v, &s) != rows[i].is_int || rv__json_uint(v, &u) != rows[i].is_uint)
            print_message("row %s\n", rows[i].digits);
        assert_int_equal(rv__json_int(v, &s), rows[i].is_int);
        assert_int_equal(rv__json_uint(v, &u), rows[i].is_uint);
        assert_true(s == rows[i].i && u == rows[i].u);
        assert_string_equal(rv__json_digits(v), rows[i].digits);
        rv__json_free(v);
    }
}

static void test_members(void **state)
{
    rv__value *v = parse("{\"b\":1,\"B\":2,\"a\":[10,20.5,\"x\"],\"t\":true,\"n\":null,\"s\":\"word\"}");
    int64_t i = 0;
    assert_true(rv__json_int(rv__json_get(v, "B"), &i));
    assert_int_equal(i, 2);
    assert_null(rv__json_get(v, "A"));
    assert_null(rv__json_get(NULL, "A"));
    const rv__value *a = rv__json_get(v, "a");
    assert_null(rv__json_get(a, "a"));
    assert_int_equal(rv__json_size(a), 3);
    assert_int_equal(rv__json_size(v), 6);
    assert_string_equal(rv__json_string(rv__json_at(a, 2)), "x");
    assert_null(rv__json_at(a, 3));
    assert_null(rv__json_at(v, 0));
    assert_string_equal(rv__json_key(rv__json_next(rv__json_first(v))), "B");
    assert_null(rv__json_first(rv__json_get(v, "s")));
    assert_true(rv__json_is_null(rv__json_get(v, "n")));
    assert_false(rv__json_is_null(NULL));
    assert_true(rv__json_get_bool(v, "t", false));
    assert_true(rv__json_get_number(a, "t", 7) == 7);
    assert_int_equal(rv__json_get_int(v, "b", 9), 1);
    assert_int_equal(rv__json_get_int(v, "s", 9), 9);
    assert_string_equal(rv__json_get_string(v, "s", "no"), "word");
    assert_string_equal(rv__json_get_string(v, "b", "no"), "no");
    assert_null(rv__json_string(rv__json_get(v, "b")));
    assert_null(rv__json_digits(rv__json_get(v, "s")));
    rv__json_free(v);
}

static void test_duplicate(void **state)
{
    rv__value *v = parse("{\"a\":1,\"b\":{\"x\":1,\"x\":2},\"A\":3}");
    assert_null(rv__json_duplicate(v));
    assert_string_equal(rv__json_duplicate(rv__json_get(v, "b")), "x");
    assert_null(rv__json_duplicate(NULL));
    rv__json_free(v);
    v = parse("[\"a\",\"a\"]");
    assert_null(rv__json_duplicate(v));
    rv__json_free(v);
}

static void test_write_value(void **state)
{
    static const char text[] = "{\"seed\":9223372036854775999,\"a\":[1.50,true,false,null,\"\\u0001\\\"\\\\\\n/\"],\"\":{}}";
    rv__value *v = parse(text);
    rv__buf b;
    rv__buf_init(&b, 1000);
    rv__json_write_value(&b, v);
    assert_string_equal(b.data, text);
    rv__buf_free(&b);
    rv__json_free(v);
}

static void test_write_text(void **state)
{
    rv__buf b;
    rv__buf_init(&b, 1000);
    rv__json_write_text(&b, "a\0b\xff\xc3\xa9\x7f", 7);
    assert_string_equal(b.data, "\"a\\u0000b\xEF\xBF\xBD\xc3\xa9\x7f\"");
    rv__buf_free(&b);
}

static void test_write_double(void **state)
{
    static const struct {
        double      v;
        const char *text;
    } rows[] = {
        {0, "0"}, {0.1, "0.1"}, {5, "5"}, {-1.25, "-1.25"}, {1e20, "1e+20"}, {1.0 / 3, "0.3333333333333333"},
        {0.1 + 0.2, "0.30000000000000004"}, {5e-324, "4.94065645841247e-324"}, {1e300 * 1e300, "null"},
        {-17, "-17"}, {999999999999999, "999999999999999"}, {1e15, "1e+15"}, {-0.0, "-0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv__buf b;
        rv__buf_init(&b, 100);
        rv__json_write_double(&b, rows[i].v);
        assert_string_equal(b.data, rows[i].text);
        rv__buf_free(&b);
    }
}

/* A program may have set a locale whose numbers have a comma. */
static void test_locale(void **state)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "C.UTF-8"};
    for (size_t i = 0; i < 4 && !setlocale(LC_NUMERIC, names[i]); i++)
        continue;
    rv__value *v = parse("[0.5,-1.25e2]");
    double d = 0;
    assert_true(rv__json_number(rv__json_first(v), &d) && d == 0.5);
    assert_true(rv__json_number(rv__json_at(v, 1), &d) && d == -125);
    rv__buf b;
    rv__buf_init(&b, 100);
    rv__json_write_double(&b, 0.5);
    assert_string_equal(b.data, "0.5");
    assert_true(rv__json_read_number("0.25", &d) && d == 0.25);
    assert_false(rv__json_read_number("0,25", &d) || rv__json_read_number("", &d) ||
                 rv__json_read_number("1e999", &d));
    rv__buf_free(&b);
    rv__json_free(v);
    setlocale(LC_NUMERIC, "C");
}

/* One text of 16 MB must need little more memory than itself, and time in proportion. */
static void test_large(void **state)
{
    size_t len = 16 << 20;
    char *text = malloc(len);
    memset(text, 'A', len);
    memcpy(text, "[\"", 2);
    memcpy(text + len - 2, "\"]", 2);
    rv__value *v = rv__json_parse(text, len, NULL);
    assert_non_null(v);
    assert_int_equal(strlen(rv__json_string(rv__json_first(v))), len - 4);
    rv__json_free(v);
    text[len - 3] = '\n';
    refused(text, len, len - 3, "control characters");
    free(text);
}

/* Long texts take another way than short ones and than those with escapes; all come out in their places. */
static void test_long_texts(void **state)
{
    char plain[201], text[2000];
    memset(plain, 'x', 200);
    plain[200] = '\0';
    snprintf(text, sizeof text, "{\"%s\":1,\"a\":[\"%s\",7,\"%s\\n\",\"\"],\"b\":\"\xc3\xa9%s\",\"c\":\"\\u00ff\",\"d\":-2.5}",
             plain, plain, plain, plain);
    rv__value *v = parse(text);
    const rv__value *list = rv__json_get(v, "a");
    assert_int_equal(rv__json_get_int(v, plain, 0), 1);
    assert_string_equal(rv__json_string(rv__json_at(list, 0)), plain);
    assert_string_equal(rv__json_digits(rv__json_at(list, 1)), "7");
    assert_int_equal(strlen(rv__json_string(rv__json_at(list, 2))), 201);
    assert_string_equal(rv__json_string(rv__json_at(list, 3)), "");
    assert_string_equal(rv__json_get_string(v, "b", "") + 2, plain);
    assert_string_equal(rv__json_get_string(v, "c", ""), "\xc3\xbf");
    assert_true(rv__json_get_number(v, "d", 0) == -2.5);
    rv__json_free(v);
    snprintf(text, sizeof text, "[\"%s\",1e999]", plain);
    refused(text, strlen(text), 204, "too large");
}

static void test_out_of_memory(void **state)
{
    static const char text[] = "{\"a\":[1,2,{\"b\":\"c\"},4.5],\"d\":\"e\",\"f\":\"0123456789012345678901234567890123456789"
                               "012345678901234567890123456789\"}";
    cJSON_Hooks hooks = {rv__alloc, rv__free};
    cJSON_InitHooks(&hooks);
    rv__value *v = NULL;
    long n = 1;
    for (; !v && n < 1000; n++) {
        rv__json_error err = {0};
        rv__alloc_fail_after(n);
        v = rv__json_parse(text, strlen(text), &err);
        rv__alloc_fail_after(0);
        assert_true(v || err.message == rv__json_no_memory);
    }
    assert_true(v && n > 10);
    rv__alloc_fail_after(1);
    assert_null(rv__json_duplicate(v));
    rv__alloc_fail_after(0);
    rv__json_free(v);
    cJSON_InitHooks(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refuses),       cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_depth_and_values), cmocka_unit_test(test_text),
        cmocka_unit_test(test_integers),      cmocka_unit_test(test_members),
        cmocka_unit_test(test_duplicate),     cmocka_unit_test(test_write_value),
        cmocka_unit_test(test_write_text),    cmocka_unit_test(test_write_double),
        cmocka_unit_test(test_large),         cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_locale),       cmocka_unit_test(test_long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
