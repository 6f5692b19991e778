/* See process.h. */
#include "process.h"

#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

void rv__process_calm(char **argv)
{
    const char *policy = getenv("OMP_WAIT_POLICY");
    int is_right = policy && strcasecmp(policy, "passive") == 0 && !getenv("OPENBLAS_CORETYPE");

    if (is_right || setenv("OMP_WAIT_POLICY", "passive", 1) != 0 ||
        unsetenv("OPENBLAS_CORETYPE") != 0)
        return;
    execv("/proc/self/exe", argv);
}
