/* Seconds per transformer step, of the small model of tests/golden and of a middle-sized one with
 * random weights (305 million parameters in BF16, 1024 image tokens, 384 text tokens per block).
 * "bench_engine steps THREADS float32|fast" makes one step of the latter per line on its input and
 * prints seconds and resident megabytes, for bench_torch.py.
 * The peer is the machine's own matrix rate: as many operations in plain OpenBLAS products, as it
 * runs them by itself, would take that long. */
#include <cblas.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "transformer_kit.h"

enum { MID_SIDE = 64 };

static const char mid_config[] =
    "{\"patch_size\":2,\"in_channels\":16,\"num_layers\":4,\"num_single_layers\":8,\"attention_"
    "head_dim\":128,"
    "\"num_attention_heads\":5,\"caption_channels\":[4096,4096],\"text_emb_dim\":2048,\"num_routed_"
    "experts\":4,"
    "\"num_activated_experts\":2,\"axes_dims_rope\":[64,32,32],\"max_resolution\":[128,128],"
    "\"llama_layers\":[0,1,2,3,3,3,3,3,3,3,3,3]}";

/* Operations per second of one large product on `threads` threads, the best of a few. */
static double matrix_rate(int threads)
{
    enum { M = 1408, N = 1792, K = 640 };
    float *a = numbers(M * K), *b = numbers(N * K), *c = malloc(sizeof(float) * M * N);
    double best = 1e9;

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

static void tensor(void *user, const char *name, int64_t out, int64_t in)
{
    static uint16_t block[1 << 16];
    writer *w = user;
    size_t n = (size_t)(out * (in ? in : 1));

    rv__buf_addf(&w->head, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[", w->at ? "," : "", name);
    rv__buf_addf(&w->head, in ? "%lld,%lld" : "%lld", (long long)out, (long long)in);
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
    kit_tensors(&(kit_model){640, 1792, 1024, 4, 8, tensor, &w});
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

/* Best times of a few steps at side x side latents, exact and fast ones in turns; -1 after an error. */
static double best_step(rv__transformer *t[2], int side, int runs, double best[2], rv_error *err)
{
    kit_inputs in = kit_inputs_new(t[0], side);
    double took = 0;

    best[0] = best[1] = 1e9;
    for (int k = 0; k < 2; k++)
        if (kit_prepare(t[k], &in, k == 1, err) != RV_OK)
            took = -1;
    for (int i = 0; took >= 0 && i < 2 * runs; i++) {
        took = kit_step(t[i % 2], &in, err);
        best[i % 2] = took < best[i % 2] ? took : best[i % 2];
    }
    kit_inputs_free(&in);
    return took;
}

/* A step for each line that comes in. */
static int serve_steps(const char *folder, int threads, bool fast)
{
    rv__device *d = NULL;
    rv__weights *w = NULL;
    rv__transformer *t = NULL;
    rv_error err = {0};
    kit_inputs in = {0};
    double took = -1;
    char line[16];

    if (rv__device_open(threads, &d, &err) == RV_OK &&
        rv__weights_open(folder, &w, &err) == RV_OK &&
        rv__transformer_open(d, w, &t, &err) == RV_OK) {
        remove_model(folder); /* it is mapped: nothing stays however this ends */
        in = kit_inputs_new(t, MID_SIDE);
        took = kit_prepare(t, &in, fast, &err) == RV_OK ? 0 : -1;
    }
    while (took >= 0 && fgets(line, sizeof line, stdin)) {
        took = kit_step(t, &in, &err);
        printf("%.5f %ld\n", took, resident_megabytes());
        fflush(stdout);
    }
    if (took < 0)
        fprintf(stderr, "bench_engine: %s\n", err.message);
    kit_inputs_free(&in);
    rv__transformer_close(t);
    rv__weights_close(w);
    rv__device_close(d);
    return took < 0;
}

static int measure(const char *name, const char *folder, int side, int runs)
{
    rv__device *d = NULL;
    rv__weights *w = NULL;
    rv__transformer *t[2] = {NULL, NULL};
    rv_error err = {0};
    double step = -1, best[2], peer;
    int threads = thread_count();

    if (rv__device_open(threads, &d, &err) == RV_OK &&
        rv__weights_open(folder, &w, &err) == RV_OK &&
        rv__transformer_open(d, w, &t[0], &err) == RV_OK &&
        rv__transformer_open(d, w, &t[1], &err) == RV_OK)
        step = best_step(t, side, runs, best, &err);
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

    wait_passively(argv);
    failed = serves ? 0
                    : measure("engine_step_tiny", SOURCE_ROOT "/tests/golden/tiny-hidream", 16, 20);
    snprintf(folder, sizeof folder, "%s/reverie-bench-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder))
        return 1;
    make_model(folder);
    if (serves)
        failed = serve_steps(folder, (int)strtol(argv[2], NULL, 10), strcmp(argv[3], "fast") == 0);
    else
        failed |= measure("engine_step_mid", folder, MID_SIDE, 4);
    remove_model(folder);
    return failed;
}
