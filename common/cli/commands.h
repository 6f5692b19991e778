/* The sub-commands of `reverie`.  Each gets its own name as argv[0] and returns the exit status: 0
 * fine, 1 failed, 2 wrong usage.  A new one is declared here and listed in reverie.c and
 * meson.build. */
#ifndef RV_COMMANDS_H
#define RV_COMMANDS_H

#include "reverie.h"

typedef int rv__command_fn(int argc, char **argv);

rv__command_fn rv__command_check;    /* check.c    */
rv__command_fn rv__command_generate; /* generate.c */
rv__command_fn rv__command_inspect;  /* inspect.c  */
rv__command_fn rv__command_models;   /* models.c   */
rv__command_fn rv__command_outbox;   /* outbox.c   */
rv__command_fn rv__command_parity;   /* parity.c   */
rv__command_fn rv__command_quantize; /* quantize.c */
rv__command_fn rv__command_rpc_server; /* rpc_serve.c */
rv__command_fn rv__command_schema;   /* schema.c   */

/* A context with the model cards of this installation or source tree; NULL (and a message) when
 * that fails. */
rv *rv__cli_open(void);

/* "reverie: CONTEXT: MESSAGE" on standard error; returns 1. */
int rv__cli_fail(const char *context, const char *message);

#endif
