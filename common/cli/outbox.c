/* `reverie outbox`: webhooks and uploads that a reveried gave up, and sending them again. */
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "cli/commands.h"

enum { ANSWER_MAX = 4 << 20 };

static const char usage_text[] =
    "usage: reverie outbox [--daemon unix:PATH] [list]\n"
    "       reverie outbox [--daemon unix:PATH] send NUMBER|all\n"
    "       reverie outbox [--daemon unix:PATH] drop NUMBER|all\n"
    "Lists what reveried could not deliver (webhooks and uploads), sends it again, or forgets it.\n"
    "The daemon is at unix:/run/reverie/reveried.sock unless told otherwise.\n";

static size_t on_data(char *bytes, size_t size, size_t count, void *user)
{
    rv__buf *b = user;
    rv__buf_add(b, bytes, size * count);
    return b->failed ? 0 : size * count;
}

/* The daemon's answer as JSON, or NULL and a message. */
static rv__value *ask(const char *path, const char *method, const char *target)
{
    rv__buf b;
    rv__buf_init(&b, ANSWER_MAX);
    char *url = rv__format("http://reveried/outbox%s", target);
    CURL *e = curl_easy_init();
    bool ok = e && url && curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, path) == CURLE_OK &&
              curl_easy_setopt(e, CURLOPT_URL, url) == CURLE_OK &&
              curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, method) == CURLE_OK &&
              curl_easy_setopt(e, CURLOPT_PROXY, "") == CURLE_OK &&
              curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_data) == CURLE_OK &&
              curl_easy_setopt(e, CURLOPT_WRITEDATA, &b) == CURLE_OK;
    CURLcode rc = ok ? curl_easy_perform(e) : CURLE_OUT_OF_MEMORY;
    rv__value *v = rc == CURLE_OK && b.len ? rv__json_parse(b.data, b.len, NULL) : NULL;
    const char *why = rv__json_get_string(rv__json_get(v, "error"), "message", NULL);
    if (!v || why)
        rv__cli_fail("outbox", rc != CURLE_OK ? curl_easy_strerror(rc)
                               : why          ? why
                                              : "the answer cannot be understood");
    if (why) {
        rv__json_free(v);
        v = NULL;
    }
    curl_easy_cleanup(e);
    rv__buf_free(&b);
    rv__free(url);
    return v;
}

static int list(const char *path)
{
    char target[64] = "";
    for (bool more = true; more;) {
        rv__value *v = ask(path, "GET", target);
        if (!v)
            return 1;
        for (const rv__value *p = rv__json_first(rv__json_get(v, "dead")); p; p = rv__json_next(p)) {
            long long row = rv__json_get_int(p, "row", 0);
            printf("%lld  %s  %s  %s  %lld attempts  %s\n", row, rv__json_get_string(p, "kind", ""),
                   rv__json_get_string(p, "taskUUID", ""), rv__json_get_string(p, "target", ""),
                   (long long)rv__json_get_int(p, "attempts", 0), rv__json_get_string(p, "why", ""));
            snprintf(target, sizeof target, "?after=%lld", row);
        }
        more = rv__json_get_bool(v, "more", false);
        rv__json_free(v);
    }
    return 0;
}

static int change(const char *path, bool is_send, const char *which)
{
    char target[64];
    size_t digits = strspn(which, "0123456789");
    if (strcmp(which, "all") != 0 && (!digits || digits > 18 || which[digits])) {
        fputs(usage_text, stderr);
        return 2;
    }
    snprintf(target, sizeof target, "/%s", which);
    rv__value *v = ask(path, is_send ? "POST" : "DELETE", target);
    if (!v)
        return 1;
    printf("%lld %s\n", (long long)rv__json_get_int(v, is_send ? "revived" : "dropped", 0),
           is_send ? "will be sent again" : "dropped");
    rv__json_free(v);
    return 0;
}

int rv__command_outbox(int argc, char **argv)
{
    const char *path = "/run/reverie/reveried.sock";
    int i = 1;
    if (i + 1 < argc && strcmp(argv[i], "--daemon") == 0) {
        path = strncmp(argv[i + 1], "unix:", 5) == 0 ? argv[i + 1] + 5 : argv[i + 1];
        i += 2;
    }
    const char *verb = i < argc ? argv[i] : "list";
    if (argc - i <= 1 && strcmp(verb, "list") == 0)
        return list(path);
    if (argc - i == 2 && (strcmp(verb, "send") == 0 || strcmp(verb, "drop") == 0))
        return change(path, *verb == 's', argv[i + 1]);
    bool is_help = strcmp(verb, "--help") == 0;
    fputs(usage_text, is_help ? stdout : stderr);
    return is_help ? 0 : 2;
}
