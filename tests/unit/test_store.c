/* The folder of stored pictures: names, expiry, sweeping, failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/resource.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job/store.h"

static char folder[64];

static int make_folder(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/test_store_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static bool exists(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void names_tell_the_expiry(void **state)
{
    rv__store *s;
    assert_int_equal(rv__store_open(folder, &s, NULL), RV_OK);
    char a[RV__STORE_NAME], b[RV__STORE_NAME];
    assert_int_equal(rv__store_put(s, "abc", 3, "png", 0x66f0a1b2, a, NULL), RV_OK);
    assert_int_equal(rv__store_put(s, "abc", 3, "webp", 0, b, NULL), RV_OK);
    assert_string_equal(a + 26, "-66f0a1b2.png");
    assert_string_equal(b + 26, "-0.webp");
    assert_memory_not_equal(a, b, 26);
    int64_t expiry = -1;
    assert_true(rv__store_expiry(a, &expiry));
    assert_int_equal(expiry, 0x66f0a1b2);
    assert_false(rv__store_expiry("short-0.png", &expiry));
    assert_false(rv__store_expiry("aaaaaaaaaaaaaaaaaaaaaaaaaa-.png", &expiry));
    assert_false(rv__store_expiry("aaaaaaaaaaaaaaaaaaaaaaaaaa-0123456789abcdef.png", &expiry));
    assert_false(rv__store_expiry("AAAAAAAAAAAAAAAAAAAAAAAAAA-0.png", &expiry));
    assert_true(exists(a));
    rv__store_close(s);
}

static void sweep_removes_what_expired(void **state)
{
    rv__store *s;
    assert_int_equal(rv__store_open(folder, &s, NULL), RV_OK);
    char old[RV__STORE_NAME], young[RV__STORE_NAME], eternal[RV__STORE_NAME], path[256];
    rv__store_put(s, "a", 1, "png", 1000, old, NULL);
    rv__store_put(s, "a", 1, "png", 3000, young, NULL);
    rv__store_put(s, "a", 1, "png", 0, eternal, NULL);
    snprintf(path, sizeof path, "%s/.writing-abandoned", folder);
    fclose(fopen(path, "w"));
    snprintf(path, sizeof path, "%s/mine.txt", folder);
    fclose(fopen(path, "w"));
    assert_int_equal(rv__store_sweep(s, 2000), 1);
    assert_false(exists(old));
    assert_true(exists(young) && exists(eternal) && exists("mine.txt") &&
                exists(".writing-abandoned"));
    assert_int_equal(rv__store_sweep(s, time(NULL) + 7200), 2);
    assert_false(exists(young) || exists(".writing-abandoned"));
    assert_true(exists(eternal) && exists("mine.txt"));
    rv__store_close(s);
}

static void full_disk_leaves_nothing(void **state)
{
    rv__store *s;
    assert_int_equal(rv__store_open(folder, &s, NULL), RV_OK);
    struct rlimit old, tight;
    getrlimit(RLIMIT_FSIZE, &old);
    tight = old;
    tight.rlim_cur = 1000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tight);
    char name[RV__STORE_NAME];
    static char bytes[5000];
    rv_error err;
    rv_status status = rv__store_put(s, bytes, sizeof bytes, "png", 0, name, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, RV_IO);
    assert_false(exists(name));
    assert_int_equal(rv__store_put(s, bytes, sizeof bytes, "png", 0, name, &err), RV_OK);
    rv__store_close(s);
}

static void bad_folders_are_refused(void **state)
{
    rv__store *s;
    rv_error err;
    assert_int_equal(rv__store_open("/proc/nowhere/results", &s, &err), RV_IO);
    assert_true(*err.message);
    assert_int_equal(rv__store_open("/etc/passwd", &s, &err), RV_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_tell_the_expiry, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(sweep_removes_what_expired, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(full_disk_leaves_nothing, make_folder, drop_folder),
        cmocka_unit_test(bad_folders_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
