/* See history.h. */
#include "history.h"

#include <glib/gstdio.h>
#include <string.h>

#include "settings.h"

enum { MOST_FILES = 1000, FILE_MAX = 256 << 20 };

typedef struct errand {
    char *path, *recipe;
    rv_image *picture;
} errand;

static GThreadPool *pool;

static char *folder(void)
{
    char *path = g_build_filename(g_get_user_data_dir(), "reverie", "history", NULL);
    g_mkdir_with_parents(path, 0700);
    return path;
}

static char *path_of(const char *name, const char *ending)
{
    char *base = folder(), *file = g_strconcat(name, ending, NULL);
    char *path = g_build_filename(base, file, NULL);
    g_free(base);
    g_free(file);
    return path;
}

static void write_files(void *data, void *user)
{
    errand *e = data;
    char *png = g_strconcat(e->path, ".png", NULL), *json = g_strconcat(e->path, ".json", NULL);
    rv_image_save(e->picture, png, NULL);
    g_chmod(png, 0600);
    g_file_set_contents_full(json, e->recipe, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, NULL);
    rv_image_unref(e->picture);
    g_free(e->path);
    g_free(e->recipe);
    g_free(png);
    g_free(json);
    g_free(e);
}

static void store(const grv_entry *entry)
{
    char *keep = grv_settings_get("history", "on"), *base = folder();
    if (strcmp(keep, "off") != 0) {
        errand *e = g_new0(errand, 1);
        *e = (errand){g_build_filename(base, entry->name, NULL), g_strdup(entry->recipe),
                      rv_image_ref(entry->picture)};
        if (!pool)
            pool = g_thread_pool_new(write_files, NULL, 1, TRUE, NULL);
        g_thread_pool_push(pool, e, NULL);
    }
    g_free(keep);
    g_free(base);
}

grv_entry *grv_history_add(grv_work *w, size_t i)
{
    rv_image *picture = grv_work_picture(w, i, NULL);
    if (!picture)
        return NULL;
    grv_entry *e = g_new0(grv_entry, 1);
    char *uuid = g_uuid_string_random();
    /* Names sort by time. */
    e->name = g_strdup_printf("%016" G_GINT64_MODIFIER "x-%.8s", g_get_real_time(), uuid);
    e->recipe = grv_work_recipe(w, i);
    e->picture = picture;
    e->work = w;
    e->index = i;
    g_free(uuid);
    store(e);
    return e;
}

void grv_entry_free(void *entry)
{
    grv_entry *e = entry;
    if (!e)
        return;
    rv_image_unref(e->picture);
    g_free(e->name);
    g_free(e->recipe);
    g_free(e);
}

void grv_entry_delete(grv_entry *e)
{
    static const char *const endings[] = {".png", ".json"};
    for (size_t i = 0; i < G_N_ELEMENTS(endings); i++) {
        char *path = path_of(e->name, endings[i]);
        g_remove(path);
        g_free(path);
    }
}

rv_image *grv_history_read(const char *name)
{
    char *path = path_of(name, ".png"), *bytes = NULL;
    gsize len = 0;
    rv_image *picture = NULL;
    if (g_file_get_contents(path, &bytes, &len, NULL) && len <= FILE_MAX)
        rv_image_from_bytes(bytes, len, &picture, NULL);
    if (picture && !rv_image_pixels(picture))
        g_clear_pointer(&picture, rv_image_unref);
    g_free(bytes);
    g_free(path);
    return picture;
}

rv_image *grv_entry_picture(grv_entry *e)
{
    if (!e->picture)
        e->picture = grv_history_read(e->name);
    return e->picture;
}

static int by_name_backwards(gconstpointer a, gconstpointer b)
{
    return -strcmp(*(char *const *)a, *(char *const *)b);
}

GPtrArray *grv_history_load(guint most)
{
    char *base = folder();
    GDir *dir = g_dir_open(base, 0, NULL);
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    GPtrArray *entries = g_ptr_array_new_with_free_func(grv_entry_free);
    for (const char *n = dir ? g_dir_read_name(dir) : NULL; n; n = g_dir_read_name(dir)) {
        if (g_str_has_suffix(n, ".json"))
            g_ptr_array_add(names, g_strndup(n, strlen(n) - 5));
    }
    g_ptr_array_sort(names, by_name_backwards);
    for (guint i = 0; i < names->len; i++) {
        grv_entry *e = g_new0(grv_entry, 1);
        e->name = g_strdup(g_ptr_array_index(names, i));
        char *json = path_of(e->name, ".json");
        if (i >= MOST_FILES)
            grv_entry_delete(e);
        if (i < most && g_file_get_contents(json, &e->recipe, NULL, NULL))
            g_ptr_array_add(entries, e);
        else
            grv_entry_free(e);
        g_free(json);
    }
    if (dir)
        g_dir_close(dir);
    g_ptr_array_unref(names);
    g_free(base);
    return entries;
}

void grv_history_close(void)
{
    if (pool)
        g_thread_pool_free(pool, FALSE, TRUE);
    pool = NULL;
}
