/* Random numbers against vectors of torch's CPU generator, and the generator's own published
 * vector. */
#include "engine/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void check(const float *got, const double *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (fabs(got[i] - want[i]) > 6e-5)
            fail_msg("value %zu: %f instead of %f", i, got[i], want[i]);
    }
}

/* The 10000th output of MT19937 seeded with 5489, as the C++ standard demands it. */
static void is_the_mersenne_twister(void **state)
{
    (void)state;
    rv__rng r;
    rv__rng_seed(&r, 5489);
    uint32_t v = 0;
    for (int i = 0; i < 10000; i++)
        v = rv__rng_u32(&r);
    assert_int_equal(v, 4123659995u);
}

static void short_draws(void **state)
{
    (void)state;
    rv__rng r;
    float v[4];
    rv__rng_seed(&r, 0);
    rv__rng_normal(&r, v, 4);
    check(v, (const double[]){1.5410, -0.2934, -2.1788, 0.5684}, 4);
}

static void block_draws(void **state)
{
    (void)state;
    static const double first16[] = {-1.1258, -1.1524, -0.2506, -0.4339, 0.8487, 0.6920,
                                     -0.3160, -2.1152, 0.3223,  -1.2633, 0.3500, 0.3081,
                                     0.1198,  1.2377,  1.1168,  -0.2473};
    static const double last16of20[] = {0.5988, -1.5551, -0.3414, 1.8530, 0.4681, -0.1577,
                                        1.4437, 0.2660,  1.3894,  1.5863, 0.9463, -0.8437,
                                        0.9318, 1.2590,  2.0050,  0.0537};
    rv__rng r;
    float v[20];
    rv__rng_seed(&r, 0);
    rv__rng_normal(&r, v, 16);
    check(v, first16, 16);
    rv__rng_seed(&r, 0);
    rv__rng_normal(&r, v, 20);
    check(v, first16, 4);
    check(v + 4, last16of20, 16);
}

static void large_draws(void **state)
{
    (void)state;
    static float v[16 * 128 * 128];
    rv__rng r;
    rv__rng_seed(&r, 42);
    rv__rng_normal(&r, v, sizeof v / sizeof *v);
    check(v, (const double[]){1.9269, 1.4873, 0.9007, -2.1055, 0.6784, -1.2345, -0.0431, -1.6047},
          8);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        sum += v[i];
        squares += (double)v[i] * v[i];
    }
    assert_true(fabs(sum / (sizeof v / sizeof *v)) < 0.01);
    assert_true(fabs(squares / (sizeof v / sizeof *v) - 1.0) < 0.01);
}

/* Only the low half of a seed counts, and a copied generator goes on alike. */
static void seeds_and_copies(void **state)
{
    (void)state;
    rv__rng a, b;
    rv__rng_seed(&a, 42);
    rv__rng_seed(&b, 42 + (UINT64_C(7) << 32));
    float x[33], y[33];
    rv__rng_normal(&a, x, 7);
    rv__rng_normal(&b, y, 7);
    assert_memory_equal(x, y, 7 * sizeof *x);
    b = a;
    rv__rng_normal(&a, x, 33);
    rv__rng_normal(&b, y, 33);
    assert_memory_equal(x, y, sizeof x);
    rv__rng_uniform(&a, x, 33);
    for (int i = 0; i < 33; i++)
        assert_true(x[i] >= 0.0f && x[i] < 1.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_mersenne_twister),
        cmocka_unit_test(short_draws),
        cmocka_unit_test(block_draws),
        cmocka_unit_test(large_draws),
        cmocka_unit_test(seeds_and_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
