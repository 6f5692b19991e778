/* What becomes of a post after an attempt, its signature, and where an upload goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job/courier_plan.h"
#include "remote/io.h"

static rv__plan plan(bool is_upload, int number, rv_status status, int http, const char *code,
                     int64_t retry_after_ms)
{
    rv_error err;
    rv__error_clear(&err);
    if (status != RV_OK)
        rv__fail_code(&err, status, code, NULL, "some reason");
    err.retry_after_ms = retry_after_ms;
    rv__attempt a = {.is_upload = is_upload,
                     .number = number,
                     .most = is_upload ? 5 : 40,
                     .status = status,
                     .http_status = http,
                     .error = &err,
                     .chance = 0.5};
    return rv__courier_plan(&a);
}

static void fates(void **state)
{
    static const struct {
        bool is_upload;
        rv_status status;
        int http;
        const char *code;
        rv__fate fate;
    } rows[] = {
        {false, RV_OK, 200, NULL, RV__SENT},
        {false, RV_OK, 299, NULL, RV__SENT},
        {false, RV_PROVIDER, 200, NULL, RV__SENT}, /* its answer was too long */
        {false, RV_TIMEOUT, 202, NULL, RV__SENT},
        {false, RV_OK, 302, NULL, RV__AGAIN},
        {false, RV_OK, 404, NULL, RV__AGAIN},
        {false, RV_OK, 410, NULL, RV__DEAD},
        {false, RV_OK, 500, NULL, RV__AGAIN},
        {false, RV_CONNECTION, 0, NULL, RV__AGAIN},
        {false, RV_TIMEOUT, 0, NULL, RV__AGAIN},
        {false, RV_MEMORY, 0, NULL, RV__AGAIN},
        {false, RV_CANCELLED, 200, NULL, RV__AGAIN},
        {false, RV_CONNECTION, 0, RV__ADDRESS_REFUSED, RV__DEAD},
        {true, RV_OK, 204, NULL, RV__SENT},
        {true, RV_OK, 400, NULL, RV__DEAD},
        {true, RV_OK, 403, NULL, RV__DEAD},
        {true, RV_OK, 408, NULL, RV__AGAIN},
        {true, RV_OK, 429, NULL, RV__AGAIN},
        {true, RV_OK, 503, NULL, RV__AGAIN},
        {true, RV_OK, 307, NULL, RV__AGAIN},
        {true, RV_CONNECTION, 0, RV__ADDRESS_REFUSED, RV__DEAD},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv__plan p =
            plan(rows[i].is_upload, 1, rows[i].status, rows[i].http, rows[i].code, -1);
        if (p.fate != rows[i].fate)
            fail_msg("row %zu: %d %s", i, p.fate, p.why);
        assert_int_equal(*p.why != 0, p.fate != RV__SENT);
    }
    assert_int_equal(plan(false, 39, RV_OK, 500, NULL, -1).fate, RV__AGAIN);
    assert_int_equal(plan(false, 40, RV_OK, 500, NULL, -1).fate, RV__DEAD);
    assert_int_equal(plan(true, 5, RV_OK, 500, NULL, -1).fate, RV__DEAD);
    assert_string_equal(plan(true, 5, RV_OK, 500, NULL, -1).why, "HTTP status 500");
}

static void pauses(void **state)
{
    static const int64_t wanted[] = {250,  500,   1000,  2000,  4000,   8000,   8000,   8000,
                                     8000, 8000,  16000, 32000, 64000, 128000, 256000, 512000,
                                     600000, 600000};
    for (int i = 0; i < (int)(sizeof wanted / sizeof *wanted); i++)
        assert_int_equal(plan(false, i + 1, RV_OK, 500, NULL, -1).delay_ms, wanted[i]);
    assert_int_equal(plan(false, 1, RV_OK, 503, NULL, 5000).delay_ms, 5000);
    assert_int_equal(plan(false, 9, RV_OK, 503, NULL, 5000).delay_ms, 8000);
    assert_int_equal(plan(false, 1, RV_OK, 503, NULL, INT64_MAX).delay_ms, 3600000);
    rv_error err;
    rv__error_clear(&err);
    rv__attempt a = {.number = 1, .most = 9, .http_status = 500, .error = &err};
    assert_int_equal(rv__courier_plan(&a).delay_ms, 187);
    a.chance = 1;
    assert_int_equal(rv__courier_plan(&a).delay_ms, 312);
}

static void signatures(void **state)
{
    /* printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret */
    static const char one[] =
        "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
    char *text = rv__courier_signature("secret\n", 1700000000, "{\"a\":1}", 7);
    assert_string_equal(text, one);
    rv__free(text);
    text = rv__courier_signature("\r\nsecret\r\n\nsecret", 1700000000, "{\"a\":1}", 7);
    assert_int_equal(strncmp(text, one, strlen(one)), 0);
    assert_string_equal(text + strlen(one), strstr(one, ",v1="));
    rv__free(text);
    assert_null(rv__courier_signature("", 1, "x", 1));
    assert_null(rv__courier_signature("\n\n", 1, "x", 1));
}

static void targets(void **state)
{
    static const char *const rows[][2] = {
        {"https://h/a?X-Amz-Signature=a%2fb+c&d=%7Bindex%7D", NULL},
        {"https://h/{index}.png", "https://h/3.png"},
        {"https://h/{imageUUID}-{index}{index}", "https://h/uuid-33"},
        {"https://h/{other}{index", NULL},
        {"https://h/{{index}}", "https://h/{3}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text = rv__courier_target(rows[i][0], 3, "uuid");
        assert_string_equal(text, rows[i][1] ? rows[i][1] : rows[i][0]);
        rv__free(text);
    }
}

static void without_memory(void **state)
{
    for (long n = 1; n < 12; n++) {
        rv__alloc_fail_after(n);
        char *signature = rv__courier_signature("a\nb", 1, "body", 4);
        char *target = rv__courier_target("https://h/{index}", 3, "uuid");
        rv__alloc_fail_after(0);
        if (signature)
            assert_int_equal(strlen(signature), strlen("t=1") + 2 * strlen(",v1=") + 128);
        if (target)
            assert_string_equal(target, "https://h/3");
        rv__free(signature);
        rv__free(target);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fates),      cmocka_unit_test(pauses),         cmocka_unit_test(signatures),
        cmocka_unit_test(targets), cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
