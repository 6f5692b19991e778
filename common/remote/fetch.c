/* See fetch.h.  Each hop is a transfer of its own, so that the guard sees every URL and every
 * address. */
#include "remote/fetch.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

enum { HOPS = 4 /* the first URL and three redirects */ };

typedef struct fetch {
    rv__io *io;
    const rv__guard *guard;
    const rv__fetch_events *events;
    void *user;
    rv__fetch_limits limits;
    int64_t deadline_ms; /* on the monotonic clock */
    int hops;
    char *next; /* where a redirect leads; NULL: nowhere */
    rv__buf file;
    bool is_too_large, is_no_success;
} fetch;

static void fetch_free(fetch *f)
{
    rv__buf_free(&f->file);
    rv__free(f->next);
    rv__free(f);
}

static bool on_data(void *user, int http_status, const char *bytes, size_t len)
{
    fetch *f = user;
    if (http_status >= 300 && http_status < 400)
        return true; /* what a redirect says is not looked at, but it must not go on for ever */
    f->is_no_success = http_status < 200 || http_status >= 300;
    f->is_too_large = !f->is_no_success && len > f->limits.bytes - f->file.len;
    if (f->is_no_success || f->is_too_large)
        return false;
    rv__buf_add(&f->file, bytes, len);
    return !f->file.failed;
}

static void on_redirect(void *user, const char *url)
{
    fetch *f = user;
    rv__free(f->next);
    f->next = rv__strdup(url);
}

static bool on_cancelled(void *user)
{
    fetch *f = user;
    return f->events->cancelled(f->user);
}

static void end(fetch *f, rv_status status, const rv_error *err)
{
    f->events->done(f->user, status, &f->file, err);
    fetch_free(f);
}

static rv_status begin_hop(fetch *f, const char *url, rv_error *err);

static rv_status judge(const fetch *f, rv_status status, int http_status, rv_error *err)
{
    if (f->is_too_large || strcmp(err->code, RV__ANSWER_TOO_LARGE) == 0)
        return rv__fail(err, RV_VALIDATION, "the file has more than %zu bytes", f->limits.bytes);
    if (f->file.failed)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (f->is_no_success || (status == RV_OK && (http_status < 200 || http_status >= 300)))
        return rv__fail(err, RV_VALIDATION, "the server answered with HTTP status %d", http_status);
    return status;
}

static void on_done(void *user, rv_status status, int http_status, const rv_error *why)
{
    fetch *f = user;
    rv_error err = *why;
    bool is_redirect = status == RV_OK && http_status >= 300 && http_status < 400 && f->next;
    if (is_redirect && f->hops < HOPS) {
        char *url = f->next;
        f->next = NULL;
        status = begin_hop(f, url, &err);
        rv__free(url);
        if (status != RV_OK)
            end(f, status, &err);
        return;
    }
    status = is_redirect ? rv__fail(&err, RV_VALIDATION, "there are more than %d redirects", HOPS - 1)
                         : judge(f, status, http_status, &err);
    end(f, status, &err);
}

static const rv__io_events transfer_events = {on_data, on_done, on_cancelled, on_redirect};

static rv_status begin_hop(fetch *f, const char *url, rv_error *err)
{
    static const char *const headers[] = {"Accept: image/png, image/jpeg, image/webp", NULL};
    int64_t left = f->deadline_ms - rv__clock_ms();
    if (left < 1)
        return rv__fail(err, RV_TIMEOUT, "no answer in time");
    rv__io_request q = {.url = url,
                        .headers = headers,
                        .guard = f->guard,
                        .max_bytes = (int64_t)f->limits.bytes,
                        .total_ms = left > INT32_MAX ? INT32_MAX : (int)left};
    f->hops++;
    return rv__io_start(f->io, &q, &transfer_events, f, err);
}

rv_status rv__fetch_start(rv__io *io, const rv__guard *guard, const char *url,
                          const rv__fetch_limits *limits, const rv__fetch_events *events, void *user,
                          rv_error *err)
{
    fetch *f = rv__calloc(1, sizeof *f);
    if (!f)
        return rv__fail(err, RV_MEMORY, "out of memory");
    f->io = io;
    f->guard = guard;
    f->events = events;
    f->user = user;
    f->limits = *limits;
    f->deadline_ms = rv__clock_ms() + limits->timeout_ms;
    rv__buf_init(&f->file, limits->bytes + 1);
    rv_status s = begin_hop(f, url, err);
    if (s != RV_OK)
        fetch_free(f);
    return s;
}
