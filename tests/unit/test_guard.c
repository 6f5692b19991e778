/* The address guard: rules from text, addresses, URLs, and transfers that must not happen.  The
 * server here listens on loopback and counts the connections it gets: refused ones must be none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http_fixture.h"

#include "base/memory.h"
#include "remote/guard.h"
#include "remote/io.h"

static rv__guard *guard_of(rv__guard_mode mode, const char *allow, const char *deny,
                           const char *ports)
{
    rv__guard_options o = {.mode = mode, .allow = allow, .deny = deny, .ports = ports};
    rv__guard *g = NULL;
    rv_error err;
    if (rv__guard_new(&o, &g, &err) != RV_OK)
        fail_msg("%s", err.message);
    return g;
}

static struct sockaddr_storage address_of(const char *text, int port)
{
    struct sockaddr_storage a = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
    }
    return a;
}

static bool may(const rv__guard *g, const char *address, int port, bool named)
{
    struct sockaddr_storage a = address_of(address, port);
    return rv__guard_address(g, (struct sockaddr *)&a, named);
}

static void built_in_list(void **state)
{
    static const char *const closed[] = {
        "0.0.0.0", "0.255.255.255", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255",
        "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.0.1", "169.254.169.254",
        "168.63.129.16", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
        "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.9", "203.0.113.1", "224.0.0.1",
        "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::8.8.8.8",
        "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "100::1", "2001::1",
        "2001:0:7f00:1::", "2001:10::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1",
        "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "febf::1",
        "fec0::1", "ff02::1", "ff0e::1",
    };
    static const char *const open[] = {
        "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
        "126.255.255.255", "128.0.0.1", "168.63.129.15", "169.253.255.255", "169.255.0.0",
        "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.167.255.255",
        "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "::ffff:8.8.8.8",
        "64:ff9b::808:808", "2001:200::1", "2001:4860:4860::8888", "2600::1", "2a00::1", "3ffe::1",
    };
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++) {
        struct sockaddr_storage a = address_of(closed[i], 443);
        if (rv__guard_is_public((struct sockaddr *)&a))
            fail_msg("%s counts as public", closed[i]);
    }
    for (size_t i = 0; i < sizeof open / sizeof *open; i++) {
        struct sockaddr_storage a = address_of(open[i], 443);
        if (!rv__guard_is_public((struct sockaddr *)&a))
            fail_msg("%s does not count as public", open[i]);
    }
    struct sockaddr other = {.sa_family = AF_UNIX};
    assert_false(rv__guard_is_public(&other));
}

static void lists_and_their_order(void **state)
{
    rv__guard *g = guard_of(RV__GUARD_PUBLIC, "10.1.0.0/16, fd00::/8 192.168.7.7", "10.1.2.0/24 8.8.8.8",
                            NULL);
    assert_true(may(g, "10.1.1.1", 443, false));
    assert_true(may(g, "::ffff:10.1.1.1", 443, false));
    assert_false(may(g, "10.1.2.1", 443, false)); /* deny wins */
    assert_false(may(g, "10.1.2.1", 443, true));
    assert_false(may(g, "10.2.0.1", 443, false));
    assert_true(may(g, "10.2.0.1", 443, true)); /* its name is allowed */
    assert_true(may(g, "fd12::1", 443, false));
    assert_true(may(g, "192.168.7.7", 80, false));
    assert_false(may(g, "192.168.7.8", 80, false));
    assert_true(may(g, "8.8.4.4", 80, false));
    assert_false(may(g, "8.8.8.8", 80, false));
    assert_false(may(g, "64:ff9b::808:808", 80, false)); /* the denied one, through NAT64 */
    assert_false(may(g, "8.8.4.4", 22, false));
    assert_true(may(g, "8.8.4.4", 8443, false));
    rv__guard_free(g);

    g = guard_of(RV__GUARD_LIST, "192.0.2.0/24", NULL, "1-1023 9000");
    assert_true(may(g, "192.0.2.9", 22, false));
    assert_true(may(g, "192.0.2.9", 9000, false));
    assert_false(may(g, "192.0.2.9", 1024, false));
    assert_false(may(g, "8.8.8.8", 443, false));
    assert_true(may(g, "8.8.8.8", 443, true));
    rv__guard_free(g);

    g = guard_of(RV__GUARD_OFF, "0.0.0.0/0 ::/0", NULL, "*");
    assert_false(may(g, "8.8.8.8", 443, false));
    assert_false(may(g, "8.8.8.8", 443, true));
    rv__guard_free(g);
}

static void own_addresses(void **state)
{
    rv__guard *g = guard_of(RV__GUARD_PUBLIC, NULL, NULL, "*");
    assert_false(may(g, "127.0.0.1", 80, false));
    rv__guard_free(g);
}

static void bad_lists(void **state)
{
    static const char *const bad[] = {"10.0.0.0/33",  "10.0.0.0/",    "10.0.0.0/8x", "10.0.0/8",
                                      "::1/129",      "http://x",     "a..b",        "*",
                                      "*.",           ".example.org", "ex ample/1",  "host:80",
                                      "b\xc3\xbc.de", "1.2.3.4/-1",   "[::1]"};
    static const char *const bad_ports[] = {"0", "65536", "80-", "-80", "90-80", "80x", "443 http",
                                            "999999", "80-90-100"};
    rv_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (rv__guard_check_list(bad[i], false, &err) != RV_VALIDATION || err.message[0] != '"')
            fail_msg("%s is taken", bad[i]);
    }
    for (size_t i = 0; i < sizeof bad_ports / sizeof *bad_ports; i++) {
        if (rv__guard_check_list(bad_ports[i], true, &err) != RV_VALIDATION)
            fail_msg("%s is taken", bad_ports[i]);
    }
    assert_int_equal(rv__guard_check_list("", false, &err), RV_OK);
    assert_int_equal(rv__guard_check_list(" a.b  *.C.d. , 1.2.3.4/0 ::/0", false, &err), RV_OK);
    assert_int_equal(rv__guard_check_list("* 80 8000-8999", true, &err), RV_OK);
}

static void urls(void **state)
{
    static const struct {
        const char *url, *why; /* NULL: accepted; else part of the refusal */
    } rows[] = {
        {"https://example.org/a.png", NULL},
        {"HTTP://EXAMPLE.ORG", NULL},
        {"https://example.org:8443/x?y=z#f", NULL},
        {"https://xn--bcher-kva.example/", NULL},
        {"https://b\xc3\xbc" "cher.example/", "ASCII"},
        {"https://8.8.8.8/", NULL},
        {"https://[2600::1]/", NULL},
        {"https://inner.example.net/", NULL},
        {"https://10.5.0.1/", NULL},
        {"https://example.org.evil.example/", NULL},
        {"ftp://example.org/", "http"},
        {"file:///etc/passwd", "http"},
        {"gopher://example.org/_x", "http"},
        {"dict://example.org/", "http"},
        {"unix:/run/x", "http"},
        {"example.org/a.png", "http"},
        {"//example.org/a.png", "http"},
        {"https:/example.org", ""},
        {"https://", ""},
        {"", ""},
        {"https://user@example.org/", "user name"},
        {"https://user:pass@example.org/", "user name"},
        {"https://example.org@127.0.0.1/", "user name"},
        {"https://example.org/a b", "characters"},
        {"https://example.org/\r\nHost: x", "characters"},
        {"https://example.org\\@127.0.0.1/", "characters"},
        {"https://example.org:22/", "port"},
        {"https://example.org:0/", ""},
        {"https://example.org:99999/", ""},
        {"http://127.0.0.1/", "not allowed"},
        {"http://127.1/", "not allowed"},
        {"http://2130706433/", "not allowed"},
        {"http://0x7f000001/", "not allowed"},
        {"http://0177.0.0.1/", "not allowed"},
        {"http://0/", "not allowed"},
        {"http://%31%32%37.0.0.1/", "not allowed"},
        {"http://127.0.0.1./", "not allowed"},
        {"http://\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1/", "ASCII"},
        {"http://[::1]/", "not allowed"},
        {"http://[::ffff:127.0.0.1]/", "not allowed"},
        {"http://[::ffff:7f00:1]/", "not allowed"},
        {"http://[0:0:0:0:0:0:0:1]/", "not allowed"},
        {"http://[fe80::1%25eth0]/", "interface"},
        {"http://[2002:7f00:1::]/", "not allowed"},
        {"http://169.254.169.254/latest/meta-data/", "not allowed"},
        {"http://[fd00:ec2::254]/", "not allowed"},
        {"http://10.6.0.1/", "not allowed"},
        {"https://evil.example/", "not allowed"},
        {"https://sub.worse.example/", "not allowed"},
        {"https://EVIL.example./", "not allowed"},
    };
    rv__guard *g = guard_of(RV__GUARD_PUBLIC, "10.5.0.0/16 inner.example.net",
                            "evil.example *.worse.example", NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv_error err;
        rv__error_clear(&err);
        rv__guard_pass pass = {0};
        rv_status s = rv__guard_url(g, rows[i].url, &pass, &err);
        bool fits = rows[i].why ? s == RV_VALIDATION && strstr(err.message, rows[i].why) : s == RV_OK;
        if (!fits)
            fail_msg("%s: %d %s", rows[i].url, s, err.message);
        assert_int_equal(rv__guard_url(g, rows[i].url, NULL, NULL), s);
        if (s == RV_OK)
            rv__guard_pass_free(&pass);
    }
    char long_url[9000] = "https://example.org/";
    memset(long_url + strlen(long_url), 'a', sizeof long_url - strlen(long_url) - 1);
    long_url[sizeof long_url - 1] = '\0';
    assert_int_equal(rv__guard_url(g, long_url, NULL, NULL), RV_VALIDATION);
    rv__guard_free(g);
}

static void https_and_list_only(void **state)
{
    rv__guard_options o = {.mode = RV__GUARD_LIST, .https_only = true, .allow = "*.example.org"};
    rv__guard *g = NULL;
    assert_int_equal(rv__guard_new(&o, &g, NULL), RV_OK);
    assert_int_equal(rv__guard_url(g, "http://a.example.org/", NULL, NULL), RV_VALIDATION);
    assert_int_equal(rv__guard_url(g, "https://a.example.org/", NULL, NULL), RV_OK);
    assert_int_equal(rv__guard_url(g, "https://a.b.example.org./", NULL, NULL), RV_OK);
    assert_int_equal(rv__guard_url(g, "https://example.org/", NULL, NULL), RV_VALIDATION);
    assert_int_equal(rv__guard_url(g, "https://badexample.org/", NULL, NULL), RV_VALIDATION);
    assert_int_equal(rv__guard_url(g, "https://8.8.8.8/", NULL, NULL), RV_VALIDATION);
    rv__guard_free(g);
}

static void log_forms(void **state)
{
    static const char *const rows[][2] = {
        {"https://h/p?token=secret#x", "https://h/p?…"},
        {"https://user:pw@h:8443/p", "https://h:8443/p"},
        {"https://h#frag", "https://h"},
        {"https://h/a\nb", "https://h/a.b"},
        {"nonsense", "nonsense"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text = rv__guard_log_form(rows[i][0]);
        assert_string_equal(text, rows[i][1]);
        rv__free(text);
    }
}

static void without_memory(void **state)
{
    for (long n = 1; n < 30; n++) {
        rv__guard_options o = {.allow = "10.0.0.0/8 a.example *.b.example", .deny = "c 1.1.1.1",
                               .ports = "80 443"};
        rv__guard *g = NULL;
        rv__guard_pass pass = {0};
        rv__alloc_fail_after(n);
        rv_status s = rv__guard_new(&o, &g, NULL);
        if (s == RV_OK)
            s = rv__guard_url(g, "https://a.example/x?y", &pass, NULL);
        char *text = rv__guard_log_form("https://h/p?q");
        rv__alloc_fail_after(0);
        assert_true(s == RV_OK || s == RV_MEMORY);
        rv__free(text);
        rv__guard_pass_free(&pass);
        rv__guard_free(g);
    }
}

/* ---- transfers ---- */

typedef struct result {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool is_done;
    rv_status status;
    int http;
    rv_error err;
} result;

static bool on_data(void *user, int http, const char *bytes, size_t len)
{
    return true;
}

static void on_done(void *user, rv_status status, int http, const rv_error *err)
{
    result *r = user;
    pthread_mutex_lock(&r->lock);
    r->status = status;
    r->http = http;
    r->err = *err;
    r->is_done = true;
    pthread_cond_signal(&r->ended);
    pthread_mutex_unlock(&r->lock);
}

static bool on_cancelled(void *user)
{
    return false;
}

static const rv__io_events events = {on_data, on_done, on_cancelled};

static result transfer(rv__io *io, const rv__guard *g, const char *url, const char *body)
{
    result r = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    rv__io_request q = {.url = url, .guard = g, .total_ms = 20000, .is_put = body != NULL};
    if (body) {
        q.body = rv__strdup(body);
        q.body_len = strlen(body);
    }
    rv_error err;
    assert_int_equal(rv__io_start(io, &q, &events, &r, &err), RV_OK);
    pthread_mutex_lock(&r.lock);
    while (!r.is_done)
        pthread_cond_wait(&r.ended, &r.lock);
    pthread_mutex_unlock(&r.lock);
    return r;
}

static const route ok[] = {{"/", OK_ANSWER}, {NULL}};

static void refused_transfers_connect_to_nothing(void **state)
{
    static const char *const hosts[] = {
        "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "0", "[::1]",
        "[::ffff:127.0.0.1]", "localhost.", "ip6-localhost", "%6cocalhost", "LOCALHOST",
    };
    server s;
    rv__io *io;
    server_start(&s, ok);
    assert_int_equal(rv__io_open(&io, NULL), RV_OK);
    rv__guard *g = guard_of(RV__GUARD_PUBLIC, NULL, NULL, "*");
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        char url[128];
        snprintf(url, sizeof url, "http://%s:%d/x", hosts[i], s.port);
        result r = transfer(io, g, url, NULL);
        assert_int_equal(r.status, RV_CONNECTION);
        bool is_unknown = strcmp(hosts[i], "ip6-localhost") == 0; /* not in every hosts file */
        if (!is_unknown)
            assert_string_equal(r.err.code, RV__ADDRESS_REFUSED);
    }
    assert_int_equal(atomic_load(&s.connections), 0);
    rv__guard_free(g);
    rv__io_close(io);
    server_stop(&s);
}

/* A connection that an unguarded transfer left open must not carry a guarded one. */
static void kept_connections_are_no_way_around(void **state)
{
    server s;
    rv__io *io;
    char url[128];
    server_start(&s, ok);
    assert_int_equal(rv__io_open(&io, NULL), RV_OK);
    rv__guard *g = guard_of(RV__GUARD_PUBLIC, NULL, NULL, "*");
    snprintf(url, sizeof url, "http://localhost:%d/x", s.port);
    assert_int_equal(transfer(io, NULL, url, NULL).http, 200);
    assert_string_equal(transfer(io, g, url, NULL).err.code, RV__ADDRESS_REFUSED);
    assert_int_equal(atomic_load(&s.connections), 1);
    rv__guard_free(g);
    rv__io_close(io);
    server_stop(&s);
}

static void redirects_are_not_followed(void **state)
{
    server s, hidden;
    rv__io *io;
    char url[128], answer[256];
    server_start(&hidden, ok);
    snprintf(answer, sizeof answer,
             "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n",
             hidden.port);
    route routes[] = {{"/", answer}, {NULL}};
    server_start(&s, routes);
    assert_int_equal(rv__io_open(&io, NULL), RV_OK);
    rv__guard *g = guard_of(RV__GUARD_PUBLIC, "127.0.0.0/8", NULL, "*");
    snprintf(url, sizeof url, "http://127.0.0.1:%d/x", s.port);
    assert_int_equal(transfer(io, g, url, NULL).http, 302);
    assert_int_equal(atomic_load(&hidden.connections), 0);
    rv__guard_free(g);
    rv__io_close(io);
    server_stop(&s);
    server_stop(&hidden);
}

/* What was signed is what is sent, and proxies of the environment are not asked. */
static void targets_arrive_byte_for_byte(void **state)
{
    static const char *const targets[] = {
        "/a/../b/./c//d?X-Amz-Signature=a%2fb%2Fc+d~e&k=&k2&=;x'(),!*|{}[]",
        "/%C3%BC\xc3\xbc/%2e%2e/%00?",
        "/?a=b?c=/../d",
    };
    server s;
    rv__io *io;
    setenv("http_proxy", "http://127.0.0.1:1/", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1/", 1);
    server_start(&s, ok);
    assert_int_equal(rv__io_open(&io, NULL), RV_OK);
    rv__guard *g = guard_of(RV__GUARD_PUBLIC, "localhost", NULL, "*");
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        char url[256], line[256];
        snprintf(url, sizeof url, "http://localhost:%d%s#gone", s.port, targets[i]);
        snprintf(line, sizeof line, "PUT %s HTTP/1.1\r\n", targets[i]);
        result r = transfer(io, g, url, "body");
        if (r.status != RV_OK || strncmp(s.request, line, strlen(line)) != 0)
            fail_msg("%d %s\n%s%.*s", r.status, r.err.message, line, 100, s.request);
        assert_non_null(strstr(s.request, "\r\n\r\nbody"));
        assert_null(strcasestr(s.request, "authorization"));
    }
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
    rv__guard_free(g);
    rv__io_close(io);
    server_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in_list),
        cmocka_unit_test(lists_and_their_order),
        cmocka_unit_test(own_addresses),
        cmocka_unit_test(bad_lists),
        cmocka_unit_test(urls),
        cmocka_unit_test(https_and_list_only),
        cmocka_unit_test(log_forms),
        cmocka_unit_test(without_memory),
        cmocka_unit_test(refused_transfers_connect_to_nothing),
        cmocka_unit_test(kept_connections_are_no_way_around),
        cmocka_unit_test(redirects_are_not_followed),
        cmocka_unit_test(targets_arrive_byte_for_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
