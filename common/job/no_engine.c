/* In place of the engine in the library that hosts with no engine of their own link: nginx workers
 * must not carry weights, and a web server should not load what computes them. */
#include "job/executor.h"

rv_status rv__engine_open(const rv__executor_options *o, const rv__executor **executor, void **self,
                          rv_error *err)
{
    return rv__fail(err, RV_UNSUPPORTED,
                    "this program runs no models itself: name a daemon that does");
}
