/* The recipe that a layer of GIMP brings along (a parasite of any picture somebody opens), and the stored wishes of the
 * window, which are the same text: read, written, read again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gimp_plugin/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (memchr(data, '\0', size) || !g_utf8_validate((const char *)data, (gssize)size, NULL))
        return 0; /* recipe.c does not let it pass */
    char *text = g_strndup((const char *)data, size);
    GError *error = NULL;
    grv_request *q = grv_request_parse(text, &error);
    if (!q && (!error || !*error->message))
        abort();
    g_clear_error(&error);
    g_free(text);
    if (q) {
        text = grv_request_text(q, NULL);
        grv_request *again = grv_request_parse(text, &error);
        char *same = again ? grv_request_text(again, NULL) : NULL;
        if (!same || strcmp(same, text) != 0)
            abort();
        for (const grv_option *o = grv_options; o->name; o++) {
            int n = o->kind == GRV_NUMBER ? grv_request_int(q, o->name) : o->min;
            if (n < o->min || n > o->max)
                abort();
        }
        grv_request_free(again);
        g_free(same);
        g_free(text);
    }
    if (q)
        grv_request_free(q);
    return 0;
}
