/* Unicode for the tokenizers: normal forms, lower case, clusters.  All texts are pointer + length,
 * may contain NUL, and must be valid UTF-8 (rv__utf8_valid). */
#ifndef RV_UNICODE_H
#define RV_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

typedef enum rv__unicode_form { RV__NFC, RV__NFD, RV__NFKC, RV__NFKD } rv__unicode_form;

/* Reads one code point at text[0]; returns its bytes (at least 1).  len must not be 0. */
size_t rv__unicode_next(const char *text, size_t len, int32_t *codepoint);

/* Start of the code point that ends at text[end]; end must not be 0. */
size_t rv__unicode_back(const char *text, size_t end);

void rv__unicode_add(rv__buf *out, int32_t codepoint);

/* Appends the normal form.  Linear time but for runs of combining marks, which are sorted in linear
 * time too. */
void rv__unicode_normalize(rv__unicode_form form, const char *text, size_t len, rv__buf *out);

/* Appends the lower case of each code point by itself, without regard to its neighbours. */
void rv__unicode_lower(const char *text, size_t len, rv__buf *out);

/* Bytes of the first extended grapheme cluster; len must not be 0. */
size_t rv__unicode_cluster(const char *text, size_t len);

bool rv__unicode_is_space(int32_t codepoint); /* the White_Space property                     */
bool rv__unicode_is_word(int32_t codepoint);  /* letters, marks, digits, connector punctuation */

#endif
