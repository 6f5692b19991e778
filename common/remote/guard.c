/* See guard.h.  The list of addresses that are not public follows the IANA registries of special
 * purpose addresses (RFC 6890 and later); for IPv6 it is the other way round: only 2000::/3 without
 * its special parts is public. */
#include "remote/guard.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"

enum { HOST_MAX = 253, URL_MAX = 8192, ENTRIES_MAX = 1024, MAPPED = 96 };

/* A block of addresses; IPv4 is kept in its mapped form ::ffff:a.b.c.d, so that there is one kind. */
typedef struct block {
    uint8_t bytes[16];
    int bits;
} block;

/* A host name, or "*." and the end of names. */
typedef struct name {
    char *text; /* lower case, without the star and without a last dot */
    bool is_suffix;
} name;

typedef struct rules {
    block *blocks;
    name *names;
    size_t block_count, name_count;
} rules;

typedef struct range {
    int from, to;
} range;

struct rv__guard {
    rv__guard_mode mode;
    bool https_only;
    rules allow, deny;
    range *ports;
    size_t port_count;
};

/* ---- addresses ---- */

static bool in_block(const uint8_t address[16], const uint8_t net[16], int bits)
{
    int whole = bits / 8, rest = bits % 8;
    if (memcmp(address, net, (size_t)whole) != 0)
        return false;
    return !rest || (address[whole] ^ net[whole]) >> (8 - rest) == 0;
}

static void map_ipv4(uint32_t ip, uint8_t out[16])
{
    memset(out, 0, 10);
    out[10] = out[11] = 0xff;
    for (int i = 0; i < 4; i++)
        out[12 + i] = (uint8_t)(ip >> (24 - 8 * i));
}

static bool is_mapped(const uint8_t a[16])
{
    static const uint8_t prefix[16] = {[10] = 0xff, [11] = 0xff};
    return in_block(a, prefix, MAPPED);
}

/* False for kinds of addresses other than IPv4 and IPv6. */
static bool bytes_of(const struct sockaddr *address, uint8_t out[16])
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        map_ipv4(ntohl(in.sin_addr.s_addr), out);
        return true;
    }
    if (address->sa_family != AF_INET6)
        return false;
    struct sockaddr_in6 in6;
    memcpy(&in6, address, sizeof in6);
    memcpy(out, in6.sin6_addr.s6_addr, 16);
    return true;
}

static int port_of(const struct sockaddr *address)
{
    struct sockaddr_in in; /* the port is at the same place in both kinds */
    memcpy(&in, address, sizeof in);
    return ntohs(in.sin_port);
}

static bool is_public_ipv4(uint32_t ip)
{
    static const struct {
        uint32_t net;
        int bits;
    } special[] = {
        {0x00000000, 8},  /* this network              */
        {0x0a000000, 8},  /* private                   */
        {0x64400000, 10}, /* shared by providers (NAT) */
        {0x7f000000, 8},  /* loopback                  */
        {0xa83f8110, 32}, /* 168.63.129.16: Azure's host, a public number that never leaves it */
        {0xa9fe0000, 16}, /* link-local, metadata      */
        {0xac100000, 12}, /* private                   */
        {0xc0000000, 24}, /* protocol assignments      */
        {0xc0000200, 24}, /* documentation             */
        {0xc0586300, 24}, /* 6to4 relays               */
        {0xc0a80000, 16}, /* private                   */
        {0xc6120000, 15}, /* benchmarks                */
        {0xc6336400, 24}, /* documentation             */
        {0xcb007100, 24}, /* documentation             */
        {0xe0000000, 3},  /* multicast, reserved, broadcast */
    };
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        if ((ip ^ special[i].net) >> (32 - special[i].bits) == 0)
            return false;
    }
    return true;
}

static uint32_t last_four(const uint8_t a[16])
{
    return (uint32_t)a[12] << 24 | (uint32_t)a[13] << 16 | (uint32_t)a[14] << 8 | a[15];
}

static bool is_public(const uint8_t a[16])
{
    static const uint8_t nat64[16] = {0x00, 0x64, 0xff, 0x9b};
    static const struct {
        uint8_t net[16];
        int bits;
    } special[] = {
        {{0x20, 0x01}, 23},                   /* Teredo, ORCHID, benchmarks … */
        {{0x20, 0x01, 0x0d, 0xb8}, 32},       /* documentation                */
        {{0x20, 0x02}, 16},                   /* 6to4: hides an IPv4 address  */
        {{0x3f, 0xff}, 20},                   /* documentation                */
    };
    if (is_mapped(a) || in_block(a, nat64, 96))
        return is_public_ipv4(last_four(a));
    if (a[0] >> 5 != 1) /* 2000::/3 */
        return false;
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        if (in_block(a, special[i].net, special[i].bits))
            return false;
    }
    return true;
}

bool rv__guard_is_public(const struct sockaddr *address)
{
    uint8_t bytes[16];
    return bytes_of(address, bytes) && is_public(bytes);
}

/* An address of this machine's own interfaces.  When they cannot be listed, everything is. */
static bool is_own(const uint8_t a[16])
{
    struct ifaddrs *list = NULL;
    uint8_t bytes[16];
    if (getifaddrs(&list) != 0)
        return true;
    bool found = false;
    for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next)
        found = i->ifa_addr && bytes_of(i->ifa_addr, bytes) && memcmp(bytes, a, 16) == 0;
    freeifaddrs(list);
    return found;
}

static bool is_listed(const rules *r, const uint8_t a[16])
{
    for (size_t i = 0; i < r->block_count; i++) {
        if (in_block(a, r->blocks[i].bytes, r->blocks[i].bits))
            return true;
    }
    return false;
}

/* NAT64 addresses are judged by the IPv4 address inside as well: a rule for that one is meant for
 * both. */
static bool is_listed_either_way(const rules *r, const uint8_t a[16])
{
    static const uint8_t nat64[16] = {0x00, 0x64, 0xff, 0x9b};
    uint8_t inner[16];
    if (is_listed(r, a))
        return true;
    if (!in_block(a, nat64, 96))
        return false;
    map_ipv4(last_four(a), inner);
    return is_listed(r, inner);
}

static bool is_port_open(const rv__guard *g, int port)
{
    for (size_t i = 0; i < g->port_count; i++) {
        if (port >= g->ports[i].from && port <= g->ports[i].to)
            return true;
    }
    return false;
}

static bool may_reach(const rv__guard *g, const uint8_t a[16], bool named)
{
    if (g->mode == RV__GUARD_OFF || is_listed_either_way(&g->deny, a))
        return false;
    if (named || is_listed(&g->allow, a))
        return true;
    return g->mode == RV__GUARD_PUBLIC && is_public(a) && !is_own(a);
}

bool rv__guard_address(const rv__guard *g, const struct sockaddr *address, bool named)
{
    uint8_t bytes[16];
    return bytes_of(address, bytes) && is_port_open(g, port_of(address)) &&
           may_reach(g, bytes, named);
}

/* ---- rules from text ---- */

static bool read_block(const char *text, block *out)
{
    char address[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    if (len >= sizeof address)
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    struct in_addr v4;
    int most = 128, base = 0;
    if (inet_pton(AF_INET, address, &v4) == 1) {
        map_ipv4(ntohl(v4.s_addr), out->bytes);
        most = 32;
        base = MAPPED;
    } else if (inet_pton(AF_INET6, address, out->bytes) != 1) {
        return false;
    }
    out->bits = most + base;
    if (!slash)
        return true;
    size_t digits = strspn(slash + 1, "0123456789");
    if (!digits || digits > 3 || slash[1 + digits])
        return false;
    long bits = strtol(slash + 1, NULL, 10);
    out->bits = (int)bits + base;
    return bits <= most;
}

static bool is_host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

static char *lower(const char *text, size_t len)
{
    char *copy = rv__strndup(text, len);
    for (char *c = copy; c && *c; c++) {
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    }
    return copy;
}

/* RV_FORMAT when the text is no host name or pattern. */
static rv_status read_name(const char *text, name *out)
{
    out->is_suffix = text[0] == '*' && text[1] == '.';
    text += out->is_suffix ? 2 : 0;
    size_t len = strlen(text);
    if (len && text[len - 1] == '.')
        len--;
    out->text = lower(text, len);
    if (!out->text)
        return RV_MEMORY;
    bool is_name = len && len <= HOST_MAX && out->text[0] != '.';
    for (const char *c = out->text; *c && is_name; c++)
        is_name = is_host_char(*c) && !(c[0] == '.' && c[1] == '.');
    if (!is_name) {
        rv__free(out->text);
        out->text = NULL;
    }
    return is_name ? RV_OK : RV_FORMAT;
}

static bool grow(void **array, size_t count, size_t size)
{
    void *longer = count < ENTRIES_MAX ? rv__realloc(*array, (count + 1) * size) : NULL;
    if (longer)
        *array = longer;
    return longer;
}

static rv_status add_entry(rules *r, const char *word)
{
    block b;
    name n;
    bool has_colon_or_slash = strpbrk(word, ":/") != NULL;
    if (read_block(word, &b)) {
        if (!grow((void **)&r->blocks, r->block_count, sizeof b))
            return RV_MEMORY;
        r->blocks[r->block_count++] = b;
        return RV_OK;
    }
    rv_status s = has_colon_or_slash ? RV_FORMAT : read_name(word, &n);
    if (s != RV_OK)
        return s;
    if (!grow((void **)&r->names, r->name_count, sizeof n)) {
        rv__free(n.text);
        return RV_MEMORY;
    }
    r->names[r->name_count++] = n;
    return RV_OK;
}

static bool read_port(const char **at, int *out)
{
    size_t digits = strspn(*at, "0123456789");
    if (!digits || digits > 5)
        return false;
    *out = (int)strtol(*at, NULL, 10);
    *at += digits;
    return *out >= 1 && *out <= 65535;
}

static rv_status add_ports(rv__guard *g, const char *word)
{
    range r = {1, 65535};
    const char *at = word;
    if (strcmp(word, "*") != 0) {
        if (!read_port(&at, &r.from))
            return RV_FORMAT;
        bool is_range = *at == '-';
        r.to = r.from;
        at += is_range;
        if ((is_range && !read_port(&at, &r.to)) || *at || r.to < r.from)
            return RV_FORMAT;
    }
    if (!grow((void **)&g->ports, g->port_count, sizeof r))
        return RV_MEMORY;
    g->ports[g->port_count++] = r;
    return RV_OK;
}

/* Calls one of the two for each word of the list. */
static rv_status read_list(rv__guard *g, rules *r, const char *list, rv_error *err)
{
    while (list && *list) {
        size_t gap = strspn(list, " \t,"), len = strcspn(list + gap, " \t,");
        list += gap;
        if (!len)
            break;
        char *word = rv__strndup(list, len);
        rv_status s = !word ? RV_MEMORY : r ? add_entry(r, word) : add_ports(g, word);
        rv__free(word);
        if (s == RV_FORMAT)
            return rv__fail(err, RV_VALIDATION, "\"%.*s\" is no %s", len > 60 ? 60 : (int)len, list,
                            r ? "address (10.0.0.0/8, 2001:db8::/32) and no host name "
                                "(example.org, *.example.org)"
                              : "port (443, 8000-8999 or *)");
        if (s != RV_OK)
            return rv__fail(err, RV_MEMORY, "out of memory");
        list += len;
    }
    return RV_OK;
}

rv_status rv__guard_check_list(const char *list, bool ports, rv_error *err)
{
    rv__guard_options o = {.allow = ports ? NULL : list, .ports = ports ? list : NULL};
    rv__guard *g = NULL;
    rv_status s = rv__guard_new(&o, &g, err);
    rv__guard_free(g);
    return s;
}

rv_status rv__guard_new(const rv__guard_options *o, rv__guard **out, rv_error *err)
{
    *out = NULL;
    rv__guard *g = rv__calloc(1, sizeof *g);
    if (!g)
        return rv__fail(err, RV_MEMORY, "out of memory");
    g->mode = o->mode;
    g->https_only = o->https_only;
    rv_status s = read_list(g, &g->allow, o->allow, err);
    if (s == RV_OK)
        s = read_list(g, &g->deny, o->deny, err);
    if (s == RV_OK)
        s = read_list(g, NULL, o->ports && *o->ports ? o->ports : "80 443 8080 8443", err);
    if (s != RV_OK)
        rv__guard_free(g);
    else
        *out = g;
    return s;
}

static void rules_free(rules *r)
{
    for (size_t i = 0; i < r->name_count; i++)
        rv__free(r->names[i].text);
    rv__free(r->names);
    rv__free(r->blocks);
}

void rv__guard_free(rv__guard *g)
{
    if (!g)
        return;
    rules_free(&g->allow);
    rules_free(&g->deny);
    rv__free(g->ports);
    rv__free(g);
}

/* ---- one URL ---- */

static bool is_named(const rules *r, const char *host)
{
    size_t len = strlen(host);
    for (size_t i = 0; i < r->name_count; i++) {
        const name *n = &r->names[i];
        size_t part = strlen(n->text);
        if (!n->is_suffix && strcmp(host, n->text) == 0)
            return true;
        if (n->is_suffix && len > part + 1 && host[len - part - 1] == '.' &&
            strcmp(host + len - part, n->text) == 0)
            return true;
    }
    return false;
}

static rv_status refuse(rv_error *err, const char *why)
{
    return rv__fail(err, RV_VALIDATION, "%s", why);
}

/* Bytes that have no place in a URL, and in no request line. */
static bool is_clean(const char *url)
{
    size_t len = strlen(url);
    if (!len || len > URL_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)url[i] <= ' ' || url[i] == 0x7f || strchr("\"<>\\^`", url[i]))
            return false;
    }
    return true;
}

/* An address where the host is one: curl has turned 0x7f.1, 127.1 and 2130706433 into dots. */
static bool read_host_address(const char *host, uint8_t out[16])
{
    char plain[INET6_ADDRSTRLEN];
    struct in_addr v4;
    if (inet_pton(AF_INET, host, &v4) == 1) {
        map_ipv4(ntohl(v4.s_addr), out);
        return true;
    }
    size_t len = strlen(host);
    if (*host != '[' || len < 4 || len - 2 >= sizeof plain)
        return false;
    memcpy(plain, host + 1, len - 2);
    plain[len - 2] = '\0';
    return inet_pton(AF_INET6, plain, out) == 1;
}

static bool is_ascii(const char *text)
{
    while (*text && !(*text & 0x80))
        text++;
    return !*text;
}

static rv_status judge_host(const rv__guard *g, char *host, bool *named, rv_error *err)
{
    uint8_t address[16];
    size_t len = strlen(host);
    if (len && host[len - 1] == '.')
        host[--len] = '\0';
    for (char *c = host; *c; c++) {
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    }
    if (!len || len > HOST_MAX)
        return refuse(err, "the URL has no usable host");
    if (!is_ascii(host)) /* whether curl could read it would depend on the locale */
        return refuse(err, "the host of the URL must be written in ASCII (xn--...)");
    *named = is_named(&g->allow, host);
    bool is_refused = g->mode == RV__GUARD_OFF || is_named(&g->deny, host);
    if (!is_refused && read_host_address(host, address))
        is_refused = !may_reach(g, address, *named);
    else if (!is_refused && g->mode == RV__GUARD_LIST)
        is_refused = !*named && !g->allow.block_count;
    return is_refused ? refuse(err, "the address is not allowed") : RV_OK;
}

static rv_status judge_parts(const rv__guard *g, CURLU *u, bool *named, rv_error *err)
{
    char *scheme = NULL, *host = NULL, *port = NULL, *zone = NULL;
    rv_status s = RV_OK;
    if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        (strcasecmp(scheme, "https") != 0 && strcasecmp(scheme, "http") != 0))
        s = refuse(err, "the URL must begin with http:// or https://");
    else if (g->https_only && strcasecmp(scheme, "https") != 0)
        s = refuse(err, "the URL must begin with https://");
    else if (curl_url_get(u, CURLUPART_ZONEID, &zone, 0) == CURLUE_OK)
        s = refuse(err, "the URL names a network interface");
    else if (curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK ||
             !is_port_open(g, (int)strtol(port, NULL, 10)))
        s = refuse(err, "the port of the URL is not allowed");
    else if (curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK)
        s = refuse(err, "the URL has no usable host");
    else
        s = judge_host(g, host, named, err);
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_free(zone);
    return s;
}

/* Path and query as written: what a signature was made over must not be written anew. */
static char *target_of(const char *url)
{
    const char *start = strstr(url, "://") + 3;
    start += strcspn(start, "/?#");
    size_t len = strcspn(start, "#");
    if (*start == '/')
        return rv__strndup(start, len);
    return rv__format("/%.*s", (int)len, start);
}

rv_status rv__guard_url(const rv__guard *g, const char *url, rv__guard_pass *pass, rv_error *err)
{
    rv__guard_pass p = {.guard = g};
    if (!is_clean(url))
        return refuse(err, "the URL has characters that are not allowed, or more than 8192");
    p.parsed = curl_url();
    if (!p.parsed)
        return rv__fail(err, RV_MEMORY, "out of memory");
    CURLUcode rc = curl_url_set(p.parsed, CURLUPART_URL, url,
                                CURLU_PATH_AS_IS | CURLU_DISALLOW_USER);
    rv_status s = RV_OK;
    if (rc == CURLUE_OUT_OF_MEMORY)
        s = rv__fail(err, RV_MEMORY, "out of memory");
    else if (rc == CURLUE_USER_NOT_ALLOWED)
        s = refuse(err, "the URL must not hold a user name or password");
    else if (rc != CURLUE_OK || !strstr(url, "://"))
        s = refuse(err, "the URL must begin with http:// or https://");
    else
        s = judge_parts(g, p.parsed, &p.host_is_named, err);
    if (s == RV_OK && pass && !(p.target = target_of(url)))
        s = rv__fail(err, RV_MEMORY, "out of memory");
    if (s != RV_OK || !pass)
        rv__guard_pass_free(&p);
    else
        *pass = p;
    return s;
}

void rv__guard_pass_free(rv__guard_pass *pass)
{
    curl_url_cleanup(pass->parsed);
    rv__free(pass->target);
    *pass = (rv__guard_pass){0};
}

/* ---- the transfer ---- */

/* The last gate: the very address of the connection, whatever name led to it.  A refused socket is
 * never made, so nothing can leave. */
static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *a)
{
    rv__guard_pass *pass = user;
    struct sockaddr_storage copy;
    bool fits = a->addrlen <= sizeof copy && a->addrlen >= sizeof(struct sockaddr_in);
    if (fits)
        memcpy(&copy, &a->addr, a->addrlen);
    if (fits && purpose == CURLSOCKTYPE_IPCXN &&
        (a->family != AF_INET6 || a->addrlen >= sizeof(struct sockaddr_in6)) &&
        rv__guard_address(pass->guard, (const struct sockaddr *)&copy, pass->host_is_named))
        return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
    pass->was_refused = true;
    return CURL_SOCKET_BAD;
}

bool rv__guard_arm(rv__guard_pass *pass, CURL *easy)
{
    pass->was_refused = false;
    /* A kept connection would not come through the callback, and one of ours must not be kept for
     * others. */
    return curl_easy_setopt(easy, CURLOPT_CURLU, pass->parsed) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_REQUEST_TARGET, pass->target) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR,
                            pass->guard->https_only ? "https" : "http,https") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, NULL) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, pass) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK;
}

char *rv__guard_log_form(const char *url)
{
    const char *start = strstr(url, "://");
    size_t scheme = start ? (size_t)(start - url) + 3 : 0;
    const char *host = url + scheme;
    size_t len = strcspn(host, "/?#");
    const char *user = memrchr(host, '@', len);
    const char *from = user ? user + 1 : host;
    size_t path = strcspn(from, "?#");
    if (scheme > 16)
        return rv__strdup("(no URL)");
    char *text = rv__format("%.*s%.*s%s", (int)scheme, url, path > 200 ? 200 : (int)path, from,
                            from[path] == '?' ? "?…" : "");
    for (char *c = text; c && *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '.';
    }
    return text;
}
