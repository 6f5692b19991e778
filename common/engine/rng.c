/* torch's CPU generator: Mersenne Twister (MT19937, Matsumoto and Nishimura 1998) and the two ways
 * torch makes normal numbers from it.  The uniforms are exact; normals use the C library's log, sin
 * and cos in float, as torch's plain build does, and differ from its vectorised builds in the last
 * digits.  Must never reorder draws. */
#include "rng.h"

#include <math.h>
#include <string.h>

#define N     624
#define M     397
#define BLOCK 16 /* tensors of at least this many values are drawn in blocks of it */

void rv__rng_seed(rv__rng *r, uint64_t seed)
{
    memset(r, 0, sizeof *r);
    r->state[0] = (uint32_t)seed;
    for (uint32_t j = 1; j < N; j++)
        r->state[j] = 1812433253u * (r->state[j - 1] ^ (r->state[j - 1] >> 30)) + j;
    r->next = N;
}

static void twist(rv__rng *r)
{
    uint32_t *s = r->state;
    for (int i = 0; i < N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    r->next = 0;
}

uint32_t rv__rng_u32(rv__rng *r)
{
    if (r->next >= N)
        twist(r);
    uint32_t y = r->state[r->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

uint64_t rv__rng_u64(rv__rng *r)
{
    uint64_t high = rv__rng_u32(r);
    return high << 32 | rv__rng_u32(r);
}

void rv__rng_uniform(rv__rng *r, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(rv__rng_u32(r) & 0xffffffu) / 16777216.0f;
}

/* Box-Muller inside a block: places j and j + 8 hold two uniforms and get two normals. */
static void normal_block(float *d)
{
    for (int j = 0; j < BLOCK / 2; j++) {
        float radius = sqrtf(-2.0f * logf(1.0f - d[j]));
        float theta = 2.0f * 3.14159265358979323846f * d[j + BLOCK / 2];
        d[j] = radius * cosf(theta);
        d[j + BLOCK / 2] = radius * sinf(theta);
    }
}

static double uniform53(rv__rng *r)
{
    return (double)(rv__rng_u64(r) & ((UINT64_C(1) << 53) - 1)) / 9007199254740992.0;
}

/* One value in double precision; each pair drawn serves two calls. */
static double normal_one(rv__rng *r)
{
    if (r->has_cached) {
        r->has_cached = false;
        return r->cached;
    }
    double u1 = uniform53(r), u2 = uniform53(r);
    double radius = sqrt(-2.0 * log1p(-u2)), theta = 2.0 * 3.14159265358979323846 * u1;
    r->cached = radius * sin(theta);
    r->has_cached = true;
    return radius * cos(theta);
}

void rv__rng_normal(rv__rng *r, float *out, size_t n)
{
    if (n < BLOCK) {
        for (size_t i = 0; i < n; i++)
            out[i] = (float)normal_one(r);
        return;
    }
    rv__rng_uniform(r, out, n);
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK)
        normal_block(out + i);
    if (n % BLOCK) { /* the last 16 places are drawn anew, whatever they held */
        rv__rng_uniform(r, out + n - BLOCK, BLOCK);
        normal_block(out + n - BLOCK);
    }
}
