/* Models written as one GGUF file: what comes back is what went in, smaller where that is allowed
 * and only there. */
#include "engine/weights_write.h"

#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static char *at(const char *path)
{
    static char full[8][512];
    static int next;
    char *out = full[next++ % 8];
    snprintf(out, sizeof full[0], "%s/%s", root, path);
    return out;
}

/* ---- a safetensors file being made ---- */

static char header[8192];
static unsigned char body[1 << 20];
static size_t body_len;

static void begin(void)
{
    strcpy(header, "{");
    body_len = 0;
}

static void add(const char *name, const char *dtype, const char *shape, const void *data,
                size_t len)
{
    size_t n = strlen(header);
    snprintf(header + n, sizeof header - n,
             "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
             n > 1 ? "," : "", name, dtype, shape, body_len, body_len + len);
    memcpy(body + body_len, data, len);
    body_len += len;
}

static void end(const char *path)
{
    strcat(header, "}");
    while (strlen(header) % 8)
        strcat(header, " ");
    uint64_t len = strlen(header);
    FILE *f = fopen(at(path), "wb");
    assert_non_null(f);
    fwrite(&len, 8, 1, f);
    fwrite(header, 1, len, f);
    fwrite(body, 1, body_len, f);
    assert_int_equal(fclose(f), 0);
}

static float wave[64 * 256]; /* values that no small type holds exactly */

#define LONG_NAME                                                                                  \
    "double_stream_blocks.15.block.ff_i.shared_experts.w1.with.a.very.long.name.weight"

static void make_model(void)
{
    for (size_t i = 0; i < sizeof wave / sizeof *wave; i++)
        wave[i] = (float)sin(0.37 * (double)i) * 0.1f;
    mkdir(at("m"), 0700);
    mkdir(at("m/transformer"), 0700);
    mkdir(at("m/text_encoder_4"), 0700);
    mkdir(at("m/vae"), 0700);
    FILE *f = fopen(at("m/transformer/config.json"), "w");
    fputs("{\"patch_size\":2}", f);
    fclose(f);
    f = fopen(at("m/empty.txt"), "w");
    fclose(f);
    float halves[4] = {0.5f, 1, -2, 0.25f};
    uint16_t bf16[2] = {0x3f81, 0x7f00}; /* the second is out of range of F16 */
    begin();
    add("block.to_q.weight", "F32", "[64,256]", wave, sizeof wave);
    add(LONG_NAME, "F32", "[64,256]", wave, sizeof wave);
    add("odd.weight", "F32", "[8,34]", wave, 8 * 34 * 4);
    add("ff_i.gate.weight", "F32", "[4,256]", wave, 4 * 256 * 4);
    add("x_embedder.proj.weight", "F32", "[4,256]", wave, 4 * 256 * 4);
    add("q_rms_norm.weight", "F32", "[256]", wave, 256 * 4);
    add("one_row.weight", "F32", "[1,256]", wave, 256 * 4);
    add("scalar", "F32", "[]", halves, 4);
    add("table.weights", "F32", "[2,2]", halves, 16);
    add("vector", "BF16", "[2]", bf16, 4);
    add("wide", "BF16", "[2,1]", bf16, 4);
    end("m/transformer/model.safetensors");
    begin();
    add("lm_head.weight", "F32", "[64,256]", wave, sizeof wave);
    add("model.embed_tokens.weight", "F32", "[64,256]", wave, sizeof wave);
    end("m/text_encoder_4/model.safetensors");
    begin();
    add("conv.weight", "F32", "[64,256]", wave, sizeof wave);
    end("m/vae/model.safetensors");
}

static void no_note(void *user, const char *part, const rv__tensor *t, enum ggml_type to,
                    size_t bytes)
{
}

static rv_status write_model(const char *out, enum ggml_type type, int threads, rv_error *err)
{
    rv__weights *w;
    rv_status status = rv__weights_open(at("m"), &w, err);
    assert_int_equal(status, RV_OK);
    status = rv__weights_write(w, at(out), type, threads, no_note, NULL, err);
    rv__weights_close(w);
    return status;
}

static const rv__tensor *tensor(const rv__weights *w, const char *name, enum ggml_type type)
{
    const rv__tensor *t = rv__weights_find(w, "transformer", name);
    assert_non_null(t);
    if (t->type != type)
        fail_msg("%s is %s instead of %s", name, ggml_type_name(t->type), ggml_type_name(type));
    return t;
}

static void check_close(const rv__tensor *t, double by)
{
    static float back[sizeof wave / sizeof *wave];
    int64_t n = t->shape[0] * t->shape[1];
    ggml_get_type_traits(t->type)->to_float(t->data, back, n);
    for (int64_t i = 0; i < n; i++)
        assert_true(fabs(back[i] - wave[i]) <= by);
}

static void quantises_only_what_it_may(void **state)
{
    (void)state;
    make_model();
    rv_error err = {0};
    static const struct {
        const char *name;
        double by;
    } types[] = {{"q8_0", 0.001}, {"q6_k", 0.004}, {"Q5_K", 0.008}, {"q4_K", 0.016},
                 {"q4_0", 0.02},  {"bf16", 5e-4},  {"f16", 1e-4}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        enum ggml_type type = rv__weights_type(types[i].name);
        assert_int_not_equal(type, GGML_TYPE_COUNT);
        assert_int_equal(write_model("out.gguf", type, i % 2 ? 1 : 3, &err), RV_OK);
        rv__weights *w;
        assert_int_equal(rv__weights_open(at("out.gguf"), &w, &err), RV_OK);
        check_close(tensor(w, "block.to_q.weight", type), types[i].by);
        check_close(tensor(w, LONG_NAME, type), types[i].by);
        bool blocks = ggml_blck_size(type) > 1;
        tensor(w, "odd.weight", blocks ? GGML_TYPE_F32 : type);
        const rv__tensor *t = tensor(w, "ff_i.gate.weight", GGML_TYPE_F32);
        assert_memory_equal(t->data, wave, t->size);
        tensor(w, "x_embedder.proj.weight", GGML_TYPE_F32);
        tensor(w, "q_rms_norm.weight", GGML_TYPE_F32);
        t = tensor(w, "one_row.weight", type);
        assert_int_equal(t->n_dims, 2);
        assert_int_equal(t->shape[0], 1);
        assert_int_equal(t->shape[1], 256);
        assert_int_equal(tensor(w, "scalar", GGML_TYPE_F32)->n_dims, 0);
        tensor(w, "table.weights", GGML_TYPE_F16); /* exact in half */
        t = tensor(w, "vector", GGML_TYPE_F32);
        assert_true(((const float *)t->data)[0] == 1.0078125f);
        tensor(w, "wide", GGML_TYPE_BF16);
        assert_null(rv__weights_find(w, "text_encoder_4", "lm_head.weight"));
        assert_int_equal(rv__weights_find(w, "text_encoder_4", "model.embed_tokens.weight")->type,
                         GGML_TYPE_F32);
        assert_int_equal(rv__weights_find(w, "vae", "conv.weight")->type, GGML_TYPE_F32);
        size_t len;
        assert_string_equal(rv__weights_file(w, "transformer/config.json", &len),
                            "{\"patch_size\":2}");
        assert_string_equal(rv__weights_file(w, "empty.txt", &len), "");
        rv__weights_close(w);
    }
}

/* The same bytes whatever the threads; and a file can be made from a file. */
static void is_deterministic(void **state)
{
    (void)state;
    make_model();
    rv_error err = {0};
    assert_int_equal(write_model("a.gguf", GGML_TYPE_Q4_K, 1, &err), RV_OK);
    assert_int_equal(write_model("b.gguf", GGML_TYPE_Q4_K, 7, &err), RV_OK);
    rv__weights *w;
    assert_int_equal(rv__weights_open(at("a.gguf"), &w, &err), RV_OK);
    assert_int_equal(rv__weights_write(w, at("c.gguf"), GGML_TYPE_Q4_K, 0, no_note, NULL, &err),
                     RV_OK);
    assert_int_equal(rv__weights_write(w, at("a.gguf"), GGML_TYPE_F32, 0, no_note, NULL, &err),
                     RV_OK);
    rv__weights_close(w);
    struct stat b, c;
    assert_int_equal(stat(at("b.gguf"), &b), 0);
    assert_int_equal(stat(at("c.gguf"), &c), 0);
    assert_int_equal(b.st_size, c.st_size);
    static char one[1 << 20], two[1 << 20];
    FILE *f = fopen(at("b.gguf"), "rb"), *g = fopen(at("c.gguf"), "rb");
    assert_int_equal(fread(one, 1, sizeof one, f), b.st_size);
    assert_int_equal(fread(two, 1, sizeof two, g), b.st_size);
    fclose(f);
    fclose(g);
    assert_memory_equal(one, two, (size_t)b.st_size);
}

static void leaves_nothing_behind(void **state)
{
    (void)state;
    make_model();
    float bad[256] = {NAN};
    rv_error err = {0};
    begin();
    add("bad.weight", "F32", "[1,256]", bad, sizeof bad);
    end("m/transformer/model.safetensors");
    assert_int_equal(write_model("out.gguf", GGML_TYPE_Q8_0, 2, &err), RV_FORMAT);
    assert_non_null(strstr(err.message, "bad.weight"));
    assert_int_equal(access(at("out.gguf"), F_OK), -1);
    bad[0] = 1e6f;
    begin();
    add("bad.weight", "F32", "[1,256]", bad, sizeof bad);
    end("m/transformer/model.safetensors");
    assert_int_equal(write_model("out.gguf", GGML_TYPE_F16, 2, &err), RV_FORMAT);
    assert_non_null(strstr(err.message, "too large for f16"));
    assert_int_equal(write_model("out.gguf", GGML_TYPE_BF16, 2, &err), RV_OK);
    assert_int_equal(write_model("absent/out.gguf", GGML_TYPE_BF16, 2, &err), RV_IO);
    assert_int_equal(write_model("out.gguf", GGML_TYPE_COUNT, 2, &err), RV_UNSUPPORTED);
    char command[600];
    snprintf(command, sizeof command, "test $(ls %s | wc -l) = 2",
             root); /* m and out.gguf, nothing temporary */
    assert_int_equal(system(command), 0);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/reverie-write-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)
    const struct CMUnitTest tests[] = {T(quantises_only_what_it_may), T(is_deterministic),
                                       T(leaves_nothing_behind)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
