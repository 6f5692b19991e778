/* Mixture of experts.  The rows of each expert are gathered, multiplied as ordinary products, and
 * added back, so that only the chosen experts cost time.  Must not depend on the number of threads:
 * every sum has one order. */
#include <string.h>

#include "product_int8.h"
#include "transformer_op.h"
#include "vector_math.h"

/* The plan made from the router's logits is one I32 tensor:
 *   offsets  [experts + 1]      first slot of each expert; slots are sorted by expert, then by row
 *   order    [rows * chosen]    which row a slot reads
 *   slots    [rows * chosen]    where the results of a row are
 *   ids      [rows * chosen]    which experts a row chose
 *   weights  [rows * chosen]    their probabilities (the bits of F32) */
typedef struct route {
    rv__op base;
    int experts, chosen;
    int64_t rows;
} route;

static RV__VECTOR void softmax_row(const float *logits, float *p, int n)
{
    float max = logits[0], sum = 0;

    for (int i = 1; i < n; i++)
        max = logits[i] > max ? logits[i] : max;
    for (int i = 0; i < n; i++)
        p[i] = rv__exp(logits[i] - max);
    for (int i = 0; i < n; i++)
        sum += p[i];
    for (int i = 0; i < n; i++)
        p[i] /= sum;
}

/* Picks the largest probabilities; of equal ones the first. */
static void choose(const float *p, int experts, int chosen, int32_t *ids, float *weights)
{
    for (int k = 0; k < chosen; k++) {
        int best = -1;

        for (int i = 0; i < experts; i++) {
            bool taken = false;
            for (int j = 0; j < k; j++)
                taken = taken || ids[j] == i;
            /* Written so that NaN (a damaged model) still leaves a valid index. */
            if (!taken && (best < 0 || p[i] > p[best]))
                best = i;
        }
        ids[k] = best;
        weights[k] = p[best];
    }
}

static void run_route(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    const route *p = user;
    int64_t n = p->rows * p->chosen;
    int32_t *offsets = dst->data, *order = offsets + p->experts + 1, *slots = order + n,
            *ids = slots + n;
    float *weights = (float *)(void *)(ids + n), probabilities[64];
    int32_t next[64];

    (void)threads;
    if (thread != 0) /* a few microseconds of counting */
        return;
    memset(offsets, 0, (size_t)(p->experts + 1) * sizeof *offsets);
    for (int64_t r = 0; r < p->rows; r++) {
        softmax_row((const float *)dst->src[0]->data + r * p->experts, probabilities, p->experts);
        choose(probabilities, p->experts, p->chosen, ids + r * p->chosen, weights + r * p->chosen);
        for (int k = 0; k < p->chosen; k++)
            offsets[ids[r * p->chosen + k] + 1]++;
    }
    for (int e = 0; e < p->experts; e++) {
        offsets[e + 1] += offsets[e];
        next[e] = offsets[e];
    }
    for (int64_t i = 0; i < n; i++) {
        slots[i] = next[ids[i]]++;
        order[slots[i]] = (int32_t)(i / p->chosen);
    }
}

static void run_gather(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    const route *p = user;
    const char *x = dst->src[0]->data;
    const int32_t *order = (const int32_t *)dst->src[1]->data + p->experts + 1;
    int64_t first, last;
    size_t n = dst->nb[1];

    rv__op_share(dst->ne[1], thread, threads, &first, &last);
    for (int64_t s = first; s < last; s++)
        memcpy((char *)dst->data + (size_t)s * n, x + (size_t)order[s] * n, n);
}

static RV__VECTOR void add_scaled(float *restrict y, const float *restrict x, float by, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += by * x[i];
}

static void run_combine(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    const route *p = user;
    const float *shared = dst->src[0]->data, *parts = dst->src[1]->data;
    int64_t first, last, n = dst->ne[0], all = p->rows * p->chosen;
    const int32_t *slots = (const int32_t *)dst->src[2]->data + p->experts + 1 + all;
    const float *weights = (const float *)(const void *)(slots + 2 * all);

    rv__op_share(p->rows, thread, threads, &first, &last);
    for (int64_t r = first; r < last; r++) {
        float *y = (float *)dst->data + r * n;

        memset(y, 0, (size_t)n * sizeof *y);
        for (int k = 0; k < p->chosen; k++)
            add_scaled(y, parts + slots[r * p->chosen + k] * n, weights[r * p->chosen + k], n);
        add_scaled(y, shared + r * n, 1.0f, n);
    }
}

static struct ggml_tensor *plan_part(rv__graph *g, struct ggml_tensor *plan, int64_t first,
                                     int64_t ne0, int64_t ne1)
{
    if (!plan || !rv__graph_room(g, 1))
        return NULL;
    return ggml_view_2d(rv__graph_context(g), plan, ne0, ne1, (size_t)ne0 * 4, (size_t)first * 4);
}

static struct ggml_tensor *route_rows(rv__graph *g, const rv__experts *e, struct ggml_tensor *x,
                                      route *p)
{
    struct ggml_tensor *logits = rv__linear(g, e->gate, NULL, x);
    int64_t ne[4] = {e->count + 1 + 4 * p->rows * e->chosen, 1, 1, 1};

    return rv__op_node(g, GGML_TYPE_I32, ne, &logits, 1, run_route, &p->base);
}

static route *new_route(rv__graph *g, const rv__experts *e, int64_t rows)
{
    route *p = rv__graph_alloc(g, sizeof *p);

    if (p) {
        p->experts = e->count;
        p->chosen = e->chosen;
        p->rows = rows;
    }
    return p;
}

struct ggml_tensor *rv__mix_experts(rv__graph *g, const rv__experts *e, struct ggml_tensor *x,
                                    const char *name)
{
    struct ggml_tensor *plan, *offsets, *slots, *parts, *shared, *from, *args[3];
    int64_t rows, all, ne[4];

    if (!x || e->count < 1 || e->count > 64 || e->chosen < 1 || e->chosen > e->count ||
        !ggml_is_contiguous(x))
        return NULL;
    rows = x->ne[1] * x->ne[2];
    all = rows * e->chosen;
    plan = route_rows(g, e, x, new_route(g, e, rows));
    offsets = plan_part(g, plan, 0, e->count + 1, 1);
    rv__tap(g, plan_part(g, plan, e->count + 1 + 2 * all, e->chosen, rows), "%s.topk_idx", name);
    rv__tap(g, plan_part(g, plan, e->count + 1 + 3 * all, e->chosen, rows), "%s.topk_weight", name);

    /* Rows in eight bits are gathered as such: a quarter of the memory. */
    from = rv__grouped_in_bytes(g, e->w3, e->w1, e->count, all) ? rv__int8_rows(g, x) : x;
    args[0] = from;
    args[1] = plan;
    ne[0] = from ? from->ne[0] : 0, ne[1] = all, ne[2] = ne[3] = 1;
    slots = plan && from ? rv__op_node(g, from->type, ne, args, 2, run_gather,
                                       (rv__op *)new_route(g, e, rows))
                         : NULL;
    parts = rv__grouped_linear(g, e->w3, e->w1, e->count, slots, offsets);
    parts = rv__grouped_linear(g, e->w2, NULL, e->count, parts, offsets);
    shared = rv__linear(g, e->shared_w2, NULL, rv__swiglu(g, e->shared_w1, e->shared_w3, x));
    rv__tap(g, shared, "%s.shared", name);
    if (!parts || !shared)
        return NULL;
    args[0] = shared;
    args[1] = parts;
    args[2] = plan;
    return rv__op_node(g, GGML_TYPE_F32, x->ne, args, 3, run_combine,
                       (rv__op *)new_route(g, e, rows));
}
