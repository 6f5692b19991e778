/* UTF-8 as the standard defines it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef RV_UTF8_H
#define RV_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that starts at text (1..4), or 0 when it is not valid within len bytes. */
size_t rv__utf8_next(const char *text, size_t len, uint32_t *character);

/* Length of the longest valid prefix: equal to len when all is well. */
size_t rv__utf8_valid(const char *text, size_t len);

/* Length of the beginning that a JSON text can hold as it is: ASCII without quotes, backslashes and control
 * characters. */
size_t rv__utf8_plain(const char *text, size_t len);

/* Number of characters (code points) of a valid text. */
size_t rv__utf8_count(const char *text, size_t len);

/* Writes a code point (not a surrogate) to out[4] and returns the number of bytes. */
size_t rv__utf8_put(uint32_t character, char out[4]);

#endif
