/* Settings of the plug-in: one JSON file below GIMP's user folder, and where files of ours are.
 * Must never hold a key: see secret.h. */
#ifndef GRV_SETTINGS_H
#define GRV_SETTINGS_H

#include <cjson/cJSON.h>
#include <glib.h>
#include <stdbool.h>

/* Where settings are kept (borrowed); made when it is missing, for its owner only. */
const char *grv_settings_folder(void);

/* A text (g_free); otherwise when it is not set. */
char *grv_settings_get(const char *name, const char *otherwise);
void grv_settings_set(const char *name, const char *value);

/* The whole object (borrowed, may be changed); grv_settings_save writes it, whole or not at all. */
cJSON *grv_settings_all(void);
bool grv_settings_save(GError **error);

/* Folders with model cards that exist: those of $REVERIE_MODELS (separated by :), beside the
 * program, in the settings folder; empty: the installed ones count (g_strfreev). */
char **grv_settings_model_folders(void);

/* The folder of this program (g_free). */
char *grv_settings_here(void);

#endif
