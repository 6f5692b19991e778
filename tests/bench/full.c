/* The full-size transformer with random weights in four bits (q4_K, 17.1 billion parameters, 9.6
 * GB): seconds per step at 512x512 and 1024x1024, resident memory, start-up, and the share of the best
 * product rate.
 *
 *   full [512|1024|both [fast|float32|both [sixteenth]]]
 *   THREADS=N STEPS=N TMPDIR=DIR (/var/tmp)
 *
 * "sixteenth" has one double block for 16 and two single ones for 32: to try this program in a
 * minute.
 * The file is removed as soon as it is mapped, so that nothing stays however this ends.
 *
 * The rate is that of one large product with operands of the same kind, weights packed beforehand:
 * in float32 the better one of OpenBLAS's sgemm and the engine's own product, in eight bits the
 * engine's own.  Bursts of it stand before, between and after the steps, each some seconds long and
 * told by its mean, and the best of both sides counts: a busy machine disturbs both alike. */
#include <cblas.h>
#include <string.h>
#include <sys/stat.h>

#include <gguf.h>

#include "engine/graph_op.h"
#include "transformer_kit.h"

enum { D = 2560, ROUTED = 6912, SHARED = 3584, TENSORS = 1615 };
#define PARAMETERS INT64_C(17105733184)
#define LIMIT_MB   20480

/* ---- the file ---- */

typedef struct writer {
    struct ggml_context *tensors;
    struct gguf_context *gguf;
    int64_t parameters;
    int count;
} writer;

static void tensor(void *user, const char *name, int64_t out, int64_t in)
{
    enum ggml_type type = in % 256 == 0 && out > KIT_EXPERTS ? GGML_TYPE_Q4_K : GGML_TYPE_F32;
    writer *w = user;
    struct ggml_tensor *t = in ? ggml_new_tensor_2d(w->tensors, type, in, out)
                               : ggml_new_tensor_1d(w->tensors, GGML_TYPE_F32, out);

    ggml_set_name(t, name);
    gguf_add_tensor(w->gguf, t);
    w->parameters += ggml_nelements(t);
    w->count++;
}

/* Random blocks of q4_K around zero with a deviation of about 0.02; and random floats. */
enum { PATTERN_BLOCKS = 1 << 16, BLOCK_BYTES = 144 };

static void fill_patterns(uint8_t *blocks, float *floats)
{
    const ggml_fp16_t scale = ggml_fp32_to_fp16(1e-4f), least = ggml_fp32_to_fp16(7.5e-4f);

    for (size_t i = 0; i < (size_t)PATTERN_BLOCKS * BLOCK_BYTES; i++)
        blocks[i] = (uint8_t)next_random();
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
            size_t first = next_random() % (PATTERN_BLOCKS / 2), n = PATTERN_BLOCKS - first;

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

static bool make_file(const char *path, bool sixteenth)
{
    writer w = {.gguf = gguf_init_empty(),
                .tensors = ggml_init((struct ggml_init_params){
                    (TENSORS + 8) * ggml_tensor_overhead(), NULL, true})};
    bool done;

    gguf_set_val_str(w.gguf, "general.architecture", "hidream");
    kit_tensors(
        &(kit_model){D, ROUTED, SHARED, sixteenth ? 1 : 16, sixteenth ? 2 : 32, tensor, &w});
    done = (sixteenth || (w.count == TENSORS && w.parameters == PARAMETERS)) &&
           gguf_write_to_file(w.gguf, path, true) && write_data(&w, path);
    gguf_free(w.gguf);
    ggml_free(w.tensors);
    return done;
}

/* The configuration of a sixteenth, which no published model has: a folder beside the file. */
static bool make_config(const char *path)
{
    char folder[560];
    FILE *f;

    snprintf(folder, sizeof folder, "%s.d", path);
    mkdir(folder, 0700);
    snprintf(folder, sizeof folder, "%s.d/transformer", path);
    mkdir(folder, 0700);
    snprintf(folder, sizeof folder, "%s.d/transformer/config.json", path);
    f = fopen(folder, "w");
    if (f)
        fputs("{\"patch_size\":2,\"in_channels\":16,\"num_layers\":1,\"num_single_layers\":2,"
              "\"attention_head_dim\":128,\"num_attention_heads\":20,"
              "\"caption_channels\":[4096,4096],"
              "\"text_emb_dim\":2048,\"num_routed_experts\":4,\"num_activated_experts\":2,"
              "\"axes_dims_rope\":[64,32,32],\"max_resolution\":[128,128],"
              "\"llama_layers\":[0,1,2]}",
              f);
    return f && fclose(f) == 0;
}

static void remove_files(const char *path)
{
    static const char *const names[] = {"", ".d/transformer/config.json", ".d/transformer", ".d"};
    char name[560];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(name, sizeof name, "%s%s", path, names[i]);
        remove(name);
    }
}

/* ---- rates ---- */

enum { ROWS = 1280 };
#define BURST 3.0 /* seconds */

static double sgemm_rate(int threads, const float *x, const float *w)
{
    float *y = malloc(sizeof *y * ROWS * ROUTED);
    double start = seconds();
    int count = 0;

    openblas_set_num_threads(threads);
    for (; count == 0 || seconds() - start < BURST; count++)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, ROWS, ROUTED, D, 1, x, D, w, D, 0, y,
                    ROUTED);
    openblas_set_num_threads(1);
    free(y);
    return 2.0 * ROWS * ROUTED * D * count / (seconds() - start);
}

static double engine_rate(rv__device *d, bool fast, const float *x, float *w)
{
    struct ggml_context *c = ggml_init((struct ggml_init_params){4096, NULL, true});
    struct ggml_tensor *weight = ggml_new_tensor_2d(c, GGML_TYPE_F32, D, ROUTED), *in, *out;
    rv__tensor stored = {.name = "w", .n_dims = 2, .shape = {ROUTED, D, 1, 1, 1, 1}};
    rv__leaf leaf = {.tensor = &stored};
    rv__graph *g = rv__graph_new(d, 32);
    double start = 0;
    int count = 0;
    rv_error err;

    weight->data = w;
    weight->extra = &leaf;
    rv__graph_fast(g, fast);
    in = rv__graph_input(g, GGML_TYPE_F32, D, ROWS, 1, 1);
    out = rv__linear(g, weight, NULL, in);
    rv__graph_output(g, out);
    if (rv__graph_build(g, &err) == RV_OK) {
        rv__graph_set(g, in, x, ggml_nbytes(in));
        rv__graph_run(g, NULL, NULL, &err); /* packs */
        for (start = seconds(); count == 0 || seconds() - start < BURST; count++)
            rv__graph_run(g, NULL, NULL, &err);
    }
    rv__graph_free(g);
    rv__packed_free(leaf.packed);
    ggml_free(c);
    return 2.0 * ROWS * ROUTED * D * count / (seconds() - start);
}

static void better_rate(rv__device *d, bool fast, double *best)
{
    float *x = numbers((int64_t)ROWS * D), *w = numbers((int64_t)ROUTED * D);
    double own = engine_rate(d, fast, x, w),
           peer = fast ? 0 : sgemm_rate(rv__device_threads(d), x, w);

    own = own > peer ? own : peer;
    *best = own > *best ? own : *best;
    free(x), free(w);
}

/* ---- start-up ---- */

/* Seconds to read the file once; afterwards it is in memory. */
static double read_through(const char *path)
{
    static char block[1 << 20];
    FILE *f = fopen(path, "rb");
    double start = seconds();

    if (!f)
        return -1;
    setvbuf(f, NULL, _IONBF, 0);
    while (fread(block, 1, sizeof block, f) == sizeof block)
        ;
    fclose(f);
    return seconds() - start;
}

/* ---- steps ---- */

static void print_steps(const rv__transformer *t, int size, bool fast, double step, double rate)
{
    const char *kind = fast ? "fast" : "float32";
    double flops = rv__transformer_flops(t);

    printf("bench full_%d_%s: %.2f s/step | one product's rate %.2f s/step | ratio %.2f\n", size,
           kind, step, flops / rate, step * rate / flops);
    printf("# %.1f TFLOP at %.0f GFLOP/s: %.0f %% of %.0f GFLOP/s (goal: 60 %%)\n", flops * 1e-12,
           flops / step * 1e-9, 100 * flops / step / rate, rate * 1e-9);
    printf("bench full_%d_%s_resident: %ld MB | limit %d MB | ratio %.2f\n", size, kind,
           most_megabytes(), LIMIT_MB, (double)most_megabytes() / LIMIT_MB);
    fflush(stdout);
}

static bool measure(rv__device *d, rv__transformer *t, int size, bool fast, rv_error *err)
{
    int steps = getenv("STEPS") ? (int)strtol(getenv("STEPS"), NULL, 10) : 3;
    kit_inputs in = kit_inputs_new(t, size / 8);
    double start = seconds(), rate = 0, step = 1e9, took = 0;

    if (kit_prepare(t, &in, fast, err) != RV_OK)
        took = -1;
    printf("# %dx%d %s: texts projected in %.1f s\n", size, size, fast ? "fast" : "float32",
           seconds() - start);
    better_rate(d, fast, &rate);
    for (int i = 0; took >= 0 && i < steps; i++) {
        took = kit_step(t, &in, err);
        step = took < step ? took : step;
        better_rate(d, fast, &rate);
        printf("# step %d: %.2f s, best rate until now %.0f GFLOP/s, %ld MB\n", i + 1, took,
               rate * 1e-9, resident_megabytes());
        fflush(stdout);
    }
    if (took >= 0)
        print_steps(t, size, fast, step, rate);
    kit_inputs_free(&in);
    return took >= 0;
}

static bool is_asked(const char *asked, const char *name)
{
    return strcmp(asked, "both") == 0 || strcmp(asked, name) == 0;
}

int main(int argc, char **argv)
{
    const char *folder = getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp";
    const char *size = argc > 1 ? argv[1] : "both", *kind = argc > 2 ? argv[2] : "fast";
    char path[512], parts[1200];
    bool sixteenth = argc > 3 && strcmp(argv[3], "sixteenth") == 0;
    rv__device *d = NULL;
    rv__weights *w = NULL;
    rv__transformer *t = NULL;
    rv_error err = {0};
    double start = seconds(), read;
    bool done;

    wait_passively(argv);
    snprintf(path, sizeof path, "%s/reverie-full-%ld.gguf", folder, (long)getpid());
    snprintf(parts, sizeof parts, sixteenth ? "{\"transformer\":\"%s\",\"config\":\"%s.d\"}"
                                            : "{\"transformer\":\"%s\"}", path, path);
    done = make_file(path, sixteenth) && (!sixteenth || make_config(path));
    if (!done)
        fprintf(stderr, "full: cannot write %s (9.6 GB)\n", path);
    printf("# file written in %.1f s\n", seconds() - start);
    read = done ? read_through(path) : 0;
    start = seconds();
    done = done && rv__device_open(thread_count(), &d, &err) == RV_OK &&
           rv__weights_open(parts, &w, &err) == RV_OK &&
           rv__transformer_open(d, w, &t, &err) == RV_OK;
    remove_files(path);
    if (done)
        printf("bench full_open: %.2f s | reading the file once %.2f s | ratio %.2f\n",
               seconds() - start, read, (seconds() - start) / read);
    fflush(stdout);
    for (int fast = 1; fast >= 0; fast--)
        for (int side = 512; side <= 1024; side *= 2)
            if (is_asked(kind, fast ? "fast" : "float32") &&
                is_asked(size, side == 512 ? "512" : "1024"))
                done = done && measure(d, t, side, fast, &err);
    if (!done && err.message[0])
        fprintf(stderr, "full: %s\n", err.message);
    rv__transformer_close(t);
    rv__weights_close(w);
    rv__device_close(d);
    return done ? 0 : 1;
}
