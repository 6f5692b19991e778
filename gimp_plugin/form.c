/* See form.h. */
#include "form.h"

#include <glib/gi18n-lib.h>
#include <libgimp/gimpui.h>
#include <math.h>
#include <string.h>

#include "loras.h"
#include "presets.h"
#include "rows.h"
#include "settings.h"

enum { PROMPTS = 50, PROMPT_HEIGHT = 76, NEGATIVE_HEIGHT = 44 };

/* Parameters with a place of their own in the form. */
static const char *const placed[] = {"model",         "positivePrompt", "negativePrompt", "seed",
                                     "numberResults", "strength",       "lora",           NULL};
static const char *const not_shown[] = {"action", NULL};

struct grv_form {
    grv_engine *engine;
    void (*changed)(void *);
    void *user;
    GtkWidget *box, *action[GRV_ACTIONS], *options[GRV_ACTIONS], *stack;
    GtkWidget *prompt, *negative, *model, *style, *preset, *seed, *lock, *count;
    GtkWidget *strength_label, *strength;
    grv_loras *loras;
    grv_rows *rows;
    double strengths[GRV_ACTIONS]; /* each action keeps its own */
    int back;                      /* how far into the earlier prompts; 0: what is being typed */
    char *typed;
    bool is_loading;
};

static void tell(grv_form *f)
{
    if (!f->is_loading)
        f->changed(f->user);
}

/* ---- texts ---- */

static char *text_of(GtkWidget *view)
{
    GtkTextBuffer *b = gtk_text_view_get_buffer(GTK_TEXT_VIEW(view));
    GtkTextIter from, to;
    gtk_text_buffer_get_bounds(b, &from, &to);
    char *text = gtk_text_buffer_get_text(b, &from, &to, FALSE);
    return g_strstrip(text);
}

static void set_text(GtkWidget *view, const char *text)
{
    gtk_text_buffer_set_text(gtk_text_view_get_buffer(GTK_TEXT_VIEW(view)), text, -1);
}

static GtkWidget *text_view(GtkWidget *box, const char *label, const char *help, int height)
{
    GtkWidget *title = gtk_label_new_with_mnemonic(label), *view = gtk_text_view_new();
    GtkWidget *scroll = gtk_scrolled_window_new(NULL, NULL);
    gtk_label_set_xalign(GTK_LABEL(title), 0);
    gtk_label_set_mnemonic_widget(GTK_LABEL(title), view);
    gtk_text_view_set_wrap_mode(GTK_TEXT_VIEW(view), GTK_WRAP_WORD_CHAR);
    gtk_text_view_set_accepts_tab(GTK_TEXT_VIEW(view), FALSE);
    gtk_text_view_set_left_margin(GTK_TEXT_VIEW(view), 6);
    gtk_text_view_set_right_margin(GTK_TEXT_VIEW(view), 6);
    gtk_text_view_set_top_margin(GTK_TEXT_VIEW(view), 4);
    gtk_text_view_set_bottom_margin(GTK_TEXT_VIEW(view), 4);
    gtk_widget_set_tooltip_text(view, help);
    gtk_scrolled_window_set_shadow_type(GTK_SCROLLED_WINDOW(scroll), GTK_SHADOW_IN);
    gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scroll), GTK_POLICY_NEVER,
                                   GTK_POLICY_AUTOMATIC);
    gtk_widget_set_size_request(scroll, -1, height);
    gtk_container_add(GTK_CONTAINER(scroll), view);
    gtk_box_pack_start(GTK_BOX(box), title, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), scroll, FALSE, FALSE, 0);
    return view;
}

/* ---- earlier prompts ---- */

static cJSON *prompts(void)
{
    cJSON *all = grv_settings_all(), *list = cJSON_GetObjectItemCaseSensitive(all, "prompts");
    return cJSON_IsArray(list) ? list : cJSON_AddArrayToObject(all, "prompts");
}

void grv_form_prompt_back(grv_form *f, int by)
{
    cJSON *list = prompts();
    int back = CLAMP(f->back - by, 0, cJSON_GetArraySize(list));
    if (back == f->back)
        return;
    if (f->back == 0) {
        g_free(f->typed);
        f->typed = text_of(f->prompt);
    }
    f->back = back;
    const char *text = back ? cJSON_GetStringValue(cJSON_GetArrayItem(list, back - 1)) : f->typed;
    set_text(f->prompt, text ? text : "");
}

static void remember_prompt(grv_form *f)
{
    char *text = text_of(f->prompt);
    cJSON *list = prompts();
    for (int i = cJSON_GetArraySize(list) - 1; i >= 0; i--) {
        if (g_strcmp0(cJSON_GetStringValue(cJSON_GetArrayItem(list, i)), text) == 0)
            cJSON_DeleteItemFromArray(list, i);
    }
    if (*text)
        cJSON_InsertItemInArray(list, 0, cJSON_CreateString(text));
    while (cJSON_GetArraySize(list) > PROMPTS)
        cJSON_DeleteItemFromArray(list, PROMPTS);
    f->back = 0;
    g_free(text);
}

/* ---- seeds ---- */

void grv_form_dice(grv_form *f)
{
    char *digits = g_strdup_printf("%u", g_random_int());
    gtk_entry_set_text(GTK_ENTRY(f->seed), digits);
    g_free(digits);
}

static GtkWidget *icon_button(GtkWidget *button, const char *icon, const char *help)
{
    gtk_button_set_image(GTK_BUTTON(button),
                         gtk_image_new_from_icon_name(icon, GTK_ICON_SIZE_BUTTON));
    gtk_widget_set_tooltip_text(button, help);
    atk_object_set_name(gtk_widget_get_accessible(button), help);
    return button;
}

/* What is kept must be known. */
static void on_lock(GtkToggleButton *lock, gpointer user)
{
    grv_form *f = user;
    if (gtk_toggle_button_get_active(lock) && !*gtk_entry_get_text(GTK_ENTRY(f->seed)))
        grv_form_dice(f);
}

static GtkWidget *seed_row(grv_form *f)
{
    GtkWidget *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 4), *dice;
    f->seed = gtk_entry_new();
    gtk_entry_set_width_chars(GTK_ENTRY(f->seed), 11);
    gtk_entry_set_input_purpose(GTK_ENTRY(f->seed), GTK_INPUT_PURPOSE_DIGITS);
    gtk_entry_set_placeholder_text(GTK_ENTRY(f->seed), _("any"));
    dice = icon_button(gtk_button_new(), GIMP_ICON_VIEW_REFRESH, _("Another seed (Ctrl+J)"));
    f->lock = icon_button(gtk_toggle_button_new(), GIMP_ICON_LOCK,
                          _("Keep this seed for the next pictures"));
    gtk_box_pack_start(GTK_BOX(row), f->seed, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(row), dice, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(row), f->lock, FALSE, FALSE, 0);
    g_signal_connect_swapped(dice, "clicked", G_CALLBACK(grv_form_dice), f);
    g_signal_connect(f->lock, "toggled", G_CALLBACK(on_lock), f);
    return row;
}

/* ---- models, styles, presets ---- */

static const char *model_of(const grv_form *f)
{
    const char *id = gtk_combo_box_get_active_id(GTK_COMBO_BOX(f->model));
    return id ? id : grv_engine_model(f->engine);
}

static void on_model(grv_form *f)
{
    grv_rows_build(f->rows, f->engine, model_of(f), placed);
    grv_loras_set_model(f->loras, model_of(f));
    tell(f);
}

static void fill_models(grv_form *f)
{
    char *text = rv_models_json(grv_engine_context(f->engine));
    cJSON *models = text ? cJSON_Parse(text) : NULL, *m = NULL;
    cJSON_ArrayForEach(m, models)
    {
        const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(m, "id"));
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(m, "name"));
        gtk_combo_box_text_append(GTK_COMBO_BOX_TEXT(f->model), id, name ? name : id);
    }
    gtk_combo_box_set_active_id(GTK_COMBO_BOX(f->model), grv_engine_model(f->engine));
    cJSON_Delete(models);
    rv_free(text);
}

static void fill_presets(grv_form *f)
{
    char **names = grv_presets_names();
    gtk_combo_box_text_remove_all(GTK_COMBO_BOX_TEXT(f->preset));
    gtk_combo_box_text_append(GTK_COMBO_BOX_TEXT(f->preset), "", _("Choose one"));
    for (char **n = names; *n; n++)
        gtk_combo_box_text_append(GTK_COMBO_BOX_TEXT(f->preset), *n, *n);
    gtk_combo_box_set_active(GTK_COMBO_BOX(f->preset), 0);
    g_strfreev(names);
}

static void on_preset(grv_form *f)
{
    const char *name = gtk_combo_box_get_active_id(GTK_COMBO_BOX(f->preset));
    char *text = name && *name ? grv_presets_get(name) : NULL;
    grv_request *q = text ? grv_request_parse(text, NULL) : NULL;
    if (q)
        grv_form_load(f, q);
    grv_request_free(q);
    g_free(text);
}

static void on_keep_preset(GtkWidget *button, gpointer user)
{
    grv_form *f = user;
    GtkWindow *parent = GTK_WINDOW(gtk_widget_get_toplevel(f->box));
    GtkWidget *d =
        gtk_dialog_new_with_buttons(_("Keep as Preset"), parent, GTK_DIALOG_MODAL, _("_Cancel"),
                                    GTK_RESPONSE_CANCEL, _("_Keep"), GTK_RESPONSE_OK, NULL);
    GtkWidget *name = gtk_entry_new(), *area = gtk_dialog_get_content_area(GTK_DIALOG(d));
    gtk_entry_set_activates_default(GTK_ENTRY(name), TRUE);
    gtk_entry_set_placeholder_text(GTK_ENTRY(name), _("Name"));
    gtk_dialog_set_default_response(GTK_DIALOG(d), GTK_RESPONSE_OK);
    gtk_container_set_border_width(GTK_CONTAINER(d), 12);
    gtk_box_pack_start(GTK_BOX(area), name, FALSE, FALSE, 6);
    gtk_widget_show_all(d);
    if (gtk_dialog_run(GTK_DIALOG(d)) == GTK_RESPONSE_OK && *gtk_entry_get_text(GTK_ENTRY(name))) {
        grv_request *q = grv_form_request(f);
        char *text = grv_request_text(q, NULL);
        grv_presets_set(gtk_entry_get_text(GTK_ENTRY(name)), text);
        fill_presets(f);
        g_free(text);
        grv_request_free(q);
    }
    gtk_widget_destroy(d);
}

static GtkWidget *preset_row(grv_form *f)
{
    GtkWidget *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 4);
    GtkWidget *keep =
        icon_button(gtk_button_new(), GIMP_ICON_LIST_ADD, _("Keep these settings as a preset"));
    f->preset = gtk_combo_box_text_new();
    fill_presets(f);
    gtk_box_pack_start(GTK_BOX(row), f->preset, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(row), keep, FALSE, FALSE, 0);
    g_signal_connect_swapped(f->preset, "changed", G_CALLBACK(on_preset), f);
    g_signal_connect(keep, "clicked", G_CALLBACK(on_keep_preset), f);
    return row;
}

/* ---- actions ---- */

grv_action grv_form_action(const grv_form *f)
{
    int a = GRV_ACTIONS - 1;
    while (a > 0 && !gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(f->action[a])))
        a--;
    return (grv_action)a;
}

void grv_form_set_action(grv_form *f, grv_action a)
{
    gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(f->action[a]), TRUE);
}

static void on_strength(grv_form *f)
{
    f->strengths[grv_form_action(f)] = gtk_range_get_value(GTK_RANGE(f->strength));
}

static void on_action(GtkToggleButton *button, gpointer user)
{
    grv_form *f = user;
    if (!gtk_toggle_button_get_active(button))
        return;
    grv_action a = grv_form_action(f);
    gtk_stack_set_visible_child(GTK_STACK(f->stack), f->options[a]);
    gtk_range_set_value(GTK_RANGE(f->strength), f->strengths[a]);
    gtk_widget_set_visible(f->strength, a != GRV_GENERATE);
    gtk_widget_set_visible(f->strength_label, a != GRV_GENERATE);
    tell(f);
}

static GtkWidget *action_row(grv_form *f)
{
    static const char *const labels[GRV_ACTIONS] = {N_("_Generate"), N_("Re_imagine"), N_("_Fill"),
                                                    N_("_Extend")};
    static const char *const helps[GRV_ACTIONS] = {
        N_("A new picture at the selection or the canvas"),
        N_("Paint the layer, or all that is visible, anew"), N_("New content for the selection"),
        N_("More canvas, painted to continue what is there")};
    GtkWidget *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 0);
    gtk_style_context_add_class(gtk_widget_get_style_context(row), GTK_STYLE_CLASS_LINKED);
    for (int a = 0; a < GRV_ACTIONS; a++) {
        GtkRadioButton *first = a ? GTK_RADIO_BUTTON(f->action[0]) : NULL;
        f->action[a] = gtk_radio_button_new_with_mnemonic_from_widget(first, _(labels[a]));
        gtk_toggle_button_set_mode(GTK_TOGGLE_BUTTON(f->action[a]), FALSE);
        gtk_widget_set_tooltip_text(f->action[a], _(helps[a]));
        gtk_box_pack_start(GTK_BOX(row), f->action[a], TRUE, TRUE, 0);
        g_signal_connect(f->action[a], "toggled", G_CALLBACK(on_action), f);
    }
    return row;
}

static GtkWidget *option_stack(grv_form *f)
{
    f->stack = gtk_stack_new();
    gtk_stack_set_homogeneous(GTK_STACK(f->stack), FALSE);
    for (int a = 0; a < GRV_ACTIONS; a++) {
        f->options[a] = grv_rows_options((grv_action)a, not_shown, G_CALLBACK(tell), f);
        gtk_container_add(GTK_CONTAINER(f->stack), f->options[a]);
        f->strengths[a] = a == GRV_REIMAGINE ? 0.6 : 1;
    }
    return f->stack;
}

/* ---- all of it ---- */

static GtkWidget *basic_grid(grv_form *f)
{
    GtkWidget *grid = grv_rows_grid();
    f->model = gtk_combo_box_text_new();
    f->style = gtk_combo_box_text_new();
    f->count = gtk_spin_button_new_with_range(1, 20, 1);
    f->strength = gtk_scale_new_with_range(GTK_ORIENTATION_HORIZONTAL, 0.05, 1, 0.05);
    gtk_scale_set_value_pos(GTK_SCALE(f->strength), GTK_POS_RIGHT);
    for (const grv_style *s = grv_styles; s->name; s++)
        gtk_combo_box_text_append_text(GTK_COMBO_BOX_TEXT(f->style), _(s->name));
    gtk_combo_box_set_active(GTK_COMBO_BOX(f->style), 0);
    grv_rows_add(grid, 0, _("_Model"), f->model, _("What paints"));
    grv_rows_add(grid, 1, _("St_yle"), f->style, _("Words that are added to the prompt"));
    grv_rows_add(grid, 2, _("Pr_esets"), preset_row(f), _("Settings of yours under a name"));
    grv_rows_add(grid, 3, _("See_d"), seed_row(f), _("The same seed gives the same picture again"));
    grv_rows_add(grid, 4, _("Pict_ures"), f->count, _("How many variations are made"));
    grv_rows_add(grid, 5, _("Stren_gth"), f->strength,
                 _("How far the result may leave what is there"));
    gtk_label_set_mnemonic_widget(GTK_LABEL(gtk_grid_get_child_at(GTK_GRID(grid), 0, 2)),
                                  f->preset);
    gtk_label_set_mnemonic_widget(GTK_LABEL(gtk_grid_get_child_at(GTK_GRID(grid), 0, 3)), f->seed);
    f->strength_label = gtk_grid_get_child_at(GTK_GRID(grid), 0, 5);
    gtk_widget_set_no_show_all(f->strength, TRUE);
    gtk_widget_set_no_show_all(f->strength_label, TRUE);
    g_signal_connect_swapped(f->strength, "value-changed", G_CALLBACK(on_strength), f);
    return grid;
}

static GtkWidget *advanced_section(grv_form *f)
{
    GtkWidget *expander = gtk_expander_new_with_mnemonic(_("_Advanced"));
    f->rows = grv_rows_new();
    gtk_widget_set_margin_top(grv_rows_widget(f->rows), 4);
    gtk_container_add(GTK_CONTAINER(expander), grv_rows_widget(f->rows));
    return expander;
}

grv_form *grv_form_new(grv_engine *e, void (*changed)(void *), void *user)
{
    grv_form *f = g_new0(grv_form, 1);
    f->engine = e;
    f->changed = changed;
    f->user = user;
    f->is_loading = true;
    f->box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 8);
    GtkWidget *actions = action_row(f);
    gtk_box_pack_start(GTK_BOX(f->box), actions, FALSE, FALSE, 0);
    f->prompt = text_view(
        f->box, _("_Prompt"),
        _("What the picture shows. Ctrl+Enter begins, Ctrl+Up and Ctrl+Down bring earlier ones."),
        PROMPT_HEIGHT);
    f->negative = text_view(f->box, _("_Negative prompt"), _("What the picture should not show"),
                            NEGATIVE_HEIGHT);
    gtk_box_pack_start(GTK_BOX(f->box), basic_grid(f), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(f->box), option_stack(f), FALSE, FALSE, 0);
    f->loras = grv_loras_new(e);
    gtk_box_pack_start(GTK_BOX(f->box), grv_loras_widget(f->loras), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(f->box), advanced_section(f), FALSE, FALSE, 0);
    fill_models(f);
    grv_rows_build(f->rows, e, model_of(f), placed);
    grv_loras_set_model(f->loras, model_of(f));
    g_signal_connect_swapped(f->model, "changed", G_CALLBACK(on_model), f);
    gtk_widget_show_all(f->box);
    char *last = grv_settings_get("last", NULL);
    grv_request *q = last ? grv_request_parse(last, NULL) : NULL;
    if (q)
        grv_form_load(f, q);
    grv_request_free(q);
    g_free(last);
    f->is_loading = false;
    return f;
}

void grv_form_free(grv_form *f)
{
    grv_rows_free(f->rows);
    grv_loras_free(f->loras);
    g_free(f->typed);
    g_free(f);
}

GtkWidget *grv_form_widget(grv_form *f)
{
    return f->box;
}

void grv_form_focus(grv_form *f)
{
    gtk_widget_grab_focus(f->prompt);
}

/* ---- to and from requests ---- */

static void write_texts(grv_form *f, grv_request *q)
{
    const grv_style *style = &grv_styles[MAX(0, gtk_combo_box_get_active(GTK_COMBO_BOX(f->style)))];
    char *typed = text_of(f->prompt), *negative = text_of(f->negative);
    char *prompt = grv_style_apply(style, typed);
    char *more = *style->negative && *negative
                     ? g_strdup_printf("%s, %s", negative, style->negative)
                 : *negative ? g_strdup(negative)
                             : g_strdup(style->negative);
    grv_request_set_text(q, "positivePrompt", prompt);
    grv_request_set_text(q, "negativePrompt", more);
    grv_request_set_text(q, "seed", gtk_entry_get_text(GTK_ENTRY(f->seed)));
    grv_request_set_text(q, "model", model_of(f));
    g_free(typed);
    g_free(negative);
    g_free(prompt);
    g_free(more);
}

grv_request *grv_form_request(grv_form *f)
{
    grv_request *q = grv_request_new(grv_form_action(f));
    grv_rows_write(f->rows, q->task);
    write_texts(f, q);
    int count = gtk_spin_button_get_value_as_int(GTK_SPIN_BUTTON(f->count));
    if (count > 1)
        cJSON_AddNumberToObject(q->task, "numberResults", count);
    if (q->action != GRV_GENERATE)
        cJSON_AddNumberToObject(q->task, "strength", round(f->strengths[q->action] * 100) / 100);
    grv_loras_write(f->loras, q->task);
    grv_rows_options_write(f->options[q->action], q);
    return q;
}

static void load_numbers(grv_form *f, const grv_request *q)
{
    const cJSON *count = cJSON_GetObjectItem(q->task, "numberResults");
    const cJSON *strength = cJSON_GetObjectItem(q->task, "strength");
    gtk_spin_button_set_value(GTK_SPIN_BUTTON(f->count),
                              cJSON_IsNumber(count) ? count->valuedouble : 1);
    if (cJSON_IsNumber(strength))
        f->strengths[q->action] = strength->valuedouble;
}

void grv_form_load(grv_form *f, const grv_request *q)
{
    const char *model = cJSON_GetStringValue(cJSON_GetObjectItem(q->task, "model"));
    const char *negative = cJSON_GetStringValue(cJSON_GetObjectItem(q->task, "negativePrompt"));
    const char *seed = cJSON_GetStringValue(cJSON_GetObjectItem(q->task, "seed"));
    bool was_loading = f->is_loading;
    f->is_loading = true;
    if (model)
        gtk_combo_box_set_active_id(GTK_COMBO_BOX(f->model), model);
    set_text(f->prompt, grv_request_prompt(q));
    set_text(f->negative, negative ? negative : "");
    gtk_combo_box_set_active(GTK_COMBO_BOX(f->style), 0); /* its words are in the prompt already */
    gtk_entry_set_text(GTK_ENTRY(f->seed), seed ? seed : "");
    load_numbers(f, q);
    grv_loras_load(f->loras, q->task);
    grv_rows_load(f->rows, q->task);
    grv_rows_options_load(f->options[q->action], q);
    grv_form_set_action(f, q->action);
    gtk_range_set_value(GTK_RANGE(f->strength), f->strengths[q->action]);
    f->is_loading = was_loading;
    tell(f);
}

void grv_form_save(grv_form *f)
{
    grv_request *q = grv_form_request(f);
    char *typed = text_of(f->prompt), *negative = text_of(f->negative);
    grv_request_set_text(q, "positivePrompt", typed); /* without the words of the style */
    grv_request_set_text(q, "negativePrompt", negative);
    if (!gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(f->lock)))
        grv_request_drop(q, "seed");
    char *text = grv_request_text(q, NULL);
    grv_settings_set("last", text);
    grv_settings_save(NULL);
    g_free(text);
    g_free(typed);
    g_free(negative);
    grv_request_free(q);
}

void grv_form_sent(grv_form *f)
{
    remember_prompt(f);
    if (!gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(f->lock)))
        gtk_entry_set_text(GTK_ENTRY(f->seed), "");
    grv_form_save(f);
}
