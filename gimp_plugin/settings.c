/* See settings.h. */
#include "settings.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <libgimp/gimp.h>
#include <string.h>
#include <unistd.h>

static cJSON *all;

const char *grv_settings_folder(void)
{
    static char *folder;
    if (!folder)
        folder = g_build_filename(gimp_directory(), "reverie", NULL);
    g_mkdir_with_parents(folder, 0700);
    return folder;
}

static char *path_of(const char *name)
{
    return g_build_filename(grv_settings_folder(), name, NULL);
}

cJSON *grv_settings_all(void)
{
    if (all)
        return all;
    char *path = path_of("settings.json"), *text = NULL;
    if (g_file_get_contents(path, &text, NULL, NULL))
        all = cJSON_Parse(text);
    if (!cJSON_IsObject(all)) {
        cJSON_Delete(all);
        all = cJSON_CreateObject();
    }
    g_free(text);
    g_free(path);
    return all;
}

bool grv_settings_save(GError **error)
{
    char *path = path_of("settings.json"), *text = cJSON_Print(grv_settings_all());
    bool ok = g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, error);
    cJSON_free(text);
    g_free(path);
    return ok;
}

char *grv_settings_get(const char *name, const char *otherwise)
{
    const char *s =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(grv_settings_all(), name));
    return g_strdup(s && *s ? s : otherwise);
}

void grv_settings_set(const char *name, const char *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(grv_settings_all(), name);
    if (value && *value)
        cJSON_AddStringToObject(grv_settings_all(), name, value);
}

char *grv_settings_here(void)
{
    char *exe = g_file_read_link("/proc/self/exe", NULL);
    char *folder = g_path_get_dirname(exe ? exe : ".");
    g_free(exe);
    return folder;
}

static void add_folder(GPtrArray *folders, char *path)
{
    if (path && *path && g_file_test(path, G_FILE_TEST_IS_DIR))
        g_ptr_array_add(folders, path);
    else
        g_free(path);
}

char **grv_settings_model_folders(void)
{
    GPtrArray *folders = g_ptr_array_new();
    const char *named = g_getenv("REVERIE_MODELS");
    char **parts = g_strsplit(named ? named : "", ":", -1), *here = grv_settings_here();
    for (char **p = parts; *p; p++)
        add_folder(folders, g_strdup(*p));
    add_folder(folders, g_build_filename(here, "models", NULL));
    /* A folder of one's own comes beside the installed ones, which the library leaves out once any
     * is named. */
    char *own = path_of("models");
    if (g_file_test(own, G_FILE_TEST_IS_DIR) && !folders->len)
        add_folder(folders, g_strdup(GRV_MODELS_DIR));
    add_folder(folders, own);
    g_strfreev(parts);
    g_free(here);
    g_ptr_array_add(folders, NULL);
    return (char **)g_ptr_array_free(folders, FALSE);
}
