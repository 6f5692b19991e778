/* What the benches of the transformer share: time, memory, random numbers, the list of a HiDream
 * transformer's tensors, and inputs for a step.  Only for one .c file per program. */
#ifndef TRANSFORMER_KIT_H
#define TRANSFORMER_KIT_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "engine/transformer.h"
#include "stopwatch.h"

/* Now, and at most until now. */
static inline long resident_megabytes(void)
{
    long pages = 0, all;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f && fscanf(f, "%ld %ld", &all, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024) / 1024;
}

static inline long most_megabytes(void)
{
    struct rusage r;

    return getrusage(RUSAGE_SELF, &r) == 0 ? r.ru_maxrss / 1024 : 0;
}

static inline uint32_t next_random(void)
{
    static uint32_t state = 3;

    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* From -1 to 1. */
static inline float noise(void)
{
    return (float)next_random() / 8388608.0f - 1.0f;
}

static inline float *numbers(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);

    for (int64_t i = 0; i < n; i++)
        x[i] = noise();
    return x;
}

/* Threads to measure with: THREADS, or as many as there are cores. */
static inline int thread_count(void)
{
    const char *threads = getenv("THREADS");

    return threads ? (int)strtol(threads, NULL, 10) : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* OpenMP's spinning waits disturb the neighbours: the program starts itself anew without them. */
static inline void wait_passively(char **argv)
{
    if (!getenv("OMP_WAIT_POLICY")) {
        setenv("OMP_WAIT_POLICY", "passive", 1);
        execv("/proc/self/exe", argv);
    }
}

/* ---- tensors ---- */

enum { KIT_EXPERTS = 4, KIT_TEXT = 128 /* tokens of each text */ };

/* in: 0 for a vector. */
typedef void kit_tensor_fn(void *user, const char *name, int64_t out, int64_t in);

typedef struct kit_model {
    int width, routed, shared, double_blocks, single_blocks;
    kit_tensor_fn *tensor;
    void *user;
} kit_model;

static inline void kit_layer(const kit_model *m, const char *prefix, const char *name, int64_t out,
                             int64_t in)
{
    char full[256];

    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    m->tensor(m->user, full, out, in);
    snprintf(full, sizeof full, "%s%s.bias", prefix, name);
    m->tensor(m->user, full, out, 0);
}

static inline void kit_swiglu(const kit_model *m, const char *prefix, const char *name,
                              int64_t hidden)
{
    char full[256];

    for (int i = 1; i <= 3; i++) {
        snprintf(full, sizeof full, "%s%s.w%d.weight", prefix, name, i);
        m->tensor(m->user, full, i == 2 ? m->width : hidden, i == 2 ? hidden : m->width);
    }
}

static inline void kit_attention(const kit_model *m, const char *prefix, const char *suffix)
{
    static const char *const names[] = {"to_q", "to_k", "to_v", "to_out"};
    char name[64], full[256];

    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "attn1.%s%s", names[i], suffix);
        kit_layer(m, prefix, name, m->width, m->width);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(full, sizeof full, "%sattn1.%c_rms_norm%s.weight", prefix, "qk"[i], suffix);
        m->tensor(m->user, full, m->width, 0);
    }
}

static inline void kit_block(const kit_model *m, const char *kind, int index, bool is_double)
{
    char prefix[64], full[160];

    snprintf(prefix, sizeof prefix, "%s_stream_blocks.%d.block.", kind, index);
    kit_layer(m, prefix, "adaLN_modulation.1", (is_double ? 12 : 6) * m->width, m->width);
    kit_attention(m, prefix, "");
    snprintf(full, sizeof full, "%.40sff_i.gate.weight", prefix);
    m->tensor(m->user, full, KIT_EXPERTS, m->width);
    kit_swiglu(m, prefix, "ff_i.shared_experts", m->shared);
    for (int i = 0; i < KIT_EXPERTS; i++) {
        snprintf(full, sizeof full, "ff_i.experts.%d", i);
        kit_swiglu(m, prefix, full, m->routed);
    }
    if (!is_double)
        return;
    kit_attention(m, prefix, "_t");
    kit_swiglu(m, prefix, "ff_t", m->routed);
}

static inline void kit_tensors(const kit_model *m)
{
    char name[64];

    kit_layer(m, "", "x_embedder.proj", m->width, 64);
    kit_layer(m, "", "t_embedder.timestep_embedder.linear_1", m->width, 256);
    kit_layer(m, "", "t_embedder.timestep_embedder.linear_2", m->width, m->width);
    kit_layer(m, "", "p_embedder.pooled_embedder.linear_1", m->width, 2048);
    kit_layer(m, "", "p_embedder.pooled_embedder.linear_2", m->width, m->width);
    for (int i = 0; i <= m->double_blocks + m->single_blocks; i++) {
        snprintf(name, sizeof name, "caption_projection.%d.linear.weight", i);
        m->tensor(m->user, name, m->width, 4096);
    }
    for (int i = 0; i < m->double_blocks; i++)
        kit_block(m, "double", i, true);
    for (int i = 0; i < m->single_blocks; i++)
        kit_block(m, "single", i, false);
    kit_layer(m, "", "final_layer.adaLN_modulation.1", 2 * m->width, m->width);
    kit_layer(m, "", "final_layer.linear", 64, m->width);
}

/* ---- steps ---- */

typedef struct kit_inputs {
    float *x, *y, *t5, *llama, *pooled;
    int side; /* of the latents */
} kit_inputs;

static inline kit_inputs kit_inputs_new(const rv__transformer *t, int side)
{
    const rv__transformer_config *c = rv__transformer_about(t);

    return (kit_inputs){.x = numbers(c->channels * side * side),
                        .y = numbers(c->channels * side * side),
                        .t5 = numbers(KIT_TEXT * c->t5_channels),
                        .llama = numbers(c->llama_count * KIT_TEXT * c->llama_channels),
                        .pooled = numbers(c->pooled_channels),
                        .side = side};
}

static inline void kit_inputs_free(kit_inputs *in)
{
    free(in->x), free(in->y), free(in->t5), free(in->llama), free(in->pooled);
}

static inline rv_status kit_prepare(rv__transformer *t, const kit_inputs *in, bool fast,
                                    rv_error *err)
{
    const rv__condition row = {in->t5,   in->llama, in->pooled,
                               KIT_TEXT, KIT_TEXT,  rv__transformer_about(t)->llama_count};

    rv__transformer_fast(t, fast);
    return rv__transformer_prepare(t, in->side, in->side, &row, 1, err);
}

/* Seconds of one step; -1 after an error. */
static inline double kit_step(rv__transformer *t, const kit_inputs *in, rv_error *err)
{
    float time = 500;
    double start = seconds();

    return rv__transformer_run(t, in->x, &time, in->y, NULL, NULL, err) == RV_OK
               ? seconds() - start
               : -1;
}

#endif
