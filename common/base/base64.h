/* Base64 (RFC 4648, standard alphabet, with padding).  Decoding is strict: no spaces, no missing padding, no stray
 * bits behind the last byte, so that every byte string has exactly one accepted text. */
#ifndef RV_BASE64_H
#define RV_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* Characters that len bytes need (no NUL); SIZE_MAX when that does not fit. */
size_t rv__base64_size(size_t len);

/* Writes exactly rv__base64_size(len) characters and no NUL. */
void rv__base64_encode(const void *data, size_t len, char *out);

/* Bytes that the text stands for, at most len / 4 * 3; false when it is not strict base64.  out may be NULL (only
 * check and measure) or the text itself (decode in place). */
bool rv__base64_decode(const char *text, size_t len, void *out, size_t *out_len);

#endif
