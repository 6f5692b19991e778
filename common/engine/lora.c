/* See lora.h. */
#include "lora.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tensor_rows.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))
#define MAX_RANK    4096
#define NAME_BYTES  1100

struct rv__lora {
    rv__safetensors *file; /* NULL when it is the caller's */
    rv__lora_part *parts;
    size_t count;
};

typedef enum role { DOWN, UP, ALPHA, ROLES } role;

/* What the keys said about one module. */
typedef struct found {
    const rv__tensor *tensors[ROLES];
} found;

typedef struct reader {
    const char *label;
    const rv__tensor *modules;
    size_t count;
    found *found;             /* one per module */
    const rv__value *adapter; /* settings that diffusers writes into the metadata, or NULL */
    rv_error *err;
} reader;

static const struct {
    const char *end;
    role is;
} endings[] = {
    {".lora_A.weight", DOWN},       {".lora_B.weight", UP},      {".lora_A.default.weight", DOWN},
    {".lora_B.default.weight", UP}, {".lora_down.weight", DOWN}, {".lora_up.weight", UP},
    {".lora.down.weight", DOWN},    {".lora.up.weight", UP},     {".alpha", ALPHA},
};

/* What stands before a module's name; is_flat: its dots have become underscores. */
static const struct {
    const char *start;
    bool is_flat;
} starts[] = {
    {"transformer.", false},
    {"diffusion_model.", false},
    {"model.diffusion_model.", false},
    {"base_model.model.", false},
    {"", false},
    {"lora_unet_", true},
    {"lora_transformer_", true},
    {"lycoris_", true},
};

static rv_status bad(const reader *r, rv_status status, const char *key, const char *why)
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
static const rv__tensor *find_module(const reader *r, const char *name, size_t n, bool is_flat)
{
    char full[NAME_BYTES];
    if (!r->count || n + sizeof ".weight" > sizeof full)
        return NULL;
    for (size_t i = 0; i < r->count && is_flat; i++)
        if (is_flattened(&r->modules[i], name, n))
            return &r->modules[i];
    if (is_flat)
        return NULL;
    memcpy(full, name, n);
    memcpy(full + n, ".weight", sizeof ".weight");
    rv__tensor key = {.name = full};
    return bsearch(&key, r->modules, r->count, sizeof *r->modules, by_name);
}

static const rv__tensor *module_of(const reader *r, const char *key, size_t n)
{
    const rv__tensor *module = NULL;
    for (size_t i = 0; i < COUNT(starts) && !module; i++) {
        size_t start = strlen(starts[i].start);
        if (n > start && starts_with(key, starts[i].start))
            module = find_module(r, key + start, n - start, starts[i].is_flat);
    }
    return module;
}

/* Where the ending begins; its role in *is.  0: the key has none that is known. */
static size_t ending_of(const char *key, role *is)
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
    if (strstr(key, "dora_scale") || strstr(key, "lora_magnitude_vector"))
        return "DoRA is not supported";
    if (strstr(key, "lokr_") || strstr(key, "hada_"))
        return "LoKr and LoHa are not supported";
    if (starts_with(key, "lora_te") || starts_with(key, "text_encoder"))
        return "changes a text encoder, which is not supported";
    return end ? "the transformer has no such module" : "is not the key of a LoRA";
}

static rv_status read_key(reader *r, const rv__tensor *t)
{
    role is = ALPHA;
    size_t end = ending_of(t->name, &is);
    const rv__tensor *module = end ? module_of(r, t->name, end) : NULL;
    if (!module)
        return bad(r, RV_UNSUPPORTED, t->name, why_unknown(t->name, end));
    found *f = &r->found[module - r->modules];
    if (f->tensors[is])
        return bad(r, RV_FORMAT, t->name, "says again what another key says");
    if (!rv__tensor_is_float(t) || t->size == 0)
        return bad(r, RV_FORMAT, t->name, "its type cannot be computed with");
    f->tensors[is] = t;
    return RV_OK;
}

/* ---- pairs ---- */

static bool is_scalar(const rv__tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= t->shape[i];
    return n == 1 && t->n_dims <= 2;
}

/* alpha where the file has no tensor for it: diffusers keeps it in the metadata.  < 0: nowhere. */
static double told_alpha(const reader *r, const rv__tensor *module)
{
    char key[NAME_BYTES];
    size_t n = strlen(module->name) - strlen(".weight");
    const rv__value *each = rv__json_get(r->adapter, "transformer.alpha_pattern");
    if (n >= sizeof key)
        return -1;
    memcpy(key, module->name, n);
    key[n] = '\0';
    return rv__json_get_number(each, key,
                               rv__json_get_number(r->adapter, "transformer.lora_alpha", -1));
}

static rv_status read_scale(const reader *r, const rv__tensor *module, const found *f, float *out)
{
    double rank = (double)f->tensors[DOWN]->shape[0], alpha = told_alpha(r, module);
    bool root = rv__json_get_bool(r->adapter, "transformer.use_rslora", false);
    const rv__tensor *t = f->tensors[ALPHA];
    if (t) {
        float value;
        if (!is_scalar(t))
            return bad(r, RV_FORMAT, t->name, "is not one number");
        rv__tensor_floats(t, 0, 1, &value);
        if (!isfinite(value))
            return bad(r, RV_FORMAT, t->name, "is not finite");
        *out = (float)((double)value / rank);
        return RV_OK;
    }
    *out = alpha < 0 ? 1.0f : (float)(alpha / (root ? sqrt(rank) : rank));
    return RV_OK;
}

static rv_status check_pair(const reader *r, const rv__tensor *module, const found *f)
{
    const rv__tensor *down = f->tensors[DOWN], *up = f->tensors[UP];
    const rv__tensor *any = down ? down : up ? up : f->tensors[ALPHA];
    if (!down || !up)
        return bad(r, RV_FORMAT, any->name, "the other half of the pair is missing");
    if (module->n_dims != 2)
        return bad(r, RV_UNSUPPORTED, down->name, "the transformer's module is no matrix");
    if (down->n_dims != 2 || up->n_dims != 2 || down->shape[0] < 1 || down->shape[0] > MAX_RANK ||
        up->shape[1] != down->shape[0])
        return bad(r, RV_FORMAT, down->name, "the two halves do not fit each other");
    if (down->shape[1] != module->shape[1])
        return bad(r, RV_FORMAT, down->name, "does not fit the model's shape");
    if (up->shape[0] != module->shape[0])
        return bad(r, RV_FORMAT, up->name, "does not fit the model's shape");
    return RV_OK;
}

static rv_status make_parts(const reader *r, rv__lora *l)
{
    rv_status status = RV_OK;
    l->parts = rv__calloc(r->count, sizeof *l->parts);
    if (!l->parts)
        return rv__fail(r->err, RV_MEMORY, "%.200s: out of memory", r->label);
    for (size_t i = 0; i < r->count && status == RV_OK; i++) {
        const found *f = &r->found[i];
        rv__lora_part part = {r->modules[i].name, f->tensors[DOWN], f->tensors[UP], 1.0f};
        if (!f->tensors[DOWN] && !f->tensors[UP] && !f->tensors[ALPHA])
            continue;
        status = check_pair(r, &r->modules[i], f);
        if (status == RV_OK)
            status = read_scale(r, &r->modules[i], f, &part.scale);
        if (status == RV_OK)
            l->parts[l->count++] = part;
    }
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

rv_status rv__lora_read(const rv__safetensors *file, const char *label, const rv__tensor *modules,
                        size_t count, rv__lora **out, rv_error *err)
{
    size_t keys;
    const rv__safetensor *list = rv__safetensors_list(file, &keys);
    rv__value *adapter = read_adapter(file);
    reader r = {.label = label, .modules = modules, .count = count, .adapter = adapter, .err = err};
    rv__lora *l = rv__calloc(1, sizeof *l);
    rv_status status = RV_OK;
    r.found = rv__calloc(count, sizeof *r.found);
    *out = NULL;
    if (!l || !r.found)
        status = rv__fail(err, RV_MEMORY, "%.200s: out of memory", label);
    for (size_t i = 0; i < keys && status == RV_OK; i++)
        status = read_key(&r, &list[i].tensor);
    if (status == RV_OK)
        status = make_parts(&r, l);
    rv__free(r.found);
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
    size_t count;
    const rv__tensor *modules = rv__weights_list(model, "transformer", &count);
    *out = NULL;
    rv_status status = rv__safetensors_open(path, &file, err);
    if (status == RV_OK) {
        status = rv__lora_read(file, path, modules, count, out, err);
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
