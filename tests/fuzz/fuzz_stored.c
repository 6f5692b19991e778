/* Rows of the queue that something else has written: texts of a record, one per line, in any state.  What is said about
 * such a task is JSON, or that it cannot be said. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "job/response.h"

static char *next(const char **at, const char *end)
{
    const char *line = *at < end ? memchr(*at, '\n', (size_t)(end - *at)) : NULL;
    size_t len = line ? (size_t)(line - *at) : (size_t)(end - *at);
    char *text = len ? rv__strndup(*at, len) : NULL;
    *at = line ? line + 1 : end;
    return text;
}

static void must_be_list(const char *items)
{
    rv__buf b;
    rv__buf_init(&b, 1 << 26);
    rv__buf_addf(&b, "[%s]", items);
    rv__value *v = rv__json_parse(b.data, b.len, NULL);
    if (!v)
        abort();
    rv__json_free(v);
    rv__buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    const char *at = (const char *)data + 2, *end = (const char *)data + size;
    char *items[3] = {0};
    rv__record r = {.id = rv__strdup("/00000000-0000-4000-8000-000000000001"),
                    .state = data[0] % 6,
                    .count = data[1] % 4,
                    .is_drawn = data[1] & 8,
                    .task = next(&at, end),
                    .error = next(&at, end),
                    .warnings = next(&at, end),
                    .results_url = next(&at, end)};
    rv__record other = {.id = r.id, .task = NULL, .count = r.count};
    r.items = items;
    for (size_t i = 0; i < r.count; i++)
        items[i] = next(&at, end);
    other.task = next(&at, end);
    char *out = NULL, *errors = NULL;
    rv_error err = {0};
    bool same;
    if (rv__response_write(&r, NULL, &out, &errors, &err) == RV_OK) {
        if (!out)
            abort();
        if (!strchr((const char *)r.task, '\0')) /* keeps the text alive for the sanitizer */
            abort();
    } else if (!*err.message) {
        abort();
    }
    rv__told told = {0};
    size_t len;
    rv__free(rv__response_stream(&r, &told, &len));
    (void)rv__response_has_result(&r);
    (void)rv__record_same(&r, &other, &same);
    if (out && !r.error && !r.warnings && r.count == 0)
        must_be_list(out);
    rv__free(out);
    rv__free(errors);
    rv__free(other.task);
    rv__free(r.id);
    rv__free(r.task);
    rv__free(r.error);
    rv__free(r.warnings);
    rv__free(r.results_url);
    for (size_t i = 0; i < r.count; i++)
        rv__free(items[i]);
    return 0;
}
