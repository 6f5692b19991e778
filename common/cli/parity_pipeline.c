/* Parity of whole pictures: every case of the manifest from its words to its bytes, and the size
 * rule. Cases, prompts, samplers and sizes come from the manifest. */
#include "parity.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "engine/mapped_file.h"
#include "engine/pipeline.h"
#include "engine/rng.h"
#include "engine/vae.h"
#include "image/image.h"

/* Values collected while a picture is made; full ones take no more. */
typedef struct series {
    float *data;
    size_t used, size;
} series;

typedef struct run {
    rv__parity *parity;
    rv__golden *golden;
    const rv__value *golden_case;
    const char *name;
    rv__pipeline *pipeline;
    rv__tolerance tolerance;
    size_t picture, pictures; /* rows of the case */
    series steps, noise, call_in, call_times, call_out;
} run;

static const rv__tensor *find(const run *r, const char *what, char *name, size_t size)
{
    snprintf(name, size, "%s.%s", r->name, what);
    return rv__golden_find(r->golden, name);
}

static void fail(const run *r, const char *why)
{
    rv__parity_fail(r->parity, r->name, "%s", why);
}

/* ---- collecting ---- */

static bool make_series(const run *r, const char *what, series *s)
{
    char name[192];
    const rv__tensor *t = find(r, what, name, sizeof name);

    s->used = 0;
    s->size = t ? rv__tensor_elements(t) : 0;
    s->data = s->size ? rv__calloc(s->size, sizeof *s->data) : NULL;
    return s->size == 0 || s->data;
}

static void append(series *s, const float *data, size_t n)
{
    if (s->used + n <= s->size)
        memcpy(s->data + s->used, data, n * sizeof *data);
    s->used += n;
}

static void on_step(void *user, int step, int steps, const float *latents, size_t n)
{
    run *r = user;
    size_t at = ((size_t)(step - 1) * r->pictures + r->picture) * n;

    (void)steps;
    if (at + n <= r->steps.size)
        memcpy(r->steps.data + at, latents, n * sizeof *latents);
    r->steps.used += n;
}

static void on_call(void *user, int call, const float *in, const float *times, const float *out,
                    size_t rows, size_t n)
{
    run *r = user;

    (void)call;
    append(&r->call_in, in, rows * n);
    append(&r->call_times, times, rows);
    append(&r->call_out, out, rows * n);
}

static void on_noise(void *user, int step, const float *noise, size_t n)
{
    run *r = user;

    (void)step;
    append(&r->noise, noise, n);
}

static void check(const run *r, const char *what, const series *s, rv__tolerance tolerance)
{
    char name[192];

    if (!find(r, what, name, sizeof name))
        return;
    if (s->used == s->size)
        rv__parity_check(r->golden, name, s->data, s->size, tolerance);
    else
        rv__parity_fail_golden(r->golden, name, "%zu values were made, %zu are wanted", s->used,
                               s->size);
}

/* ---- cases ---- */

static bool read_scheduler(const run *r, rv__scheduler_config *out)
{
    static const struct {
        const char *kind;
        rv__sampler sampler;
    } kinds[] = {{"euler", RV_SAMPLER_EULER}, {"lcm", RV_SAMPLER_LCM}, {"unipc", RV_SAMPLER_UNIPC}};
    const rv__value *v = rv__json_get(r->golden_case, "scheduler");
    const char *kind = rv__json_get_string(v, "kind", "");

    *out = (rv__scheduler_config){.spacing = RV_SPACING_UNIFORM,
                                  .shift = rv__json_get_number(v, "shift", 1),
                                  .train_timesteps = 1000,
                                  .order = 2,
                                  .lower_order_final = true};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kind, kinds[i].kind) == 0) {
            out->sampler = kinds[i].sampler;
            return true;
        }
    return false;
}

static bool read_case(run *r, rv__picture_request *q, rv__scheduler_config *scheduler)
{
    const rv__value *c = r->golden_case;

    *q = (rv__picture_request){
        .prompt = rv__json_get_string(c, "prompt", NULL),
        .negative = rv__json_get_string(c, "negative", NULL),
        .sequence = (size_t)rv__json_get_int(c, "max_sequence_length", 0),
        .guidance = rv__json_get_number(c, "guidance", 0),
        .steps = (int)rv__json_get_int(c, "steps", 0),
        .scheduler = scheduler,
        .width = rv__json_get_int(c, "width", 0),
        .height = rv__json_get_int(c, "height", 0),
        .separate_noise = rv__json_get(c, "noise_seed") != NULL,
        .noise_seed = (uint64_t)rv__json_get_int(c, "noise_seed", 0),
        .hooks = {.step = on_step, .call = on_call, .noise = on_noise, .user = r},
    };
    r->pictures = (size_t)rv__json_get_int(c, "num_images", 1);
    r->tolerance = q->guidance > 1 ? RV_TOL_LATENTS_GUIDED : RV_TOL_LATENTS;
    return rv__json_uint(rv__json_get(c, "seed"), &q->seed) && q->prompt && q->width > 0 &&
           q->height > 0 && q->width <= RV__VAE_MAX_SIDE && q->height <= RV__VAE_MAX_SIDE &&
           r->pictures > 0 && r->pictures <= 64 && read_scheduler(r, scheduler);
}

/* The reference draws the noise of all pictures of a call as one tensor. */
static float *initial_noise(const run *r, uint64_t seed)
{
    char name[192];
    const rv__tensor *want = find(r, "init", name, sizeof name);
    size_t n = want ? rv__tensor_elements(want) : 0;
    float *noise = n ? rv__alloc(n * sizeof *noise) : NULL;
    rv__rng rng;

    if (!noise)
        return NULL;
    rv__rng_seed(&rng, seed);
    rv__rng_normal(&rng, noise, n);
    rv__parity_check(r->golden, name, noise, n, RV_TOL_RANDN);
    return noise;
}

static void compare_png(const run *r, const char *file, const uint8_t *bytes, int64_t width,
                        int64_t height)
{
    char *path = rv__format("%s/%s", rv__parity_dir(r->parity), file);
    rv__mapped map = {0};
    rv_image *image = NULL;
    rv_image_info info;
    const uint8_t *pixels = NULL;
    rv_error err = {.message = "out of memory"};

    if (path && rv__mapped_open(path, &map, &err) == RV_OK &&
        rv__image_from_bytes(map.data, map.size, RV__VAE_MAX_SIDE * RV__VAE_MAX_SIDE, &image,
                             &err) == RV_OK) {
        info = rv_image_facts(image);
        if (info.width == width && info.height == height && info.channels == 3)
            pixels = rv_image_pixels(image);
    }
    if (pixels)
        rv__parity_compare_u8(r->parity, file, bytes, pixels, (size_t)(width * height) * 3);
    else
        rv__parity_fail(r->parity, file, "cannot be compared: %s",
                        image ? "size or kind differs" : err.message);
    rv_image_unref(image);
    rv__mapped_close(&map);
    rv__free(path);
}

static void make_pictures(run *r, rv__picture_request *q, const float *noise)
{
    size_t n = (size_t)(q->width * q->height) * 3, latents;
    uint8_t *bytes = rv__alloc(n);
    float *planes = rv__alloc(n * r->pictures * sizeof *planes);
    const rv__value *png = rv__json_first(rv__json_get(r->golden_case, "png"));
    char name[192];
    rv_error err = {.message = "out of memory"};
    rv_status status = bytes && planes ? RV_OK : RV_MEMORY;

    find(r, "init", name, sizeof name);
    latents = rv__tensor_elements(rv__golden_find(r->golden, name)) / r->pictures;
    for (r->picture = 0; status == RV_OK && r->picture < r->pictures;
         r->picture++, png = rv__json_next(png)) {
        q->initial = r->pictures > 1 ? noise + r->picture * latents : NULL;
        status = rv__pipeline_run(r->pipeline, q, bytes, planes + r->picture * n, &err);
        if (status == RV_OK && rv__json_string(png))
            compare_png(r, rv__json_string(png), bytes, q->width, q->height);
    }
    if (status != RV_OK)
        fail(r, err.message);
    else if (find(r, "image", name, sizeof name))
        rv__parity_check(r->golden, name, planes, n * r->pictures, r->tolerance);
    rv__free(bytes);
    rv__free(planes);
}

static void run_case(run *r)
{
    rv__scheduler_config scheduler;
    rv__picture_request q;
    float *noise;

    if (!read_case(r, &q, &scheduler)) {
        fail(r, "the manifest's entry cannot be read");
        return;
    }
    noise = initial_noise(r, q.seed);
    if (!noise || !make_series(r, "steps", &r->steps) || !make_series(r, "noise", &r->noise) ||
        !make_series(r, "call.in", &r->call_in) || !make_series(r, "call.t", &r->call_times) ||
        !make_series(r, "call.out", &r->call_out)) {
        fail(r, "the initial noise is missing, or out of memory");
    } else {
        make_pictures(r, &q, noise);
        check(r, "steps", &r->steps, r->tolerance);
        check(r, "noise", &r->noise, RV_TOL_RANDN);
        check(r, "call.in", &r->call_in, r->tolerance);
        check(r, "call.t", &r->call_times, RV_TOL_TIMESTEPS);
        check(r, "call.out", &r->call_out, r->tolerance);
    }
    rv__free(r->steps.data);
    rv__free(r->noise.data);
    rv__free(r->call_in.data);
    rv__free(r->call_times.data);
    rv__free(r->call_out.data);
    rv__free(noise);
}

void rv__parity_pipeline(rv__parity *p, rv__golden *g)
{
    const rv__value *cases = rv__json_get(rv__parity_manifest(p), "pipeline_cases");
    rv__device *device = NULL;
    rv__pipeline *pipeline = NULL;
    rv_error err;

    if (rv__device_open(0, &device, &err) != RV_OK ||
        rv__pipeline_open(device, rv__parity_model(p), &pipeline, &err) != RV_OK ||
        rv__pipeline_machines(pipeline, rv__parity_machines(p), &err) != RV_OK)
        rv__parity_fail(p, "pipeline", "%s", err.message);
    else
        for (const rv__value *v = rv__json_first(cases); v; v = rv__json_next(v))
            run_case(&(run){.parity = p,
                            .golden = g,
                            .pipeline = pipeline,
                            .golden_case = v,
                            .name = rv__json_key(v)});
    rv__pipeline_close(pipeline);
    rv__device_close(device);
}

/* ---- sizes ---- */

static bool read_pair(const rv__value *row, const char *name, int32_t out[2])
{
    const rv__value *list = rv__json_get(row, name);
    int64_t a, b;

    if (!rv__json_int(rv__json_at(list, 0), &a) || !rv__json_int(rv__json_at(list, 1), &b) ||
        a < 1 || b < 1 || a > 1 << 20 || b > 1 << 20)
        return false;
    out[0] = (int32_t)a;
    out[1] = (int32_t)b;
    return true;
}

void rv__parity_size_rule(rv__parity *p, const rv__value *size_rule)
{
    enum { SAMPLE_SIZE = 128 }; /* the pipeline's default, in latent pixels */
    rv__device *device = NULL;
    rv__pipeline *pipeline = NULL;
    rv_error err;
    int64_t step = 0, width, height, side;
    char name[64];

    if (rv__device_open(0, &device, &err) == RV_OK &&
        rv__pipeline_open(device, rv__parity_model(p), &pipeline, &err) == RV_OK)
        step = rv__pipeline_side_step(pipeline, &err);
    if (step < 2)
        rv__parity_fail(p, "size_rule", "%s", err.message);
    side = SAMPLE_SIZE * step / 2;
    for (const rv__value *v = rv__json_first(rv__json_get(size_rule, "rows")); v && step >= 2;
         v = rv__json_next(v)) {
        int32_t asked[2], want[2];

        if (!read_pair(v, "request", asked) || !read_pair(v, "used", want)) {
            rv__parity_fail(p, "size_rule", "a row cannot be read");
            continue;
        }
        rv__pipeline_size(asked[0], asked[1], side * side, step, &width, &height);
        snprintf(name, sizeof name, "size_rule.%dx%d", (int)asked[0], (int)asked[1]);
        rv__parity_compare_i32(p, name, (int32_t[]){(int32_t)width, (int32_t)height}, want, 2);
    }
    rv__pipeline_close(pipeline);
    rv__device_close(device);
}
