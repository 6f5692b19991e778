/* Time that only goes forward. */
#ifndef RV_CLOCK_H
#define RV_CLOCK_H

#include <stdint.h>

/* Milliseconds on the monotonic clock: for deadlines and durations, not for dates.  Any thread. */
int64_t rv__clock_ms(void);

#endif
