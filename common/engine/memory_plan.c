/* See memory_plan.h. */
#include "memory_plan.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GB 1e9

static bool is_meant(const char *part, const char *prefix)
{
    return strncmp(part, prefix, strlen(prefix)) == 0;
}

static void rest(const rv__tensor *t, uintptr_t page)
{
    uintptr_t first = ((uintptr_t)t->data + page - 1) / page * page,
              end = ((uintptr_t)t->data + t->size) / page * page;

    if (end > first) /* whole pages of the mapping; they are clean and come back from the file */
        madvise((void *)first, end - first, MADV_DONTNEED);
}

void rv__memory_rest(const rv__weights *w, const char *prefix)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const char *part;

    for (size_t i = 0; (part = rv__weights_part_name(w, i)); i++) {
        size_t count = 0;
        const rv__tensor *list = rv__weights_list(w, part, &count);

        for (size_t k = 0; is_meant(part, prefix) && k < count; k++)
            rest(&list[k], page);
    }
}

double rv__memory_weights(const rv__weights *w, const char *prefix)
{
    const char *part;
    double sum = 0;

    for (size_t i = 0; (part = rv__weights_part_name(w, i)); i++) {
        size_t count = 0;
        const rv__tensor *list = rv__weights_list(w, part, &count);

        for (size_t k = 0; is_meant(part, prefix) && k < count; k++)
            sum += (double)list[k].size;
    }
    return sum;
}

rv_status rv__memory_check(const rv__weights *w, double elsewhere, double activations,
                           double limit, int64_t width, int64_t height, int64_t step, rv_error *err)
{
    double weights = rv__memory_weights(w, "transformer") - elsewhere, by;
    int64_t fit_width, fit_height;

    if (limit <= 0 || weights + activations <= limit)
        return RV_OK;
    /* Activations grow with the number of pixels, and a little is the same for all sizes. */
    by = weights < limit ? sqrt((limit - weights) / activations) : 0;
    fit_width = (int64_t)((double)width * by) / step * step;
    fit_height = (int64_t)((double)height * by) / step * step;
    if (fit_width < step || fit_height < step)
        return rv__fail_code(err, RV_VALIDATION, NULL, "width",
                             "the model's memory_limit of %.2f GB is too small for its transformer "
                             "(%.2f GB) and any picture",
                             limit / GB, weights / GB);
    return rv__fail_code(err, RV_VALIDATION, NULL, "width",
                         "%lldx%lld needs %.2f GB, the model's memory_limit is %.2f GB (nearest: "
                         "%lldx%lld)",
                         (long long)width, (long long)height, (weights + activations) / GB,
                         limit / GB, (long long)fit_width, (long long)fit_height);
}
