/* The plug-in as GIMP sees it: which procedures there are and where they go.  Scripts call them and
 * wait; work is done in work.c, whoever asked for it. */
#include <glib/gi18n-lib.h>
#include <libgimp/gimp.h>
#include <stdbool.h>
#include <string.h>

#include "arguments.h"
#include "canvas.h"
#include "engine.h"
#include "recipe.h"
#include "settings.h"
#include "window.h"
#include "work.h"

#define AUTHORS "Reverie"
#define YEAR    "2026"
#define ICON    "org.gimp.GIMP.Plugin.Reverie"

typedef struct _Reverie {
    GimpPlugIn parent_instance;
} Reverie;

typedef struct _ReverieClass {
    GimpPlugInClass parent_class;
} ReverieClass;

GType reverie_get_type(void) G_GNUC_CONST;
G_DEFINE_TYPE(Reverie, reverie, GIMP_TYPE_PLUG_IN)

/* ---- running one job to its end ---- */

typedef struct wait {
    GMainLoop *loop;
    bool shows_progress;
} wait;

static void on_work(void *user, grv_work *w, const rv_event *e)
{
    wait *wt = user;
    if (grv_work_state(w) >= GRV_DONE)
        g_main_loop_quit(wt->loop);
    else if (wt->shows_progress && e && e->kind == RV_EVENT_STEP && e->steps > 0)
        gimp_progress_update((e->index + (double)e->step / e->steps) / (double)grv_work_wanted(w));
}

/* Every picture of a finished work, into the image or a new one. */
static GimpLayer **insert_everything(grv_work *w, GimpImage *image, GError **error)
{
    size_t count = grv_work_wanted(w), *all = g_new0(size_t, count);
    for (size_t i = 0; i < count; i++)
        all[i] = i;
    GimpLayer **layers = grv_work_insert(w, image, all, count, NULL, error);
    g_free(all);
    return layers;
}

/* Waits until the work has ended. */
static bool wait_for(grv_work *w, GError **error)
{
    wait wt = {g_main_loop_new(NULL, FALSE), true};
    gimp_progress_init(grv_action_label(grv_work_request(w)->action));
    grv_work_start(w, on_work, &wt);
    g_main_loop_run(wt.loop);
    gimp_progress_end();
    g_main_loop_unref(wt.loop);
    if (grv_work_state(w) == GRV_DONE)
        return true;
    const GError *why = grv_work_error(w);
    g_set_error(error, GRV_ERROR, why ? why->code : RV_INTERNAL, "%s", why ? why->message : "?");
    return false;
}

/* ---- what procedures return ---- */

static GimpValueArray *failed(GimpProcedure *p, GError *error)
{
    bool is_callers = error && error->domain == GRV_ERROR && error->code == RV_VALIDATION;
    return gimp_procedure_new_return_values(
        p, is_callers ? GIMP_PDB_CALLING_ERROR : GIMP_PDB_EXECUTION_ERROR, error);
}

/* What came of it, as text: seeds, recipes and warnings (g_free). */
static char *response_of(grv_work *w)
{
    cJSON *r = cJSON_CreateObject(), *pictures = cJSON_AddArrayToObject(r, "pictures");
    for (size_t i = 0; i < grv_work_wanted(w); i++) {
        char *recipe = grv_work_recipe(w, i);
        cJSON_AddItemToArray(pictures, recipe ? cJSON_Parse(recipe) : cJSON_CreateNull());
        g_free(recipe);
    }
    char *warnings = grv_work_warnings(w);
    if (warnings)
        cJSON_AddStringToObject(r, "warnings", warnings);
    char *printed = cJSON_PrintUnformatted(r), *text = g_strdup(printed);
    cJSON_free(printed);
    cJSON_Delete(r);
    g_free(warnings);
    return text;
}

static GimpValueArray *succeeded(GimpProcedure *p, grv_work *w, GimpLayer **layers)
{
    GimpValueArray *values = gimp_procedure_new_return_values(p, GIMP_PDB_SUCCESS, NULL);
    char *response = response_of(w);
    g_value_set_boxed(gimp_value_array_index(values, 1), layers);
    g_value_set_string(gimp_value_array_index(values, 2), response);
    g_free(response);
    return values;
}

static GimpValueArray *finish(GimpProcedure *p, grv_work *w, GimpImage *image, GError *error)
{
    GimpValueArray *values = NULL;
    GimpLayer **layers = w && wait_for(w, &error) ? insert_everything(w, image, &error) : NULL;
    values = layers ? succeeded(p, w, layers) : failed(p, error);
    grv_work_free(w);
    g_free(layers);
    return values;
}

/* ---- with people ---- */

/* The command goes to the window that is open, else this process becomes it. */
static GimpValueArray *with_window(GimpProcedure *p, GimpImage *image, const char *command)
{
    GError *error = NULL;
    if (grv_window_forward(command, image) ||
        grv_window_run(gimp_procedure_get_plug_in(p), command, image, &error))
        return gimp_procedure_new_return_values(p, GIMP_PDB_SUCCESS, NULL);
    return failed(p, error);
}

static GimpValueArray *run_window(GimpProcedure *p, GimpRunMode mode, GimpImage *image,
                                  GimpDrawable **drawables, GimpProcedureConfig *config,
                                  gpointer data)
{
    if (mode == GIMP_RUN_INTERACTIVE)
        return with_window(p, image, GPOINTER_TO_INT(data) ? "fill" : "show");
    return failed(p, g_error_new(GRV_ERROR, RV_VALIDATION,
                                 _("this opens a window: scripts call plug-in-reverie-generate")));
}

/* ---- the procedures ---- */

static GimpValueArray *run_request(GimpProcedure *p, GimpImage *image, GimpDrawable **drawables,
                                   grv_engine *e, const grv_request *q)
{
    GError *error = NULL;
    grv_work *w = grv_work_new(e, image, drawables, q, &error);
    return finish(p, w, NULL, error);
}

static GimpValueArray *run_action(GimpProcedure *p, GimpRunMode mode, GimpImage *image,
                                  GimpDrawable **drawables, GimpProcedureConfig *config,
                                  gpointer data)
{
    GError *error = NULL;
    grv_action action = (grv_action)GPOINTER_TO_INT(data);
    grv_engine *e = grv_engine_new(false, &error);
    grv_request *q = e ? grv_arguments_read(config, e, action, &error) : NULL;
    GimpValueArray *values = q ? run_request(p, image, drawables, e, q) : failed(p, error);
    grv_request_free(q);
    grv_engine_free(e);
    return values;
}

static GimpValueArray *run_json(GimpProcedure *p, GimpRunMode mode, GimpImage *image,
                                GimpDrawable **drawables, GimpProcedureConfig *config,
                                gpointer data)
{
    GError *error = NULL;
    char *text = NULL;
    g_object_get(config, "request", &text, NULL);
    grv_request *q = grv_request_parse(text ? text : "", &error);
    grv_engine *e = q ? grv_engine_new(false, &error) : NULL;
    GimpValueArray *values = e ? run_request(p, image, drawables, e, q) : failed(p, error);
    grv_request_free(q);
    grv_engine_free(e);
    g_free(text);
    return values;
}

/* The image is made only when its picture is there. */
static GimpValueArray *new_image(GimpProcedure *p, grv_work *w)
{
    GError *error = NULL;
    if (!wait_for(w, &error))
        return failed(p, error);
    grv_rect place = grv_work_scene(w)->place;
    GimpImage *image = gimp_image_new(place.w, place.h, GIMP_RGB);
    gimp_image_undo_disable(image);
    GimpLayer **layers = insert_everything(w, image, &error);
    gimp_image_undo_enable(image);
    if (!layers) {
        gimp_image_delete(image);
        return failed(p, error);
    }
    gimp_image_clean_all(image);
    GimpValueArray *values = gimp_procedure_new_return_values(p, GIMP_PDB_SUCCESS, NULL);
    char *response = response_of(w);
    g_value_set_object(gimp_value_array_index(values, 1), image);
    g_value_set_boxed(gimp_value_array_index(values, 2), layers);
    g_value_set_string(gimp_value_array_index(values, 3), response);
    g_free(response);
    g_free(layers);
    return values;
}

static GimpValueArray *run_new_image(GimpProcedure *p, GimpProcedureConfig *config, gpointer data)
{
    GError *error = NULL;
    grv_engine *e = grv_engine_new(false, &error);
    grv_request *q = e ? grv_arguments_read(config, e, GRV_GENERATE, &error) : NULL;
    grv_work *w = q ? grv_work_new(e, NULL, NULL, q, &error) : NULL;
    GimpValueArray *values = w ? new_image(p, w) : failed(p, error);
    grv_work_free(w);
    grv_request_free(q);
    grv_engine_free(e);
    return values;
}

static GimpLayer *only_layer(GimpDrawable **drawables, GError **error)
{
    if (drawables && drawables[0] && !drawables[1] && GIMP_IS_LAYER(drawables[0]))
        return GIMP_LAYER(drawables[0]);
    g_set_error(error, GRV_ERROR, RV_VALIDATION, _("choose one layer that was generated"));
    return NULL;
}

static GimpValueArray *run_again(GimpProcedure *p, GimpRunMode mode, GimpImage *image,
                                 GimpDrawable **drawables, GimpProcedureConfig *config,
                                 gpointer data)
{
    GError *error = NULL;
    if (mode == GIMP_RUN_INTERACTIVE)
        return with_window(p, image, data ? "vary" : "again");
    GimpLayer *layer = only_layer(drawables, &error);
    grv_engine *e = layer ? grv_engine_new(false, &error) : NULL;
    grv_work *w = e ? grv_work_again(e, layer, data == NULL, &error) : NULL;
    GimpValueArray *values = finish(p, w, NULL, error);
    grv_engine_free(e);
    return values;
}

static GimpValueArray *run_info(GimpProcedure *p, GimpRunMode mode, GimpImage *image,
                                GimpDrawable **drawables, GimpProcedureConfig *config,
                                gpointer data)
{
    GError *error = NULL;
    GimpLayer *layer = only_layer(drawables, &error);
    grv_request *q = layer ? grv_recipe_read(GIMP_ITEM(layer), NULL, &error) : NULL;
    if (!q)
        return failed(p, error);
    GimpValueArray *values = gimp_procedure_new_return_values(p, GIMP_PDB_SUCCESS, NULL);
    char *text = grv_recipe_text(GIMP_ITEM(layer));
    g_value_set_string(gimp_value_array_index(values, 1), text);
    g_free(text);
    grv_request_free(q);
    return values;
}

static GimpValueArray *run_strip(GimpProcedure *p, GimpRunMode mode, GimpImage *image,
                                 GimpDrawable **drawables, GimpProcedureConfig *config,
                                 gpointer data)
{
    GimpValueArray *values = gimp_procedure_new_return_values(p, GIMP_PDB_SUCCESS, NULL);
    g_value_set_int(gimp_value_array_index(values, 1), grv_recipe_strip(image));
    return values;
}

/* ---- registration ---- */

typedef struct entry {
    const char *name;
    GimpRunImageFunc run; /* NULL: run_new_image */
    int data;
    bool is_action, has_request;
    const char *blurb, *help;
    const char *menu; /* its label there; NULL: for scripts only */
} entry;

#define MENU "<Image>/Gene_rate"

#define PLACES                                                                                     \
    N_("Sizes that the model cannot make are made at the nearest fitting ones and brought to the " \
       "exact place. "                                                                             \
       "The result is a new layer, several are a layer group; one undo step removes them.")

static const entry entries[] = {
    {"plug-in-reverie-window", run_window, 0, .blurb = N_("Generate, fill and extend with Reverie"),
     .help = N_("Opens the window, or raises it."), .menu = N_("_Reverie...")},
    {"plug-in-reverie-fill-now", run_window, 1,
     .blurb = N_("Fill the selection with what the window is set to"),
     .help = N_("Opens the window when it is closed."), .menu = N_("_Fill Selection Now")},
    {"plug-in-reverie-generate", run_action, GRV_GENERATE, .is_action = true,
     .blurb = N_("Generate a picture into a new layer"), .help = PLACES},
    {"plug-in-reverie-reimagine", run_action, GRV_REIMAGINE, .is_action = true,
     .blurb = N_("Paint a layer, or all that is visible, anew"), .help = PLACES},
    {"plug-in-reverie-fill", run_action, GRV_FILL, .is_action = true,
     .blurb = N_("Fill the selection with generated content"), .help = PLACES},
    {"plug-in-reverie-extend", run_action, GRV_EXTEND, .is_action = true,
     .blurb = N_("Extend the canvas with generated content"), .help = PLACES},
    {"plug-in-reverie-new-image", NULL, GRV_GENERATE, .is_action = true,
     .blurb = N_("Generate a picture into a new image"),
     .help = N_("Width and height are those of the image. No display is opened.")},
    {"plug-in-reverie-run-json", run_json, 0, .has_request = true,
     .blurb = N_("Run a request that is written as JSON text"),
     .help = N_("A task object of the Runware protocol without pictures and identity; its member "
                "\"gimp\" chooses "
                "the action and its options. The text of plug-in-reverie-info is such a request.")},
    {"plug-in-reverie-again", run_again, 0, .menu = N_("Make Layer _Again"),
     .blurb = N_("Make a generated layer again"),
     .help = N_("The recipe of the layer, at its place, with its mask and its seed.")},
    {"plug-in-reverie-vary", run_again, 1, .menu = N_("_Vary Layer"),
     .blurb = N_("Make a generated layer again with another seed"),
     .help = N_("The recipe of the layer, at its place, with its mask and a new seed.")},
    {"plug-in-reverie-info", run_info, 0, .blurb = N_("The recipe of a generated layer"),
     .help = N_("Fails when the layer has none.")},
    {"plug-in-reverie-strip", run_strip, 0, .menu = N_("Remove _Recipes"),
     .blurb = N_("Remove all recipes from an image"),
     .help = N_("From the image and all its layers, in one undo step.")},
};

static GList *query_procedures(GimpPlugIn *plug_in)
{
    GList *names = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(entries); i++)
        names = g_list_append(names, g_strdup(entries[i].name));
    return names;
}

static void add_results(GimpProcedure *p)
{
    gimp_procedure_add_core_object_array_return_value(p, "layers", _("Layers"), _("The new layers"),
                                                      GIMP_TYPE_LAYER, G_PARAM_READWRITE);
    gimp_procedure_add_string_return_value(p, "response", _("Response"),
                                           _("JSON text: the recipe of each picture, and warnings"),
                                           NULL, G_PARAM_READWRITE);
}

static void add_arguments(GimpProcedure *p, const entry *en)
{
    grv_engine *e = en->is_action ? grv_engine_new(false, NULL) : NULL;
    if (e)
        grv_arguments_add(p, e, (grv_action)en->data);
    grv_engine_free(e);
    if (en->has_request)
        gimp_procedure_add_string_argument(p, "request", _("Request"), _("JSON text"), "{}",
                                           G_PARAM_READWRITE);
    if (!en->run)
        gimp_procedure_add_image_return_value(p, "image", _("Image"), _("The new image"), FALSE,
                                              G_PARAM_READWRITE);
    if (en->run == run_info)
        gimp_procedure_add_string_return_value(p, "recipe", _("Recipe"), _("JSON text"), NULL,
                                               G_PARAM_READWRITE);
    else if (en->run == run_window)
        return;
    else if (en->run == run_strip)
        gimp_procedure_add_int_return_value(p, "count", _("Count"),
                                            _("How many recipes there were"), 0, G_MAXINT, 0,
                                            G_PARAM_READWRITE);
    else
        add_results(p);
}

static GimpProcedure *create_procedure(GimpPlugIn *plug_in, const char *name)
{
    const entry *en = entries;
    while (strcmp(en->name, name) != 0) {
        if (++en == entries + G_N_ELEMENTS(entries))
            return NULL;
    }
    GimpProcedure *p = en->run ? gimp_image_procedure_new(plug_in, name, GIMP_PDB_PROC_TYPE_PLUGIN,
                                                          en->run, GINT_TO_POINTER(en->data), NULL)
                               : gimp_procedure_new(plug_in, name, GIMP_PDB_PROC_TYPE_PLUGIN,
                                                    run_new_image, NULL, NULL);
    if (en->run) {
        gimp_procedure_set_image_types(p, "*");
        gimp_procedure_set_sensitivity_mask(
            p, (en->run == run_window && !en->data ? GIMP_PROCEDURE_SENSITIVE_NO_IMAGE : 0) |
                   GIMP_PROCEDURE_SENSITIVE_DRAWABLE | GIMP_PROCEDURE_SENSITIVE_DRAWABLES |
                   GIMP_PROCEDURE_SENSITIVE_NO_DRAWABLES);
    }
    gimp_procedure_set_documentation(p, _(en->blurb), _(en->help), name);
    gimp_procedure_set_attribution(p, AUTHORS, AUTHORS, YEAR);
    if (en->menu) {
        gimp_procedure_set_menu_label(p, _(en->menu));
        gimp_procedure_add_menu_path(p, MENU);
    }
    gimp_procedure_set_icon_name(p, ICON);
    add_arguments(p, en);
    return p;
}

/* Catalogues lie in the folder `locale` beside the program; without it GIMP would complain. */
static gboolean set_i18n(GimpPlugIn *plug_in, const char *procedure, char **domain, char **folder)
{
    char *here = grv_settings_here(), *locale = g_build_filename(here, "locale", NULL);
    gboolean is_there = g_file_test(locale, G_FILE_TEST_IS_DIR);
    if (is_there)
        *domain = g_strdup(GETTEXT_PACKAGE);
    g_free(here);
    g_free(locale);
    return is_there;
}

static void reverie_init(Reverie *self)
{
}

static void reverie_class_init(ReverieClass *class)
{
    GimpPlugInClass *plug_in = GIMP_PLUG_IN_CLASS(class);
    plug_in->query_procedures = query_procedures;
    plug_in->create_procedure = create_procedure;
    plug_in->set_i18n = set_i18n;
}

GIMP_MAIN(reverie_get_type())
