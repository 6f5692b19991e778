/* `reverie inspect FILE|DIR`: says what a weight file or folder is and what can be done with it.
 * Reads headers only; must never claim more than the names and configurations in it show. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "commands.h"
#include "engine/gguf_file.h"
#include "engine/safetensors.h"
#include "engine/scheduler.h"
#include "engine/tensor_rows.h"

/* Texts from a file on a terminal: control characters would be obeyed there. */
static void print_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len && i < 200; i++)
        putchar((unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i]);
}

static void print_pair(const char *key, const char *text, size_t len)
{
    fputs("  ", stdout);
    print_text(key, strlen(key));
    fputs(": ", stdout);
    print_text(text, len);
    putchar('\n');
}

/* ---- sums ---- */

#define MAX_TYPES 16

typedef struct sum {
    const char *types[MAX_TYPES];
    size_t counts[MAX_TYPES];
    size_t n_types, tensors, bytes;
    double parameters;
} sum;

static void add_tensor(sum *s, const rv__tensor *t, const char *type)
{
    size_t i = 0;
    while (i < s->n_types && strcmp(s->types[i], type) != 0)
        i++;
    if (i == s->n_types && i < MAX_TYPES)
        s->types[s->n_types++] = type;
    if (i < MAX_TYPES)
        s->counts[i]++;
    double elements = 1;
    for (int k = 0; k < t->n_dims; k++)
        elements *= (double)t->shape[k];
    s->parameters += elements;
    s->tensors++;
    s->bytes += t->size;
}

/* 17105733184 as "17.11 B". */
static void print_count(double n)
{
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e9, "B"}, {1e6, "M"}, {1e3, "k"}};
    for (int i = 0; i < 3; i++) {
        if (n >= units[i].unit) {
            printf("%8.2f %s", n / units[i].unit, units[i].name);
            return;
        }
    }
    printf("%8.0f  ", n);
}

static void print_sum(const char *name, const sum *s)
{
    printf("  %-16s %6zu tensors  ", name, s->tensors);
    print_count(s->parameters);
    printf(" parameters  %10.1f MB ", (double)s->bytes / 1e6);
    for (size_t i = 0; i < s->n_types; i++)
        printf(" %s:%zu", s->types[i], s->counts[i]);
    putchar('\n');
}

static void print_tensor(const char *part, const rv__tensor *t, const char *type)
{
    printf("    %s%s%s  %s [", part, *part ? "/" : "", t->name, type);
    for (int i = 0; i < t->n_dims; i++)
        printf("%s%lld", i ? ", " : "", (long long)t->shape[i]);
    puts("]");
}

/* ---- models ---- */

/* Full, Dev and Fast have the same tensors; only the scheduler tells them apart. */
static void print_variant(const rv__weights *w)
{
    rv__value *json;
    rv_error err = {0};
    rv__scheduler_config c;
    rv_status status = rv__weights_json(w, "scheduler/scheduler_config.json", &json, &err);
    if (status == RV_OK) {
        status = rv__scheduler_config_read(json, &c, &err);
        rv__json_free(json);
    }
    if (status != RV_OK) {
        printf("  variant: not known (%s)\n", err.message);
        return;
    }
    static const char *const names[] = {
        [RV_SAMPLER_EULER] = "Euler", [RV_SAMPLER_LCM] = "LCM", [RV_SAMPLER_UNIPC] = "UniPC"};
    const char *variant = "not one of the published ones";
    if (c.sampler == RV_SAMPLER_UNIPC)
        variant = "Full (50 steps, guidance 5)";
    else if (c.shift == 6.0)
        variant = "Dev (28 steps, no guidance)";
    else if (c.shift == 3.0)
        variant = "Fast (16 steps, no guidance)";
    printf("  variant: %s; scheduler %s, shift %g\n", variant, names[c.sampler], c.shift);
}

static const char *const needed[] = {
    "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4"};

static void print_missing(const rv__weights *w)
{
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        size_t count;
        if (!rv__weights_list(w, needed[i], &count))
            printf("  missing: %s%s\n", needed[i],
                   strcmp(needed[i], "text_encoder_4") == 0
                       ? " (Llama-3.1-8B-Instruct comes apart from the model; link its folder "
                         "here, and its tokenizer "
                         "as tokenizer_4)"
                       : "");
    }
}

static void print_parts(const rv__weights *w, bool tensors)
{
    sum all = {0};
    size_t parts = 0;
    for (size_t p = 0; rv__weights_part_name(w, p); p++) {
        const char *part = rv__weights_part_name(w, p);
        size_t count;
        const rv__tensor *list = rv__weights_list(w, part, &count);
        sum s = {0};
        for (size_t i = 0; i < count; i++) {
            const char *type = rv__tensor_type_name(&list[i]);
            add_tensor(&s, &list[i], type);
            add_tensor(&all, &list[i], type);
            if (tensors)
                print_tensor(part, &list[i], type);
        }
        print_sum(part, &s);
        parts++;
    }
    if (parts > 1)
        print_sum("all parts", &all);
    size_t files = 0;
    while (rv__weights_file_name(w, files))
        files++;
    printf("  %zu configuration and tokenizer files\n", files);
}

/* ---- single files ---- */

static bool has_prefix(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* What names of tensors show; the first row whose mark is part of any name wins.  part: what it can
 * be of a model. */
typedef struct kind {
    const char *mark, *is, *part;
} kind;

static const kind kinds[] = {
    {".lora_A.", "a LoRA", NULL},
    {".lora_down.", "a LoRA", NULL},
    {"caption_projection.0.linear.weight", "the HiDream transformer", "transformer"},
    {"decoder.up_blocks.0.", "a VAE as diffusers names it", "vae"},
    {"decoder.up.0.block.", "a VAE with the names of LDM (ae.safetensors)", "vae"},
    {"text_model.encoder.layers.31.", "a CLIP text encoder (CLIP-G)", "text_encoder_2"},
    {"text_model.encoder.layers.0.", "a CLIP text encoder", "text_encoder"},
    {"encoder.block.0.layer.0.SelfAttention", "a T5 encoder", "text_encoder_3"},
    {"model.layers.0.self_attn.", "a Llama model", "text_encoder_4"},
    {"enc.blk.0.", "a T5 encoder with the names of llama.cpp", "text_encoder_3"},
    {"blk.0.attn_q", "a language model with the names of llama.cpp", "text_encoder_4"},
};

static const kind *kind_of(const char *const *names, size_t count)
{
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (size_t i = 0; i < count; i++) {
            if (strstr(names[i], kinds[k].mark))
                return &kinds[k];
        }
    }
    return NULL;
}

/* Opens the file as the engine would and says whether that works. */
static void try_part(const char *path, const char *part)
{
    rv__buf b;
    rv__weights *w = NULL;
    rv_error err = {0};
    rv__buf_init(&b, 1 << 16);
    rv__buf_addf(&b, "{\"%s\":", part);
    rv__json_write_string(&b, path);
    rv__buf_adds(&b, "}");
    if (!b.failed && rv__weights_open(b.data, &w, &err) == RV_OK)
        printf("  the engine takes it as \"%s\" of a model card's weights\n", part);
    else
        printf("  the engine cannot use it: %s\n", b.failed ? "out of memory" : err.message);
    rv__weights_close(w);
    rv__buf_free(&b);
}

static void print_file(const char *path, const char *const *names, size_t count, const sum *s)
{
    const kind *k = kind_of(names, count);
    printf("  it looks like %s\n", k ? k->is : "nothing that is known here");
    print_sum("tensors", s);
    for (size_t i = 0; i < count; i++) {
        if (has_prefix(names[i], "model.diffusion_model.")) {
            puts("  names have ComfyUI's prefix \"model.diffusion_model.\"");
            break;
        }
    }
    for (size_t i = 0; i < s->n_types; i++) {
        if (has_prefix(s->types[i], "F8_"))
            puts("  its 8-bit floats are unpacked while they are used, with their scales if any");
    }
    if (k && k->part)
        try_part(path, k->part);
    else
        printf("  %s\n", k ? "an addition to a model, not a model" : "nothing here uses such a file");
}

static int inspect_safetensors(const char *path, bool tensors, rv_error *err)
{
    rv__safetensors *file;
    if (rv__safetensors_open(path, &file, err) != RV_OK)
        return 1;
    printf("%s: a safetensors file\n", path);
    size_t count;
    const rv__safetensor *list = rv__safetensors_list(file, &count);
    const char **names = rv__calloc(count, sizeof *names);
    sum s = {0};
    for (size_t i = 0; names && i < count; i++) {
        names[i] = list[i].tensor.name;
        add_tensor(&s, &list[i].tensor, list[i].dtype);
        if (tensors)
            print_tensor("", &list[i].tensor, list[i].dtype);
    }
    for (const rv__value *v = rv__json_first(rv__safetensors_metadata(file)); v;
         v = rv__json_next(v))
        print_pair(rv__json_key(v), rv__json_string(v), strlen(rv__json_string(v)));
    if (names)
        print_file(path, names, count, &s);
    rv__free(names);
    rv__safetensors_close(file);
    return 0;
}

static int inspect_gguf(const char *path, bool tensors, rv_error *err)
{
    rv__gguf *file;
    if (rv__gguf_open(path, &file, err) != RV_OK)
        return 1;
    const char *text;
    size_t len, count;
    printf("%s: a GGUF file that does not hold a whole model\n", path);
    if (rv__gguf_text(file, "general.architecture", &text, &len))
        print_pair("architecture", text, len);
    const rv__tensor *list = rv__gguf_tensors(file, &count);
    const char **names = rv__calloc(count, sizeof *names);
    sum s = {0};
    for (size_t i = 0; names && i < count; i++) {
        names[i] = list[i].name;
        add_tensor(&s, &list[i], ggml_type_name(list[i].type));
        if (tensors)
            print_tensor("", &list[i], ggml_type_name(list[i].type));
    }
    if (names)
        print_file(path, names, count, &s);
    rv__free(names);
    rv__gguf_close(file);
    return 0;
}

static bool starts_with_gguf(const char *path)
{
    char magic[4] = {0};
    FILE *f = fopen(path, "rb");
    bool yes =
        f && fread(magic, 1, sizeof magic, f) == sizeof magic && memcmp(magic, "GGUF", 4) == 0;
    if (f)
        fclose(f);
    return yes;
}

static int inspect(const char *path, bool tensors, rv_error *err)
{
    struct stat st = {0};
    rv__weights *w;
    bool folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    bool gguf = S_ISREG(st.st_mode) && starts_with_gguf(path);
    bool listed = path[0] == '{';
    if (!folder && !gguf && !listed)
        return inspect_safetensors(path, tensors, err);
    rv_status status = rv__weights_open(path, &w, err);
    if (status == RV_OK) {
        printf("%s: a model in %s\n", rv__weights_path(w),
               listed   ? "files of its own"
               : folder ? "one folder"
                        : "one GGUF file");
        print_variant(w);
        print_parts(w, tensors);
        print_missing(w);
    } else if (gguf && status == RV_UNSUPPORTED) {
        return inspect_gguf(path, tensors, err);
    } else if (folder && rv__weights_open_part(path, "tensors", &w, NULL) == RV_OK) {
        printf("%s: one part of a model\n", path);
        print_parts(w, tensors);
    } else {
        return 1;
    }
    rv__weights_close(w);
    return 0;
}

int rv__command_inspect(int argc, char **argv)
{
    bool tensors = argc == 3 && strcmp(argv[2], "--tensors") == 0;
    if ((argc != 2 && !tensors) || argv[1][0] == '-') {
        fprintf(stderr, "usage: reverie inspect FILE|DIR|'{\"transformer\": FILE, …}' [--tensors]\n\n"
                        "Says what a model folder, GGUF or safetensors file is; --tensors lists "
                        "everything in it.\n");
        return 2;
    }
    rv_error err = {0};
    int status = inspect(argv[1], tensors, &err);
    if (status)
        fprintf(stderr, "reverie: %s\n", err.message);
    return status;
}
