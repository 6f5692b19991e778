/* The command line: finds the sub-command and hands over. */
#include <stdio.h>
#include <string.h>

#include "base/process.h"
#include "cli/commands.h"
#include "job/tree.h"

static int version(int argc, char **argv)
{
    printf("reverie %s\n", rv_version());
    return 0;
}

static const struct {
    const char *name;
    rv__command_fn *run;
    const char *help;
    bool computes; /* runs the engine */
} commands[] = {
    {"check", rv__command_check, "tell what is wrong with a request"},
    {"generate", rv__command_generate, "turn a prompt into a picture", true},
    {"inspect", rv__command_inspect, "say what a weight file or folder is"},
    {"models", rv__command_models, "list the models"},
    {"outbox", rv__command_outbox, "list webhooks and uploads that failed, send them again"},
    {"parity", rv__command_parity, "compare results with reference results", true},
    {"quantize", rv__command_quantize, "write a model as one smaller file"},
    {"rpc-server", rv__command_rpc_server, "hold some blocks of a model for another machine", true},
    {"schema", rv__command_schema, "print the JSON schema of a model"},
    {"version", version, "print the version"},
};

enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *to)
{
    fputs("usage: reverie COMMAND [ARGUMENT ...]\n\n", to);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].help);
    fputs("\nreverie COMMAND --help tells more.\n", to);
}

rv *rv__cli_open(void)
{
    rv *r;
    if (rv_open(&r) != RV_OK) {
        rv__cli_fail("", "out of memory");
        return NULL;
    }
    rv__tree_models(r);
    return r;
}

int rv__cli_fail(const char *context, const char *message)
{
    fprintf(stderr, "reverie: %s%s%s\n", context, *context ? ": " : "", message);
    return 1;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0)
        name = "version";
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) != 0)
            continue;
        if (commands[i].computes)
            rv__process_calm(argv);
        return commands[i].run(argc - 1, argv + 1);
    }
    if (*name)
        fprintf(stderr, "reverie: there is no command \"%s\"\n", name);
    print_help(stderr);
    return 2;
}
