/* See secret.h.  The keyring's library is opened at run time: where it is missing the file serves.
 */
#include "secret.h"

#include <gio/gio.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include <gmodule.h>
#include <libsecret/secret.h>
#include <string.h>

#include "request.h"
#include "settings.h"

enum { KEY_MAX = 4096 };

static const SecretSchema schema = {"org.reverie.Server",
                                    SECRET_SCHEMA_NONE,
                                    {{"server", SECRET_SCHEMA_ATTRIBUTE_STRING}, {0}},
                                    0,
                                    0,
                                    0,
                                    0,
                                    0,
                                    0,
                                    0,
                                    0};

typedef struct keyring {
    __typeof__(&secret_password_lookup_sync) lookup;
    __typeof__(&secret_password_store_sync) store;
    __typeof__(&secret_password_clear_sync) clear;
    __typeof__(&secret_password_free) release;
} keyring;

static bool open_keyring(keyring *k)
{
    static GModule *library;
    if (!library)
        library = g_module_open("libsecret-1.so.0", G_MODULE_BIND_LAZY);
    return library &&
           g_module_symbol(library, "secret_password_lookup_sync", (gpointer *)&k->lookup) &&
           g_module_symbol(library, "secret_password_store_sync", (gpointer *)&k->store) &&
           g_module_symbol(library, "secret_password_clear_sync", (gpointer *)&k->clear) &&
           g_module_symbol(library, "secret_password_free", (gpointer *)&k->release);
}

/* ---- the file ---- */

static char *file_path(void)
{
    return g_build_filename(grv_settings_folder(), "key", NULL);
}

static char *key_of_file(GError **error)
{
    char *path = file_path(), *text = NULL;
    GStatBuf s;
    gsize len = 0;
    if (g_stat(path, &s) == 0 && (s.st_mode & 077) != 0)
        g_set_error(error, GRV_ERROR, RV_AUTH,
                    _("%s can be read by others and is not used: chmod 600"), path);
    else if (g_file_get_contents(path, &text, &len, NULL) && len <= KEY_MAX)
        g_strstrip(text);
    else
        g_clear_pointer(&text, g_free);
    g_free(path);
    return text;
}

static bool keep_in_file(const char *key, GError **error)
{
    char *path = file_path();
    bool ok = true;
    if (key && *key)
        ok = g_file_set_contents_full(path, key, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, error);
    else
        g_remove(path);
    g_free(path);
    return ok;
}

/* ---- looking ---- */

typedef struct look {
    grv_secret_fn *fn;
    void *user;
} look;

static void look_in_keyring(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    keyring k;
    char *found =
        open_keyring(&k) ? k.lookup(&schema, NULL, NULL, "server", (char *)data, NULL) : NULL;
    char *copy = g_strdup(found);
    if (found)
        k.release(found);
    g_task_return_pointer(task, copy, g_free);
}

static void on_found(GObject *source, GAsyncResult *result, gpointer user)
{
    look *l = user;
    char *key = g_task_propagate_pointer(G_TASK(result), NULL);
    l->fn(l->user, key, NULL);
    if (key)
        memset(key, 0, strlen(key));
    g_free(key);
    g_free(l);
}

void grv_secret_look(const char *server, grv_secret_fn *fn, void *user)
{
    GError *error = NULL;
    const char *given = g_getenv("REVERIE_KEY");
    char *own = given && *given ? g_strdup(given) : key_of_file(&error);
    if (own || error) {
        fn(user, own, error);
        g_clear_error(&error);
        g_free(own);
        return;
    }
    look *l = g_new0(look, 1);
    *l = (look){fn, user};
    GTask *task = g_task_new(NULL, NULL, on_found, l);
    g_task_set_task_data(task, g_strdup(server), g_free);
    g_task_run_in_thread(task, look_in_keyring);
    g_object_unref(task);
}

/* ---- keeping ---- */

bool grv_secret_keep(const char *server, const char *key, const char **where, GError **error)
{
    keyring k;
    bool has = open_keyring(&k), forgets = !key || !*key;
    *where = _("in the keyring");
    if (forgets) {
        if (has)
            k.clear(&schema, NULL, NULL, "server", server, NULL);
        return keep_in_file(NULL, error);
    }
    char *label = g_strdup_printf(_("Reverie at %s"), server);
    bool ok = has && k.store(&schema, SECRET_COLLECTION_DEFAULT, label, key, NULL, NULL, "server",
                             server, NULL);
    g_free(label);
    if (ok)
        return keep_in_file(NULL, error); /* in one place only */
    *where = _("in a file that only you can read");
    return keep_in_file(key, error);
}
