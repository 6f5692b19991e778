/* Parity of the autoencoder: encoding, decoding, their taps, and the conversion to bytes.
 * Cases are found by the names in the file: NAME.in with three channels is encoded, with latent
 * channels decoded. */
#include "parity.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "engine/vae.h"

typedef struct run {
    rv__golden *golden;
    rv__vae *vae;
    const char *name; /* of the case, its length */
    int name_len;
} run;

static const rv__tensor *find(const run *r, const char *what, char *name, size_t size)
{
    snprintf(name, size, "%.*s.%s", r->name_len, r->name, what);
    return rv__golden_find(r->golden, name);
}

/* The reference kept its encoder's taps while it decoded: "down" taps of a decoding are those of an
 * encoding. */
static void check_everywhere(const run *r, const char *what, const float *data, size_t n)
{
    const rv__tensor *list;
    char end[128];
    size_t count;

    snprintf(end, sizeof end, ".tap.%s", what);
    list = rv__golden_list(r->golden, &count);
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(list[i].name);
        if (len > strlen(end) && strcmp(list[i].name + len - strlen(end), end) == 0)
            rv__parity_check(r->golden, list[i].name, data, n, RV_TOL_VAE);
    }
}

static void tap(void *user, const char *what, const struct ggml_tensor *t, const void *data)
{
    const run *r = user;
    size_t n = (size_t)ggml_nelements(t);
    char name[192], tapped[128];

    if (strncmp(what, "down.", 5) == 0) {
        check_everywhere(r, what, data, n);
        return;
    }
    snprintf(tapped, sizeof tapped, "tap.%s", what);
    if (find(r, tapped, name, sizeof name))
        rv__parity_check(r->golden, name, data, n, RV_TOL_VAE);
}

static void check(const run *r, const char *what, const float *data, size_t n)
{
    char name[192];

    if (find(r, what, name, sizeof name))
        rv__parity_check(r->golden, name, data, n, RV_TOL_VAE);
}

static void fail(const run *r, const char *why)
{
    char name[192];

    snprintf(name, sizeof name, "%.*s", r->name_len, r->name);
    rv__parity_fail_golden(r->golden, name, "%s", why);
}

static void encode(const run *r, const rv__tensor *in)
{
    const rv__vae_config *c = rv__vae_about(r->vae);
    int64_t width = in->shape[3], height = in->shape[2];
    size_t n = (size_t)(c->latent_channels * (width / c->factor) * (height / c->factor));
    float *moments = rv__calloc(4 * n, sizeof *moments), *work = moments + 2 * n;
    const rv__tensor *noise;
    char name[192];
    rv_error err = {0};

    if (!moments ||
        rv__vae_encode(r->vae, in->data, width, height, moments, NULL, NULL, &err) != RV_OK) {
        fail(r, err.message);
        rv__free(moments);
        return;
    }
    check(r, "moments", moments, 2 * n);
    rv__vae_sample(moments, NULL, n, work);
    check(r, "mode", work, n);
    rv__vae_scale(c, work, n, work + n);
    check(r, "scaled", work + n, n);
    if (find(r, "sample_noise", name, sizeof name)) {
        noise = rv__golden_input(r->golden, name, GGML_TYPE_F32, 0);
        if (noise && rv__tensor_elements(noise) == n) {
            rv__vae_sample(moments, noise->data, n, work);
            check(r, "sample", work, n);
        }
    }
    rv__free(moments);
}

/* Latents whose case stores bytes are as the sampler leaves them, the others as the VAE wants them.
 */
static void decode(const run *r, const rv__tensor *in)
{
    const rv__vae_config *c = rv__vae_about(r->vae);
    int64_t width = in->shape[3], height = in->shape[2];
    size_t n = rv__tensor_elements(in), pixels = (size_t)(width * height * c->factor * c->factor);
    float *latents = rv__alloc(n * sizeof *latents), *out = rv__alloc(3 * pixels * sizeof *out);
    uint8_t *bytes = rv__alloc(3 * pixels);
    bool scaled;
    char name[192];
    rv_error err = {.message = "out of memory"};

    scaled = find(r, "uint8", name, sizeof name) != NULL;
    if (!latents || !out || !bytes) {
        fail(r, err.message);
        goto out;
    }
    memcpy(latents, in->data, n * sizeof *latents);
    if (scaled)
        rv__vae_unscale(c, latents, n, latents);
    if (rv__vae_decode(r->vae, latents, width, height, out, NULL, NULL, &err) != RV_OK) {
        fail(r, err.message);
        goto out;
    }
    check(r, "out", out, 3 * pixels);
    if (scaled) {
        rv__vae_bytes(out, width * c->factor, height * c->factor, 3, bytes);
        rv__parity_check_u8(r->golden, name, bytes, 3 * pixels, RV_TOL_BYTES);
    }
out:
    rv__free(latents);
    rv__free(out);
    rv__free(bytes);
}

void rv__parity_vae(rv__parity *p, rv__golden *g)
{
    rv__device *device = NULL;
    run r = {.golden = g};
    const rv__tensor *list, *in;
    rv_error err;
    size_t count;

    if (rv__device_open(0, &device, &err) != RV_OK ||
        rv__vae_open(device, rv__parity_model(p), &r.vae, &err) != RV_OK) {
        rv__parity_fail(p, "vae", "%s", err.message);
        rv__device_close(device);
        return;
    }
    rv__vae_taps(r.vae, tap, &r);
    list = rv__golden_list(g, &count);
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(list[i].name);

        if (len < 4 || strcmp(list[i].name + len - 3, ".in") != 0)
            continue;
        r.name = list[i].name;
        r.name_len = (int)len - 3;
        in = rv__golden_input(g, list[i].name, GGML_TYPE_F32, 4);
        if (!in)
            continue;
        if (in->shape[0] == 1 && in->shape[1] == rv__vae_about(r.vae)->channels)
            encode(&r, in);
        else if (in->shape[0] == 1 && in->shape[1] == rv__vae_about(r.vae)->latent_channels)
            decode(&r, in);
        else
            fail(&r, "neither a picture nor latents");
    }
    rv__vae_close(r.vae);
    rv__device_close(device);
}
