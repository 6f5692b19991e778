/* uuid.c: new ones are version 4 and differ; forms are told apart. */
#include "base/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_make(void **state)
{
    char a[RV__UUID_SIZE], b[RV__UUID_SIZE];
    for (int i = 0; i < 200; i++) {
        assert_true(rv__uuid_make(a) && rv__uuid_make(b));
        assert_true(rv__uuid_is_v4(a, strlen(a)));
        assert_string_not_equal(a, b);
    }
}

static void test_forms(void **state)
{
    static const struct {
        const char *text;
        bool        valid, v4;
    } rows[] = {
        {"a770f077-f413-47de-9dac-be0b26a35da6", true, true},
        {"A770F077-F413-47DE-BDAC-BE0B26A35DA6", true, true},
        {"a1b2c3d4-e5f6-7890-abcd-ef1234567890", true, false},
        {"a770f077-f413-47de-cdac-be0b26a35da6", true, false},
        {"00000000-0000-0000-0000-000000000000", true, false},
        {"9876543210-abcd-ef12-3456-789012345678", false, false},
        {"a770f077f41347de9dacbe0b26a35da6", false, false},
        {"a770f077-f413-47de-9dac-be0b26a35da", false, false},
        {"a770f077-f413-47de-9dac-be0b26a35da6 ", false, false},
        {"g770f077-f413-47de-9dac-be0b26a35da6", false, false},
        {"a770f077-f413-47de-9dac0be0b26a35da6", false, false},
        {"{770f077-f413-47de-9dac-be0b26a35da}", false, false},
        {"", false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t len = strlen(rows[i].text);
        assert_int_equal(rv__uuid_valid(rows[i].text, len), rows[i].valid);
        assert_int_equal(rv__uuid_is_v4(rows[i].text, len), rows[i].v4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_make), cmocka_unit_test(test_forms)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
