/* A request as people and scripts write it: a task of the parameter table (a Runware imageInference
 * object) and, under "gimp", what concerns the image in GIMP.  The same text is the recipe that
 * layers carry.  Must never hold keys or pictures. */
#ifndef GRV_REQUEST_H
#define GRV_REQUEST_H

#include <cjson/cJSON.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "reverie.h"

typedef enum grv_action {
    GRV_GENERATE,
    GRV_REIMAGINE,
    GRV_FILL,
    GRV_EXTEND,
    GRV_ACTIONS
} grv_action;

const char *grv_action_word(grv_action a);  /* "fill": scripts, recipes             */
const char *grv_action_label(grv_action a); /* "Fill selection": people, translated */

/* One member of "gimp".  Numbers have a range; texts a list of words separated by | (empty:
 * anything). */
typedef struct grv_option {
    const char *name;
    enum { GRV_NUMBER, GRV_WORD } kind;
    unsigned actions; /* bit per grv_action for which it counts */
    int min, max, preset;
    const char *words; /* first: the default */
    const char *label, *help;
    const char *least; /* what the smallest number means in words; NULL: itself */
} grv_option;

extern const grv_option grv_options[]; /* ended by one without name */

typedef struct grv_request {
    grv_action action;
    cJSON *task; /* members of the table, without identity, size in the image or pictures */
    cJSON *gimp; /* every option, defaults filled in                                      */
} grv_request;

#define GRV_ERROR (grv_error_quark())
GQuark grv_error_quark(void);

/* Takes text apart and checks the "gimp" member (out: grv_request_free); NULL with error.  The
 * task's members are checked by the core when they are used. */
grv_request *grv_request_parse(const char *text, GError **error);
grv_request *grv_request_new(grv_action action);
grv_request *grv_request_copy(const grv_request *q);
void grv_request_free(grv_request *q);

/* The text again (g_free), with what the maker adds under "result" (may be NULL). */
char *grv_request_text(const grv_request *q, const cJSON *result);

int grv_request_int(const grv_request *q, const char *option);
const char *grv_request_word(const grv_request *q, const char *option);
bool grv_request_set_int(grv_request *q, const char *option, int value);
void grv_request_set_word(grv_request *q, const char *option, const char *value);

/* Members of the task. */
const char *grv_request_prompt(const grv_request *q); /* "" when there is none */
void grv_request_set_text(grv_request *q, const char *member,
                          const char *value); /* "" removes it */
void grv_request_set_seed(grv_request *q, uint64_t seed);
void grv_request_drop(grv_request *q, const char *member);

#endif
