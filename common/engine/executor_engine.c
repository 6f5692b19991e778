/* The built-in engine as an executor.  This build has none: tasks need a daemon, a remote server or the stub. */
#include "job/executor.h"

rv_status rv__engine_open(const rv__executor_options *o, const rv__executor **executor, void **self, rv_error *err)
{
    return rv__fail(err, RV_UNSUPPORTED, "this build has no engine: set daemon, or executor to stub");
}
