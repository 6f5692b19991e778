/* See transformer.h.  One graph per size, built here and run for every step; another small one
 * projects the texts. */
#include "transformer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "transformer_internal.h"

/* Fixed in the reference. */
#define NORM_EPS 1e-6f /* layer norms */
#define QK_EPS   1e-5f /* norms of query and key */

rv_status rv__transformer_open(rv__device *d, const rv__weights *w, rv__transformer **out,
                               rv_error *err)
{
    rv__transformer *t = rv__calloc(1, sizeof *t);
    rv_status status;
    size_t blocks;

    *out = NULL;
    if (!t)
        return rv__fail(err, RV_MEMORY, "out of memory");
    t->device = d;
    status = rv__transformer_net_open(&t->net, w, err);
    if (status == RV_OK) {
        blocks = (size_t)rv__transformer_block_count(t);
        t->llama = rv__calloc(blocks, sizeof *t->llama);
        t->projected = rv__calloc(blocks + 1, sizeof *t->projected);
        t->raw_llama = rv__calloc((size_t)t->net.config.llama_count, sizeof *t->raw_llama);
        if (!t->llama || !t->projected || !t->raw_llama)
            status = rv__fail(err, RV_MEMORY, "out of memory");
    }
    if (status != RV_OK) {
        rv__transformer_close(t);
        return status;
    }
    *out = t;
    return RV_OK;
}

void rv__transformer_close(rv__transformer *t)
{
    if (!t)
        return;
    rv__transformer_release(t);
    rv__step_cache_free(&t->cache);
    rv__transformer_net_close(&t->net);
    rv__free(t->llama);
    rv__free(t->projected);
    rv__free(t->raw_llama);
    rv__free(t);
}

const rv__transformer_config *rv__transformer_about(const rv__transformer *t)
{
    return &t->net.config;
}

void rv__transformer_taps(rv__transformer *t, rv__tap_fn *fn, void *user)
{
    t->tap = fn;
    t->tap_user = user;
    memset(&t->shape, 0, sizeof t->shape); /* the graph is built anew, with or without taps */
}

void rv__transformer_fast(rv__transformer *t, bool fast)
{
    if (fast != t->is_fast)
        rv__transformer_release(t);
    t->is_fast = fast;
}

void rv__transformer_release(rv__transformer *t)
{
    rv__graph_free(t->graph);
    rv__graph_free(t->text_graph);
    t->graph = t->text_graph = NULL;
    memset(&t->shape, 0, sizeof t->shape);
    rv__transformer_release_parts(t);
}

rv_status rv__transformer_change(rv__transformer *t, const struct rv__lora_part *part, float weight,
                                 rv_error *err)
{
    rv__transformer_release(t); /* its products have no room for it */
    return rv__params_change(t->net.params, part, weight, err);
}

void rv__transformer_plain(rv__transformer *t)
{
    rv__transformer_release(t);
    rv__params_plain(t->net.params);
}

size_t rv__transformer_bytes(const rv__transformer *t)
{
    return (t->graph ? rv__graph_bytes(t->graph) : 0) +
           (t->text_graph ? rv__graph_bytes(t->text_graph) : 0);
}

double rv__transformer_flops(const rv__transformer *t)
{
    return t->flops;
}

/* ---- texts ---- */

static rv_status build_text_graph(rv__transformer *t, rv_error *err)
{
    const rv__transformer_config *c = &t->net.config;
    int64_t blocks = rv__transformer_block_count(t);
    rv__graph *g = rv__graph_new(t->device, (size_t)(6 * blocks + c->llama_count + 64));

    if (!g)
        return rv__fail(err, RV_MEMORY, "out of memory");
    t->text_graph = g;
    rv__graph_taps(g, t->tap, t->tap_user);
    memset(t->raw_llama, 0, (size_t)c->llama_count * sizeof *t->raw_llama);
    t->raw_t5 = rv__graph_input(g, GGML_TYPE_F32, c->t5_channels, t->shape.t5, t->shape.batch, 1);
    for (int64_t i = 0; i <= blocks; i++) {
        struct ggml_tensor *x = t->raw_t5;

        if (i < blocks) {
            struct ggml_tensor **layer = &t->raw_llama[c->llama_layers[i]];
            if (!*layer)
                *layer = rv__graph_input(g, GGML_TYPE_F32, c->llama_channels, t->shape.llama,
                                         t->shape.batch, 1);
            x = *layer;
        }
        t->projected[i] = rv__linear(g, t->net.captions[i], NULL, x);
        rv__tap(g, t->projected[i], "caption_projection.%lld", (long long)i);
        rv__graph_output(g, t->projected[i]);
    }
    return rv__graph_build(g, err);
}

/* Joins the rows of the batch: a graph's input is one tensor. */
static void set_rows(rv__graph *g, struct ggml_tensor *to, float *room, const float *const *rows,
                     int64_t batch, int64_t each)
{
    for (int64_t b = 0; b < batch; b++)
        memcpy(room + b * each, rows[b], (size_t)each * sizeof *room);
    rv__graph_set(g, to, room, (size_t)(batch * each) * sizeof *room);
}

static void set_texts(rv__transformer *t, const rv__condition *rows, float *room)
{
    const rv__transformer_config *c = &t->net.config;
    const float *from[8];
    int64_t batch = t->shape.batch, each = t->shape.llama * c->llama_channels;

    for (int64_t b = 0; b < batch; b++)
        from[b] = rows[b].t5;
    set_rows(t->text_graph, t->raw_t5, room, from, batch, t->shape.t5 * c->t5_channels);
    for (int64_t k = 0; k < c->llama_count; k++) {
        for (int64_t b = 0; b < batch; b++)
            from[b] = rows[b].llama + k * each;
        if (t->raw_llama[k])
            set_rows(t->text_graph, t->raw_llama[k], room, from, batch, each);
    }
    for (int64_t b = 0; b < batch; b++)
        from[b] = rows[b].pooled;
    set_rows(t->graph, t->pooled, room, from, batch, c->pooled_channels);
}

static rv_status project_texts(rv__transformer *t, const rv__condition *rows, rv_error *err)
{
    const rv__transformer_config *c = &t->net.config;
    int64_t most = c->width > c->t5_channels ? c->width : c->t5_channels;
    int64_t blocks = rv__transformer_block_count(t);
    int64_t tokens = t->shape.t5 > t->shape.llama ? t->shape.t5 : t->shape.llama;
    rv_status status;
    float *room;

    most = most > c->llama_channels ? most : c->llama_channels;
    room =
        rv__calloc((size_t)(most * tokens * t->shape.batch + c->pooled_channels * t->shape.batch),
                   sizeof *room);
    if (!room)
        return rv__fail(err, RV_MEMORY, "out of memory");
    set_texts(t, rows, room);
    status = rv__graph_run(t->text_graph, NULL, NULL, err);
    for (int64_t i = 0; status == RV_OK && i <= blocks; i++) {
        struct ggml_tensor *from = t->projected[i];

        rv__graph_get(t->text_graph, from, room, ggml_nbytes(from));
        rv__graph_set(t->graph, i < blocks ? t->llama[i] : t->t5, room, ggml_nbytes(from));
        rv__param_rest(t->net.captions[i]); /* until the next picture */
        if (t->machines && i < blocks && i >= t->first_of[0])
            status = rv__transformer_send_text(t, i, room, (size_t)ggml_nelements(from), err);
    }
    rv__free(room);
    return status;
}

/* ---- the network ---- */

static struct ggml_tensor *apply(rv__graph *g, rv__layer l, struct ggml_tensor *x)
{
    return rv__linear(g, l.weight, l.bias, x);
}

/* Query and key: a softmax makes much of small errors, so they stay in float32 (speed.md). */
static struct ggml_tensor *apply_exactly(rv__transformer *t, rv__layer l, struct ggml_tensor *x)
{
    struct ggml_tensor *y;

    rv__graph_fast(t->graph, false);
    y = apply(t->graph, l, x);
    rv__graph_fast(t->graph, t->is_fast);
    return y;
}

static struct ggml_tensor *two_layers(rv__graph *g, rv__layer first, rv__layer second,
                                      struct ggml_tensor *x)
{
    return apply(g, second, rv__activate(g, apply(g, first, x), RV__SILU));
}

/* Query or key of both streams, ready for attention. */
static struct ggml_tensor *turned(rv__transformer *t, struct ggml_tensor *a, struct ggml_tensor *b,
                                  struct ggml_tensor *norm_a, struct ggml_tensor *norm_b,
                                  bool is_key)
{
    return rv__join_tokens(t->graph, &(rv__join){.a = a,
                                                 .b = b,
                                                 .norm_a = norm_a,
                                                 .norm_b = norm_b,
                                                 .cosine = t->cosine,
                                                 .sine = t->sine,
                                                 .heads = (int)t->net.config.heads,
                                                 .eps = QK_EPS,
                                                 .zero = is_key && t->pad ? t->tokens : -1});
}

static struct ggml_tensor *joined(rv__graph *g, struct ggml_tensor *a, struct ggml_tensor *b)
{
    return a && b ? rv__join_tokens(g, &(rv__join){.a = a, .b = b, .zero = -1}) : NULL;
}

static struct ggml_tensor *attend(rv__transformer *t, struct ggml_tensor *q, struct ggml_tensor *k,
                                  struct ggml_tensor *v)
{
    const rv__transformer_config *c = &t->net.config;

    return rv__attention(t->graph, q, k, v, t->mask, (int)c->heads, (int)c->heads,
                         1.0f / sqrtf((float)c->head));
}

/* Chunks of a modulation: shift, scale and gate of attention, then of the feed-forward; text after
 * image. */
enum { ATTENTION = 0, MLP = 3, TEXT = 6, SHIFT = 0, SCALE = 1, GATE = 2 };

static struct ggml_tensor *shifted(rv__graph *g, struct ggml_tensor *x, struct ggml_tensor *m,
                                   int chunk)
{
    return rv__modulate(g, x, m, chunk + SHIFT, chunk + SCALE, NORM_EPS);
}

static struct ggml_tensor *mixed(rv__transformer *t, const rv__block *b, struct ggml_tensor *x,
                                 struct ggml_tensor *m, const char *name)
{
    struct ggml_tensor *y;
    char full[64];

    snprintf(full, sizeof full, "%s.moe", name);
    y = rv__mix_experts(t->graph, &b->experts, shifted(t->graph, x, m, MLP), full);
    return rv__gated_add(t->graph, x, rv__tap(t->graph, y, "%s", full), m, MLP + GATE);
}

static void double_block(rv__transformer *t, const rv__block *b, struct ggml_tensor *emb,
                         const char *name, struct ggml_tensor **image, struct ggml_tensor **text)
{
    rv__graph *g = t->graph;
    struct ggml_tensor *m = rv__tap(g, apply(g, b->adaln, emb), "%s.adaln", name);
    struct ggml_tensor *x = shifted(g, *image, m, ATTENTION),
                       *y = shifted(g, *text, m, TEXT + ATTENTION);
    struct ggml_tensor *q, *k, *v, *both;
    int64_t n = t->tokens + t->pad;

    q = turned(t, apply_exactly(t, b->image.q, x), apply_exactly(t, b->text.q, y),
               b->image.q_norm, b->text.q_norm, false);
    k = turned(t, apply_exactly(t, b->image.k, x), apply_exactly(t, b->text.k, y),
               b->image.k_norm, b->text.k_norm, true);
    v = joined(g, apply(g, b->image.v, x), apply(g, b->text.v, y));
    both = attend(t, q, k, v);
    x = apply(g, b->image.out, rv__tokens(g, both, 0, n));
    y = both ? apply(g, b->text.out, rv__tokens(g, both, n, both->ne[1] - n)) : NULL;
    *image = rv__gated_add(g, *image, rv__tap(g, x, "%s.attn.img", name), m, ATTENTION + GATE);
    *text = rv__gated_add(g, *text, rv__tap(g, y, "%s.attn.txt", name), m, TEXT + ATTENTION + GATE);

    *image = mixed(t, b, *image, m, name);
    y = rv__swiglu(g, b->text_w1, b->text_w3, shifted(g, *text, m, TEXT + MLP));
    y = rv__tap(g, rv__linear(g, b->text_w2, NULL, y), "%s.ff_t", name);
    *text = rv__gated_add(g, *text, y, m, TEXT + MLP + GATE);
    rv__tap(g, *image, "%s.img", name);
    rv__tap(g, *text, "%s.txt", name);
}

static struct ggml_tensor *single_block(rv__transformer *t, const rv__block *b,
                                        struct ggml_tensor *emb, const char *name,
                                        struct ggml_tensor *h)
{
    rv__graph *g = t->graph;
    struct ggml_tensor *m = rv__tap(g, apply(g, b->adaln, emb), "%s.adaln", name);
    struct ggml_tensor *x = shifted(g, h, m, ATTENTION), *q, *k;

    q = turned(t, apply_exactly(t, b->image.q, x), NULL, b->image.q_norm, NULL, false);
    k = turned(t, apply_exactly(t, b->image.k, x), NULL, b->image.k_norm, NULL, true);
    x = apply(g, b->image.out, attend(t, q, k, apply(g, b->image.v, x)));
    h = rv__gated_add(g, h, rv__tap(g, x, "%s.attn", name), m, ATTENTION + GATE);
    return rv__tap(g, mixed(t, b, h, m, name), "%s.hidden", name);
}

rv__streams rv__transformer_blocks(rv__transformer *t, rv__streams s, int64_t first, int64_t end,
                                   struct ggml_tensor *emb)
{
    const rv__transformer_config *c = &t->net.config;
    rv__graph *g = t->graph;
    char name[32];

    for (int64_t i = first; i < end && i < c->double_blocks; i++) {
        snprintf(name, sizeof name, "double.%lld", (long long)i);
        s.text = joined(g, s.text, t->llama[i]);
        double_block(t, &t->net.blocks[i], emb, name, &s.image, &s.text);
        s.text = rv__tokens(g, s.text, 0, t->shape.t5 + t->shape.llama);
        if (i + 1 == c->double_blocks)
            s = (rv__streams){joined(g, s.image, s.text), NULL};
    }
    for (int64_t i = first > c->double_blocks ? first : c->double_blocks; i < end; i++) {
        snprintf(name, sizeof name, "single.%lld", (long long)(i - c->double_blocks));
        s.image =
            single_block(t, &t->net.blocks[i], emb, name, joined(g, s.image, t->llama[i]));
        s.image = rv__tokens(g, s.image, 0,
                             t->tokens + t->pad + t->shape.t5 + t->shape.llama);
    }
    return s;
}

/* Ends a section of the graph behind these streams, whose values stay. */
static rv__streams cut(rv__transformer *t, rv__streams s)
{
    rv__graph_output(t->graph, s.image);
    rv__graph_output(t->graph, s.text);
    rv__graph_cut(t->graph);
    t->steps[t->step_count++] = (rv__step){.machine = -1, .number = t->cut_count++};
    return s;
}

/* Cuts before block i where the step cache wants it. */
static void cut_at(rv__transformer *t, int64_t i, rv__streams s)
{
    if (t->shape.tail_blocks < 0)
        return;
    if (i == t->shape.head_blocks) {
        t->before = cut(t, s);
        t->head_steps = t->step_count;
    }
    if (i == rv__transformer_block_count(t) - t->shape.tail_blocks) {
        t->after = cut(t, s);
        t->middle_steps = t->step_count;
    }
}

/* The machine that has block i, and where its blocks, or those up to a cut, end. */
static int machine_of(const rv__transformer *t, int64_t i, int64_t *end)
{
    const int64_t marks[2] = {t->shape.head_blocks, rv__transformer_block_count(t) - t->shape.tail_blocks};
    int machine = -1;

    *end = t->machines ? t->first_of[0] : rv__transformer_block_count(t);
    for (size_t k = 0; t->machines && k < rv__machines_count(t->machines); k++)
        if (i >= t->first_of[k]) {
            machine = (int)k;
            *end = t->first_of[k + 1];
        }
    for (int k = 0; t->shape.tail_blocks >= 0 && k < 2; k++)
        if (marks[k] > i && marks[k] < *end)
            *end = marks[k];
    return machine;
}

/* All blocks, here and elsewhere. */
static rv__streams all_blocks(rv__transformer *t, rv__streams s, struct ggml_tensor *emb)
{
    int spans[RV__MACHINES] = {0}, before = -1;

    for (int64_t i = 0, end; i < rv__transformer_block_count(t); i = end) {
        int machine = machine_of(t, i, &end);

        cut_at(t, i, s);
        if (machine < 0) {
            s = rv__transformer_blocks(t, s, i, end, emb);
            continue;
        }
        if (before < 0)
            cut(t, s);
        before = machine;
        t->steps[t->step_count++] = (rv__step){.machine = machine,
                                               .number = spans[machine]++,
                                               .first = i,
                                               .end = end,
                                               .in = s,
                                               .out = rv__transformer_streams(t, end)};
        s = t->steps[t->step_count - 1].out;
        rv__graph_output(t->graph, s.image); /* has memory even when the next machine alone reads it */
        rv__graph_output(t->graph, s.text);
    }
    cut_at(t, rv__transformer_block_count(t), s);
    return s;
}

/* Embeddings of time and pooled text, for every modulation; of the picture in *image. */
static struct ggml_tensor *embeddings(rv__transformer *t, struct ggml_tensor **image)
{
    rv__graph *g = t->graph;
    struct ggml_tensor *time, *pooled, *emb;

    time = rv__tap(g, two_layers(g, t->net.time1, t->net.time2, t->time), "t_embed");
    pooled = rv__tap(g, two_layers(g, t->net.pooled1, t->net.pooled2, t->pooled), "p_embed");
    emb = rv__activate(g, rv__tap(g, rv__add(g, time, pooled), "temb"), RV__SILU);
    *image = rv__tap(g, apply(g, t->net.patches, t->patches), "x_embed");
    t->time_embedded = time;
    t->embedded = *image;
    if (t->shape.tail_blocks >= 0 || t->machines) { /* belong to the first section, and are read */
        rv__graph_output(g, time);
        rv__graph_output(g, emb);
        rv__graph_output(g, *image);
    }
    return emb;
}

/* Everything between the inputs and the result; NULL when the graph could not be made. */
static struct ggml_tensor *build_network(rv__transformer *t)
{
    rv__graph *g = t->graph;
    struct ggml_tensor *image, *emb = embeddings(t, &image), *m;
    rv__streams s = {image, joined(g, t->t5, t->llama[rv__transformer_block_count(t) - 1])};

    t->step_count = t->cut_count = 0;
    t->emb = emb;
    if (t->net.config.double_blocks == 0)
        s = (rv__streams){joined(g, s.image, s.text), NULL};
    s = all_blocks(t, s, emb);
    m = apply(g, t->net.final_adaln, emb);
    image = rv__tokens(g, s.image, 0, t->tokens + t->pad);
    image = apply(g, t->net.final, rv__modulate(g, image, m, SHIFT, SCALE, NORM_EPS));
    t->steps[t->step_count++] = (rv__step){.machine = -1, .number = t->cut_count};
    return rv__tap(g, image, "final");
}

/* ---- the graph ---- */

static void make_inputs(rv__transformer *t)
{
    const rv__transformer_config *c = &t->net.config;
    const rv__shape *s = &t->shape;
    rv__graph *g = t->graph;

    t->patches = rv__graph_input(g, GGML_TYPE_F32, c->patch * c->patch * c->channels,
                                 t->tokens + t->pad, s->batch, 1);
    t->time = rv__graph_input(g, GGML_TYPE_F32, RV__TIME_FEATURES, s->batch, 1, 1);
    t->pooled = rv__graph_input(g, GGML_TYPE_F32, c->pooled_channels, s->batch, 1, 1);
    rv__transformer_size_inputs(t);
    t->t5 = rv__graph_input(g, GGML_TYPE_F32, c->width, s->t5, s->batch, 1);
    for (int64_t i = 0; i < rv__transformer_block_count(t); i++)
        t->llama[i] = rv__graph_input(g, GGML_TYPE_F32, c->width, s->llama, s->batch, 1);
    rv__tap(g, t->patches, "patches");
    rv__tap(g, t->time, "t_sinusoid");
    rv__tap(g, t->cosine, "rope.cos");
    rv__tap(g, t->sine, "rope.sin");
}

static double count_flops(const rv__transformer *t)
{
    const rv__transformer_config *c = &t->net.config;
    double n = (double)(t->tokens + t->pad), text = (double)(t->shape.t5 + 2 * t->shape.llama),
           d = (double)c->width;
    double sum = 0;

    for (int64_t i = 0; i < rv__transformer_block_count(t); i++) {
        const rv__block *b = &t->net.blocks[i];
        const rv__experts *e = &b->experts;
        double moe =
            3 * d * ((double)e->shared_w1->ne[1] + (double)c->chosen * (double)e->w1[0]->ne[1]);
        bool is_double = i < c->double_blocks;

        sum += 4 * d * d * (n + text) + 2 * d * (n + text) * (n + text);
        sum += is_double ? moe * n + 3 * d * (double)b->text_w1->ne[1] * text : moe * (n + text);
        sum += (is_double ? 12 : 6) * d * d;
    }
    return 2 * sum * (double)t->shape.batch;
}

static rv_status build_graph(rv__transformer *t, rv_error *err)
{
    enum { EACH_BLOCK = 220, OTHERS = 200 }; /* tensors, arguments counted as rv__graph_room does */
    rv_status status;

    rv__transformer_count_tokens(t);
    t->graph = rv__graph_new(t->device, (size_t)rv__transformer_block_count(t) * EACH_BLOCK + OTHERS);
    if (!t->graph)
        return rv__fail(err, RV_MEMORY, "out of memory");
    rv__graph_taps(t->graph, t->tap, t->tap_user);
    rv__graph_fast(t->graph, t->is_fast);
    make_inputs(t);
    t->out = build_network(t);
    rv__graph_output(t->graph, t->out);
    status = rv__graph_build(t->graph, err);
    if (status == RV_OK && !t->out)
        status = rv__fail(err, RV_INTERNAL, "the transformer's graph could not be made");
    if (status == RV_OK)
        status = rv__transformer_set_constants(t, err);
    if (status == RV_OK)
        status = build_text_graph(t, err);
    t->flops = status == RV_OK ? count_flops(t) : 0;
    return status;
}

static rv_status check_rows(const rv__transformer *t, const rv__condition *rows, int batch,
                            rv_error *err)
{
    if (batch < 1 || batch > 8)
        return rv__fail(err, RV_MISUSE, "a batch has 1 to 8 rows");
    for (int b = 0; b < batch; b++) {
        if (rows[b].t5_tokens < 1 || rows[b].llama_tokens < 1 ||
            rows[b].t5_tokens > RV__MAX_TOKENS || rows[b].llama_tokens > RV__MAX_TOKENS ||
            rows[b].t5_tokens != rows[0].t5_tokens || rows[b].llama_tokens != rows[0].llama_tokens)
            return rv__fail(err, RV_MISUSE, "the texts of a batch need equal token counts");
        if (rows[b].llama_layers < t->net.config.llama_count)
            return rv__fail(
                err, RV_FORMAT, "llama_layers names layer %lld, text_encoder_4 has %lld",
                (long long)t->net.config.llama_count - 1, (long long)rows[b].llama_layers);
    }
    return RV_OK;
}

/* Which blocks a step cache may skip.  Of the full model's 48 the dual block cache runs the first 8
 * (the reference's choice) and the last 2. */
static void choose_sections(const rv__transformer *t, rv__shape *s)
{
    int64_t blocks = rv__transformer_block_count(t);

    if (t->caching.kind == RV__NO_CACHE)
        return;
    s->tail_blocks = 0;
    if (t->caching.kind == RV__FIRST_BLOCK_CACHE)
        s->head_blocks = 1;
    if (t->caching.kind == RV__DUAL_BLOCK_CACHE) {
        s->head_blocks = blocks < 6 ? 1 : blocks / 6;
        s->tail_blocks = blocks < 48 ? 1 : blocks / 24;
    }
    if (s->head_blocks + s->tail_blocks >= blocks)
        s->tail_blocks = 0;
}

static rv_status begin_cache(rv__transformer *t, rv_error *err)
{
    const rv__transformer_config *c = &t->net.config;
    int64_t rows = t->tokens + t->pad;
    bool by_time = t->caching.kind == RV__TEA_CACHE && t->caching.by_time;

    if (t->shape.tail_blocks > 0)
        rows += t->shape.t5 + t->shape.llama;
    if (t->caching.kind == RV__NO_CACHE) {
        rv__step_cache_free(&t->cache);
        return RV_OK;
    }
    return rv__step_cache_begin(&t->cache, &t->caching, (int)t->shape.batch,
                                (size_t)(c->width * (by_time ? 1 : t->tokens)),
                                (size_t)(c->width * rows * t->shape.batch), err);
}

rv_status rv__transformer_prepare(rv__transformer *t, int64_t width, int64_t height,
                                  const rv__condition *rows, int batch, rv_error *err)
{
    int64_t patch = t->net.config.patch;
    rv_status status = check_rows(t, rows, batch, err);
    rv__shape want;

    if (status != RV_OK)
        return status;
    if (width < patch || height < patch || width % patch || height % patch ||
        width / patch > RV__MAX_TOKENS / (height / patch))
        return rv__fail(err, RV_VALIDATION, "latents of %lld x %lld cannot be cut into patches",
                        (long long)width, (long long)height);
    want = (rv__shape){width / patch,      height / patch, rows[0].t5_tokens,
                       rows[0].llama_tokens, batch,          .tail_blocks = -1};
    choose_sections(t, &want);
    if (!t->graph || memcmp(&want, &t->shape, sizeof want) != 0) {
        rv__transformer_release(t);
        t->shape = want;
        status = build_graph(t, err);
        if (status != RV_OK) {
            memset(&t->shape, 0, sizeof t->shape);
            return status;
        }
    }
    status = t->machines ? rv__transformer_prepare_machines(t, err) : RV_OK;
    if (status == RV_OK)
        status = project_texts(t, rows, err);
    return status == RV_OK ? begin_cache(t, err) : status;
}

void rv__transformer_reuse(rv__transformer *t, const rv__cache_options *options)
{
    t->caching = options ? *options : (rv__cache_options){.kind = RV__NO_CACHE};
}
