/* Results into the image.  One undo group per insertion, opened only when everything is there: one
 * that stays open while an engine works would swallow the user's own edits. */
#include <glib/gi18n-lib.h>
#include <string.h>

#include "recipe.h"
#include "settings.h"
#include "work_internal.h"

enum { NAME_CHARS = 48 };

/* Where things are now. */
typedef struct spot {
    GimpImage *image;
    GimpLayer *parent; /* NULL: the image itself */
    int position;
    int dx, dy; /* how far the image has moved since the scene was taken */
} spot;

/* First words of the prompt, and the seed when it tells layers apart. */
static char *name_of(const grv_work *w, size_t i, bool with_seed)
{
    const char *prompt = grv_request_prompt(w->request);
    char *flat = g_strdup(*prompt ? prompt : grv_action_label(w->request->action));
    g_strdelimit(flat, "\r\n\t", ' ');
    glong chars = g_utf8_strlen(flat, -1);
    char *cut = g_utf8_substring(flat, 0, MIN(chars, NAME_CHARS));
    g_strstrip(cut);
    const char *more = chars > NAME_CHARS ? "…" : "";
    char *name =
        with_seed ? g_strdup_printf("%s%s (%" G_GUINT64_FORMAT ")", cut, more, grv_work_seed(w, i))
                  : g_strconcat(cut, more, NULL);
    g_free(flat);
    g_free(cut);
    return name;
}

static bool find_spot(const grv_work *w, GimpImage *made, spot *s, GError **error)
{
    const grv_scene *scene = &w->scene;
    *s = (spot){.image = made};
    if (made)
        return true;
    s->image = gimp_image_id_is_valid(scene->image) ? gimp_image_get_by_id(scene->image) : NULL;
    if (!s->image) {
        g_set_error(error, GRV_ERROR, RV_NOT_FOUND,
                    _("the image was closed; the result is in the history and can be opened as a "
                      "new image"));
        return false;
    }
    if (!scene->reference || !gimp_item_id_is_valid(scene->reference))
        return true;
    GimpItem *reference = gimp_item_get_by_id(scene->reference);
    int x = scene->at_x, y = scene->at_y;
    gimp_drawable_get_offsets(GIMP_DRAWABLE(reference), &x, &y);
    s->dx = x - scene->at_x;
    s->dy = y - scene->at_y;
    if (!scene->on_top) {
        s->parent = GIMP_LAYER(gimp_item_get_parent(reference));
        s->position = gimp_image_get_item_position(s->image, reference);
    }
    return true;
}

/* The canvas of an extension grows with the first result that is inserted, and again after an undo.
 */
static bool grow_canvas(const grv_work *w, spot *s, GError **error)
{
    const grv_scene *c = &w->scene;
    int more_w = c->grow_left + c->grow_right, more_h = c->grow_top + c->grow_bottom;
    grv_rect now = grv_canvas_rect(s->image);
    if (!more_w && !more_h)
        return true;
    bool is_small = now.w == c->bounds.w && now.h == c->bounds.h;
    if (is_small &&
        !gimp_image_resize(s->image, now.w + more_w, now.h + more_h, c->grow_left, c->grow_top)) {
        grv_canvas_reason(error, _("the canvas could not be extended"));
        return false;
    }
    /* Else the reference layer, which has moved with the canvas, tells by itself. */
    if (is_small || !c->reference || !gimp_item_id_is_valid(c->reference)) {
        s->dx += c->grow_left;
        s->dy += c->grow_top;
    }
    return true;
}

static GimpLayer *insert_one(grv_work *w, const spot *s, size_t i, const char *name, GError **error)
{
    rv_image *picture = grv_work_picture(w, i, error);
    if (!picture)
        return NULL;
    grv_rect place = w->scene.place;
    place.x += s->dx;
    place.y += s->dy;
    grv_picture p = {.pixels = rv_image_pixels(picture),
                     .channels = rv_image_facts(picture).channels,
                     .place = place,
                     .coverage = w->scene.coverage,
                     .name = name};
    GimpLayer *layer = grv_canvas_add(s->image, s->parent, s->position, &p, error);
    rv_image_unref(picture);
    char *keep = grv_settings_get("recipes", "on"), *recipe = grv_work_recipe(w, i);
    if (layer && recipe && strcmp(keep, "off") != 0)
        grv_recipe_attach(layer, recipe);
    g_free(keep);
    g_free(recipe);
    return layer;
}

/* The new layer takes the place, the name and the looks of the old one. */
static void replace(GimpImage *image, GimpLayer *old, GimpLayer *by)
{
    gimp_layer_set_opacity(by, gimp_layer_get_opacity(old));
    gimp_layer_set_mode(by, gimp_layer_get_mode(old));
    gimp_item_set_visible(GIMP_ITEM(by), gimp_item_get_visible(GIMP_ITEM(old)));
    gimp_image_remove_layer(image, old);
}

static bool insert_all(grv_work *w, spot *s, const size_t *which, size_t count, GimpLayer **layers,
                       GError **error)
{
    if (count > 1) {
        char *name = name_of(w, 0, false);
        GimpLayer *group = grv_canvas_add_group(s->image, s->parent, s->position, name);
        g_free(name);
        if (!group) {
            grv_canvas_reason(error, _("the layer group could not be made"));
            return false;
        }
        s->parent = group;
    }
    for (size_t k = 0; k < count; k++) {
        char *name = name_of(w, which[k], count > 1);
        if (count > 1)
            s->position = (int)k;
        layers[k] = insert_one(w, s, which[k], name, error);
        g_free(name);
        if (!layers[k])
            return false;
        if (k > 0)
            gimp_item_set_visible(GIMP_ITEM(layers[k]), FALSE);
    }
    return true;
}

GimpLayer **grv_work_insert(grv_work *w, GimpImage *made, const size_t *which, size_t count,
                            GimpLayer *replaced, GError **error)
{
    spot s;
    GimpLayer **layers = g_new0(GimpLayer *, count + 1);
    if (!find_spot(w, made, &s, error)) {
        g_free(layers);
        return NULL;
    }
    gimp_image_undo_group_start(s.image);
    bool ok = grv_canvas_check(s.image, w->request, true, error) && grow_canvas(w, &s, error) &&
              insert_all(w, &s, which, count, layers, error);
    if (ok && replaced)
        replace(s.image, replaced, layers[0]);
    if (ok) {
        const GimpLayer *chosen[] = {layers[0], NULL};
        gimp_image_set_selected_layers(s.image, chosen);
    }
    gimp_image_undo_group_end(s.image);
    gimp_displays_flush();
    if (ok)
        return layers;
    g_free(layers);
    return NULL;
}

/* ---- pictures of earlier sessions ---- */

static grv_rect kept_place(const cJSON *recipe, rv_image *picture)
{
    rv_image_info f = rv_image_facts(picture);
    const cJSON *at = cJSON_GetObjectItem(cJSON_GetObjectItem(recipe, "result"), "place");
    const cJSON *x = cJSON_GetArrayItem(at, 0), *y = cJSON_GetArrayItem(at, 1);
    return (grv_rect){cJSON_IsNumber(x) ? x->valueint : 0, cJSON_IsNumber(y) ? y->valueint : 0,
                      f.width, f.height};
}

GimpLayer *grv_work_insert_kept(GimpImage *image, rv_image *picture, const char *recipe,
                                GimpLayer *replaced, GError **error)
{
    grv_request *q = grv_request_parse(recipe, NULL);
    cJSON *all = cJSON_Parse(recipe);
    const char *prompt = q ? grv_request_prompt(q) : "";
    grv_picture p = {.pixels = rv_image_pixels(picture),
                     .channels = rv_image_facts(picture).channels,
                     .place = kept_place(all, picture),
                     .name = *prompt ? prompt : "Reverie"};
    grv_request *plain = q ? q : grv_request_new(GRV_GENERATE);
    GimpLayer *layer = NULL;
    gimp_image_undo_group_start(image);
    if (grv_canvas_check(image, plain, true, error))
        layer = grv_canvas_add(image, NULL, 0, &p, error);
    if (layer && q)
        grv_recipe_attach(layer, recipe);
    if (layer && replaced)
        replace(image, replaced, layer);
    gimp_image_undo_group_end(image);
    gimp_displays_flush();
    cJSON_Delete(all);
    grv_request_free(plain);
    return layer;
}
