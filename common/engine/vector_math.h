/* Elementary functions that compilers turn into vector code: no branches, no tables, no library
 * calls. Errors are a few units in the last place; results do not depend on the instruction set (no
 * fused operations). */
#ifndef RV_VECTOR_MATH_H
#define RV_VECTOR_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Compiled once per instruction set and chosen when the program starts. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_THREAD__)
#define RV__VECTOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define RV__VECTOR
#endif

/* e^x by 2^n * e^r with |r| <= ln(2)/2 and a degree-6 polynomial (coefficients: Cephes expf, S.
 * Moshier). Clamped to the range of normal numbers; NaN stays NaN. */
static inline float rv__exp(float x)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves an integer in the low bits */
    float z, n, r, p, scale;
    uint32_t bits;

    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    z = x * 1.44269504f + round;
    n = z - round;
    r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    memcpy(&bits, &z, sizeof bits);
    bits = (bits - 0x4B400000u + 127u) << 23;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

static inline float rv__sigmoid(float x)
{
    return 1.0f / (1.0f + rv__exp(-x));
}

static inline float rv__silu(float x)
{
    return x / (1.0f + rv__exp(-x));
}

/* tanh by e^2x; near zero an odd polynomial keeps the relative error small. */
static inline float rv__tanh(float x)
{
    float a = x < 0 ? -x : x;
    float e = rv__exp(2.0f * (a > 20.0f ? 20.0f : a));
    float large = 1.0f - 2.0f / (e + 1.0f);
    float s = x * x;
    float small =
        a + a * s *
                (-0.333332819422f +
                 s * (0.133314422036f +
                      s * (-0.0537397155531f + s * (0.0206390887954f + s * -0.00570498872745f))));
    float y = a < 0.625f ? small : large;

    return x < 0 ? -y : y;
}

/* Sum of n floats in sixteen lanes: the order is fixed, so every instruction set adds alike. */
static inline float rv__sum(const float *x, int64_t n)
{
    float lane[16] = {0}, sum = 0;
    int64_t i = 0;

    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++)
            lane[k] += x[i + k];
    for (; i < n; i++)
        sum += x[i];
    for (int k = 0; k < 16; k++)
        sum += lane[k];
    return sum;
}

/* Sum of (x - mean)^2. */
static inline float rv__sum_squares(const float *x, int64_t n, float mean)
{
    float lane[16] = {0}, sum = 0;
    int64_t i = 0;

    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++)
            lane[k] += (x[i + k] - mean) * (x[i + k] - mean);
    for (; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    for (int k = 0; k < 16; k++)
        sum += lane[k];
    return sum;
}

#endif
