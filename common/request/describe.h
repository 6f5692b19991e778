/* Descriptions derived from the two tables: JSON schemas and the reference page. */
#ifndef RV_DESCRIBE_H
#define RV_DESCRIBE_H

#include "models.h"
#include "table.h"

/* The members of one row's schema, without braces; no_maximum leaves that limit to the caller. */
void rv__describe_row(rv__buf *b, const rv__field *f, bool no_maximum);

/* Markdown of every parameter and every rule (out; rv__free): common/request/parameters.md is this text. */
char *rv__parameters_page(void);

#endif
