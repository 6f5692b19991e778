/* `reverie check`: what is wrong with a request, as JSON.  Exit status 0: nothing, 1: errors, 2:
 * the file cannot be read or the command is misused. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "cli/commands.h"

#define MAX_BODY ((size_t)256 << 20)

static int usage(int status)
{
    fputs("usage: reverie check [--models PATH] [--strict-uuid] [--lenient] [--normal] FILE|-\n\n"
          "Prints the issues of a request as a JSON array; warnings have \"warning\": true.\n"
          "  --models PATH   a model card or a folder of them, instead of the installed ones\n"
          "  --strict-uuid   task UUIDs must be version 4\n"
          "  --lenient       parameters that nobody knows are warnings\n"
          "  --normal        prints the normalised tasks instead, one per line\n",
          status ? stderr : stdout);
    return status;
}

/* The whole file, or NULL. */
static char *read_all(const char *path, size_t *len)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (!f)
        return NULL;
    rv__buf b;
    rv__buf_init(&b, MAX_BODY);
    char part[65536];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;)
        rv__buf_add(&b, part, n);
    bool bad = ferror(f);
    if (f != stdin)
        fclose(f);
    if (!bad)
        return rv__buf_take(&b, len);
    rv__buf_free(&b);
    return NULL;
}

static int print_normal(rv_batch *b)
{
    for (size_t i = 0; i < rv_batch_size(b); i++) {
        const rv_task *t = rv_batch_task(b, i);
        if (t)
            puts(rv_task_json(t, NULL));
    }
    return rv_batch_issues(b, NULL) ? 1 : 0;
}

static int print_issues(const rv_batch *b)
{
    char *json = rv_batch_issues_json(b);
    if (!json)
        return rv__cli_fail("", "out of memory") + 1;
    puts(json);
    rv_free(json);
    return rv_batch_issues(b, NULL) ? 1 : 0;
}

static int check(rv *r, const char *path, bool normal)
{
    size_t len;
    char *text = read_all(path, &len);
    if (!text)
        return rv__cli_fail(path, "cannot be read") + 1;
    rv_batch *b = rv_batch_parse(r, text, len);
    int status = !b       ? rv__cli_fail("", "out of memory") + 1
                 : normal ? print_normal(b)
                          : print_issues(b);
    rv_batch_unref(b);
    rv__free(text);
    return status;
}

/* A context with the settings of the command line; NULL when one is wrong. */
static rv *open_with(const char *models, bool strict_uuid, bool lenient)
{
    rv_error err = {0};
    rv *r = NULL;
    if (!models)
        r = rv__cli_open();
    else if (rv_open(&r) == RV_OK && rv_set(r, "models", models, &err) != RV_OK) {
        rv__cli_fail("", err.message);
        rv_close(r);
        r = NULL;
    }
    if (r) {
        rv_set(r, "strict_uuid", strict_uuid ? "on" : "off", NULL);
        rv_set(r, "strict", lenient ? "off" : "on", NULL);
    }
    return r;
}

int rv__command_check(int argc, char **argv)
{
    const char *path = NULL, *models = NULL;
    bool strict_uuid = false, lenient = false, normal = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            return usage(0);
        if (strcmp(argv[i], "--models") == 0 && i + 1 < argc)
            models = argv[++i];
        else if (strcmp(argv[i], "--strict-uuid") == 0)
            strict_uuid = true;
        else if (strcmp(argv[i], "--lenient") == 0)
            lenient = true;
        else if (strcmp(argv[i], "--normal") == 0)
            normal = true;
        else if (path || (argv[i][0] == '-' && argv[i][1]))
            return usage(2);
        else
            path = argv[i];
    }
    if (!path)
        return usage(2);
    rv *r = open_with(models, strict_uuid, lenient);
    int status = r ? check(r, path, normal) : 2;
    rv_close(r);
    return status;
}
