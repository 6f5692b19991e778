/* `reverie quantize IN OUT TYPE`: a model folder or file as one GGUF file, smaller if wanted. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "engine/weights_write.h"

#define MAX_ROWS 64 /* parts times types */

/* What became of the tensors of one part. */
typedef struct row {
    const char *part;
    enum ggml_type to;
    size_t tensors, bytes;
} row;

typedef struct summary {
    row rows[MAX_ROWS];
    size_t count;
    size_t done, total; /* bytes read so far, of all */
    bool terminal;
} summary;

static void note(void *user, const char *part, const rv__tensor *t, enum ggml_type to, size_t bytes)
{
    summary *s = user;
    size_t i = 0;
    while (i < s->count && (s->rows[i].to != to || strcmp(s->rows[i].part, part) != 0))
        i++;
    if (i == s->count && s->count < MAX_ROWS)
        s->rows[s->count++] = (row){.part = part, .to = to};
    if (i < s->count) {
        s->rows[i].tensors++;
        s->rows[i].bytes += bytes;
    }
    s->done += t->size;
    if (s->terminal) {
        fprintf(stderr, "\r%3.0f %% ", 100.0 * (double)s->done / (double)s->total);
        fflush(stderr);
    }
}

static size_t total_bytes(const rv__weights *w)
{
    size_t total = 0, count;
    for (size_t p = 0; rv__weights_part_name(w, p); p++) {
        const rv__tensor *list = rv__weights_list(w, rv__weights_part_name(w, p), &count);
        for (size_t i = 0; i < count; i++)
            total += list[i].size;
    }
    return total;
}

static void print_summary(const summary *s)
{
    for (size_t i = 0; i < s->count; i++) {
        const row *r = &s->rows[i];
        printf("%-16s %6zu tensors  %-6s %12.1f MB\n", r->part, r->tensors,
               r->to == GGML_TYPE_COUNT ? "left out" : ggml_type_name(r->to),
               (double)r->bytes / 1e6);
    }
}

int rv__command_quantize(int argc, char **argv)
{
    enum ggml_type type = argc == 4 ? rv__weights_type(argv[3]) : GGML_TYPE_COUNT;
    if (type == GGML_TYPE_COUNT) {
        fprintf(stderr, "usage: reverie quantize IN OUT TYPE\n\n"
                        "Writes the model IN (a folder, a GGUF file, or '{\"transformer\": FILE, …}'"
                        ") as the single GGUF file OUT.\n"
                        "TYPE (f32 f16 bf16 q8_0 q6_K q5_K q4_K q4_0) is for the linear layers of "
                        "the transformer and\n"
                        "the text encoders; norms, biases, routers, embeddings and the VAE keep "
                        "their exact values.\n");
        return 2;
    }
    rv__weights *w;
    rv_error err = {0};
    summary s = {.terminal = isatty(STDERR_FILENO) == 1};
    rv_status status = rv__weights_open(argv[1], &w, &err);
    if (status == RV_OK) {
        s.total = total_bytes(w);
        status = rv__weights_write(w, argv[2], type, 0, note, &s, &err);
    }
    if (s.terminal)
        fputs("\r      \r", stderr);
    if (status == RV_OK)
        print_summary(&s);
    else
        fprintf(stderr, "reverie: %s\n", err.message);
    rv__weights_close(w);
    return status == RV_OK ? 0 : 1;
}
