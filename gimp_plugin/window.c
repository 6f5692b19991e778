/* See window.h. */
#include "window.h"

#include <glib/gi18n-lib.h>
#include <libgimp/gimpui.h>
#include <string.h>

#include "preview.h"
#include "settings.h"
#include "settings_dialog.h"
#include "trace.h"
#include "unfinished.h"
#include "window_internal.h"

#define RAISE "plug-in-reverie-raise"
#define ROLE  "reverie"

enum { NEW_IMAGE = -1, FORM_WIDTH = 350, DESCRIBE_MS = 60 };

static grv_window *the_window; /* one per process: temporary procedures have no other way to it */

/* ---- the image ---- */

GimpImage *grv_window_image(grv_window *w)
{
    int id = 0;
    bool is_there = gimp_int_combo_box_get_active(GIMP_INT_COMBO_BOX(w->image), &id) && id > 0 &&
                    gimp_image_id_is_valid(id);
    return is_there ? gimp_image_get_by_id(id) : NULL;
}

static void describe_later(void *user);

/* What the list shows, as text (g_free). */
static char *names_of(GimpImage **all)
{
    GString *text = g_string_new(NULL);
    for (; all && *all; all++) {
        char *name = gimp_image_get_name(*all);
        g_string_append_printf(text, "%d %s\n", gimp_image_get_id(*all), name ? name : "");
        g_free(name);
    }
    return g_string_free(text, FALSE);
}

/* GIMP tells nobody about new images, so the list is looked after when the window gets the focus.
 * Making it asks GIMP for a thumbnail of each, so it is made only when it has changed. */
static void list_images(grv_window *w, GimpImage *wanted)
{
    GimpImage *now = wanted ? wanted : w->image ? grv_window_image(w) : NULL;
    GimpImage **all = gimp_get_images();
    char *names = names_of(all);
    bool is_same = w->image && g_strcmp0(names, w->image_names) == 0;
    g_free(w->image_names);
    w->image_names = names;
    if (is_same) {
        if (now)
            gimp_int_combo_box_set_active(GIMP_INT_COMBO_BOX(w->image), gimp_image_get_id(now));
        g_free(all);
        return;
    }
    if (!now && all && all[0] && !w->image)
        now = all[0];
    if (w->image)
        gtk_widget_destroy(w->image);
    w->image = gimp_image_combo_box_new(NULL, NULL, NULL);
    if (all && all[0])
        gimp_int_combo_box_append(GIMP_INT_COMBO_BOX(w->image), GIMP_INT_STORE_VALUE, NEW_IMAGE,
                                  GIMP_INT_STORE_LABEL, _("New image"), GIMP_INT_STORE_ICON_NAME,
                                  GIMP_ICON_DOCUMENT_NEW, -1);
    if (now)
        gimp_int_combo_box_set_active(GIMP_INT_COMBO_BOX(w->image), gimp_image_get_id(now));
    else if (all && all[0])
        gimp_int_combo_box_set_active(GIMP_INT_COMBO_BOX(w->image), NEW_IMAGE);
    g_free(all);
    gtk_widget_set_tooltip_text(w->image, _("The image that is worked on"));
    gtk_box_pack_start(GTK_BOX(w->image_box), w->image, TRUE, TRUE, 0);
    g_signal_connect_swapped(w->image, "changed", G_CALLBACK(describe_later), w);
    gtk_widget_show(w->image);
}

/* ---- what would happen ---- */

static char *sentence(grv_action a, const grv_scene *s)
{
    grv_rect p = s->place;
    char *made = p.w == s->plan.w && p.h == s->plan.h
                     ? g_strdup("")
                     : g_strdup_printf(_(", painted at %d × %d"), s->plan.w, s->plan.h);
    char *where = !s->image ? g_strdup_printf(_("a new image of %d × %d"), p.w, p.h)
                  : a == GRV_EXTEND
                      ? g_strdup_printf(_("%d × %d, canvas becomes %d × %d"), p.w, p.h,
                                        s->bounds.w + s->grow_left + s->grow_right,
                                        s->bounds.h + s->grow_top + s->grow_bottom)
                      : g_strdup_printf(_("%d × %d at %d, %d"), p.w, p.h, p.x, p.y);
    char *text = g_strdup_printf("%s: %s%s", grv_action_label(a), where, made);
    g_free(made);
    g_free(where);
    return text;
}

static gboolean describe(gpointer user)
{
    grv_window *w = user;
    GError *error = NULL;
    grv_scene s;
    w->describe_source = 0;
    grv_request *q = grv_form_request(w->form);
    GimpImage *image = grv_window_image(w);
    GimpDrawable **drawables = image ? gimp_image_get_selected_drawables(image) : NULL;
    bool ok = grv_scene_outline(w->engine, image, drawables, q, &s, &error);
    char *text = ok ? sentence(q->action, &s) : g_strdup(error->message);
    gtk_label_set_text(GTK_LABEL(w->describe), text);
    gtk_widget_set_sensitive(w->generate, ok);
    if (ok) {
        grv_trace("place of %s: %d x %d seen %d x %d", grv_action_word(q->action), s.place.w,
                  s.place.h, s.plan.area.w, s.plan.area.h);
        grv_scene_free(&s);
    }
    g_clear_error(&error);
    g_free(text);
    g_free(drawables);
    grv_request_free(q);
    return G_SOURCE_REMOVE;
}

static void describe_later(void *user)
{
    grv_window *w = user;
    if (w->form && !w->describe_source)
        w->describe_source = g_timeout_add(DESCRIBE_MS, describe, w);
}

/* ---- messages, buttons ---- */

void grv_window_say(grv_window *w, GtkMessageType kind, const char *text)
{
    gtk_info_bar_set_revealed(GTK_INFO_BAR(w->bar), text != NULL);
    if (!text)
        return;
    gtk_info_bar_set_message_type(GTK_INFO_BAR(w->bar), kind);
    gtk_label_set_text(GTK_LABEL(w->bar_label), text);
    grv_trace("said %s", kind == GTK_MESSAGE_ERROR ? "error" : "note");
}

void grv_window_update(grv_window *w)
{
    GPtrArray *selected = grv_strip_selected(w);
    bool any = selected->len > 0;
    GtkWidget *need_one[] = {w->insert, w->replace, w->more};
    for (size_t i = 0; i < G_N_ELEMENTS(need_one); i++)
        gtk_widget_set_sensitive(need_one[i], any);
    gtk_widget_set_sensitive(w->group, selected->len > 1);
    gtk_widget_set_sensitive(w->stop, grv_jobs_running(w) > 0);
    g_ptr_array_unref(selected);
}

/* ---- commands ---- */

static void generate(grv_window *w)
{
    GError *error = NULL;
    grv_jobs_clear(w);
    grv_request *q = grv_form_request(w->form);
    GimpImage *image = grv_window_image(w);
    GimpDrawable **drawables = image ? gimp_image_get_selected_drawables(image) : NULL;
    grv_work *work = grv_work_new(w->engine, image, drawables, q, &error);
    if (work) {
        grv_jobs_start(w, work);
        grv_form_sent(w->form);
    } else {
        grv_window_say(w, GTK_MESSAGE_ERROR, error->message);
        g_error_free(error);
    }
    g_free(drawables);
    grv_request_free(q);
}

static void on_insert(grv_window *w)
{
    grv_strip_insert(w, false);
}

static void on_group(grv_window *w)
{
    grv_strip_insert(w, true);
}

static void on_again(grv_window *w)
{
    grv_strip_again(w, true);
}

static void on_vary(grv_window *w)
{
    grv_strip_again(w, false);
}

static void on_stop(grv_window *w)
{
    grv_jobs_stop(w, false);
}

static void on_compare(GtkToggleButton *b, gpointer user)
{
    grv_preview_compare(((grv_window *)user)->preview, gtk_toggle_button_get_active(b));
}

static void on_settings(grv_window *w)
{
    if (grv_settings_dialog(GTK_WINDOW(w->window)))
        grv_window_say(w, GTK_MESSAGE_INFO,
                       _("The engine's address counts from the next start of this window."));
}

static void run_command(grv_window *w, const char *command, GimpImage *image)
{
    if (image)
        list_images(w, image);
    gtk_window_present(GTK_WINDOW(w->window));
    gtk_flow_box_unselect_all(GTK_FLOW_BOX(w->strip)); /* commands mean the image's layer */
    if (strcmp(command, "fill") == 0) {
        grv_form_set_action(w->form, GRV_FILL);
        generate(w);
    } else if (strcmp(command, "again") == 0) {
        grv_strip_again(w, true);
    } else if (strcmp(command, "vary") == 0) {
        grv_strip_again(w, false);
    }
    describe_later(w);
    grv_trace("raised");
}

/* ---- keyboard ---- */

typedef struct shortcut {
    guint key;
    GdkModifierType modifiers;
    void (*run)(grv_window *w);
} shortcut;

static void escape(grv_window *w)
{
    if (grv_jobs_running(w))
        grv_jobs_stop(w, false);
    else
        gtk_window_close(GTK_WINDOW(w->window));
}

static void stop_all(grv_window *w)
{
    grv_jobs_stop(w, true);
}

static void older(grv_window *w)
{
    grv_form_prompt_back(w->form, -1);
}

static void newer(grv_window *w)
{
    grv_form_prompt_back(w->form, 1);
}

static void dice(grv_window *w)
{
    grv_form_dice(w->form);
}

static void toggle_compare(grv_window *w)
{
    GtkToggleButton *b = GTK_TOGGLE_BUTTON(w->compare);
    if (gtk_widget_get_sensitive(w->compare))
        gtk_toggle_button_set_active(b, !gtk_toggle_button_get_active(b));
}

static void help(grv_window *w)
{
    grv_settings_help(GTK_WINDOW(w->window));
}

static const shortcut shortcuts[] = {
    {GDK_KEY_Return, GDK_CONTROL_MASK, generate},
    {GDK_KEY_KP_Enter, GDK_CONTROL_MASK, generate},
    {GDK_KEY_Escape, 0, escape},
    {GDK_KEY_Escape, GDK_SHIFT_MASK, stop_all},
    {GDK_KEY_Up, GDK_CONTROL_MASK, older},
    {GDK_KEY_Down, GDK_CONTROL_MASK, newer},
    {GDK_KEY_j, GDK_CONTROL_MASK, dice},
    {GDK_KEY_i, GDK_CONTROL_MASK, on_insert},
    {GDK_KEY_r, GDK_CONTROL_MASK, grv_strip_replace},
    {GDK_KEY_k, GDK_CONTROL_MASK, on_group},
    {GDK_KEY_g, GDK_CONTROL_MASK, on_again},
    {GDK_KEY_d, GDK_CONTROL_MASK, on_vary},
    {GDK_KEY_m, GDK_CONTROL_MASK, toggle_compare},
    {GDK_KEY_u, GDK_CONTROL_MASK, grv_strip_use},
    {GDK_KEY_o, GDK_CONTROL_MASK, grv_strip_open},
    {GDK_KEY_Delete, GDK_CONTROL_MASK, grv_strip_delete},
    {GDK_KEY_F1, 0, help},
};

static gboolean on_key(GtkWidget *widget, GdkEventKey *event, gpointer user)
{
    grv_window *w = user;
    guint state = event->state & (GDK_CONTROL_MASK | GDK_SHIFT_MASK | GDK_MOD1_MASK);
    guint key = gdk_keyval_to_lower(event->keyval);
    if (state == GDK_MOD1_MASK && key >= GDK_KEY_1 && key <= GDK_KEY_9) {
        grv_strip_select(w, key - GDK_KEY_1);
        return TRUE;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(shortcuts); i++) {
        if (shortcuts[i].key == key && shortcuts[i].modifiers == state) {
            shortcuts[i].run(w);
            return TRUE;
        }
    }
    return FALSE;
}

/* ---- building ---- */

static GtkWidget *button(grv_window *w, const char *label, const char *help_text,
                         void (*run)(grv_window *))
{
    GtkWidget *b = gtk_button_new_with_mnemonic(label);
    gtk_widget_set_tooltip_text(b, help_text);
    if (run)
        g_signal_connect_swapped(b, "clicked", G_CALLBACK(run), w);
    return b;
}

static void add_item(grv_window *w, GtkWidget *menu, const char *label, void (*run)(grv_window *))
{
    GtkWidget *item = gtk_menu_item_new_with_mnemonic(label);
    g_signal_connect_swapped(item, "activate", G_CALLBACK(run), w);
    gtk_menu_shell_append(GTK_MENU_SHELL(menu), item);
}

static GtkWidget *more_button(grv_window *w)
{
    GtkWidget *b = gtk_menu_button_new(), *menu = gtk_menu_new();
    add_item(w, menu, _("_Use these settings (Ctrl+U)"), grv_strip_use);
    add_item(w, menu, _("_Open as a new image (Ctrl+O)"), grv_strip_open);
    add_item(w, menu, _("_Remove from the history (Ctrl+Delete)"), grv_strip_delete);
    gtk_widget_show_all(menu);
    gtk_menu_button_set_popup(GTK_MENU_BUTTON(b), menu);
    gtk_widget_set_tooltip_text(b, _("More that can be done with this result"));
    return b;
}

static GtkWidget *result_buttons(grv_window *w)
{
    GtkWidget *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 4);
    w->insert = button(w, _("_Insert"), _("As a layer (Ctrl+I)"), on_insert);
    w->replace = button(w, _("_Replace"), _("In place of the selected generated layer (Ctrl+R)"),
                        grv_strip_replace);
    w->group = button(w, _("_Keep as group"), _("The selected results as one layer group (Ctrl+K)"),
                      on_group);
    w->again = button(w, _("Ag_ain"), _("The same once more (Ctrl+G)"), on_again);
    w->vary = button(w, _("_Vary"), _("The same with another seed (Ctrl+D)"), on_vary);
    w->compare = gtk_toggle_button_new_with_mnemonic(_("_Compare"));
    gtk_widget_set_tooltip_text(
        w->compare, _("With what was there before, or with the second selected result (Ctrl+M)"));
    gtk_widget_set_sensitive(w->compare, FALSE); /* until there is something beside it */
    w->more = more_button(w);
    GtkWidget *all[] = {w->insert, w->replace, w->group, w->again, w->vary, w->compare, w->more};
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        gtk_box_pack_start(GTK_BOX(row), all[i], i < 6, TRUE, 0);
    g_signal_connect(w->compare, "toggled", G_CALLBACK(on_compare), w);
    return row;
}

static GtkWidget *right_side(grv_window *w)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 6), *frame = gtk_frame_new(NULL);
    gtk_widget_set_margin_start(box, 8);
    w->preview = grv_preview_new();
    w->progress = gtk_progress_bar_new();
    w->caption = gtk_label_new("");
    grv_preview_hint(
        w->preview,
        _("Say what you want to see and press Ctrl+Enter.\n\nSelect a part of the image and "
          "choose Fill to repaint only that part."));
    gtk_frame_set_shadow_type(GTK_FRAME(frame), GTK_SHADOW_IN);
    gtk_container_add(GTK_CONTAINER(frame), w->preview);
    gtk_progress_bar_set_show_text(GTK_PROGRESS_BAR(w->progress), TRUE);
    gtk_progress_bar_set_text(GTK_PROGRESS_BAR(w->progress), _("Ready"));
    gtk_label_set_ellipsize(GTK_LABEL(w->caption), PANGO_ELLIPSIZE_END);
    gtk_label_set_xalign(GTK_LABEL(w->caption), 0);
    gtk_box_pack_start(GTK_BOX(box), frame, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(box), w->caption, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), w->progress, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), result_buttons(w), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), grv_strip_new(w), FALSE, FALSE, 0);
    return box;
}

static void on_canvas(GtkToggleButton *b, gpointer user)
{
    grv_settings_set("canvas_preview", gtk_toggle_button_get_active(b) ? "on" : NULL);
    grv_jobs_clear(user);
}

static GtkWidget *canvas_switch(grv_window *w)
{
    char *wanted = grv_settings_get("canvas_preview", "off");
    w->on_canvas = gtk_check_button_new_with_mnemonic(_("Preview on t_he canvas"));
    gtk_widget_set_tooltip_text(
        w->on_canvas, _("Shows the picture in the image while it is painted, without undo steps"));
    gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(w->on_canvas), strcmp(wanted, "on") == 0);
    g_signal_connect(w->on_canvas, "toggled", G_CALLBACK(on_canvas), w);
    g_free(wanted);
    return w->on_canvas;
}

static GtkWidget *bottom_left(grv_window *w)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 6),
              *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6);
    w->describe = gtk_label_new("");
    w->auto_insert = gtk_check_button_new_with_mnemonic(_("Insert _when ready"));
    w->generate = button(w, _("Pain_t"), _("Begin (Ctrl+Enter)"), generate);
    w->stop = button(w, _("_Stop"), _("Stop what is painted now (Esc); all: Shift+Esc"), on_stop);
    GtkWidget *settings =
        gtk_button_new_from_icon_name(GIMP_ICON_PREFERENCES_SYSTEM, GTK_ICON_SIZE_BUTTON);
    gtk_widget_set_tooltip_text(settings, _("Engine, keys, history"));
    atk_object_set_name(gtk_widget_get_accessible(settings), _("Settings"));
    g_signal_connect_swapped(settings, "clicked", G_CALLBACK(on_settings), w);
    gtk_style_context_add_class(gtk_widget_get_style_context(w->generate),
                                GTK_STYLE_CLASS_SUGGESTED_ACTION);
    gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(w->auto_insert), TRUE);
    gtk_widget_set_tooltip_text(w->auto_insert,
                                _("Results become layers by themselves; one undo removes them"));
    gtk_label_set_line_wrap(GTK_LABEL(w->describe), TRUE);
    gtk_label_set_xalign(GTK_LABEL(w->describe), 0);
    gtk_label_set_max_width_chars(GTK_LABEL(w->describe), 40);
    gtk_style_context_add_class(gtk_widget_get_style_context(w->describe),
                                GTK_STYLE_CLASS_DIM_LABEL);
    gtk_box_pack_start(GTK_BOX(row), settings, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(row), w->stop, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(row), w->generate, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(box), w->auto_insert, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), canvas_switch(w), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), w->describe, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), row, FALSE, FALSE, 0);
    return box;
}

static GtkWidget *left_side(grv_window *w)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 8),
              *scroll = gtk_scrolled_window_new(NULL, NULL);
    w->image_box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 0);
    gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scroll), GTK_POLICY_NEVER,
                                   GTK_POLICY_AUTOMATIC);
    gtk_container_add(GTK_CONTAINER(scroll), grv_form_widget(w->form));
    gtk_widget_set_size_request(box, FORM_WIDTH, -1);
    gtk_box_pack_start(GTK_BOX(box), w->image_box, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), scroll, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(box), bottom_left(w), FALSE, FALSE, 0);
    return box;
}

static void on_bar(GtkInfoBar *bar, gint response, gpointer user)
{
    gtk_info_bar_set_revealed(bar, FALSE);
}

static void make_bar(grv_window *w)
{
    w->bar = gtk_info_bar_new();
    w->bar_label = gtk_label_new("");
    gtk_label_set_line_wrap(GTK_LABEL(w->bar_label), TRUE);
    gtk_label_set_selectable(GTK_LABEL(w->bar_label), TRUE);
    gtk_label_set_xalign(GTK_LABEL(w->bar_label), 0);
    gtk_widget_set_can_focus(w->bar_label, FALSE);
    gtk_container_add(GTK_CONTAINER(gtk_info_bar_get_content_area(GTK_INFO_BAR(w->bar))),
                      w->bar_label);
    gtk_info_bar_set_show_close_button(GTK_INFO_BAR(w->bar), TRUE);
    gtk_info_bar_set_revealed(GTK_INFO_BAR(w->bar), FALSE);
    g_signal_connect(w->bar, "response", G_CALLBACK(on_bar), w);
}

static gboolean on_focus(GtkWidget *widget, GdkEvent *event, gpointer user)
{
    list_images(user, NULL);
    describe_later(user);
    return FALSE;
}

static gboolean on_close(GtkWidget *widget, GdkEvent *event, gpointer user)
{
    g_main_loop_quit(((grv_window *)user)->loop);
    return TRUE;
}

static void build(grv_window *w)
{
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0),
              *panes = gtk_paned_new(GTK_ORIENTATION_HORIZONTAL);
    w->window = gtk_window_new(GTK_WINDOW_TOPLEVEL);
    gtk_window_set_title(GTK_WINDOW(w->window), _("Reverie"));
    gtk_window_set_role(GTK_WINDOW(w->window), ROLE);
    gtk_window_set_icon_name(GTK_WINDOW(w->window), "org.gimp.GIMP.Plugin.Reverie");
    gtk_window_set_default_size(GTK_WINDOW(w->window), 960, 700);
    make_bar(w);
    w->form = grv_form_new(w->engine, describe_later, w);
    gtk_paned_pack1(GTK_PANED(panes), left_side(w), FALSE, FALSE);
    gtk_paned_pack2(GTK_PANED(panes), right_side(w), TRUE, FALSE);
    gtk_container_set_border_width(GTK_CONTAINER(panes), 8);
    gtk_box_pack_start(GTK_BOX(box), w->bar, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), panes, TRUE, TRUE, 0);
    gtk_container_add(GTK_CONTAINER(w->window), box);
    g_signal_connect(w->window, "key-press-event", G_CALLBACK(on_key), w);
    g_signal_connect(w->window, "focus-in-event", G_CALLBACK(on_focus), w);
    g_signal_connect(w->window, "delete-event", G_CALLBACK(on_close), w);
}

/* ---- one window ---- */

typedef struct order {
    char *command;
    int image;
} order;

static gboolean carry_out(gpointer user)
{
    order *o = user;
    if (the_window && !the_window->is_closing)
        run_command(the_window, o->command,
                    o->image > 0 && gimp_image_id_is_valid(o->image)
                        ? gimp_image_get_by_id(o->image)
                        : NULL);
    g_free(o->command);
    g_free(o);
    return G_SOURCE_REMOVE;
}

/* The caller waits, so that the work is done after the answer. */
static GimpValueArray *on_raise(GimpProcedure *p, GimpProcedureConfig *config, gpointer user)
{
    order *o = g_new0(order, 1);
    g_object_get(config, "command", &o->command, "image-id", &o->image, NULL);
    g_idle_add(carry_out, o);
    return gimp_procedure_new_return_values(p, GIMP_PDB_SUCCESS, NULL);
}

static void listen(GimpPlugIn *plug_in)
{
    GimpProcedure *p =
        gimp_procedure_new(plug_in, RAISE, GIMP_PDB_PROC_TYPE_TEMPORARY, on_raise, NULL, NULL);
    gimp_procedure_set_documentation(p, "Raise the window of Reverie", NULL, RAISE);
    gimp_procedure_add_string_argument(p, "command", "Command", "Command", "show",
                                       G_PARAM_READWRITE);
    gimp_procedure_add_int_argument(p, "image-id", "Image", "Number of the image", 0, G_MAXINT, 0,
                                    G_PARAM_READWRITE);
    gimp_plug_in_add_temp_procedure(plug_in, p);
    g_object_unref(p);
    gimp_plug_in_persistent_enable(plug_in);
}

bool grv_window_forward(const char *command, GimpImage *image)
{
    GimpPDB *pdb = gimp_get_pdb();
    if (!gimp_pdb_procedure_exists(pdb, RAISE))
        return false;
    GimpProcedure *p = gimp_pdb_lookup_procedure(pdb, RAISE);
    GimpValueArray *values = gimp_procedure_run(p, "command", command, "image-id",
                                                image ? gimp_image_get_id(image) : 0, NULL);
    bool ok = values && GIMP_VALUES_GET_ENUM(values, 0) == GIMP_PDB_SUCCESS;
    gimp_value_array_unref(values);
    return ok;
}

static void on_engine(void *user, const GError *error)
{
    grv_window *w = user;
    if (error)
        grv_window_say(w, GTK_MESSAGE_ERROR, error->message);
    grv_trace(error ? "engine failed" : "engine ready");
}

static void close_window(grv_window *w, GimpPlugIn *plug_in)
{
    w->is_closing = true;
    gimp_plug_in_remove_temp_procedure(plug_in, RAISE);
    grv_form_save(w->form);
    if (w->describe_source)
        g_source_remove(w->describe_source);
    grv_engine_forget(w->engine, w);
    gtk_widget_destroy(w->window);
    grv_jobs_close(w);
    grv_form_free(w->form);
    g_ptr_array_unref(w->entries);
    grv_engine_free(w->engine);
    grv_history_close();
    g_main_loop_unref(w->loop);
    g_free(w->image_names);
    the_window = NULL;
    g_free(w);
}

/* What an earlier process could not say any more. */
static void tell_of_the_past(grv_window *w)
{
    guint count = grv_unfinished_take();
    grv_ghost_sweep();
    if (!count)
        return;
    char *text = g_strdup_printf(
        _("GIMP ended while pictures were being painted (requests: %u). What was ready is in the "
          "history; prompts come back with Ctrl+Up."),
        count);
    grv_window_say(w, GTK_MESSAGE_INFO, text);
    g_free(text);
}

bool grv_window_run(GimpPlugIn *plug_in, const char *command, GimpImage *image, GError **error)
{
    gimp_ui_init("reverie");
    gegl_init(NULL, NULL); /* slow the first time: now, and not with the first result */
    grv_engine *e = grv_engine_new(true, error);
    if (!e)
        return false;
    grv_window *w = the_window = g_new0(grv_window, 1);
    *w = (grv_window){.plug_in = plug_in, .engine = e, .loop = g_main_loop_new(NULL, FALSE)};
    w->works = g_ptr_array_new();
    w->entries = g_ptr_array_new_with_free_func(grv_entry_free);
    grv_trace_watch_loop();
    build(w);
    list_images(w, image);
    gtk_widget_show_all(w->window);
    gimp_window_set_transient(GTK_WINDOW(w->window)); /* else the image covers it */
    grv_strip_load(w);
    grv_window_update(w);
    grv_form_focus(w->form);
    listen(plug_in);
    grv_engine_ready(e, on_engine, w);
    tell_of_the_past(w);
    run_command(w, command, NULL);
    grv_trace("open");
    g_main_loop_run(w->loop);
    close_window(w, plug_in);
    return true;
}
