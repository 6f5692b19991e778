/* Which tensors may lose precision and which may not.  Must never let a router, a norm or a table
 * become quantised: their error is not averaged out. */
#include "weights_write.h"

#include "tensor_rows.h"

#include <math.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    enum ggml_type type;
} types[] = {
    {"f32", GGML_TYPE_F32},   {"f16", GGML_TYPE_F16},   {"bf16", GGML_TYPE_BF16},
    {"q8_0", GGML_TYPE_Q8_0}, {"q6_K", GGML_TYPE_Q6_K}, {"q5_K", GGML_TYPE_Q5_K},
    {"q4_K", GGML_TYPE_Q4_K}, {"q4_0", GGML_TYPE_Q4_0},
};

enum ggml_type rv__weights_type(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcasecmp(types[i].name, name) == 0)
            return types[i].type;
    }
    return GGML_TYPE_COUNT;
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool contains_any(const char *text, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strstr(text, words[i]))
            return true;
    }
    return false;
}

/* A linear layer whose error averages out over many inputs. */
static bool is_large_linear(const char *part, const char *name)
{
    static const char *const transformer[] = {"x_embedder.", "t_embedder.", "p_embedder.",
                                              "final_layer.", "norm"};
    static const char *const text[] = {"embed", "shared.weight", "relative_attention_bias", "norm"};
    if (!ends_with(name, ".weight") || ends_with(name, ".gate.weight"))
        return false;
    if (strcmp(part, "transformer") == 0)
        return !contains_any(name, transformer, sizeof transformer / sizeof *transformer);
    return starts_with(part, "text_encoder") &&
           !contains_any(name, text, sizeof text / sizeof *text);
}

/* Whether F16 holds every value of this F32 or BF16 tensor. */
static bool is_exact_in_f16(const rv__tensor *t)
{
    size_t n = t->size / ggml_type_size(t->type);
    for (size_t i = 0; i < n; i++) {
        float v = t->type == GGML_TYPE_F32 ? ((const float *)t->data)[i]
                                           : ggml_bf16_to_fp32(((const ggml_bf16_t *)t->data)[i]);
        float back = ggml_fp16_to_fp32(ggml_fp32_to_fp16(v));
        if (!(back == v))
            return false;
    }
    return true;
}

static enum ggml_type exact_type(const rv__tensor *t)
{
    if (t->float8) /* a few bits each, but a scale takes more */
        return t->n_dims < 2 || (t->scale != 0.0f && t->scale != 1.0f) ? GGML_TYPE_F32
                                                                      : GGML_TYPE_F16;
    if (t->n_dims < 2) /* vectors are computed with as F32 and weigh nothing */
        return t->type == GGML_TYPE_F16 || t->type == GGML_TYPE_BF16 ? GGML_TYPE_F32 : t->type;
    if ((t->type == GGML_TYPE_F32 || t->type == GGML_TYPE_BF16) && is_exact_in_f16(t))
        return GGML_TYPE_F16;
    return t->type;
}

enum ggml_type rv__weights_target(const char *part, const rv__tensor *t, enum ggml_type type)
{
    /* The image pipeline takes hidden states of the language model, never words. */
    if (starts_with(part, "text_encoder") && strcmp(t->name, "lm_head.weight") == 0)
        return GGML_TYPE_COUNT;
    if (!rv__tensor_is_float(t))
        return t->type;
    if (type == GGML_TYPE_F32)
        return type;
    if (t->n_dims == 2 && is_large_linear(part, t->name) && t->shape[1] % ggml_blck_size(type) == 0)
        return type;
    return exact_type(t);
}
