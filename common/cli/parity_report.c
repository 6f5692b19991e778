/* Bookkeeping of a parity run: golden files, comparisons, one line per tensor.  Must never count a
 * comparison as passed that did not happen, nor let a value that is not a number pass. */
#include "parity_internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* The limits of the goldens' README; 0 is exact, INFINITY is not looked at. */
static const struct limits {
    double max_abs, max_rel, rms_rel;
    double differing; /* share of the elements that may differ at all */
} limits[RV_TOL_COUNT] = {
    [RV_TOL_EXACT] = {0, 0, 0, 0},
    [RV_TOL_TEXT] = {INFINITY, 1e-5, INFINITY, 1},
    [RV_TOL_TRANSFORMER] = {INFINITY, 1e-4, 5e-5, 1},
    [RV_TOL_SINUSOID] = {1e-4, INFINITY, INFINITY, 1},
    [RV_TOL_VAE] = {INFINITY, 2e-5, INFINITY, 1},
    [RV_TOL_SIGMAS] = {1e-6, INFINITY, INFINITY, 1},
    [RV_TOL_TIMESTEPS] = {1e-3, INFINITY, INFINITY, 1},
    [RV_TOL_TRAJECTORY] = {1e-5, INFINITY, INFINITY, 1},
    [RV_TOL_RANDN] = {4e-6, INFINITY, INFINITY, 1},
    [RV_TOL_LATENTS] = {INFINITY, 2e-4, INFINITY, 1},
    [RV_TOL_LATENTS_GUIDED] = {INFINITY, 5e-4, INFINITY, 1},
    [RV_TOL_BYTES] = {1, INFINITY, INFINITY, 0.005},
};

rv__machines *rv__parity_machines(const rv__parity *p)
{
    return p->machines;
}

const rv__weights *rv__parity_model(const rv__parity *p)
{
    return p->model;
}

const rv__value *rv__parity_manifest(const rv__parity *p)
{
    return p->manifest;
}

const char *rv__parity_dir(const rv__parity *p)
{
    return p->dir;
}

size_t rv__tensor_elements(const rv__tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= (size_t)t->shape[i];
    return n;
}

/* ---- golden files ---- */

bool rv__golden_open(rv__parity *p, const char *name, rv__golden *g)
{
    *g = (rv__golden){.parity = p};
    char *path = rv__format("%s/%s", p->dir, name);
    rv_error err = {0};
    if (path && rv__safetensors_open(path, &g->file, &err) == RV_OK) {
        const rv__safetensor *list = rv__safetensors_list(g->file, &g->count);
        const char *dot = strrchr(name, '.');
        g->stem = rv__strndup(name, dot ? (size_t)(dot - name) : strlen(name));
        g->list = rv__calloc(g->count, sizeof *g->list);
        g->seen = rv__calloc(g->count, sizeof *g->seen);
        for (size_t i = 0; g->list && i < g->count; i++)
            g->list[i] = list[i].tensor;
    }
    rv__free(path);
    if (g->stem && g->list && g->seen)
        return true;
    rv__parity_fail(p, name, "%s", err.status ? err.message : "out of memory");
    g->count = 0;
    rv__golden_close(g);
    return false;
}

void rv__golden_close(rv__golden *g)
{
    for (size_t i = 0; i < g->count; i++) {
        if (!g->seen[i])
            rv__parity_fail_golden(g, g->list[i].name, "no check knows this tensor");
    }
    rv__safetensors_close(g->file);
    rv__free((void *)(uintptr_t)g->stem);
    rv__free(g->list);
    rv__free(g->seen);
    *g = (rv__golden){0};
}

const rv__tensor *rv__golden_list(const rv__golden *g, size_t *count)
{
    *count = g->count;
    return g->list;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const rv__tensor *)a)->name, ((const rv__tensor *)b)->name);
}

const rv__tensor *rv__golden_find(const rv__golden *g, const char *name)
{
    rv__tensor key = {.name = name};
    return bsearch(&key, g->list, g->count, sizeof key, by_name);
}

/* The tensor, accounted for from now on; NULL (and a FAIL) when it is absent. */
static const rv__tensor *mark(rv__golden *g, const char *name)
{
    const rv__tensor *t = rv__golden_find(g, name);
    if (t)
        g->seen[t - g->list] = true;
    else
        rv__parity_fail_golden(g, name, "the goldens have no such tensor");
    return t;
}

const rv__tensor *rv__golden_input(rv__golden *g, const char *name, enum ggml_type type, int rank)
{
    const rv__tensor *t = mark(g, name);
    if (t && (t->type != type || (rank > 0 && t->n_dims != rank))) {
        rv__parity_fail_golden(g, name, "expected %s of %d dimensions", ggml_type_name(type), rank);
        return NULL;
    }
    return t;
}

/* ---- results ---- */

static void print_failure(rv__parity *p, const char *stem, const char *name, const char *format,
                          va_list args)
{
    p->failed++;
    printf("FAIL  %s%s%s  ", stem, *stem ? "/" : "", name);
    vprintf(format, args);
    putchar('\n');
}

void rv__parity_fail(rv__parity *p, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_failure(p, "", name, format, args);
    va_end(args);
}

void rv__parity_fail_golden(rv__golden *g, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_failure(g->parity, g->stem, name, format, args);
    va_end(args);
}

/* Differences of two equally long lists, added value by value. */
typedef struct tally {
    double max_abs, max_ref, sum_square, sum_ref_square;
    size_t n, differing;
    bool finite;
} tally;

static void add(tally *t, double got, double ref)
{
    double d = fabs(got - ref);
    t->finite = t->finite && isfinite(got) && isfinite(ref);
    t->max_abs = d > t->max_abs ? d : t->max_abs;
    t->max_ref = fabs(ref) > t->max_ref ? fabs(ref) : t->max_ref;
    t->sum_square += d * d;
    t->sum_ref_square += ref * ref;
    t->differing += d > 0.0;
    t->n++;
}

static void report(rv__parity *p, const char *stem, const char *name, const tally *t,
                   rv__tolerance tolerance)
{
    const struct limits *l = &limits[tolerance];
    double max_rel = t->max_abs / (t->max_ref > 0.0 ? t->max_ref : 1.0);
    double rms_rel = sqrt(t->sum_square / (t->sum_ref_square > 0.0 ? t->sum_ref_square : 1.0));
    bool pass = t->finite && t->max_abs <= l->max_abs && max_rel <= l->max_rel &&
                rms_rel <= l->rms_rel && (double)t->differing <= l->differing * (double)t->n;
    printf("%s  %s%s%s  max_abs %.2e  max_rel %.2e", pass ? "PASS" : "FAIL", stem, *stem ? "/" : "",
           name, t->max_abs, max_rel);
    if (isfinite(l->rms_rel) && l->rms_rel > 0.0)
        printf("  rms_rel %.2e", rms_rel);
    if (tolerance == RV_TOL_EXACT || tolerance == RV_TOL_BYTES)
        printf("  differing %zu of %zu", t->differing, t->n);
    puts(t->finite ? "" : "  not finite");
    if (pass)
        p->passed++;
    else
        p->failed++;
}

/* Value i of a golden tensor; false when its type is none that goldens have. */
static bool value(const rv__tensor *t, size_t i, double *out)
{
    switch (t->type) {
    case GGML_TYPE_F32:
        *out = (double)((const float *)t->data)[i];
        return true;
    case GGML_TYPE_I32:
        *out = ((const int32_t *)t->data)[i];
        return true;
    case GGML_TYPE_I64:
        *out = (double)((const int64_t *)t->data)[i];
        return true;
    case GGML_TYPE_I8:
        *out = ((const uint8_t *)t->data)[i];
        return true;
    default:
        return false;
    }
}

typedef enum kind { KIND_F32, KIND_I32, KIND_U8 } kind;

static double item(const void *data, kind k, size_t i)
{
    if (k == KIND_F32)
        return (double)((const float *)data)[i];
    return k == KIND_I32 ? ((const int32_t *)data)[i] : ((const uint8_t *)data)[i];
}

static void check(rv__golden *g, const char *name, const void *got, kind k, size_t n,
                  rv__tolerance tolerance)
{
    const rv__tensor *t = mark(g, name);
    if (!t)
        return;
    if (rv__tensor_elements(t) != n) {
        rv__parity_fail_golden(g, name, "%zu values instead of %zu", n, rv__tensor_elements(t));
        return;
    }
    tally sum = {.finite = true};
    for (size_t i = 0; i < n; i++) {
        double ref;
        if (!value(t, i, &ref)) {
            rv__parity_fail_golden(g, name, "the golden's type %s is not known",
                                   ggml_type_name(t->type));
            return;
        }
        add(&sum, item(got, k, i), ref);
    }
    report(g->parity, g->stem, name, &sum, tolerance);
}

void rv__parity_check(rv__golden *g, const char *name, const float *got, size_t n,
                      rv__tolerance tolerance)
{
    check(g, name, got, KIND_F32, n, tolerance);
}

void rv__parity_check_i32(rv__golden *g, const char *name, const int32_t *got, size_t n,
                          rv__tolerance tolerance)
{
    check(g, name, got, KIND_I32, n, tolerance);
}

void rv__parity_check_u8(rv__golden *g, const char *name, const uint8_t *got, size_t n,
                         rv__tolerance tolerance)
{
    check(g, name, got, KIND_U8, n, tolerance);
}

static void compare(rv__parity *p, const char *name, const void *got, const void *ref, kind k,
                    size_t n, rv__tolerance tolerance)
{
    tally sum = {.finite = true};
    for (size_t i = 0; i < n; i++)
        add(&sum, item(got, k, i), item(ref, k, i));
    report(p, "", name, &sum, tolerance);
}

void rv__parity_compare(rv__parity *p, const char *name, const float *got, const float *ref,
                        size_t n, rv__tolerance tolerance)
{
    compare(p, name, got, ref, KIND_F32, n, tolerance);
}

void rv__parity_compare_i32(rv__parity *p, const char *name, const int32_t *got, const int32_t *ref,
                            size_t n)
{
    compare(p, name, got, ref, KIND_I32, n, RV_TOL_EXACT);
}

void rv__parity_compare_u8(rv__parity *p, const char *name, const uint8_t *got, const uint8_t *ref,
                           size_t n)
{
    compare(p, name, got, ref, KIND_U8, n, RV_TOL_BYTES);
}
