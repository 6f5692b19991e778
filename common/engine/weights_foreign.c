/* One file that is one part of a model, in the forms ComfyUI, city96 and llama.cpp give it: names
 * become ours, scales of 8-bit floats are found.  Must never drop a tensor that could matter. */
#include "weights_internal.h"
#include "weights_names.h"

#include <math.h>
#include <string.h>

static rv_status no_memory(const rv__weights *w, rv_error *err)
{
    return rv__fail(err, RV_MEMORY, "%.100s: out of memory", w->path);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static rv_status bad(const rv__weights *w, const char *part, const char *name, const char *why,
                     rv_error *err)
{
    return rv__fail(err, RV_FORMAT, "%.100s: %s: tensor \"%.200s\": %s", w->path, part, name, why);
}

/* ---- companions of 8-bit floats ---- */

/* Tensors about other tensors: scales, the mark of a scaled file, descriptions. */
static bool is_companion(const char *name)
{
    static const char *const ends[] = {"scale_weight", "weight_scale", "scale_input",
                                       "input_scale",  "scaled_fp8",   "comfy_quant"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (strcmp(dot ? dot + 1 : name, ends[i]) == 0)
            return true;
    return false;
}

/* The tensor beside NAME.weight: NAME.what. */
static const rv__tensor *beside(const rv__safetensors *file, const char *name, const char *what)
{
    char other[RV_NAME_BYTES];
    size_t n = strlen(name) - (ends_with(name, ".weight") ? strlen("weight") : 0);
    if (!ends_with(name, ".weight") || n + strlen(what) >= sizeof other)
        return NULL;
    memcpy(other, name, n);
    memcpy(other + n, what, strlen(what) + 1);
    const rv__safetensor *t = rv__safetensors_find(file, other);
    return t ? &t->tensor : NULL;
}

/* The format a description names must be one of those that scales alone describe. */
static bool is_known_format(const rv__tensor *t)
{
    if (t->type != GGML_TYPE_I8 || t->size < 2 || t->size > 4096)
        return false;
    rv__value *v = rv__json_parse(t->data, t->size, NULL);
    const char *format = rv__json_get_string(v, "format", "");
    bool known = strcmp(format, "float8_e4m3fn") == 0 || strcmp(format, "float8_e5m2") == 0;
    rv__json_free(v);
    return known;
}

static rv_status find_scale(const rv__weights *w, const rv__safetensors *file, const char *part,
                            rv__tensor *t, rv_error *err)
{
    const rv__tensor *scale = beside(file, t->name, "scale_weight");
    const rv__tensor *format = beside(file, t->name, "comfy_quant");
    if (!scale)
        scale = beside(file, t->name, "weight_scale");
    if (format && !is_known_format(format))
        return bad(w, part, format->name, "describes a format that is not known here", err);
    if (!scale)
        return RV_OK;
    if (scale->type != GGML_TYPE_F32 || scale->size != sizeof(float))
        return bad(w, part, scale->name, "is not one number (f32)", err);
    t->scale = *(const float *)scale->data;
    if (!isfinite(t->scale) || t->scale <= 0.0f)
        return bad(w, part, scale->name, "is not a positive number", err);
    if (!t->float8 && t->scale != 1.0f)
        return bad(w, part, t->name, "has a scale but is no 8-bit float", err);
    return RV_OK;
}

/* ---- safetensors ---- */

/* Stages of an LDM decoder; 0 when the names are others. */
static int count_ldm_ups(const rv__safetensor *list, size_t count, const char *part)
{
    int most = 0;
    bool is_ldm = false;
    for (size_t i = 0; i < count && strcmp(part, "vae") == 0; i++) {
        const char *name = rv__name_without_prefix(part, list[i].tensor.name);
        int up = rv__name_ldm_up(name);
        most = up + 1 > most ? up + 1 : most;
        is_ldm = is_ldm || rv__name_is_ldm(name);
    }
    return is_ldm ? most : 0;
}

/* LDM projects with convolutions of 1 x 1 where diffusers has linear layers. */
static void drop_kernel_axes(rv__tensor *t)
{
    if (t->n_dims == 4 && t->shape[2] == 1 && t->shape[3] == 1 &&
        strstr(t->name, ".mid_block.attentions."))
        t->n_dims = 2;
}

static rv_status take_one(rv__weights *w, const rv__safetensors *file, rv__model_part *p, int ups,
                          const rv__tensor *from, rv_error *err)
{
    char name[RV_NAME_BYTES];
    rv__tensor t = *from;
    rv_status status = find_scale(w, file, p->name, &t, err);
    if (status != RV_OK)
        return status;
    t.name = rv__name_without_prefix(p->name, from->name);
    if (ups) {
        rv__name_from_ldm(t.name, ups, name);
        t.name = rv__weights_keep_name(w, name);
        if (!t.name)
            return no_memory(w, err);
        drop_kernel_axes(&t);
    }
    return rv__weights_add_tensor(w, p, &t, err);
}

rv_status rv__weights_take(rv__weights *w, const rv__safetensors *file, const char *part,
                           rv_error *err)
{
    size_t count;
    const rv__safetensor *list = rv__safetensors_list(file, &count);
    int ups = count_ldm_ups(list, count, part);
    rv__model_part *p;
    rv_status status = rv__weights_add_part(w, part, count, &p, err);
    for (size_t i = 0; i < count && status == RV_OK; i++)
        if (!is_companion(list[i].tensor.name))
            status = take_one(w, file, p, ups, &list[i].tensor, err);
    return status;
}

/* ---- GGUF ---- */

static bool text_is(const rv__gguf *g, const char *key, const char *text)
{
    const char *at;
    size_t len;
    return rv__gguf_text(g, key, &at, &len) && len == strlen(text) && memcmp(at, text, len) == 0;
}

/* llama.cpp stores the query and key rows of each head as pairs. */
static rv_status note_heads(const rv__weights *w, const rv__gguf *g, const char *part,
                            rv__tensor *t, rv_error *err)
{
    bool q = ends_with(t->name, ".q_proj.weight"), k = ends_with(t->name, ".k_proj.weight");
    uint64_t heads = 0;
    if (!q && !k)
        return RV_OK;
    if (!(k && rv__gguf_uint(g, "llama.attention.head_count_kv", &heads)))
        rv__gguf_uint(g, "llama.attention.head_count", &heads);
    if (heads < 1 || heads > 4096 || t->n_dims != 2 || t->shape[0] % (int64_t)(2 * heads) != 0)
        return bad(w, part, t->name, "does not fit llama.attention.head_count", err);
    t->heads = (int64_t)heads;
    return RV_OK;
}

static rv_status take_llama(rv__weights *w, const rv__gguf *g, rv__model_part *p, bool is_t5,
                            const rv__tensor *from, rv_error *err)
{
    char name[RV_NAME_BYTES];
    rv__tensor t = *from;
    if (!rv__name_from_llama(from->name, is_t5, name))
        return RV_OK;
    t.name = rv__weights_keep_name(w, name);
    rv_status status = t.name ? RV_OK : no_memory(w, err);
    if (status == RV_OK && !is_t5)
        status = note_heads(w, g, p->name, &t, err);
    return status == RV_OK ? rv__weights_add_tensor(w, p, &t, err) : status;
}

static rv_status read_gguf(rv__weights *w, const char *path, const char *part, rv_error *err)
{
    rv__gguf *g;
    uint64_t format;
    size_t count;
    rv_status status = rv__weights_open_gguf(w, path, &g, err);
    if (status != RV_OK)
        return status;
    if (rv__gguf_uint(g, "reverie.format", &format))
        return rv__weights_take_gguf(w, g, path, part, err);
    bool is_t5 = text_is(g, "general.architecture", "t5encoder") ||
                 text_is(g, "general.architecture", "t5");
    bool is_llama = text_is(g, "general.architecture", "llama");
    if (is_t5 && strcmp(part, "text_encoder_3") == 0)
        w->t5_gguf = g;
    if (is_llama && strcmp(part, "text_encoder_4") == 0)
        w->llama_gguf = g;
    const rv__tensor *list = rv__gguf_tensors(g, &count);
    rv__model_part *p;
    status = rv__weights_add_part(w, part, count, &p, err);
    for (size_t i = 0; i < count && status == RV_OK; i++) {
        rv__tensor t = list[i];
        t.name = rv__name_without_prefix(part, t.name);
        status = is_t5 || is_llama ? take_llama(w, g, p, is_t5, &t, err)
                                   : rv__weights_add_tensor(w, p, &t, err);
    }
    return status;
}

rv_status rv__weights_read_file(rv__weights *w, const char *path, const char *part, rv_error *err)
{
    rv__safetensors *file;
    if (ends_with(path, ".gguf"))
        return read_gguf(w, path, part, err);
    rv_status status = rv__weights_open_shard(w, path, &file, err);
    return status == RV_OK ? rv__weights_take(w, file, part, err) : status;
}
