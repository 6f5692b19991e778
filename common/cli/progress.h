/* Progress of a task on standard error: a bar on a terminal, plain lines elsewhere. */
#ifndef RV_PROGRESS_H
#define RV_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rv__progress {
    int64_t begun_ms;
    bool is_terminal, is_shown;
} rv__progress;

void rv__progress_begin(rv__progress *p);
void rv__progress_step(rv__progress *p, size_t index, size_t count, int step, int steps);
void rv__progress_clear(rv__progress *p); /* before something else is printed */
double rv__progress_seconds(const rv__progress *p);

#endif
