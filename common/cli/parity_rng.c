/* Parity of random numbers.  The names of the tensors say what was drawn:
 * {randn,rand,int24}.SEED.SHAPE from a fresh generator, seq.* one after the other from one, batch.*
 * both ways. */
#include "parity.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/rng.h"

/* The seed of seq.* and batch.*: their names do not say it, the manifest's sentence about the first
 * does. */
static bool seed_in_text(const rv__parity *p, const char *tensor, uint64_t *seed)
{
    const rv__value *files = rv__json_get(rv__parity_manifest(p), "files");
    const rv__value *tensors = rv__json_get(rv__json_get(files, "rng.safetensors"), "tensors");
    const char *what = rv__json_get_string(rv__json_get(tensors, tensor), "what", "");
    const char *at = strstr(what, "seed");
    at = at ? at + strcspn(at, "0123456789") : "";
    char *end;
    *seed = strtoull(at, &end, 10);
    return end != at;
}

static void draw(rv__parity *p, rv__golden *g, rv__rng *r, const rv__tensor *t)
{
    size_t n = rv__tensor_elements(t);
    float *got = rv__alloc(n * sizeof *got);
    if (!got) {
        rv__parity_fail_golden(g, t->name, "out of memory");
        return;
    }
    rv__rng_normal(r, got, n);
    rv__parity_check(g, t->name, got, n, RV_TOL_RANDN);
    rv__free(got);
}

/* Uniforms and raw integers must be exact. */
static void draw_exact(rv__golden *g, rv__rng *r, const rv__tensor *t, bool integers)
{
    size_t n = rv__tensor_elements(t);
    float *uniforms = rv__alloc(n * sizeof *uniforms);
    int32_t *numbers = rv__alloc(n * sizeof *numbers);
    if (!uniforms || !numbers) {
        rv__parity_fail_golden(g, t->name, "out of memory");
    } else if (integers) {
        for (size_t i = 0; i < n; i++)
            numbers[i] = (int32_t)(rv__rng_u32(r) & 0xffffff);
        rv__parity_check_i32(g, t->name, numbers, n, RV_TOL_EXACT);
    } else {
        rv__rng_uniform(r, uniforms, n);
        rv__parity_check(g, t->name, uniforms, n, RV_TOL_EXACT);
    }
    rv__free(uniforms);
    rv__free(numbers);
}

/* KIND.SEED.SHAPE; true when the name is of that form. */
static bool fresh_draw(rv__parity *p, rv__golden *g, const rv__tensor *t)
{
    const char *dot = strchr(t->name, '.');
    char *end = NULL;
    uint64_t seed = dot ? strtoull(dot + 1, &end, 10) : 0;
    if (!end || end == dot + 1 || *end != '.')
        return false;
    size_t len = (size_t)(dot - t->name);
    rv__rng r;
    rv__rng_seed(&r, seed);
    if (len == 5 && memcmp(t->name, "randn", len) == 0)
        draw(p, g, &r, t);
    else if (len == 4 && memcmp(t->name, "rand", len) == 0)
        draw_exact(g, &r, t, false);
    else if (len == 5 && memcmp(t->name, "int24", len) == 0)
        draw_exact(g, &r, t, true);
    else
        return false;
    return true;
}

/* One generator per image, seeds counting up. */
static void draw_per_image(rv__golden *g, uint64_t seed, const rv__tensor *t)
{
    size_t n = rv__tensor_elements(t),
           images = t->n_dims > 1 && t->shape[0] > 0 ? (size_t)t->shape[0] : 1;
    float *got = rv__alloc(n * sizeof *got);
    for (size_t i = 0; got && i < images; i++) {
        rv__rng r;
        rv__rng_seed(&r, seed + i);
        rv__rng_normal(&r, got + i * (n / images), n / images);
    }
    if (got)
        rv__parity_check(g, t->name, got, n, RV_TOL_RANDN);
    else
        rv__parity_fail_golden(g, t->name, "out of memory");
    rv__free(got);
}

void rv__parity_rng(rv__parity *p, rv__golden *g)
{
    size_t count;
    const rv__tensor *list = rv__golden_list(g, &count);
    rv__rng sequence;
    uint64_t seed = 0;
    bool known = seed_in_text(p, "seq.a", &seed);
    rv__rng_seed(&sequence, seed);
    for (size_t i = 0; i < count; i++) { /* sorted, so seq.a … come in the order of their draws */
        const rv__tensor *t = &list[i];
        rv__rng r;
        uint64_t first;
        if (fresh_draw(p, g, t))
            continue;
        if (strncmp(t->name, "seq.", 4) == 0 && known) {
            draw(p, g, &sequence, t);
        } else if (strcmp(t->name, "batch.per_image") == 0 && seed_in_text(p, t->name, &first)) {
            draw_per_image(g, first, t);
        } else if (strcmp(t->name, "batch.one_generator") == 0 &&
                   seed_in_text(p, "batch.per_image", &first)) {
            rv__rng_seed(&r, first);
            draw(p, g, &r, t);
        }
    }
}
