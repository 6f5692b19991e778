/* See loras.h. */
#include "loras.h"

#include <glib/gi18n-lib.h>
#include <libgimp/gimpui.h>
#include <math.h>

struct grv_loras {
    grv_engine *engine;
    GtkWidget *expander, *rows;
    cJSON *names; /* that the model's card tells; NULL: none */
};

static GtkWidget *icon_button(const char *icon, const char *help)
{
    GtkWidget *b = gtk_button_new_from_icon_name(icon, GTK_ICON_SIZE_BUTTON);
    gtk_widget_set_tooltip_text(b, help);
    atk_object_set_name(gtk_widget_get_accessible(b), help);
    return b;
}

static void fill(grv_loras *l, GtkWidget *combo)
{
    const cJSON *n = NULL;
    gtk_combo_box_text_remove_all(GTK_COMBO_BOX_TEXT(combo));
    cJSON_ArrayForEach(n, l->names)
    {
        if (cJSON_IsString(n))
            gtk_combo_box_text_append_text(GTK_COMBO_BOX_TEXT(combo), n->valuestring);
    }
}

static void remove_row(GtkWidget *button, gpointer row)
{
    gtk_widget_destroy(row);
}

static void add(grv_loras *l, const char *model, double weight)
{
    GtkWidget *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 4);
    GtkWidget *name = gtk_combo_box_text_new_with_entry();
    GtkWidget *entry = gtk_bin_get_child(GTK_BIN(name));
    GtkWidget *spin = gtk_spin_button_new_with_range(-4, 4, 0.05);
    GtkWidget *less = icon_button(GIMP_ICON_LIST_REMOVE, _("Remove this LoRA"));
    fill(l, name);
    gtk_entry_set_text(GTK_ENTRY(entry), model);
    gtk_entry_set_placeholder_text(GTK_ENTRY(entry), "local:style@1");
    gtk_entry_set_width_chars(GTK_ENTRY(entry), 12);
    gtk_spin_button_set_value(GTK_SPIN_BUTTON(spin), weight);
    gtk_widget_set_tooltip_text(spin, _("Strength; negative values steer away"));
    gtk_box_pack_start(GTK_BOX(row), name, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(row), spin, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(row), less, FALSE, FALSE, 0);
    g_object_set_data(G_OBJECT(row), "name", name);
    g_object_set_data(G_OBJECT(row), "weight", spin);
    g_signal_connect(less, "clicked", G_CALLBACK(remove_row), row);
    gtk_box_pack_start(GTK_BOX(l->rows), row, FALSE, FALSE, 0);
    gtk_widget_show_all(row);
}

/* The first that is known, so that one click is enough. */
static void on_add(GtkWidget *button, gpointer user)
{
    grv_loras *l = user;
    const char *first = cJSON_GetStringValue(cJSON_GetArrayItem(l->names, 0));
    add(l, first ? first : "", 1);
}

grv_loras *grv_loras_new(grv_engine *e)
{
    grv_loras *l = g_new0(grv_loras, 1);
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 4);
    GtkWidget *more = icon_button(GIMP_ICON_LIST_ADD, _("Add a LoRA"));
    l->engine = e;
    l->expander = gtk_expander_new_with_mnemonic(_("_LoRAs"));
    l->rows = gtk_box_new(GTK_ORIENTATION_VERTICAL, 4);
    gtk_widget_set_halign(more, GTK_ALIGN_START);
    gtk_box_pack_start(GTK_BOX(box), l->rows, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(box), more, FALSE, FALSE, 0);
    gtk_container_add(GTK_CONTAINER(l->expander), box);
    g_signal_connect(more, "clicked", G_CALLBACK(on_add), l);
    return l;
}

void grv_loras_free(grv_loras *l)
{
    cJSON_Delete(l->names);
    g_free(l);
}

GtkWidget *grv_loras_widget(grv_loras *l)
{
    return l->expander;
}

static void refill(GtkWidget *row, gpointer user)
{
    GtkWidget *combo = g_object_get_data(G_OBJECT(row), "name");
    GtkWidget *entry = gtk_bin_get_child(GTK_BIN(combo));
    char *typed = g_strdup(gtk_entry_get_text(GTK_ENTRY(entry)));
    fill(user, combo);
    gtk_entry_set_text(GTK_ENTRY(entry), typed);
    g_free(typed);
}

void grv_loras_set_model(grv_loras *l, const char *model)
{
    char *text = rv_models_json(grv_engine_context(l->engine));
    cJSON *models = text ? cJSON_Parse(text) : NULL, *m = NULL;
    cJSON_Delete(l->names);
    l->names = NULL;
    cJSON_ArrayForEach(m, models)
    {
        if (g_strcmp0(cJSON_GetStringValue(cJSON_GetObjectItem(m, "id")), model) == 0)
            l->names = cJSON_DetachItemFromObject(m, "loras");
    }
    gtk_container_foreach(GTK_CONTAINER(l->rows), refill, l);
    cJSON_Delete(models);
    rv_free(text);
}

static void write_row(GtkWidget *row, gpointer list)
{
    char *name =
        gtk_combo_box_text_get_active_text(g_object_get_data(G_OBJECT(row), "name"));
    double weight = gtk_spin_button_get_value(g_object_get_data(G_OBJECT(row), "weight"));
    if (name && *name) {
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "model", name);
        cJSON_AddNumberToObject(one, "weight", round(weight * 100) / 100);
        cJSON_AddItemToArray(list, one);
    }
    g_free(name);
}

void grv_loras_write(grv_loras *l, cJSON *task)
{
    cJSON *list = cJSON_CreateArray();
    gtk_container_foreach(GTK_CONTAINER(l->rows), write_row, list);
    if (cJSON_GetArraySize(list))
        cJSON_AddItemToObject(task, "lora", list);
    else
        cJSON_Delete(list);
}

static void drop(GtkWidget *row, gpointer user)
{
    gtk_widget_destroy(row);
}

void grv_loras_load(grv_loras *l, const cJSON *task)
{
    const cJSON *one = NULL;
    gtk_container_foreach(GTK_CONTAINER(l->rows), drop, NULL);
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(task, "lora"))
    {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(one, "model"));
        const cJSON *weight = cJSON_GetObjectItem(one, "weight");
        add(l, name ? name : "", cJSON_IsNumber(weight) ? weight->valuedouble : 1);
    }
}
