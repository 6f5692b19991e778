/* A model whose parts lie in files of their own.  Must never take a file because it happens to lie
 * there: in a folder with several that could be meant, the owner has to say which. */
#include "weights_internal.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static const char *const parts[] = {"transformer",    "vae",            "text_encoder",
                                    "text_encoder_2", "text_encoder_3", "text_encoder_4"};
#define PARTS (sizeof parts / sizeof *parts)

static rv_status no_memory(const rv__weights *w, rv_error *err)
{
    return rv__fail(err, RV_MEMORY, "%.100s: out of memory", w->path);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static bool is_part(const char *name)
{
    for (size_t i = 0; i < PARTS; i++)
        if (strcmp(parts[i], name) == 0)
            return true;
    return false;
}

static rv_status read_config(rv__weights *w, const char *path, rv_error *err)
{
    return is_folder(path) ? rv__weights_read_files(w, path, err)
                           : rv__weights_read_gguf(w, path, "", err);
}

rv_status rv__weights_read_parts(rv__weights *w, const rv__value *paths, rv_error *err)
{
    rv_status status = RV_OK;
    if (!rv__json_is_object(paths))
        return rv__fail(err, RV_FORMAT, "weights: expected a path or an object of paths");
    for (const rv__value *v = rv__json_first(paths); v && status == RV_OK; v = rv__json_next(v)) {
        const char *part = rv__json_key(v), *path = rv__json_string(v);
        if (!path || !*path || (!is_part(part) && strcmp(part, "config") != 0))
            status = rv__fail(err, RV_FORMAT, "weights: \"%.80s\": %s", part,
                              path ? "no part of a model has this name" : "expected a path");
        else if (is_part(part) && is_folder(path))
            status = rv__weights_read_part(w, path, part, err);
        else if (is_part(part))
            status = rv__weights_read_file(w, path, part, err);
    }
    const char *config = rv__json_get_string(paths, "config", NULL);
    if (status == RV_OK && config) /* last, because what lies with a part is nearer to it */
        status = read_config(w, config, err);
    if (status == RV_OK)
        status = rv__weights_add_words(w, err);
    return status == RV_OK ? rv__weights_add_defaults(w, err) : status;
}

/* ---- ComfyUI's folders ---- */

/* Where ComfyUI keeps a part, and what the name of its file has in it. */
static const struct {
    const char *part, *folders[2], *words[2];
} places[] = {
    {"transformer", {"diffusion_models", "unet"}, {"hidream", "hidream"}},
    {"vae", {"vae", "vae"}, {"ae", "vae"}},
    {"text_encoder", {"text_encoders", "clip"}, {"clip_l", "clip-l"}},
    {"text_encoder_2", {"text_encoders", "clip"}, {"clip_g", "clip-g"}},
    {"text_encoder_3", {"text_encoders", "clip"}, {"t5", "t5"}},
    {"text_encoder_4", {"text_encoders", "clip"}, {"llama", "llama"}},
};

bool rv__weights_is_comfy(const char *folder)
{
    bool found = false;
    for (int i = 0; i < 2 && !found; i++) {
        char *path = rv__format("%s/%s", folder, places[0].folders[i]);
        found = path && is_folder(path);
        rv__free(path);
    }
    return found;
}

static bool is_meant(const char *name, const char *const words[2])
{
    return name[0] != '.' && (ends_with(name, ".safetensors") || ends_with(name, ".gguf")) &&
           (strcasestr(name, words[0]) || strcasestr(name, words[1]));
}

/* The one file of a folder that has one of the words in its name (out; rv__free), if any. */
static rv_status find_file(rv__weights *w, const char *folder, const char *part,
                           const char *const words[2], char **out, rv_error *err)
{
    rv_status status = RV_OK;
    DIR *dir = opendir(folder);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e && status == RV_OK; e = readdir(dir)) {
        if (!is_meant(e->d_name, words))
            continue;
        if (*out)
            status = rv__fail(err, RV_FORMAT,
                              "%.200s: several files could be the %s; name the files in the "
                              "model's card (\"weights\": {\"%s\": …})",
                              folder, part, part);
        else if (!(*out = rv__format("%s/%s", folder, e->d_name)))
            status = no_memory(w, err);
    }
    if (dir)
        closedir(dir);
    return status;
}

static rv_status read_place(rv__weights *w, size_t place, rv_error *err)
{
    char *file = NULL;
    rv_status status = RV_OK;
    for (int i = 0; i < 2 && !file && status == RV_OK; i++) {
        char *folder = rv__format("%s/%s", w->path, places[place].folders[i]);
        status = folder ? find_file(w, folder, places[place].part, places[place].words, &file, err)
                        : no_memory(w, err);
        rv__free(folder);
    }
    if (status == RV_OK && file)
        status = rv__weights_read_file(w, file, places[place].part, err);
    rv__free(file);
    return status;
}

rv_status rv__weights_read_comfy(rv__weights *w, rv_error *err)
{
    rv_status status = RV_OK;
    for (size_t i = 0; i < sizeof places / sizeof *places && status == RV_OK; i++)
        status = read_place(w, i, err);
    if (status == RV_OK)
        status = rv__weights_read_files(w, w->path, err);
    if (status == RV_OK)
        status = rv__weights_add_words(w, err);
    return status == RV_OK ? rv__weights_add_defaults(w, err) : status;
}

/* ---- what lacks ---- */

/* Whether the model has a file of this name or, ending in "/", any file below it. */
static bool has_file(const rv__weights *w, const char *path)
{
    size_t n = strlen(path);
    if (path[n - 1] != '/')
        return rv__weights_file(w, path, NULL) != NULL;
    for (size_t i = 0; rv__weights_file_name(w, i); i++)
        if (strncmp(rv__weights_file_name(w, i), path, n) == 0)
            return true;
    return false;
}

static void note(rv__buf *b, const char *name)
{
    rv__buf_addf(b, "%s%s", b->len ? ", " : "", name);
}

rv_status rv__weights_check(const rv__weights *w, rv_error *err)
{
    static const char *const files[] = {
        "model_index.json",           "scheduler/scheduler_config.json",
        "transformer/config.json",    "vae/config.json",
        "text_encoder/config.json",   "text_encoder_2/config.json",
        "text_encoder_3/config.json", "text_encoder_4/config.json",
        "tokenizer/",                 "tokenizer_2/",
        "tokenizer_3/",               "tokenizer_4/"};
    rv__buf lost;
    rv_status status = RV_OK;
    size_t count;
    rv__buf_init(&lost, 4096);
    for (size_t i = 0; i < PARTS; i++)
        if (!rv__weights_list(w, parts[i], &count))
            note(&lost, parts[i]);
    if (lost.len)
        status = rv__fail(err, RV_NOT_FOUND, "%.100s: no weights for: %s", w->path, lost.data);
    for (size_t i = 0; i < sizeof files / sizeof *files && status == RV_OK; i++)
        if (!has_file(w, files[i]))
            note(&lost, files[i]);
    if (status == RV_OK && lost.len)
        status = rv__fail(err, RV_NOT_FOUND,
                          "%.100s: there is no %s; take these from the model's repository, in "
                          "folders of these names, and name the folder they lie in as \"config\" "
                          "of the card's weights",
                          w->path, lost.data);
    if (status == RV_OK && lost.failed)
        status = no_memory(w, err);
    rv__buf_free(&lost);
    return status;
}
