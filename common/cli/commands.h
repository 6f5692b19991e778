/* The sub-commands of `reverie`.  Each gets its own name as argv[0] and returns the exit status: 0 fine, 1 failed,
 * 2 wrong usage. */
#ifndef RV_COMMANDS_H
#define RV_COMMANDS_H

#include "reverie.h"

typedef int rv__command_fn(int argc, char **argv);

rv__command_fn rv__command_parity; /* parity.c */

#endif
