/* See scene.h. */
#include "scene.h"

#include <glib/gi18n-lib.h>
#include <string.h>

#include "canvas.h"

enum { LEAST_CONTEXT = 32 };

/* One white pixel: stands for a picture while a request is checked. */
#define PIXEL                                                                                      \
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAA"                                \
    "AADElEQVR42mP4//8/AAX+Av4zEpUUAAAAAElFTkSuQmCC"

void grv_scene_free(grv_scene *s)
{
    g_free(s->coverage);
    g_free(s->picture);
    g_free(s->mask);
    g_free(s->model);
    *s = (grv_scene){0};
}

static bool fail(GError **error, const char *why)
{
    g_set_error_literal(error, GRV_ERROR, RV_VALIDATION, why);
    return false;
}

/* ---- what may change ---- */

static void drop_full_coverage(grv_scene *s)
{
    if (s->coverage && grv_coverage_is_full(s->coverage, s->place.w, s->place.h))
        g_clear_pointer(&s->coverage, g_free);
}

/* Makes the place as small as what is covered. */
static bool shrink_to_coverage(grv_scene *s)
{
    grv_rect b = grv_coverage_bounds(s->coverage, s->place.w, s->place.h);
    if (grv_rect_is_empty(b))
        return false;
    uint8_t *cut = g_malloc((size_t)b.w * (size_t)b.h);
    for (int y = 0; y < b.h; y++)
        memcpy(cut + (size_t)y * (size_t)b.w,
               s->coverage + (size_t)(b.y + y) * (size_t)s->place.w + b.x, (size_t)b.w);
    g_free(s->coverage);
    s->coverage = cut;
    s->place = (grv_rect){s->place.x + b.x, s->place.y + b.y, b.w, b.h};
    return true;
}

/* 255 beyond the old picture; from its widened sides the new fades into the old. */
static void cover_border(grv_scene *s, grv_rect old, int feather)
{
    for (int y = 0; y < s->place.h; y++)
        for (int x = 0; x < s->place.w; x++) {
            int px = s->place.x + x - old.x, py = s->place.y + y - old.y, d = INT_MAX;
            d = s->grow_left ? MIN(d, px) : d;
            d = s->grow_right ? MIN(d, old.w - 1 - px) : d;
            d = s->grow_top ? MIN(d, py) : d;
            d = s->grow_bottom ? MIN(d, old.h - 1 - py) : d;
            int v = d < 0 ? 255 : d < feather ? 255 * (2 * (feather - d) - 1) / (2 * feather) : 0;
            s->coverage[(size_t)y * (size_t)s->place.w + (size_t)x] = (uint8_t)v;
        }
}

/* The same as a rectangle: what is added on each side, with what fades there. */
static grv_rect border_place(const grv_scene *s, int feather)
{
    grv_rect all = s->place, b = s->bounds, out = {0};
    int across = MIN(feather, b.w), down = MIN(feather, b.h);
    if (s->grow_left)
        out = grv_rect_join(out, (grv_rect){all.x, all.y, s->grow_left + across, all.h});
    if (s->grow_right)
        out = grv_rect_join(out, (grv_rect){b.w - across, all.y, s->grow_right + across, all.h});
    if (s->grow_top)
        out = grv_rect_join(out, (grv_rect){all.x, all.y, all.w, s->grow_top + down});
    if (s->grow_bottom)
        out = grv_rect_join(out, (grv_rect){all.x, b.h - down, all.w, s->grow_bottom + down});
    return out;
}

/* ---- places of the actions ---- */

static bool place_generate(GimpImage *image, GimpDrawable *layer, const grv_request *q,
                           grv_scene *s, GError **error)
{
    const char *target = grv_request_word(q, "target");
    int w = grv_request_int(q, "width"), h = grv_request_int(q, "height");
    bool is_selection = false, by_size = w > 0 || h > 0;
    grv_rect base = image ? grv_canvas_rect(image) : (grv_rect){0, 0, w, h};
    if ((w > 0) != (h > 0))
        return fail(error, _("width and height must be given together"));
    if (strcmp(target, "layer") == 0 && layer)
        base = grv_canvas_item_rect(GIMP_ITEM(layer));
    else if (image && (strcmp(target, "auto") == 0 || strcmp(target, "selection") == 0))
        is_selection = grv_canvas_selection(image, &base);
    if (!is_selection && strcmp(target, "selection") == 0)
        return fail(error, _("nothing is selected"));
    s->place =
        by_size ? (grv_rect){base.x + (base.w - w) / 2, base.y + (base.h - h) / 2, w, h} : base;
    if (grv_rect_is_empty(s->place))
        return fail(error, _("a new image needs width and height"));
    if (is_selection && !by_size && !s->is_outline)
        s->coverage = grv_canvas_coverage(image, s->place);
    return true;
}

static bool place_reimagine(GimpImage *image, GimpDrawable *layer, const grv_request *q,
                            grv_scene *s, GError **error)
{
    bool is_layer = strcmp(grv_request_word(q, "source"), "layer") == 0;
    if (is_layer && !layer)
        return fail(error, _("no layer is selected that could be reimagined"));
    s->bounds = is_layer ? grv_canvas_item_rect(GIMP_ITEM(layer)) : grv_canvas_rect(image);
    s->source = is_layer ? gimp_item_get_tattoo(GIMP_ITEM(layer)) : 0;
    s->on_top = !is_layer;
    s->place = s->bounds;
    grv_rect selected;
    if (grv_canvas_selection(image, &selected)) {
        s->place = grv_rect_meet(s->bounds, selected);
        if (grv_rect_is_empty(s->place))
            return fail(error, _("the selection does not touch what is to be reimagined"));
        if (s->is_outline)
            return true;
        s->coverage = grv_canvas_coverage(image, s->place);
    }
    return true;
}

static bool place_fill(GimpImage *image, const grv_request *q, grv_scene *s, GError **error)
{
    int grow = grv_request_int(q, "grow"), feather = grv_request_int(q, "feather");
    grv_rect selected;
    if (!grv_canvas_selection(image, &selected))
        return fail(error, _("nothing is selected: select what is to be filled"));
    s->bounds = grv_canvas_rect(image);
    s->place = grv_rect_meet(grv_rect_grow(selected, grow + feather), s->bounds);
    s->on_top = true;
    if (s->is_outline)
        return true;
    s->coverage = grv_canvas_coverage(image, s->place);
    grv_coverage_grow(s->coverage, s->place.w, s->place.h, grow);
    grv_coverage_feather(s->coverage, s->place.w, s->place.h, feather);
    return shrink_to_coverage(s) ||
           fail(error, _("nothing is selected: select what is to be filled"));
}

static bool place_extend(GimpImage *image, const grv_request *q, grv_scene *s, GError **error)
{
    s->bounds = grv_canvas_rect(image);
    s->grow_top = grv_request_int(q, "top");
    s->grow_right = grv_request_int(q, "right");
    s->grow_bottom = grv_request_int(q, "bottom");
    s->grow_left = grv_request_int(q, "left");
    if (!s->grow_top && !s->grow_right && !s->grow_bottom && !s->grow_left)
        return fail(error, _("choose at least one side and how many pixels are added there"));
    s->place = (grv_rect){-s->grow_left, -s->grow_top, s->bounds.w + s->grow_left + s->grow_right,
                          s->bounds.h + s->grow_top + s->grow_bottom};
    if (s->place.w > GIMP_MAX_IMAGE_SIZE || s->place.h > GIMP_MAX_IMAGE_SIZE)
        return fail(error, _("the canvas would be larger than GIMP can hold"));
    s->on_top = true;
    if (s->is_outline) {
        s->place = border_place(s, grv_request_int(q, "feather"));
        return true;
    }
    s->coverage = g_malloc((size_t)s->place.w * (size_t)s->place.h);
    cover_border(s, s->bounds, grv_request_int(q, "feather"));
    return shrink_to_coverage(s);
}

static bool read_rect(const cJSON *list, grv_rect *out)
{
    int v[4] = {0};
    for (int i = 0; i < 4; i++) {
        const cJSON *n = cJSON_GetArrayItem(list, i);
        if (!cJSON_IsNumber(n))
            return false;
        v[i] = n->valueint;
    }
    *out = (grv_rect){v[0], v[1], v[2], v[3]};
    return true;
}

/* Where the layer is now, with the mask it has now. */
static bool place_again(GimpImage *image, GimpLayer *layer, const cJSON *result, grv_scene *s)
{
    grv_rect all = grv_canvas_rect(image), old;
    s->place = grv_canvas_item_rect(GIMP_ITEM(layer));
    s->coverage = gimp_layer_get_mask(layer) ? grv_canvas_mask(layer, s->place) : NULL;
    s->bounds = all;
    if (read_rect(cJSON_GetObjectItem(result, "bounds"), &old)) {
        int dx = 0, dy = 0;
        grv_rect was;
        if (read_rect(cJSON_GetObjectItem(result, "place"), &was)) {
            dx = s->place.x - was.x;
            dy = s->place.y - was.y;
        }
        old = grv_rect_meet((grv_rect){old.x + dx, old.y + dy, old.w, old.h}, all);
        s->bounds = grv_rect_is_empty(old) ? all : old;
    }
    const cJSON *source = cJSON_GetObjectItem(result, "source");
    s->source = cJSON_IsNumber(source) ? (unsigned)source->valuedouble : 0;
    return true;
}

/* ---- what the model sees ---- */

static grv_rect with_context(const grv_scene *s, const grv_request *q)
{
    int context = grv_request_int(q, "context");
    int most = MAX(s->place.w, s->place.h) / 4;
    grv_rect room = grv_rect_join(s->bounds, s->place);
    return grv_rect_meet(grv_rect_grow(s->place, context >= 0 ? context : MAX(LEAST_CONTEXT, most)),
                         room);
}

static uint8_t *mask_of(const grv_scene *s)
{
    grv_rect a = s->plan.area, in = grv_rect_meet(a, s->place);
    uint8_t *mask = g_malloc0((size_t)a.w * (size_t)a.h);
    for (int y = 0; y < in.h; y++)
        for (int x = 0; x < in.w; x++) {
            size_t from = (size_t)(in.y - s->place.y + y) * (size_t)s->place.w +
                          (size_t)(in.x - s->place.x + x);
            size_t to = (size_t)(in.y - a.y + y) * (size_t)a.w + (size_t)(in.x - a.x + x);
            mask[to] = !s->coverage || s->coverage[from] ? 255 : 0;
        }
    return mask;
}

static void read_pictures(GimpImage *image, GimpItem *hidden, const grv_request *q, grv_scene *s)
{
    GimpLayer *source = s->source ? gimp_image_get_layer_by_tattoo(image, s->source) : NULL;
    if (source)
        s->picture = grv_canvas_layer(GIMP_DRAWABLE(source), s->plan.area);
    else
        s->picture = grv_canvas_visible(image, hidden, s->plan.area, s->bounds);
    if (q->action == GRV_FILL || q->action == GRV_EXTEND)
        s->mask = mask_of(s);
}

static bool find_place(GimpImage *image, GimpDrawable *layer, const grv_request *q,
                       GimpLayer *again, const cJSON *result, grv_scene *s, GError **error)
{
    if (again)
        return place_again(image, again, result, s);
    switch (q->action) {
    case GRV_REIMAGINE:
        return place_reimagine(image, layer, q, s, error);
    case GRV_FILL:
        return place_fill(image, q, s, error);
    case GRV_EXTEND:
        return place_extend(image, q, s, error);
    default:
        return place_generate(image, layer, q, s, error);
    }
}

static const char *model_of(grv_engine *e, const grv_request *q)
{
    const char *model = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(q->task, "model"));
    return model && *model ? model : grv_engine_model(e);
}

/* Everything but the pixels that the model sees. */
static bool look(grv_engine *e, GimpImage *image, GimpDrawable *layer, const grv_request *q,
                 GimpLayer *again, const cJSON *result, bool outline, grv_scene *s,
                 GError **error)
{
    grv_limits limits;
    bool takes_pictures = false, is_edit = q->action != GRV_GENERATE;
    const char *model = model_of(e, q);
    *s = (grv_scene){.image = image ? gimp_image_get_id(image) : 0,
                     .is_edit = is_edit,
                     .is_outline = outline};
    if (!image && is_edit)
        return fail(error, _("this needs an open image"));
    if (image && !grv_canvas_check(image, q, false, error))
        return false;
    if (!grv_engine_limits(e, model, &limits, &takes_pictures)) {
        g_set_error(error, GRV_ERROR, RV_NOT_FOUND, _("no model card of %s is installed here"),
                    model);
        return false;
    }
    if (is_edit && !takes_pictures) {
        g_set_error(error, GRV_ERROR, RV_UNSUPPORTED,
                    _("%s cannot start from a picture: choose a model that can, or generate"),
                    model);
        return false;
    }
    if (!find_place(image, layer, q, again, result, s, error)) {
        grv_scene_free(s);
        return false;
    }
    bool sees_around = q->action == GRV_FILL || q->action == GRV_EXTEND;
    s->plan = grv_plan_for(sees_around ? with_context(s, q) : s->place, &limits);
    s->model = g_strdup(model);
    return true;
}

static GimpDrawable *layer_of(GimpDrawable **drawables)
{
    return drawables && drawables[0] && GIMP_IS_LAYER(drawables[0]) ? drawables[0] : NULL;
}

bool grv_scene_outline(grv_engine *e, GimpImage *image, GimpDrawable **drawables,
                       const grv_request *q, grv_scene *s, GError **error)
{
    return look(e, image, layer_of(drawables), q, NULL, NULL, true, s, error);
}

bool grv_scene_take(grv_engine *e, GimpImage *image, GimpDrawable **drawables, const grv_request *q,
                    GimpLayer *again, const cJSON *result, grv_scene *s, GError **error)
{
    GimpDrawable *layer = layer_of(drawables);
    if (!look(e, image, layer, q, again, result, false, s, error))
        return false;
    GimpItem *reference = again ? GIMP_ITEM(again) : layer ? GIMP_ITEM(layer) : NULL;
    s->reference = reference ? gimp_item_get_id(reference) : 0;
    if (reference)
        gimp_drawable_get_offsets(GIMP_DRAWABLE(reference), &s->at_x, &s->at_y);
    if (s->is_edit)
        read_pictures(image, again ? GIMP_ITEM(again) : NULL, q, s);
    drop_full_coverage(s);
    return true;
}

/* ---- the request body ---- */

/* A picture of the working size as a data URI (g_free). */
static char *data_uri(const uint8_t *px, grv_rect area, int w, int h)
{
    rv_image *full = NULL, *small = NULL;
    void *bytes = NULL;
    size_t len = 0;
    char *uri = NULL;
    if (rv_image_from_pixels(px, area.w, area.h, 3, &full) == RV_OK &&
        rv_image_resize(full, w, h, &small) == RV_OK &&
        rv_image_encode(small, "PNG", 95, &bytes, &len, NULL) == RV_OK) {
        char *text = g_base64_encode(bytes, len);
        uri = g_strconcat("data:image/png;base64,", text, NULL);
        g_free(text);
    }
    rv_free(bytes);
    rv_image_unref(full);
    rv_image_unref(small);
    return uri;
}

static bool add_picture(cJSON *task, const char *member, const uint8_t *px, const grv_plan *p,
                        GError **error)
{
    char *uri = data_uri(px, p->area, p->w, p->h);
    if (!uri) {
        g_set_error(error, GRV_ERROR, RV_MEMORY, _("out of memory"));
        return false;
    }
    cJSON_AddStringToObject(task, member, uri);
    g_free(uri);
    return true;
}

static bool add_mask(cJSON *task, const grv_scene *s, GError **error)
{
    size_t count = (size_t)s->plan.area.w * (size_t)s->plan.area.h;
    uint8_t *rgb = g_malloc_n(count, 3);
    for (size_t i = 0; i < count; i++)
        memset(rgb + 3 * i, s->mask[i], 3);
    bool ok = add_picture(task, "maskImage", rgb, &s->plan, error);
    g_free(rgb);
    return ok;
}

/* Seeds come as texts, because they may be longer than a number of JSON readers; the wire has a
 * number. */
static bool set_seed(cJSON *task, GError **error)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(task, "seed"));
    if (!text)
        return true;
    size_t len = strlen(text);
    if (len > 20 || strspn(text, "0123456789") != len) {
        g_set_error(error, GRV_ERROR, RV_VALIDATION,
                    _("seed must be a whole number, or empty for any"));
        return false;
    }
    char *digits = g_strdup(text + (len > 1 ? strspn(text, "0") : 0));
    cJSON_DeleteItemFromObjectCaseSensitive(task, "seed");
    if (len)
        cJSON_AddRawToObject(task, "seed", *digits ? digits : "0");
    g_free(digits);
    return true;
}

static void set_defaults(cJSON *task, const grv_request *q, const char *model)
{
    char *uuid = g_uuid_string_random();
    cJSON_DeleteItemFromObjectCaseSensitive(task, "model");
    cJSON_AddStringToObject(task, "model", model ? model : "");
    cJSON_AddStringToObject(task, "taskType", "imageInference");
    cJSON_AddStringToObject(task, "taskUUID", uuid);
    g_free(uuid);
    if (q->action == GRV_GENERATE)
        return;
    if (!*grv_request_prompt(q)) { /* from the surroundings alone */
        cJSON_DeleteItemFromObjectCaseSensitive(task, "positivePrompt");
        cJSON_AddStringToObject(task, "positivePrompt", "__BLANK__");
    }
    bool is_masked = q->action != GRV_REIMAGINE;
    if (is_masked && !cJSON_HasObjectItem(task, "strength"))
        cJSON_AddNumberToObject(task, "strength", 1);
}

char *grv_scene_body(const grv_scene *s, const grv_request *q, bool pictures, GError **error)
{
    cJSON *task = cJSON_Duplicate(q->task, true), *body = cJSON_CreateArray();
    cJSON_AddItemToArray(body, task);
    set_defaults(task, q, s->model);
    cJSON_AddNumberToObject(task, "width", s->plan.w);
    cJSON_AddNumberToObject(task, "height", s->plan.h);
    bool ok = set_seed(task, error);
    if (ok && s->picture)
        ok = pictures ? add_picture(task, "seedImage", s->picture, &s->plan, error)
                      : cJSON_AddStringToObject(task, "seedImage", PIXEL) != NULL;
    if (ok && s->mask)
        ok = pictures ? add_mask(task, s, error)
                      : cJSON_AddStringToObject(task, "maskImage", PIXEL) != NULL;
    char *printed = ok ? cJSON_PrintUnformatted(body) : NULL, *text = g_strdup(printed);
    cJSON_free(printed);
    cJSON_Delete(body);
    return text;
}
