/* The sub-commands of `reverie`.  Each gets its own name as argv[0] and returns the exit status of the process. */
#ifndef RV_COMMANDS_H
#define RV_COMMANDS_H

int rv__cmd_parity(int argc, char **argv);   /* parity MODEL_DIR GOLDENS_DIR    */
int rv__cmd_inspect(int argc, char **argv);  /* inspect FILE|DIR                */
int rv__cmd_quantize(int argc, char **argv); /* quantize IN OUT TYPE            */

#endif
