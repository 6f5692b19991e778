/* Normalizers of tokenizers: the steps that rewrite the whole text before it is split. */
#include <string.h>

#include "tokenizer_text.h"
#include "unicode.h"

static rv_status load_content(rv__normalizer_step *step, const rv__value *json, const char *key,
                              const char *file, rv_error *err)
{
    const char *content = rv__json_string(rv__json_get(json, key));
    if (!content || strlen(content) > RV__TOKENIZER_STEPS_MAX * 4)
        return rv__fail(err, RV_FORMAT, "%s: \"%s\" of a normalizer is missing or too long", file,
                        key);
    step->content = rv__strdup(content);
    return step->content ? RV_OK : rv__fail(err, RV_MEMORY, "%s: out of memory", file);
}

static rv_status load_charsmap(rv__normalizer_step *step, const rv__value *json, const char *file,
                               rv_error *err)
{
    const char *text = rv__json_string(rv__json_get(json, "precompiled_charsmap"));
    if (!text)
        return rv__fail(err, RV_FORMAT, "%s: precompiled_charsmap is missing", file);
    return rv__charsmap_new_base64(text, file, &step->map, err);
}

static bool is_form(const char *type, int *form)
{
    static const char *const names[] = {"NFC", "NFD", "NFKC", "NFKD"};
    for (int i = 0; i < 4; i++)
        if (strcmp(type, names[i]) == 0) {
            *form = (int[]){RV__NFC, RV__NFD, RV__NFKC, RV__NFKD}[i];
            return true;
        }
    return false;
}

static rv_status load_step(rv__normalizer_step *step, const rv__value *json, const char *type,
                           const char *file, rv_error *err)
{
    *step = (rv__normalizer_step){.kind = RV__NORMALIZE_FORM};
    if (is_form(type, &step->form))
        return RV_OK;
    if (strcmp(type, "Lowercase") == 0) {
        step->kind = RV__NORMALIZE_LOWER;
        return RV_OK;
    }
    if (strcmp(type, "Strip") == 0) {
        step->kind = RV__NORMALIZE_STRIP;
        step->left = rv__json_get_bool(json, "strip_left", true);
        step->right = rv__json_get_bool(json, "strip_right", true);
        return RV_OK;
    }
    if (strcmp(type, "Replace") == 0) {
        step->kind = RV__NORMALIZE_REPLACE;
        rv_status status =
            rv__pattern_load(rv__json_get(json, "pattern"), file, &step->pattern, err);
        return status ? status : load_content(step, json, "content", file, err);
    }
    if (strcmp(type, "Prepend") == 0) {
        step->kind = RV__NORMALIZE_PREPEND;
        return load_content(step, json, "prepend", file, err);
    }
    if (strcmp(type, "Precompiled") == 0) {
        step->kind = RV__NORMALIZE_CHARSMAP;
        return load_charsmap(step, json, file, err);
    }
    return rv__fail(err, RV_UNSUPPORTED, "%s: normalizer \"%.40s\" is not known", file, type);
}

rv_status rv__normalizer_load(rv__normalizer *n, const rv__value *json, const char *file,
                              rv_error *err)
{
    if (!json || rv__json_is_null(json))
        return RV_OK;
    const char *type = rv__json_get_string(json, "type", "");
    if (strcmp(type, "Sequence") == 0) {
        rv_status status = RV_OK;
        const rv__value *list = rv__json_get(json, "normalizers");
        for (const rv__value *v = rv__json_first(list); v && !status; v = rv__json_next(v))
            status = rv__normalizer_load(n, v, file, err);
        return status;
    }
    if (n->count == RV__TOKENIZER_STEPS_MAX)
        return rv__fail(err, RV_UNSUPPORTED, "%s: more than %d normalizers", file,
                        RV__TOKENIZER_STEPS_MAX);
    return load_step(&n->steps[n->count++], json, type, file, err);
}

void rv__normalizer_free(rv__normalizer *n)
{
    for (size_t i = 0; i < n->count; i++) {
        rv__pattern_free(n->steps[i].pattern);
        rv__charsmap_free(n->steps[i].map);
        rv__free(n->steps[i].content);
    }
    *n = (rv__normalizer){0};
}

static void strip(const rv__normalizer_step *step, const char *text, size_t len, rv__buf *out)
{
    size_t start = 0, end = len;
    int32_t codepoint;
    while (step->left && start < end) {
        size_t n = rv__unicode_next(text + start, end - start, &codepoint);
        if (!rv__unicode_is_space(codepoint))
            break;
        start += n;
    }
    while (step->right && start < end) {
        size_t back = rv__unicode_back(text, end);
        rv__unicode_next(text + back, end - back, &codepoint);
        if (!rv__unicode_is_space(codepoint))
            break;
        end = back;
    }
    rv__buf_add(out, text + start, end - start);
}

static rv_status replace(const rv__normalizer_step *step, const char *text, size_t len,
                         rv__buf *out, rv__tokenizer_work *work, rv_error *err)
{
    rv__pattern_scan scan;
    size_t done = 0, start, end;
    bool found = true;
    rv_status status = rv__pattern_begin(&scan, step->pattern, text, len, err);
    while (!status && found && !out->failed) {
        status = rv__pattern_next(&scan, work, &found, &start, &end, err);
        if (status || !found)
            break;
        rv__buf_add(out, text + done, start - done);
        rv__buf_adds(out, step->content);
        done = end;
    }
    rv__buf_add(out, text + done, len - done);
    rv__pattern_end(&scan);
    return status;
}

static rv_status run_step(const rv__normalizer_step *step, const char *text, size_t len,
                          rv__buf *out, rv__tokenizer_work *work, rv_error *err)
{
    switch (step->kind) {
    case RV__NORMALIZE_FORM:
        rv__unicode_normalize((rv__unicode_form)step->form, text, len, out);
        break;
    case RV__NORMALIZE_LOWER:
        rv__unicode_lower(text, len, out);
        break;
    case RV__NORMALIZE_STRIP:
        strip(step, text, len, out);
        break;
    case RV__NORMALIZE_REPLACE:
        return replace(step, text, len, out, work, err);
    case RV__NORMALIZE_PREPEND:
        if (len)
            rv__buf_adds(out, step->content);
        rv__buf_add(out, text, len);
        break;
    case RV__NORMALIZE_CHARSMAP:
        rv__charsmap_run(step->map, text, len, out);
        break;
    }
    return RV_OK;
}

rv_status rv__normalizer_run(const rv__normalizer *n, rv__buf *io, rv__tokenizer_work *work,
                             rv_error *err)
{
    rv_status status = RV_OK;
    for (size_t i = 0; i < n->count && !status && !io->failed; i++) {
        rv__buf out;
        rv__buf_init(&out, RV__TOKENIZER_WORK_MAX);
        status = run_step(&n->steps[i], io->data ? io->data : "", io->len, &out, work, err);
        rv__buf_free(io);
        *io = out;
    }
    if (!status && io->failed)
        status = rv__fail(err, RV_MEMORY, "%s: the text becomes too long", work->file);
    return status;
}
