/* See settings_dialog.h. */
#include "settings_dialog.h"

#include <glib/gi18n-lib.h>
#include <string.h>

#include "rows.h"
#include "secret.h"
#include "settings.h"

static GtkWidget *dialog_new(GtkWindow *parent, const char *title)
{
    GtkWidget *d =
        gtk_dialog_new_with_buttons(title, parent, GTK_DIALOG_MODAL, _("_Cancel"),
                                    GTK_RESPONSE_CANCEL, _("_OK"), GTK_RESPONSE_OK, NULL);
    gtk_dialog_set_default_response(GTK_DIALOG(d), GTK_RESPONSE_OK);
    gtk_container_set_border_width(GTK_CONTAINER(d), 12);
    return d;
}

static GtkWidget *entry(const char *value, const char *placeholder)
{
    GtkWidget *e = gtk_entry_new();
    gtk_entry_set_text(GTK_ENTRY(e), value ? value : "");
    gtk_entry_set_placeholder_text(GTK_ENTRY(e), placeholder);
    gtk_entry_set_activates_default(GTK_ENTRY(e), TRUE);
    gtk_entry_set_width_chars(GTK_ENTRY(e), 40);
    return e;
}

static GtkWidget *check(const char *label, const char *setting)
{
    char *value = grv_settings_get(setting, "on");
    GtkWidget *c = gtk_check_button_new_with_mnemonic(label);
    gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(c), strcmp(value, "off") != 0);
    g_free(value);
    return c;
}

static void store_check(GtkWidget *c, const char *setting)
{
    grv_settings_set(setting, gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(c)) ? "on" : "off");
}

/* An empty field changes nothing. */
static bool keep_key(GtkWindow *parent, const char *server, const char *key)
{
    const char *where = NULL;
    GError *error = NULL;
    if (!*key)
        return false;
    bool ok = grv_secret_keep(server, key, &where, &error);
    char *text = ok ? g_strdup_printf(_("The key is kept %s."), where) : g_strdup(error->message);
    GtkWidget *d = gtk_message_dialog_new(parent, GTK_DIALOG_MODAL,
                                          ok ? GTK_MESSAGE_INFO : GTK_MESSAGE_ERROR,
                                          GTK_BUTTONS_CLOSE, "%s", text);
    g_free(text);
    gtk_dialog_run(GTK_DIALOG(d));
    gtk_widget_destroy(d);
    g_clear_error(&error);
    return ok;
}

bool grv_settings_dialog(GtkWindow *parent)
{
    GtkWidget *d = dialog_new(parent, _("Settings of Reverie")), *grid = grv_rows_grid();
    char *server = grv_settings_get("server", NULL);
    GtkWidget *address = entry(server, _("empty: the engine of this machine"));
    GtkWidget *history = check(_("Keep results in the _history"), "history");
    GtkWidget *recipes =
        check(_("Write _recipes into layers, so that they can be made again"), "recipes");
    GtkWidget *key = entry(NULL, _("as it is kept"));
    gtk_entry_set_visibility(GTK_ENTRY(key), FALSE);
    gtk_entry_set_input_purpose(GTK_ENTRY(key), GTK_INPUT_PURPOSE_PASSWORD);
    grv_rows_add(grid, 0, _("_Server"), address, _("https://host/ or unix:PATH of a reveried"));
    grv_rows_add(grid, 1, _("_Key"), key,
                 _("Kept in the keyring, or in a file that only you can read"));
    gtk_grid_attach(GTK_GRID(grid), history, 0, 2, 2, 1);
    gtk_grid_attach(GTK_GRID(grid), recipes, 0, 3, 2, 1);
    gtk_container_add(GTK_CONTAINER(gtk_dialog_get_content_area(GTK_DIALOG(d))), grid);
    gtk_widget_show_all(d);
    bool is_other = false;
    if (gtk_dialog_run(GTK_DIALOG(d)) == GTK_RESPONSE_OK) {
        const char *now = gtk_entry_get_text(GTK_ENTRY(address));
        is_other = g_strcmp0(server ? server : "", now) != 0;
        grv_settings_set("server", now);
        is_other |= keep_key(parent, now, gtk_entry_get_text(GTK_ENTRY(key)));
        store_check(history, "history");
        store_check(recipes, "recipes");
        grv_settings_save(NULL);
    }
    gtk_widget_destroy(d);
    g_free(server);
    return is_other;
}

void grv_settings_help(GtkWindow *parent)
{
    char *here = grv_settings_here(), *page = g_build_filename(here, "help", "index.html", NULL);
    char *uri = g_filename_to_uri(page, NULL, NULL);
    if (uri && g_file_test(page, G_FILE_TEST_EXISTS))
        gtk_show_uri_on_window(parent, uri, GDK_CURRENT_TIME, NULL);
    g_free(uri);
    g_free(page);
    g_free(here);
}
