/* Parity of tokenizers and text encoders: every tensor of text_encoders.safetensors, every text of
 * tokenizers.json, and encoders stored in other types.  Which prompts a tensor holds is read from
 * the manifest; no prompt, length or dimension is known here. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "engine/text.h"
#include "parity.h"

/* What the goldens call the four encoders. */
static const char *const prefixes[RV__TEXT_PARTS] = {"clip1", "clip2", "t5", "llama"};

/* ---- one encoder of any kind ---- */

typedef struct encoder {
    rv__text_part part;
    rv__clip *clip;
    rv__t5 *t5;
    rv__llama *llama;
} encoder;

static rv_status encoder_open(encoder *e, rv__text_part part, rv__device *d, const rv__weights *w,
                              rv_error *err)
{
    const char *name = rv__text_name(part);
    *e = (encoder){.part = part};
    if (part == RV__T5)
        return rv__t5_open(d, w, name, &e->t5, err);
    if (part == RV__LLAMA)
        return rv__llama_open(d, w, name, &e->llama, err);
    return rv__clip_open(d, w, name, &e->clip, err);
}

static void encoder_close(encoder *e)
{
    rv__clip_close(e->clip);
    rv__t5_close(e->t5);
    rv__llama_close(e->llama);
}

/* What the encoder's result is called among the goldens. */
static const char *result_name(rv__text_part part)
{
    return part == RV__T5      ? "last_hidden_state"
           : part == RV__LLAMA ? "hidden_states"
                               : "text_embeds";
}

/* Floats of a result are layers * (floats per layer). */
static size_t result_layers(const encoder *e)
{
    return e->llama ? (size_t)rv__llama_layers(e->llama) : 1;
}

static size_t result_size(const encoder *e, size_t length)
{
    if (e->clip)
        return (size_t)rv__clip_channels(e->clip);
    if (e->t5)
        return length * (size_t)rv__t5_channels(e->t5);
    return (size_t)rv__llama_layers(e->llama) * length * (size_t)rv__llama_channels(e->llama);
}

static rv_status encoder_run(encoder *e, const rv__text_run *run, float *out, rv_error *err)
{
    if (e->clip)
        return rv__clip_run(e->clip, run, out, err);
    return e->t5 ? rv__t5_run(e->t5, run, out, err) : rv__llama_run(e->llama, run, out, err);
}

/* ---- which prompts a golden tensor holds ---- */

typedef struct stage {
    rv__parity *parity;
    rv__golden *golden;
    const rv__value *described; /* the manifest's entries of this file */
    const rv__value *prompts;
} stage;

static const char *what_of(const stage *s, const char *name)
{
    return rv__json_get_string(rv__json_get(s->described, name), "what", "");
}

/* Row of a prompt in a tensor that says "rows: a, b, c", "row a", or nothing (then rows follow the
 * manifest's prompts); -1: it is not there. */
static int row_of(const stage *s, const char *name, const char *prompt)
{
    const char *what = what_of(s, name), *list = strstr(what, "rows: "),
               *one = strstr(what, "row ");
    size_t len = strlen(prompt);
    int row = 0;
    if (list) {
        for (const char *p = list + 6; *p; p += strspn(p, ", "), row++) {
            size_t n = strcspn(p, ", .;)");
            if (n == len && strncmp(p, prompt, n) == 0)
                return row;
            p += n;
            if (*p != ',')
                break;
        }
        return -1;
    }
    if (one) {
        size_t n = strcspn(one + 4, ", .;)");
        if (n == len && strncmp(one + 4, prompt, n) == 0)
            return 0;
        char key[64];
        snprintf(key, sizeof key, "%.*s", (int)(n < 63 ? n : 63), one + 4);
        if (rv__json_get(s->prompts, key))
            return -1;
    }
    for (const rv__value *v = rv__json_first(s->prompts); v; v = rv__json_next(v), row++)
        if (strcmp(rv__json_key(v), prompt) == 0)
            return row;
    return -1;
}

/* ---- collecting rows until a tensor is complete ---- */

typedef struct gathered {
    struct gathered *next;
    const rv__tensor *want;
    float *data;
} gathered;

typedef struct collector {
    stage *stage;
    const char *prefix, *prompt;
    gathered *list;
} collector;

static gathered *gather(collector *c, const rv__tensor *want)
{
    for (gathered *g = c->list; g; g = g->next)
        if (g->want == want)
            return g;
    gathered *g = rv__calloc(1, sizeof *g);
    float *data = rv__calloc(rv__tensor_elements(want), sizeof *data);
    if (!g || !data) {
        rv__free(g);
        rv__free(data);
        rv__parity_fail_golden(c->stage->golden, want->name, "out of memory");
        return NULL;
    }
    *g = (gathered){.next = c->list, .want = want, .data = data};
    c->list = g;
    return g;
}

/* Puts one prompt's values into the golden tensor PREFIX.NAME, whose axis 0 (axis 1 below layers)
 * counts prompts. */
static void place(collector *c, const char *what, const float *data, size_t n, size_t layers)
{
    char name[200];
    snprintf(name, sizeof name, "%s.%s", c->prefix, what);
    const rv__tensor *want = rv__golden_find(c->stage->golden, name);
    if (!want)
        return;
    size_t rows = (size_t)want->shape[layers > 1 ? 1 : 0], block = n / layers;
    int row = row_of(c->stage, name, c->prompt);
    if (row < 0 || (size_t)row >= rows)
        return;
    if (n * rows != rv__tensor_elements(want) || (layers > 1 && (size_t)want->shape[0] != layers)) {
        rv__parity_fail_golden(c->stage->golden, name, "%zu values per prompt do not fit its shape",
                               n);
        return;
    }
    gathered *g = gather(c, want);
    for (size_t layer = 0; g && layer < layers; layer++)
        memcpy(g->data + (layer * rows + (size_t)row) * block, data + layer * block,
               block * sizeof *data);
}

/* A tap is PREFIX.PROMPT.NAME, or a row of PREFIX.NAME. */
static void tap(void *user, const char *what, const struct ggml_tensor *t, const void *data)
{
    collector *c = user;
    size_t n = (size_t)ggml_nelements(t);
    char name[200];
    snprintf(name, sizeof name, "%s.%s.%s", c->prefix, c->prompt, what);
    if (rv__golden_find(c->stage->golden, name))
        rv__parity_check(c->stage->golden, name, data, n, RV_TOL_TEXT);
    place(c, what, data, n, 1);
}

static void check_gathered(collector *c)
{
    while (c->list) {
        gathered *g = c->list;
        rv__parity_check(c->stage->golden, g->want->name, g->data, rv__tensor_elements(g->want),
                         RV_TOL_TEXT);
        c->list = g->next;
        rv__free(g->data);
        rv__free(g);
    }
}

/* ---- ids ---- */

/* Row of the golden ids, as an encoder gets them; the lists are borrowed.  CLIP has no mask: `ones`
 * stands in. */
static bool golden_ids(const rv__golden *g, const char *prefix, int row, int32_t *ones,
                       rv__token_ids *out)
{
    char name[64];
    snprintf(name, sizeof name, "%s.ids", prefix);
    const rv__tensor *ids = rv__golden_find(g, name);
    snprintf(name, sizeof name, "%s.mask", prefix);
    const rv__tensor *mask = rv__golden_find(g, name);
    if (!ids || ids->type != GGML_TYPE_I32 || ids->n_dims != 2 || row < 0 || row >= ids->shape[0] ||
        ids->shape[1] < 1 || ids->shape[1] > RV__TEXT_LENGTH_MAX)
        return false;
    if (mask && (mask->type != GGML_TYPE_I32 || mask->n_dims != 2 ||
                 mask->shape[0] != ids->shape[0] || mask->shape[1] != ids->shape[1]))
        return false;
    size_t length = (size_t)ids->shape[1];
    for (size_t i = 0; i < length; i++)
        ones[i] = 1;
    *out = (rv__token_ids){.ids = (int32_t *)(uintptr_t)ids->data + (size_t)row * length,
                           .mask = mask ? (int32_t *)(uintptr_t)mask->data + (size_t)row * length
                                        : ones,
                           .length = length,
                           .used = length,
                           .total = length};
    return true;
}

static size_t golden_length(const rv__golden *g, rv__text_part part)
{
    char name[64];
    snprintf(name, sizeof name, "%s.ids", prefixes[part]);
    const rv__tensor *ids = rv__golden_find(g, name);
    return ids && ids->n_dims == 2 && ids->shape[1] > 0 ? (size_t)ids->shape[1] : RV__TEXT_LENGTH;
}

/* Our ids and masks of all prompts beside the golden ones. */
static void check_ids(stage *s, const rv__text *text, rv__text_part part)
{
    char ids_name[64], mask_name[64];
    snprintf(ids_name, sizeof ids_name, "%s.ids", prefixes[part]);
    snprintf(mask_name, sizeof mask_name, "%s.mask", prefixes[part]);
    const rv__tensor *want = rv__golden_find(s->golden, ids_name);
    size_t n = want ? rv__tensor_elements(want) : 0, length = golden_length(s->golden, part);
    int32_t *ids = rv__calloc(n, sizeof *ids), *mask = rv__calloc(n, sizeof *mask);
    if (!want || !ids || !mask)
        rv__parity_fail_golden(s->golden, ids_name, want ? "out of memory" : "is missing");
    for (const rv__value *v = rv__json_first(s->prompts); v && want && ids && mask;
         v = rv__json_next(v)) {
        const char *prompt = rv__json_string(v);
        int row = row_of(s, ids_name, rv__json_key(v));
        rv_error err;
        rv__token_ids got;
        if (row < 0 || (size_t)row * length >= n || !prompt)
            continue;
        if (rv__text_tokenize(text, part, prompt, strlen(prompt), length, &got, &err)) {
            rv__parity_fail_golden(s->golden, ids_name, "%s", err.message);
            continue;
        }
        for (size_t i = 0; i < got.length && i < length; i++) {
            ids[(size_t)row * length + i] = got.ids[i];
            mask[(size_t)row * length + i] = got.mask[i];
        }
        rv__token_ids_free(&got);
    }
    if (want && ids && mask) {
        rv__parity_check_i32(s->golden, ids_name, ids, n, RV_TOL_EXACT);
        if (rv__golden_find(s->golden, mask_name))
            rv__parity_check_i32(s->golden, mask_name, mask, n, RV_TOL_EXACT);
    }
    rv__free(ids);
    rv__free(mask);
}

/* ---- an encoder's tensors ---- */

static void check_constants(stage *s, const encoder *e)
{
    rv_error err;
    char name[64];
    snprintf(name, sizeof name, "%s.inv_freq", prefixes[e->part]);
    if (e->llama && rv__golden_find(s->golden, name)) {
        int64_t count;
        const float *frequencies = rv__llama_frequencies(e->llama, &count);
        rv__parity_check(s->golden, name, frequencies, (size_t)count, RV_TOL_TEXT);
    }
    snprintf(name, sizeof name, "%s.position_bias", prefixes[e->part]);
    const rv__tensor *want = rv__golden_find(s->golden, name);
    if (!e->t5 || !want)
        return;
    size_t width = (size_t)want->shape[want->n_dims - 1], heads = (size_t)rv__t5_heads(e->t5);
    float *bias = rv__alloc(width * heads * sizeof *bias);
    if (width % 2 == 0 || rv__tensor_elements(want) != width * heads)
        rv__parity_fail_golden(s->golden, name, "its shape is not (heads, odd number)");
    else if (!bias || rv__t5_position_bias(e->t5, width / 2 + 1, bias, &err))
        rv__parity_fail_golden(s->golden, name, "out of memory");
    else
        rv__parity_check(s->golden, name, bias, width * heads, RV_TOL_TEXT);
    rv__free(bias);
}

/* Runs one prompt twice: with taps, and as the pipeline does. */
static void run_prompt(collector *c, encoder *e, int row)
{
    int32_t ones[RV__TEXT_LENGTH_MAX];
    rv__token_ids ids;
    rv_error err;
    char name[64];
    snprintf(name, sizeof name, "%s.%s", c->prefix, result_name(e->part));
    if (!golden_ids(c->stage->golden, c->prefix, row, ones, &ids)) {
        rv__parity_fail_golden(c->stage->golden, name, "the golden ids are missing or misshapen");
        return;
    }
    size_t n = result_size(e, ids.length);
    float *out = rv__alloc(n * sizeof *out);
    rv__text_run tapped = {.tokens = &ids, .taps = tap, .taps_user = c}, plain = {.tokens = &ids};
    if (!out)
        rv__parity_fail_golden(c->stage->golden, name, "out of memory");
    else if (encoder_run(e, &tapped, out, &err) || encoder_run(e, &plain, out, &err))
        rv__parity_fail_golden(c->stage->golden, name, "%s: %s", c->prompt, err.message);
    else
        place(c, result_name(e->part), out, n, result_layers(e));
    rv__free(out);
}

static void check_encoder(stage *s, rv__device *d, rv__text_part part)
{
    encoder e;
    rv_error err;
    char ids_name[64];
    collector c = {.stage = s, .prefix = prefixes[part]};
    snprintf(ids_name, sizeof ids_name, "%s.ids", prefixes[part]);
    if (encoder_open(&e, part, d, rv__parity_model(s->parity), &err)) {
        rv__parity_fail(s->parity, prefixes[part], "%s", err.message);
    } else {
        check_constants(s, &e);
        for (const rv__value *v = rv__json_first(s->prompts); v; v = rv__json_next(v)) {
            int row = row_of(s, ids_name, rv__json_key(v));
            c.prompt = rv__json_key(v);
            if (row >= 0)
                run_prompt(&c, &e, row);
        }
        check_gathered(&c);
    }
    encoder_close(&e);
}

/* Tensors of the whole text side: a pooled vector, whose description ends with the key of its
 * prompt. */
static void check_pooled(stage *s, rv__text *text, const char *name)
{
    const char *what = what_of(s, name), *key = strrchr(what, ' ');
    const char *prompt = rv__json_string(rv__json_get(s->prompts, key ? key + 1 : ""));
    rv_error err;
    rv__text_embeds embeds;
    rv__text_prompt one = {.text = prompt, .len = prompt ? strlen(prompt) : 0};
    size_t length = golden_length(s->golden, RV__CLIP_1);
    if (!prompt)
        rv__parity_fail_golden(s->golden, name, "cannot tell of which prompt it is");
    else if (rv__text_encode(text, &one, 1, length, false, &embeds, NULL, NULL, &err))
        rv__parity_fail_golden(s->golden, name, "%s", err.message);
    else {
        rv__parity_check(s->golden, name, embeds.pooled, (size_t)embeds.pooled_channels,
                         RV_TOL_TEXT);
        rv__text_embeds_free(&embeds);
    }
}

void rv__parity_text_encoders(rv__parity *p, rv__golden *g)
{
    const rv__value *manifest = rv__parity_manifest(p), *files = rv__json_get(manifest, "files");
    const rv__value *file = rv__json_get(files, "text_encoders.safetensors");
    stage s = {p, g, rv__json_get(file, "tensors"), rv__json_get(manifest, "prompts")};
    rv__device *device = NULL;
    rv__text *text = NULL;
    rv_error err;
    size_t count;
    const rv__tensor *list = rv__golden_list(g, &count);
    if (rv__device_open(0, &device, &err) ||
        rv__text_open(device, rv__parity_model(p), &text, &err)) {
        rv__parity_fail(p, "text_encoders", "%s", err.message);
        rv__device_close(device);
        return;
    }
    for (int i = 0; i < RV__TEXT_PARTS; i++) {
        check_ids(&s, text, (rv__text_part)i);
        check_encoder(&s, device, (rv__text_part)i);
    }
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(list[i].name);
        if (n >= 20 && strcmp(list[i].name + n - 20, "pooled_prompt_embeds") == 0)
            check_pooled(&s, text, list[i].name);
    }
    rv__text_close(text);
    rv__device_close(device);
}

/* ---- tokenizers.json ---- */

/* A JSON list as ids (rv__free); NULL when it is none. */
static int32_t *json_ids(const rv__value *list, size_t *count)
{
    *count = rv__json_size(list);
    int32_t *ids = rv__json_is_array(list) ? rv__alloc(*count * sizeof *ids) : NULL;
    size_t i = 0;
    for (const rv__value *v = ids ? rv__json_first(list) : NULL; v; v = rv__json_next(v)) {
        int64_t id = 0;
        if (!rv__json_int(v, &id) || id < INT32_MIN || id > INT32_MAX) {
            rv__free(ids);
            return NULL;
        }
        ids[i++] = (int32_t)id;
    }
    return ids;
}

static void compare_ids(rv__parity *p, const char *name, const rv__value *want, const int32_t *got,
                        size_t n)
{
    size_t count;
    int32_t *ids = json_ids(want, &count);
    if (!ids)
        rv__parity_fail(p, name, "the reference is not a list of ids");
    else if (count != n)
        rv__parity_fail(p, name, "%zu ids instead of %zu", n, count);
    else
        rv__parity_compare_i32(p, name, got, ids, n);
    rv__free(ids);
}

/* One text: `want` is a list of ids, or ids and mask of the padded form. */
static void check_case(rv__parity *p, const rv__text *t, rv__text_part part, const char *name,
                       const char *text, const rv__value *want)
{
    bool padded = rv__json_is_object(want);
    const rv__value *ids = padded ? rv__json_get(want, "ids") : want;
    char mask_name[160];
    rv__token_ids got;
    rv_error err;
    rv_status status;
    snprintf(mask_name, sizeof mask_name, "%s.mask", name);
    if (padded)
        status = rv__text_tokenize(t, part, text, strlen(text), rv__json_size(ids), &got, &err);
    else
        status =
            rv__tokenizer_encode(rv__text_tokenizer(t, part), text, strlen(text), 0, &got, &err);
    if (status) {
        rv__parity_fail(p, name, "%s", err.message);
        return;
    }
    compare_ids(p, name, ids, got.ids, got.length);
    if (padded)
        compare_ids(p, mask_name, rv__json_get(want, "mask"), got.mask, got.length);
    rv__token_ids_free(&got);
}

/* Which tokenizer a member is about; RV__TEXT_PARTS: none. */
static rv__text_part part_of(const char *key)
{
    for (int i = 0; i < RV__TEXT_PARTS; i++)
        if (strcmp(key, rv__text_tokenizer_name((rv__text_part)i)) == 0)
            return (rv__text_part)i;
    return RV__TEXT_PARTS;
}

static void check_cases(rv__parity *p, const rv__text *t, const char *group, const rv__value *list)
{
    size_t number = 0;
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v), number++) {
        const char *text = rv__json_get_string(v, "text", NULL);
        for (const rv__value *m = rv__json_first(v); m; m = rv__json_next(m)) {
            const char *key = rv__json_key(m);
            rv__text_part part = part_of(key);
            char name[128];
            snprintf(name, sizeof name, "tokenizers.%s.%zu.%.40s", group, number, key);
            if (!text)
                rv__parity_fail(p, name, "the case has no text");
            else if (part < RV__TEXT_PARTS)
                check_case(p, t, part, name, text, m);
            else if (strcmp(key, "text") != 0 && strcmp(key, "prompt") != 0 &&
                     !strstr(key, "_sentencepiece"))
                rv__parity_fail(p, name, "unknown kind of case");
        }
    }
}

static void check_pads(rv__parity *p, const rv__text *t, const rv__value *pads)
{
    for (const rv__value *v = rv__json_first(pads); v; v = rv__json_next(v)) {
        rv__text_part part = part_of(rv__json_key(v));
        int64_t want = -1;
        char name[128];
        snprintf(name, sizeof name, "tokenizers.pad_ids.%.40s", rv__json_key(v));
        if (part == RV__TEXT_PARTS || !rv__json_int(v, &want)) {
            rv__parity_fail(p, name, "unknown kind of case");
            continue;
        }
        int32_t got = rv__tokenizer_pad(rv__text_tokenizer(t, part)), ref = (int32_t)want;
        rv__parity_compare_i32(p, name, &got, &ref, 1);
    }
}

void rv__parity_tokenizers(rv__parity *p, const rv__value *cases)
{
    rv__device *device = NULL;
    rv__text *text = NULL;
    rv_error err;
    if (rv__device_open(1, &device, &err) ||
        rv__text_open(device, rv__parity_model(p), &text, &err)) {
        rv__parity_fail(p, "tokenizers", "%s", err.message);
        rv__device_close(device);
        return;
    }
    for (const rv__value *v = rv__json_first(cases); v; v = rv__json_next(v)) {
        const char *key = rv__json_key(v);
        if (strcmp(key, "pad_ids") == 0)
            check_pads(p, text, v);
        else if (rv__json_is_array(v))
            check_cases(p, text, key, v);
        else if (strcmp(key, "what") != 0)
            rv__parity_fail(p, key, "unknown kind of case");
    }
    rv__text_close(text);
    rv__device_close(device);
}

/* ---- dtype-variants ---- */

static void compare_variant(rv__parity *p, const char *name, encoder *e, const rv__golden *text)
{
    int32_t ones[RV__TEXT_LENGTH_MAX];
    rv__token_ids ids;
    rv_error err;
    char tensor[64], label[200];
    size_t layers = result_layers(e);
    snprintf(tensor, sizeof tensor, "%s.%s", prefixes[e->part], result_name(e->part));
    const rv__tensor *want = rv__golden_find(text, tensor);
    size_t rows = want ? (size_t)want->shape[layers > 1 ? 1 : 0] : 0,
           total = rows ? rv__tensor_elements(want) : 0;
    float *all = rv__calloc(total, sizeof *all), *out = rv__calloc(total, sizeof *out);
    bool good = rows && all && out && want->type == GGML_TYPE_F32;
    snprintf(label, sizeof label, "%s.%s", name, tensor);
    for (size_t row = 0; row < rows && good; row++) {
        size_t n = 0;
        good = golden_ids(text, prefixes[e->part], (int)row, ones, &ids);
        if (good)
            n = result_size(e, ids.length);
        good = good && n * rows == total &&
               encoder_run(e, &(rv__text_run){.tokens = &ids}, out, &err) == RV_OK;
        size_t block = n / layers;
        for (size_t layer = 0; layer < layers && good; layer++)
            memcpy(all + (layer * rows + row) * block, out + layer * block, block * sizeof *all);
    }
    if (good)
        rv__parity_compare(p, label, all, want->data, total, RV_TOL_TEXT);
    else
        rv__parity_fail(p, label, "it cannot be run on the golden ids");
    rv__free(all);
    rv__free(out);
}

void rv__parity_dtype_variant(rv__parity *p, const char *name, const char *part,
                              const rv__weights *variant, const rv__golden *text)
{
    rv__device *device = NULL;
    encoder e = {0};
    rv_error err;
    int which = 0;
    while (which < RV__TEXT_PARTS && strcmp(part, rv__text_name((rv__text_part)which)) != 0)
        which++;
    if (which == RV__TEXT_PARTS)
        rv__parity_fail(p, name, "no text encoder is called %s", part);
    else if (rv__device_open(0, &device, &err) ||
             encoder_open(&e, (rv__text_part)which, device, variant, &err))
        rv__parity_fail(p, name, "%s", err.message);
    else
        compare_variant(p, name, &e, text);
    encoder_close(&e);
    rv__device_close(device);
}
