/* Styles and presets: words that a prompt is completed with, and whole forms under a name.  Our own
 * ones are a table, the user's are in the settings. */
#ifndef GRV_PRESETS_H
#define GRV_PRESETS_H

#include <glib.h>

typedef struct grv_style {
    const char *name; /* NULL ends the list */
    const char *words, *negative;
} grv_style;

extern const grv_style grv_styles[]; /* the first is none */

/* The prompt with the style's words (g_free). */
char *grv_style_apply(const grv_style *s, const char *prompt);

/* Requests that the user has named: names (g_strfreev); text of one (g_free), NULL: none; NULL text
 * removes. */
char **grv_presets_names(void);
char *grv_presets_get(const char *name);
void grv_presets_set(const char *name, const char *text);

#endif
