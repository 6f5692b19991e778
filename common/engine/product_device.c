/* See product_device.h. */
#include "product_device.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"

enum { LEAST_SIDE = 32, NODES = 8, CHUNK_ROWS = 256 };

struct rv__gpu {
    ggml_backend_t backend;
    ggml_gallocr_t alloc;
    void *memory; /* of the small graph around each product */
    size_t size;
};

/* A matrix on the device. */
struct rv__copy {
    struct ggml_context *context;
    ggml_backend_buffer_t buffer;
    struct ggml_tensor *w; /* NULL: it did not fit, do not try again */
};

typedef struct product {
    rv__op base;
    rv__gpu_product what;
    rv__gpu *gpu;
} product;

/* ---- device ---- */

static ggml_backend_dev_t find_device(const char *name, rv__buf *others)
{
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t d = ggml_backend_dev_get(i);
        const char *own = ggml_backend_dev_name(d);
        enum ggml_backend_dev_type type = ggml_backend_dev_type(d);
        if (type == GGML_BACKEND_DEVICE_TYPE_CPU || type == GGML_BACKEND_DEVICE_TYPE_ACCEL)
            continue;
        if (strncasecmp(own, name, strlen(name)) == 0)
            return d;
        rv__buf_addf(others, "%s%.60s", others->len ? ", " : "", own);
    }
    return NULL;
}

rv_status rv__gpu_open(const char *name, rv__gpu **out, rv_error *err)
{
    rv__buf others;
    rv__gpu *gpu = rv__calloc(1, sizeof *gpu);
    rv_status status = gpu ? RV_OK : rv__fail(err, RV_MEMORY, "out of memory");

    *out = NULL;
    rv__buf_init(&others, 1000);
    ggml_backend_dev_t device = find_device(name, &others);
    if (status == RV_OK && !device)
        status = rv__fail(err, RV_UNSUPPORTED, "there is no device \"%.60s\" (there are: %s)", name,
                          others.len ? others.data : "none besides the processor");
    if (status == RV_OK) {
        gpu->size = NODES * ggml_tensor_overhead() + ggml_graph_overhead_custom(NODES, false);
        gpu->memory = rv__alloc(gpu->size);
        gpu->backend = ggml_backend_dev_init(device, NULL);
        if (gpu->backend)
            gpu->alloc = ggml_gallocr_new(ggml_backend_get_default_buffer_type(gpu->backend));
        if (!gpu->alloc || !gpu->memory)
            status = rv__fail(err, RV_INTERNAL, "the device %.60s cannot be used",
                              ggml_backend_dev_name(device));
    }
    rv__buf_free(&others);
    if (status == RV_OK)
        *out = gpu;
    else
        rv__gpu_close(gpu);
    return status;
}

void rv__gpu_close(rv__gpu *gpu)
{
    if (!gpu)
        return;
    if (gpu->alloc)
        ggml_gallocr_free(gpu->alloc);
    if (gpu->backend)
        ggml_backend_free(gpu->backend);
    rv__free(gpu->memory);
    rv__free(gpu);
}

/* ---- matrices ---- */

void rv__copy_free(rv__copy *c)
{
    if (!c)
        return;
    if (c->buffer)
        ggml_backend_buffer_free(c->buffer);
    if (c->context)
        ggml_free(c->context);
    rv__free(c);
}

/* Quantised matrices stay so on the device where it can multiply with them; all others become
 * float32, so that nothing there is tempted to round activations to their type. */
static enum ggml_type type_there(const rv__gpu *gpu, const struct ggml_tensor *w)
{
    enum ggml_type type = GGML_TYPE_F32;
    struct ggml_context *c = ggml_init((struct ggml_init_params){
        .mem_size = gpu->size, .mem_buffer = gpu->memory, .no_alloc = true});
    if (c && ggml_is_quantized(w->type) && rv__weight_is_plain(w)) {
        struct ggml_tensor *x = ggml_new_tensor_2d(c, GGML_TYPE_F32, w->ne[0], 64),
                           *m = ggml_new_tensor_2d(c, w->type, w->ne[0], w->ne[1]);
        if (ggml_backend_supports_op(gpu->backend, ggml_mul_mat(c, m, x)))
            type = w->type;
    }
    if (c)
        ggml_free(c);
    return type;
}

static bool send(const struct ggml_tensor *from, struct ggml_tensor *to)
{
    if (to->type == from->type && rv__weight_is_plain(from)) {
        ggml_backend_tensor_set(to, from->data, 0, ggml_nbytes(to));
        return true;
    }
    float *rows = rv__alloc((size_t)(CHUNK_ROWS * from->ne[0]) * sizeof *rows);
    for (int64_t r = 0; rows && r < from->ne[1]; r += CHUNK_ROWS) {
        int64_t n = from->ne[1] - r < CHUNK_ROWS ? from->ne[1] - r : CHUNK_ROWS;
        rv__weight_rows(from, r, n, rows);
        ggml_backend_tensor_set(to, rows, (size_t)r * to->nb[1], (size_t)n * to->nb[1]);
    }
    rv__free(rows);
    return rows != NULL;
}

/* The matrix on the device, sent there when it is first wanted. */
static struct ggml_tensor *there(const rv__gpu *gpu, const struct ggml_tensor *w)
{
    rv__leaf *leaf = w->extra;
    if (leaf->copy)
        return leaf->copy->w;
    rv__copy *c = leaf->copy = rv__calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->context = ggml_init(
        (struct ggml_init_params){.mem_size = 2 * ggml_tensor_overhead(), .no_alloc = true});
    struct ggml_tensor *to =
        c->context ? ggml_new_tensor_2d(c->context, type_there(gpu, w), w->ne[0], w->ne[1]) : NULL;
    c->buffer = to ? ggml_backend_alloc_ctx_tensors(c->context, gpu->backend) : NULL;
    if (c->buffer && send(w, to))
        c->w = to;
    return c->w;
}

static bool can_go(const struct ggml_tensor *w)
{
    const rv__leaf *leaf = w->extra;
    return leaf && leaf->tensor && !leaf->additions && !leaf->patches && w->data &&
           w->ne[0] >= LEAST_SIDE && w->ne[1] >= LEAST_SIDE;
}

static bool goes(const rv__gpu *gpu, const struct ggml_tensor *w)
{
    return can_go(w) && there(gpu, w);
}

bool rv__gpu_fits(rv__graph *g, const rv__gpu_product *what, int64_t rows)
{
    const rv__gpu *gpu = rv__graph_gpu(g);
    if (!gpu || rows < 1)
        return false;
    if (what->groups == 0)
        return goes(gpu, what->weight) && (!what->gate || goes(gpu, what->gate));
    for (int i = 0; i < what->groups; i++)
        if (!goes(gpu, what->weights[i]) || (what->gates && !goes(gpu, what->gates[i])))
            return false;
    return true;
}

/* ---- running ---- */

/* y (rows x out) = x w^T */
static bool multiply(rv__gpu *gpu, const struct ggml_tensor *weight, const float *x, int64_t rows,
                     float *y)
{
    const rv__leaf *leaf = weight->extra;
    struct ggml_context *c = ggml_init((struct ggml_init_params){
        .mem_size = gpu->size, .mem_buffer = gpu->memory, .no_alloc = true});
    if (!c)
        return false;
    struct ggml_tensor *in = ggml_new_tensor_2d(c, GGML_TYPE_F32, weight->ne[0], rows),
                       *out = ggml_mul_mat(c, leaf->copy->w, in);
    struct ggml_cgraph *graph = ggml_new_graph_custom(c, NODES, false);
    ggml_set_input(in);
    ggml_set_output(out);
    ggml_prec_set_acc(out, GGML_PREC_F32);
    ggml_build_forward_expand(graph, out);
    bool ok = ggml_gallocr_alloc_graph(gpu->alloc, graph);
    if (ok) {
        ggml_backend_tensor_set(in, x, 0, ggml_nbytes(in));
        ok = ggml_backend_graph_compute(gpu->backend, graph) == GGML_STATUS_SUCCESS;
    }
    if (ok)
        ggml_backend_tensor_get(out, y, 0, ggml_nbytes(out));
    ggml_free(c);
    return ok;
}

static bool run_rows(product *p, const struct ggml_tensor *weight, const struct ggml_tensor *gate,
                     const float *x, int64_t rows, float *y)
{
    int64_t n = rows * weight->ne[1];
    float *by = gate ? rv__alloc((size_t)n * sizeof *by) : NULL;
    bool ok = rows == 0 || ((!gate || by) && multiply(p->gpu, weight, x, rows, y) &&
                            (!gate || multiply(p->gpu, gate, x, rows, by)));
    for (int64_t i = 0; ok && gate && i < n; i++)
        y[i] *= by[i] / (1.0f + expf(-by[i]));
    rv__free(by);
    return ok;
}

static void run_product(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    product *p = user;
    const rv__gpu_product *w = &p->what;
    const float *x = dst->src[0]->data;
    float *y = dst->data;
    bool ok = true;

    (void)threads;
    if (thread != 0) /* the device has threads of its own */
        return;
    if (w->groups == 0)
        ok = run_rows(p, w->weight, w->gate, x, ggml_nrows(dst), y);
    for (int i = 0; i < w->groups && ok; i++) {
        const int32_t *offsets = dst->src[1]->data;
        ok = run_rows(p, w->weights[i], w->gates ? w->gates[i] : NULL,
                      x + offsets[i] * w->weights[i]->ne[0], offsets[i + 1] - offsets[i],
                      y + offsets[i] * dst->ne[0]);
    }
    const float *bias = w->bias ? w->bias->data : NULL;
    for (int64_t i = 0; bias && i < ggml_nelements(dst); i++)
        y[i] += bias[i % dst->ne[0]];
    if (!ok)
        rv__op_fail(&p->base, "the device failed while it multiplied");
}

struct ggml_tensor *rv__gpu_build(rv__graph *g, const rv__gpu_product *what, struct ggml_tensor *x)
{
    product *p = rv__graph_alloc(g, sizeof *p);
    struct ggml_tensor *args[4];
    int n = 0;

    if (!p || !x || (!ggml_is_contiguous(x) && !rv__graph_room(g, 1)))
        return NULL;
    if (!ggml_is_contiguous(x))
        x = ggml_cont(rv__graph_context(g), x);
    p->what = *what;
    p->gpu = rv__graph_gpu(g);
    args[n++] = x;
    if (what->offsets)
        args[n++] = what->offsets;
    if (what->bias)
        args[n++] = what->bias;
    int64_t out = (what->groups ? what->weights[0] : what->weight)->ne[1],
            ne[4] = {out, x->ne[1], x->ne[2], x->ne[3]};
    return rv__op_node(g, GGML_TYPE_F32, ne, args, n, run_product, &p->base);
}
