/* Server-sent events: any division into pieces gives the same events; caps hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "remote/sse.h"

typedef struct log {
    char text[512];
    int stop_after;
} log;

static bool note(void *user, const char *name, const char *data, size_t len)
{
    log *l = user;
    assert_int_equal(strlen(data), len);
    size_t at = strlen(l->text);
    snprintf(l->text + at, sizeof l->text - at, "[%s|%s]", name, data);
    return l->stop_after == 0 || --l->stop_after > 0;
}

static void feed_in_pieces(const char *stream, size_t piece, const char *expected)
{
    rv__sse s;
    log l = {""};
    rv__sse_init(&s, 1000);
    size_t len = strlen(stream);
    for (size_t at = 0; at < len; at += piece)
        assert_true(rv__sse_feed(&s, stream + at, at + piece < len ? piece : len - at, note, &l));
    assert_string_equal(l.text, expected);
    rv__sse_free(&s);
}

static void any_division(void **state)
{
    const char *stream = ": comment\n\nevent: step\ndata: {\"a\":1}\n\ndata:x\ndata: y\nid: 3\n\r\n"
                         "event: reply\r\ndata: z\r\n\r\nevent: empty\n\ndata\n\n";
    for (size_t piece = 1; piece < 40; piece++)
        feed_in_pieces(stream, piece, "[step|{\"a\":1}][message|x\ny][reply|z][message|]");
    feed_in_pieces("data: a\r\rdata: b\r\r", 1, "[message|a][message|b]");
    feed_in_pieces("data: unfinished\n", 3, "");
}

static void caps_hold(void **state)
{
    rv__sse s;
    log l = {""};
    char line[100];
    memset(line, 'x', sizeof line);
    rv__sse_init(&s, 250);
    assert_true(rv__sse_feed(&s, line, 100, note, &l));
    assert_true(rv__sse_feed(&s, line, 100, note, &l));
    assert_false(rv__sse_feed(&s, line, 100, note, &l));
    rv__sse_free(&s);
    rv__sse_init(&s, 250);
    const char *data =
        "data: 0123456789012345678901234567890123456789012345678901234567890123456789\n";
    int fed = 0;
    while (fed < 10 && rv__sse_feed(&s, data, strlen(data), note, &l))
        fed++;
    assert_int_equal(fed, 3);
    rv__sse_free(&s);
}

static void callback_stops(void **state)
{
    rv__sse s;
    log l = {"", 1};
    rv__sse_init(&s, 250);
    assert_false(rv__sse_feed(&s, "data: a\n\ndata: b\n\n", 18, note, &l));
    assert_string_equal(l.text, "[message|a]");
    rv__sse_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_division), cmocka_unit_test(caps_hold),
                                       cmocka_unit_test(callback_stops)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
