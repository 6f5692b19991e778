/* The status table: word, wire code, HTTP status, retryable and sentence of every rv_status, each written once. */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *word, *code;
    int         http;
    bool        retryable;
    const char *text;
} table[] = {
    [RV_OK] = {"ok", "", 200, false, "no error"},
    [RV_VALIDATION] = {"validation", "invalidRequestBody", 400, false, "the request is wrong"},
    [RV_AUTH] = {"auth", "invalidApiKey", 401, false, "the API key is missing or wrong"},
    [RV_QUOTA] = {"quota", "insufficientCredits", 402, false, "out of credits"},
    [RV_SAFETY] = {"safety", "contentPolicyViolation", 400, false, "refused by a content policy"},
    [RV_NOT_FOUND] = {"notFound", "taskNotFound", 404, false, "not found"},
    [RV_RATE_LIMIT] = {"rateLimit", "rateLimitExceeded", 429, true, "too many requests"},
    [RV_BUSY] = {"busy", "serviceUnavailable", 503, true, "busy, try again later"},
    [RV_TIMEOUT] = {"timeout", "providerTimeout", 504, true, "no answer in time"},
    [RV_CONNECTION] = {"connection", "providerError", 502, true, "the other side cannot be reached"},
    [RV_PROVIDER] = {"provider", "providerError", 502, true, "the other side answered with an error"},
    [RV_SERVER] = {"serverError", "internalServerError", 500, true, "the other side failed"},
    [RV_CANCELLED] = {"cancelled", "taskCancelled", 499, false, "cancelled"},
    [RV_UNSUPPORTED] = {"unsupported", "unsupportedParameter", 400, false, "not supported here"},
    [RV_IO] = {"io", "internalServerError", 500, false, "a file cannot be read or written"},
    [RV_FORMAT] = {"format", "internalServerError", 500, false, "a file is damaged or of the wrong kind"},
    [RV_MEMORY] = {"memory", "internalServerError", 500, true, "out of memory"},
    [RV_INTERNAL] = {"internal", "internalServerError", 500, false, "internal error"},
    [RV_MISUSE] = {"misuse", "internalServerError", 500, false, "the library was used wrongly"},
};

static size_t row(rv_status s)
{
    return (size_t)s < sizeof table / sizeof *table ? (size_t)s : RV_INTERNAL;
}

const char *rv_status_word(rv_status s)
{
    return table[row(s)].word;
}

int rv_status_http(rv_status s)
{
    return table[row(s)].http;
}

bool rv_status_retryable(rv_status s)
{
    return table[row(s)].retryable;
}

const char *rv_status_text(rv_status s)
{
    return table[row(s)].text;
}

const char *rv_version(void)
{
    return RV_VERSION;
}

void rv__error_clear(rv_error *err)
{
    if (err)
        *err = (rv_error){.retry_after_ms = -1};
}

static void fill(rv_error *err, rv_status status, const char *code, const char *parameter, const char *format,
                 va_list args)
{
    rv__error_clear(err);
    err->status = status;
    snprintf(err->code, sizeof err->code, "%s", code ? code : table[row(status)].code);
    snprintf(err->parameter, sizeof err->parameter, "%s", parameter ? parameter : "");
    vsnprintf(err->message, sizeof err->message, format, args);
}

rv_status rv__fail(rv_error *err, rv_status status, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        fill(err, status, NULL, NULL, format, args);
        va_end(args);
    }
    return status;
}

rv_status rv__fail_code(rv_error *err, rv_status status, const char *code, const char *parameter, const char *format,
                        ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        fill(err, status, code, parameter, format, args);
        va_end(args);
    }
    return status;
}
