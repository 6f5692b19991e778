/* `reverie check`: what is wrong with a request, as JSON.  Exit status 0: nothing, 1: errors, 2:
 * the file cannot be read or the command is misused. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "cli/commands.h"
#include "request/task.h"

#define MAX_BODY ((size_t)256 << 20)

static int usage(int status)
{
    fputs("usage: reverie check [--models PATH] [--strict-uuid] [--lenient] [--normal | --cost] FILE|-\n\n"
          "Prints the issues of a request as a JSON array; warnings have \"warning\": true.\n"
          "  --models PATH   a model card or a folder of them, instead of the installed ones\n"
          "  --strict-uuid   task UUIDs must be version 4\n"
          "  --lenient       parameters that nobody knows are warnings\n"
          "  --normal        prints the normalised tasks instead, one per line\n"
          "  --cost          prints what each task will cost instead, one per line, and where the\n"
          "                  model's card names several executors, what it costs at each\n",
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
        const char *json = t ? rv_task_json(t, NULL) : NULL;
        if (json)
            puts(json);
    }
    return rv_batch_issues(b, NULL) ? 1 : 0;
}

static void write_cost(rv__buf *b, double cost)
{
    rv__buf_adds(b, ",\"cost\":");
    if (cost < 0)
        rv__buf_adds(b, "null");
    else
        rv__json_write_double(b, cost);
}

/* What the executors of the card cost for all pictures of the task; an entry without a price of its
 * own has the card's. */
static void write_executors(rv__buf *b, const rv_task *t)
{
    const rv__value *list = rv__json_get(rv__task_model(t)->card, "executors");
    rv__buf_adds(b, ",\"executors\":[");
    for (const rv__value *e = rv__json_first(list); e; e = rv__json_next(e)) {
        const rv__value *price = rv__json_get(e, "price");
        double one = price ? rv__task_price(t, price) : rv__task_cost(t);
        rv__buf_adds(b, e == rv__json_first(list) ? "{\"name\":" : ",{\"name\":");
        rv__json_write_string(b, rv__json_get_string(e, "name", ""));
        write_cost(b, one * (double)rv__task_results(t));
        rv__buf_adds(b, "}");
    }
    rv__buf_adds(b, "]");
}

/* {"task":0,"taskUUID":…,"model":…,"results":2,"cost":0.0076,"executors":[{"name":…,"cost":…}]}; US
 * dollars, null where nobody knows. */
static int print_costs(rv_batch *batch)
{
    for (size_t i = 0; i < rv_batch_size(batch); i++) {
        const rv_task *t = rv_batch_task(batch, i);
        rv_task_info facts = t ? rv_task_facts(t) : (rv_task_info){0};
        if (!facts.model)
            continue;
        rv__buf b;
        rv__buf_init(&b, 1 << 16);
        rv__buf_addf(&b, "{\"task\":%zu,\"taskUUID\":", i);
        rv__json_write_string(&b, facts.uuid ? facts.uuid : "");
        rv__buf_adds(&b, ",\"model\":");
        rv__json_write_string(&b, facts.model);
        rv__buf_addf(&b, ",\"results\":%zu", facts.results);
        write_cost(&b, facts.cost);
        write_executors(&b, t);
        rv__buf_adds(&b, "}");
        char *line = rv__buf_take(&b, NULL);
        if (!line)
            return rv__cli_fail("", "out of memory") + 1;
        puts(line);
        rv__free(line);
    }
    return rv_batch_issues(batch, NULL) ? 1 : 0;
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

enum { ISSUES, NORMAL, COST };

static int check(rv *r, const char *path, int what)
{
    size_t len;
    char *text = read_all(path, &len);
    if (!text)
        return rv__cli_fail(path, "cannot be read") + 1;
    rv_batch *b = rv_batch_parse(r, text, len);
    int status = !b               ? rv__cli_fail("", "out of memory") + 1
                 : what == NORMAL ? print_normal(b)
                 : what == COST   ? print_costs(b)
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
    bool strict_uuid = false, lenient = false;
    int what = ISSUES;
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
            what = NORMAL;
        else if (strcmp(argv[i], "--cost") == 0)
            what = COST;
        else if (path || (argv[i][0] == '-' && argv[i][1]))
            return usage(2);
        else
            path = argv[i];
    }
    if (!path)
        return usage(2);
    rv *r = open_with(models, strict_uuid, lenient);
    int status = r ? check(r, path, what) : 2;
    rv_close(r);
    return status;
}
