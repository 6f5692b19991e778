/* What the files of the scheduler share.  Nobody else includes it. */
#ifndef RV_SCHEDULER_INTERNAL_H
#define RV_SCHEDULER_INTERNAL_H

#include "scheduler.h"

/* Fills sigmas[0 .. steps] (the last is 0) and timesteps[0 .. steps - 1] for a checked configuration.  Sigmas are
 * rounded to float, as the reference keeps them. */
void rv__scheduler_sigmas(const rv__scheduler_config *c, int steps, double *sigmas, double *timesteps);

#endif
