/* The key for a server: from $REVERIE_KEY, the file `key` of the settings folder (mode 0600), or
 * the desktop's keyring. Must never write it anywhere else: no settings, no procedure arguments, no
 * images, no logs. */
#ifndef GRV_SECRET_H
#define GRV_SECRET_H

#include <glib.h>
#include <stdbool.h>

/* Looks for the key of a server, on another thread where that may take time; calls back from the
 * main loop, key NULL: there is none.  error: a key file that others may read. */
typedef void grv_secret_fn(void *user, const char *key, const GError *error);
void grv_secret_look(const char *server, grv_secret_fn *fn, void *user);

/* Keeps a key (NULL or "": forgets it): in the keyring, and where there is none in the file.  Tells
 * where. */
bool grv_secret_keep(const char *server, const char *key, const char **where, GError **error);

#endif
