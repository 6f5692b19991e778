/* URLs that come with a request, and lists of addresses from settings: whatever the text is, the
 * guard answers, and no URL whose host is written as an address gets past it unless that address is
 * public.  The first byte chooses what the text is. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "job/courier_plan.h"
#include "remote/guard.h"

static const rv__guard *guard(void)
{
    static rv__guard *g;
    rv__guard_options o = {.allow = "allowed.example 198.51.100.0/24",
                           .deny = "*.denied.example 8.8.0.0/16",
                           .ports = "*"};
    if (!g && rv__guard_new(&o, &g, NULL) != RV_OK)
        abort();
    return g;
}

static bool is_allowed_network(const uint8_t *ipv4)
{
    return ipv4[0] == 198 && ipv4[1] == 51 && ipv4[2] == 100;
}

/* ::ffff:a.b.c.d */
static const uint8_t *mapped_ipv4(const uint8_t *ipv6)
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(ipv6, prefix, sizeof prefix) == 0 ? ipv6 + 12 : NULL;
}

/* What passed must be what curl will connect to. */
static void check_passed(const rv__guard_pass *pass)
{
    char *host = NULL;
    struct sockaddr_in a = {.sin_family = AF_INET};
    struct sockaddr_in6 b = {.sin6_family = AF_INET6};
    if (curl_url_get(pass->parsed, CURLUPART_HOST, &host, 0) != CURLUE_OK)
        abort();
    size_t len = strlen(host);
    bool is_public = true;
    if (inet_pton(AF_INET, host, &a.sin_addr) == 1) {
        is_public = rv__guard_is_public((struct sockaddr *)&a) ||
                    is_allowed_network((const uint8_t *)&a.sin_addr);
    } else if (*host == '[' && host[len - 1] == ']') {
        char copy[64] = "";
        memcpy(copy, host + 1, len - 2 < 63 ? len - 2 : 63);
        const uint8_t *inner = inet_pton(AF_INET6, copy, &b.sin6_addr) == 1
                                   ? mapped_ipv4(b.sin6_addr.s6_addr)
                                   : NULL;
        is_public = rv__guard_is_public((struct sockaddr *)&b) ||
                    (inner && is_allowed_network(inner));
    }
    if (!is_public)
        abort();
    for (const char *c = pass->target; *c; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f)
            abort();
    }
    if (*pass->target != '/')
        abort();
    curl_free(host);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    char *text = rv__strndup((const char *)data + 1, size - 1);
    rv_error err;
    rv__guard_pass pass = {0};
    if (!text)
        return 0;
    if (*data & 1) {
        rv__guard_check_list(text, *data & 2, &err);
    } else if (rv__guard_url(guard(), text, &pass, &err) == RV_OK) {
        check_passed(&pass);
        rv__guard_pass_free(&pass);
    } else if (!*err.message) {
        abort();
    }
    rv__free(rv__guard_log_form(text));
    rv__free(rv__courier_target(text, 3, "uuid"));
    rv__free(text);
    return 0;
}
