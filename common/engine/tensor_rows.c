/* See tensor_rows.h. */
#include "tensor_rows.h"

#include <math.h>
#include <string.h>

#include "vector_math.h"

/* Positive e4m3fn numbers: four bits of exponent (bias 7), three of fraction, no infinity. */
#define EIGHT(unit)                                                                                \
    8 * unit, 9 * unit, 10 * unit, 11 * unit, 12 * unit, 13 * unit, 14 * unit, 15 * unit
static const float e4m3[128] = {
    0,
    0x1p-9f,
    2 * 0x1p-9f,
    3 * 0x1p-9f,
    4 * 0x1p-9f,
    5 * 0x1p-9f,
    6 * 0x1p-9f,
    7 * 0x1p-9f,
    EIGHT(0x1p-9f),
    EIGHT(0x1p-8f),
    EIGHT(0x1p-7f),
    EIGHT(0x1p-6f),
    EIGHT(0x1p-5f),
    EIGHT(0x1p-4f),
    EIGHT(0x1p-3f),
    EIGHT(0x1p-2f),
    EIGHT(0x1p-1f),
    EIGHT(1.0f),
    EIGHT(2.0f),
    EIGHT(4.0f),
    EIGHT(8.0f),
    EIGHT(16.0f),
    256,
    288,
    320,
    352,
    384,
    416,
    448,
    NAN,
};

bool rv__tensor_is_float(const rv__tensor *t)
{
    if (t->float8 || t->type == GGML_TYPE_F32)
        return true;
    const struct ggml_type_traits *traits =
        t->type < GGML_TYPE_COUNT ? ggml_get_type_traits(t->type) : NULL;
    int64_t width = t->n_dims ? t->shape[t->n_dims - 1] : 1;
    return traits && traits->to_float && traits->blck_size > 0 && width % traits->blck_size == 0;
}

bool rv__tensor_is_plain(const rv__tensor *t)
{
    return !t->float8 && !t->heads;
}

const char *rv__tensor_type_name(const rv__tensor *t)
{
    static const char *const names[] = {"", "f8_e4m3", "f8_e5m2"};
    return t->float8 ? names[t->float8] : ggml_type_name(t->type);
}

/* llama.cpp turns the two halves of a head, whose channels j and j + n/2 rotate together, into
 * pairs: row 2j + half instead of half * n/2 + j. */
int64_t rv__tensor_row_place(const rv__tensor *t, int64_t row)
{
    if (!t->heads)
        return row;
    int64_t n = t->shape[0] / t->heads, at = row % n, half = n / 2;
    return row - at + at % half * 2 + at / half;
}

static void read_float8(const rv__tensor *t, const uint8_t *from, int64_t n, float *out)
{
    float scale = t->scale != 0.0f ? t->scale : 1.0f;
    if (t->float8 == RV_F8_E5M2) { /* the upper half of a half */
        for (int64_t i = 0; i < n; i++)
            out[i] = ggml_fp16_to_fp32((ggml_fp16_t)(from[i] << 8)) * scale;
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float v = e4m3[from[i] & 127];
        out[i] = (from[i] & 128 ? -v : v) * scale;
    }
}

/* The upper halves of floats.  ggml does it one by one, here and below. */
static RV__VECTOR void read_bf16(const uint16_t *restrict from, int64_t n, float *restrict out)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)from[i] << 16;

        memcpy(out + i, &bits, sizeof bits);
    }
}

/* A scale of q4_K and what is taken away, of six bits each: eight pairs in twelve bytes. */
static void scale_of(const uint8_t *packed, int i, int *scale, int *least)
{
    if (i < 4) {
        *scale = packed[i] & 63;
        *least = packed[i + 4] & 63;
    } else {
        *scale = (packed[i + 4] & 15) | (packed[i - 4] >> 6) << 4;
        *least = packed[i + 4] >> 4 | (packed[i] >> 6) << 4;
    }
}

static RV__VECTOR void read_nibbles(const uint8_t *restrict from, const float *restrict scale,
                                    const float *restrict least, float *restrict out)
{
    for (int i = 0; i < 32; i++)
        out[i] = scale[0] * (float)(from[i] & 15) - least[0];
    for (int i = 0; i < 32; i++)
        out[32 + i] = scale[1] * (float)(from[i] >> 4) - least[1];
}

void rv__q4_k_scales(const uint8_t *block, float scale[8], float least[8])
{
    ggml_fp16_t both[2];
    float by, off;

    memcpy(both, block, sizeof both);
    by = ggml_fp16_to_fp32(both[0]), off = ggml_fp16_to_fp32(both[1]);
    for (int i = 0; i < 8; i++) {
        int a, b;

        scale_of(block + sizeof both, i, &a, &b);
        scale[i] = by * (float)a;
        least[i] = off * (float)b;
    }
}

/* ggml's way with vectors. */
static void read_q4_k(const uint8_t *from, int64_t n, float *out)
{
    for (; n > 0; n -= RV__Q4_K_NUMBERS, from += RV__Q4_K_BYTES, out += RV__Q4_K_NUMBERS) {
        float scale[8], least[8];

        rv__q4_k_scales(from, scale, least);
        for (int i = 0; i < 4; i++)
            read_nibbles(from + RV__Q4_K_NIBBLES + 32 * i, scale + 2 * i, least + 2 * i,
                         out + 64 * i);
    }
}

void rv__floats_of(enum ggml_type type, const void *from, int64_t n, float *out)
{
    if (type == GGML_TYPE_F32)
        memcpy(out, from, (size_t)n * sizeof *out);
    else if (type == GGML_TYPE_BF16)
        read_bf16(from, n, out);
    else if (type == GGML_TYPE_Q4_K)
        read_q4_k(from, n, out);
    else
        ggml_get_type_traits(type)->to_float(from, out, n);
}

static void read_rows(const rv__tensor *t, int64_t place, int64_t n, float *out)
{
    int64_t width = t->n_dims ? t->shape[t->n_dims - 1] : 1;
    const char *from = (const char *)t->data + (size_t)place * ggml_row_size(t->type, width);
    if (t->float8)
        read_float8(t, (const uint8_t *)from, n * width, out);
    else
        rv__floats_of(t->type, from, n * width, out);
}

void rv__tensor_floats(const rv__tensor *t, int64_t first, int64_t count, float *out)
{
    int64_t width = t->n_dims ? t->shape[t->n_dims - 1] : 1;
    if (!t->heads) {
        read_rows(t, first, count, out);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        read_rows(t, rv__tensor_row_place(t, first + i), 1, out + i * width);
}
