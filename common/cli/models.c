/* `reverie models`: the model cards of this installation. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/commands.h"

static void print_model(const rv__value *m)
{
    printf("%-16s %s", rv__json_get_string(m, "id", ""), rv__json_get_string(m, "name", ""));
    const char *before = "  (";
    const rv__value *aliases = rv__json_get(m, "aliases");
    for (const rv__value *a = rv__json_first(aliases); a; a = rv__json_next(a)) {
        const char *text = rv__json_string(a);
        printf("%s%s", before, text ? text : "");
        before = ", ";
    }
    puts(rv__json_size(aliases) ? ")" : "");
}

int rv__command_models(int argc, char **argv)
{
    bool as_json = argc == 2 && strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !as_json) {
        bool is_help = strcmp(argv[1], "--help") == 0;
        fputs("usage: reverie models [--json]\n", is_help ? stdout : stderr);
        return is_help ? 0 : 2;
    }
    rv *r = rv__cli_open();
    if (!r)
        return 1;
    char *json = rv_models_json(r);
    rv__value *list = json ? rv__json_parse(json, strlen(json), NULL) : NULL;
    if (as_json && json)
        puts(json);
    for (const rv__value *m = as_json ? NULL : rv__json_first(list); m; m = rv__json_next(m))
        print_model(m);
    rv__json_free(list);
    rv_free(json);
    rv_close(r);
    return json ? 0 : rv__cli_fail("", "out of memory");
}
