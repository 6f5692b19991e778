/* See lora_set.h. */
#include "lora_set.h"

#include <string.h>

#include "base/memory.h"

typedef struct entry {
    char *path;
    double weight;
    rv__lora *lora;
} entry;

struct rv__lora_set {
    size_t count;
    entry list[];
};

void rv__lora_set_free(rv__lora_set *set)
{
    for (size_t i = 0; set && i < set->count; i++) {
        rv__free(set->list[i].path);
        rv__lora_close(set->list[i].lora);
    }
    rv__free(set);
}

/* Adds up the entries of each file; keeps the order in which files come first. */
static rv__lora_set *add_up(const rv__lora_use *list, size_t count)
{
    rv__lora_set *set = rv__calloc(1, sizeof *set + count * sizeof set->list[0]);
    for (size_t i = 0; i < count && set; i++) {
        size_t k = 0;
        while (k < set->count && strcmp(set->list[k].path, list[i].path) != 0)
            k++;
        if (k == set->count) {
            set->list[k].path = rv__strdup(list[i].path);
            if (!set->list[k].path) {
                rv__lora_set_free(set);
                return NULL;
            }
            set->count++;
        }
        set->list[k].weight += list[i].weight;
    }
    return set;
}

static void drop_zeros(rv__lora_set *set)
{
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++) {
        if (set->list[i].weight != 0)
            set->list[kept++] = set->list[i];
        else
            rv__free(set->list[i].path);
    }
    set->count = kept;
}

static bool is_same(const rv__lora_set *a, const rv__lora_set *b)
{
    size_t n = a ? a->count : 0;
    bool same = n == b->count;
    for (size_t i = 0; i < n && same; i++)
        same =
            strcmp(a->list[i].path, b->list[i].path) == 0 && a->list[i].weight == b->list[i].weight;
    return same;
}

/* Opens what the old set has not open already. */
static rv_status open_all(rv__lora_set *set, rv__lora_set *old, const rv__weights *model,
                          rv_error *err)
{
    rv_status status = RV_OK;
    for (size_t i = 0; i < set->count && status == RV_OK; i++) {
        for (size_t k = 0; old && k < old->count && !set->list[i].lora; k++) {
            if (old->list[k].lora && strcmp(old->list[k].path, set->list[i].path) == 0) {
                set->list[i].lora = old->list[k].lora;
                old->list[k].lora = NULL;
            }
        }
        if (!set->list[i].lora)
            status = rv__lora_open(set->list[i].path, model, &set->list[i].lora, err);
    }
    return status;
}

/* Applies the parts of one component: through `params`, or to the transformer. */
static rv_status change_all(const rv__lora_set *set, int component, rv__params *params,
                            rv__transformer *t, rv_error *err)
{
    rv_status status = RV_OK;
    for (size_t i = 0; i < set->count && status == RV_OK; i++) {
        size_t parts;
        const rv__lora_part *p = rv__lora_parts(set->list[i].lora, &parts);
        float weight = (float)set->list[i].weight;
        for (size_t k = 0; k < parts && status == RV_OK; k++) {
            if (p[k].component != component)
                continue;
            status = params ? rv__params_change(params, &p[k], weight, err)
                            : rv__transformer_change(t, &p[k], weight, err);
        }
    }
    return status;
}

/* What the transformer's other machines need: the files. */
static rv_status tell_machines(const rv__lora_set *set, rv__transformer *t, rv_error *err)
{
    rv__machines_lora *list = rv__calloc(set->count + 1, sizeof *list);
    if (!list)
        return rv__fail(err, RV_MEMORY, "out of memory");
    for (size_t i = 0; i < set->count; i++)
        list[i] = (rv__machines_lora){set->list[i].path, set->list[i].weight};
    rv_status status = rv__transformer_loras(t, list, set->count, err);
    rv__free(list);
    return status;
}

static rv_status text_opened(void *user, rv__text_part part, rv__params *params, rv_error *err)
{
    return change_all(user, (int)part + 1, params, NULL, err);
}

static bool changes_texts(const rv__lora_set *set)
{
    for (size_t i = 0; set && i < set->count; i++)
        if (set->list[i].lora && rv__lora_changes_texts(set->list[i].lora))
            return true;
    return false;
}

/* Text encoders are opened anew, and changed as they are opened. */
static void renew_texts(rv__text *text, rv__lora_set *set)
{
    rv__text_release(text);
    rv__text_on_open(text, set ? text_opened : NULL, set);
}

rv_status rv__lora_set_use(rv__lora_set **set, const rv__weights *model, rv__transformer *t,
                           rv__text *text, const rv__lora_use *list, size_t count, bool *texts,
                           rv_error *err)
{
    rv__lora_set *old = *set, *wanted = add_up(list, count);
    *texts = false;
    if (!wanted)
        return rv__fail(err, RV_MEMORY, "out of memory");
    drop_zeros(wanted);
    if (is_same(old, wanted)) {
        rv_status told = tell_machines(wanted, t, err); /* these may be others than last time */
        rv__lora_set_free(wanted);
        return told;
    }
    *texts = changes_texts(old);
    rv__transformer_plain(t);
    rv_status status = open_all(wanted, old, model, err);
    *texts = *texts || changes_texts(wanted);
    if (status == RV_OK)
        status = change_all(wanted, 0, NULL, t, err);
    if (status == RV_OK)
        status = tell_machines(wanted, t, err);
    if (status != RV_OK) {
        rv__transformer_plain(t);
        rv__text_on_open(text, NULL, NULL);
    }
    if (*texts)
        renew_texts(text, status == RV_OK ? wanted : NULL);
    rv__lora_set_free(old);
    *set = status == RV_OK ? wanted : NULL;
    if (status != RV_OK)
        rv__lora_set_free(wanted);
    return status;
}
