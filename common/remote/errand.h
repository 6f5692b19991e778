/* One task on its way through a service (see service.h). */
#ifndef RV_ERRAND_H
#define RV_ERRAND_H

#include "remote/fetch.h"
#include "remote/memo.h"
#include "remote/retry.h"
#include "remote/service.h"

/* The uuid of a picture's facts by which the port knows that seed and cost come from elsewhere. */
#define RV__ELSEWHERE "-"

typedef struct rv__errand_options {
    rv__io *io;
    const rv__guard *guard;
    rv__breakers *breakers;
    const char *ca_file;                 /* NULL: the system's certificates            */
    int connect_ms, silence_s, pause_ms; /* 0: as usual; tests make them short         */
} rv__errand_options;

/* Begins; port->end follows on RV_OK, from the I/O thread.  `with` and the port's route must live
 * until then. */
rv_status rv__errand_start(const rv__errand_options *with, const rv_task *t, rv__port *port,
                           rv_error *err);

#endif
