/* See recipe.h. */
#include "recipe.h"

#include <glib/gi18n-lib.h>
#include <string.h>

enum { RECIPE_MAX = 64 << 10 };

/* What GIMP itself writes into images after interactive runs of procedures with arguments. */
static const char *const traces[] = {GRV_RECIPES, "GimpProcedureConfigRun-plug-in-reverie"};

static char *text_of(const GimpParasite *p)
{
    guint32 size = 0;
    const char *data = p ? gimp_parasite_get_data(p, &size) : NULL;
    if (!data || size == 0 || size > RECIPE_MAX ||
        !g_utf8_validate(data, (gssize)strnlen(data, size), NULL))
        return NULL;
    return g_strndup(data, size);
}

char *grv_recipe_text(GimpItem *layer)
{
    GimpParasite *p = gimp_item_get_parasite(layer, GRV_RECIPE);
    char *text = text_of(p);
    if (p)
        gimp_parasite_free(p);
    return text;
}

static GimpParasite *parasite(const char *name, const char *text)
{
    return gimp_parasite_new(name, GIMP_PARASITE_PERSISTENT | GIMP_PARASITE_UNDOABLE,
                             (guint32)strlen(text) + 1, text);
}

/* Merging layers keeps the lower one's recipe only, so the image remembers all, the oldest go
 * first. */
static void remember(GimpImage *image, const char *text)
{
    GimpParasite *p = gimp_image_get_parasite(image, GRV_RECIPES);
    char *before = text_of(p);
    cJSON *list = before ? cJSON_Parse(before) : NULL;
    if (!cJSON_IsArray(list)) {
        cJSON_Delete(list);
        list = cJSON_CreateArray();
    }
    cJSON_AddItemToArray(list, cJSON_Parse(text));
    char *all = cJSON_PrintUnformatted(list);
    while (all && strlen(all) >= RECIPE_MAX && cJSON_GetArraySize(list) > 1) {
        cJSON_DeleteItemFromArray(list, 0);
        cJSON_free(all);
        all = cJSON_PrintUnformatted(list);
    }
    GimpParasite *now = parasite(GRV_RECIPES, all ? all : "[]");
    gimp_image_attach_parasite(image, now);
    gimp_parasite_free(now);
    if (p)
        gimp_parasite_free(p);
    cJSON_free(all);
    cJSON_Delete(list);
    g_free(before);
}

void grv_recipe_attach(GimpLayer *layer, const char *text)
{
    if (strlen(text) >= RECIPE_MAX)
        return;
    GimpParasite *p = parasite(GRV_RECIPE, text);
    gimp_item_attach_parasite(GIMP_ITEM(layer), p);
    gimp_parasite_free(p);
    remember(gimp_item_get_image(GIMP_ITEM(layer)), text);
}

grv_request *grv_recipe_read(GimpItem *layer, cJSON **result, GError **error)
{
    char *text = grv_recipe_text(layer);
    if (!text) {
        g_set_error(error, GRV_ERROR, RV_NOT_FOUND,
                    _("the layer \"%s\" carries no recipe of Reverie"), gimp_item_get_name(layer));
        return NULL;
    }
    grv_request *q = grv_request_parse(text, error);
    if (q && result) {
        cJSON *all = cJSON_Parse(text);
        *result = cJSON_DetachItemFromObjectCaseSensitive(all, "result");
        cJSON_Delete(all);
    }
    g_free(text);
    return q;
}

/* ---- removing ---- */

static int strip_item(GimpItem *item)
{
    int count = 0;
    GimpParasite *p = gimp_item_get_parasite(item, GRV_RECIPE);
    if (p) {
        gimp_item_detach_parasite(item, GRV_RECIPE);
        gimp_parasite_free(p);
        count++;
    }
    if (!gimp_item_is_group(item))
        return count;
    GimpItem **children = gimp_item_get_children(item);
    for (GimpItem **c = children; c && *c; c++)
        count += strip_item(*c);
    g_free(children);
    return count;
}

int grv_recipe_strip(GimpImage *image)
{
    int count = 0;
    gimp_image_undo_group_start(image);
    GimpLayer **layers = gimp_image_get_layers(image);
    for (GimpLayer **l = layers; l && *l; l++)
        count += strip_item(GIMP_ITEM(*l));
    g_free(layers);
    char **names = gimp_image_get_parasite_list(image);
    for (char **n = names; n && *n; n++) {
        for (size_t i = 0; i < G_N_ELEMENTS(traces); i++) {
            if (g_str_has_prefix(*n, traces[i])) {
                gimp_image_detach_parasite(image, *n);
                count++;
                break;
            }
        }
    }
    g_strfreev(names);
    gimp_image_undo_group_end(image);
    return count;
}
