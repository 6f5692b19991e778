/* Collecting the problems of a batch, each with its place in the text and the error object that goes over the wire.
 * Texts live in the batch's pool. */
#ifndef RV_ISSUES_H
#define RV_ISSUES_H

#include "base/pool.h"
#include "reverie.h"
#include "table.h"

#define RV__MAX_ISSUES 1000 /* per batch; one more says that there were others */

/* Where something stands: a chain from the value up to the text's root. */
typedef struct rv__place {
    const struct rv__place *up;   /* NULL: the root                          */
    const char             *name; /* member of an object, or NULL            */
    size_t                  index; /* element of an array when name is NULL  */
    bool                    task; /* the task object: dotted names begin here */
} rv__place;

char *rv__place_pointer(rv__pool *pool, const rv__place *place); /* "/0/lora/1/weight" */
char *rv__place_dotted(rv__pool *pool, const rv__place *place);  /* "lora[1].weight"   */

/* A name from outside, shortened for messages. */
const char *rv__clip(rv__pool *pool, const char *text);

typedef struct rv__issues {
    rv__pool *pool;
    rv_issue *list;      /* ended by one without message */
    char    **limits;    /* of each: members of the error object, `,"type":"integer",…`, or NULL */
    char    **documents; /* of each: its documentation link, or NULL */
    size_t    count, cap, errors;
    /* of the task that is being checked */
    size_t      task;
    const char *task_type, *task_uuid, *documentation;
} rv__issues;

/* What is wrong.  paths and parameters have `places` entries of the pool. */
typedef struct rv__problem {
    const char     **pointers, **parameters;
    size_t           places;
    const char      *code, *rule;
    const rv__field *field;   /* whose limits the error object shows, or NULL */
    double           max;     /* instead of the field's, when not 0           */
    const char      *nearest; /* JSON text or NULL                            */
    bool             warning;
} rv__problem;

void rv__issues_add(rv__issues *list, const rv__problem *p, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a problem with one place. */
void rv__issues_at(rv__issues *list, const rv__place *place, rv__problem p, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

void rv__issues_free(rv__issues *list);

/* "invalid" or "missing" + name with a capital, in the pool. */
const char *rv__code_for(rv__pool *pool, const char *prefix, const char *name);

/* One element of rv_batch_issues_json. */
void rv__issue_json(rv__buf *b, const rv__issues *list, const rv_issue *issue);
void rv__issue_wire(rv__buf *b, const rv__issues *list, const rv_issue *issue);

#endif
