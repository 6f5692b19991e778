/* Draws progress.  Only standard error is written to, so that a picture may go to standard output.
 */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

enum { WIDTH = 30 };

void rv__progress_begin(rv__progress *p)
{
    *p = (rv__progress){.begun_ms = rv__clock_ms(), .is_terminal = isatty(STDERR_FILENO)};
}

double rv__progress_seconds(const rv__progress *p)
{
    return (double)(rv__clock_ms() - p->begun_ms) / 1000;
}

void rv__progress_step(rv__progress *p, size_t index, size_t count, int step, int steps)
{
    char picture[48] = "";
    if (count > 1)
        snprintf(picture, sizeof picture, "picture %zu/%zu  ", index + 1, count);
    if (!p->is_terminal) {
        fprintf(stderr, "%sstep %d/%d  %.1f s\n", picture, step, steps, rv__progress_seconds(p));
        return;
    }
    int done = steps > 0 ? (int)((int64_t)WIDTH * step / steps) : 0;
    char bar[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < done ? '#' : '.';
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r%s[%s] step %d/%d  %.1f s\033[K", picture, bar, step, steps,
            rv__progress_seconds(p));
    fflush(stderr);
    p->is_shown = true;
}

void rv__progress_clear(rv__progress *p)
{
    if (p->is_shown)
        fputs("\r\033[K", stderr);
    p->is_shown = false;
}
