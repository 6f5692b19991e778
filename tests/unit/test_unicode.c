/* Normal forms, lower case and clusters against the examples of the Unicode standard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/unicode.h"

static void assert_form(rv__unicode_form form, const char *text, const char *want)
{
    rv__buf b;
    rv__buf_init(&b, 1 << 20);
    rv__unicode_normalize(form, text, strlen(text), &b);
    char *got = rv__buf_take(&b, NULL);
    assert_non_null(got);
    assert_string_equal(got, want);
    rv__free(got);
}

static void test_forms(void **state)
{
    (void)state;
    assert_form(RV__NFC, "plain", "plain");
    assert_form(RV__NFC, "cafe\u0301", "caf\u00E9");
    assert_form(RV__NFD, "caf\u00E9", "cafe\u0301");
    assert_form(RV__NFC, "\u212B", "\u00C5");             /* angstrom sign: a singleton */
    assert_form(RV__NFC, "\u0958", "\u0915\u093C");       /* excluded from composition  */
    assert_form(RV__NFC, "\u1112\u1161\u11AB", "\uD55C"); /* Hangul                     */
    assert_form(RV__NFD, "\uD55C", "\u1112\u1161\u11AB");
    assert_form(RV__NFKC, "\uFB01\u2460\u00BD",
                "fi1"
                "1\u20442");
    assert_form(RV__NFKD, "\uFDFA",
                "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647 "
                "\u0639\u0644\u064A\u0647 \u0648\u0633\u0644\u0645");
    assert_form(RV__NFC, "a\u0301\u0323", "\u1EA1\u0301"); /* marks are put in order first */
    assert_form(RV__NFD, "q\u0307\u0323", "q\u0323\u0307");
}

/* Equal classes keep their order however long the run, and a long run takes no longer per mark than
 * a short one. */
static void test_long_runs_of_marks(void **state)
{
    enum { PAIRS = 60000 };
    char *text = malloc(PAIRS * 4 + 2), *want = malloc(PAIRS * 4 + 2);
    (void)state;
    text[0] = want[0] = 'q';
    for (size_t i = 0; i < PAIRS; i++) {
        memcpy(text + 1 + 4 * i, "\u0307\u0323", 4);
        memcpy(want + 1 + 2 * i, "\u0323", 2);
        memcpy(want + 1 + 2 * (PAIRS + i), "\u0307", 2);
    }
    text[PAIRS * 4 + 1] = want[PAIRS * 4 + 1] = 0;
    assert_form(RV__NFD, text, want);
    free(text);
    free(want);
}

static void test_lower_case(void **state)
{
    (void)state;
    const char *text = "ABC \u00C9\u0130\u1E9E\u03A3 \U00010400",
               *want = "abc \u00E9i\u0307\u00DF\u03C3 \U00010428";
    rv__buf b;
    rv__buf_init(&b, 100);
    rv__unicode_lower(text, strlen(text), &b);
    char *got = rv__buf_take(&b, NULL);
    assert_string_equal(got, want);
    rv__free(got);
}

static void test_clusters(void **state)
{
    (void)state;
    assert_int_equal(rv__unicode_cluster("ab", 2), 1);
    assert_int_equal(rv__unicode_cluster("\r\nx", 3), 2);
    assert_int_equal(rv__unicode_cluster("e\u0301x", 4), 3);
    assert_int_equal(rv__unicode_cluster("\U0001F468\u200D\U0001F469x", 12), 11);
    assert_int_equal(rv__unicode_cluster("\U0001F1EB\U0001F1F7\U0001F1EB", 12), 8);
    assert_int_equal(rv__unicode_cluster("\xFF", 1), 1);
}

static void test_classes(void **state)
{
    (void)state;
    assert_true(rv__unicode_is_space(' ') && rv__unicode_is_space(0x3000) &&
                rv__unicode_is_space(0x85));
    assert_false(rv__unicode_is_space(0x200B) || rv__unicode_is_space(0x180E) ||
                 rv__unicode_is_space('a'));
    assert_true(rv__unicode_is_word('a') && rv__unicode_is_word('_') && rv__unicode_is_word('7'));
    assert_true(rv__unicode_is_word(0x732B) && rv__unicode_is_word(0x301));
    assert_false(rv__unicode_is_word('-') || rv__unicode_is_word(' ') ||
                 rv__unicode_is_word(0x1F600));
}

static void test_walking_back(void **state)
{
    const char *text = "a\u00E9\u732B";
    (void)state;
    assert_int_equal(rv__unicode_back(text, 6), 3);
    assert_int_equal(rv__unicode_back(text, 3), 1);
    assert_int_equal(rv__unicode_back(text, 1), 0);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    for (long n = 1; n < 8; n++) {
        rv__buf b;
        rv__buf_init(&b, 1000);
        rv__alloc_fail_after(n);
        rv__unicode_normalize(RV__NFC, "q\u0307\u0323", 5, &b);
        rv__alloc_fail_after(0);
        if (!b.failed)
            assert_int_equal(b.len, 5);
        rv__buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),         cmocka_unit_test(test_long_runs_of_marks),
        cmocka_unit_test(test_lower_case),    cmocka_unit_test(test_clusters),
        cmocka_unit_test(test_classes),       cmocka_unit_test(test_walking_back),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
