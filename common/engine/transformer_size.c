/* What a graph of the transformer has because of its size alone, ours and those of other machines
 * alike: angles of positions, the mask of padding, rows of streams. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "transformer_internal.h"

#define ROPE_BASE 10000.0 /* fixed in the reference */

void rv__transformer_count_tokens(rv__transformer *t)
{
    bool is_square = t->shape.width == t->shape.height;

    t->tokens = t->shape.width * t->shape.height;
    t->pad = !is_square && t->tokens < t->net.config.max_tokens;
}

void rv__transformer_size_inputs(rv__transformer *t)
{
    const rv__transformer_config *c = &t->net.config;
    int64_t all = t->tokens + t->pad + t->shape.t5 + 2 * t->shape.llama;

    t->cosine = rv__graph_input(t->graph, GGML_TYPE_F32, c->head / 2, all, 1, 1);
    t->sine = rv__graph_input(t->graph, GGML_TYPE_F32, c->head / 2, all, 1, 1);
    t->mask = t->pad ? rv__graph_input(t->graph, GGML_TYPE_F32, all, 1, 1, 1) : NULL;
}

/* Angles in double: token positions are (0, row, column), text and padding (0, 0, 0). */
static void angle_tables(const rv__transformer *t, float *cosine, float *sine)
{
    const rv__transformer_config *c = &t->net.config;
    int64_t pairs = c->head / 2, all = t->cosine->ne[1];

    for (int64_t r = 0; r < all; r++) {
        int64_t position[3] = {0, 0, 0}, p = 0;

        if (r < t->tokens) {
            position[1] = r / t->shape.width;
            position[2] = r % t->shape.width;
        }
        for (int axis = 0; axis < 3; axis++)
            for (int64_t j = 0; j < c->axes[axis] / 2; j++, p++) {
                double frequency = 1.0 / pow(ROPE_BASE, (double)(2 * j) / (double)c->axes[axis]);
                double angle = (double)position[axis] * frequency;
                cosine[r * pairs + p] = (float)cos(angle);
                sine[r * pairs + p] = (float)sin(angle);
            }
    }
}

/* In the reference a non-square picture is padded with zero tokens that take part in attention with
 * score 0 and all stay equal, so one of them with weight e^ln(count) stands for all. */
rv_status rv__transformer_set_constants(rv__transformer *t, rv_error *err)
{
    size_t bytes = ggml_nbytes(t->cosine);
    float *room = rv__alloc(2 * bytes), *sine = room + bytes / sizeof *room;

    if (!room)
        return rv__fail(err, RV_MEMORY, "out of memory");
    angle_tables(t, room, sine);
    rv__graph_set(t->graph, t->cosine, room, bytes);
    rv__graph_set(t->graph, t->sine, sine, bytes);
    if (t->mask) {
        memset(room, 0, ggml_nbytes(t->mask));
        room[t->tokens] = (float)log((double)(t->net.config.max_tokens - t->tokens));
        rv__graph_set(t->graph, t->mask, room, ggml_nbytes(t->mask));
    }
    rv__free(room);
    return RV_OK;
}

/* ---- streams ---- */

rv__streams rv__transformer_streams(rv__transformer *t, int64_t i)
{
    const rv__transformer_config *c = &t->net.config;
    int64_t image = t->tokens + t->pad, text = t->shape.t5 + t->shape.llama;
    bool is_double = i < c->double_blocks;
    rv__streams s = {0};

    s.image = rv__graph_input(t->graph, GGML_TYPE_F32, c->width, is_double ? image : image + text,
                              t->shape.batch, 1);
    if (is_double)
        s.text = rv__graph_input(t->graph, GGML_TYPE_F32, c->width, text, t->shape.batch, 1);
    return s;
}

/* Rows of a tensor follow each other, batches may lie apart. */
static size_t move_rows(const struct ggml_tensor *x, float *out, const float *in)
{
    size_t each = (size_t)x->ne[0], n = 0;

    for (int64_t b = 0; b < x->ne[2]; b++)
        for (int64_t r = 0; r < x->ne[1]; r++, n += each) {
            char *row = (char *)x->data + (size_t)b * x->nb[2] + (size_t)r * x->nb[1];

            if (out)
                memcpy(out + n, row, each * sizeof *out);
            else
                memcpy(row, in + n, each * sizeof *in);
        }
    return n;
}

void rv__transformer_read_streams(const rv__streams *s, float *out)
{
    size_t n = move_rows(s->image, out, NULL);

    if (s->text)
        move_rows(s->text, out + n, NULL);
}

void rv__transformer_write_streams(const rv__streams *s, const float *in)
{
    size_t n = move_rows(s->image, NULL, in);

    if (s->text)
        move_rows(s->text, NULL, in + n);
}
