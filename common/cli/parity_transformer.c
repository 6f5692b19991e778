/* Parity of single transformer passes: every case and every tap of transformer.safetensors.
 * Cases are found by the names in the file; no case, size or layer is known here. */
#include "parity.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "engine/transformer.h"

typedef struct run {
    rv__parity *parity;
    rv__golden *golden;
    rv__transformer *net;
    const char *name; /* of the case, its length */
    int name_len;
    const rv__tensor *latents;
    int32_t *places; /* of the last chosen experts in the golden's order, or NULL */
} run;

static const rv__tensor *find(const run *r, const char *what)
{
    char name[160];

    snprintf(name, sizeof name, "%.*s.%s", r->name_len, r->name, what);
    return rv__golden_find(r->golden, name);
}

static int64_t image_tokens(const run *r)
{
    int64_t patch = rv__transformer_about(r->net)->patch;

    return r->latents->shape[2] / patch * (r->latents->shape[3] / patch);
}

/* Our one padding row written out as often as the reference has it; NULL when the sizes do not say
 * so. */
static float *with_padding(const run *r, const struct ggml_tensor *t, const float *data,
                           size_t elements)
{
    int64_t n = t->ne[0], have = t->ne[1], image = image_tokens(r), batch = t->ne[2];
    int64_t want = (int64_t)elements / (n * batch), extra = want - have;
    float *out;

    if (want * n * batch != (int64_t)elements || extra <= 0 || have <= image)
        return NULL;
    out = rv__alloc(elements * sizeof *out);
    if (!out)
        return NULL;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t row = 0; row < want; row++) {
            int64_t from = row <= image ? row : row <= image + extra ? image : row - extra;
            memcpy(out + (b * want + row) * n, data + (b * have + from) * n,
                   (size_t)n * sizeof *out);
        }
    return out;
}

/* The order of a token's experts has no meaning: ours are put in the golden's order, their weights
 * likewise. */
static void check_chosen(run *r, const char *name, const rv__tensor *want,
                         const struct ggml_tensor *t, const int32_t *data)
{
    size_t n = rv__tensor_elements(want), chosen = (size_t)t->ne[0];
    const int32_t *ref = want->data;
    int32_t *sorted = rv__alloc(n * sizeof *sorted);

    rv__free(r->places);
    r->places = rv__calloc(n, sizeof *r->places);
    if (!sorted || !r->places || want->type != GGML_TYPE_I32 || n != (size_t)ggml_nelements(t)) {
        rv__parity_fail_golden(r->golden, name, "wrong size or type");
        rv__free(sorted);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t row = i / chosen * chosen;
        r->places[i] = (int32_t)i;
        for (size_t k = row; k < row + chosen; k++)
            if (data[k] == ref[i])
                r->places[i] = (int32_t)k;
        sorted[i] = data[r->places[i]];
    }
    rv__parity_check_i32(r->golden, name, sorted, n, RV_TOL_EXACT);
    rv__free(sorted);
}

static void check_weights(run *r, const char *name, const struct ggml_tensor *t, const float *data)
{
    size_t n = (size_t)ggml_nelements(t);
    float *sorted = rv__alloc(n * sizeof *sorted);

    for (size_t i = 0; sorted && r->places && i < n; i++)
        sorted[i] = data[r->places[i]];
    if (sorted && r->places)
        rv__parity_check(r->golden, name, sorted, n, RV_TOL_TRANSFORMER);
    rv__free(sorted);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

static void tap(void *user, const char *what, const struct ggml_tensor *t, const void *data)
{
    run *r = user;
    char name[256];
    const rv__tensor *want;
    float *padded;
    size_t n = (size_t)ggml_nelements(t), elements;
    rv__tolerance tolerance =
        strcmp(what, "t_sinusoid") == 0 ? RV_TOL_SINUSOID : RV_TOL_TRANSFORMER;

    snprintf(name, sizeof name, "%.*s.tap.%s", r->name_len, r->name, what);
    want = rv__golden_find(r->golden, name);
    if (!want)
        return;
    if (ends_with(what, ".topk_idx")) {
        check_chosen(r, name, want, t, data);
        return;
    }
    if (ends_with(what, ".topk_weight")) {
        check_weights(r, name, t, data);
        return;
    }
    elements = rv__tensor_elements(want);
    padded = n < elements ? with_padding(r, t, data, elements) : NULL;
    rv__parity_check(r->golden, name, padded ? padded : data, padded ? elements : n, tolerance);
    rv__free(padded);
}

static bool has_taps(const run *r)
{
    const rv__tensor *list;
    char start[160];
    size_t count;

    snprintf(start, sizeof start, "%.*s.tap.", r->name_len, r->name);
    list = rv__golden_list(r->golden, &count);
    for (size_t i = 0; i < count; i++)
        if (strncmp(list[i].name, start, strlen(start)) == 0)
            return true;
    return false;
}

/* An input of the case or, when it has none, of the case whose name begins its own ("square" for
 * "square_t1"). */
static const rv__tensor *input(run *r, const char *what, int rank)
{
    char name[160];

    for (int len = r->name_len; len > 0; len--) {
        if (len < r->name_len && r->name[len] != '_')
            continue;
        snprintf(name, sizeof name, "%.*s.in.%s", len, r->name, what);
        if (rv__golden_find(r->golden, name))
            return rv__golden_input(r->golden, name, GGML_TYPE_F32, rank);
    }
    rv__parity_fail_golden(r->golden, r->name, "no input %s", what);
    return NULL;
}

/* [layer][batch][token][channel] to one condition's [layer][token][channel]. */
static float *llama_of(const rv__tensor *all, int64_t row)
{
    int64_t layers = all->shape[0], batch = all->shape[1], each = all->shape[2] * all->shape[3];
    const float *from = all->data;
    float *out = rv__alloc((size_t)(layers * each) * sizeof *out);

    for (int64_t k = 0; out && k < layers; k++)
        memcpy(out + k * each, from + (k * batch + row) * each, (size_t)each * sizeof *out);
    return out;
}

static bool shapes_fit(const run *r, const rv__tensor *t5, const rv__tensor *llama,
                       const rv__tensor *pooled, const rv__tensor *times)
{
    const rv__transformer_config *c = rv__transformer_about(r->net);
    int64_t batch = r->latents->shape[0];

    return batch <= 8 && r->latents->shape[1] == c->channels && t5->shape[0] == batch &&
           llama->shape[1] == batch && pooled->shape[0] == batch && times->shape[0] == batch &&
           t5->shape[2] == c->t5_channels && llama->shape[3] == c->llama_channels &&
           pooled->shape[1] == c->pooled_channels;
}

static void compute(run *r, const rv__condition *rows, int batch, const float *times)
{
    const rv__tensor *want = find(r, "out");
    size_t n = rv__tensor_elements(r->latents);
    float *out = rv__alloc(n * sizeof *out);
    char name[160];
    rv_error err;
    rv_status status = RV_MEMORY;

    snprintf(name, sizeof name, "%.*s.out", r->name_len, r->name);
    rv__transformer_taps(r->net, has_taps(r) ? tap : NULL, r);
    if (out)
        status = rv__transformer_prepare(r->net, r->latents->shape[3], r->latents->shape[2], rows,
                                         batch, &err);
    if (status == RV_OK)
        status = rv__transformer_run(r->net, r->latents->data, times, out, NULL, NULL, &err);
    if (status != RV_OK)
        rv__parity_fail_golden(r->golden, name, "%s", out ? err.message : "out of memory");
    else if (want)
        rv__parity_check(r->golden, name, out, n, RV_TOL_TRANSFORMER);
    rv__free(out);
}

static void run_case(run *r)
{
    const rv__tensor *t5 = input(r, "t5", 3), *llama = input(r, "llama", 4),
                     *pooled = input(r, "pooled", 2);
    const rv__tensor *times = input(r, "timesteps", 1);
    rv__condition rows[8] = {0};
    int batch;

    r->latents = input(r, "latents", 4);
    if (!t5 || !llama || !pooled || !times || !r->latents ||
        !shapes_fit(r, t5, llama, pooled, times)) {
        rv__parity_fail_golden(r->golden, r->name, "inputs are missing or do not fit the model");
        return;
    }
    batch = (int)r->latents->shape[0];
    for (int b = 0; b < batch; b++)
        rows[b] = (rv__condition){.t5 = (const float *)t5->data + b * t5->shape[1] * t5->shape[2],
                                  .llama = llama_of(llama, b),
                                  .pooled = (const float *)pooled->data + b * pooled->shape[1],
                                  .t5_tokens = t5->shape[1],
                                  .llama_tokens = llama->shape[2],
                                  .llama_layers = llama->shape[0]};
    compute(r, rows, batch, times->data);
    for (int b = 0; b < batch; b++)
        rv__free((void *)(uintptr_t)rows[b].llama);
}

void rv__parity_transformer(rv__parity *p, rv__golden *g)
{
    const char *marker = ".in.timesteps";
    rv__device *device = NULL;
    run r = {.parity = p, .golden = g};
    const rv__tensor *list;
    rv_error err;
    size_t count;

    if (rv__device_open(0, &device, &err) != RV_OK ||
        rv__transformer_open(device, rv__parity_model(p), &r.net, &err) != RV_OK) {
        rv__parity_fail(p, "transformer", "%s", err.message);
        rv__device_close(device);
        return;
    }
    list = rv__golden_list(g, &count);
    for (size_t i = 0; i < count; i++)
        if (ends_with(list[i].name, marker)) {
            r.name = list[i].name;
            r.name_len = (int)(strlen(r.name) - strlen(marker));
            run_case(&r);
        }
    rv__free(r.places);
    rv__transformer_close(r.net);
    rv__device_close(device);
}
