/* Devices and graphs on ggml's CPU back end.  Must not let ggml assert: room for tensors is counted
 * here, and memory failures come back as RV_MEMORY. */
#include "graph.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <cblas.h>
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/memory.h"
#include "graph_op.h"
#include "int8.h"
#include "product_device.h"

enum { ALIGN = 64, MAX_THREADS = 256, REMEMBERED = 4 };

struct rv__device {
    ggml_backend_t backend;
    rv__gpu *gpu; /* makes the products; NULL: the processor does */
    int threads;
    size_t scratch_bytes; /* per thread */
    void *scratch_block;  /* what was allocated */
    char *scratch;        /* aligned start */
};

typedef struct block {
    struct block *next;
} block;

typedef struct tap {
    struct tap *next;
    struct ggml_tensor *tensor;
    char name[128];
} tap;

struct rv__graph {
    rv__device *device;
    void *memory; /* of the context */
    struct ggml_context *context;
    struct ggml_cgraph *nodes;
    int cuts[RV__SECTIONS], cut_count; /* nodes before each cut */
    struct ggml_context *section_context;
    void *section_memory;
    struct ggml_cgraph *sections[RV__SECTIONS + 1];
    ggml_gallocr_t alloc;
    block *blocks;
    size_t used, max, scratch_bytes;
    const char *refused;
    bool out_of_memory, is_built, is_fast;
    struct {
        const struct ggml_tensor *x;
        struct ggml_tensor *form;
    } remembered[REMEMBERED];
    size_t remember_next;
    rv__tap_fn *tap_fn;
    void *tap_user;
    tap *taps, **taps_end;
    rv__cancel_fn *cancelled; /* during a run */
    void *cancelled_user;
    atomic_bool stop;
    const char *_Atomic failed; /* by a kernel, in this run */
};

/* ---- device ---- */

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
    (void)level, (void)text, (void)user;
}

/* Libraries print nothing; ggml tells about its back ends on stderr otherwise. */
static void load_backends(void)
{
    ggml_log_set(quiet, NULL);
    /* Vulkan's products are to be as exact as it can. */
    setenv("GGML_VK_DISABLE_F16", "1", 0);
    setenv("GGML_VK_DISABLE_INTEGER_DOT_PRODUCT", "1", 0);
    ggml_backend_load_all();
    /* Our kernels call sgemm from all threads of the device at once; each call must stay on its own
     * thread.  This is for OpenBLAS with its own pool; its OpenMP build is told in rv__graph_run.
     */
    openblas_set_num_threads(1);
}

static void set_threads(ggml_backend_t backend, int threads)
{
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend));
    ggml_backend_set_n_threads_t set;

    *(void **)&set = ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads");
    if (set)
        set(backend, threads);
}

rv_status rv__device_open(int threads, rv__device **out, rv_error *err)
{
    return rv__device_open_with(NULL, threads, out, err);
}

rv_status rv__device_open_with(const char *name, int threads, rv__device **out, rv_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    rv__device *d;

    *out = NULL;
    pthread_once(&once, load_backends);
    d = rv__calloc(1, sizeof *d);
    if (!d)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (threads <= 0)
        threads = (int)sysconf(_SC_NPROCESSORS_ONLN) - 1;
    d->threads = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    d->backend = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, NULL);
    if (!d->backend) {
        rv__free(d);
        return rv__fail(err, RV_INTERNAL,
                        "ggml has no back end for this CPU (is libggml-cpu installed?)");
    }
    set_threads(d->backend, d->threads);
    if (!name)
        name = getenv("REVERIE_DEVICE");
    if (name && *name && strcasecmp(name, "cpu") != 0) {
        rv_status status = rv__gpu_open(name, &d->gpu, err);
        if (status != RV_OK) {
            rv__device_close(d);
            return status;
        }
    }
    *out = d;
    return RV_OK;
}

void rv__device_close(rv__device *d)
{
    if (!d)
        return;
    rv__gpu_close(d->gpu);
    ggml_backend_free(d->backend);
    rv__free(d->scratch_block);
    rv__free(d);
}

int rv__device_threads(const rv__device *d)
{
    return d->threads;
}

static bool reserve_scratch(rv__device *d, size_t bytes)
{
    if (bytes <= d->scratch_bytes)
        return true;
    rv__free(d->scratch_block);
    d->scratch_bytes = 0;
    d->scratch_block = rv__alloc(bytes * (size_t)d->threads + ALIGN);
    if (!d->scratch_block)
        return false;
    d->scratch = (char *)(((uintptr_t)d->scratch_block + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
    d->scratch_bytes = bytes;
    return true;
}

/* ---- building ---- */

rv__graph *rv__graph_new(rv__device *d, size_t max_nodes)
{
    rv__graph *g = rv__calloc(1, sizeof *g);
    size_t size =
        max_nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(max_nodes, false) + 4096;

    if (!g)
        return NULL;
    g->device = d;
    g->max = max_nodes;
    g->taps_end = &g->taps;
    g->memory = rv__alloc(size);
    if (!g->memory) {
        rv__free(g);
        return NULL;
    }
    g->context = ggml_init(
        (struct ggml_init_params){.mem_size = size, .mem_buffer = g->memory, .no_alloc = true});
    if (!g->context) {
        rv__graph_free(g);
        return NULL;
    }
    g->nodes = ggml_new_graph_custom(g->context, max_nodes, false);
    return g;
}

void rv__graph_free(rv__graph *g)
{
    if (!g)
        return;
    if (g->alloc)
        ggml_gallocr_free(g->alloc);
    if (g->context)
        ggml_free(g->context);
    if (g->section_context)
        ggml_free(g->section_context);
    rv__free(g->section_memory);
    while (g->blocks) {
        block *b = g->blocks;
        g->blocks = b->next;
        rv__free(b);
    }
    rv__free(g->memory);
    rv__free(g);
}

void *rv__graph_alloc(rv__graph *g, size_t size)
{
    enum { HEAD = 32 };
    block *b = rv__calloc(1, HEAD + size);

    if (!b) {
        g->out_of_memory = true;
        return NULL;
    }
    b->next = g->blocks;
    g->blocks = b;
    return (char *)b + HEAD;
}

struct ggml_context *rv__graph_context(rv__graph *g)
{
    return g->context;
}

rv__gpu *rv__graph_gpu(const rv__graph *g)
{
    return g->device->gpu;
}

void rv__op_fail(rv__op *op, const char *why)
{
    atomic_store(&op->graph->failed, why);
}

int rv__graph_threads(const rv__graph *g)
{
    return g->device->threads;
}

void rv__graph_refuse(rv__graph *g, const char *why)
{
    if (!g->refused)
        g->refused = why;
}

bool rv__graph_room(rv__graph *g, int n)
{
    if (g->used + (size_t)n > g->max) {
        rv__graph_refuse(g, "graph has more nodes than were planned for");
        return false;
    }
    g->used += (size_t)n;
    return true;
}

void rv__graph_fast(rv__graph *g, bool fast)
{
    g->is_fast = fast && rv__int8_usable();
}

bool rv__graph_is_fast(const rv__graph *g)
{
    return g->is_fast;
}

void rv__graph_remember(rv__graph *g, const struct ggml_tensor *x, struct ggml_tensor *form)
{
    g->remembered[g->remember_next].x = form ? x : NULL;
    g->remembered[g->remember_next].form = form;
    g->remember_next = (g->remember_next + 1) % REMEMBERED;
}

struct ggml_tensor *rv__graph_remembered(const rv__graph *g, const struct ggml_tensor *x)
{
    for (size_t i = 0; i < REMEMBERED; i++)
        if (x && g->remembered[i].x == x)
            return g->remembered[i].form;
    return NULL;
}

void rv__graph_scratch(rv__graph *g, size_t bytes)
{
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (bytes > g->scratch_bytes)
        g->scratch_bytes = bytes;
}

void rv__graph_taps(rv__graph *g, rv__tap_fn *fn, void *user)
{
    g->tap_fn = fn;
    g->tap_user = user;
}

struct ggml_tensor *rv__tap(rv__graph *g, struct ggml_tensor *t, const char *name, ...)
{
    struct ggml_tensor *kept = t;
    va_list args;
    tap *p;

    if (!t || !g->tap_fn || !rv__graph_room(g, 1))
        return t;
    p = rv__graph_alloc(g, sizeof *p);
    if (!p)
        return t;
    if (!ggml_is_contiguous(t))
        kept = ggml_cont(g->context, t);
    va_start(args, name);
    vsnprintf(p->name, sizeof p->name, name, args);
    va_end(args);
    rv__graph_output(g, kept);
    p->tensor = kept;
    *g->taps_end = p;
    g->taps_end = &p->next;
    return t;
}

struct ggml_tensor *rv__graph_input(rv__graph *g, enum ggml_type type, int64_t ne0, int64_t ne1,
                                    int64_t ne2, int64_t ne3)
{
    struct ggml_tensor *t;

    if (!rv__graph_room(g, 1))
        return NULL;
    t = ggml_new_tensor_4d(g->context, type, ne0, ne1, ne2, ne3);
    ggml_set_input(t);
    ggml_set_output(t); /* keeps its value from one run to the next */
    return t;
}

void rv__graph_output(rv__graph *g, struct ggml_tensor *t)
{
    if (!t)
        return;
    /* A view shares memory: its source has to stay as well. */
    for (struct ggml_tensor *s = t; s; s = s->view_src)
        ggml_set_output(s);
    ggml_build_forward_expand(g->nodes, t);
}

void rv__graph_cut(rv__graph *g)
{
    if (g->cut_count == RV__SECTIONS)
        rv__graph_refuse(g, "graph has more sections than were planned for");
    else
        g->cuts[g->cut_count++] = ggml_graph_n_nodes(g->nodes);
}

/* Graphs over the same nodes, one per section. */
static bool make_sections(rv__graph *g)
{
    size_t n = (size_t)ggml_graph_n_nodes(g->nodes), size = 4096;

    if (g->cut_count == 0 || g->section_context)
        return true;
    size += (size_t)(g->cut_count + 1) *
            (ggml_graph_overhead_custom(n, false) + ggml_tensor_overhead());
    g->section_memory = rv__alloc(size);
    if (g->section_memory)
        g->section_context = ggml_init((struct ggml_init_params){
            .mem_size = size, .mem_buffer = g->section_memory, .no_alloc = true});
    if (!g->section_context)
        return false;
    for (int i = 0, at = 0; i <= g->cut_count; i++) {
        int end = i < g->cut_count ? g->cuts[i] : (int)n;

        g->sections[i] = ggml_new_graph_custom(g->section_context, n, false);
        for (; at < end; at++)
            ggml_graph_add_node(g->sections[i], ggml_graph_node(g->nodes, at));
    }
    return true;
}

rv_status rv__graph_build(rv__graph *g, rv_error *err)
{
    if (g->out_of_memory)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (g->refused)
        return rv__fail(err, RV_INTERNAL, "%s", g->refused);
    if (!g->alloc)
        g->alloc = ggml_gallocr_new(ggml_backend_get_default_buffer_type(g->device->backend));
    if (!g->alloc || !ggml_gallocr_alloc_graph(g->alloc, g->nodes) ||
        !reserve_scratch(g->device, g->scratch_bytes) || !make_sections(g))
        return rv__fail(err, RV_MEMORY, "not enough memory for the activations");
    g->is_built = true;
    return RV_OK;
}

size_t rv__graph_bytes(const rv__graph *g)
{
    return g->alloc ? ggml_gallocr_get_buffer_size(g->alloc, 0) : 0;
}

/* An input that nothing reads has no memory; setting it is then without effect. */
void rv__graph_set(rv__graph *g, struct ggml_tensor *t, const void *data, size_t bytes)
{
    if (g->is_built && t && t->data && bytes == ggml_nbytes(t))
        memcpy(t->data, data, bytes);
}

void rv__graph_get(const rv__graph *g, const struct ggml_tensor *t, void *data, size_t bytes)
{
    if (g->is_built && t && t->data && bytes == ggml_nbytes(t))
        memcpy(data, t->data, bytes);
}

/* ---- running ---- */

static bool asked_to_stop(void *user)
{
    rv__graph *g = user;

    if (!atomic_load(&g->stop) && g->cancelled && g->cancelled(g->cancelled_user))
        atomic_store(&g->stop, true);
    return atomic_load(&g->stop);
}

static void set_abort(rv__graph *g, ggml_abort_callback callback)
{
    ggml_backend_dev_t dev = ggml_backend_get_device(g->device->backend);
    ggml_backend_set_abort_callback_t set;

    *(void **)&set = ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(dev),
                                                       "ggml_backend_set_abort_callback");
    if (set)
        set(g->device->backend, callback, g);
}

static rv_status compute(rv__graph *g, struct ggml_cgraph *nodes, rv__cancel_fn *cancelled,
                         void *user, rv_error *err)
{
    enum ggml_status status;
    int omp_threads;

    /* Another graph of the device may have needed more scratch and moved it; it never shrinks. */
    atomic_store(&g->stop, false);
    atomic_store(&g->failed, NULL);
    g->cancelled = cancelled;
    g->cancelled_user = user;
    set_abort(g, asked_to_stop);
    /* Inside a parallel region OpenBLAS does not start threads; a device of one thread has no such
     * region. */
    omp_threads = omp_get_max_threads();
    omp_set_num_threads(1);
    status = ggml_backend_graph_compute(g->device->backend, nodes);
    omp_set_num_threads(omp_threads);
    set_abort(g, NULL);
    if (atomic_load(&g->stop))
        return rv__fail(err, RV_CANCELLED, "cancelled");
    const char *failed = atomic_load(&g->failed);
    if (failed)
        return rv__fail(err, RV_INTERNAL, "%s", failed);
    if (status != GGML_STATUS_SUCCESS)
        return rv__fail(err, status == GGML_STATUS_ALLOC_FAILED ? RV_MEMORY : RV_INTERNAL,
                        "graph failed: %s", ggml_status_to_string(status));
    return RV_OK;
}

rv_status rv__graph_run(rv__graph *g, rv__cancel_fn *cancelled, void *user, rv_error *err)
{
    rv_status status;

    if (!g->is_built)
        return rv__fail(err, RV_INTERNAL, "graph was not built");
    status = compute(g, g->nodes, cancelled, user, err);
    for (const tap *p = g->taps; status == RV_OK && p; p = p->next)
        g->tap_fn(g->tap_user, p->name, p->tensor, p->tensor->data);
    return status;
}

rv_status rv__graph_run_section(rv__graph *g, int section, rv__cancel_fn *cancelled, void *user,
                                rv_error *err)
{
    if (!g->is_built || section < 0 || section > g->cut_count || !g->sections[section])
        return rv__fail(err, RV_INTERNAL, "graph has no such section");
    return ggml_graph_n_nodes(g->sections[section]) == 0
               ? RV_OK
               : compute(g, g->sections[section], cancelled, user, err);
}

/* ---- operations ---- */

struct ggml_tensor *rv__op_node(rv__graph *g, enum ggml_type type, const int64_t ne[4],
                                struct ggml_tensor **args, int n_args, ggml_custom_op_t fun,
                                rv__op *op)
{
    for (int i = 0; i < n_args; i++)
        if (!args[i])
            return NULL;
    /* Leaves among the arguments take a place in the graph as well. */
    if (!op || !rv__graph_room(g, 1 + n_args))
        return NULL;
    op->graph = g;
    return ggml_custom_4d(g->context, type, ne[0], ne[1], ne[2], ne[3], args, n_args, fun,
                          GGML_N_TASKS_MAX, op);
}

void *rv__op_scratch(const rv__op *op, int thread)
{
    const rv__device *d = op->graph->device;

    return d->scratch + d->scratch_bytes * (size_t)thread;
}

bool rv__op_next(rv__op *op, int thread, int count, int *task)
{
    rv__graph *g = op->graph;

    /* Only the caller's own thread asks, so that hosts need no locks. */
    if (thread == 0 ? asked_to_stop(g) : atomic_load_explicit(&g->stop, memory_order_relaxed))
        return false;
    *task = atomic_fetch_add_explicit(&op->next, 1, memory_order_relaxed);
    return *task < count;
}

void rv__op_done(rv__op *op, int threads)
{
    if (atomic_fetch_add(&op->left, 1) + 1 == threads) {
        atomic_store(&op->next, 0);
        atomic_store(&op->left, 0);
    }
}
