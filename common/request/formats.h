/* Forms of texts that parameters ask for. */
#ifndef RV_FORMATS_H
#define RV_FORMATS_H

#include "table.h"

/* SOURCE:ID@VERSION, as in runware:97@3 or civitai:139562@297320. */
bool rv__air_valid(const char *text);

/* http:// or https:// with a host, without spaces, quotes or control characters. */
bool rv__url_valid(const char *text);

/* NULL when the text has the form, else what was expected ("a URL that starts with http:// or https://"). */
const char *rv__format_wrong(rv__form format, bool strict_uuid, const char *text);

/* Name of a form for schemas and docs: "uuid", "uri", "air", "picture" …, NULL for any text. */
const char *rv__format_word(rv__form format);

#endif
