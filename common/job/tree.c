/* A program that was built and not installed finds the model cards of its source tree beside the
 * build folder. */
#include "tree.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "job/context.h"

void rv__tree_models(rv *r)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (r->models_given || n <= 0 || access(RV_MODELS_DIR, R_OK) == 0)
        return;
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (!slash)
        return;
    *slash = '\0';
    char *folder = rv__format("%s/../config/models", path);
    rv_error err;
    if (folder && access(folder, R_OK) == 0 && rv_set(r, "models", folder, &err) != RV_OK)
        rv__context_log(r, RV_LOG_ERROR, "models: %s", err.message);
    rv__free(folder);
}
