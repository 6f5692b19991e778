/* The built-in engine as an executor: reads a normalised task, runs the pipeline, delivers
 * pictures. Must never ignore a parameter: what the engine cannot do yet is refused by name. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "engine/edit.h"
#include "engine/executor_lora.h"
#include "engine/pipeline.h"
#include "engine/safety.h"
#include "job/executor.h"

typedef struct engine {
    int threads, preview_steps;
    char *device_setting, *device_name; /* the host's choice; what is open (NULL: the default) */
    rv__device *device;
    char *path; /* of the open model */
    char *machines_text; /* what the card says of machines, as JSON */
    rv__machines *machines;
    rv__weights *weights;
    rv__pipeline *pipeline;
    rv__safety *safety;    /* the model's content checker, once a task asked for it */
    bool is_checking;      /* the task that runs wants its pictures looked at */
    atomic_bool is_loaded; /* a pipeline is open; for other threads */
} engine;

/* ---- what can be done ---- */

/* Members that the engine reads or that others have seen to. */
static const char *const known[] = {
    "taskType",  "taskUUID",      "model",          "positivePrompt", "negativePrompt",
    "width",     "height",        "seed",           "steps",          "scheduler",
    "CFGScale",  "numberResults", "outputType",     "outputFormat",   "outputQuality",
    "ttl",       "includeCost",   "deliveryMethod", "webhookURL",     "uploadEndpoint",
    "lora",      "strength", /* without seedImage it has no effect, of which the request was warned
                              */
    "seedImage", "maskImage",     "maskMargin",     "outpaint",       "promptWeighting",
    "safety",
};

static bool is_known(const char *name)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i], name) == 0)
            return true;
    return false;
}

static rv_status refuse(rv_error *err, const char *parameter, const char *why)
{
    return rv__fail_code(err, RV_UNSUPPORTED, "unsupportedParameter", parameter, "%s: %s",
                         parameter, why);
}

static rv_status check_caches(const rv__value *options, rv_error *err)
{
    return rv__json_get_bool(options, "deepCache", false)
               ? refuse(err, "acceleratorOptions.deepCache",
                        "is for UNet models; this one is a transformer: use teaCache, fbCache or "
                        "dbCache")
               : RV_OK;
}

/* Which parameter asks for a look at the pictures, or NULL. */
static const char *safety_wanted(const rv__value *task)
{
    const rv__value *safety = rv__json_get(task, "safety");
    const char *mode = rv__json_get_string(safety, "mode", NULL);

    if (mode)
        return strcmp(mode, "none") != 0 ? "safety.mode" : NULL;
    return rv__json_get_bool(safety, "checkContent", false) ? "safety.checkContent" : NULL;
}

/* Values that ask for nothing. */
static bool is_neutral(const rv__value *v)
{
    bool yes;
    int64_t n;

    if (rv__json_is_null(v) || (rv__json_bool(v, &yes) && !yes) || (rv__json_int(v, &n) && n == 0))
        return true;
    if (rv__json_is_string(v))
        return *rv__json_string(v) == '\0' || strcmp(rv__json_string(v), "none") == 0;
    return (rv__json_is_array(v) || rv__json_is_object(v)) && rv__json_size(v) == 0;
}

/* Features of other models, one by one. */
static rv_status check_features(const rv__value *features, rv_error *err)
{
    char name[96];

    for (const rv__value *v = rv__json_first(features); v; v = rv__json_next(v)) {
        bool is_alpha = strcmp(rv__json_key(v), "layerDiffuse") == 0;

        if (is_neutral(v))
            continue;
        snprintf(name, sizeof name, "advancedFeatures.%.60s", rv__json_key(v));
        return refuse(err, name,
                      is_alpha ? "this model's autoencoder paints no transparency; leave it out "
                                 "for an opaque picture"
                               : "the built-in engine cannot do this");
    }
    return RV_OK;
}

static rv_status check_task(const rv__value *task, rv_error *err)
{
    for (const rv__value *v = rv__json_first(task); v; v = rv__json_next(v)) {
        const char *name = rv__json_key(v);
        rv_status status = RV_OK;

        if (strcmp(name, "acceleratorOptions") == 0)
            status = check_caches(v, err);
        else if (strcmp(name, "advancedFeatures") == 0)
            status = check_features(v, err);
        else if (!is_known(name) && !is_neutral(v))
            status = refuse(err, name, "the built-in engine cannot do this");
        if (status != RV_OK)
            return status;
    }
    return RV_OK;
}

/* ---- models ---- */

static void close_model(engine *e)
{
    rv__safety_close(e->safety);
    e->safety = NULL;
    rv__pipeline_close(e->pipeline);
    rv__weights_close(e->weights);
    rv__free(e->path);
    rv__machines_close(e->machines);
    rv__free(e->machines_text);
    e->pipeline = NULL;
    e->weights = NULL;
    e->path = NULL;
    e->machines = NULL;
    e->machines_text = NULL;
    atomic_store(&e->is_loaded, false);
}

/* How exact the card wants pictures: "float32" (the default) or "fast". */
static rv_status read_precision(const rv__model *model, bool *fast, rv_error *err)
{
    const char *word = rv__json_get_string(model->engine, "precision", "float32");

    *fast = strcmp(word, "fast") == 0;
    return *fast || strcmp(word, "float32") == 0
               ? RV_OK
               : rv__fail(err, RV_FORMAT,
                          "%s: engine.precision of the model's card is 'float32' or 'fast', not "
                          "'%.40s'",
                          model->id, word);
}

/* The device that the card wants, or the host, or the environment. */
static rv_status open_device(engine *e, const rv__model *model, rv_error *err)
{
    const char *name = rv__json_get_string(model ? model->engine : NULL, "device", e->device_setting),
               *now = e->device_name;

    if (e->device && (name && now ? strcmp(name, now) == 0 : name == now))
        return RV_OK;
    close_model(e);
    rv__device_close(e->device);
    e->device = NULL;
    rv__free(e->device_name);
    e->device_name = name ? rv__strdup(name) : NULL;
    if (name && !e->device_name)
        return rv__fail(err, RV_MEMORY, "out of memory");
    return rv__device_open_with(name, e->threads, &e->device, err);
}

/* One model is open at a time; its weights are mapped, so that changing back is cheap. */
static rv_status open_weights(engine *e, const rv__model *model, rv_error *err)
{
    char *path = model ? rv__model_weights(model) : NULL;
    rv_status status = RV_OK;

    if (!path)
        return rv__fail_code(err, RV_UNSUPPORTED, NULL, "model",
                             "%s: the model's card names no weights; name them in its \"engine\", "
                             "give a weights file as the model, or use another model",
                             model ? model->id : "?");
    if (e->pipeline && strcmp(path, e->path) == 0) {
        rv__free(path);
        return RV_OK;
    }
    close_model(e);
    if (status == RV_OK)
        status = rv__weights_open(path, &e->weights, err);
    if (status == RV_OK)
        status = rv__pipeline_open(e->device, e->weights, &e->pipeline, err);
    if (status == RV_OK)
        status = rv__pipeline_load(e->pipeline, err);
    e->path = path;
    if (status != RV_OK)
        close_model(e);
    atomic_store(&e->is_loaded, status == RV_OK);
    return status;
}

/* What a card says of other machines, as one text. */
static char *machines_text(const rv__model *model)
{
    static const char *const members[] = {"rpc", "rpc_key", "rpc_blocks", "rpc_timeout"};
    rv__buf b;

    rv__buf_init(&b, 1 << 16);
    rv__buf_adds(&b, model->folder);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        rv__buf_adds(&b, "\n");
        if (rv__json_get(model->engine, members[i]))
            rv__json_write_value(&b, rv__json_get(model->engine, members[i]));
    }
    return rv__buf_take(&b, NULL);
}

/* Two cards may share weights and not machines. */
static rv_status open_machines(engine *e, const rv__model *model, rv_error *err)
{
    char *text = machines_text(model);
    rv__machines *machines = NULL;
    rv_status status;

    if (!text)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (e->machines_text && strcmp(text, e->machines_text) == 0) {
        rv__free(text);
        return RV_OK;
    }
    status = rv__machines_open(model->engine, model->folder, &machines, err);
    if (status == RV_OK)
        status = rv__pipeline_machines(e->pipeline, machines, err);
    if (status != RV_OK) {
        rv__pipeline_machines(e->pipeline, NULL, NULL);
        rv__machines_close(machines);
        rv__free(text);
        machines = NULL;
        text = NULL;
    }
    rv__machines_close(e->machines); /* nobody uses the old ones any more */
    rv__free(e->machines_text);
    e->machines_text = text;
    e->machines = machines;
    return status;
}

static rv_status open_model(engine *e, const rv__model *model, rv_error *err)
{
    bool fast = false;
    rv_status status = open_device(e, model, err);

    if (status == RV_OK)
        status = open_weights(e, model, err);
    if (status == RV_OK)
        status = open_machines(e, model, err);
    if (status == RV_OK)
        status = read_precision(model, &fast, err);
    if (status == RV_OK) {
        rv__pipeline_fast(e->pipeline, fast);
        rv__pipeline_memory(e->pipeline,
                            1e9 * rv__json_get_number(model->engine, "memory_limit", 0));
    }
    return status;
}

/* ---- tasks ---- */

/* What the hooks of one picture need. */
typedef struct watch {
    rv__port *port;
    size_t index;
    rv_image *preview; /* of the step that is about to be told */
} watch;

static void on_step(void *user, int step, int steps, const float *latents, size_t n)
{
    watch *w = user;

    (void)latents, (void)n;
    w->port->step(w->port, w->index, step, steps, w->preview);
    rv_image_unref(w->preview);
    w->preview = NULL;
}

static void on_preview(void *user, const uint8_t *rgb, int64_t width, int64_t height)
{
    ((watch *)user)->preview = rv__image_from_pixels(rgb, (int)width, (int)height, 3);
}

static bool on_cancelled(void *user)
{
    const watch *w = user;

    return w->port->cancelled(w->port);
}

static void read_cache(const rv_task *t, rv__cache_options *out)
{
    const rv__value *card = rv__task_model(t)->engine;
    int64_t first, end;

    rv__task_cache_steps(t, &first, &end);
    rv__cache_read(rv__json_get(rv__task_value(t), "acceleratorOptions"),
                   rv__json_get(card, "step_caches"), (int)first, (int)end, out);
}

/* Tells what a step cache did to the pictures of a task, after the last one. */
static void tell_skipped(const rv__cache_options *cache, int all, int skipped, rv__port *port)
{
    const char *name = rv__cache_name(cache->kind);
    char *parameter = name ? rv__format("acceleratorOptions.%s", name) : NULL;
    char *message = name ? rv__format("%s skipped %d of %d evaluations", name, skipped, all) : NULL;

    if (parameter && message)
        port->warn(port, "stepsSkipped", parameter, message);
    rv__free(parameter);
    rv__free(message);
}

/* Says so of a prompt that cannot be read before anything is loaded for it. */
static rv_status check_weighting(const rv__picture_request *r, rv_error *err)
{
    rv__weighted w;
    rv_status status = rv__weighted_parse(r->weighting, r->prompt, "positivePrompt", &w, err);

    rv__weighted_free(&w);
    if (status == RV_OK && r->negative)
        status = rv__weighted_parse(r->weighting, r->negative, "negativePrompt", &w, err);
    rv__weighted_free(&w);
    return status;
}

static rv_status read_task(engine *e, const rv_task *t, rv__scheduler_config *scheduler,
                           rv__picture_request *r, rv_error *err)
{
    const rv__value *v = rv__task_value(t), *own = rv__task_model(t)->engine;
    rv_status status;
    int64_t step;

    *r = (rv__picture_request){
        .prompt = rv__task_prompt(t),
        .negative = rv__json_get_string(v, "negativePrompt", NULL),
        .weighting = rv__weighting_named(rv__json_get_string(v, "promptWeighting", NULL)),
        .sequence = (size_t)rv__json_get_int(own, "max_sequence_length", 0),
        .guidance = rv__json_get_number(v, "CFGScale", rv__json_get_number(own, "guidance", 0)),
        .steps = (int)rv__json_get_int(v, "steps", 30),
        .width = rv__json_get_int(v, "width", 1024),
        .height = rv__json_get_int(v, "height", 1024),
    };
    /* Without any words, guidance would steer from nothing to nothing at twice the cost. */
    if (!*r->prompt && (!r->negative || !*r->negative))
        r->guidance = 0;
    status = rv__scheduler_config_named(rv__json_get_string(v, "scheduler", NULL),
                                        rv__pipeline_scheduler(e->pipeline), scheduler, err);
    r->scheduler = scheduler;
    if (status == RV_OK)
        status = check_weighting(r, err);
    if (status != RV_OK || rv__json_get_bool(own, "native_size", true))
        return status;
    /* The reference makes about one megapixel whatever is asked for; a card may want the same. */
    step = rv__pipeline_side_step(e->pipeline, err);
    if (step == 0)
        return err->status;
    rv__pipeline_size(r->width, r->height, rv__json_get_int(own, "area", 1024 * 1024), step,
                      &r->width, &r->height);
    return RV_OK;
}

/* Opens the checker that the model's card names when the task asks for one. */
static rv_status open_safety(engine *e, const rv_task *t, rv_error *err)
{
    const rv__model *model = rv__task_model(t);
    const char *parameter = safety_wanted(rv__task_value(t));
    const char *path = rv__json_get_string(model->engine, "safety_checker", NULL);
    char *full;
    rv_status status;

    e->is_checking = parameter != NULL;
    if (!parameter || e->safety)
        return RV_OK;
    if (!path)
        return rv__fail_code(err, RV_UNSUPPORTED, "safetyCheckerNotInstalled", parameter,
                             "%s: no content checker is installed for this model (its card has no "
                             "\"safety_checker\"), so no picture was made",
                             parameter);
    full = path[0] == '/' ? rv__strdup(path) : rv__format("%s/%s", model->folder, path);
    status = full ? rv__safety_open(e->device, full, &e->safety, err)
                  : rv__fail(err, RV_MEMORY, "out of memory");
    rv__free(full);
    return status;
}

static rv_status deliver(engine *e, rv__port *port, size_t index, const uint8_t *rgb, int64_t width,
                         int64_t height, rv_error *err)
{
    rv_image *image;
    bool flagged;

    if (e->is_checking) {
        watch w = {.port = port};
        rv_status status = rv__safety_check(e->safety, rgb, (int)width, (int)height, &flagged,
                                            on_cancelled, &w, err);
        if (status != RV_OK)
            return status;
    }
    image = rv__image_from_pixels(rgb, (int)width, (int)height, 3);
    if (!image)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (e->is_checking)
        rv__image_set_facts(image, "", 0, -1, flagged);
    port->image(port, index, image);
    return RV_OK;
}

/* A result that belongs into the input picture. */
static rv_status deliver_pasted(engine *e, rv__port *port, size_t index, const rv__edit *edit,
                                const uint8_t *rgb, rv_error *err)
{
    size_t bytes = (size_t)edit->picture.width * (size_t)edit->picture.height * 3;
    uint8_t *out = rv__alloc(bytes);
    rv_status status =
        out ? rv__edit_paste(edit, rgb, out, err) : rv__fail(err, RV_MEMORY, "out of memory");

    if (status == RV_OK)
        status = deliver(e, port, index, out, edit->picture.width, edit->picture.height, err);
    rv__free(out);
    return status;
}

/* edit NULL: a picture from words alone. */
static rv_status one_picture(engine *e, rv__picture_request *r, const rv__edit *edit,
                             rv__port *port, size_t index, rv_error *err)
{
    watch w = {.port = port, .index = index};
    uint8_t *bytes = NULL;
    rv_status status;

    if (edit && edit->is_still)
        return deliver(e, port, index, edit->picture.pixels, r->width, r->height, err);
    r->hooks = (rv__pipeline_hooks){.step = on_step,
                                    .preview = on_preview,
                                    .preview_every = e->preview_steps ? e->preview_steps
                                                                      : port->delivery->previews,
                                    .cancelled = on_cancelled,
                                    .user = &w};
    if (r->width > 0 && r->height > 0 && r->width <= 1 << 14 && r->height <= 1 << 14)
        bytes = rv__alloc((size_t)(r->width * r->height) * 3);
    if (!bytes)
        return rv__fail(err, RV_MEMORY, "out of memory");
    status = rv__pipeline_run(e->pipeline, r, bytes, NULL, err);
    if (status == RV_OK)
        status = edit ? deliver_pasted(e, port, index, edit, bytes, err)
                      : deliver(e, port, index, bytes, r->width, r->height, err);
    rv_image_unref(w.preview);
    rv__free(bytes);
    return status;
}

static rv_status read_edit(engine *e, const rv_task *t, const rv__port *port,
                           rv__picture_request *r, rv__edit *edit, rv__picture_input *input,
                           rv_error *err)
{
    int64_t step = rv__pipeline_side_step(e->pipeline, err);
    rv__edit_files files = {0};
    rv_status status;

    if (step == 0)
        return err->status;
    if (r->width % step || r->height % step || r->width > 1 << 13 || r->height > 1 << 13)
        return RV_OK; /* the pipeline refuses it */
    port->input(port, "seedImage", &files.seed.bytes, &files.seed.len);
    port->input(port, "maskImage", &files.mask.bytes, &files.mask.len);
    status = rv__edit_read(rv__task_value(t), r->width, r->height, step, &files, edit, err);
    if (status != RV_OK || edit->is_still)
        return status;
    *input = (rv__picture_input){edit->work_picture.pixels, edit->work_mask.pixels, edit->strength};
    r->input = input;
    r->width = edit->work_picture.width;
    r->height = edit->work_picture.height;
    return RV_OK;
}

static void warn_of_cuts(engine *e, const rv__picture_request *r, rv__port *port)
{
    static const char *const names[] = {"positivePrompt", "negativePrompt"};

    for (int negative = 0; negative < 2; negative++) {
        char *note = rv__pipeline_cut(e->pipeline, r, negative);
        char *message = note ? rv__format("%s %s", names[negative], note) : NULL;

        if (message)
            port->warn(port, "promptTruncated", names[negative], message);
        rv__free(message);
        rv__free(note);
    }
}

static rv_status engine_run(void *self, const rv_task *t, rv__port *port, rv_error *err)
{
    engine *e = self;
    rv__scheduler_config scheduler;
    rv__picture_request request;
    rv__picture_input input;
    rv__edit edit = {0};
    rv__cache_options cache;
    rv_error own = {0};
    int all = 0, skipped = 0, of_all = 0, of_skipped = 0;
    rv_status status;
    bool is_edit = rv__edit_wanted(rv__task_value(t));

    err = err ? err : &own;
    status = check_task(rv__task_value(t), err);
    if (status == RV_OK)
        status = open_model(e, rv__task_model(t), err);
    if (status == RV_OK)
        status = open_safety(e, t, err);
    if (status == RV_OK)
        status = rv__executor_loras(e->pipeline, rv__task_value(t), rv__task_model(t), err);
    if (status == RV_OK)
        status = read_task(e, t, &scheduler, &request, err);
    if (status == RV_OK && is_edit)
        status = read_edit(e, t, port, &request, &edit, &input, err);
    read_cache(t, &cache);
    request.cache = &cache;
    if (status == RV_OK)
        warn_of_cuts(e, &request, port);
    for (size_t i = 0; status == RV_OK && i < rv__task_results(t); i++) {
        request.seed = rv__task_seed(t, i);
        status = port->cancelled(port)
                     ? rv__fail(err, RV_CANCELLED, "cancelled")
                     : one_picture(e, &request, is_edit ? &edit : NULL, port, i, err);
        if (!edit.is_still) /* nothing was computed then */
            rv__pipeline_evaluations(e->pipeline, &of_all, &of_skipped);
        all += of_all;
        skipped += of_skipped;
    }
    if (status == RV_OK)
        tell_skipped(&cache, all, skipped, port);
    rv__edit_free(&edit);
    return status;
}

static rv_status engine_load(void *self, const rv__model *model, rv_error *err)
{
    return open_model(self, model, err);
}

static bool engine_is_loaded(void *self)
{
    return atomic_load(&((engine *)self)->is_loaded);
}

static void engine_close(void *self)
{
    engine *e = self;

    if (!e)
        return;
    close_model(e);
    rv__device_close(e->device);
    rv__free(e->device_name);
    rv__free(e->device_setting);
    rv__free(e);
}

rv_status rv__engine_open(const rv__executor_options *o, const rv__executor **executor, void **self,
                          rv_error *err)
{
    static const rv__executor methods = {.name = "engine",
                                         .workers = 1,
                                         .run = engine_run,
                                         .close = engine_close,
                                         .load = engine_load,
                                         .is_loaded = engine_is_loaded};
    engine *e = rv__calloc(1, sizeof *e);

    if (!e)
        return rv__fail(err, RV_MEMORY, "out of memory");
    e->device_setting = o->device ? rv__strdup(o->device) : NULL;
    if (o->device && !e->device_setting) {
        rv__free(e);
        return rv__fail(err, RV_MEMORY, "out of memory");
    }
    e->threads = o->threads;
    e->preview_steps = o->preview_steps;
    atomic_init(&e->is_loaded, false);
    *executor = &methods;
    *self = e;
    return RV_OK;
}
