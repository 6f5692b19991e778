/* Checking values against rows.  The result is a tree of slots, one per row, that cross rules and normalisation read
 * by canonical name; it borrows the parsed text. */
#ifndef RV_VALUES_H
#define RV_VALUES_H

#include "issues.h"
#include "task.h"

typedef struct rv__node rv__node;

/* What the text says about one row. */
typedef struct rv__slot {
    const rv__value *value; /* NULL: absent (also when it was null or an ignored empty text) */
    bool             seen;  /* the name occurred                                            */
    bool             bad;   /* the value, or something in it, has an issue                  */
    rv__node        *nodes; /* of an object (one) or a list (count)                         */
    size_t           count;
} rv__slot;

struct rv__node {
    const rv__field *fields;
    rv__slot        *slots; /* one per row */
};

typedef struct rv__checker {
    rv__issues               *issues;
    const rv__check_settings *settings;
    bool                      known; /* the model is known: rows of other families are refused */
    rv__pool                 *slots; /* memory of the nodes, which nobody needs once the task is normalised */
} rv__checker;

/* Checks an object against rows; source is the same level of the whole table.  False when something has an issue. */
bool rv__check_object(const rv__checker *c, const rv__value *object, const rv__field *fields,
                      const rv__field *source, const rv__place *place, rv__node *out);

/* Slot of a dotted path ("acceleratorOptions.cacheStartStep"); *field gets its row (may be NULL).  NULL when the
 * model has no such row or an object on the way is absent. */
const rv__slot *rv__node_find(const rv__node *n, const char *path, const rv__field **field);

/* Is there a good value? */
bool rv__node_given(const rv__node *n, const char *path);

/* The given value, else the default; false when there is neither or the value is bad. */
bool rv__node_int(const rv__node *n, const char *path, int64_t *out);
bool rv__node_number(const rv__node *n, const char *path, double *out);
bool rv__node_true(const rv__node *n, const char *path);

/* The given text (of enums in canonical spelling), else the default without its quotes; NULL as above.  The default
 * is copied to `room`. */
const char *rv__node_text(const rv__node *n, const char *path, char *room, size_t size);

/* Largest value a numeric row takes under these settings; 0: none. */
double rv__field_max(const rv__field *f, const rv__check_settings *s);

#endif
