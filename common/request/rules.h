/* Rules that involve two or more parameters: the second table.  Like the first it is data for the validator, the
 * reference page and the tests. */
#ifndef RV_RULES_H
#define RV_RULES_H

#include "values.h"

#define RV__RULE_FIELDS 6

typedef struct rv__rule_input {
    const rv__node *task;
    const rv__node *item; /* the object or the element it is about */
} rv__rule_input;

typedef struct rv__rule {
    const char *name;   /* for tests and docs: "size-pair"                                          */
    /* The object or list whose members it is about, or NULL: it is checked once for the object, for each element of the
     * list, and not at all where that is absent. */
    const char *about;
    const char *fields[RV__RULE_FIELDS]; /* dotted; "controlNet[].startStep" is of the element      */
    /* Set of the fields (bit i: fields[i]) that contradict each other; 0: fine.  Absent and bad values are fine. */
    unsigned  (*broken)(const rv__rule_input *in);
    const char *code, *kind; /* kind is rv_issue.rule */
    const char *sentence;
    bool        warning;
} rv__rule;

/* Ended by a row without name. */
extern const rv__rule rv__rules[];

/* Adds an issue for each broken rule; place is that of the task.  False when one of them is an error. */
bool rv__check_rules(const rv__checker *c, const rv__node *task, const rv__place *place);

/* Does this scheduler add noise at every step (SDE, ancestral)?  Caches cannot work then. */
bool rv__scheduler_is_stochastic(const char *name);

/* floor(steps * percent / 100): the step that a percentage means. */
int64_t rv__percent_step(int64_t steps, int64_t percent);

#endif
