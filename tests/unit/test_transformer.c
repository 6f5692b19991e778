/* The transformer on weights made by a formula, against results of the reference module computed in
 * double precision (the figures are its outputs); and its refusal of configurations and tensors
 * that cannot be. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "engine/transformer.h"

enum { D = 128, TENSORS = 96 };

static const char config[] =
    "{\"patch_size\":2,\"in_channels\":16,\"out_channels\":16,\"num_layers\":1,\"num_single_"
    "layers\":1,"
    "\"attention_head_dim\":64,\"num_attention_heads\":2,\"caption_channels\":[32,32],\"text_emb_"
    "dim\":32,"
    "\"num_routed_experts\":4,\"num_activated_experts\":2,\"axes_dims_rope\":[32,16,16],"
    "\"max_resolution\":[8,8],\"llama_layers\":[0,1]}";

static rv__device *device;
static char folder[] = "/tmp/reverie-test-XXXXXX";

typedef struct entry {
    char name[96];
    int n, shape[2];
} entry;

static entry entries[TENSORS];
static size_t count;

static void add(int n, int a, int b, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(entries[count].name, sizeof entries[count].name, format, args);
    va_end(args);
    entries[count].n = n;
    entries[count].shape[0] = a;
    entries[count++].shape[1] = b;
}

static void add_layer(int out, int in, const char *prefix, const char *name)
{
    add(2, out, in, "%s%s.weight", prefix, name);
    add(1, out, 1, "%s%s.bias", prefix, name);
}

static void add_swiglu(int hidden, const char *prefix, const char *name)
{
    add(2, hidden, D, "%s%s.w1.weight", prefix, name);
    add(2, D, hidden, "%s%s.w2.weight", prefix, name);
    add(2, hidden, D, "%s%s.w3.weight", prefix, name);
}

static void add_block(const char *prefix, bool is_double)
{
    static const char *const names[] = {"to_q", "to_k", "to_v", "to_out"}, *const norms[] = {
                                                                               "q_rms_norm",
                                                                               "k_rms_norm"};
    char name[64];

    add_layer((is_double ? 12 : 6) * D, D, prefix, "adaLN_modulation.1");
    for (int t = 0; t <= is_double; t++) {
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "attn1.%s%s", names[i], t ? "_t" : "");
            add_layer(D, D, prefix, name);
        }
        for (int i = 0; i < 2; i++)
            add(1, D, 1, "%sattn1.%s%s.weight", prefix, norms[i], t ? "_t" : "");
    }
    add(2, 4, D, "%sff_i.gate.weight", prefix);
    add_swiglu(256, prefix, "ff_i.shared_experts");
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "ff_i.experts.%d", i);
        add_swiglu(512, prefix, name);
    }
    if (is_double)
        add_swiglu(512, prefix, "ff_t");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static void list_tensors(void)
{
    count = 0;
    add_layer(D, 64, "", "x_embedder.proj");
    add_layer(D, 256, "", "t_embedder.timestep_embedder.linear_1");
    add_layer(D, D, "", "t_embedder.timestep_embedder.linear_2");
    add_layer(D, 32, "", "p_embedder.pooled_embedder.linear_1");
    add_layer(D, D, "", "p_embedder.pooled_embedder.linear_2");
    for (int i = 0; i < 3; i++)
        add(2, D, 32, "caption_projection.%d.linear.weight", i);
    add_block("double_stream_blocks.0.block.", true);
    add_block("single_stream_blocks.0.block.", false);
    add_layer(2 * D, D, "", "final_layer.adaLN_modulation.1");
    add_layer(64, D, "", "final_layer.linear");
    qsort(entries, count, sizeof *entries, by_name);
}

static void fill(uint32_t seed, float *out, size_t n, float by)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        out[i] = ((float)(seed >> 8) / 8388608.0f - 1.0f) * by;
    }
}

static size_t elements(const entry *e)
{
    return (size_t)e->shape[0] * (e->n > 1 ? (size_t)e->shape[1] : 1);
}

static void make_tensor(size_t k, float *out)
{
    const entry *e = &entries[k];
    size_t n = elements(e), len = strlen(e->name);
    bool is_norm = strstr(e->name, "rms_norm") != NULL;
    float by = is_norm                                                      ? 0.2f
               : strcmp(e->name + len - 5, ".bias") == 0                    ? 0.05f
               : len > 11 && strcmp(e->name + len - 11, "gate.weight") == 0 ? 0.5f
                                                                            : 0.15f;

    fill(1000 + (uint32_t)k, out, n, by);
    for (size_t i = 0; is_norm && i < n; i++)
        out[i] += 1;
}

/* Writes the folder; `spoil` names a tensor to write with another shape, or to leave out when drop
 * is set. */
static void write_model(const char *text, const char *spoil, bool drop)
{
    static float data[12 * D * D];
    char path[128];
    rv__buf head;
    size_t at = 0, pad;
    FILE *f;

    snprintf(path, sizeof path, "%s/transformer", folder);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/transformer/config.json", folder);
    f = fopen(path, "wb");
    fputs(text, f);
    fclose(f);
    rv__buf_init(&head, 1 << 20);
    rv__buf_adds(&head, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t k = 0; k < count; k++) {
        const entry *e = &entries[k];
        bool is_spoiled = spoil && strcmp(spoil, e->name) == 0;
        size_t bytes = elements(e) * sizeof(float);

        if (is_spoiled && drop)
            continue;
        rv__buf_addf(&head, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", e->name);
        if (is_spoiled)
            rv__buf_addf(&head, "%zu", elements(e));
        else
            rv__buf_addf(&head, e->n > 1 ? "%d,%d" : "%d", e->shape[0], e->shape[1]);
        rv__buf_addf(&head, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes);
        at += bytes;
    }
    rv__buf_adds(&head, "}");
    pad = (8 - head.len % 8) % 8;
    snprintf(path, sizeof path, "%s/transformer/diffusion_pytorch_model.safetensors", folder);
    f = fopen(path, "wb");
    fwrite(&(uint64_t){head.len + pad}, 8, 1, f);
    fwrite(head.data, head.len, 1, f);
    fwrite("       ", pad, 1, f);
    rv__buf_free(&head);
    for (size_t k = 0; k < count; k++) {
        if (spoil && drop && strcmp(spoil, entries[k].name) == 0)
            continue;
        make_tensor(k, data);
        fwrite(data, sizeof(float), elements(&entries[k]), f);
    }
    fclose(f);
    snprintf(path, sizeof path, "%s/model_index.json", folder);
    f = fopen(path, "wb");
    fputs("{\"_class_name\":\"HiDreamImagePipeline\"}", f);
    fclose(f);
}

static rv_status open_model(rv__weights **w, rv__transformer **t, rv_error *err)
{
    rv_status status = rv__weights_open(folder, w, err);

    *t = NULL;
    return status == RV_OK ? rv__transformer_open(device, *w, t, err) : status;
}

static void close_model(rv__weights *w, rv__transformer *t)
{
    rv__transformer_close(t);
    rv__weights_close(w);
}

typedef struct expected {
    int w, h;
    float first[8], last[4];
    double sum, sum_abs;
} expected;

static void check(const expected *e, int batch)
{
    static float latents[2][16 * 4 * 6], out[2 * 16 * 4 * 6], t5[4 * 32], states[2 * 4 * 32],
        pooled[32];
    float times[2] = {777, 777};
    size_t n = (size_t)(16 * e->w * e->h);
    double sum = 0, sum_abs = 0;
    rv__condition rows[2];
    rv__weights *w = NULL;
    rv__transformer *t;
    rv_error err = {0};

    fill(2, t5, 4 * 32, 1);
    fill(3, states, 2 * 4 * 32, 1);
    fill(4, pooled, 32, 1);
    fill(1, latents[0], n, 1.7f);
    memcpy(latents[0] + n, latents[0], batch > 1 ? n * sizeof(float) : 0);
    for (int b = 0; b < batch; b++)
        rows[b] = (rv__condition){.t5 = t5,
                                  .llama = states,
                                  .pooled = pooled,
                                  .t5_tokens = 4,
                                  .llama_tokens = 4,
                                  .llama_layers = 2};
    assert_int_equal(open_model(&w, &t, &err), RV_OK);
    assert_int_equal(rv__transformer_prepare(t, e->w, e->h, rows, batch, &err), RV_OK);
    for (int again = 0; again < 2; again++) {
        memset(out, 0, sizeof out);
        assert_int_equal(rv__transformer_run(t, latents[0], times, out, NULL, NULL, &err), RV_OK);
    }
    for (int b = 0; b < batch; b++) {
        const float *row = out + (size_t)b * n;
        for (int i = 0; i < 8; i++)
            assert_true(fabsf(row[i] - e->first[i]) < 2e-5f);
        for (int i = 0; i < 4; i++)
            assert_true(fabsf(row[n - 4 + (size_t)i] - e->last[i]) < 2e-5f);
    }
    for (size_t i = 0; i < n; i++)
        sum += out[i], sum_abs += fabs(out[i]);
    assert_true(fabs(sum - e->sum) < 1e-3 && fabs(sum_abs - e->sum_abs) < 1e-3);
    close_model(w, t);
}

static void square_input_matches(void **state)
{
    const expected e = {
        4,
        4,
        {.048099f, -.776333f, .318162f, -.048515f, .528467f, .014966f, -.551943f, -1.565896f},
        {-.160462f, .958052f, -2.141332f, 1.217430f},
        -.387085,
        217.812621};

    write_model(config, NULL, false);
    check(&e, 1);
    check(&e, 2);
}

static void padded_input_matches(void **state)
{
    const expected e = {
        6,
        4,
        {-1.223980f, -.485788f, .776542f, -1.734742f, -.024155f, -1.153679f, -1.270781f, .364166f},
        {-.606140f, .124272f, -.158716f, -.741362f},
        -23.894464,
        322.981961};

    write_model(config, NULL, false);
    check(&e, 1);
    check(&e, 2);
}

static void wrong_tensors_are_named(void **state)
{
    static const char *const names[] = {
        "double_stream_blocks.0.block.attn1.to_q_t.weight",
        "single_stream_blocks.0.block.ff_i.experts.3.w2.weight", "final_layer.linear.bias",
        "caption_projection.2.linear.weight", "double_stream_blocks.0.block.ff_i.gate.weight"};

    for (size_t i = 0; i < 2 * sizeof names / sizeof *names; i++) {
        const char *name = names[i / 2];
        rv__weights *w = NULL;
        rv__transformer *t;
        rv_error err = {0};

        if (i % 2 == 0 && strstr(name, "bias"))
            continue; /* as a vector it has its right shape */
        write_model(config, name, i % 2);
        assert_int_equal(open_model(&w, &t, &err), RV_FORMAT);
        assert_non_null(strstr(err.message, name));
        assert_non_null(strstr(err.message, i % 2 ? "missing" : "found ["));
        close_model(w, t);
    }
}

/* The good configuration with one member replaced. */
static void broken_config(const char *member, const char *value, char *out, size_t size)
{
    const char *at = strstr(config, member), *end;
    char key[64];

    snprintf(key, sizeof key, "\"%s\":", member);
    at = strstr(config, key);
    assert_non_null(at);
    end = at + strlen(key);
    end += *end == '[' ? strcspn(end, "]") + 1 : strcspn(end, ",}");
    snprintf(out, size, "%.*s%s%s%s", (int)(at - config), config, key, value, end);
}

static void impossible_configurations_are_refused(void **state)
{
    static const char *const cases[][2] = {
        {"patch_size", "0"},
        {"patch_size", "-2"},
        {"patch_size", "\"2\""},
        {"patch_size", "2.5"},
        {"in_channels", "0"},
        {"in_channels", "1e9"},
        {"out_channels", "8"},
        {"num_layers", "-1"},
        {"num_layers", "100000"},
        {"num_layers", "2"},
        {"attention_head_dim", "0"},
        {"attention_head_dim", "63"},
        {"attention_head_dim", "128"},
        {"num_attention_heads", "0"},
        {"num_attention_heads", "9999999999999999999"},
        {"caption_channels", "[32]"},
        {"caption_channels", "[32,0]"},
        {"caption_channels", "32"},
        {"text_emb_dim", "-1"},
        {"num_routed_experts", "0"},
        {"num_routed_experts", "65"},
        {"num_activated_experts", "5"},
        {"num_activated_experts", "0"},
        {"axes_dims_rope", "[32,16,15]"},
        {"axes_dims_rope", "[32,17,15]"},
        {"axes_dims_rope", "[64,0,0]"},
        {"axes_dims_rope", "[32,32]"},
        {"axes_dims_rope", "[-16,48,32]"},
        {"max_resolution", "[8]"},
        {"max_resolution", "[0,8]"},
        {"llama_layers", "[0]"},
        {"llama_layers", "[0,-1]"},
        {"llama_layers", "[0,5000]"},
        {"llama_layers", "null"},
    };
    char text[1024];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rv__transformer_config out;
        rv_error err = {0};
        rv__value *json;
        rv_status status;

        broken_config(cases[i][0], cases[i][1], text, sizeof text);
        json = rv__json_parse(text, strlen(text), NULL);
        assert_non_null(json);
        status = rv__transformer_parse(json, &out, &err);
        if (status != RV_FORMAT && status != RV_UNSUPPORTED)
            fail_msg("%s %s was accepted", cases[i][0], cases[i][1]);
        assert_true(*err.message);
        rv__json_free(json);
    }
}

static void impossible_inputs_are_refused(void **state)
{
    static float zeros[4 * 4096];
    rv__condition row = {.t5 = zeros,
                         .llama = zeros,
                         .pooled = zeros,
                         .t5_tokens = 4,
                         .llama_tokens = 4,
                         .llama_layers = 2},
                  bad;
    rv__weights *w = NULL;
    rv__transformer *t;
    rv_error err = {0};
    float time = 1, out[16 * 16];

    write_model(config, NULL, false);
    assert_int_equal(open_model(&w, &t, &err), RV_OK);
    assert_int_equal(rv__transformer_run(t, zeros, &time, out, NULL, NULL, &err), RV_MISUSE);
    assert_int_equal(rv__transformer_prepare(t, 3, 4, &row, 1, &err), RV_VALIDATION);
    assert_int_equal(rv__transformer_prepare(t, 0, 4, &row, 1, &err), RV_VALIDATION);
    assert_int_equal(rv__transformer_prepare(t, 4, 4, &row, 0, &err), RV_MISUSE);
    assert_int_equal(rv__transformer_prepare(t, 1 << 20, 1 << 20, &row, 1, &err), RV_VALIDATION);
    bad = row;
    bad.llama_layers = 1;
    assert_int_equal(rv__transformer_prepare(t, 4, 4, &bad, 1, &err), RV_FORMAT);
    bad = row;
    bad.t5_tokens = 0;
    assert_int_equal(rv__transformer_prepare(t, 4, 4, &bad, 1, &err), RV_MISUSE);
    assert_int_equal(rv__transformer_prepare(t, 4, 4, &row, 1, &err), RV_OK);
    assert_int_equal(rv__transformer_run(t, zeros, &time, out, NULL, NULL, &err), RV_OK);
    close_model(w, t);
}

static int setup(void **state)
{
    list_tensors();
    return mkdtemp(folder) && rv__device_open(2, &device, NULL) == RV_OK ? 0 : -1;
}

static int teardown(void **state)
{
    static const char *const files[] = {"transformer/config.json",
                                        "transformer/diffusion_pytorch_model.safetensors",
                                        "model_index.json"};
    char path[128];

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/transformer", folder);
    rmdir(path);
    rmdir(folder);
    rv__device_close(device);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(square_input_matches),
        cmocka_unit_test(padded_input_matches),
        cmocka_unit_test(wrong_tensors_are_named),
        cmocka_unit_test(impossible_configurations_are_refused),
        cmocka_unit_test(impossible_inputs_are_refused),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
