/* See int8.h. */
#include "int8.h"

#include <string.h>

#include "vector_math.h"

#if defined(__x86_64__)
#include <immintrin.h>

bool rv__int8_usable(void)
{
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

/* y = or += sums * scale * scales, 16 outputs of one row. */
static inline __attribute__((always_inline)) VNNI void put(float *y, __m512i sums, __m512 scale,
                                                          const float *scales, bool add)
{
    __m512 by = _mm512_mul_ps(scale, _mm512_loadu_ps(scales)), v = _mm512_cvtepi32_ps(sums);

    _mm512_storeu_ps(y, add ? _mm512_fmadd_ps(v, by, _mm512_loadu_ps(y)) : _mm512_mul_ps(v, by));
}

/* Six rows by 64 outputs: 24 sums stay in registers.  The instruction is written out because the
 * compiler keeps sums that come from the intrinsic in memory, at half the speed. */
#define ROWS(M)        M(0) M(1) M(2) M(3) M(4) M(5)
#define ADD(sum, x, w) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w))
#define BEGIN(r)                                                                                   \
    const uint8_t *x##r = x + (size_t)(r < rows ? r : 0) * stride;                                 \
    __m512i a##r = _mm512_loadu_si512(b->offset), b##r = _mm512_loadu_si512(b->offset + 16),       \
            c##r = _mm512_loadu_si512(b->offset + 32), d##r = _mm512_loadu_si512(b->offset + 48);
#define STEP(r)                                                                                    \
    memcpy(&four, x##r + 4 * k, sizeof four);                                                      \
    in = _mm512_set1_epi32(four);                                                                  \
    ADD(a##r, in, wa);                                                                             \
    ADD(b##r, in, wb);                                                                             \
    ADD(c##r, in, wc);                                                                             \
    ADD(d##r, in, wd);
#define END(r)                                                                                     \
    if (r < rows) {                                                                                \
        __m512 s = _mm512_set1_ps(*(const float *)(const void *)(scales + (size_t)r * stride));    \
        float *to = y + (size_t)r * (size_t)ldy;                                                   \
        put(to, a##r, s, b->scale, add);                                                           \
        put(to + 16, b##r, s, b->scale + 16, add);                                                 \
        put(to + 32, c##r, s, b->scale + 32, add);                                                 \
        put(to + 48, d##r, s, b->scale + 48, add);                                                 \
    }

static VNNI void six_rows(const uint8_t *x, int64_t rows, size_t stride, const uint8_t *scales,
                          const rv__int8_block *b, float *y, int64_t ldy, bool add)
{
    ROWS(BEGIN)
    for (int k = 0; k < RV__INT8_BLOCK / 4; k++) {
        __m512i wa = _mm512_loadu_si512(b->w[k][0]), wb = _mm512_loadu_si512(b->w[k][16]),
                wc = _mm512_loadu_si512(b->w[k][32]), wd = _mm512_loadu_si512(b->w[k][48]), in;
        int32_t four;

        ROWS(STEP)
    }
    ROWS(END)
}

void rv__int8_multiply(const uint8_t *x, int64_t rows, const rv__int8_block *panel, int64_t blocks,
                       float *y, int64_t ldy)
{
    size_t stride = (size_t)blocks * (RV__INT8_BLOCK + sizeof(float));
    const uint8_t *scales = x + blocks * RV__INT8_BLOCK;

    /* Blocks outside: one of weights stays in the first cache while all rows pass. */
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t r = 0; r < rows; r += 6)
            six_rows(x + (size_t)r * stride + b * RV__INT8_BLOCK, rows - r, stride,
                     scales + (size_t)r * stride + (size_t)b * sizeof(float), panel + b,
                     y + r * ldy, ldy, b > 0);
}

#else
bool rv__int8_usable(void)
{
    return false;
}

void rv__int8_multiply(const uint8_t *x, int64_t rows, const rv__int8_block *panel, int64_t blocks,
                       float *y, int64_t ldy)
{
    (void)x, (void)panel, (void)blocks;
    for (int64_t r = 0; r < rows; r++)
        memset(y + r * ldy, 0, RV__INT8_PANEL * sizeof *y);
}
#endif

/* ---- numbers to bytes ---- */

static RV__VECTOR float largest(const float *x, int64_t n)
{
    float lane[16] = {0}, most = 0;
    int64_t i = 0;

    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++) {
            float v = x[i + k] < 0 ? -x[i + k] : x[i + k];
            lane[k] = v > lane[k] ? v : lane[k];
        }
    for (; i < n; i++) {
        float v = x[i] < 0 ? -x[i] : x[i];
        most = v > most ? v : most;
    }
    for (int k = 0; k < 16; k++)
        most = lane[k] > most ? lane[k] : most;
    return most;
}

/* round(x * by) + add as a byte; adding 1.5 * 2^23 rounds to the nearest integer. */
static RV__VECTOR void to_bytes(const float *restrict x, int64_t n, float by, int add,
                                uint8_t *restrict out)
{
    for (int64_t i = 0; i < n; i++) {
        float z = x[i] * by + 12582912.0f;
        uint32_t bits;

        memcpy(&bits, &z, sizeof bits);
        out[i] = (uint8_t)(bits - 0x4B400000u + (uint32_t)add);
    }
}

void rv__int8_row(const float *x, int64_t in, uint8_t *out)
{
    int64_t blocks = rv__int8_blocks(in);
    float *scales = (float *)(void *)(out + blocks * RV__INT8_BLOCK);

    for (int64_t b = 0; b < blocks; b++) {
        int64_t at = b * RV__INT8_BLOCK, n = in - at < RV__INT8_BLOCK ? in - at : RV__INT8_BLOCK;
        float most = largest(x + at, n);

        /* Not finite (a damaged model): the bytes are anything, the scale tells. */
        scales[b] = most / 127;
        to_bytes(x + at, n, most > 1e-30f && most < 1e30f ? 127 / most : 0, 128, out + at);
        memset(out + at + n, 128, (size_t)(RV__INT8_BLOCK - n));
    }
}

static RV__VECTOR int64_t sum_bytes(const uint8_t *x, int64_t n)
{
    uint32_t sum = 0; /* n is far below 2^24 */

    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

int64_t rv__int8_shares(const float *x, int64_t in, uint8_t *out)
{
    int64_t blocks = rv__int8_blocks(in), room = blocks * RV__INT8_BLOCK;
    float *scales = (float *)(void *)(out + room);

    to_bytes(x, in, 255.0f, 0, out);
    memset(out + in, 0, (size_t)(room - in));
    for (int64_t b = 0; b < blocks; b++)
        scales[b] = 1.0f / 255;
    return sum_bytes(out, in);
}

/* One block of one output: n inputs that lie together. */
static void pack_run(const float *x, int64_t n, int64_t output, bool for_shares,
                     rv__int8_block *out)
{
    uint8_t bytes[RV__INT8_BLOCK];
    float most = largest(x, n);
    int32_t sum = 0;

    to_bytes(x, n, most > 1e-30f && most < 1e30f ? 127 / most : 0, 0, bytes);
    memset(bytes + n, 0, (size_t)(RV__INT8_BLOCK - n));
    for (int i = 0; i < RV__INT8_BLOCK; i++)
        sum += (int8_t)bytes[i];
    for (int k = 0; k < RV__INT8_BLOCK / 4; k++)
        memcpy(out->w[k][output], bytes + 4 * k, 4);
    out->scale[output] = most / 127;
    out->offset[output] = for_shares ? 0 : -128 * sum;
}

void rv__int8_pack(const float *w, int64_t rows, int64_t ldw, int64_t in, bool for_shares,
                   rv__int8_block *out)
{
    static const float nothing[RV__INT8_BLOCK];

    for (int64_t at = 0; at < in; at += RV__INT8_BLOCK, out++) {
        int64_t n = in - at < RV__INT8_BLOCK ? in - at : RV__INT8_BLOCK;

        for (int64_t o = 0; o < RV__INT8_PANEL; o++)
            pack_run(o < rows ? w + o * ldw + at : nothing, n, o, for_shares, out);
    }
}

void rv__int8_pack_columns(const float *w, int64_t columns, int64_t ldw, int64_t in,
                           bool for_shares, rv__int8_block *out)
{
    float column[RV__INT8_BLOCK];

    for (int64_t at = 0; at < in; at += RV__INT8_BLOCK, out++) {
        int64_t n = in - at < RV__INT8_BLOCK ? in - at : RV__INT8_BLOCK;

        for (int64_t o = 0; o < RV__INT8_PANEL; o++) {
            for (int64_t i = 0; i < n; i++)
                column[i] = o < columns ? w[(at + i) * ldw + o] : 0;
            pack_run(column, n, o, for_shares, out);
        }
    }
}
