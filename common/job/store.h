/* Stored pictures: files in one folder, named by 128 random bits and their expiry, so that whoever
 * serves them needs no database.  "kr3x…-66f0a1b2.png": 26 base32 characters, a dash, unix seconds
 * in hex (0: never), the extension. */
#ifndef RV_STORE_H
#define RV_STORE_H

#include <stdint.h>
#include <time.h>

#include "base/status.h"

typedef struct rv__store rv__store;

enum { RV__STORE_NAME = 64 }; /* bytes a name needs, with its NUL */

/* Makes the folder when it is missing (its parent must exist).  Checks that it can be written. */
rv_status rv__store_open(const char *folder, rv__store **out, rv_error *err);
void rv__store_close(rv__store *s);

/* Writes a file under a new name, complete or not at all.  expiry 0: never.  Any thread. */
rv_status rv__store_put(rv__store *s, const void *bytes, size_t len, const char *ext,
                        int64_t expiry, char name[RV__STORE_NAME], rv_error *err);

/* Reads a stored file (out; rv__free).  RV_NOT_FOUND when the name is not one of ours, expired or not
 * there any more; RV_VALIDATION when it has more than max bytes.  Any thread. */
rv_status rv__store_read(rv__store *s, const char *name, size_t max, char **bytes, size_t *len,
                         rv_error *err);

/* The absolute path of the folder. */
const char *rv__store_folder(const rv__store *s);

/* Removes what expired before `now`, and temporary files nobody finished for an hour.  Returns how
 * many files were removed.  Files with other names are not touched. */
size_t rv__store_sweep(rv__store *s, time_t now);

/* The expiry in a name (all of it is checked): false when it is not one of ours.  0: never. */
bool rv__store_expiry(const char *name, int64_t *expiry);

#endif
