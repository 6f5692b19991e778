/* UUIDs: making random ones (version 4) and checking the form of others.  Also the source of random bytes. */
#ifndef RV_UUID_H
#define RV_UUID_H

#include <stdbool.h>
#include <stddef.h>

#define RV__UUID_SIZE 37 /* 36 characters and a NUL */

/* The UUID (its form that of version 4) that these bytes stand for. */
void rv__uuid_write(const unsigned char bytes[16], char out[RV__UUID_SIZE]);

/* A new version 4 UUID in lower case.  It cannot be guessed (picture URLs rely on that).  False when the system has
 * no random bytes; out is empty then. */
bool rv__uuid_make(char out[RV__UUID_SIZE]);

/* Eight, four, four, four and twelve hexadecimal digits with dashes; any version, either case. */
bool rv__uuid_valid(const char *text, size_t len);

/* The same and version 4 (variant 10). */
bool rv__uuid_is_v4(const char *text, size_t len);

/* Random bytes from the kernel; false when it has none. */
bool rv__random(void *out, size_t len);

#endif
