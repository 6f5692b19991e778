/* See ghost.h.  Pictures are brought to their size in a thread, a few times a second at most. */
#include "ghost.h"

#include <gio/gio.h>
#include <glib/gi18n-lib.h>
#include <string.h>

#include "canvas.h"

#define MARK "reverie-preview"

enum { PAUSE_US = 250000 };

struct grv_ghost {
    int image, layer; /* layer 0: not there yet; -1: the user has removed it */
    grv_rect place, area;
    uint8_t *coverage; /* of place; NULL: all of it */
    gint64 shown_us;
    bool is_busy, is_gone; /* a thread works on it; freed meanwhile */
};

/* One picture on its way through a thread. */
typedef struct frame {
    const grv_ghost *ghost;
    rv_image *preview;
    uint8_t *px; /* RGBA of the place */
} frame;

/* ---- in the thread ---- */

static uint8_t *pixels_of(const grv_ghost *g, rv_image *full)
{
    int channels = rv_image_facts(full).channels;
    const uint8_t *px = rv_image_pixels(full);
    size_t wide = (size_t)g->place.w, high = (size_t)g->place.h;
    uint8_t *out = px ? g_malloc_n(wide * high, 4) : NULL;
    for (size_t y = 0; out && y < high; y++)
        for (size_t x = 0; x < wide; x++) {
            size_t from = ((size_t)(g->place.y - g->area.y) + y) * (size_t)g->area.w +
                          (size_t)(g->place.x - g->area.x) + x;
            uint8_t *to = out + 4 * (y * wide + x);
            memcpy(to, px + from * (size_t)channels, 3);
            to[3] = g->coverage ? g->coverage[y * wide + x] : 255;
        }
    return out;
}

static void run_frame(GTask *t, gpointer source, gpointer data, GCancellable *c)
{
    frame *f = data;
    rv_image *full = NULL;
    if (rv_image_resize(f->preview, f->ghost->area.w, f->ghost->area.h, &full) == RV_OK)
        f->px = pixels_of(f->ghost, full);
    rv_image_unref(full);
    g_task_return_boolean(t, TRUE);
}

/* ---- in the image ---- */

static GimpLayer *make_layer(grv_ghost *g, GimpImage *image)
{
    GimpLayer **chosen = gimp_image_get_selected_layers(image);
    GimpLayer *layer =
        gimp_layer_new(image, _("Being painted"), g->place.w, g->place.h, GIMP_RGBA_IMAGE, 100.0,
                       gimp_image_get_default_new_layer_mode(image));
    GimpParasite *mark = gimp_parasite_new(MARK, GIMP_PARASITE_PERSISTENT, 2, "1");
    gimp_image_undo_freeze(image);
    bool ok = layer && gimp_image_insert_layer(image, layer, NULL, 0);
    if (ok) {
        gimp_layer_set_offsets(layer, g->place.x, g->place.y);
        gimp_item_attach_parasite(GIMP_ITEM(layer), mark);
        gimp_image_set_selected_layers(image, (const GimpLayer **)chosen);
    }
    gimp_image_undo_thaw(image);
    gimp_parasite_free(mark);
    g_free(chosen);
    g->layer = ok ? gimp_item_get_id(GIMP_ITEM(layer)) : -1;
    return ok ? layer : NULL;
}

static void remove_layer(GimpImage *image, GimpLayer *layer)
{
    gimp_image_undo_freeze(image);
    gimp_image_remove_layer(image, layer);
    gimp_image_undo_thaw(image);
}

static GimpLayer *layer_of(grv_ghost *g, bool make)
{
    if (g->layer < 0 || !gimp_image_id_is_valid(g->image))
        return NULL;
    if (g->layer && !gimp_item_id_is_valid(g->layer))
        g->layer = -1;
    if (g->layer > 0)
        return gimp_layer_get_by_id(g->layer);
    return make && g->layer == 0 ? make_layer(g, gimp_image_get_by_id(g->image)) : NULL;
}

static void destroy(grv_ghost *g)
{
    g_free(g->coverage);
    g_free(g);
}

static void on_frame(GObject *source, GAsyncResult *result, gpointer user)
{
    grv_ghost *g = user;
    frame *f = g_task_get_task_data(G_TASK(result));
    GimpLayer *layer = f->px && !g->is_gone ? layer_of(g, true) : NULL;
    g->is_busy = false;
    if (layer) {
        grv_picture p = {.pixels = f->px, .channels = 4, .place = g->place};
        grv_canvas_write(GIMP_DRAWABLE(layer), &p);
        gimp_displays_flush();
        g->shown_us = g_get_monotonic_time();
    }
    rv_image_unref(f->preview);
    g_free(f->px);
    g_free(f);
    if (g->is_gone)
        destroy(g);
}

/* ---- doors ---- */

grv_ghost *grv_ghost_new(const grv_scene *s)
{
    bool grows = s->grow_top || s->grow_right || s->grow_bottom || s->grow_left;
    bool is_there = s->image && gimp_image_id_is_valid(s->image);
    if (!is_there || grows ||
        gimp_image_get_base_type(gimp_image_get_by_id(s->image)) != GIMP_RGB)
        return NULL;
    grv_ghost *g = g_new0(grv_ghost, 1);
    size_t count = (size_t)s->place.w * (size_t)s->place.h;
    *g = (grv_ghost){.image = s->image, .place = s->place, .area = s->plan.area};
    g->coverage = s->coverage ? g_memdup2(s->coverage, count) : NULL;
    return g;
}

void grv_ghost_show(grv_ghost *g, rv_image *preview)
{
    if (!g || g->is_busy || g->layer < 0 || g_get_monotonic_time() - g->shown_us < PAUSE_US)
        return;
    frame *f = g_new0(frame, 1);
    GTask *t = g_task_new(NULL, NULL, on_frame, g);
    *f = (frame){g, rv_image_ref(preview), NULL};
    g->is_busy = true;
    g_task_set_task_data(t, f, NULL);
    g_task_run_in_thread(t, run_frame);
    g_object_unref(t);
}

void grv_ghost_free(grv_ghost *g)
{
    if (!g)
        return;
    GimpLayer *layer = layer_of(g, false);
    if (layer) {
        remove_layer(gimp_image_get_by_id(g->image), layer);
        gimp_displays_flush();
    }
    g->is_gone = true;
    if (!g->is_busy)
        destroy(g);
}

void grv_ghost_sweep(void)
{
    GimpImage **images = gimp_get_images();
    for (GimpImage **i = images; i && *i; i++) {
        GimpLayer **layers = gimp_image_get_layers(*i);
        for (GimpLayer **l = layers; l && *l; l++) {
            GimpParasite *mark = gimp_item_get_parasite(GIMP_ITEM(*l), MARK);
            if (mark)
                remove_layer(*i, *l);
            g_clear_pointer(&mark, gimp_parasite_free);
        }
        g_free(layers);
    }
    g_free(images);
}
