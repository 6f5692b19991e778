/* The table of settings.  Values come from people (configuration files, command lines): every
 * refusal names the setting and says what would be accepted. */
#include "setup.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "remote/guard.h"

typedef enum kind { TEXT, NUMBER, WORD, ADDRESSES, PORTS } kind;

enum { WORDS = 3 };

typedef struct row {
    const char *name;
    kind kind;
    size_t offset;
    int64_t min, max, preset;
    const char *words[WORDS]; /* value 0, 1, 2; NULL-ended when there are fewer */
} row;

static const row rows[] = {
    {"daemon", TEXT, offsetof(rv__setup, daemon)},
    {"daemon_key", TEXT, offsetof(rv__setup, daemon_key)},
    {"results_dir", TEXT, offsetof(rv__setup, results_dir)},
    {"results_url", TEXT, offsetof(rv__setup, results_url)},
    {"serve", TEXT, offsetof(rv__setup, serve)},
    {"store", TEXT, offsetof(rv__setup, store)},
    {"ca_file", TEXT, offsetof(rv__setup, ca_file)},
    {"device", TEXT, offsetof(rv__setup, device)},
    {"service_connect_ms", NUMBER, offsetof(rv__setup, service_connect_ms), 1, 600000, 10000},
    {"service_silence", NUMBER, offsetof(rv__setup, service_silence), 1, 3600, 150},
    {"service_pause_ms", NUMBER, offsetof(rv__setup, service_pause_ms), 1, 60000, 500},
    {"executor", WORD, offsetof(rv__setup, executor), .preset = RV__AUTO,
     .words = {"auto", "stub"}},
    {"stub_ms", NUMBER, offsetof(rv__setup, stub_ms), 0, 60000, 0},
    {"threads", NUMBER, offsetof(rv__setup, threads), 0, 1024, 0},
    {"queue", NUMBER, offsetof(rv__setup, queue), 1, 100000, 64},
    {"results_ttl", NUMBER, offsetof(rv__setup, results_ttl), 0, INT64_C(3153600000), 604800},
    {"max_steps", NUMBER, offsetof(rv__setup, max_steps), 1, 1000000, 1000},
    {"max_tasks", NUMBER, offsetof(rv__setup, max_tasks), 0, 100000, 0},
    {"preview_steps", NUMBER, offsetof(rv__setup, preview_steps), 0, 1000, 0},
    {"backlog", NUMBER, offsetof(rv__setup, backlog), 1, 10000000, 10000},
    {"attempts", NUMBER, offsetof(rv__setup, attempts), 1, 1000000, 10},
    {"cache", NUMBER, offsetof(rv__setup, cache), 0, 31536000, 0},
    {"cache_size", NUMBER, offsetof(rv__setup, cache_size), 1 << 20, INT64_C(1) << 40, 256 << 20},
    {"strict_uuid", WORD, offsetof(rv__setup, strict_uuid), .preset = 0, .words = {"off", "on"}},
    {"strict", WORD, offsetof(rv__setup, strict), .preset = 1, .words = {"off", "on"}},
    {"fetch", WORD, offsetof(rv__setup, fetch), .preset = RV__GUARD_PUBLIC,
     .words = {[RV__GUARD_PUBLIC] = "public", [RV__GUARD_LIST] = "list", [RV__GUARD_OFF] = "off"}},
    {"fetch_allow", ADDRESSES, offsetof(rv__setup, fetch_allow)},
    {"fetch_deny", ADDRESSES, offsetof(rv__setup, fetch_deny)},
    {"fetch_ports", PORTS, offsetof(rv__setup, fetch_ports)},
    {"fetch_https", WORD, offsetof(rv__setup, fetch_https), .preset = 0, .words = {"off", "on"}},
    {"fetch_timeout", NUMBER, offsetof(rv__setup, fetch_timeout), 1, 3600, 15},
    {"webhook_secret", TEXT, offsetof(rv__setup, webhook_secret)},
    {"webhook_tries", NUMBER, offsetof(rv__setup, webhook_tries), 1, 1000, 40},
    {"upload_tries", NUMBER, offsetof(rv__setup, upload_tries), 1, 1000, 5},
    {"fetch_size", NUMBER, offsetof(rv__setup, fetch_size), 1, INT64_C(1) << 30, 20 << 20},
};

enum { ROWS = sizeof rows / sizeof *rows };

static bool is_text(const row *r)
{
    return r->kind == TEXT || r->kind == ADDRESSES || r->kind == PORTS;
}

static char **text_of(rv__setup *s, const row *r)
{
    return (char **)((char *)s + r->offset);
}

static int64_t *number_of(rv__setup *s, const row *r)
{
    return (int64_t *)((char *)s + r->offset);
}

void rv__setup_init(rv__setup *s)
{
    *s = (rv__setup){0};
    for (const row *r = rows; r < rows + ROWS; r++) {
        if (!is_text(r))
            *number_of(s, r) = r->preset;
    }
}

void rv__setup_free(rv__setup *s)
{
    for (const row *r = rows; r < rows + ROWS; r++) {
        if (is_text(r)) {
            rv__free(*text_of(s, r));
            *text_of(s, r) = NULL;
        }
    }
}

static rv_status set_text(rv__setup *s, const row *r, const char *value, rv_error *err)
{
    char *copy = NULL;
    rv_error why;
    if (r->kind != TEXT && rv__guard_check_list(value, r->kind == PORTS, &why) != RV_OK)
        return rv__fail_code(err, why.status, "invalidSetting", r->name, "%s: %s", r->name,
                             why.message);
    if (*value) {
        copy = rv__strdup(value);
        if (!copy)
            return rv__fail(err, RV_MEMORY, "out of memory");
    }
    rv__free(*text_of(s, r));
    *text_of(s, r) = copy;
    return RV_OK;
}

static rv_status set_number(rv__setup *s, const row *r, const char *value, rv_error *err)
{
    char *end = NULL;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    bool is_digits = *value && strspn(value, "0123456789") == strlen(value);
    if (!is_digits || errno || n < r->min || n > r->max)
        return rv__fail_code(err, RV_VALIDATION, "invalidSetting", r->name,
                             "%s must be a whole number from %" PRId64 " to %" PRId64, r->name,
                             r->min, r->max);
    *number_of(s, r) = n;
    return RV_OK;
}

static rv_status set_word(rv__setup *s, const row *r, const char *value, rv_error *err)
{
    for (int i = 0; i < WORDS && r->words[i]; i++) {
        if (strcmp(value, r->words[i]) == 0) {
            *number_of(s, r) = i;
            return RV_OK;
        }
    }
    return rv__fail_code(err, RV_VALIDATION, "invalidSetting", r->name,
                         "%s must be \"%s\"%s%s%s or \"%s\"", r->name, r->words[0],
                         r->words[2] ? ", \"" : "", r->words[2] ? r->words[1] : "",
                         r->words[2] ? "\"" : "", r->words[r->words[2] ? 2 : 1]);
}

rv_status rv__setup_set(rv__setup *s, const char *name, const char *value, rv_error *err)
{
    for (const row *r = rows; r < rows + ROWS; r++) {
        if (strcmp(name, r->name) != 0)
            continue;
        if (is_text(r))
            return set_text(s, r, value, err);
        return r->kind == NUMBER ? set_number(s, r, value, err) : set_word(s, r, value, err);
    }
    return rv__fail_code(err, RV_VALIDATION, "unknownSetting", name,
                         "there is no setting of this name");
}
