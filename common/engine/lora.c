/* See lora.h; this file reads keys.  What they say together is checked in lora_shapes.c. */
#include "lora_internal.h"

#include <stdlib.h>
#include <string.h>

#include "tensor_rows.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))

struct rv__lora {
    rv__safetensors *file; /* NULL when it is the caller's */
    rv__lora_part *parts;
    size_t count;
};

static const struct {
    const char *end;
    rv__lora_role is;
} endings[] = {
    {".lora_A.weight", RV__LORA_DOWN},
    {".lora_B.weight", RV__LORA_UP},
    {".lora_A.default.weight", RV__LORA_DOWN},
    {".lora_B.default.weight", RV__LORA_UP},
    {".lora_down.weight", RV__LORA_DOWN},
    {".lora_up.weight", RV__LORA_UP},
    {".lora.down.weight", RV__LORA_DOWN},
    {".lora.up.weight", RV__LORA_UP},
    {".lora_linear_layer.down.weight", RV__LORA_DOWN},
    {".lora_linear_layer.up.weight", RV__LORA_UP},
    {".alpha", RV__LORA_ALPHA},
    {".dora_scale", RV__LORA_MAGNITUDE},
    {".lora_magnitude_vector", RV__LORA_MAGNITUDE},
    {".lora_magnitude_vector.weight", RV__LORA_MAGNITUDE},
    {".lora_magnitude_vector.default.weight", RV__LORA_MAGNITUDE},
    {".hada_w1_a", RV__LORA_H1_A},
    {".hada_w1_b", RV__LORA_H1_B},
    {".hada_w2_a", RV__LORA_H2_A},
    {".hada_w2_b", RV__LORA_H2_B},
    {".lokr_w1", RV__LORA_K1},
    {".lokr_w1_a", RV__LORA_K1_A},
    {".lokr_w1_b", RV__LORA_K1_B},
    {".lokr_w2", RV__LORA_K2},
    {".lokr_w2_a", RV__LORA_K2_A},
    {".lokr_w2_b", RV__LORA_K2_B},
};

/* What stands before a module's name; is_flat: its dots have become underscores. */
static const struct {
    const char *start;
    int component;
    bool is_flat;
} starts[] = {
    {"transformer.", 0, false},
    {"diffusion_model.", 0, false},
    {"model.diffusion_model.", 0, false},
    {"base_model.model.", 0, false},
    {"", 0, false},
    {"lora_unet_", 0, true},
    {"lora_transformer_", 0, true},
    {"lycoris_", 0, true},
    {"text_encoder.", 1, false},
    {"text_encoder_2.", 2, false},
    {"text_encoder_3.", 3, false},
    {"text_encoder_4.", 4, false},
    {"lora_te_", 1, true},
    {"lora_te1_", 1, true},
    {"lora_te2_", 2, true},
    {"lora_te3_", 3, true},
    {"lora_te4_", 4, true},
};

const char *rv__lora_component(int i)
{
    static const char *const names[RV__LORA_COMPONENTS] = {
        "transformer", "text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4"};
    return names[i];
}

rv_status rv__lora_bad(const rv__lora_reader *r, rv_status status, const char *key, const char *why)
{
    return rv__fail(r->err, status, "%.200s: key \"%.200s\": %s", r->label, key, why);
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* ---- keys ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const rv__tensor *)a)->name, ((const rv__tensor *)b)->name);
}

/* Whether flat, n bytes long, is this tensor's module with underscores for its dots.  They cannot
 * be put back without the list of modules: many names have underscores of their own. */
static bool is_flattened(const rv__tensor *module, const char *flat, size_t n)
{
    size_t len = strlen(module->name), end = strlen(".weight");
    if (len != n + end || strcmp(module->name + n, ".weight") != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (flat[i] != (module->name[i] == '.' ? '_' : module->name[i]))
            return false;
    return true;
}

/* The module named by n bytes of a key; NULL when there is none. */
static const rv__tensor *find_module(const rv__lora_modules *in, const char *name, size_t n,
                                     bool is_flat)
{
    char full[RV__LORA_NAME_BYTES];
    if (!in->count || n + sizeof ".weight" > sizeof full)
        return NULL;
    for (size_t i = 0; i < in->count && is_flat; i++)
        if (is_flattened(&in->list[i], name, n))
            return &in->list[i];
    if (is_flat)
        return NULL;
    memcpy(full, name, n);
    memcpy(full + n, ".weight", sizeof ".weight");
    rv__tensor key = {.name = full};
    return bsearch(&key, in->list, in->count, sizeof *in->list, by_name);
}

static const rv__tensor *module_of(const rv__lora_reader *r, const char *key, size_t n,
                                   int *component)
{
    const rv__tensor *module = NULL;
    for (size_t i = 0; i < COUNT(starts) && !module; i++) {
        size_t start = strlen(starts[i].start);
        *component = starts[i].component;
        if (n > start && starts_with(key, starts[i].start))
            module =
                find_module(&r->modules[*component], key + start, n - start, starts[i].is_flat);
    }
    return module;
}

/* Where the ending begins; its role in *is.  0: the key has none that is known. */
static size_t ending_of(const char *key, rv__lora_role *is)
{
    size_t len = strlen(key);
    for (size_t i = 0; i < COUNT(endings); i++) {
        size_t n = strlen(endings[i].end);
        if (len > n && strcmp(key + len - n, endings[i].end) == 0) {
            *is = endings[i].is;
            return len - n;
        }
    }
    return 0;
}

static const char *why_unknown(const char *key, size_t end)
{
    if (strstr(key, "lokr_t") || strstr(key, "hada_t"))
        return "is of a convolution, which these models do not have";
    if (end && (starts_with(key, "lora_te") || starts_with(key, "text_encoder")))
        return "the text encoder has no such module";
    return end ? "the transformer has no such module" : "is not the key of a LoRA";
}

/* Tables are looked up, not multiplied with. */
static bool is_table(const char *name)
{
    return strstr(name, "embed") || strcmp(name, "shared.weight") == 0 ||
           strstr(name, "relative_attention_bias");
}

static rv_status read_key(rv__lora_reader *r, const rv__tensor *t)
{
    rv__lora_role is = RV__LORA_ALPHA;
    size_t end = ending_of(t->name, &is);
    int component = 0;
    const rv__tensor *module = end ? module_of(r, t->name, end, &component) : NULL;
    if (!module)
        return rv__lora_bad(r, RV_UNSUPPORTED, t->name, why_unknown(t->name, end));
    if (component && is_table(module->name))
        return rv__lora_bad(r, RV_UNSUPPORTED, t->name, "changes a table, which is not supported");
    rv__lora_found *f = &r->found[component][module - r->modules[component].list];
    if (f->tensors[is])
        return rv__lora_bad(r, RV_FORMAT, t->name, "says again what another key says");
    if (!rv__tensor_is_float(t) || t->size == 0)
        return rv__lora_bad(r, RV_FORMAT, t->name, "its type cannot be computed with");
    f->tensors[is] = t;
    return RV_OK;
}

/* ---- parts ---- */

static bool is_empty(const rv__lora_found *f)
{
    for (int i = 0; i < RV__LORA_ROLES; i++)
        if (f->tensors[i])
            return false;
    return true;
}

/* Parts of one component, behind those that are there. */
static rv_status make_parts(const rv__lora_reader *r, int component, rv__lora *l)
{
    const rv__lora_modules *in = &r->modules[component];
    for (size_t i = 0; i < in->count; i++) {
        const rv__lora_found *f = &r->found[component][i];
        rv__lora_part *part = &l->parts[l->count];
        if (is_empty(f))
            continue;
        *part = (rv__lora_part){.component = component, .module = in->list[i].name};
        memcpy(part->tensors, f->tensors, sizeof part->tensors);
        rv_status status = rv__lora_check(r, &in->list[i], part);
        if (status != RV_OK)
            return status;
        l->count++;
    }
    return RV_OK;
}

static rv_status make_all(const rv__lora_reader *r, rv__lora *l)
{
    size_t all = 0;
    rv_status status = RV_OK;
    for (int c = 0; c < RV__LORA_COMPONENTS; c++)
        all += r->modules[c].count;
    l->parts = rv__calloc(all, sizeof *l->parts);
    if (!l->parts)
        return rv__fail(r->err, RV_MEMORY, "%.200s: out of memory", r->label);
    for (int c = 0; c < RV__LORA_COMPONENTS && status == RV_OK; c++)
        status = make_parts(r, c, l);
    if (status == RV_OK && l->count == 0)
        status = rv__fail(r->err, RV_FORMAT, "%.200s: there is no LoRA in it", r->label);
    return status;
}

/* ---- files ---- */

static rv__value *read_adapter(const rv__safetensors *file)
{
    const rv__value *metadata = rv__safetensors_metadata(file);
    const char *text = rv__json_get_string(metadata, "lora_adapter_metadata", NULL);
    return text ? rv__json_parse(text, strlen(text), NULL) : NULL;
}

rv_status rv__lora_read(const rv__safetensors *file, const char *label,
                        const rv__lora_modules modules[RV__LORA_COMPONENTS], rv__lora **out,
                        rv_error *err)
{
    size_t keys;
    const rv__safetensor *list = rv__safetensors_list(file, &keys);
    rv__value *adapter = read_adapter(file);
    rv__lora_reader r = {.label = label, .modules = modules, .adapter = adapter, .err = err};
    rv__lora *l = rv__calloc(1, sizeof *l);
    rv_status status = l ? RV_OK : rv__fail(err, RV_MEMORY, "%.200s: out of memory", label);
    *out = NULL;
    for (int c = 0; c < RV__LORA_COMPONENTS && status == RV_OK; c++) {
        r.found[c] = rv__calloc(modules[c].count + 1, sizeof *r.found[c]);
        if (!r.found[c])
            status = rv__fail(err, RV_MEMORY, "%.200s: out of memory", label);
    }
    for (size_t i = 0; i < keys && status == RV_OK; i++)
        status = read_key(&r, &list[i].tensor);
    if (status == RV_OK)
        status = make_all(&r, l);
    for (int c = 0; c < RV__LORA_COMPONENTS; c++)
        rv__free(r.found[c]);
    rv__json_free(adapter);
    if (status == RV_OK)
        *out = l;
    else
        rv__lora_close(l);
    return status;
}

rv_status rv__lora_open(const char *path, const rv__weights *model, rv__lora **out, rv_error *err)
{
    rv__safetensors *file;
    rv__lora_modules modules[RV__LORA_COMPONENTS];
    for (int c = 0; c < RV__LORA_COMPONENTS; c++)
        modules[c].list = rv__weights_list(model, rv__lora_component(c), &modules[c].count);
    *out = NULL;
    rv_status status = rv__safetensors_open(path, &file, err);
    if (status == RV_OK) {
        status = rv__lora_read(file, path, modules, out, err);
        if (status == RV_OK)
            (*out)->file = file;
        else
            rv__safetensors_close(file);
    }
    return status;
}

void rv__lora_close(rv__lora *l)
{
    if (!l)
        return;
    rv__safetensors_close(l->file);
    rv__free(l->parts);
    rv__free(l);
}

const rv__lora_part *rv__lora_parts(const rv__lora *l, size_t *count)
{
    *count = l->count;
    return l->parts;
}

bool rv__lora_changes_texts(const rv__lora *l)
{
    return l->count && l->parts[l->count - 1].component > 0;
}
