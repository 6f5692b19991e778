/* See rows.h. */
#include "rows.h"

#include <glib/gi18n-lib.h>
#include <math.h>
#include <string.h>

#define UNSET "—" /* what is not given */

typedef struct row {
    char *path;
    grv_kind kind;
    GtkWidget *widget;
    double preset; /* of numbers and switches; NAN: none */
    char *word;    /* preset of texts                    */
    double unset;  /* what a number without preset shows when it is not given */
} row;

struct grv_rows {
    GtkWidget *box;
    GPtrArray *rows; /* row */
    GtkWidget *grid;
    int line;
    char *group;
    const char *const *skip;
};

static void free_row(void *p)
{
    row *r = p;
    g_free(r->path);
    g_free(r->word);
    g_free(r);
}

grv_rows *grv_rows_new(void)
{
    grv_rows *r = g_new0(grv_rows, 1);
    r->rows = g_ptr_array_new_with_free_func(free_row);
    r->box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 6);
    return r;
}

void grv_rows_free(grv_rows *r)
{
    g_ptr_array_unref(r->rows);
    g_free(r->group);
    g_free(r);
}

GtkWidget *grv_rows_widget(grv_rows *r)
{
    return r->box;
}

GtkWidget *grv_rows_grid(void)
{
    GtkWidget *grid = gtk_grid_new();
    gtk_grid_set_row_spacing(GTK_GRID(grid), 4);
    gtk_grid_set_column_spacing(GTK_GRID(grid), 8);
    return grid;
}

void grv_rows_add(GtkWidget *grid, int line, const char *text, GtkWidget *widget, const char *help)
{
    GtkWidget *label = gtk_label_new_with_mnemonic(text);
    gtk_label_set_xalign(GTK_LABEL(label), 0);
    gtk_label_set_mnemonic_widget(GTK_LABEL(label), widget);
    gtk_widget_set_tooltip_text(label, help);
    gtk_widget_set_tooltip_text(widget, help);
    gtk_widget_set_hexpand(widget, TRUE);
    gtk_grid_attach(GTK_GRID(grid), label, 0, line, 1, 1);
    gtk_grid_attach(GTK_GRID(grid), widget, 1, line, 1, 1);
}

/* ---- rows of the table ---- */

static double number(const cJSON *field, const char *name, double otherwise)
{
    const cJSON *v = cJSON_GetObjectItem(field, name);
    return cJSON_IsNumber(v) ? v->valuedouble : otherwise;
}

/* A spin button below its range shows that nothing is set. */
static gboolean show_unset(GtkSpinButton *spin, gpointer user)
{
    if (gtk_spin_button_get_value(spin) > ((row *)user)->unset)
        return FALSE;
    gtk_entry_set_text(GTK_ENTRY(spin), UNSET);
    return TRUE;
}

/* The word for nothing is not a number: whoever leaves the field would set one. */
static gint read_unset(GtkSpinButton *spin, gdouble *value, gpointer user)
{
    *value = ((row *)user)->unset;
    return strcmp(gtk_entry_get_text(GTK_ENTRY(spin)), UNSET) == 0;
}

static GtkWidget *number_widget(row *r, const cJSON *field)
{
    double step = number(field, "multipleOf", r->kind == GRV_INTEGER ? 1 : 0.05);
    double min = number(field, "minimum", 0);
    double max = number(field, "maximum", r->kind == GRV_INTEGER ? 1000 : 100);
    r->preset = number(field, "default", NAN);
    r->unset = isnan(r->preset) ? min - step : -G_MAXDOUBLE;
    GtkWidget *spin = gtk_spin_button_new_with_range(isnan(r->preset) ? r->unset : min, max,
                                                     step < 0.05 ? 0.05 : step);
    gtk_spin_button_set_digits(GTK_SPIN_BUTTON(spin), r->kind == GRV_INTEGER ? 0 : 2);
    gtk_spin_button_set_value(GTK_SPIN_BUTTON(spin), isnan(r->preset) ? r->unset : r->preset);
    if (isnan(r->preset)) {
        gtk_spin_button_set_numeric(GTK_SPIN_BUTTON(spin), FALSE); /* else it would not show words */
        g_signal_connect(spin, "output", G_CALLBACK(show_unset), r);
        g_signal_connect(spin, "input", G_CALLBACK(read_unset), r);
        gtk_spin_button_update(GTK_SPIN_BUTTON(spin));
    }
    return spin;
}

static GtkWidget *text_widget(row *r, const cJSON *field)
{
    const char *preset = cJSON_GetStringValue(cJSON_GetObjectItem(field, "default"));
    const cJSON *words = cJSON_GetObjectItem(field, "enum"), *w = NULL;
    r->word = g_strdup(preset ? preset : "");
    if (!words)
        return gtk_entry_new();
    GtkWidget *combo = gtk_combo_box_text_new();
    if (!preset)
        gtk_combo_box_text_append(GTK_COMBO_BOX_TEXT(combo), "", UNSET);
    cJSON_ArrayForEach(w, words)
    {
        const char *word = cJSON_GetStringValue(w);
        gtk_combo_box_text_append(GTK_COMBO_BOX_TEXT(combo), word, word);
    }
    gtk_combo_box_set_active_id(GTK_COMBO_BOX(combo), r->word);
    return combo;
}

/* A heading where a group of the table begins. */
static void begin_group(grv_rows *r, const char *group)
{
    if (g_strcmp0(r->group, group) == 0)
        return;
    g_free(r->group);
    r->group = g_strdup(group);
    char *markup = g_markup_printf_escaped("<b>%s</b>", _(group));
    GtkWidget *title = gtk_label_new(NULL);
    gtk_label_set_markup(GTK_LABEL(title), markup);
    gtk_label_set_xalign(GTK_LABEL(title), 0);
    gtk_widget_set_margin_top(title, r->line ? 6 : 0);
    gtk_grid_attach(GTK_GRID(r->grid), title, 0, r->line++, 2, 1);
    g_free(markup);
}

static void add_row(void *user, const char *path, grv_kind k, const cJSON *field)
{
    grv_rows *rows = user;
    if (g_strv_contains(rows->skip, path) || k == GRV_OTHER || k == GRV_LIST)
        return;
    row *r = g_new0(row, 1);
    r->path = g_strdup(path);
    r->kind = k;
    r->preset = NAN;
    const char *title = cJSON_GetStringValue(cJSON_GetObjectItem(field, "title"));
    const char *help = cJSON_GetStringValue(cJSON_GetObjectItem(field, "description"));
    const char *unit = cJSON_GetStringValue(cJSON_GetObjectItem(field, "x-unit"));
    const char *group = cJSON_GetStringValue(cJSON_GetObjectItem(field, "x-group"));
    if (k == GRV_SWITCH) {
        r->widget = gtk_check_button_new();
        r->preset = cJSON_IsTrue(cJSON_GetObjectItem(field, "default"));
        gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(r->widget), r->preset != 0);
    } else {
        r->widget = k == GRV_TEXT ? text_widget(r, field) : number_widget(r, field);
    }
    begin_group(rows, group ? group : "");
    const char *name = title ? _(title) : path;
    bool says_unit = unit && g_ascii_strcasecmp(unit, name) != 0;
    char *label = says_unit ? g_strdup_printf("%s (%s)", name, _(unit)) : g_strdup(name);
    grv_rows_add(rows->grid, rows->line++, label, r->widget, help ? _(help) : NULL);
    g_free(label);
    g_ptr_array_add(rows->rows, r);
}

void grv_rows_build(grv_rows *r, grv_engine *e, const char *model, const char *const *skip)
{
    if (r->grid)
        gtk_widget_destroy(r->grid);
    g_ptr_array_set_size(r->rows, 0);
    g_clear_pointer(&r->group, g_free);
    r->grid = grv_rows_grid();
    r->line = 0;
    r->skip = skip;
    grv_parameters_each(e, model, GRV_FILL, add_row, r);
    gtk_container_add(GTK_CONTAINER(r->box), r->grid);
    gtk_widget_show_all(r->grid);
}

static cJSON *value_of(const row *r)
{
    if (r->kind == GRV_SWITCH) {
        gboolean on = gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(r->widget));
        return on != (r->preset != 0) ? cJSON_CreateBool(on) : NULL;
    }
    if (r->kind == GRV_TEXT) {
        const char *word = GTK_IS_ENTRY(r->widget)
                               ? gtk_entry_get_text(GTK_ENTRY(r->widget))
                               : gtk_combo_box_get_active_id(GTK_COMBO_BOX(r->widget));
        return word && *word && strcmp(word, r->word) != 0 ? cJSON_CreateString(word) : NULL;
    }
    double v = gtk_spin_button_get_value(GTK_SPIN_BUTTON(r->widget));
    bool is_set = isnan(r->preset) ? v > r->unset : fabs(v - r->preset) > 1e-9;
    return is_set ? cJSON_CreateNumber(r->kind == GRV_REAL ? round(v * 100) / 100 : v) : NULL;
}

void grv_rows_write(const grv_rows *r, cJSON *task)
{
    for (guint i = 0; i < r->rows->len; i++) {
        const row *one = g_ptr_array_index(r->rows, i);
        cJSON *v = value_of(one);
        const char *last = one->path;
        if (!v)
            continue;
        cJSON *object = grv_parameter_place(task, one->path, &last);
        cJSON_DeleteItemFromObjectCaseSensitive(object, last);
        cJSON_AddItemToObject(object, last, v);
    }
}

static void load_row(row *r, const cJSON *v)
{
    if (r->kind == GRV_SWITCH) {
        gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(r->widget),
                                     v ? cJSON_IsTrue(v) : r->preset != 0);
    } else if (r->kind == GRV_TEXT) {
        const char *word = cJSON_GetStringValue(v);
        word = word ? word : r->word;
        if (GTK_IS_ENTRY(r->widget))
            gtk_entry_set_text(GTK_ENTRY(r->widget), word);
        else
            gtk_combo_box_set_active_id(GTK_COMBO_BOX(r->widget), word);
    } else {
        double otherwise = isnan(r->preset) ? r->unset : r->preset;
        gtk_spin_button_set_value(GTK_SPIN_BUTTON(r->widget),
                                  cJSON_IsNumber(v) ? v->valuedouble : otherwise);
    }
}

void grv_rows_load(grv_rows *r, const cJSON *task)
{
    for (guint i = 0; i < r->rows->len; i++) {
        row *one = g_ptr_array_index(r->rows, i);
        load_row(one, grv_parameter_find(task, one->path));
    }
}

/* ---- options of this plug-in ---- */

#define OPTION "reverie-option"

static gboolean show_least(GtkSpinButton *spin, gpointer user)
{
    const grv_option *o = user;
    if (gtk_spin_button_get_value_as_int(spin) != o->min)
        return FALSE;
    gtk_entry_set_text(GTK_ENTRY(spin), _(o->least));
    return TRUE;
}

/* "refuse" -> "Refuse", as the catalogue has it. */
static void append_word(GtkWidget *combo, const char *word)
{
    char *label = g_strdup(word);
    label[0] = g_ascii_toupper(label[0]);
    gtk_combo_box_text_append(GTK_COMBO_BOX_TEXT(combo), word, _(label));
    g_free(label);
}

static gint read_least(GtkSpinButton *spin, gdouble *value, gpointer user)
{
    const grv_option *o = user;
    *value = o->min;
    return strcmp(gtk_entry_get_text(GTK_ENTRY(spin)), _(o->least)) == 0;
}

static GtkWidget *option_widget(const grv_option *o, GCallback changed, gpointer user)
{
    GtkWidget *w;
    if (o->kind == GRV_NUMBER) {
        w = gtk_spin_button_new_with_range(o->min, o->max, 1);
        gtk_spin_button_set_numeric(GTK_SPIN_BUTTON(w), o->least == NULL);
        if (o->least) {
            g_signal_connect(w, "output", G_CALLBACK(show_least), (gpointer)o);
            g_signal_connect(w, "input", G_CALLBACK(read_least), (gpointer)o);
        }
        gtk_spin_button_set_value(GTK_SPIN_BUTTON(w), o->preset);
        gtk_spin_button_update(GTK_SPIN_BUTTON(w));
        g_signal_connect_swapped(w, "value-changed", changed, user);
    } else {
        w = gtk_combo_box_text_new();
        char **words = g_strsplit(o->words, "|", -1);
        for (char **word = words; *word; word++)
            append_word(w, *word);
        gtk_combo_box_set_active(GTK_COMBO_BOX(w), 0);
        g_strfreev(words);
        g_signal_connect_swapped(w, "changed", changed, user);
    }
    g_object_set_data(G_OBJECT(w), OPTION, (gpointer)o);
    return w;
}

GtkWidget *grv_rows_options(grv_action action, const char *const *skip, GCallback changed,
                            gpointer user)
{
    GtkWidget *grid = grv_rows_grid();
    int line = 0;
    for (const grv_option *o = grv_options; o->name; o++) {
        if (!(o->actions & 1u << action) || g_strv_contains(skip, o->name))
            continue;
        grv_rows_add(grid, line++, _(o->label), option_widget(o, changed, user), _(o->help));
    }
    return grid;
}

static void write_option(GtkWidget *w, gpointer user)
{
    const grv_option *o = g_object_get_data(G_OBJECT(w), OPTION);
    if (o && o->kind == GRV_NUMBER)
        grv_request_set_int(user, o->name, gtk_spin_button_get_value_as_int(GTK_SPIN_BUTTON(w)));
    else if (o && gtk_combo_box_get_active_id(GTK_COMBO_BOX(w)))
        grv_request_set_word(user, o->name, gtk_combo_box_get_active_id(GTK_COMBO_BOX(w)));
}

void grv_rows_options_write(GtkWidget *options, grv_request *q)
{
    gtk_container_foreach(GTK_CONTAINER(options), write_option, q);
}

static void load_option(GtkWidget *w, gpointer user)
{
    const grv_option *o = g_object_get_data(G_OBJECT(w), OPTION);
    if (o && o->kind == GRV_NUMBER)
        gtk_spin_button_set_value(GTK_SPIN_BUTTON(w), grv_request_int(user, o->name));
    else if (o)
        gtk_combo_box_set_active_id(GTK_COMBO_BOX(w), grv_request_word(user, o->name));
}

void grv_rows_options_load(GtkWidget *options, const grv_request *q)
{
    gtk_container_foreach(GTK_CONTAINER(options), load_option, (gpointer)q);
}
