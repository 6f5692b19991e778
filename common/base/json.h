/* JSON: the only door to cJSON.  Strict parsing with limits, numbers that keep their source digits (seeds are exact
 * unsigned 64-bit integers), and small accessors.  Everything else in the tree sees rv__value only. */
#ifndef RV_JSON_H
#define RV_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory.h"

typedef struct cJSON rv__value;

/* Where and why a text is not acceptable JSON. */
typedef struct rv__json_error {
    size_t      offset;  /* byte in the text        */
    const char *message; /* static sentence         */
} rv__json_error;

#define RV__JSON_DEPTH 32        /* nested arrays and objects                                      */
#define RV__JSON_VALUES (1 << 23) /* values of one text: what it costs in memory is bounded by this  */

/* Parses a whole text: RFC 8259 strictly (no BOM, no trailing text, no leading zeros, no raw control characters),
 * valid UTF-8, no escaped NUL, no lone surrogates, nesting at most RV__JSON_DEPTH, finite numbers of at most 63
 * characters.  out (rv__json_free); NULL and *err (may be NULL) otherwise, where the message rv__json_no_memory
 * tells that it is not the text's fault.  Duplicate keys are kept; find them with rv__json_duplicate.  Any thread. */
rv__value *rv__json_parse(const char *text, size_t len, rv__json_error *err);
void       rv__json_free(rv__value *v);

/* The same with a limit of values that fits the source: a request needs fewer than a tokenizer file. */
rv__value *rv__json_parse_limited(const char *text, size_t len, size_t max_values, rv__json_error *err);

extern const char rv__json_no_memory[];

/* First key that appears twice in this object (not below it), or NULL; NULL also when memory is out. */
const char *rv__json_duplicate(const rv__value *object);

bool rv__json_is_object(const rv__value *v);
bool rv__json_is_array(const rv__value *v);
bool rv__json_is_string(const rv__value *v);
bool rv__json_is_number(const rv__value *v);
bool rv__json_is_bool(const rv__value *v);
bool rv__json_is_null(const rv__value *v);

/* Members and elements.  NULL when absent or of another kind; keys compare exactly. */
const rv__value *rv__json_get(const rv__value *object, const char *key);
const rv__value *rv__json_at(const rv__value *array, size_t i); /* O(i): walk with first/next in loops */
size_t           rv__json_size(const rv__value *v);              /* members or elements                 */
const rv__value *rv__json_first(const rv__value *v);
const rv__value *rv__json_next(const rv__value *v);
const char      *rv__json_key(const rv__value *member);

/* Values.  The bool results say whether v is of that kind and fits; *out is untouched otherwise.  1024.0 and 1e3 are
 * integers; digits are compared as text, never through a double. */
const char *rv__json_string(const rv__value *v); /* NULL when not a string */
bool        rv__json_number(const rv__value *v, double *out);
bool        rv__json_int(const rv__value *v, int64_t *out);
bool        rv__json_uint(const rv__value *v, uint64_t *out);
bool        rv__json_bool(const rv__value *v, bool *out);
const char *rv__json_digits(const rv__value *v); /* the source text of a number, or NULL */

/* The number that a whole text stands for, whatever the locale; false when it is none. */
bool rv__json_read_number(const char *text, double *out);

/* Member look-up with a default, for configuration files. */
int64_t     rv__json_get_int(const rv__value *object, const char *key, int64_t fallback);
double      rv__json_get_number(const rv__value *object, const char *key, double fallback);
bool        rv__json_get_bool(const rv__value *object, const char *key, bool fallback);
const char *rv__json_get_string(const rv__value *object, const char *key, const char *fallback);

/* Building a tree: a value is added to an object under a name (borrowed: it lives as long as the tree), or to an array
 * under NULL.  False or NULL when out of memory. */
rv__value *rv__json_new_object(void);
rv__value *rv__json_add_object(rv__value *to, const char *name);
rv__value *rv__json_add_array(rv__value *to, const char *name);
bool       rv__json_add_text(rv__value *to, const char *name, const char *text);
bool       rv__json_add_bool(rv__value *to, const char *name, bool v);
bool       rv__json_add_int(rv__value *to, const char *name, int64_t v);
bool       rv__json_add_uint(rv__value *to, const char *name, uint64_t v);
bool       rv__json_add_double(rv__value *to, const char *name, double v);
/* From JSON text: a number, true, false, or a text without escapes. */
bool       rv__json_add_scalar(rv__value *to, const char *name, const char *json);

/* Writing straight into a buffer; the caller places braces and commas. */
void rv__json_write_string(rv__buf *b, const char *text);              /* quoted and escaped            */
void rv__json_write_text(rv__buf *b, const char *text, size_t len);    /* the same for pointer + length */
void rv__json_write_int(rv__buf *b, int64_t v);
void rv__json_write_uint(rv__buf *b, uint64_t v);
void rv__json_write_double(rv__buf *b, double v);                      /* shortest that reads back      */
void rv__json_write_value(rv__buf *b, const rv__value *v);             /* compact; numbers by their digits */

#endif
