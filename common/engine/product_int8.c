/* Products with weights in eight bits (int8.h): what rv__linear and its relatives build in a graph
 * that may be fast instead of exact.  Weights stored in eight bits or more are packed once, by
 * whichever thread meets a panel first, and their mapped pages are given back; smaller ones are
 * packed anew in each run, so that a four-bit model stays a four-bit model in memory. */
#include "product_int8.h"

#include <string.h>

#include "base/memory.h"
#include "tensor_rows.h"
#include "vector_math.h"

enum { LEAST_ROWS = 16, LEAST_SIDE = 128, ALIGN = RV__INT8_ALIGN };

/* ---- packed weights ---- */

enum { EMPTY, FILLING, READY };

struct rv__packed {
    rv__int8_block *blocks;
    void *room;
    int64_t per_panel, panels;
    atomic_int left; /* panels that are not ready */
    atomic_uchar state[];
};

void rv__packed_free(rv__packed *p)
{
    if (p)
        rv__free(p->room);
    rv__free(p);
}

static rv__packed *new_packed(const struct ggml_tensor *w)
{
    int64_t panels = rv__int8_panels(w->ne[1]), per_panel = rv__int8_blocks(w->ne[0]);
    rv__packed *p = rv__calloc(1, sizeof *p + (size_t)panels);

    if (!p)
        return NULL;
    p->room = rv__alloc((size_t)(panels * per_panel) * sizeof *p->blocks + ALIGN);
    if (!p->room) {
        rv__free(p);
        return NULL;
    }
    p->blocks = (void *)(((uintptr_t)p->room + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
    p->per_panel = per_panel;
    p->panels = panels;
    atomic_init(&p->left, (int)panels);
    return p;
}

/* Scratch of a thread: one panel of each of two weights, its floats, two tiles of results. */
typedef struct scratch {
    rv__int8_block *panel[2];
    float *floats, *tile[2];
} scratch;

/* Few rows at a time, so that their floats stay in the second cache. */
static void pack_panel(const struct ggml_tensor *w, int64_t panel, float *floats,
                       rv__int8_block *out)
{
    for (int i = 0; i < RV__INT8_PANEL; i += RV__INT8_ROWS) {
        int64_t first = panel * RV__INT8_PANEL + i, rows = w->ne[1] - first;

        rows = rows < 0 ? 0 : rows > RV__INT8_ROWS ? RV__INT8_ROWS : rows;
        if (w->type == GGML_TYPE_Q4_K && rv__weight_is_plain(w)) {
            rv__int8_pack_q4_k((const uint8_t *)w->data + (size_t)first * w->nb[1], rows, w->nb[1],
                               w->ne[0], i, out);
            continue;
        }
        if (rows > 0)
            rv__weight_rows(w, first, rows, floats);
        rv__int8_pack(floats, rows, w->ne[0], w->ne[0], false, i, out);
    }
}

/* The panel where it is kept, or in own when another thread is just packing it or nobody may. */
static const rv__int8_block *panel_of(const struct ggml_tensor *w, int64_t panel,
                                      rv__int8_block *own, float *floats)
{
    rv__packed *p = ((const rv__leaf *)w->extra)->packed;
    unsigned char empty = EMPTY;
    rv__int8_block *at;

    if (p && atomic_load_explicit(&p->state[panel], memory_order_acquire) == READY)
        return p->blocks + panel * p->per_panel;
    if (!p || !atomic_compare_exchange_strong(&p->state[panel], &empty, FILLING)) {
        pack_panel(w, panel, floats, own);
        return own;
    }
    at = p->blocks + panel * p->per_panel;
    pack_panel(w, panel, floats, at);
    atomic_store_explicit(&p->state[panel], READY, memory_order_release);
    if (atomic_fetch_sub(&p->left, 1) == 1)
        rv__param_rest(w); /* read for the last time, unless somebody wants exact products again */
    return at;
}

/* ---- rows ---- */

static void run_rows(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    const struct ggml_tensor *x = dst->src[0];
    int64_t first, last;

    (void)user;
    rv__op_share(x->ne[1] * x->ne[2], thread, threads, &first, &last);
    for (int64_t r = first; r < last; r++) {
        size_t at = (size_t)(r % x->ne[1]) * x->nb[1] + (size_t)(r / x->ne[1]) * x->nb[2];

        rv__int8_row((const float *)(const void *)((const char *)x->data + at), x->ne[0],
                     (uint8_t *)dst->data + (size_t)r * dst->nb[1]);
    }
}

struct ggml_tensor *rv__int8_rows(rv__graph *g, struct ggml_tensor *x)
{
    struct ggml_tensor *rows;
    int64_t ne[4];

    if (!x || x->type == GGML_TYPE_I8)
        return x;
    rows = rv__graph_remembered(g, x);
    if (rows)
        return rows;
    if (x->type != GGML_TYPE_F32 || x->nb[0] != sizeof(float) || x->ne[3] != 1)
        return NULL;
    memcpy(ne, x->ne, sizeof ne);
    ne[0] = (int64_t)rv__int8_row_bytes(x->ne[0]);
    rows = rv__op_node(g, GGML_TYPE_I8, ne, &x, 1, run_rows, rv__graph_alloc(g, sizeof(rv__op)));
    rv__graph_remember(g, x, rows);
    return rows;
}

/* ---- products ---- */

typedef struct product {
    rv__op base;
    rv__int8_product what;
    int64_t in, out, blocks;
    int64_t task_rows, tile_rows; /* rows of a task; of one pass over a panel */
    int64_t panels;
} product;

typedef struct segment {
    const struct ggml_tensor *weight, *gate;
    int64_t first, rows;
} segment;

static segment segment_at(const product *p, const struct ggml_tensor *dst, int i)
{
    segment s = {p->what.weight, p->what.gate, 0, dst->ne[1] * dst->ne[2]};

    if (p->what.groups > 0) {
        const int32_t *offsets = dst->src[1]->data;

        s.first = offsets[i];
        s.rows = offsets[i + 1] - s.first;
        s.weight = p->what.weights[i];
        s.gate = p->what.gates ? p->what.gates[i] : NULL;
    }
    return s;
}

static scratch scratch_at(const product *p, char *at)
{
    size_t panel = (size_t)p->blocks * sizeof(rv__int8_block);
    size_t tile = (size_t)p->tile_rows * RV__INT8_PANEL * sizeof(float);
    scratch s;

    s.panel[0] = (rv__int8_block *)(void *)at;
    s.panel[1] = (rv__int8_block *)(void *)(at + panel);
    s.tile[0] = (float *)(void *)(at + 2 * panel);
    s.tile[1] = (float *)(void *)(at + 2 * panel + tile);
    s.floats = (float *)(void *)(at + 2 * panel + 2 * tile);
    return s;
}

static size_t scratch_bytes(const product *p)
{
    return 2 * (size_t)p->blocks * sizeof(rv__int8_block) +
           (size_t)(2 * p->tile_rows * RV__INT8_PANEL + p->in * RV__INT8_ROWS) * sizeof(float);
}

static RV__VECTOR void finish_row(float *restrict y, const float *restrict x,
                                  const float *restrict gate, const float *restrict bias, int64_t n)
{
    if (gate)
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] * rv__silu(gate[i]);
    else if (bias)
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] + bias[i];
    else
        memcpy(y, x, (size_t)n * sizeof *y);
}

static void run_task(const product *p, struct ggml_tensor *dst, const segment *s, int64_t row,
                     int64_t panel, scratch *room)
{
    const uint8_t *x = dst->src[0]->data;
    size_t stride = dst->src[0]->nb[1];
    int64_t col = panel * RV__INT8_PANEL, count = p->out - col, end = row + p->task_rows;
    const rv__int8_block *weight = panel_of(s->weight, panel, room->panel[0], room->floats);
    const rv__int8_block *gate =
        s->gate ? panel_of(s->gate, panel, room->panel[1], room->floats) : NULL;
    const float *bias = p->what.bias ? (const float *)p->what.bias->data + col : NULL;

    count = count < RV__INT8_PANEL ? count : RV__INT8_PANEL;
    end = end < s->rows ? end : s->rows;
    for (; row < end; row += p->tile_rows) {
        int64_t rows = end - row < p->tile_rows ? end - row : p->tile_rows;
        const uint8_t *from = x + (size_t)(s->first + row) * stride;
        float *to = (float *)dst->data + (s->first + row) * p->out + col;

        rv__int8_multiply(from, rows, weight, p->blocks, room->tile[0], RV__INT8_PANEL);
        if (gate)
            rv__int8_multiply(from, rows, gate, p->blocks, room->tile[1], RV__INT8_PANEL);
        for (int64_t r = 0; r < rows; r++)
            finish_row(to + r * p->out, room->tile[0] + r * RV__INT8_PANEL,
                       gate ? room->tile[1] + r * RV__INT8_PANEL : NULL, bias, count);
    }
}

static int64_t tasks_of(const product *p, const segment *s)
{
    return (s->rows + p->task_rows - 1) / p->task_rows * p->panels;
}

static void run_product(struct ggml_tensor *dst, int thread, int threads, void *user)
{
    product *p = user;
    int segments = p->what.groups > 0 ? p->what.groups : 1, task;
    scratch room = scratch_at(p, rv__op_scratch(&p->base, thread));
    int64_t total = 0;

    for (int i = 0; i < segments; i++) {
        segment s = segment_at(p, dst, i);
        total += tasks_of(p, &s);
    }
    while (rv__op_next(&p->base, thread, (int)total, &task)) {
        int64_t rest = task;
        int i = 0;
        segment s = segment_at(p, dst, 0);

        while (rest >= tasks_of(p, &s)) {
            rest -= tasks_of(p, &s);
            s = segment_at(p, dst, ++i);
        }
        run_task(p, dst, &s, rest / p->panels * p->task_rows, rest % p->panels, &room);
    }
    rv__op_done(&p->base, threads);
}

/* ---- building ---- */

static bool can_pack(const struct ggml_tensor *w)
{
    const rv__leaf *leaf = w->extra;

    return leaf && leaf->tensor && !leaf->additions && !leaf->patches && w->ne[0] >= LEAST_SIDE &&
           w->ne[1] >= LEAST_SIDE && w->data;
}

bool rv__int8_fits(rv__graph *g, const struct ggml_tensor *weight, const struct ggml_tensor *gate,
                   int64_t rows)
{
    return rv__graph_is_fast(g) && rows >= LEAST_ROWS && can_pack(weight) &&
           (!gate || can_pack(gate));
}

/* Is a packed copy kept?  Not when it would be larger than what is stored. */
static bool prepare(const struct ggml_tensor *w)
{
    rv__leaf *leaf = w ? w->extra : NULL;

    if (leaf && !leaf->packed && ggml_row_size(w->type, w->ne[0]) >= (size_t)w->ne[0])
        leaf->packed = new_packed(w);
    return leaf && leaf->packed;
}

static bool prepare_all(const product *p)
{
    bool kept = true;

    if (p->what.groups == 0)
        return prepare(p->what.weight) && (!p->what.gate || prepare(p->what.gate));
    for (int i = 0; i < p->what.groups; i++) {
        kept = prepare(p->what.weights[i]) && kept;
        kept = (!p->what.gates || prepare(p->what.gates[i])) && kept;
    }
    return kept;
}

/* Where a panel is packed for each task, tasks take all rows; otherwise enough tasks for all
 * threads, and rows that stay in the second cache. */
static void choose_tiles(product *p, int64_t rows, bool kept)
{
    enum { CACHE = 384 << 10, MOST = 192, TASKS = 32 };
    int64_t fit = CACHE / (int64_t)rv__int8_row_bytes(p->in) / 6 * 6;

    p->tile_rows = fit < 24 ? 24 : fit > MOST ? MOST : fit;
    p->task_rows = kept ? p->tile_rows : rows;
    while (kept && p->task_rows > 48 &&
           (rows + p->task_rows - 1) / p->task_rows * p->panels < TASKS)
        p->task_rows = (p->task_rows / 2 + 5) / 6 * 6;
    if (p->tile_rows > p->task_rows)
        p->tile_rows = p->task_rows;
}

struct ggml_tensor *rv__int8_build(rv__graph *g, const rv__int8_product *what,
                                   struct ggml_tensor *x, int64_t in, int64_t out, int64_t rows)
{
    struct ggml_tensor *args[2] = {rv__int8_rows(g, x), what->offsets};
    product *p = rv__graph_alloc(g, sizeof *p);
    int64_t ne[4] = {out, x->ne[1], x->ne[2], 1};

    if (!p || !args[0])
        return NULL;
    p->what = *what;
    p->in = in;
    p->out = out;
    p->blocks = rv__int8_blocks(in);
    p->panels = rv__int8_panels(out);
    choose_tiles(p, rows, prepare_all(p));
    rv__graph_scratch(g, scratch_bytes(p));
    return rv__op_node(g, GGML_TYPE_F32, ne, args, what->offsets ? 2 : 1, run_product, &p->base);
}
