/* See preview.h. */
#include "preview.h"

#include <math.h>

#define STATE "reverie-preview"

enum { SQUARE = 8 };

typedef struct state {
    GdkPixbuf *picture, *before;
    cairo_surface_t *drawn[2]; /* those two at the size they are seen in; NULL: not yet */
    gboolean compares;
    double split;      /* 0..1 of the picture's width */
    double x, y, w, h; /* where the picture is drawn */
    char *hint;
} state;

static state *state_of(GtkWidget *w)
{
    return g_object_get_data(G_OBJECT(w), STATE);
}

static void forget_drawn(state *s)
{
    for (size_t i = 0; i < G_N_ELEMENTS(s->drawn); i++)
        g_clear_pointer(&s->drawn[i], cairo_surface_destroy);
}

static void free_state(void *p)
{
    state *s = p;
    forget_drawn(s);
    g_clear_object(&s->picture);
    g_clear_object(&s->before);
    g_free(s->hint);
    g_free(s);
}

/* ---- pixbufs ---- */

GdkPixbuf *grv_pixbuf_from_image(rv_image *i)
{
    rv_image_info f = rv_image_facts(i);
    const uint8_t *px = rv_image_pixels(i);
    if (!px)
        return NULL;
    gsize size = (gsize)f.width * (gsize)f.height * (gsize)f.channels;
    GBytes *bytes =
        g_bytes_new_with_free_func(px, size, (GDestroyNotify)rv_image_unref, rv_image_ref(i));
    GdkPixbuf *p = gdk_pixbuf_new_from_bytes(bytes, GDK_COLORSPACE_RGB, f.channels == 4, 8, f.width,
                                             f.height, f.width * f.channels);
    g_bytes_unref(bytes);
    return p;
}

GdkPixbuf *grv_pixbuf_from_rgb(const unsigned char *px, int width, int height)
{
    GBytes *bytes = g_bytes_new(px, (gsize)width * (gsize)height * 3);
    GdkPixbuf *p =
        gdk_pixbuf_new_from_bytes(bytes, GDK_COLORSPACE_RGB, FALSE, 8, width, height, width * 3);
    g_bytes_unref(bytes);
    return p;
}

GdkPixbuf *grv_pixbuf_thumbnail(GdkPixbuf *p, int side)
{
    int w = gdk_pixbuf_get_width(p), h = gdk_pixbuf_get_height(p);
    double scale = (double)side / MAX(w, h);
    return gdk_pixbuf_scale_simple(p, MAX(1, (int)lround(w * scale)),
                                   MAX(1, (int)lround(h * scale)), GDK_INTERP_BILINEAR);
}

/* ---- drawing ---- */

static void draw_squares(cairo_t *cr, const state *s)
{
    cairo_rectangle(cr, s->x, s->y, s->w, s->h);
    cairo_set_source_rgb(cr, 0.6, 0.6, 0.6);
    cairo_fill(cr);
    cairo_set_source_rgb(cr, 0.4, 0.4, 0.4);
    for (int y = 0; y * SQUARE < s->h; y++)
        for (int x = y % 2; x * SQUARE < s->w; x += 2)
            cairo_rectangle(cr, s->x + x * SQUARE, s->y + y * SQUARE,
                            MIN(SQUARE, s->w - x * SQUARE), MIN(SQUARE, s->h - y * SQUARE));
    cairo_fill(cr);
}

/* Scaling a large picture takes longer than a frame, so it is done once for each size. */
static cairo_surface_t *drawn(GtkWidget *w, state *s, gboolean before)
{
    GdkPixbuf *p = before ? s->before : s->picture;
    int factor = gtk_widget_get_scale_factor(w);
    int width = MAX(1, (int)s->w * factor), height = MAX(1, (int)s->h * factor);
    cairo_surface_t *made = s->drawn[before];
    if (made && cairo_image_surface_get_width(made) == width &&
        cairo_image_surface_get_height(made) == height)
        return made;
    g_clear_pointer(&s->drawn[before], cairo_surface_destroy);
    GdkPixbuf *scaled = gdk_pixbuf_scale_simple(p, width, height, GDK_INTERP_BILINEAR);
    if (scaled)
        s->drawn[before] =
            gdk_cairo_surface_create_from_pixbuf(scaled, factor, gtk_widget_get_window(w));
    g_clear_object(&scaled);
    return s->drawn[before];
}

static void draw_part(cairo_t *cr, const state *s, cairo_surface_t *surface, double from, double to)
{
    if (!surface)
        return;
    cairo_save(cr);
    cairo_rectangle(cr, s->x + from * s->w, s->y, (to - from) * s->w, s->h);
    cairo_clip(cr);
    cairo_set_source_surface(cr, surface, s->x, s->y);
    cairo_paint(cr);
    cairo_restore(cr);
}

static void draw_hint(GtkWidget *w, cairo_t *cr, const state *s)
{
    GtkStyleContext *style = gtk_widget_get_style_context(w);
    PangoLayout *layout = gtk_widget_create_pango_layout(w, s->hint ? s->hint : "");
    int width = gtk_widget_get_allocated_width(w), height = 0;
    pango_layout_set_width(layout, (width - 48) * PANGO_SCALE);
    pango_layout_set_alignment(layout, PANGO_ALIGN_CENTER);
    pango_layout_get_pixel_size(layout, NULL, &height);
    gtk_render_layout(style, cr, 24, (gtk_widget_get_allocated_height(w) - height) / 2.0, layout);
    g_object_unref(layout);
}

static gboolean on_draw(GtkWidget *w, cairo_t *cr, gpointer user)
{
    state *s = state_of(w);
    double aw = gtk_widget_get_allocated_width(w), ah = gtk_widget_get_allocated_height(w);
    gtk_render_background(gtk_widget_get_style_context(w), cr, 0, 0, aw, ah);
    if (!s->picture) {
        draw_hint(w, cr, s);
        return TRUE;
    }
    double pw = gdk_pixbuf_get_width(s->picture), ph = gdk_pixbuf_get_height(s->picture);
    double scale = fmin(aw / pw, ah / ph);
    s->w = floor(pw * scale);
    s->h = floor(ph * scale);
    s->x = floor((aw - s->w) / 2);
    s->y = floor((ah - s->h) / 2);
    draw_squares(cr, s);
    gboolean both = s->compares && s->before;
    if (both)
        draw_part(cr, s, drawn(w, s, TRUE), 0, s->split);
    draw_part(cr, s, drawn(w, s, FALSE), both ? s->split : 0, 1);
    if (both) {
        cairo_set_source_rgb(cr, 1, 1, 1);
        cairo_rectangle(cr, s->x + s->split * s->w - 1, s->y, 2, s->h);
        cairo_fill(cr);
    }
    return TRUE;
}

/* ---- the border ---- */

static void move_split(GtkWidget *w, double split)
{
    state *s = state_of(w);
    s->split = CLAMP(split, 0, 1);
    gtk_widget_queue_draw(w);
}

static gboolean on_pointer(GtkWidget *w, GdkEvent *event, gpointer user)
{
    state *s = state_of(w);
    double x = 0, y = 0;
    if (!s->compares || !gdk_event_get_coords(event, &x, &y) || s->w <= 0)
        return FALSE;
    gtk_widget_grab_focus(w);
    move_split(w, (x - s->x) / s->w);
    return TRUE;
}

static gboolean on_key(GtkWidget *w, GdkEventKey *event, gpointer user)
{
    state *s = state_of(w);
    double by = event->keyval == GDK_KEY_Left ? -0.05 : event->keyval == GDK_KEY_Right ? 0.05 : 0;
    if (!s->compares || by == 0)
        return FALSE;
    move_split(w, s->split + by);
    return TRUE;
}

/* ---- doors ---- */

GtkWidget *grv_preview_new(void)
{
    GtkWidget *w = gtk_drawing_area_new();
    state *s = g_new0(state, 1);
    s->split = 0.5;
    g_object_set_data_full(G_OBJECT(w), STATE, s, free_state);
    gtk_style_context_add_class(gtk_widget_get_style_context(w), GTK_STYLE_CLASS_VIEW);
    gtk_widget_set_size_request(w, 280, 240);
    gtk_widget_set_can_focus(w, TRUE);
    gtk_widget_add_events(w, GDK_BUTTON_PRESS_MASK | GDK_BUTTON1_MOTION_MASK | GDK_KEY_PRESS_MASK);
    g_signal_connect(w, "draw", G_CALLBACK(on_draw), NULL);
    g_signal_connect(w, "button-press-event", G_CALLBACK(on_pointer), NULL);
    g_signal_connect(w, "motion-notify-event", G_CALLBACK(on_pointer), NULL);
    g_signal_connect(w, "key-press-event", G_CALLBACK(on_key), NULL);
    return w;
}

void grv_preview_set(GtkWidget *w, GdkPixbuf *picture, GdkPixbuf *before)
{
    state *s = state_of(w);
    g_set_object(&s->picture, picture);
    g_set_object(&s->before, before);
    forget_drawn(s);
    gtk_widget_queue_draw(w);
}

void grv_preview_compare(GtkWidget *w, gboolean on)
{
    state_of(w)->compares = on;
    gtk_widget_queue_draw(w);
}

void grv_preview_hint(GtkWidget *w, const char *text)
{
    state *s = state_of(w);
    g_free(s->hint);
    s->hint = g_strdup(text);
    gtk_widget_queue_draw(w);
}
