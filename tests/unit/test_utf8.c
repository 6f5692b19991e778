/* utf8.c: each form of right and wrong bytes, and the fast way over long plain text. */
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_valid(void **state)
{
    static const struct {
        const char *text;
        size_t      valid;
    } rows[] = {
        {"", 0}, {"abc", 3}, {"\x7f", 1}, {"\xc2\x80", 2}, {"\xdf\xbf", 2}, {"\xe0\xa0\x80", 3},
        {"\xed\x9f\xbf", 3}, {"\xee\x80\x80", 3}, {"\xef\xbf\xbf", 3}, {"\xf0\x90\x80\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4}, {"\x80", 0}, {"\xc0\x80", 0}, {"\xc1\xbf", 0}, {"\xe0\x9f\xbf", 0},
        {"\xed\xa0\x80", 0}, {"\xf0\x8f\xbf\xbf", 0}, {"\xf4\x90\x80\x80", 0}, {"\xf5\x80\x80\x80", 0},
        {"\xff", 0}, {"\xc3", 0}, {"\xe2\x82", 0}, {"\xf0\x9f\x8d", 0}, {"\xc3(", 0}, {"ab\xe2(\xa1", 2},
        {"12345678\xc3\xa9""12345678x\xff", 19},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(rv__utf8_valid(rows[i].text, strlen(rows[i].text)), rows[i].valid);
}

static void test_round_trip(void **state)
{
    for (uint32_t c = 1; c <= 0x10FFFF; c = c < 0x900 || c > 0x10FF00 ? c + 1 : c + 97) {
        if (c >= 0xD800 && c <= 0xDFFF)
            continue;
        char text[4];
        uint32_t back = 0;
        size_t n = rv__utf8_put(c, text);
        assert_int_equal(rv__utf8_next(text, n, &back), n);
        assert_int_equal(back, c);
        assert_int_equal(rv__utf8_next(text, n - 1, &back), 0);
        assert_int_equal(rv__utf8_count(text, n), 1);
    }
    assert_int_equal(rv__utf8_count("a\xc3\xa9\xf0\x9f\x8d\x8a!", 8), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_valid), cmocka_unit_test(test_round_trip)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
