/* Results as thumbnails: those of this session, those of earlier ones, places for what is on its
 * way; and what can be done with them. */
#include <glib/gi18n-lib.h>
#include <string.h>

#include "preview.h"
#include "recipe.h"
#include "trace.h"
#include "window_internal.h"

#define ENTRY "reverie-entry"
#define WORK  "reverie-work"
#define INDEX "reverie-index"
#define BAR   "reverie-bar"

/* ---- thumbnails ---- */

static GtkWidget *child_new(GtkWidget *content)
{
    GtkWidget *child = gtk_flow_box_child_new();
    gtk_widget_set_size_request(content, GRV_THUMB, GRV_THUMB);
    gtk_container_add(GTK_CONTAINER(child), content);
    return child;
}

static const char *prompt_of(const grv_request *q)
{
    return q && *grv_request_prompt(q) ? grv_request_prompt(q) : _("(no prompt)");
}

/* A thumbnail on its way through a thread. */
typedef struct errand {
    rv_image *picture; /* NULL: that of the history */
    char *name;
} errand;

static void free_errand(void *p)
{
    errand *e = p;
    rv_image_unref(e->picture);
    g_free(e->name);
    g_free(e);
}

static void run_errand(GTask *t, gpointer image, gpointer data, GCancellable *c)
{
    errand *e = data;
    if (!e->picture)
        e->picture = grv_history_read(e->name);
    GdkPixbuf *full = e->picture ? grv_pixbuf_from_image(e->picture) : NULL;
    g_task_return_pointer(t, full ? grv_pixbuf_thumbnail(full, GRV_THUMB) : NULL, g_object_unref);
    g_clear_object(&full);
}

static void on_thumbnail(GObject *image, GAsyncResult *result, gpointer user)
{
    GdkPixbuf *p = g_task_propagate_pointer(G_TASK(result), NULL);
    if (p)
        gtk_image_set_from_pixbuf(GTK_IMAGE(image), p);
    else
        gtk_image_set_from_icon_name(GTK_IMAGE(image), "image-missing", GTK_ICON_SIZE_DIALOG);
    g_clear_object(&p);
}

static void begin_thumbnail(GtkWidget *image, const grv_entry *e)
{
    GTask *t = g_task_new(image, NULL, on_thumbnail, NULL);
    errand *data = g_new0(errand, 1);
    *data = (errand){e->picture ? rv_image_ref(e->picture) : NULL, g_strdup(e->name)};
    g_task_set_task_data(t, data, free_errand);
    g_task_set_priority(t, G_PRIORITY_DEFAULT_IDLE); /* layers and typing come first */
    g_task_run_in_thread(t, run_errand);
    g_object_unref(t);
}

static GtkWidget *entry_child(grv_entry *e)
{
    grv_request *q = grv_request_parse(e->recipe, NULL);
    GtkWidget *image = gtk_image_new(), *child = child_new(image);
    begin_thumbnail(image, e);
    gtk_widget_set_tooltip_text(child, prompt_of(q));
    atk_object_set_name(gtk_widget_get_accessible(child), prompt_of(q));
    g_object_set_data(G_OBJECT(child), ENTRY, e);
    grv_request_free(q);
    return child;
}

static GtkWidget *pending_child(grv_work *work, size_t i)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 6), *spinner = gtk_spinner_new();
    GtkWidget *bar = gtk_progress_bar_new(), *child = child_new(box);
    gtk_spinner_start(GTK_SPINNER(spinner));
    gtk_widget_set_size_request(spinner, 28, 28);
    gtk_box_pack_start(GTK_BOX(box), spinner, TRUE, FALSE, 0);
    gtk_box_pack_end(GTK_BOX(box), bar, FALSE, FALSE, 0);
    gtk_style_context_add_class(gtk_widget_get_style_context(box), GTK_STYLE_CLASS_FRAME);
    gtk_widget_set_tooltip_text(child, prompt_of(grv_work_request(work)));
    g_object_set_data(G_OBJECT(child), WORK, work);
    g_object_set_data(G_OBJECT(child), INDEX, GSIZE_TO_POINTER(i));
    g_object_set_data(G_OBJECT(child), BAR, bar);
    return child;
}

typedef struct search {
    const grv_work *work;
    size_t index;
    bool any_index;
    GtkWidget *found;
    int position, at;
} search;

static void match(GtkWidget *child, gpointer user)
{
    search *s = user;
    bool is_it =
        g_object_get_data(G_OBJECT(child), WORK) == s->work &&
        (s->any_index || GPOINTER_TO_SIZE(g_object_get_data(G_OBJECT(child), INDEX)) == s->index);
    if (!s->found && is_it) {
        s->found = child;
        s->position = s->at;
    }
    s->at++;
}

static GtkWidget *find_pending(grv_window *w, const grv_work *work, size_t i, bool any,
                               int *position)
{
    search s = {.work = work, .index = i, .any_index = any};
    gtk_container_foreach(GTK_CONTAINER(w->strip), match, &s);
    if (position)
        *position = s.position;
    return s.found;
}

void grv_strip_expect(grv_window *w, grv_work *work)
{
    for (size_t i = grv_work_wanted(work); i-- > 0;)
        gtk_flow_box_insert(GTK_FLOW_BOX(w->strip), pending_child(work, i), 0);
    gtk_widget_show_all(w->strip);
}

void grv_strip_progress(grv_window *w, grv_work *work, size_t i, double fraction)
{
    GtkWidget *child = find_pending(w, work, i, false, NULL);
    if (child)
        gtk_progress_bar_set_fraction(g_object_get_data(G_OBJECT(child), BAR),
                                      CLAMP(fraction, 0, 1));
}

void grv_strip_arrived(grv_window *w, grv_work *work, size_t i)
{
    int position = 0;
    GtkWidget *pending = find_pending(w, work, i, false, &position);
    grv_entry *e = grv_history_add(work, i);
    if (pending)
        gtk_widget_destroy(pending);
    if (!e)
        return;
    GtkWidget *child = entry_child(e);
    g_ptr_array_insert(w->entries, 0, e);
    gtk_flow_box_insert(GTK_FLOW_BOX(w->strip), child, pending ? position : 0);
    gtk_widget_show_all(child);
}

void grv_strip_forget(grv_window *w, grv_work *work)
{
    for (GtkWidget *c = find_pending(w, work, 0, true, NULL); c;
         c = find_pending(w, work, 0, true, NULL))
        gtk_widget_destroy(c);
}

void grv_strip_load(grv_window *w)
{
    GPtrArray *earlier = grv_history_load(GRV_ENTRIES);
    g_ptr_array_set_free_func(earlier, NULL);
    for (guint i = 0; i < earlier->len; i++) {
        grv_entry *e = g_ptr_array_index(earlier, i);
        g_ptr_array_add(w->entries, e);
        gtk_flow_box_insert(GTK_FLOW_BOX(w->strip), entry_child(e), -1);
    }
    g_ptr_array_unref(earlier);
    gtk_widget_show_all(w->strip);
}

/* ---- selection ---- */

static void collect(GtkFlowBox *box, GtkFlowBoxChild *child, gpointer list)
{
    grv_entry *e = g_object_get_data(G_OBJECT(child), ENTRY);
    if (e)
        g_ptr_array_add(list, e);
}

GPtrArray *grv_strip_selected(grv_window *w)
{
    GPtrArray *list = g_ptr_array_new();
    gtk_flow_box_selected_foreach(GTK_FLOW_BOX(w->strip), collect, list);
    return list;
}

/* What was there before: another result that is selected too, else what the model started from. */
static GdkPixbuf *before_of(GPtrArray *selected)
{
    grv_entry *e = g_ptr_array_index(selected, 0);
    if (selected->len > 1) {
        rv_image *other = grv_entry_picture(g_ptr_array_index(selected, 1));
        return other ? grv_pixbuf_from_image(other) : NULL;
    }
    const grv_scene *s = e->work ? grv_work_scene(e->work) : NULL;
    if (!s || !s->picture)
        return NULL;
    GdkPixbuf *all = grv_pixbuf_from_rgb(s->picture, s->plan.area.w, s->plan.area.h);
    GdkPixbuf *part = gdk_pixbuf_new_subpixbuf(all, s->place.x - s->plan.area.x,
                                               s->place.y - s->plan.area.y, s->place.w, s->place.h);
    g_object_unref(all);
    return part;
}

static char *caption_of(const grv_entry *e)
{
    grv_request *q = grv_request_parse(e->recipe, NULL);
    const char *seed = q ? cJSON_GetStringValue(cJSON_GetObjectItem(q->task, "seed")) : NULL;
    rv_image_info f = e->picture ? rv_image_facts(e->picture) : (rv_image_info){0};
    char *text = g_strdup_printf(_("%s · seed %s · %d × %d"), prompt_of(q), seed ? seed : "?",
                                 f.width, f.height);
    grv_request_free(q);
    return text;
}

void grv_strip_show_selected(grv_window *w)
{
    GPtrArray *selected = grv_strip_selected(w);
    if (w->shown) {
        g_ptr_array_unref(selected);
        return; /* the picture that is being made is looked at */
    }
    grv_entry *e = selected->len ? g_ptr_array_index(selected, 0) : NULL;
    rv_image *picture = e ? grv_entry_picture(e) : NULL;
    GdkPixbuf *p = picture ? grv_pixbuf_from_image(picture) : NULL;
    GdkPixbuf *before = p ? before_of(selected) : NULL;
    char *caption = p ? caption_of(e) : g_strdup("");
    grv_preview_set(w->preview, p, before);
    gtk_label_set_text(GTK_LABEL(w->caption), caption);
    gtk_widget_set_sensitive(w->compare, before != NULL);
    g_clear_object(&p);
    g_clear_object(&before);
    g_free(caption);
    g_ptr_array_unref(selected);
}

static void on_selection(GtkFlowBox *box, gpointer user)
{
    grv_window *w = user;
    w->shown = NULL;
    grv_strip_show_selected(w);
    grv_window_update(w);
}

static void on_activate(GtkFlowBox *box, GtkFlowBoxChild *child, gpointer user)
{
    grv_strip_insert(user, false);
}

void grv_strip_select(grv_window *w, guint number)
{
    GtkFlowBoxChild *child = gtk_flow_box_get_child_at_index(GTK_FLOW_BOX(w->strip), (int)number);
    if (!child)
        return;
    w->shown = NULL;
    gtk_flow_box_unselect_all(GTK_FLOW_BOX(w->strip));
    gtk_flow_box_select_child(GTK_FLOW_BOX(w->strip), child);
    grv_strip_show_selected(w);
}

GtkWidget *grv_strip_new(grv_window *w)
{
    GtkWidget *scroll = gtk_scrolled_window_new(NULL, NULL);
    w->strip = gtk_flow_box_new();
    gtk_flow_box_set_selection_mode(GTK_FLOW_BOX(w->strip), GTK_SELECTION_MULTIPLE);
    gtk_flow_box_set_activate_on_single_click(GTK_FLOW_BOX(w->strip), FALSE);
    gtk_flow_box_set_max_children_per_line(GTK_FLOW_BOX(w->strip), 60);
    gtk_flow_box_set_homogeneous(GTK_FLOW_BOX(w->strip), TRUE);
    gtk_widget_set_valign(w->strip, GTK_ALIGN_START);
    gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scroll), GTK_POLICY_NEVER,
                                   GTK_POLICY_AUTOMATIC);
    gtk_scrolled_window_set_shadow_type(GTK_SCROLLED_WINDOW(scroll), GTK_SHADOW_IN);
    gtk_widget_set_size_request(scroll, -1, GRV_THUMB + 26);
    gtk_container_add(GTK_CONTAINER(scroll), w->strip);
    atk_object_set_name(gtk_widget_get_accessible(w->strip), _("Results"));
    g_signal_connect(w->strip, "selected-children-changed", G_CALLBACK(on_selection), w);
    g_signal_connect(w->strip, "child-activated", G_CALLBACK(on_activate), w);
    return scroll;
}

/* ---- into the image ---- */

static void complain(grv_window *w, GError *error)
{
    grv_window_say(w, GTK_MESSAGE_ERROR, error->message);
    g_error_free(error);
}

/* A new image of the picture's size, with the layer that it wants. */
static GimpImage *image_for(int width, int height)
{
    GimpImage *image = gimp_image_new(width, height, GIMP_RGB);
    return image;
}

static void show_image(GimpImage *image)
{
    gimp_image_clean_all(image);
    gimp_display_new(image);
    gimp_displays_flush();
}

static bool is_of_new_image(const grv_work *work)
{
    return grv_work_scene(work)->image == 0;
}

static bool has_image(const grv_work *work)
{
    int id = grv_work_scene(work)->image;
    return id && gimp_image_id_is_valid(id);
}

static void note_layers(grv_window *w, grv_work *work, const size_t *which, size_t count,
                        GimpLayer **layers)
{
    for (size_t k = 0; k < count; k++)
        for (guint i = 0; i < w->entries->len; i++) {
            grv_entry *e = g_ptr_array_index(w->entries, i);
            if (e->work == work && e->index == which[k])
                e->layer = gimp_item_get_id(GIMP_ITEM(layers[k]));
        }
    grv_trace("inserted %d", (int)count);
}

static void insert_of_work(grv_window *w, grv_work *work, const size_t *which, size_t count,
                           GimpLayer *replaced)
{
    GError *error = NULL;
    grv_rect place = grv_work_scene(work)->place;
    GimpImage *image = is_of_new_image(work) ? image_for(place.w, place.h) : NULL;
    GimpLayer **layers = grv_work_insert(work, image, which, count, replaced, &error);
    if (!layers) {
        if (image)
            gimp_image_delete(image);
        complain(w, error);
        return;
    }
    if (image)
        show_image(image);
    note_layers(w, work, which, count, layers);
    g_free(layers);
}

/* Of an earlier session, or its image is gone. */
static void insert_kept(grv_window *w, grv_entry *e, GimpImage *image, GimpLayer *replaced)
{
    GError *error = NULL;
    rv_image *picture = grv_entry_picture(e);
    if (!picture) {
        grv_window_say(w, GTK_MESSAGE_ERROR, _("The file of this picture is gone."));
        return;
    }
    rv_image_info f = rv_image_facts(picture);
    bool is_new = image == NULL;
    if (is_new)
        image = image_for(f.width, f.height);
    GimpLayer *layer = grv_work_insert_kept(image, picture, e->recipe, replaced, &error);
    if (!layer) {
        if (is_new)
            gimp_image_delete(image);
        complain(w, error);
        return;
    }
    if (is_new) {
        gimp_layer_set_offsets(layer, 0, 0);
        show_image(image);
    }
    e->layer = gimp_item_get_id(GIMP_ITEM(layer));
    grv_trace("inserted 1");
}

void grv_strip_insert_work(grv_window *w, grv_work *work)
{
    size_t count = grv_work_wanted(work), *all = g_new0(size_t, count);
    for (size_t i = 0; i < count; i++)
        all[i] = i;
    insert_of_work(w, work, all, count, NULL);
    g_free(all);
}

void grv_strip_insert(grv_window *w, bool as_group)
{
    GPtrArray *selected = grv_strip_selected(w);
    grv_entry *first = selected->len ? g_ptr_array_index(selected, 0) : NULL;
    size_t *which = g_new0(size_t, selected->len + 1), count = 0;
    bool together =
        first && first->work && (has_image(first->work) || is_of_new_image(first->work));
    for (guint i = 0; i < selected->len; i++) {
        grv_entry *e = g_ptr_array_index(selected, i);
        together &= e->work == first->work;
        which[count++] = e->index;
    }
    if (together && as_group) {
        insert_of_work(w, first->work, which, count, NULL);
    } else {
        for (guint i = 0; i < selected->len; i++) {
            grv_entry *e = g_ptr_array_index(selected, i);
            if (e->work && (has_image(e->work) || is_of_new_image(e->work)))
                insert_of_work(w, e->work, &e->index, 1, NULL);
            else
                insert_kept(w, e, grv_window_image(w), NULL);
        }
    }
    g_free(which);
    g_ptr_array_unref(selected);
}

/* The selected layer, when it was generated. */
static GimpLayer *generated_layer(GimpImage *image)
{
    GimpLayer **layers = image ? gimp_image_get_selected_layers(image) : NULL;
    GimpLayer *layer = layers && layers[0] ? layers[0] : NULL;
    char *recipe = layer ? grv_recipe_text(GIMP_ITEM(layer)) : NULL;
    GimpLayer *found = recipe ? layer : NULL;
    g_free(recipe);
    g_free(layers);
    return found;
}

void grv_strip_replace(grv_window *w)
{
    GPtrArray *selected = grv_strip_selected(w);
    grv_entry *e = selected->len ? g_ptr_array_index(selected, 0) : NULL;
    GimpImage *image = e && e->work && has_image(e->work)
                           ? gimp_image_get_by_id(grv_work_scene(e->work)->image)
                           : grv_window_image(w);
    GimpLayer *old = generated_layer(image);
    if (!e)
        grv_window_say(w, GTK_MESSAGE_INFO, _("Choose a result first."));
    else if (!old)
        grv_window_say(w, GTK_MESSAGE_INFO,
                       _("Select the generated layer that is to be replaced."));
    else if (e->work && has_image(e->work))
        insert_of_work(w, e->work, &e->index, 1, old);
    else
        insert_kept(w, e, image, old);
    g_ptr_array_unref(selected);
}

void grv_strip_open(grv_window *w)
{
    GPtrArray *selected = grv_strip_selected(w);
    for (guint i = 0; i < selected->len; i++)
        insert_kept(w, g_ptr_array_index(selected, i), NULL, NULL);
    g_ptr_array_unref(selected);
}

/* ---- once more ---- */

static grv_work *work_of_recipe(grv_window *w, const grv_entry *e, bool same_seed, GError **error)
{
    grv_request *q = grv_request_parse(e->recipe, error);
    GimpImage *image = grv_window_image(w);
    GimpDrawable **drawables = image ? gimp_image_get_selected_drawables(image) : NULL;
    grv_work *work = NULL;
    if (q && !same_seed)
        grv_request_drop(q, "seed");
    if (q)
        work = grv_work_new(w->engine, image, drawables, q, error);
    g_free(drawables);
    grv_request_free(q);
    return work;
}

void grv_strip_again(grv_window *w, bool same_seed)
{
    GError *error = NULL;
    grv_jobs_clear(w);
    GPtrArray *selected = grv_strip_selected(w);
    grv_entry *e = selected->len ? g_ptr_array_index(selected, 0) : NULL;
    GimpLayer *layer = NULL;
    grv_work *work = NULL;
    if (e && e->layer && gimp_item_id_is_valid(e->layer))
        layer = gimp_layer_get_by_id(e->layer);
    else if (!e)
        layer = generated_layer(grv_window_image(w));
    if (layer)
        work = grv_work_again(w->engine, layer, same_seed, &error);
    else if (e)
        work = work_of_recipe(w, e, same_seed, &error);
    if (work)
        grv_jobs_start(w, work);
    else if (error)
        complain(w, error);
    else
        grv_window_say(w, GTK_MESSAGE_INFO, _("Choose a result or a generated layer first."));
    g_ptr_array_unref(selected);
}

void grv_strip_use(grv_window *w)
{
    GPtrArray *selected = grv_strip_selected(w);
    grv_entry *e = selected->len ? g_ptr_array_index(selected, 0) : NULL;
    grv_request *q = e ? grv_request_parse(e->recipe, NULL) : NULL;
    if (q)
        grv_form_load(w->form, q);
    grv_request_free(q);
    g_ptr_array_unref(selected);
}

static void delete_child(GtkWidget *child, gpointer user)
{
    grv_window *w = user;
    grv_entry *e = g_object_get_data(G_OBJECT(child), ENTRY);
    if (!e || !gtk_flow_box_child_is_selected(GTK_FLOW_BOX_CHILD(child)))
        return;
    gtk_widget_destroy(child);
    grv_entry_delete(e);
    g_ptr_array_remove(w->entries, e);
}

void grv_strip_delete(grv_window *w)
{
    gtk_container_foreach(GTK_CONTAINER(w->strip), delete_child, w);
    grv_strip_show_selected(w);
    grv_window_update(w);
}
