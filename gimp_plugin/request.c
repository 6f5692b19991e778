/* See request.h. */
#include "request.h"

#include <glib/gi18n-lib.h>
#include <inttypes.h>
#include <string.h>

#define ALL    ((1u << GRV_ACTIONS) - 1)
#define ON(a)  (1u << (a))
#define MASKED (ON(GRV_FILL) | ON(GRV_EXTEND))

enum { SIDE_MAX = 524288, MEMBERS_MAX = 200 };

const grv_option grv_options[] = {
    {"action", GRV_WORD, ALL, .words = "generate|reimagine|fill|extend", .label = N_("Action"),
     .help = N_(
         "What is to be done: generate a new picture, reimagine what is there, fill the selection, "
         "extend the canvas.")},
    {"target", GRV_WORD, ON(GRV_GENERATE), .words = "auto|selection|canvas|layer",
     .label = N_("Place"),
     .help = N_("Where the picture goes; auto is the selection if there is one, else the canvas.")},
    {"width", GRV_NUMBER, ON(GRV_GENERATE), 0, SIDE_MAX, 0, .label = N_("Width"),
     .help = N_("Exact width of the new layer or image in pixels; 0: that of the place."),
     .least = N_("as the place")},
    {"height", GRV_NUMBER, ON(GRV_GENERATE), 0, SIDE_MAX, 0, .label = N_("Height"),
     .help = N_("Exact height of the new layer or image in pixels; 0: that of the place."),
     .least = N_("as the place")},
    {"source", GRV_WORD, ON(GRV_REIMAGINE), .words = "layer|visible", .label = N_("Start from"),
     .help = N_("Reimagine the given layer, or all that is visible.")},
    {"grow", GRV_NUMBER, ON(GRV_FILL), 0, 500, 4, .label = N_("Grow"),
     .help = N_("Pixels by which the selection is widened before it is filled.")},
    {"feather", GRV_NUMBER, MASKED, 0, 500, 4, .label = N_("Feather"),
     .help = N_("Pixels over which new and old fade into each other, on both sides of the edge.")},
    {"context", GRV_NUMBER, MASKED, -1, 8192, -1, .label = N_("Context"),
     .help = N_("Pixels around the filled part that the model sees; -1: a quarter of its size, at "
                "least 32."),
     .least = N_("automatic")},
    {"top", GRV_NUMBER, ON(GRV_EXTEND), 0, 65536, 0, .label = N_("Top"),
     .help = N_("Pixels added above the canvas.")},
    {"right", GRV_NUMBER, ON(GRV_EXTEND), 0, 65536, 0, .label = N_("Right"),
     .help = N_("Pixels added on the right of the canvas.")},
    {"bottom", GRV_NUMBER, ON(GRV_EXTEND), 0, 65536, 0, .label = N_("Bottom"),
     .help = N_("Pixels added below the canvas.")},
    {"left", GRV_NUMBER, ON(GRV_EXTEND), 0, 65536, 0, .label = N_("Left"),
     .help = N_("Pixels added on the left of the canvas.")},
    {"convert", GRV_WORD, ALL, .words = "refuse|rgb|gray", .label = N_("Other image modes"),
     .help = N_(
         "For images that cannot hold the colours of a picture: refuse, convert the image to RGB "
         "(8 bits of linear light to 16), or in grayscale images insert it gray.")},
    {0}};

GQuark grv_error_quark(void)
{
    return g_quark_from_static_string("reverie");
}

const char *grv_action_word(grv_action a)
{
    static const char *const words[GRV_ACTIONS] = {"generate", "reimagine", "fill", "extend"};
    return words[a];
}

const char *grv_action_label(grv_action a)
{
    static const char *const labels[GRV_ACTIONS] = {N_("Generate"), N_("Reimagine"),
                                                    N_("Fill selection"), N_("Extend canvas")};
    return _(labels[a]);
}

static const grv_option *find_option(const char *name)
{
    for (const grv_option *o = grv_options; o->name; o++) {
        if (strcmp(o->name, name) == 0)
            return o;
    }
    return NULL;
}

static bool is_word_of(const grv_option *o, const char *word)
{
    char **words = g_strsplit(o->words, "|", -1);
    bool found = g_strv_contains((const char *const *)words, word);
    g_strfreev(words);
    return found;
}

static char *first_word(const grv_option *o)
{
    return g_strndup(o->words, strcspn(o->words, "|"));
}

static cJSON *defaults(void)
{
    cJSON *gimp = cJSON_CreateObject();
    for (const grv_option *o = grv_options; o->name; o++) {
        if (o->kind == GRV_NUMBER) {
            cJSON_AddNumberToObject(gimp, o->name, o->preset);
        } else {
            char *word = first_word(o);
            cJSON_AddStringToObject(gimp, o->name, word);
            g_free(word);
        }
    }
    return gimp;
}

grv_request *grv_request_new(grv_action action)
{
    grv_request *q = g_new0(grv_request, 1);
    q->action = action;
    q->task = cJSON_CreateObject();
    q->gimp = defaults();
    grv_request_set_word(q, "action", grv_action_word(action));
    return q;
}

grv_request *grv_request_copy(const grv_request *q)
{
    grv_request *copy = g_new0(grv_request, 1);
    copy->action = q->action;
    copy->task = cJSON_Duplicate(q->task, true);
    copy->gimp = cJSON_Duplicate(q->gimp, true);
    return copy;
}

void grv_request_free(grv_request *q)
{
    if (!q)
        return;
    cJSON_Delete(q->task);
    cJSON_Delete(q->gimp);
    g_free(q);
}

/* ---- options ---- */

static bool check_option(const grv_option *o, const cJSON *v, GError **error)
{
    if (o->kind == GRV_NUMBER) {
        bool ok = cJSON_IsNumber(v) && v->valuedouble >= o->min && v->valuedouble <= o->max &&
                  v->valuedouble == (double)v->valueint;
        if (!ok)
            g_set_error(error, GRV_ERROR, RV_VALIDATION,
                        _("gimp.%s must be a whole number from %d to %d"), o->name, o->min, o->max);
        return ok;
    }
    bool ok = cJSON_IsString(v) && is_word_of(o, v->valuestring);
    if (!ok)
        g_set_error(error, GRV_ERROR, RV_VALIDATION, _("gimp.%s must be one of %s"), o->name,
                    o->words);
    return ok;
}

static bool take_options(grv_request *q, const cJSON *given, GError **error)
{
    for (const cJSON *v = given ? given->child : NULL; v; v = v->next) {
        const grv_option *o = find_option(v->string);
        if (!o) {
            g_set_error(error, GRV_ERROR, RV_VALIDATION,
                        _("gimp.%s is not an option of this plug-in"), v->string);
            return false;
        }
        if (!check_option(o, v, error))
            return false;
        cJSON_ReplaceItemInObject(q->gimp, o->name, cJSON_Duplicate(v, true));
    }
    const char *word = grv_request_word(q, "action");
    for (int a = 0; a < GRV_ACTIONS; a++) {
        if (strcmp(word, grv_action_word((grv_action)a)) == 0)
            q->action = (grv_action)a;
    }
    return true;
}

/* Sizes beside the prompt mean the size in the image; pictures come from the image only. */
static bool take_places(grv_request *q, cJSON *all, GError **error)
{
    static const char *const sizes[] = {"width", "height"};
    static const char *const pictures[] = {"seedImage", "maskImage", "maskMargin", "outpaint"};
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        cJSON *v = cJSON_DetachItemFromObjectCaseSensitive(all, sizes[i]);
        bool ok = !v || check_option(find_option(sizes[i]), v, error);
        if (v && ok)
            grv_request_set_int(q, sizes[i], v->valueint);
        cJSON_Delete(v);
        if (!ok)
            return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(pictures); i++) {
        if (!cJSON_HasObjectItem(all, pictures[i]))
            continue;
        g_set_error(error, GRV_ERROR, RV_VALIDATION,
                    _("%s is made from the image: choose gimp.action and its options instead"),
                    pictures[i]);
        return false;
    }
    return true;
}

/* A member that is there twice would be read once and written twice. */
static bool has_twins(const cJSON *all)
{
    for (const cJSON *a = all->child; a; a = a->next) {
        for (const cJSON *b = a->next; b; b = b->next) {
            if (strcmp(a->string, b->string) == 0)
                return true;
        }
    }
    return false;
}

grv_request *grv_request_parse(const char *text, GError **error)
{
    cJSON *all = cJSON_Parse(text);
    const cJSON *gimp = cJSON_GetObjectItemCaseSensitive(all, "gimp");
    if (!cJSON_IsObject(all) || (gimp && !cJSON_IsObject(gimp)) ||
        cJSON_GetArraySize(all) > MEMBERS_MAX || has_twins(all)) {
        g_set_error(error, GRV_ERROR, RV_VALIDATION,
                    _("the request must be one JSON object with each member once, its member "
                      "\"gimp\" an object too"));
        cJSON_Delete(all);
        return NULL;
    }
    grv_request *q = grv_request_new(GRV_GENERATE);
    bool ok = take_options(q, gimp, error) && take_places(q, all, error);
    static const char *const ours[] = {"gimp", "result", "taskType", "taskUUID"};
    for (size_t i = 0; i < G_N_ELEMENTS(ours); i++)
        cJSON_DeleteItemFromObjectCaseSensitive(all, ours[i]);
    cJSON_Delete(q->task);
    q->task = all;
    if (ok)
        return q;
    grv_request_free(q);
    return NULL;
}

char *grv_request_text(const grv_request *q, const cJSON *result)
{
    cJSON *all = cJSON_Duplicate(q->task, true);
    cJSON_AddItemToObject(all, "gimp", cJSON_Duplicate(q->gimp, true));
    if (result)
        cJSON_AddItemToObject(all, "result", cJSON_Duplicate(result, true));
    char *printed = cJSON_PrintUnformatted(all), *text = g_strdup(printed);
    cJSON_free(printed);
    cJSON_Delete(all);
    return text;
}

int grv_request_int(const grv_request *q, const char *option)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(q->gimp, option);
    return v ? v->valueint : 0;
}

const char *grv_request_word(const grv_request *q, const char *option)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(q->gimp, option));
    return s ? s : "";
}

bool grv_request_set_int(grv_request *q, const char *option, int value)
{
    return cJSON_ReplaceItemInObjectCaseSensitive(q->gimp, option, cJSON_CreateNumber(value));
}

void grv_request_set_word(grv_request *q, const char *option, const char *value)
{
    cJSON_ReplaceItemInObjectCaseSensitive(q->gimp, option, cJSON_CreateString(value));
}

/* ---- members of the task ---- */

const char *grv_request_prompt(const grv_request *q)
{
    const char *s =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(q->task, "positivePrompt"));
    return s ? s : "";
}

void grv_request_drop(grv_request *q, const char *member)
{
    cJSON_DeleteItemFromObjectCaseSensitive(q->task, member);
}

void grv_request_set_text(grv_request *q, const char *member, const char *value)
{
    grv_request_drop(q, member);
    if (*value)
        cJSON_AddStringToObject(q->task, member, value);
}

/* As text: numbers of JSON readers end at 2^53. */
void grv_request_set_seed(grv_request *q, uint64_t seed)
{
    char digits[24];
    g_snprintf(digits, sizeof digits, "%" PRIu64, seed);
    grv_request_set_text(q, "seed", digits);
}
