/* Previews: the known table, and maps fitted to the small autoencoder of tests/golden, which must be
 * closer to the decoded picture than any single colour. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "engine/preview.h"
#include "engine/rng.h"

enum { SIDE = 12, PATCH = 4 /* neighbours of real pictures are alike */ };

static rv__device *device;
static rv__weights *weights;
static rv__vae *vae;

static int open_model(void **state)
{
    char path[512];
    const char *root = getenv("SOURCE_ROOT");
    rv_error err;
    snprintf(path, sizeof path, "%s/tests/golden/tiny-hidream", root ? root : ".");
    assert_int_equal(rv__device_open(2, &device, &err), RV_OK);
    assert_int_equal(rv__weights_open(path, &weights, &err), RV_OK);
    assert_int_equal(rv__vae_open(device, weights, &vae, &err), RV_OK);
    return 0;
}

static int close_model(void **state)
{
    rv__vae_close(vae);
    rv__weights_close(weights);
    rv__device_close(device);
    return 0;
}

/* Random latents, their decoded picture shrunk to one pixel per latent, and the preview. */
static void paint_both(const rv__preview *p, uint64_t seed, double *decoded, uint8_t *preview)
{
    const rv__vae_config *c = rv__vae_about(vae);
    int64_t f = c->factor, wide = SIDE * f;
    size_t n = (size_t)(SIDE * SIDE * c->latent_channels);
    float *latents = rv__alloc(2 * n * sizeof *latents);
    float *planes = rv__alloc((size_t)(3 * wide * wide) * sizeof *planes);
    uint8_t *bytes = rv__alloc((size_t)(3 * wide * wide));
    rv__rng rng;
    rv_error err;
    rv__rng_seed(&rng, seed);
    rv__rng_normal(&rng, latents + n, n);
    for (size_t i = 0; i < n; i++)
        latents[i] = latents[n + i - i % SIDE % PATCH - i / SIDE % SIDE % PATCH * SIDE];
    rv__preview_paint(p, latents, SIDE, SIDE, preview);
    rv__vae_unscale(c, latents, n, latents + n);
    assert_int_equal(rv__vae_decode(vae, latents + n, SIDE, SIDE, planes, NULL, NULL, &err), RV_OK);
    rv__vae_bytes(planes, wide, wide, 3, bytes);
    memset(decoded, 0, SIDE * SIDE * 3 * sizeof *decoded);
    for (int64_t y = 0; y < wide; y++)
        for (int64_t x = 0; x < wide; x++)
            for (int k = 0; k < 3; k++)
                decoded[(y / f * SIDE + x / f) * 3 + k] +=
                    bytes[(y * wide + x) * 3 + k] / (double)(f * f);
    rv__free(latents), rv__free(planes), rv__free(bytes);
}

static void a_fitted_map_shows_the_picture(void **state)
{
    double decoded[SIDE * SIDE * 3], mean[3] = {0}, flat = 0, left = 0;
    uint8_t preview[SIDE * SIDE * 3];
    rv__preview p, again;
    rv_error err;
    assert_int_equal(rv__preview_fit(vae, &p, NULL, NULL, &err), RV_OK);
    assert_int_equal(rv__preview_fit(vae, &again, NULL, NULL, &err), RV_OK);
    assert_memory_equal(&p, &again, sizeof p);
    paint_both(&p, 99, decoded, preview);
    for (int i = 0; i < SIDE * SIDE * 3; i++)
        mean[i % 3] += decoded[i] / (SIDE * SIDE);
    for (int i = 0; i < SIDE * SIDE * 3; i++) {
        flat += (decoded[i] - mean[i % 3]) * (decoded[i] - mean[i % 3]);
        left += (decoded[i] - preview[i]) * (decoded[i] - preview[i]);
    }
    print_message("# variance not explained: %.3f, rms %.1f of 255\n", left / flat,
                  sqrt(left / (SIDE * SIDE * 3)));
    /* The weights are random, so little is linear; a trained autoencoder leaves a tenth. */
    assert_true(left < 0.93 * flat);
}

static void values_are_clamped(void **state)
{
    const float latents[] = {-10, 0, 10, NAN};
    const uint8_t expected[] = {0, 0, 0, 128, 128, 128, 255, 255, 255, 0, 0, 0};
    rv__preview p = {.channels = 1, .factors = {{1, 1, 1}}};
    uint8_t rgb[12];
    rv__preview_paint(&p, latents, 2, 2, rgb);
    assert_memory_equal(rgb, expected, sizeof rgb);
}

static bool always(void *user)
{
    return true;
}

static void fitting_can_be_cancelled(void **state)
{
    rv__preview p;
    rv_error err;
    assert_int_equal(rv__preview_fit(vae, &p, always, NULL, &err), RV_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fitted_map_shows_the_picture),
        cmocka_unit_test(values_are_clamped),
        cmocka_unit_test(fitting_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
