/* Random numbers exactly as torch's CPU generator draws them, so that a seed gives the same initial
 * noise here and in diffusers.  Must never depend on the C library's generator, the locale or the
 * number of threads. */
#ifndef RV_RNG_H
#define RV_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One generator; plain memory, copy it to fork the stream.  Not shared between threads. */
typedef struct rv__rng {
    uint32_t state[624];
    int      next;       /* words of state already handed out; 624: twist first     */
    bool     has_cached; /* the second half of the last double-precision pair is in */
    double   cached;
} rv__rng;

/* torch.Generator("cpu").manual_seed(seed): only the low 32 bits count. */
void rv__rng_seed(rv__rng *r, uint64_t seed);

uint32_t rv__rng_u32(rv__rng *r);
uint64_t rv__rng_u64(rv__rng *r); /* two draws, the first is the high word */

/* torch.rand(n), float32: 24-bit uniforms in [0, 1). */
void rv__rng_uniform(rv__rng *r, float *out, size_t n);

/* torch.randn(n), float32 and contiguous.  n is the size of the whole tensor: drawing 2 x 20 values
 * is not the same as drawing 40, because tensors of 16 values and more are made in blocks and
 * shorter ones pair by pair. */
void rv__rng_normal(rv__rng *r, float *out, size_t n);

#endif
