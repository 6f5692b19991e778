/* pool.c: alignment, large pieces among small ones, formatting, failure that stays. */
#include "base/memory.h"
#include "base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_pieces(void **state)
{
    rv__pool p = {0};
    unsigned char *pieces[400];
    for (size_t i = 0; i < 400; i++) {
        size_t size = i % 50 == 7 ? 10000 : i % 23 + 1;
        pieces[i] = rv__pool_alloc(&p, size);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
        for (size_t k = 0; k < size; k++)
            assert_int_equal(pieces[i][k], 0);
        memset(pieces[i], (int)(i % 251 + 1), size);
    }
    for (size_t i = 0; i < 400; i++) /* nobody wrote into another's piece */
        assert_int_equal(pieces[i][i % 50 == 7 ? 9999 : i % 23], i % 251 + 1);
    rv__pool_free(&p);
    assert_null(p.blocks);
}

static void test_texts(void **state)
{
    rv__pool p = {0};
    assert_string_equal(rv__pool_text(&p, "abcdef", 3), "abc");
    assert_string_equal(rv__pool_text(&p, NULL, 0), "");
    assert_string_equal(rv__pool_format(&p, "%d %s", 7, "x"), "7 x");
    rv__pool_free(&p);
}

static void test_failure(void **state)
{
    rv__pool p = {0};
    assert_null(rv__pool_alloc(&p, SIZE_MAX));
    assert_true(p.failed);
    assert_null(rv__pool_alloc(&p, 1)); /* stays failed */
    rv__pool_free(&p);
    assert_false(p.failed);
    rv__alloc_fail_after(1);
    assert_null(rv__pool_text(&p, "a", 1));
    assert_null(rv__pool_format(&p, "a"));
    rv__alloc_fail_after(0);
    rv__pool_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
