/* See arguments.h.  Numbers have -1 for "as the model has it", texts are empty then: GIMP knows no
 * absent argument. */
#include "arguments.h"

#include "parameters.h"

#include <cjson/cJSON.h>
#include <glib/gi18n-lib.h>
#include <string.h>

char *grv_argument_name(const char *member)
{
    static const char *const short_names[][2] = {{"positivePrompt", "prompt"}};
    for (size_t i = 0; i < G_N_ELEMENTS(short_names); i++) {
        if (strcmp(member, short_names[i][0]) == 0)
            return g_strdup(short_names[i][1]);
    }
    GString *name = g_string_new(NULL);
    for (const char *c = member; *c; c++) {
        bool starts_word =
            c > member && g_ascii_isupper(*c) &&
            (g_ascii_islower(c[-1]) || g_ascii_isdigit(c[-1]) || g_ascii_islower(c[1]));
        if (starts_word)
            g_string_append_c(name, '-');
        g_string_append_c(name, *c == '.' ? '-' : g_ascii_tolower(*c));
    }
    return g_string_free(name, FALSE);
}

/* ---- adding ---- */

#define SEED_HELP                                                                                  \
    N_("A whole number as text; the same seed gives the same picture again, empty draws one.")

static char *help_of(const cJSON *field, grv_kind k)
{
    const char *help = cJSON_GetStringValue(cJSON_GetObjectItem(field, "description"));
    const char *unset = k == GRV_SWITCH ? ""
                        : k == GRV_LIST ? _(" As JSON text; empty: none.")
                        : k == GRV_TEXT ? _(" Empty: as the model has it.")
                                        : _(" -1: as the model has it.");
    return g_strconcat(help ? help : "", unset, NULL);
}

/* Ranges are wide: the core refuses what is wrong and names the nearest value, GIMP would only
 * clamp or complain. */
static void add_parameter(void *user, const char *path, grv_kind k, const cJSON *field)
{
    GimpProcedure *p = user;
    char *name = grv_argument_name(path), *help = help_of(field, k);
    const char *label = cJSON_GetStringValue(cJSON_GetObjectItem(field, "title"));
    label = label ? label : path;
    if (strcmp(path, "seed") == 0)
        gimp_procedure_add_string_argument(p, name, label, _(SEED_HELP), "", G_PARAM_READWRITE);
    else if (k == GRV_INTEGER)
        gimp_procedure_add_int_argument(p, name, label, help, G_MININT, G_MAXINT, -1,
                                        G_PARAM_READWRITE);
    else if (k == GRV_REAL)
        gimp_procedure_add_double_argument(p, name, label, help, -1e9, 1e9, -1, G_PARAM_READWRITE);
    else if (k == GRV_SWITCH)
        gimp_procedure_add_boolean_argument(p, name, label, help, FALSE, G_PARAM_READWRITE);
    else if (k == GRV_TEXT || k == GRV_LIST)
        gimp_procedure_add_string_argument(p, name, label, help, "", G_PARAM_READWRITE);
    g_free(name);
    g_free(help);
}

/* Words are plain texts: GIMP would silently take the default for one that it does not know. */
static void add_option(GimpProcedure *p, const grv_option *o)
{
    if (o->kind == GRV_NUMBER) {
        gimp_procedure_add_int_argument(p, o->name, _(o->label), _(o->help), G_MININT, G_MAXINT,
                                        o->preset, G_PARAM_READWRITE);
        return;
    }
    char *words = g_strdup_printf("%s (%s)", _(o->help), o->words);
    char *first = g_strndup(o->words, strcspn(o->words, "|"));
    gimp_procedure_add_string_argument(p, o->name, _(o->label), words, first, G_PARAM_READWRITE);
    g_free(words);
    g_free(first);
}

static bool is_option_of(const grv_option *o, grv_action action)
{
    return o->actions & 1u << action && strcmp(o->name, "action") != 0;
}

void grv_arguments_add(GimpProcedure *p, grv_engine *e, grv_action action)
{
    grv_parameters_each(e, grv_engine_model(e), action, add_parameter, p);
    for (const grv_option *o = grv_options; o->name; o++) {
        if (is_option_of(o, action))
            add_option(p, o);
    }
}

/* ---- reading ---- */

typedef struct reading {
    GimpProcedureConfig *config;
    grv_request *request;
    GError **error;
    bool failed;
} reading;

static cJSON *read_text(reading *r, const char *name, grv_kind k)
{
    char *text = NULL;
    g_object_get(r->config, name, &text, NULL);
    cJSON *v = NULL;
    if (text && *text && k == GRV_LIST) {
        v = cJSON_Parse(text);
        if (!v && !r->failed) {
            r->failed = true;
            g_set_error(r->error, GRV_ERROR, RV_VALIDATION, _("%s is not valid JSON"), name);
        }
    } else if (text && *text) {
        v = cJSON_CreateString(text);
    }
    g_free(text);
    return v;
}

static void read_parameter(void *user, const char *path, grv_kind k, const cJSON *field)
{
    reading *r = user;
    char *name = grv_argument_name(path);
    const char *last = path;
    cJSON *v = NULL;
    if (strcmp(path, "seed") == 0 || k == GRV_TEXT || k == GRV_LIST) {
        v = read_text(r, name, k);
    } else if (k == GRV_INTEGER) {
        int i = -1;
        g_object_get(r->config, name, &i, NULL);
        v = i == -1 ? NULL : cJSON_CreateNumber(i);
    } else if (k == GRV_REAL) {
        double d = -1;
        g_object_get(r->config, name, &d, NULL);
        v = d == -1 ? NULL : cJSON_CreateNumber(d);
    } else if (k == GRV_SWITCH) {
        gboolean b = FALSE;
        g_object_get(r->config, name, &b, NULL);
        v = b ? cJSON_CreateTrue() : NULL;
    }
    if (v) {
        cJSON *object = grv_parameter_place(r->request->task, path, &last);
        cJSON_AddItemToObject(object, last, v);
    }
    g_free(name);
}

static cJSON *read_options(GimpProcedureConfig *config, grv_action action)
{
    cJSON *gimp = cJSON_CreateObject();
    cJSON_AddStringToObject(gimp, "action", grv_action_word(action));
    for (const grv_option *o = grv_options; o->name; o++) {
        char *word = NULL;
        int number = 0;
        if (!is_option_of(o, action))
            continue;
        if (o->kind == GRV_NUMBER) {
            g_object_get(config, o->name, &number, NULL);
            cJSON_AddNumberToObject(gimp, o->name, number);
        } else {
            g_object_get(config, o->name, &word, NULL);
            cJSON_AddStringToObject(gimp, o->name, word ? word : "");
            g_free(word);
        }
    }
    return gimp;
}

/* Goes through the text form, so that scripts with arguments and scripts with JSON meet the same
 * checks. */
grv_request *grv_arguments_read(GimpProcedureConfig *config, grv_engine *e, grv_action action,
                                GError **error)
{
    reading r = {config, grv_request_new(action), error, false};
    grv_parameters_each(e, grv_engine_model(e), action, read_parameter, &r);
    cJSON *gimp = read_options(config, action);
    cJSON_Delete(r.request->gimp);
    r.request->gimp = gimp;
    char *text = r.failed ? NULL : grv_request_text(r.request, NULL);
    grv_request *q = text ? grv_request_parse(text, error) : NULL;
    g_free(text);
    grv_request_free(r.request);
    return q;
}
