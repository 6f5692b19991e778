/* Settings: every name takes what it should, refuses the rest with words, and is fixed after the
 * first submit. */
#include "job_fixture.h"

static void values_are_checked(void **state)
{
    static const struct {
        const char *name, *value;
        rv_status status;
        const char *message; /* part of it */
    } rows[] = {
        {"queue", "1", RV_OK, ""},
        {"queue", "0", RV_VALIDATION, "from 1 to 100000"},
        {"queue", "", RV_VALIDATION, "whole number"},
        {"queue", " 5", RV_VALIDATION, "whole number"},
        {"queue", "5x", RV_VALIDATION, "whole number"},
        {"queue", "-5", RV_VALIDATION, "whole number"},
        {"queue", "99999999999999999999999", RV_VALIDATION, "whole number"},
        {"stub_ms", "60000", RV_OK, ""},
        {"stub_ms", "60001", RV_VALIDATION, "60000"},
        {"threads", "0", RV_OK, ""},
        {"device", "Vulkan", RV_OK, ""},
        {"results_ttl", "0", RV_OK, ""},
        {"max_steps", "10", RV_OK, ""},
        {"strict", "off", RV_OK, ""},
        {"strict", "yes", RV_VALIDATION, "\"off\" or \"on\""},
        {"strict_uuid", "on", RV_OK, ""},
        {"executor", "stub", RV_OK, ""},
        {"executor", "gpu", RV_VALIDATION, "\"auto\" or \"stub\""},
        {"daemon", "", RV_OK, ""},
        {"results_dir", "/tmp/x", RV_OK, ""},
        {"results_url", "https://x/", RV_OK, ""},
        {"fetch", "list", RV_OK, ""},
        {"fetch", "all", RV_VALIDATION, "\"public\", \"list\" or \"off\""},
        {"fetch_allow", "10.0.0.0/8 cdn.example.org", RV_OK, ""},
        {"fetch_allow", "", RV_OK, ""},
        {"fetch_deny", "10.0.0.0/99", RV_VALIDATION, "\"10.0.0.0/99\" is no address"},
        {"fetch_ports", "443 https", RV_VALIDATION, "\"https\" is no port"},
        {"fetch_ports", "*", RV_OK, ""},
        {"fetch_https", "on", RV_OK, ""},
        {"fetch_timeout", "0", RV_VALIDATION, "from 1 to 3600"},
        {"fetch_size", "1024", RV_OK, ""},
        {"webhook_secret", "/tmp/x", RV_OK, ""},
        {"webhook_tries", "0", RV_VALIDATION, "from 1 to 1000"},
        {"upload_tries", "1", RV_OK, ""},
        {"cache", "0", RV_OK, ""},
        {"cache", "1h", RV_VALIDATION, "whole number"},
        {"cache_size", "1", RV_VALIDATION, "from 1048576"},
        {"nonsense", "1", RV_VALIDATION, "no setting of this name"},
        {"model", "/nowhere/model", RV_IO, ""},
        {NULL, "1", RV_MISUSE, ""},
        {"queue", NULL, RV_MISUSE, ""},
    };
    rv *r = open_stub("0");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv_error err;
        rv_status status = rv_set(r, rows[i].name, rows[i].value, &err);
        bool said = status == RV_OK || (*err.message && strstr(err.message, rows[i].message));
        bool as_expected = status == rows[i].status || (rows[i].status == RV_IO && status != RV_OK);
        if (!as_expected || !said)
            fail_msg("row %zu: %d %s", i, status, err.message);
        assert_int_equal(rv_set(r, rows[i].name, rows[i].value, NULL), status);
    }
    rv_close(r);
}

static void settings_have_effect(void **state)
{
    rv *r = open_stub("0");
    rv_set(r, "max_steps", "10", NULL);
    rv_set(r, "strict_uuid", "on", NULL);
    char *body = body_text(1, "a", ",\"outputQuality\":95");
    strstr(body, "-4000-")[1] = '1'; /* well formed, not version 4 */
    strstr(body, "\"steps\":4")[8] = '9';
    rv_batch *b = rv_batch_parse(r, body, strlen(body));
    const rv_issue *issues;
    assert_int_equal(rv_batch_issues(b, &issues), 1);
    assert_string_equal(issues[0].parameter, "taskUUID");
    rv_batch_unref(b);
    free(body);
    body = body_text(1, "a", ",\"numberResults\":1");
    char *longer = NULL;
    assert_true(asprintf(&longer, "%.*s11%s", (int)(strstr(body, "\"steps\":4") + 8 - body), body,
                         strstr(body, "\"steps\":4") + 9) > 0);
    b = rv_batch_parse(r, longer, strlen(longer));
    assert_int_equal(rv_batch_issues(b, &issues), 1);
    assert_string_equal(issues[0].code, "invalidSteps");
    rv_batch_unref(b);
    free(longer);
    free(body);
    rv_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(values_are_checked),
                                       cmocka_unit_test(settings_have_effect)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
