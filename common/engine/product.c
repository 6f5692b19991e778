/* Products with weights: linear layers, the gated half of a SwiGLU, and groups of rows with one
 * weight each. One kernel serves all: it cuts the result into tiles, and each thread turns the
 * piece of the weight it needs into F32 and multiplies with it: our own way where the processor has
 * AVX-512 and the product is large (float32.h), else by a single-threaded sgemm.  Must not round
 * activations and must not unpack a whole weight. */
#include <cblas.h>
#include <string.h>

#include "base/memory.h"
#include "float32.h"
#include "graph_op.h"
#include "product_device.h"
#include "product_int8.h"
#include "tensor_rows.h"
#include "vector_math.h"

/* A run of rows that share a weight. */
typedef struct segment {
    const float *x;
    float *y;
    int64_t rows;
    const struct ggml_tensor *weight, *gate; /* gate: silu branch of a SwiGLU, or NULL */
    const float *bias;
} segment;

typedef struct product {
    rv__op base;
    int groups; /* 0: one weight for all rows */
    struct ggml_tensor *const *weights, *const *gates;
    struct ggml_tensor *weight, *gate, *bias;
    int64_t in, out, tile_rows, tile_out;
    bool in_panels; /* made by float32.h */
} product;

enum { PASS = 112 }; /* rows that pass over packed weights at once, out of the second cache */

/* Tiles big enough that packing costs little next to the products themselves, and enough of them
 * for many threads. Must not depend on the number of threads: sgemm's sums may differ in the last
 * bit between tile shapes. */
static void choose_tiles(product *p, int64_t rows)
{
    enum { ROWS = 384, OUT = 384, SMALLEST = 64, TASKS = 24 };

    p->tile_rows = rows < ROWS ? rows : ROWS;
    p->tile_out = p->out < OUT ? p->out : OUT;
    for (;;) {
        int64_t tasks =
            ((rows + p->tile_rows - 1) / p->tile_rows) * ((p->out + p->tile_out - 1) / p->tile_out);
        int64_t *side = p->tile_out >= p->tile_rows ? &p->tile_out : &p->tile_rows;

        if (tasks >= TASKS || *side <= SMALLEST)
            return;
        *side = (*side / 2 + 15) / 16 * 16;
    }
}

static int64_t tasks_of(const product *p, int64_t rows)
{
    return ((rows + p->tile_rows - 1) / p->tile_rows) * ((p->out + p->tile_out - 1) / p->tile_out);
}

/* Each task packs its piece of the weight, so it is as large as leaves enough tasks.  Results do not
 * depend on it. */
static void choose_panels(product *p, int64_t rows, int threads)
{
    enum { OUT = 192, STEP = 64, FLOATS = 1 << 20, EACH = 4 };
    int64_t want = (int64_t)EACH * threads, segments = p->groups ? p->groups : 1;

    p->tile_rows = (rows + PASS - 1) / PASS * PASS;
    p->tile_out = OUT;
    while (p->tile_out > STEP &&
           (p->tile_out * p->in > FLOATS || segments * tasks_of(p, rows) < want))
        p->tile_out -= STEP;
    while (p->tile_rows > 2 * PASS && segments * tasks_of(p, rows) < want)
        p->tile_rows = (p->tile_rows / 2 + PASS - 1) / PASS * PASS;
    if (p->groups && p->tile_rows >= rows)
        p->tile_rows = INT32_MAX; /* an expert may have more rows than its share */
}

static bool is_ready(const struct ggml_tensor *w)
{
    return w->type == GGML_TYPE_F32 && rv__weight_is_plain(w);
}

static const rv__addition *additions_of(const struct ggml_tensor *w)
{
    return w->extra ? ((const rv__leaf *)w->extra)->additions : NULL;
}

/* To unpack it, or for its additions afterwards. */
static size_t weight_bytes(const product *p, const struct ggml_tensor *w)
{
    int64_t rows = p->in_panels ? PASS : p->tile_rows,
            unpacked = p->in_panels ? RV__FLOAT32_PANEL : p->tile_out;
    size_t need = w && !is_ready(w) ? (size_t)(unpacked * p->in) : 0;

    for (const rv__addition *a = w ? additions_of(w) : NULL; a; a = a->next) {
        size_t own = (size_t)(a->down->shape[0] * (p->in + p->tile_out + rows));

        need = own > need ? own : need;
    }
    return need * sizeof(float);
}

/* Rows [first, first + count) of a weight as F32: where they lie, or unpacked into room. */
static const float *weight_rows(const struct ggml_tensor *w, int64_t first, int64_t count,
                                float *room)
{
    if (is_ready(w))
        return (const float *)(const void *)((const char *)w->data + (size_t)first * w->nb[1]);
    rv__weight_rows(w, first, count, room);
    return room;
}

/* y (rows x count, stride ldy) = x w^T, or += when add is set. */
static void multiply(const float *x, const float *w, float *y, int64_t rows, int64_t count,
                     int64_t in, int64_t ldy, bool add)
{
    float beta = add ? 1.0f : 0.0f;

    if (rows == 1)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)count, (int)in, 1.0f, w, (int)in, x, 1, beta,
                    y, 1);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)count, (int)in, 1.0f,
                    x, (int)in, w, (int)in, beta, y, (int)ldy);
}

/* Rows of a small matrix as F32: where they lie, or unpacked behind *room, which moves on. */
static const float *small_rows(const rv__tensor *t, int64_t first, int64_t count, float **room)
{
    float *at = *room;

    if (t->type == GGML_TYPE_F32 && rv__tensor_is_plain(t))
        return (const float *)t->data + first * t->shape[1];
    rv__tensor_floats(t, first, count, at);
    *room += count * t->shape[1];
    return at;
}

/* y += scale * (x down^T) up^T for each low-rank addition to the weight. */
static void add_low_rank(const struct ggml_tensor *w, const float *x, float *y, int64_t rows,
                         int64_t col, int64_t count, int64_t ldy, float *room)
{
    enum { STEP = 64 }; /* sgemm's sums may depend on the width, tiles may on the threads */

    for (const rv__addition *a = additions_of(w); a; a = a->next) {
        int64_t rank = a->down->shape[0];
        float *inner = room, *rest = room + rows * rank;
        const float *down = small_rows(a->down, 0, rank, &rest),
                    *up = small_rows(a->up, col, count, &rest);

        multiply(x, down, inner, rows, rank, w->ne[0], rank, false);
        for (int64_t at = 0; at < count; at += STEP)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows,
                        (int)(count - at < STEP ? count - at : STEP), (int)rank, a->scale, inner,
                        (int)rank, up + at * rank, (int)rank, 1.0f, y + at, (int)ldy);
    }
}

static RV__VECTOR void gate_rows(float *y, const float *gate, int64_t rows, int64_t count,
                                 int64_t ldy)
{
    for (int64_t r = 0; r < rows; r++) {
        float *restrict to = y + r * ldy;
        const float *restrict by = gate + r * count;

        for (int64_t i = 0; i < count; i++)
            to[i] *= rv__silu(by[i]);
    }
}

static void set_bias(const float *bias, float *y, int64_t rows, int64_t count, int64_t ldy)
{
    for (int64_t r = 0; bias && r < rows; r++)
        memcpy(y + r * ldy, bias, (size_t)count * sizeof *y);
}

/* Some outputs of a weight as panels behind *room, which moves on. */
static const float *panels_of(const struct ggml_tensor *w, int64_t col, int64_t count, float **room)
{
    int64_t in = w->ne[0];
    float *panels = *room, *rows = panels + rv__float32_room(in, count);

    for (int64_t o = 0; o < count; o += RV__FLOAT32_PANEL) {
        int64_t n = count - o < RV__FLOAT32_PANEL ? count - o : RV__FLOAT32_PANEL;

        rv__float32_pack(weight_rows(w, col + o, n, rows), n, in, in, panels + o * in);
    }
    *room = rows;
    return panels;
}

static void run_panels(const product *p, const segment *s, int64_t row, int64_t col, float *room)
{
    int64_t end = s->rows - row < p->tile_rows ? s->rows : row + p->tile_rows;
    int64_t count = p->out - col < p->tile_out ? p->out - col : p->tile_out;
    const float *panels = panels_of(s->weight, col, count, &room),
                *gates = s->gate ? panels_of(s->gate, col, count, &room) : NULL;
    float *gate = room, *rest = gates ? room + PASS * p->tile_out : room;

    for (; row < end; row += PASS) {
        int64_t rows = end - row < PASS ? end - row : PASS;
        const float *x = s->x + row * p->in;
        float *y = s->y + row * p->out + col;

        set_bias(s->bias ? s->bias + col : NULL, y, rows, count, p->out);
        rv__float32_multiply(x, p->in, rows, panels, p->in, count, 1, y, p->out, s->bias != NULL);
        add_low_rank(s->weight, x, y, rows, col, count, p->out, rest);
        if (!gates)
            continue;
        rv__float32_multiply(x, p->in, rows, gates, p->in, count, 1, gate, count, false);
        add_low_rank(s->gate, x, gate, rows, col, count, count, rest);
        gate_rows(y, gate, rows, count, p->out);
    }
}

static void run_tile(const product *p, const segment *s, int64_t row, int64_t col, float *room)
{
    int64_t rows = s->rows - row < p->tile_rows ? s->rows - row : p->tile_rows;
    int64_t count = p->out - col < p->tile_out ? p->out - col : p->tile_out;
    const float *x = s->x + row * p->in;
    float *y = s->y + row * p->out + col;

    set_bias(s->bias ? s->bias + col : NULL, y, rows, count, p->out);
    multiply(x, weight_rows(s->weight, col, count, room), y, rows, count, p->in, p->out,
             s->bias != NULL);
    add_low_rank(s->weight, x, y, rows, col, count, p->out, room);
    if (s->gate) {
        float *gate = room;

        room += p->tile_rows * p->tile_out;
        multiply(x, weight_rows(s->gate, col, count, room), gate, rows, count, p->in, count, false);
        add_low_rank(s->gate, x, gate, rows, col, count, count, room);
        gate_rows(y, gate, rows, count, p->out);
    }
}

/* Segment i of the product, read from the graph's tensors when it runs. */
static segment segment_at(const product *p, const struct ggml_tensor *dst, int i)
{
    const struct ggml_tensor *x = dst->src[0];
    segment s = {.weight = p->weight, .gate = p->gate, .rows = x->ne[1]};
    int64_t first = 0;

    if (p->groups > 0) {
        const int32_t *offsets = dst->src[1]->data;

        first = offsets[i];
        s.rows = offsets[i + 1] - first;
        s.weight = p->weights[i];
        s.gate = p->gates ? p->gates[i] : NULL;
    } else if (x->nb[2] == x->nb[1] * (size_t)x->ne[1]) {
        s.rows = x->ne[1] * x->ne[2];
    } else {
        s.x = (const float *)(const void *)((const char *)x->data + (size_t)i * x->nb[2]);
        s.y = (float *)(void *)((char *)dst->data + (size_t)i * dst->nb[2]);
    }
    if (!s.x) {
        s.x = (const float *)x->data + first * p->in;
        s.y = (float *)dst->data + first * p->out;
    }
    s.bias = p->bias ? p->bias->data : NULL;
    return s;
}

static int segment_count(const product *p, const struct ggml_tensor *x)
{
    if (p->groups > 0)
        return p->groups;
    return x->nb[2] == x->nb[1] * (size_t)x->ne[1] ? 1 : (int)x->ne[2];
}

static void run_product(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    product *p = user;
    int segments = segment_count(p, dst->src[0]), task;
    int64_t across = (p->out + p->tile_out - 1) / p->tile_out, total = 0;
    float *room = rv__op_scratch(&p->base, thread);

    for (int i = 0; i < segments; i++) {
        segment s = segment_at(p, dst, i);
        total += tasks_of(p, s.rows);
    }
    while (rv__op_next(&p->base, thread, (int)total, &task)) {
        int64_t rest = task;
        int i = 0;
        segment s = segment_at(p, dst, 0);

        while (rest >= tasks_of(p, s.rows)) {
            rest -= tasks_of(p, s.rows);
            s = segment_at(p, dst, ++i);
        }
        (p->in_panels ? run_panels : run_tile)(p, &s, rest / across * p->tile_rows,
                                               rest % across * p->tile_out, room);
    }
    rv__op_done(&p->base, threads);
}

/* Floats that a thread needs for a tile of this weight, and of its gate. */
static size_t scratch_of(const product *p, const struct ggml_tensor *w,
                         const struct ggml_tensor *gate)
{
    size_t one = weight_bytes(p, w), other = weight_bytes(p, gate),
           need = one > other ? one : other;

    if (p->in_panels) {
        need += (size_t)((gate ? 2 : 1) * rv__float32_room(p->in, p->tile_out)) * sizeof(float);
        return need + (gate ? (size_t)(PASS * p->tile_out) * sizeof(float) : 0);
    }
    return need + (gate ? (size_t)(p->tile_rows * p->tile_out) * sizeof(float) : 0);
}

/* Products of few rows or outputs are sgemm's: packing would be most of the work. */
static bool fits_panels(const product *p, int64_t rows)
{
    enum { LEAST = 16 };

    return rv__float32_usable() && rows >= LEAST && p->out >= RV__FLOAT32_PANEL;
}

static struct ggml_tensor *build(rv__graph *g, product *p, struct ggml_tensor **args, int n_args,
                                 int64_t rows)
{
    const struct ggml_tensor *x = args[0], *w = p->groups ? p->weights[0] : p->weight;
    int64_t ne[4] = {w->ne[1], x->ne[1], x->ne[2], x->ne[3]};
    size_t scratch = 0;

    p->in = w->ne[0];
    p->out = w->ne[1];
    p->in_panels = fits_panels(p, rows);
    if (p->in_panels)
        choose_panels(p, rows, rv__graph_threads(g));
    else
        choose_tiles(p, rows);
    for (int i = 0; i < (p->groups ? p->groups : 1); i++) {
        size_t need = p->groups
                          ? scratch_of(p, p->weights[i], p->gates ? p->gates[i] : NULL)
                          : scratch_of(p, p->weight, p->gate);

        scratch = need > scratch ? need : scratch;
    }
    rv__graph_scratch(g, scratch);
    return rv__op_node(g, GGML_TYPE_F32, ne, args, n_args, run_product, &p->base);
}

/* Rows must be whole; batches may lie apart. */
static struct ggml_tensor *with_whole_rows(rv__graph *g, struct ggml_tensor *x)
{
    if (x->nb[0] == sizeof(float) && x->nb[1] == (size_t)x->ne[0] * sizeof(float) && x->ne[3] == 1)
        return x;
    if (!rv__graph_room(g, 1))
        return NULL;
    return ggml_cont(rv__graph_context(g), x);
}

static bool fits(rv__graph *g, const struct ggml_tensor *w, const struct ggml_tensor *x)
{
    if (w->ne[0] == x->ne[0] && x->type == GGML_TYPE_F32 && w->ne[2] == 1 && w->ne[3] == 1)
        return true;
    rv__graph_refuse(g, "a product's weight does not fit its input");
    return false;
}

static struct ggml_tensor *single(rv__graph *g, struct ggml_tensor *weight,
                                  struct ggml_tensor *gate, struct ggml_tensor *bias,
                                  struct ggml_tensor *x)
{
    struct ggml_tensor *args[4];
    product *p;
    int n = 0;

    if (!weight || !x || !fits(g, weight, x))
        return NULL;
    rv__gpu_product there = {.weight = weight, .gate = gate, .bias = bias};
    if (rv__gpu_fits(g, &there, x->ne[1] * x->ne[2]))
        return rv__gpu_build(g, &there, x);
    if (rv__int8_fits(g, weight, gate, x->ne[1] * x->ne[2]))
        return rv__int8_build(g, &(rv__int8_product){.weight = weight, .gate = gate, .bias = bias},
                              x, weight->ne[0], weight->ne[1], x->ne[1] * x->ne[2]);
    x = with_whole_rows(g, x);
    p = rv__graph_alloc(g, sizeof *p);
    if (!p || !x)
        return NULL;
    p->weight = weight;
    p->gate = gate;
    p->bias = bias;
    args[n++] = x;
    args[n++] = weight; /* sources, so that ggml gives them memory when they are computed */
    if (gate)
        args[n++] = gate;
    if (bias)
        args[n++] = bias;
    return build(g, p, args, n, x->ne[1] * x->ne[2]);
}

struct ggml_tensor *rv__linear(rv__graph *g, struct ggml_tensor *weight, struct ggml_tensor *bias,
                               struct ggml_tensor *x)
{
    return single(g, weight, NULL, bias, x);
}

struct ggml_tensor *rv__swiglu(rv__graph *g, struct ggml_tensor *w1, struct ggml_tensor *w3,
                               struct ggml_tensor *x)
{
    return w1 && w3 ? single(g, w3, w1, NULL, x) : NULL;
}

bool rv__grouped_in_bytes(rv__graph *g, struct ggml_tensor *const *weights,
                          struct ggml_tensor *const *gates, int groups, int64_t rows)
{
    if (rv__graph_gpu(g))
        return false;
    for (int i = 0; i < groups; i++)
        if (!rv__int8_fits(g, weights[i], gates ? gates[i] : NULL, rows))
            return false;
    return true;
}

struct ggml_tensor *rv__grouped_linear(rv__graph *g, struct ggml_tensor *const *weights,
                                       struct ggml_tensor *const *gate_weights, int groups,
                                       struct ggml_tensor *x, struct ggml_tensor *offsets)
{
    struct ggml_tensor *args[2] = {x, offsets};
    bool in_bytes = x && x->type == GGML_TYPE_I8;
    product *p;

    if (!x || !offsets || groups < 1 || offsets->ne[0] != groups + 1)
        return NULL;
    for (int i = 0; i < groups; i++)
        if (!weights[i] || (!in_bytes && !fits(g, weights[i], x)))
            return NULL;
    rv__gpu_product there = {
        .groups = groups, .weights = weights, .gates = gate_weights, .offsets = offsets};
    if (!in_bytes && rv__gpu_fits(g, &there, x->ne[1]))
        return rv__gpu_build(g, &there, x);
    if (rv__grouped_in_bytes(g, weights, gate_weights, groups, x->ne[1]))
        return rv__int8_build(g,
                              &(rv__int8_product){.groups = groups, .weights = weights,
                                                  .gates = gate_weights, .offsets = offsets},
                              x, weights[0]->ne[0], weights[0]->ne[1], x->ne[1] / groups + 1);
    p = in_bytes ? NULL : rv__graph_alloc(g, sizeof *p);
    if (!p)
        return NULL;
    p->groups = groups;
    p->weights = weights;
    p->gates = gate_weights;
    return build(g, p, args, 2, x->ne[1] / groups + 1);
}
