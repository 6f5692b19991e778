/* formats.c: identifiers, URLs and pictures as texts. */
#include "request/formats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void check(rv__form form, const char *const *good, const char *const *bad)
{
    for (; *good; good++) {
        if (rv__format_wrong(form, false, *good))
            print_message("refused: %s\n", *good);
        assert_null(rv__format_wrong(form, false, *good));
    }
    for (; *bad; bad++) {
        if (!rv__format_wrong(form, false, *bad))
            print_message("accepted: %s\n", *bad);
        assert_non_null(rv__format_wrong(form, false, *bad));
    }
}

static void test_air(void **state)
{
    static const char *const good[] = {"runware:97@3", "civitai:139562@297320", "bfl:2@2", "alibaba:qwen-image@2.0",
                                       "my_org:sub/model.v1@rev-2", NULL};
    static const char *const bad[] = {"", "runware", "runware:97", "runware:@3", ":97@3", "runware:97@", "a b:97@3",
                                      "runware:97@3 ", "runware:97@3@4", "runware:9:7@3", "r\xc3\xa9:97@3",
                                      "runware:97@3/x", "hidream-i1-fast", NULL};
    check(RV__AIR, good, bad);
    char text[300];
    memset(text, 'a', sizeof text);
    text[3] = ':';
    text[280] = '@';
    text[299] = '\0';
    assert_false(rv__air_valid(text));
}

static void test_url(void **state)
{
    static const char *const good[] = {"http://a", "https://example.com/x?y=1&z=2#f", "HTTPS://Example.com:8080/",
                                       "https://user:secret@example.com/", "http://[::1]:80/x", "http://a/@b", NULL};
    static const char *const bad[] = {"", "http://", "https:///x", "ftp://a/b", "file:///etc/passwd", "example.com",
                                      "http//a", "http://a b", "http://a/\"x", "http://a/\nx", "http://:80/",
                                      "http://user@/x", "javascript:alert(1)", "http://?x", NULL};
    check(RV__URL, good, bad);
}

#define PNG "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABXvMqOgAAAABJRU5ErkJggg=="

static void test_picture(void **state)
{
    static const char *const good[] = {"c64351d5-4c59-42f7-95e1-eace013eddab", "https://example.com/a.png", PNG,
                                       "data:image/png;base64," PNG, "DATA:image/webp;BASE64,UklGRhoAAABXRUJQVlA4",
                                       "/9j/4AAQSkZJRgABAQAAAQABAAD/2w==", NULL};
    static const char *const bad[] = {"", "picture", "abcd", "data:image/png," PNG, "data:text/plain;base64," PNG,
                                      "data:image/;base64," PNG, "data:image/png;base64,", "data:image/png;base64,abcd",
                                      "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ*", "iVBORw0KGgo",
                                      "R0lGODlhAQABAAAAACw=", "c64351d5-4c59-42f7-95e1", "file:///x.png", NULL};
    check(RV__PICTURE, good, bad);
}

static void test_others(void **state)
{
    static const char *const colors[] = {"#FF5733", "#f73", "#000000", NULL};
    static const char *const no_colors[] = {"", "#", "FF5733", "#FF57", "#FF57330", "#GG5733", "red", NULL};
    check(RV__COLOR, colors, no_colors);
    static const char *const codes[] = {"0123abCD", NULL};
    static const char *const no_codes[] = {"", "0123abC", "0123abCDE", "0123abCx", NULL};
    check(RV__HEX8, codes, no_codes);
    assert_null(rv__format_wrong(RV__ANY_TEXT, false, "anything"));
    assert_null(rv__format_wrong(RV__UUID, false, "a1b2c3d4-e5f6-7890-abcd-ef1234567890"));
    assert_non_null(rv__format_wrong(RV__UUID, true, "a1b2c3d4-e5f6-7890-abcd-ef1234567890"));
    assert_null(rv__format_wrong(RV__UUID, true, "a770f077-f413-47de-9dac-be0b26a35da6"));
    assert_string_equal(rv__format_word(RV__URL), "uri");
    assert_null(rv__format_word(RV__ANY_TEXT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_air),
        cmocka_unit_test(test_url),
        cmocka_unit_test(test_picture),
        cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
