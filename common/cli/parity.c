/* `reverie parity MODEL_DIR GOLDENS_DIR`: our results beside reference results.  Walks everything
 * the manifest names and what lies beside it; whatever it does not know is a FAIL, so that nothing
 * passes by being skipped. */
#include "parity_internal.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/memory.h"
#include "commands.h"
#include "engine/mapped_file.h"

static const struct {
    const char *name; /* of the golden file, without its ending */
    rv__parity_stage *run;
} stages[] = {
    {"rng", rv__parity_rng},
    {"schedulers", rv__parity_schedulers},
    {"text_encoders", rv__parity_text_encoders},
    {"transformer", rv__parity_transformer},
    {"vae", rv__parity_vae},
    {"pipeline", rv__parity_pipeline},
};

/* Sections of the manifest that somebody reads or that only explain. */
static const char *const sections[] = {"format",
                                       "model",
                                       "made_with",
                                       "layout",
                                       "prompts",
                                       "files",
                                       "size_rule",
                                       "scheduler_configs",
                                       "transformer_cases",
                                       "pipeline_cases"};

/* What the command line selects: all, or the stages it names. */
typedef struct selection {
    char **names;
    int count;
} selection;

static bool selected(const selection *s, const char *name)
{
    for (int i = 0; i < s->count; i++) {
        if (strcmp(s->names[i], name) == 0)
            return true;
    }
    return s->count == 0;
}

/* A JSON file of the goldens (out; rv__json_free).  NULL when it is absent or, with a FAIL, when it
 * is wrong. */
static rv__value *read_json(rv__parity *p, const char *name, bool must_exist)
{
    char *path = rv__format("%s/%s", p->dir, name);
    rv__mapped map = {0};
    rv_error err = {0};
    rv__json_error why = {0};
    rv__value *v = NULL;
    rv_status status =
        path ? rv__mapped_open(path, &map, &err) : rv__fail(&err, RV_MEMORY, "out of memory");
    if (status == RV_OK) {
        v = rv__json_parse((const char *)map.data, map.size, &why);
        if (!v)
            rv__parity_fail(p, name, "byte %zu: %s", why.offset, why.message);
    } else if (must_exist || status != RV_NOT_FOUND) {
        rv__parity_fail(p, name, "%s", err.message);
    }
    rv__mapped_close(&map);
    rv__free(path);
    return v;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static const char *dtype_of(const rv__tensor *t)
{
    switch (t->type) {
    case GGML_TYPE_F32:
        return "float32";
    case GGML_TYPE_I32:
        return "int32";
    case GGML_TYPE_I64:
        return "int64";
    case GGML_TYPE_I8:
        return "uint8";
    default:
        return "another type";
    }
}

/* A tensor of a golden file beside what the manifest says about it. */
static void check_entry(rv__golden *g, const char *name, const rv__value *entry)
{
    const rv__tensor *t = rv__golden_find(g, name);
    const rv__value *shape = rv__json_get(entry, "shape");
    if (!t) {
        rv__parity_fail_golden(g, name, "in the manifest but not in the file");
        return;
    }
    bool same = rv__json_is_array(shape) && rv__json_size(shape) == (size_t)t->n_dims &&
                strcmp(rv__json_get_string(entry, "dtype", ""), dtype_of(t)) == 0;
    int i = 0;
    for (const rv__value *v = rv__json_first(shape); v && same; v = rv__json_next(v)) {
        int64_t dim = -1;
        same = rv__json_int(v, &dim) && dim == t->shape[i++];
    }
    if (!same)
        rv__parity_fail_golden(g, name, "shape or type is not what the manifest says");
}

static void check_manifest(rv__golden *g, const rv__value *tensors)
{
    for (const rv__value *v = rv__json_first(tensors); v; v = rv__json_next(v))
        check_entry(g, rv__json_key(v), v);
    for (size_t i = 0; i < g->count; i++) {
        if (!rv__json_get(tensors, g->list[i].name))
            rv__parity_fail_golden(g, g->list[i].name, "in the file but not in the manifest");
    }
}

/* Every case the manifest lists must have tensors. */
static void check_cases(rv__golden *g)
{
    char section[64];
    snprintf(section, sizeof section, "%s_cases", g->stem);
    const rv__value *cases = rv__json_get(g->parity->manifest, section);
    for (const rv__value *v = rv__json_first(cases); v; v = rv__json_next(v)) {
        const char *name = rv__json_key(v);
        bool found = false;
        for (size_t i = 0; i < g->count && !found; i++)
            found = strncmp(g->list[i].name, name, strlen(name)) == 0 &&
                    g->list[i].name[strlen(name)] == '.';
        if (!found)
            rv__parity_fail_golden(g, name, "the case has no tensors");
    }
}

static void run_file(rv__parity *p, const char *name, const rv__value *entry, const selection *only)
{
    rv__golden g;
    const char *dot = strrchr(name, '.');
    char *stem = rv__strndup(name, dot ? (size_t)(dot - name) : strlen(name));
    rv__parity_stage *run = NULL;
    for (size_t i = 0; stem && i < sizeof stages / sizeof *stages; i++) {
        if (strcmp(stem, stages[i].name) == 0)
            run = stages[i].run;
    }
    if (!run)
        rv__parity_fail(p, name, "no check knows this file");
    else if (selected(only, stem) && rv__golden_open(p, name, &g)) {
        check_manifest(&g, rv__json_get(entry, "tensors"));
        check_cases(&g);
        run(p, &g);
        rv__golden_close(&g);
    }
    rv__free(stem);
}

/* Golden files that lie there but that the manifest does not know. */
static void check_folder(rv__parity *p, const rv__value *files)
{
    DIR *dir = opendir(p->dir);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        if (ends_with(e->d_name, ".safetensors") && !rv__json_get(files, e->d_name))
            rv__parity_fail(p, e->d_name, "a golden file that the manifest does not name");
    }
    if (dir)
        closedir(dir);
}

/* Texts and their ids. */
static void run_tokenizers(rv__parity *p)
{
    rv__value *cases = read_json(p, "tokenizers.json", false);
    if (cases)
        rv__parity_tokenizers(p, cases);
    rv__json_free(cases);
}

/* One folder PART-TYPE of dtype-variants: a part whose tensors are stored in another type. */
static void run_variant(rv__parity *p, const char *folder, const rv__golden *text)
{
    rv__weights *w = NULL;
    rv_error err = {0};
    const char *dash = strrchr(folder, '-');
    char *part = rv__strndup(folder, dash ? (size_t)(dash - folder) : strlen(folder));
    char *path = rv__format("%s/dtype-variants/%s", p->dir, folder);
    if (!part || !path)
        rv__parity_fail(p, folder, "out of memory");
    else if (rv__weights_open_part(path, part, &w, &err))
        rv__parity_fail(p, folder, "%s", err.message);
    else
        rv__parity_dtype_variant(p, folder, part, w, text);
    rv__weights_close(w);
    rv__free(part);
    rv__free(path);
}

static void run_variants(rv__parity *p)
{
    rv__golden text;
    char *path = rv__format("%s/dtype-variants", p->dir);
    DIR *dir = path ? opendir(path) : NULL;
    if (dir && rv__golden_open(p, "text_encoders.safetensors", &text)) {
        for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
            if (e->d_name[0] != '.')
                run_variant(p, e->d_name, &text);
        }
        for (size_t i = 0; i < text.count; i++)
            text.seen[i] = true; /* its own stage accounts for them */
        rv__golden_close(&text);
    }
    if (dir)
        closedir(dir);
    rv__free(path);
}

static void check_sections(rv__parity *p)
{
    for (const rv__value *v = rv__json_first(p->manifest); v; v = rv__json_next(v)) {
        bool known = false;
        for (size_t i = 0; i < sizeof sections / sizeof *sections && !known; i++)
            known = strcmp(rv__json_key(v), sections[i]) == 0;
        if (!known)
            rv__parity_fail(p, rv__json_key(v), "no check knows this section of the manifest");
    }
    if (rv__json_get_int(p->manifest, "format", 0) != 1)
        rv__parity_fail(p, "manifest.json", "expected format 1");
}

static void run_all(rv__parity *p, const selection *only)
{
    const rv__value *files = rv__json_get(p->manifest, "files");
    check_sections(p);
    check_folder(p, files);
    if (rv__json_size(files) == 0)
        rv__parity_fail(p, "manifest.json", "it names no files");
    for (const rv__value *v = rv__json_first(files); v; v = rv__json_next(v))
        run_file(p, rv__json_key(v), v, only);
    if (selected(only, "tokenizers"))
        run_tokenizers(p);
    if (selected(only, "dtype-variants"))
        run_variants(p);
    if (selected(only, "size_rule") && rv__json_get(p->manifest, "size_rule"))
        rv__parity_size_rule(p, rv__json_get(p->manifest, "size_rule"));
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --rpc HOST:PORT[,HOST:PORT …] in front of the rest. */
static bool read_machines(rv__parity *p, const char *list)
{
    rv__buf b;
    rv_error err = {0};
    rv__value *card;
    char *text;

    rv__buf_init(&b, 4096);
    rv__buf_adds(&b, "{\"rpc\":[");
    for (const char *at = list; *at; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ',')) {
        if (at > list)
            rv__buf_adds(&b, ",");
        rv__json_write_text(&b, at, strcspn(at, ","));
    }
    rv__buf_adds(&b, "]}");
    text = rv__buf_take(&b, NULL);
    card = text ? rv__json_parse(text, strlen(text), NULL) : NULL;
    rv__free(text);
    if (!card || rv__machines_open(card, ".", &p->machines, &err) != RV_OK)
        fprintf(stderr, "reverie: --rpc: %s\n", err.message);
    rv__json_free(card);
    return p->machines != NULL;
}

int rv__command_parity(int argc, char **argv)
{
    rv__parity p = {0};

    if (argc > 2 && strcmp(argv[1], "--rpc") == 0) {
        if (!read_machines(&p, argv[2]))
            return 2;
        argc -= 2;
        argv += 2;
    }
    if (argc < 3 || argv[1][0] == '-') {
        fprintf(stderr, "usage: reverie parity [--rpc HOST:PORT,…] MODEL_DIR GOLDENS_DIR [STAGE ...]\n"
                        "Compares our results with reference results.  Without STAGE everything is "
                        "compared; stages "
                        "are\nthe golden files without .safetensors, and: tokenizers "
                        "dtype-variants size_rule\n"
                        "With --rpc the pipeline's blocks run on those machines as well.\n");
        rv__machines_close(p.machines);
        return 2;
    }
    p.dir = argv[2];
    selection only = {argv + 3, argc - 3};
    rv_error err = {0};
    double start = seconds();
    if (rv__weights_open(argv[1], &p.model, &err) != RV_OK)
        rv__parity_fail(&p, "model", "%s", err.message);
    p.manifest = p.model ? read_json(&p, "manifest.json", true) : NULL;
    if (p.manifest)
        run_all(&p, &only);
    if (p.passed + p.failed == 0)
        rv__parity_fail(&p, "goldens", "nothing was compared");
    printf("parity: %zu compared, %zu passed, %zu failed, %.1f s%s\n", p.passed + p.failed,
           p.passed, p.failed, seconds() - start, only.count ? " (only the stages named)" : "");
    rv__json_free(p.manifest);
    rv__machines_close(p.machines);
    rv__weights_close(p.model);
    return p.failed ? 1 : 0;
}
