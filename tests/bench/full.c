/* The full-size transformer with random weights in four bits (q4_K, 17.1 billion parameters, 9.6 GB):
 * seconds per step at 512x512 and 1024x1024, resident memory, and the share of the best product rate.
 *
 *   full [512|1024|both [fast|float32|both]]        THREADS=N TMPDIR=DIR (default /var/tmp)
 *
 * The file is removed as soon as it is mapped, so that nothing stays however this ends.  The rate is
 * that of one large product with operands of the same kind, measured before and after each step:
 * OpenBLAS's sgemm for float32, the engine's own product with packed weights for eight bits. */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <gguf.h>

#include "engine/graph_op.h"
#include "engine/transformer.h"

enum { D = 2560, ROUTED = 6912, SHARED = 3584, TENSORS = 1615, TEXT = 128 };
#define PARAMETERS INT64_C(17105733184)

static uint32_t state = 7;

static uint32_t next(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static float noise(void)
{
    return (float)next() / 8388608.0f - 1.0f;
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the file ---- */

typedef struct writer {
    struct ggml_context *tensors;
    struct gguf_context *gguf;
    int64_t parameters;
    int count;
} writer;

static void tensor(writer *w, const char *prefix, const char *name, int64_t out, int64_t in)
{
    enum ggml_type type = in % 256 == 0 && out > 4 ? GGML_TYPE_Q4_K : GGML_TYPE_F32;
    char full[GGML_MAX_NAME];
    struct ggml_tensor *t = in ? ggml_new_tensor_2d(w->tensors, type, in, out)
                               : ggml_new_tensor_1d(w->tensors, GGML_TYPE_F32, out);

    snprintf(full, sizeof full, "%s%s", prefix, name);
    ggml_set_name(t, full);
    gguf_add_tensor(w->gguf, t);
    w->parameters += ggml_nelements(t);
    w->count++;
}

static void layer(writer *w, const char *prefix, const char *name, int64_t out, int64_t in)
{
    char full[64];

    snprintf(full, sizeof full, "%s.weight", name);
    tensor(w, prefix, full, out, in);
    snprintf(full, sizeof full, "%s.bias", name);
    tensor(w, prefix, full, out, 0);
}

static void swiglu(writer *w, const char *prefix, const char *name, int64_t hidden)
{
    char full[96];

    for (int i = 1; i <= 3; i++) {
        snprintf(full, sizeof full, "%s.w%d.weight", name, i);
        tensor(w, prefix, full, i == 2 ? D : hidden, i == 2 ? hidden : D);
    }
}

static void block(writer *w, const char *kind, int index, bool is_double)
{
    static const char *const names[] = {"to_q", "to_k", "to_v", "to_out"};
    char prefix[64], name[64];

    snprintf(prefix, sizeof prefix, "%s_stream_blocks.%d.block.", kind, index);
    layer(w, prefix, "adaLN_modulation.1", (is_double ? 12 : 6) * D, D);
    for (int t = 0; t <= is_double; t++) {
        const char *suffix = t ? "_t" : "";
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "attn1.%s%s", names[i], suffix);
            layer(w, prefix, name, D, D);
        }
        snprintf(name, sizeof name, "attn1.q_rms_norm%s.weight", suffix);
        tensor(w, prefix, name, D, 0);
        snprintf(name, sizeof name, "attn1.k_rms_norm%s.weight", suffix);
        tensor(w, prefix, name, D, 0);
    }
    tensor(w, prefix, "ff_i.gate.weight", 4, D);
    swiglu(w, prefix, "ff_i.shared_experts", SHARED);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "ff_i.experts.%d", i);
        swiglu(w, prefix, name, ROUTED);
    }
    if (is_double)
        swiglu(w, prefix, "ff_t", ROUTED);
}

static void list_tensors(writer *w)
{
    char name[64];

    layer(w, "", "x_embedder.proj", D, 64);
    layer(w, "", "t_embedder.timestep_embedder.linear_1", D, 256);
    layer(w, "", "t_embedder.timestep_embedder.linear_2", D, D);
    layer(w, "", "p_embedder.pooled_embedder.linear_1", D, 2048);
    layer(w, "", "p_embedder.pooled_embedder.linear_2", D, D);
    for (int i = 0; i < 49; i++) {
        snprintf(name, sizeof name, "caption_projection.%d.linear.weight", i);
        tensor(w, "", name, D, 4096);
    }
    for (int i = 0; i < 16; i++)
        block(w, "double", i, true);
    for (int i = 0; i < 32; i++)
        block(w, "single", i, false);
    layer(w, "", "final_layer.adaLN_modulation.1", 2 * D, D);
    layer(w, "", "final_layer.linear", 64, D);
}

/* Random blocks of q4_K around zero with a deviation of about 0.02; and random floats. */
enum { PATTERN_BLOCKS = 1 << 16, BLOCK_BYTES = 144 };

static void fill_patterns(uint8_t *blocks, float *floats)
{
    const ggml_fp16_t scale = ggml_fp32_to_fp16(1e-4f), least = ggml_fp32_to_fp16(7.5e-4f);

    for (size_t i = 0; i < (size_t)PATTERN_BLOCKS * BLOCK_BYTES; i++)
        blocks[i] = (uint8_t)next();
    for (size_t i = 0; i < PATTERN_BLOCKS; i++) {
        memcpy(blocks + i * BLOCK_BYTES, &scale, 2);
        memcpy(blocks + i * BLOCK_BYTES + 2, &least, 2);
    }
    for (size_t i = 0; i < PATTERN_BLOCKS; i++)
        floats[i] = noise() * 0.05f;
}

static bool write_data(const writer *w, const char *path)
{
    uint8_t *blocks = malloc((size_t)PATTERN_BLOCKS * BLOCK_BYTES);
    float *floats = malloc(PATTERN_BLOCKS * sizeof *floats);
    FILE *f = fopen(path, "r+b");
    bool done = f && blocks && floats;

    if (done)
        fill_patterns(blocks, floats);
    for (int64_t i = 0; done && i < gguf_get_n_tensors(w->gguf); i++) {
        bool packed = gguf_get_tensor_type(w->gguf, i) == GGML_TYPE_Q4_K;
        size_t unit = packed ? BLOCK_BYTES : sizeof *floats;
        size_t left = gguf_get_tensor_size(w->gguf, i) / unit;

        done = fseek(f, (long)(gguf_get_meta_size(w->gguf) + gguf_get_tensor_offset(w->gguf, i)),
                     SEEK_SET) == 0;
        while (done && left > 0) {
            size_t first = next() % (PATTERN_BLOCKS / 2), n = PATTERN_BLOCKS - first;

            n = n < left ? n : left;
            done = fwrite(packed ? blocks + first * BLOCK_BYTES : (uint8_t *)(floats + first), unit,
                          n, f) == n;
            left -= n;
        }
    }
    done = f && fclose(f) == 0 && done;
    free(blocks);
    free(floats);
    return done;
}

static bool make_file(const char *path)
{
    writer w = {.gguf = gguf_init_empty(),
                .tensors = ggml_init((struct ggml_init_params){
                    (TENSORS + 8) * ggml_tensor_overhead(), NULL, true})};
    bool done;

    gguf_set_val_str(w.gguf, "general.architecture", "hidream");
    list_tensors(&w);
    done = w.count == TENSORS && w.parameters == PARAMETERS &&
           gguf_write_to_file(w.gguf, path, true) && write_data(&w, path);
    gguf_free(w.gguf);
    ggml_free(w.tensors);
    return done;
}

/* ---- rates ---- */

static float *numbers(size_t n)
{
    float *x = malloc(n * sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = noise();
    return x;
}

enum { ROWS = 1280 };

static double sgemm_rate(int threads, const float *x, const float *w)
{
    float *y = malloc(sizeof *y * ROWS * ROUTED);
    double best = 1e9;

    openblas_set_num_threads(threads);
    for (int i = 0; i < 3; i++) {
        double start = seconds(), took;

        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, ROWS, ROUTED, D, 1, x, D, w, D, 0, y,
                    ROUTED);
        took = seconds() - start;
        best = took < best ? took : best;
    }
    openblas_set_num_threads(1);
    free(y);
    return 2.0 * ROWS * ROUTED * D / best;
}

static double bytes_rate(rv__device *d, const float *x, float *w)
{
    struct ggml_context *c = ggml_init((struct ggml_init_params){4096, NULL, true});
    struct ggml_tensor *weight = ggml_new_tensor_2d(c, GGML_TYPE_F32, D, ROUTED), *in, *out;
    rv__tensor stored = {.name = "w", .n_dims = 2, .shape = {ROUTED, D, 1, 1, 1, 1}};
    rv__leaf leaf = {.tensor = &stored};
    rv__graph *g = rv__graph_new(d, 32);
    double best = 1e9;
    rv_error err;

    weight->data = w;
    weight->extra = &leaf;
    rv__graph_fast(g, true);
    in = rv__graph_input(g, GGML_TYPE_F32, D, ROWS, 1, 1);
    out = rv__linear(g, weight, NULL, in);
    rv__graph_output(g, out);
    if (rv__graph_build(g, &err) == RV_OK) {
        rv__graph_set(g, in, x, ggml_nbytes(in));
        for (int i = 0; i < 4; i++) { /* the first one packs */
            double start = seconds(), took;

            rv__graph_run(g, NULL, NULL, &err);
            took = seconds() - start;
            best = took < best ? took : best;
        }
    }
    rv__graph_free(g);
    rv__packed_free(leaf.packed);
    ggml_free(c);
    return 2.0 * ROWS * ROUTED * D / best;
}

static double rate(rv__device *d, bool fast)
{
    float *x = numbers((size_t)ROWS * D), *w = numbers((size_t)ROUTED * D);
    double r = fast ? bytes_rate(d, x, w) : sgemm_rate(rv__device_threads(d), x, w);

    free(x), free(w);
    return r;
}

/* ---- steps ---- */

static long resident_megabytes(void)
{
    long pages = 0, all;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f && fscanf(f, "%ld %ld", &all, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024) / 1024;
}

static bool measure(rv__device *d, rv__transformer *t, int size, bool fast, rv_error *err)
{
    const rv__transformer_config *c = rv__transformer_about(t);
    int side = size / 8;
    size_t n = (size_t)(c->channels * side * side);
    float *x = numbers(n), *y = numbers(n), time = 500;
    float *t5 = numbers((size_t)(TEXT * c->t5_channels));
    float *llama = numbers((size_t)(c->llama_count * TEXT * c->llama_channels));
    float *pooled = numbers((size_t)c->pooled_channels);
    rv__condition row = {t5, llama, pooled, TEXT, TEXT, c->llama_count};
    const char *kind = fast ? "fast" : "float32";
    double before = rate(d, fast), start = seconds(), took = 0, flops;
    rv_status status;

    rv__transformer_fast(t, fast);
    status = rv__transformer_prepare(t, side, side, &row, 1, err);
    printf("# %dx%d %s: texts projected in %.1f s\n", size, size, kind, seconds() - start);
    for (int i = 0; status == RV_OK && i < (size > 512 ? 1 : 2); i++) { /* the first one reads */
        start = seconds();
        status = rv__transformer_run(t, x, &time, y, NULL, NULL, err);
        took = seconds() - start;
        printf("# step %d: %.1f s\n", i + 1, took);
        fflush(stdout);
    }
    if (status == RV_OK) {
        flops = rv__transformer_flops(t);
        before = (before + rate(d, fast)) / 2;
        printf("bench full_%d_%s: %.1f s/step | one product's rate %.1f s/step | ratio %.2f\n", size,
               kind, took, flops / before, took * before / flops);
        printf("# %.1f TFLOP at %.0f GFLOP/s: %.0f %% of %.0f GFLOP/s\n", flops * 1e-12,
               flops / took * 1e-9, 100 * flops / took / before, before * 1e-9);
        printf("bench full_%d_%s_resident: %ld MB | limit 20480 MB | ratio %.2f\n", size, kind,
               resident_megabytes(), (double)resident_megabytes() / 20480);
        fflush(stdout);
    }
    free(x), free(y), free(t5), free(llama), free(pooled);
    return status == RV_OK;
}

int main(int argc, char **argv)
{
    const char *folder = getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp";
    const char *size = argc > 1 ? argv[1] : "both", *kind = argc > 2 ? argv[2] : "fast";
    const char *threads = getenv("THREADS");
    char path[512], parts[600];
    rv__device *d = NULL;
    rv__weights *w = NULL;
    rv__transformer *t = NULL;
    rv_error err = {0};
    bool done;
    double start = seconds();

    if (!getenv("OMP_WAIT_POLICY")) {
        setenv("OMP_WAIT_POLICY", "passive", 1);
        execv("/proc/self/exe", argv);
    }
    snprintf(path, sizeof path, "%s/reverie-full-%ld.gguf", folder, (long)getpid());
    snprintf(parts, sizeof parts, "{\"transformer\":\"%s\"}", path);
    done = make_file(path);
    if (!done)
        fprintf(stderr, "full: cannot write 9.6 GB to %s\n", path);
    printf("# file written in %.1f s\n", seconds() - start);
    start = seconds();
    done = done &&
           rv__device_open(threads ? (int)strtol(threads, NULL, 10)
                                   : (int)sysconf(_SC_NPROCESSORS_ONLN),
                           &d, &err) == RV_OK &&
           rv__weights_open(parts, &w, &err) == RV_OK &&
           rv__transformer_open(d, w, &t, &err) == RV_OK;
    unlink(path);
    printf("# opened in %.2f s with %ld MB resident\n", seconds() - start, resident_megabytes());
    fflush(stdout);
    for (int fast = 1; fast >= 0; fast--)
        for (int side = 512; side <= 1024; side *= 2)
            if ((strcmp(kind, "both") == 0 || (strcmp(kind, "fast") == 0) == fast) &&
                (strcmp(size, "both") == 0 || strtol(size, NULL, 10) == side))
                done = done && measure(d, t, side, fast, &err);
    if (!done && err.message[0])
        fprintf(stderr, "full: %s\n", err.message);
    rv__transformer_close(t);
    rv__weights_close(w);
    rv__device_close(d);
    return done ? 0 : 1;
}
