/* See inputs.h.  What is told to the one who sent the URL never says what was found behind it: an
 * address that is not allowed, one that does not answer and a name that is not known look the
 * same. */
#include "job/inputs.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/uuid.h"
#include "image/image.h"
#include "image/raster.h"
#include "job/upload.h"
#include "remote/fetch.h"

enum { URLS = RV__INPUTS + 2 };

/* Pictures first. */
static const char *const parameters[URLS] = {"seedImage", "maskImage", "webhookURL",
                                             "uploadEndpoint"};

static bool is_url(const char *text)
{
    return text && (strncasecmp(text, "http://", 7) == 0 || strncasecmp(text, "https://", 8) == 0);
}

/* "invalidSeedImage" */
static rv_status refuse(rv_error *err, const char *parameter, const char *why)
{
    char code[64];
    snprintf(code, sizeof code, "invalid%s", parameter);
    code[strlen("invalid")] = (char)toupper((unsigned char)*parameter);
    return rv__fail_code(err, RV_VALIDATION, code, parameter, "%s: %s", parameter, why);
}

/* The name of a stored picture in a URL of ours, else NULL. */
static const char *stored_name(const char *url, const char *prefix)
{
    size_t len = prefix ? strlen(prefix) : 0;
    int64_t expiry;
    bool is_ours = len && strncmp(url, prefix, len) == 0 && rv__store_expiry(url + len, &expiry);
    return is_ours ? url + len : NULL;
}

rv_status rv__inputs_check(rv *r, const rv_task *t, const char *results_url, rv_error *err)
{
    rv_error why;
    if (!rv__context_guards(r))
        return RV_OK;
    if (results_url)
        rv__context_store(r, NULL); /* without it none of these URLs is one of ours */
    for (int i = 0; i < URLS; i++) {
        const char *text = rv__json_get_string(rv__task_value(t), parameters[i], NULL);
        bool is_ours = i < RV__INPUTS && r->store && text && stored_name(text, results_url);
        if (!is_url(text) || is_ours)
            continue;
        rv_status s = rv__context_guard(r, err);
        if (s != RV_OK)
            return s;
        s = rv__guard_url(r->guard, text, NULL, &why);
        if (s == RV_VALIDATION)
            return refuse(err, parameters[i], why.message);
        if (s != RV_OK)
            return rv__fail(err, s, "%s", why.message);
    }
    return RV_OK;
}

rv_status rv__inputs_new(const rv_job *j, rv__inputs **out)
{
    rv__inputs found = {0};
    bool any = false;
    *out = NULL;
    for (int i = 0; i < RV__INPUTS; i++) {
        const char *text = rv__json_get_string(rv__task_value(j->task), parameters[i], NULL);
        bool is_named = text && j->r->desk && rv__uuid_valid(text, strlen(text));
        if (!is_url(text) && !is_named)
            continue;
        found.list[i] = (rv__input){.parameter = parameters[i], .url = text, .is_named = is_named};
        found.list[i].is_stored =
            is_named || (j->store && stored_name(text, j->results_url));
        any = true;
    }
    if (!any)
        return RV_OK;
    *out = rv__alloc(sizeof found);
    if (!*out)
        return RV_MEMORY;
    **out = found;
    return RV_OK;
}

void rv__inputs_free(rv__inputs *i)
{
    for (int k = 0; i && k < RV__INPUTS; k++)
        rv__free(i->list[k].bytes);
    rv__free(i);
}

bool rv__inputs_get(const rv__inputs *i, const char *parameter, const uint8_t **bytes, size_t *len)
{
    for (int k = 0; i && k < RV__INPUTS; k++) {
        const rv__input *in = &i->list[k];
        if (!in->parameter || !in->bytes || strcmp(in->parameter, parameter) != 0)
            continue;
        *bytes = (const uint8_t *)in->bytes;
        *len = in->len;
        return true;
    }
    return false;
}

/* ---- fetching, on the I/O thread ---- */

static void fetch_next(rv_job *j);

static rv_status explain(rv_job *j, const rv__input *in, rv_status status, rv_error *err)
{
    rv_error why = *err;
    if (status == RV_OK || status == RV_CANCELLED || status == RV_MEMORY)
        return status;
    bool is_refused = strcmp(why.code, RV__ADDRESS_REFUSED) == 0;
    char *place = rv__guard_log_form(in->url);
    rv__context_log(j->r, is_refused ? RV_LOG_WARN : RV_LOG_INFO, "%s: %s: %s", in->parameter,
                    place ? place : "", why.message);
    rv__free(place);
    if (is_refused)
        atomic_fetch_add(&j->r->fetches_refused, 1);
    if (status == RV_VALIDATION)
        return refuse(err, in->parameter, why.message);
    return rv__fail_code(err, RV_VALIDATION, "downloadFailed", in->parameter,
                         "%s: the picture cannot be fetched from this URL", in->parameter);
}

static void on_fetched(void *user, rv_status status, rv__buf *file, const rv_error *why)
{
    rv_job *j = user;
    rv__input *in = &j->inputs->list[j->inputs->next];
    rv_error err = *why;
    if (status == RV_OK)
        status = rv__image_check(file->data, file->len, RV__INPUT_PIXELS, NULL, &err) == RV_OK
                     ? RV_OK
                     : RV_VALIDATION;
    if (status == RV_OK) {
        in->bytes = rv__buf_take(file, &in->len);
        status = in->bytes ? RV_OK : rv__fail(&err, RV_MEMORY, "out of memory");
    }
    status = explain(j, in, status, &err);
    j->inputs->next++;
    if (status == RV_OK)
        fetch_next(j);
    else
        rv__job_ready(j, status, &err);
}

static bool on_cancelled(void *user)
{
    return atomic_load_explicit(&((rv_job *)user)->cancel, memory_order_relaxed);
}

static void fetch_next(rv_job *j)
{
    static const rv__fetch_events events = {on_fetched, on_cancelled};
    const rv__setup *s = &j->r->setup;
    rv__fetch_limits limits = {s->fetch_timeout * 1000, (size_t)s->fetch_size};
    rv__inputs *inputs = j->inputs;
    rv_error err;
    rv__error_clear(&err);
    while (inputs->next < RV__INPUTS) {
        const rv__input *in = &inputs->list[inputs->next];
        if (in->parameter && !in->is_stored) {
            rv_status status = rv__fetch_start(j->r->io, j->r->guard, in->url, &limits, &events, j,
                                               &err);
            if (status != RV_OK)
                rv__job_ready(j, status, &err);
            return;
        }
        inputs->next++;
    }
    rv__job_ready(j, RV_OK, &err);
}

void rv__inputs_start(rv_job *j)
{
    rv_error err;
    rv_status s = rv__context_io(j->r, &err);
    if (s == RV_OK)
        fetch_next(j);
    else
        rv__job_ready(j, s, &err);
}

/* ---- stored pictures, on a worker thread ---- */

static rv_status read_stored(rv_job *j, rv__input *in, rv_error *err)
{
    if (!in->is_named)
        return rv__store_read(j->store, stored_name(in->url, j->results_url),
                              (size_t)j->r->setup.fetch_size, &in->bytes, &in->len, err);
    const char *end = j->id ? strrchr(j->id, '/') : NULL;
    char *owner = rv__strndup(end ? j->id : "", end ? (size_t)(end - j->id) : 0);
    rv_status s = owner ? rv__upload_read(j->r, j->store, owner, in->url, &in->bytes, &in->len, err)
                        : rv__fail(err, RV_MEMORY, "out of memory");
    rv__free(owner);
    return s;
}

rv_status rv__inputs_open(rv_job *j, rv_error *err)
{
    for (int k = 0; j->inputs && k < RV__INPUTS; k++) {
        rv__input *in = &j->inputs->list[k];
        if (!in->is_stored || in->bytes)
            continue;
        rv_status s = read_stored(j, in, err);
        if (s == RV_NOT_FOUND)
            return refuse(err, in->parameter, "this picture is not stored any more");
        if (s != RV_OK)
            return s;
    }
    return RV_OK;
}
