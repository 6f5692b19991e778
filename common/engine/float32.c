/* See float32.h. */
#include "float32.h"

#include <string.h>

enum { PANEL = RV__FLOAT32_PANEL, ROWS = RV__FLOAT32_ROWS, BLOCK = 448 };

#if defined(__x86_64__)
#include "avx512.h"

#define AVX512 RV__AVX512

bool rv__float32_usable(void)
{
    return __builtin_cpu_supports("avx512f");
}

/* ---- panels ---- */

/* Sixteen outputs, half a panel. */
static AVX512 void pack_half(const float *w, int64_t outputs, int64_t ldw, int64_t in, float *to)
{
    for (int64_t at = 0; at < in; at += 16) {
        int64_t n = in - at < 16 ? in - at : 16;
        __mmask16 some = (__mmask16)((1u << n) - 1);
        __m512 r[16];

#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            r[i] = i < outputs ? _mm512_maskz_loadu_ps(some, w + i * ldw + at)
                               : _mm512_setzero_ps();
        rv__transpose(r);
        for (int64_t i = 0; i < n; i++)
            _mm512_storeu_ps(to + (at + i) * PANEL, r[i]);
    }
}

void rv__float32_pack(const float *w, int64_t out, int64_t ldw, int64_t in, float *panels)
{
    for (int64_t o = 0; o < out; o += PANEL, panels += in * PANEL) {
        pack_half(w + o * ldw, out - o, ldw, in, panels);
        pack_half(w + (o + 16) * ldw, out - o - 16, ldw, in, panels + 16);
    }
}

/* ---- products ---- */

/* The first n of sixteen. */
static inline AVX512 __mmask16 first(int64_t n)
{
    return n >= 16 ? 0xFFFF : n > 0 ? (__mmask16)((1u << n) - 1) : 0;
}

/* The sums of a row of 16 outputs to where they belong. */
static inline __attribute__((always_inline)) AVX512 void put(float *y, __m512 sum, __m512 scale,
                                                            __mmask16 some, bool add)
{
    _mm512_mask_storeu_ps(
        y, some,
        add ? _mm512_fmadd_ps(sum, scale, _mm512_maskz_loadu_ps(some, y)) : _mm512_mul_ps(sum, scale));
}

/* `rows` is a constant where this is used, and all sums stay in registers. */
static inline __attribute__((always_inline)) AVX512 void
some_rows(const int rows, const float *x, int64_t ldx, const float *w, int64_t in, int64_t out,
          float scale, float *y, int64_t ldy, bool add)
{
    __m512 a[ROWS], b[ROWS], by = _mm512_set1_ps(scale);

#pragma GCC unroll 14
    for (int r = 0; r < rows; r++)
        a[r] = b[r] = _mm512_setzero_ps();
    for (int64_t i = 0; i < in; i++, w += PANEL) {
        __m512 left = _mm512_loadu_ps(w), right = _mm512_loadu_ps(w + 16);

#pragma GCC unroll 14
        for (int r = 0; r < rows; r++) {
            __m512 v = _mm512_set1_ps(x[r * ldx + i]);

            a[r] = _mm512_fmadd_ps(v, left, a[r]);
            b[r] = _mm512_fmadd_ps(v, right, b[r]);
        }
    }
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
        put(y + r * ldy, a[r], by, first(out), add);
        if (out > 16)
            put(y + r * ldy + 16, b[r], by, first(out - 16), add);
    }
}

#define CASE(n)                                                                                    \
    case n:                                                                                        \
        some_rows(n, x, ldx, w, in, out, scale, y, ldy, add);                                      \
        break;

static AVX512 void few_rows(int64_t rows, const float *x, int64_t ldx, const float *w, int64_t in,
                            int64_t out, float scale, float *y, int64_t ldy, bool add)
{
    switch (rows) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
        CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13)
    default:
        some_rows(ROWS, x, ldx, w, in, out, scale, y, ldy, add);
    }
}

/* The next block of what is left, as OpenBLAS cuts it. */
static int64_t block_of(int64_t left)
{
    return left >= 2 * BLOCK ? BLOCK : left > BLOCK ? (left / 2 + 15) / 16 * 16 : left;
}

void rv__float32_multiply(const float *x, int64_t ldx, int64_t rows, const float *panels,
                          int64_t in, int64_t out, float scale, float *y, int64_t ldy, bool add)
{
    for (int64_t at = 0, n; at < in; at += n, add = true) {
        n = block_of(in - at);
        for (int64_t o = 0; o < out; o += PANEL)
            for (int64_t r = 0; r < rows; r += ROWS)
                few_rows(rows - r, x + r * ldx + at, ldx, panels + o * in + at * PANEL, n, out - o,
                         scale, y + r * ldy + o, ldy, add);
    }
}

#else
bool rv__float32_usable(void)
{
    return false;
}

void rv__float32_pack(const float *w, int64_t out, int64_t ldw, int64_t in, float *panels)
{
    (void)w, (void)ldw;
    memset(panels, 0, (size_t)rv__float32_room(in, out) * sizeof *panels);
}

void rv__float32_multiply(const float *x, int64_t ldx, int64_t rows, const float *panels,
                          int64_t in, int64_t out, float scale, float *y, int64_t ldy, bool add)
{
    (void)x, (void)ldx, (void)panels, (void)in, (void)scale, (void)add;
    for (int64_t r = 0; r < rows; r++)
        memset(y + r * ldy, 0, (size_t)out * sizeof *y);
}
#endif

void rv__float32_pack_columns(const float *w, int64_t out, int64_t ldw, int64_t in, float *panels)
{
    for (int64_t o = 0; o < out; o += PANEL)
        for (int64_t i = 0; i < in; i++, panels += PANEL) {
            int64_t n = out - o < PANEL ? out - o : PANEL;

            memcpy(panels, w + i * ldw + o, (size_t)n * sizeof *panels);
            memset(panels + n, 0, (size_t)(PANEL - n) * sizeof *panels);
        }
}
