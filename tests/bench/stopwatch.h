/* What the benchmarks measure with: a clock that only goes forward, and the middle of several values.  Nothing but
 * tests/bench includes it. */
#ifndef STOPWATCH_H
#define STOPWATCH_H

#include <stdlib.h>
#include <time.h>

static inline double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline double now_us(void)
{
    return seconds() * 1e6;
}

static inline int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Sorts the values. */
static inline double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
    return values[n / 2];
}

#endif
