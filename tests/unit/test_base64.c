/* base64.c: the vectors of RFC 4648, every length around the group size, and every kind of wrong text. */
#include "base/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_vectors(void **state)
{
    static const char *const rows[][2] = {
        {"", ""},           {"f", "Zg=="},         {"fo", "Zm8="},         {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xfe", "+//+"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[20], back[20];
        size_t len = strlen(rows[i][0]), n = rv__base64_size(len), m = 99;
        assert_int_equal(n, strlen(rows[i][1]));
        rv__base64_encode(rows[i][0], len, text);
        assert_memory_equal(text, rows[i][1], n);
        assert_true(rv__base64_decode(text, n, back, &m));
        assert_int_equal(m, len);
        assert_memory_equal(back, rows[i][0], len);
    }
    assert_true(rv__base64_size(SIZE_MAX - 1) == SIZE_MAX);
}

static void test_round_trip(void **state)
{
    uint8_t data[300];
    char text[400];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 151 + 7);
    for (size_t len = 0; len <= sizeof data; len++) {
        size_t n = rv__base64_size(len), m, measured;
        rv__base64_encode(data, len, text);
        assert_true(rv__base64_decode(text, n, NULL, &measured));
        assert_true(rv__base64_decode(text, n, text, &m)); /* in place */
        assert_int_equal(m, len);
        assert_int_equal(measured, len);
        assert_memory_equal(text, data, len);
    }
}

static void test_wrong(void **state)
{
    static const char *const rows[] = {
        "Z", "Zg", "Zg=", "Zg===", "=Zg=", "Z=g=", "====", "Zh==", "Zm9=", "Zm9v\n", "Zm 9", "Zm-_",
        "Zg==Zg==", "Zm8=Zm9v", "Zm9vZ\xc3\xa9=", "Zm9v====", "\x80m9v",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t n = 77;
        char out[20];
        if (rv__base64_decode(rows[i], strlen(rows[i]), out, &n))
            print_message("accepted %s\n", rows[i]);
        assert_false(rv__base64_decode(rows[i], strlen(rows[i]), out, &n));
        assert_int_equal(n, 77);
    }
}

/* Every byte at every place of the first and the last group. */
static void test_every_byte(void **state)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int place = 0; place < 8; place++) {
        for (int c = 1; c < 256; c++) {
            char text[8];
            size_t n;
            memset(text, 'A', sizeof text);
            text[place] = (char)c;
            bool right = strchr(alphabet, c) != NULL || (place == 7 && c == '=');
            assert_int_equal(rv__base64_decode(text, sizeof text, NULL, &n), right);
        }
    }
}

/* Long texts go through in blocks: each byte at each place of one is judged as it is alone. */
static void test_every_byte_of_a_block(void **state)
{
    static const char known[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[96], out[72 + 1];
    uint8_t expected[72];
    size_t n;
    for (size_t at = 0; at < 64; at++) {
        for (int c = 0; c < 256; c++) {
            memset(text, 'A', sizeof text);
            text[at] = (char)c;
            const char *place = c ? strchr(known, c) : NULL;
            assert_int_equal(rv__base64_decode(text, sizeof text, out, &n), place != NULL);
            if (!place)
                continue;
            memset(expected, 0, sizeof expected);
            for (int bit = 0; bit < 6; bit++) {
                size_t to = at * 6 + (size_t)bit;
                expected[to / 8] |= (uint8_t)(((place - known) >> (5 - bit) & 1) << (7 - to % 8));
            }
            assert_int_equal(n, sizeof expected);
            assert_memory_equal(out, expected, sizeof expected);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_every_byte_of_a_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
