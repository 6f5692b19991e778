/* Seconds per transformer step, of the small model of tests/golden and of a middle-sized one with
 * random weights (305 million parameters in BF16, 1024 image tokens, 384 text tokens per block).
 * "bench_engine steps THREADS float32|fast" makes one step of the latter per line on its input and
 * prints seconds and resident megabytes, for bench_torch.py.
 * The peer is the machine's own matrix rate: as many operations in plain OpenBLAS products, as it
 * runs them by itself, would take that long. */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "engine/transformer.h"

enum { MID_TEXT = 128, MID_SIDE = 64 };

static const char mid_config[] =
    "{\"patch_size\":2,\"in_channels\":16,\"num_layers\":4,\"num_single_layers\":8,\"attention_"
    "head_dim\":128,"
    "\"num_attention_heads\":5,\"caption_channels\":[4096,4096],\"text_emb_dim\":2048,\"num_routed_"
    "experts\":4,"
    "\"num_activated_experts\":2,\"axes_dims_rope\":[64,32,32],\"max_resolution\":[128,128],"
    "\"llama_layers\":[0,1,2,3,3,3,3,3,3,3,3,3]}";

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float noise(void)
{
    static uint32_t state = 3;

    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

/* Operations per second of one large product on `threads` threads, the best of a few. */
static double matrix_rate(int threads)
{
    enum { M = 1408, N = 1792, K = 640 };
    float *a = malloc(sizeof(float) * M * K), *b = malloc(sizeof(float) * N * K),
          *c = malloc(sizeof(float) * M * N);
    double best = 1e9;

    for (int i = 0; i < M * K; i++)
        a[i] = noise();
    for (int i = 0; i < N * K; i++)
        b[i] = noise();
    openblas_set_num_threads(threads);
    for (int i = 0; i < 12; i++) {
        double start = seconds(), took;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, M, N, K, 1, a, K, b, K, 0, c, N);
        took = seconds() - start;
        best = took < best ? took : best;
    }
    openblas_set_num_threads(1); /* as the engine wants it */
    free(a), free(b), free(c);
    return 2.0 * M * N * K / best;
}

/* ---- a model with random weights ---- */

typedef struct writer {
    rv__buf head;
    FILE *data;
    size_t at;
} writer;

static void tensor(writer *w, const char *prefix, const char *name, int out, int in)
{
    static uint16_t block[1 << 16];
    size_t n = (size_t)out * (size_t)(in ? in : 1);

    rv__buf_addf(&w->head, "%s\"%s%s\":{\"dtype\":\"BF16\",\"shape\":[", w->at ? "," : "", prefix,
                 name);
    rv__buf_addf(&w->head, in ? "%d,%d" : "%d", out, in);
    rv__buf_addf(&w->head, "],\"data_offsets\":[%zu,%zu]}", w->at, w->at + 2 * n);
    w->at += 2 * n;
    for (size_t done = 0; done < n; done += sizeof block / 2) {
        size_t count = n - done < sizeof block / 2 ? n - done : sizeof block / 2;
        for (size_t i = 0; i < count; i++) {
            float v = noise() * 0.05f;
            uint32_t bits;
            memcpy(&bits, &v, 4);
            block[i] = (uint16_t)(bits >> 16);
        }
        fwrite(block, 2, count, w->data);
    }
}

static void layer(writer *w, const char *prefix, const char *name, int out, int in)
{
    char full[96];

    snprintf(full, sizeof full, "%s.weight", name);
    tensor(w, prefix, full, out, in);
    snprintf(full, sizeof full, "%s.bias", name);
    tensor(w, prefix, full, out, 0);
}

static void swiglu(writer *w, const char *prefix, const char *name, int hidden, int d)
{
    char full[96];

    for (int i = 1; i <= 3; i++) {
        snprintf(full, sizeof full, "%s.w%d.weight", name, i);
        tensor(w, prefix, full, i == 2 ? d : hidden, i == 2 ? hidden : d);
    }
}

static void block(writer *w, const char *kind, int index, bool is_double)
{
    static const char *const names[] = {"to_q", "to_k", "to_v", "to_out"};
    enum { D = 640, ROUTED = 1792, SHARED = 1024 };
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
    swiglu(w, prefix, "ff_i.shared_experts", SHARED, D);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "ff_i.experts.%d", i);
        swiglu(w, prefix, name, ROUTED, D);
    }
    if (is_double)
        swiglu(w, prefix, "ff_t", ROUTED, D);
}

static void write_tensors(writer *w)
{
    enum { D = 640 };
    char name[64];

    layer(w, "", "x_embedder.proj", D, 64);
    layer(w, "", "t_embedder.timestep_embedder.linear_1", D, 256);
    layer(w, "", "t_embedder.timestep_embedder.linear_2", D, D);
    layer(w, "", "p_embedder.pooled_embedder.linear_1", D, 2048);
    layer(w, "", "p_embedder.pooled_embedder.linear_2", D, D);
    for (int i = 0; i < 13; i++) {
        snprintf(name, sizeof name, "caption_projection.%d.linear.weight", i);
        tensor(w, "", name, D, 4096);
    }
    for (int i = 0; i < 4; i++)
        block(w, "double", i, true);
    for (int i = 0; i < 8; i++)
        block(w, "single", i, false);
    layer(w, "", "final_layer.adaLN_modulation.1", 2 * D, D);
    layer(w, "", "final_layer.linear", 64, D);
}

static void put_text(const char *folder, const char *name, const char *text)
{
    char path[512];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "wb");
    fputs(text, f);
    fclose(f);
}

/* The header comes first in the file, so the tensors are written with room before them. */
static void make_model(const char *folder)
{
    enum { HEAD = 1 << 20 };
    char path[512];
    writer w = {0};

    snprintf(path, sizeof path, "%s/transformer", folder);
    mkdir(path, 0700);
    put_text(folder, "model_index.json", "{\"_class_name\":\"HiDreamImagePipeline\"}");
    put_text(folder, "transformer/config.json", mid_config);
    snprintf(path, sizeof path, "%s/transformer/diffusion_pytorch_model.safetensors", folder);
    w.data = fopen(path, "wb");
    rv__buf_init(&w.head, HEAD);
    rv__buf_adds(&w.head, "{");
    fseek(w.data, HEAD + 8, SEEK_SET);
    write_tensors(&w);
    rv__buf_adds(&w.head, "}");
    rewind(w.data);
    fwrite(&(uint64_t){HEAD}, 8, 1, w.data);
    fwrite(w.head.data, w.head.len, 1, w.data);
    for (size_t i = w.head.len; i < HEAD; i++)
        fputc(' ', w.data);
    rv__buf_free(&w.head);
    fclose(w.data);
}

static void remove_model(const char *folder)
{
    static const char *const files[] = {"transformer/config.json",
                                        "transformer/diffusion_pytorch_model.safetensors",
                                        "model_index.json"};
    char path[512];

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/transformer", folder);
    rmdir(path);
    rmdir(folder);
}

/* ---- measuring ---- */

typedef struct inputs {
    float *x, *y, *t5, *llama, *pooled;
} inputs;

static float *numbers(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);

    for (int64_t i = 0; i < n; i++)
        x[i] = noise();
    return x;
}

static inputs make_inputs(const rv__transformer_config *c, int side, int text)
{
    return (inputs){.x = numbers(c->channels * side * side),
                    .y = numbers(c->channels * side * side),
                    .t5 = numbers(text * c->t5_channels),
                    .llama = numbers(c->llama_count * text * c->llama_channels),
                    .pooled = numbers(c->pooled_channels)};
}

static void free_inputs(inputs *in)
{
    free(in->x), free(in->y), free(in->t5), free(in->llama), free(in->pooled);
}

static rv_status prepare(rv__transformer *t, const inputs *in, int side, int text, rv_error *err)
{
    const rv__condition row = {in->t5, in->llama, in->pooled, text, text,
                               rv__transformer_about(t)->llama_count};

    return rv__transformer_prepare(t, side, side, &row, 1, err);
}

/* Seconds of one step; -1 after an error. */
static double one_step(rv__transformer *t, const inputs *in, rv_error *err)
{
    float time = 500;
    double start = seconds();

    return rv__transformer_run(t, in->x, &time, in->y, NULL, NULL, err) == RV_OK
               ? seconds() - start
               : -1;
}

/* Best times of a few steps at side x side latents, exact and fast ones in turns; -1 after an error. */
static double best_step(rv__transformer *t[2], int side, int text, int runs, double best[2],
                        rv_error *err)
{
    inputs in = make_inputs(rv__transformer_about(t[0]), side, text);
    double took = 0;

    best[0] = best[1] = 1e9;
    for (int k = 0; k < 2; k++) {
        rv__transformer_fast(t[k], k == 1);
        if (prepare(t[k], &in, side, text, err) != RV_OK)
            took = -1;
    }
    for (int i = 0; took >= 0 && i < 2 * runs; i++) {
        took = one_step(t[i % 2], &in, err);
        best[i % 2] = took < best[i % 2] ? took : best[i % 2];
    }
    free_inputs(&in);
    return took;
}

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

/* A step for each line that comes in. */
static int serve_steps(const char *folder, int threads, bool fast)
{
    rv__device *d = NULL;
    rv__weights *w = NULL;
    rv__transformer *t = NULL;
    rv_error err = {0};
    inputs in = {0};
    double took = -1;
    char line[16];

    if (rv__device_open(threads, &d, &err) == RV_OK &&
        rv__weights_open(folder, &w, &err) == RV_OK &&
        rv__transformer_open(d, w, &t, &err) == RV_OK) {
        in = make_inputs(rv__transformer_about(t), MID_SIDE, MID_TEXT);
        rv__transformer_fast(t, fast);
        took = prepare(t, &in, MID_SIDE, MID_TEXT, &err) == RV_OK ? 0 : -1;
    }
    while (took >= 0 && fgets(line, sizeof line, stdin)) {
        took = one_step(t, &in, &err);
        printf("%.5f %ld\n", took, resident_megabytes());
        fflush(stdout);
    }
    if (took < 0)
        fprintf(stderr, "bench_engine: %s\n", err.message);
    free_inputs(&in);
    rv__transformer_close(t);
    rv__weights_close(w);
    rv__device_close(d);
    return took < 0;
}

static int measure(const char *name, const char *folder, int side, int text, int runs)
{
    rv__device *d = NULL;
    rv__weights *w = NULL;
    rv__transformer *t[2] = {NULL, NULL};
    rv_error err = {0};
    double step = -1, best[2], peer;
    int threads = getenv("THREADS") ? (int)strtol(getenv("THREADS"), NULL, 10)
                                    : (int)sysconf(_SC_NPROCESSORS_ONLN);

    if (rv__device_open(threads, &d, &err) == RV_OK &&
        rv__weights_open(folder, &w, &err) == RV_OK &&
        rv__transformer_open(d, w, &t[0], &err) == RV_OK &&
        rv__transformer_open(d, w, &t[1], &err) == RV_OK)
        step = best_step(t, side, text, runs, best, &err);
    if (step > 0) {
        peer = rv__transformer_flops(t[0]) / matrix_rate(threads);
        printf("bench %s: %.4f s/step | openblas sgemm %.4f s/step | ratio %.2f\n", name, best[0],
               peer, best[0] / peer);
        printf("bench %s_fast: %.4f s/step | float32 %.4f s/step | ratio %.2f\n", name, best[1],
               best[0], best[1] / best[0]);
    } else {
        printf("bench %s: failed: %s\n", name, err.message);
    }
    rv__transformer_close(t[0]);
    rv__transformer_close(t[1]);
    rv__weights_close(w);
    rv__device_close(d);
    return step > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    char folder[200];
    const char *tmp = getenv("TMPDIR");
    bool serves = argc == 4 && strcmp(argv[1], "steps") == 0;
    int failed;

    if (!getenv("OMP_WAIT_POLICY")) {
        setenv("OMP_WAIT_POLICY", "passive", 1);
        execv("/proc/self/exe", argv);
    }
    failed = serves ? 0
                    : measure("engine_step_tiny", SOURCE_ROOT "/tests/golden/tiny-hidream", 16, 128,
                              20);
    snprintf(folder, sizeof folder, "%s/reverie-bench-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder))
        return 1;
    make_model(folder);
    if (serves)
        failed = serve_steps(folder, (int)strtol(argv[2], NULL, 10), strcmp(argv[3], "fast") == 0);
    else
        failed |= measure("engine_step_mid", folder, MID_SIDE, MID_TEXT, 4);
    remove_model(folder);
    return failed;
}
