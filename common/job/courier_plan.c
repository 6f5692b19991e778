/* See courier_plan.h.  The first repeats follow what receivers of such webhooks know: 250 ms, then
 * doubled, at most 8 s, with jitter; who is away longer is asked less and less often. */
#include "job/courier_plan.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

#include "remote/io.h"

enum {
    FIRST_MS = 250,
    CAP_MS = 8000,
    PATIENT_AFTER = 10,      /* attempts, from which on the pause grows again  */
    LAST_MS = 600000,        /* the longest pause of our own                   */
    RETRY_AFTER_MS = 3600000 /* the longest one somebody may ask for           */
};

static int64_t pause_ms(int number, double chance)
{
    int64_t ms = FIRST_MS;
    for (int i = 1; i < number && ms < LAST_MS; i++) {
        ms *= 2;
        if (i < PATIENT_AFTER && ms > CAP_MS)
            ms = CAP_MS;
    }
    ms = ms > LAST_MS ? LAST_MS : ms;
    return (int64_t)((double)ms * (0.75 + 0.5 * chance));
}

/* Answers to an upload that no repeat changes: its signature is wrong or too old, or the place is
 * gone. */
static bool is_final(const rv__attempt *a)
{
    int http = a->http_status;
    if (!a->is_upload)
        return http == 410;
    return http >= 400 && http < 500 && http != 408 && http != 425 && http != 429;
}

static bool is_success(const rv__attempt *a)
{
    /* The status counts, even where the rest of the answer did not come. */
    return a->http_status >= 200 && a->http_status < 300 && a->status != RV_CANCELLED;
}

rv__plan rv__courier_plan(const rv__attempt *a)
{
    rv__plan p = {.fate = RV__AGAIN};
    if (is_success(a)) {
        p.fate = RV__SENT;
        return p;
    }
    if (a->status == RV_CANCELLED) { /* we are stopping: not its fault */
        snprintf(p.why, sizeof p.why, "interrupted");
        return p;
    }
    bool is_refused = strcmp(a->error->code, RV__ADDRESS_REFUSED) == 0;
    if (a->http_status)
        snprintf(p.why, sizeof p.why, "HTTP status %d", a->http_status);
    else
        snprintf(p.why, sizeof p.why, "%.*s", (int)sizeof p.why - 1, a->error->message);
    if (is_refused || is_final(a) || a->number >= a->most) {
        p.fate = RV__DEAD;
        return p;
    }
    p.delay_ms = pause_ms(a->number, a->chance);
    int64_t asked = a->error->retry_after_ms > RETRY_AFTER_MS ? RETRY_AFTER_MS
                                                              : a->error->retry_after_ms;
    if (asked > p.delay_ms)
        p.delay_ms = asked;
    return p;
}

static bool sign(rv__buf *out, const char *secret, size_t secret_len, const rv__buf *text)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    if (!HMAC(EVP_sha256(), secret, (int)secret_len, (const unsigned char *)text->data, text->len,
              digest, &len))
        return false;
    rv__buf_adds(out, ",v1=");
    for (unsigned int i = 0; i < len; i++)
        rv__buf_addf(out, "%02x", digest[i]);
    return true;
}

char *rv__courier_signature(const char *secrets, int64_t unix_s, const char *body, size_t len)
{
    rv__buf text, out;
    bool any = false;
    rv__buf_init(&text, len + 32);
    rv__buf_init(&out, 4096);
    rv__buf_addf(&text, "%lld.", (long long)unix_s);
    rv__buf_add(&text, body, len);
    rv__buf_addf(&out, "t=%lld", (long long)unix_s);
    while (*secrets && !text.failed) {
        size_t line = strcspn(secrets, "\r\n");
        any |= line && sign(&out, secrets, line, &text);
        secrets += line;
        secrets += strspn(secrets, "\r\n");
    }
    char *signature = any && !text.failed ? rv__buf_take(&out, NULL) : NULL;
    rv__buf_free(&text);
    rv__buf_free(&out);
    return signature;
}

char *rv__courier_target(const char *url, int64_t index, const char *image_uuid)
{
    rv__buf b;
    rv__buf_init(&b, 32768);
    while (*url) {
        size_t plain = strcspn(url, "{");
        rv__buf_add(&b, url, plain);
        url += plain;
        if (strncmp(url, "{index}", 7) == 0) {
            rv__buf_addf(&b, "%lld", (long long)index);
            url += 7;
        } else if (strncmp(url, "{imageUUID}", 11) == 0) {
            rv__buf_adds(&b, image_uuid);
            url += 11;
        } else if (*url) {
            rv__buf_add(&b, url++, 1);
        }
    }
    return rv__buf_take(&b, NULL);
}
