/* See presets.h. */
#include "presets.h"

#include <glib/gi18n-lib.h>

#include "settings.h"

const grv_style grv_styles[] = {
    {N_("No style"), "", ""},
    {N_("Photograph"), "photograph, natural light, sharp focus, fine detail", "drawing, painting"},
    {N_("Oil painting"), "oil painting on canvas, visible brush strokes, rich colours",
     "photograph"},
    {N_("Watercolour"), "watercolour painting, soft washes, white paper", "photograph"},
    {N_("Ink drawing"), "black ink drawing, confident lines, hatching", "colour, photograph"},
    {N_("Pencil sketch"), "pencil sketch on paper, light shading", "colour, photograph"},
    {N_("Flat illustration"), "flat vector illustration, clean shapes, few colours",
     "photograph, noise"},
    {N_("Isometric"), "isometric illustration, clean edges, soft shadows", "photograph"},
    {N_("Pixel art"), "pixel art, limited palette, crisp pixels", "blur, photograph"},
    {N_("Texture"), "seamless texture, even light, seen from above", "text, border, perspective"},
    {0}};

char *grv_style_apply(const grv_style *s, const char *prompt)
{
    if (!*s->words || !*prompt)
        return g_strdup(prompt);
    return g_strdup_printf("%s, %s", prompt, s->words);
}

static cJSON *presets(void)
{
    cJSON *all = grv_settings_all(), *list = cJSON_GetObjectItemCaseSensitive(all, "presets");
    return cJSON_IsObject(list) ? list : cJSON_AddObjectToObject(all, "presets");
}

char **grv_presets_names(void)
{
    GStrvBuilder *b = g_strv_builder_new();
    const cJSON *p = NULL;
    cJSON_ArrayForEach(p, presets()) g_strv_builder_add(b, p->string);
    GStrv names = g_strv_builder_end(b);
    g_strv_builder_unref(b);
    return names;
}

char *grv_presets_get(const char *name)
{
    return g_strdup(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(presets(), name)));
}

void grv_presets_set(const char *name, const char *text)
{
    cJSON_DeleteItemFromObjectCaseSensitive(presets(), name);
    if (text)
        cJSON_AddStringToObject(presets(), name, text);
    grv_settings_save(NULL);
}
