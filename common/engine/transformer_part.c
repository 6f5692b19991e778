/* See transformer_part.h; also the other side: which blocks go to which machine. */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "transformer_internal.h"

int64_t rv__transformer_block_count(const rv__transformer *t)
{
    return t->net.config.double_blocks + t->net.config.single_blocks;
}

/* ---- what the weights are ---- */

int64_t rv__part_block(const rv__transformer *t, const char *name)
{
    long long n;

    if (sscanf(name, "double_stream_blocks.%8lld.", &n) == 1)
        return n;
    return sscanf(name, "single_stream_blocks.%8lld.", &n) == 1 ? n + t->net.config.double_blocks
                                                                : -1;
}

double rv__part_weights(const rv__transformer *t, int64_t first, int64_t end)
{
    size_t count = 0;
    const rv__tensor *list = rv__params_list(t->net.params, &count);
    double sum = 0;

    for (size_t i = 0; i < count; i++) {
        int64_t block = rv__part_block(t, list[i].name);

        if (block >= first && block < end)
            sum += (double)list[i].size;
    }
    return sum;
}

static void digest_number(EVP_MD_CTX *md, int64_t n)
{
    EVP_DigestUpdate(md, &n, sizeof n);
}

/* A few values of each tensor tell models and quantisations apart; reading all would take minutes
 * where a model is larger than the memory. */
static void digest_tensor(EVP_MD_CTX *md, const rv__tensor *t)
{
    enum { SAMPLE = 64, SAMPLES = 4 };

    EVP_DigestUpdate(md, t->name, strlen(t->name) + 1);
    digest_number(md, (int64_t)t->type);
    digest_number(md, (int64_t)t->float8);
    digest_number(md, t->heads);
    EVP_DigestUpdate(md, &t->scale, sizeof t->scale);
    for (int i = 0; i < RV_TENSOR_DIMS; i++)
        digest_number(md, i < t->n_dims ? t->shape[i] : 1);
    for (size_t i = 0; i < SAMPLES; i++) {
        size_t at = t->size > SAMPLE ? (t->size - SAMPLE) / (SAMPLES - 1) * i : 0;

        EVP_DigestUpdate(md, (const char *)t->data + at, t->size < SAMPLE ? t->size : SAMPLE);
    }
}

static void digest_config(EVP_MD_CTX *md, const rv__transformer_config *c)
{
    const int64_t numbers[] = {c->patch,   c->channels, c->double_blocks, c->single_blocks,
                               c->heads,   c->head,     c->experts,       c->chosen,
                               c->axes[0], c->axes[1],  c->axes[2],       c->max_tokens};

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        digest_number(md, numbers[i]);
}

const char *rv__transformer_fingerprint(rv__transformer *t)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    size_t count = 0;
    const rv__tensor *list = rv__params_list(t->net.params, &count);
    EVP_MD_CTX *md = *t->fingerprint ? NULL : EVP_MD_CTX_new();

    if (!md || !EVP_DigestInit_ex(md, EVP_sha256(), NULL)) {
        EVP_MD_CTX_free(md);
        return t->fingerprint;
    }
    digest_config(md, &t->net.config);
    for (size_t i = 0; i < count; i++)
        digest_tensor(md, &list[i]);
    if (EVP_DigestFinal_ex(md, hash, &size))
        for (unsigned i = 0; i < 32 && i < size; i++)
            snprintf(t->fingerprint + 2 * i, 3, "%02x", hash[i]);
    EVP_MD_CTX_free(md);
    return t->fingerprint;
}

/* ---- blocks for another machine ---- */

void rv__transformer_release_parts(rv__transformer *t)
{
    for (int i = 0; i < t->part_count; i++)
        rv__graph_free(t->parts[i].graph);
    t->part_count = 0;
    memset(&t->part_shape, 0, sizeof t->part_shape);
}

void rv__part_release(rv__transformer *t)
{
    rv__transformer_release(t);
}

/* From block to block the streams pass two forms only, so the graph of a span fits this. */
static rv_status build_part(rv__transformer *t, rv__part_graph *p, rv_error *err)
{
    enum { EACH_BLOCK = 220, OTHERS = 64 };
    const rv__transformer_config *c = &t->net.config;
    rv_status status;

    p->graph = rv__graph_new(t->device, (size_t)(p->end - p->first) * EACH_BLOCK + OTHERS);
    if (!p->graph)
        return rv__fail(err, RV_MEMORY, "out of memory");
    t->graph = p->graph;
    rv__graph_fast(p->graph, t->is_fast);
    p->emb = rv__graph_input(p->graph, GGML_TYPE_F32, c->width, t->shape.batch, 1, 1);
    rv__transformer_size_inputs(t);
    for (int64_t i = p->first; i < p->end; i++)
        t->llama[i] = rv__graph_input(p->graph, GGML_TYPE_F32, c->width, t->shape.llama,
                                      t->shape.batch, 1);
    p->in = rv__transformer_streams(t, p->first);
    p->out = rv__transformer_blocks(t, p->in, p->first, p->end, p->emb);
    rv__graph_output(p->graph, p->out.image);
    rv__graph_output(p->graph, p->out.text);
    status = rv__graph_build(p->graph, err);
    if (status == RV_OK && !p->out.image)
        status = rv__fail(err, RV_INTERNAL, "the graph of the blocks could not be made");
    if (status == RV_OK)
        status = rv__transformer_set_constants(t, err);
    t->graph = NULL;
    return status;
}

static rv_status check_shape(const rv__transformer *t, const rv__part_shape *s, rv_error *err)
{
    int64_t before = 0;
    bool fits = s->width >= 1 && s->height >= 1 && s->width <= RV__MAX_TOKENS &&
                s->height <= RV__MAX_TOKENS && s->width <= RV__MAX_TOKENS / s->height &&
                s->t5 >= 1 && s->t5 <= RV__MAX_TOKENS && s->llama >= 1 &&
                s->llama <= RV__MAX_TOKENS && s->batch >= 1 && s->batch <= RV__PART_BATCH &&
                s->spans >= 1 && s->spans <= RV__PART_SPANS;

    for (int i = 0; fits && i < s->spans; i++) {
        fits = s->first[i] >= before && s->end[i] > s->first[i] &&
               s->end[i] <= rv__transformer_block_count(t);
        before = s->end[i];
    }
    return fits ? RV_OK : rv__fail(err, RV_VALIDATION, "these blocks or sizes cannot be");
}

rv_status rv__part_prepare(rv__transformer *t, const rv__part_shape *s, rv_error *err)
{
    rv_status status = check_shape(t, s, err);

    if (status != RV_OK)
        return status;
    if (t->part_count && memcmp(s, &t->part_shape, sizeof *s) == 0)
        return RV_OK;
    rv__transformer_release(t);
    t->shape = (rv__shape){s->width, s->height, s->t5, s->llama, s->batch, .tail_blocks = -1};
    t->is_fast = s->is_fast;
    rv__transformer_count_tokens(t);
    for (int i = 0; i < s->spans && status == RV_OK; i++) {
        t->parts[i] = (rv__part_graph){.first = s->first[i], .end = s->end[i]};
        t->part_count++;
        status = build_part(t, &t->parts[i], err);
    }
    if (status == RV_OK)
        t->part_shape = *s;
    else
        rv__transformer_release(t);
    return status;
}

size_t rv__part_text_floats(const rv__transformer *t)
{
    return (size_t)(t->net.config.width * t->shape.llama * t->shape.batch);
}

size_t rv__part_emb_floats(const rv__transformer *t)
{
    return (size_t)(t->net.config.width * t->shape.batch);
}

size_t rv__part_stream_floats(const rv__transformer *t)
{
    return (size_t)(t->net.config.width * t->shape.batch *
                    (t->tokens + t->pad + t->shape.t5 + t->shape.llama));
}

bool rv__part_text(rv__transformer *t, int64_t block, const float *text)
{
    for (int i = 0; i < t->part_count; i++)
        if (block >= t->parts[i].first && block < t->parts[i].end) {
            rv__graph_set(t->parts[i].graph, t->llama[block], text,
                          rv__part_text_floats(t) * sizeof *text);
            return true;
        }
    return false;
}

rv_status rv__part_run(rv__transformer *t, int span, const float *emb, const float *streams,
                       float *out, rv__cancel_fn *cancelled, void *user, rv_error *err)
{
    const rv__part_graph *p;
    rv_status status;

    if (span < 0 || span >= t->part_count)
        return rv__fail(err, RV_VALIDATION, "there is no such span of blocks");
    p = &t->parts[span];
    rv__graph_set(p->graph, p->emb, emb, ggml_nbytes(p->emb));
    rv__transformer_write_streams(&p->in, streams);
    status = rv__graph_run(p->graph, cancelled, user, err);
    if (status == RV_OK)
        rv__transformer_read_streams(&p->out, out);
    return status;
}

size_t rv__part_bytes(const rv__transformer *t)
{
    size_t sum = 0;

    for (int i = 0; i < t->part_count; i++)
        sum += rv__graph_bytes(t->parts[i].graph);
    return sum;
}

/* ---- blocks on other machines ---- */

rv_status rv__transformer_machines(rv__transformer *t, rv__machines *machines, rv_error *err)
{
    int64_t blocks = rv__transformer_block_count(t);
    double *bytes;
    rv_status status;

    rv__transformer_release(t);
    t->machines = NULL;
    if (!machines)
        return RV_OK;
    bytes = rv__calloc((size_t)blocks, sizeof *bytes);
    if (!bytes)
        return rv__fail(err, RV_MEMORY, "out of memory");
    for (int64_t i = 0; i < blocks; i++)
        bytes[i] = rv__part_weights(t, i, i + 1);
    status = rv__machines_split(machines, bytes, blocks, t->first_of, err);
    rv__free(bytes);
    if (status == RV_OK && !*rv__transformer_fingerprint(t))
        status = rv__fail(err, RV_MEMORY, "out of memory");
    if (status == RV_OK)
        t->machines = machines;
    return status;
}

rv_status rv__transformer_loras(rv__transformer *t, const rv__machines_lora *list, size_t count,
                                rv_error *err)
{
    return t->machines ? rv__machines_loras(t->machines, list, count, err) : RV_OK;
}

double rv__transformer_elsewhere(const rv__transformer *t)
{
    return t->machines ? rv__part_weights(t, t->first_of[0], rv__transformer_block_count(t)) : 0;
}

rv_status rv__transformer_prepare_machines(rv__transformer *t, rv_error *err)
{
    rv__part_shape shapes[RV__MACHINES];
    size_t count = rv__machines_count(t->machines);
    rv_status status = RV_OK;

    memset(shapes, 0, sizeof shapes);
    for (int i = 0; i < t->step_count; i++) {
        const rv__step *step = &t->steps[i];
        rv__part_shape *s = step->machine < 0 ? NULL : &shapes[step->machine];

        if (!s || s->spans == RV__PART_SPANS)
            continue;
        s->first[s->spans] = step->first;
        s->end[s->spans++] = step->end;
    }
    for (size_t m = 0; m < count && status == RV_OK; m++) {
        rv__part_shape *s = &shapes[m];

        s->width = t->shape.width;
        s->height = t->shape.height;
        s->t5 = t->shape.t5;
        s->llama = t->shape.llama;
        s->batch = t->shape.batch;
        s->is_fast = t->is_fast;
        status = rv__machines_prepare(t->machines, m, s, rv__transformer_block_count(t),
                                      rv__transformer_fingerprint(t), err);
    }
    return status;
}

rv_status rv__transformer_send_text(rv__transformer *t, int64_t block, const float *text, size_t n,
                                    rv_error *err)
{
    size_t m = 0;

    while (m + 1 < rv__machines_count(t->machines) && block >= t->first_of[m + 1])
        m++;
    return rv__machines_text(t->machines, m, block, text, n, err);
}

rv_status rv__transformer_run_elsewhere(rv__transformer *t, const rv__step *step,
                                        rv__cancel_fn *cancelled, void *user, rv_error *err)
{
    size_t n_emb = rv__part_emb_floats(t), n = rv__part_stream_floats(t);
    float *room = rv__alloc((n_emb + n) * sizeof *room);
    rv_status status;

    if (!room)
        return rv__fail(err, RV_MEMORY, "out of memory");
    rv__graph_get(t->graph, t->emb, room, n_emb * sizeof *room);
    rv__transformer_read_streams(&step->in, room + n_emb);
    status = rv__machines_run(t->machines, (size_t)step->machine, step->number, room, n_emb + n,
                              room, n, cancelled, user, err);
    if (status == RV_OK)
        rv__transformer_write_streams(&step->out, room);
    rv__free(room);
    return status;
}
