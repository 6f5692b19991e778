/* `reverie schema`: the JSON schema of a model, and the texts that the sources keep a copy of. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "engine/scheduler.h"
#include "remote/service.h"
#include "request/describe.h"

static int usage(int status)
{
    fputs("usage: reverie schema MODEL          the JSON schema of a model's tasks\n"
          "       reverie schema --docs         the reference page of all parameters\n"
          "       reverie schema --schedulers   what every scheduler name means\n"
          "       reverie schema --services     what services of others take\n",
          status ? stderr : stdout);
    return status;
}

/* Prints and frees a text. */
static int print(char *text)
{
    if (!text)
        return rv__cli_fail("", "out of memory");
    fputs(text, stdout);
    rv_free(text);
    return 0;
}

static int print_schema(const char *model)
{
    rv *r = rv__cli_open();
    if (!r)
        return 1;
    char *json = rv_schema_json(r, model);
    int status =
        json ? print(json) : rv__cli_fail(model, "is not a model here (see reverie models)");
    if (!status)
        putchar('\n');
    rv_close(r);
    return status;
}

int rv__command_schema(int argc, char **argv)
{
    if (argc != 2)
        return usage(2);
    if (strcmp(argv[1], "--help") == 0)
        return usage(0);
    if (strcmp(argv[1], "--docs") == 0)
        return print(rv__parameters_page());
    if (strcmp(argv[1], "--schedulers") == 0)
        return print(rv__scheduler_page());
    if (strcmp(argv[1], "--services") == 0)
        return print(rv__services_page());
    return argv[1][0] == '-' ? usage(2) : print_schema(argv[1]);
}
