/* LoRA keys from hostile bytes: the rest of the input behind two bytes is a safetensors header (see
 * fuzz_safetensors.c), read against some modules of the transformer.  What is accepted must fit
 * them. */
#include <stdlib.h>
#include <string.h>

#include "engine/graph_op.h"
#include "engine/lora.h"

#define MATRIX(text, out, in)                                                                      \
    {                                                                                              \
        .name = text, .type = GGML_TYPE_F32, .n_dims = 2, .shape = { out, in, 1, 1, 1, 1 }         \
    }

/* Sorted by name, as the model has them. */
static const rv__tensor modules[] = {
    MATRIX("double_stream_blocks.0.block.attn1.to_q.weight", 4, 2),
    MATRIX("double_stream_blocks.0.block.attn1.to_q_t.weight", 4, 2),
    MATRIX("single_stream_blocks.0.block.ff_i.experts.1.w2.weight", 2, 3),
    {.name = "x_embedder.proj.bias",
     .type = GGML_TYPE_F32,
     .n_dims = 1,
     .shape = {4, 1, 1, 1, 1, 1}},
    MATRIX("x_embedder.proj.weight", 4, 2),
};

static const rv__tensor texts[] = {
    MATRIX("encoder.block.0.layer.0.SelfAttention.q.weight", 4, 2),
    MATRIX("shared.weight", 4, 2),
};

static const rv__lora_modules components[RV__LORA_COMPONENTS] = {
    [0] = {modules, sizeof modules / sizeof *modules}, [3] = {texts, sizeof texts / sizeof *texts}};

static void use(const rv__lora *l)
{
    size_t count;
    const rv__lora_part *p = rv__lora_parts(l, &count);
    if (count < 1)
        abort();
    for (size_t i = 0; i < count; i++) {
        const rv__tensor *m = components[p[i].component].list;
        while (strcmp(m->name, p[i].module) != 0)
            m++;
        float *rows = calloc((size_t)(m->shape[0] * m->shape[1]), sizeof *rows);
        rv__patch *patch = NULL;
        if (m->n_dims != 2 || !rows || !rv__patch_add(&patch, &p[i], 0.5f))
            abort();
        rv__patch_rows(patch, 0, m->shape[0], m->shape[1], rows);
        rv__patch_free(patch);
        free(rows);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t header = size - 2, body = (size_t)(data[0] << 8 | data[1]);
    unsigned char *file = calloc(1, 8 + header + body);
    if (!file)
        return 0;
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)(header >> (8 * i));
    memcpy(file + 8, data + 2, header);
    rv__safetensors *s;
    rv_error err = {0};
    if (rv__safetensors_parse(file, 8 + header + body, "input", &s, &err) == RV_OK) {
        rv__lora *l;
        if (rv__lora_read(s, "input", components, &l, &err) == RV_OK)
            use(l);
        rv__lora_close(l);
    }
    rv__safetensors_close(s);
    free(file);
    return 0;
}
