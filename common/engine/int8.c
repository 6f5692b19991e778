/* See int8.h. */
#include "int8.h"

#include <string.h>

#include "tensor_rows.h"

#if defined(__x86_64__)
#include "avx512.h"

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

/* ---- numbers to bytes ---- */

/* The largest of 64 numbers without their signs; and what turns them into bytes: 0 where they are
 * not finite (a damaged model: the bytes are anything, the scale tells) or nothing. */
static inline VNNI float largest(const __m512 x[4])
{
    __m512 a = _mm512_max_ps(_mm512_abs_ps(x[0]), _mm512_abs_ps(x[1])),
           b = _mm512_max_ps(_mm512_abs_ps(x[2]), _mm512_abs_ps(x[3]));

    return _mm512_reduce_max_ps(_mm512_max_ps(a, b));
}

static inline float bytes_by(float most)
{
    return most > 1e-30f && most < 1e30f ? 127 / most : 0;
}

static inline VNNI void load(__m512 x[4], const float *from, int64_t n)
{
    for (int i = 0; i < 4; i++) {
        int64_t left = n - 16 * i;

        x[i] = left >= 16 ? _mm512_loadu_ps(from + 16 * i)
               : left > 0 ? _mm512_maskz_loadu_ps((__mmask16)((1u << left) - 1), from + 16 * i)
                          : _mm512_setzero_ps();
    }
}

/* 64 numbers, rounded to the nearest, as signed bytes. */
static inline VNNI __m512i to_bytes(const __m512 x[4], float by)
{
    __m512 f = _mm512_set1_ps(by);
    __m128i q[4];

    for (int i = 0; i < 4; i++)
        q[i] = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x[i], f)));
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_set_m128i(q[1], q[0])),
                              _mm256_set_m128i(q[3], q[2]), 1);
}

VNNI void rv__int8_row(const float *x, int64_t in, uint8_t *out)
{
    int64_t blocks = rv__int8_blocks(in);
    float *scales = (float *)(void *)(out + blocks * RV__INT8_BLOCK);

    for (int64_t b = 0; b < blocks; b++) {
        int64_t at = b * RV__INT8_BLOCK;
        __m512 v[4];
        float most;

        load(v, x + at, in - at);
        most = largest(v);
        scales[b] = most / 127;
        /* Flipping the upper bit adds 128. */
        _mm512_storeu_si512(out + at, _mm512_xor_si512(to_bytes(v, bytes_by(most)),
                                                       _mm512_set1_epi8(-128)));
    }
}

VNNI int64_t rv__int8_shares(const float *x, int64_t in, uint8_t *out)
{
    int64_t blocks = rv__int8_blocks(in);
    float *scales = (float *)(void *)(out + blocks * RV__INT8_BLOCK);
    __m512i sum = _mm512_setzero_si512();

    for (int64_t b = 0; b < blocks; b++) {
        int64_t at = b * RV__INT8_BLOCK;
        __m512 v[4];

        load(v, x + at, in - at);
        for (int i = 0; i < 4; i++) {
            /* What is not a number becomes 0: the instruction takes its second operand then. */
            __m512 share = _mm512_max_ps(_mm512_mul_ps(v[i], _mm512_set1_ps(255.0f)),
                                         _mm512_setzero_ps());
            __m512i n = _mm512_cvtps_epi32(_mm512_min_ps(share, _mm512_set1_ps(255.0f)));

            sum = _mm512_add_epi32(sum, n); /* `in` is far below 2^24 */
            _mm_storeu_si128((__m128i *)(void *)(out + at + 16 * i), _mm512_cvtusepi32_epi8(n));
        }
        scales[b] = 1.0f / 255;
    }
    return _mm512_reduce_add_epi32(sum);
}

/* ---- weights ---- */

/* Sixteen outputs of a block: vector k has four inputs of each. */
static VNNI void put_outputs(const __m512i fours[16], __m512 scale, bool for_shares, int output,
                             rv__int8_block *out)
{
    __m512i sum = _mm512_setzero_si512();

    for (int k = 0; k < 16; k++) {
        _mm512_storeu_si512(out->w[k][output], fours[k]);
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), fours[k]);
    }
    _mm512_storeu_ps(out->scale + output, scale);
    _mm512_storeu_si512(out->offset + output,
                        for_shares ? _mm512_setzero_si512()
                                   : _mm512_mullo_epi32(sum, _mm512_set1_epi32(-128)));
}

VNNI void rv__int8_pack(const float *w, int64_t rows, int64_t ldw, int64_t in, bool for_shares,
                        int output, rv__int8_block *out)
{
    for (int64_t at = 0; at < in; at += RV__INT8_BLOCK, out++) {
        __m512 outputs[16];
        __m512i fours[16];
        float scale[16];

        for (int i = 0; i < 16; i++) {
            __m512 x[4];
            float most;

            load(x, w + i * ldw + at, i < rows ? in - at : 0);
            most = largest(x);
            scale[i] = most / 127;
            outputs[i] = _mm512_castsi512_ps(to_bytes(x, bytes_by(most)));
        }
        rv__transpose(outputs);
        for (int k = 0; k < 16; k++)
            fours[k] = _mm512_castps_si512(outputs[k]);
        put_outputs(fours, _mm512_loadu_ps(scale), for_shares, output, out);
    }
}

/* What the numbers 0 to 15 of half a block become. */
static VNNI __m256i table_of(float scale, float least, float by)
{
    const __m512 q = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512 v = _mm512_sub_ps(_mm512_mul_ps(_mm512_set1_ps(scale), q), _mm512_set1_ps(least));

    v = _mm512_mul_ps(v, _mm512_set1_ps(by));
    return _mm256_broadcastsi128_si256(_mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
}

static inline float further(float a, float b)
{
    a = a < 0 ? -a : a;
    b = b < 0 ? -b : b;
    return a > b ? a : b;
}

/* 64 numbers: the lower, then the upper halves of 32 bytes. */
static VNNI __m512i from_nibbles(const uint8_t *nibbles, const float *scale, const float *least,
                                 float *most)
{
    __m256i q = _mm256_loadu_si256((const __m256i *)(const void *)nibbles),
            low = _mm256_set1_epi8(15);
    float by;

    *most = further(further(least[0], 15 * scale[0] - least[0]),
                    further(least[1], 15 * scale[1] - least[1]));
    by = bytes_by(*most);
    return _mm512_inserti64x4(
        _mm512_castsi256_si512(
            _mm256_shuffle_epi8(table_of(scale[0], least[0], by), _mm256_and_si256(q, low))),
        _mm256_shuffle_epi8(table_of(scale[1], least[1], by),
                            _mm256_and_si256(_mm256_srli_epi16(q, 4), low)),
        1);
}

VNNI void rv__int8_pack_q4_k(const uint8_t *w, int64_t rows, size_t stride, int64_t in, int output,
                             rv__int8_block *out)
{
    enum { PARTS = RV__Q4_K_NUMBERS / RV__INT8_BLOCK };

    for (; in > 0; in -= RV__Q4_K_NUMBERS, w += RV__Q4_K_BYTES, out += PARTS) {
        __m512 outputs[PARTS][16];
        float most[PARTS][16];

        for (int i = 0; i < 16; i++) {
            const uint8_t *block = w + (size_t)i * stride;
            float scale[8] = {0}, least[8] = {0};

            if (i < rows)
                rv__q4_k_scales(block, scale, least);
            for (int p = 0; p < PARTS; p++) {
                outputs[p][i] = _mm512_setzero_ps();
                most[p][i] = 0;
                if (i < rows)
                    outputs[p][i] = _mm512_castsi512_ps(
                        from_nibbles(block + RV__Q4_K_NIBBLES + 32 * p, scale + 2 * p,
                                     least + 2 * p, &most[p][i]));
            }
        }
        for (int p = 0; p < PARTS; p++) {
            __m512i fours[16];

            rv__transpose(outputs[p]);
            for (int k = 0; k < 16; k++)
                fours[k] = _mm512_castps_si512(outputs[p][k]);
            put_outputs(fours, _mm512_div_ps(_mm512_loadu_ps(most[p]), _mm512_set1_ps(127)), false,
                        output, out + p);
        }
    }
}

/* Four inputs of sixteen outputs as bytes. */
static inline VNNI __m512i four_bytes(const __m512 x[4], __m512 by)
{
    __m512i low = _mm512_set1_epi32(255), q[4];

    for (int i = 0; i < 4; i++)
        q[i] = _mm512_and_si512(_mm512_cvtps_epi32(_mm512_mul_ps(x[i], by)), low);
    return _mm512_or_si512(
        _mm512_or_si512(q[0], _mm512_slli_epi32(q[1], 8)),
        _mm512_or_si512(_mm512_slli_epi32(q[2], 16), _mm512_slli_epi32(q[3], 24)));
}

/* Sixteen columns of up to 64 rows. */
static VNNI void pack_sixteen(const float *w, __mmask16 columns, int64_t ldw, int64_t rows,
                              bool for_shares, int output, rv__int8_block *out)
{
    __m512 x[RV__INT8_BLOCK], most = _mm512_setzero_ps(), by;
    __m512i fours[16];

    for (int i = 0; i < RV__INT8_BLOCK; i++) {
        x[i] = i < rows ? _mm512_maskz_loadu_ps(columns, w + i * ldw) : _mm512_setzero_ps();
        most = _mm512_max_ps(most, _mm512_abs_ps(x[i]));
    }
    by = _mm512_maskz_div_ps(_mm512_cmp_ps_mask(most, _mm512_set1_ps(1e-30f), _CMP_GT_OQ) &
                                 _mm512_cmp_ps_mask(most, _mm512_set1_ps(1e30f), _CMP_LT_OQ),
                             _mm512_set1_ps(127), most);
    for (int k = 0; k < 16; k++)
        fours[k] = four_bytes(x + 4 * k, by);
    put_outputs(fours, _mm512_div_ps(most, _mm512_set1_ps(127)), for_shares, output, out);
}

VNNI void rv__int8_pack_columns(const float *w, int64_t columns, int64_t ldw, int64_t in,
                                bool for_shares, rv__int8_block *out)
{
    for (int64_t at = 0; at < in; at += RV__INT8_BLOCK, out++)
        for (int o = 0; o < RV__INT8_PANEL; o += 16) {
            int64_t n = columns - o;
            __mmask16 some = n >= 16 ? 0xFFFF : n > 0 ? (__mmask16)((1u << n) - 1) : 0;

            pack_sixteen(w + at * ldw + o, some, ldw, in - at, for_shares, o, out);
        }
}

#else
bool rv__int8_usable(void)
{
    return false;
}

/* Never called. */
void rv__int8_row(const float *x, int64_t in, uint8_t *out)
{
    (void)x, (void)in, (void)out;
}

int64_t rv__int8_shares(const float *x, int64_t in, uint8_t *out)
{
    (void)x, (void)in, (void)out;
    return 1;
}

void rv__int8_pack(const float *w, int64_t rows, int64_t ldw, int64_t in, bool for_shares,
                   int output, rv__int8_block *out)
{
    (void)w, (void)rows, (void)ldw, (void)in, (void)for_shares, (void)output, (void)out;
}

void rv__int8_pack_q4_k(const uint8_t *w, int64_t rows, size_t stride, int64_t in, int output,
                        rv__int8_block *out)
{
    (void)w, (void)rows, (void)stride, (void)in, (void)output, (void)out;
}

void rv__int8_pack_columns(const float *w, int64_t columns, int64_t ldw, int64_t in,
                           bool for_shares, rv__int8_block *out)
{
    (void)w, (void)columns, (void)ldw, (void)in, (void)for_shares, (void)out;
}

void rv__int8_multiply(const uint8_t *x, int64_t rows, const rv__int8_block *panel, int64_t blocks,
                       float *y, int64_t ldy)
{
    (void)x, (void)rows, (void)panel, (void)blocks, (void)y, (void)ldy;
}
#endif
