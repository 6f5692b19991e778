/* The rules across parameters.  A predicate reads the checked tree only and never reports twice
 * what a single value already got an issue for: bad values read as absent. */
#include "rules.h"

#include <string.h>

#define ACC      "acceleratorOptions."
#define IDEOGRAM "providerSettings.ideogram."

bool rv__scheduler_is_stochastic(const char *name)
{
    return strstr(name, "SDE") || strstr(name, "Ancestral") || strcmp(name, "Euler a") == 0;
}

int64_t rv__percent_step(int64_t steps, int64_t percent)
{
    return steps * percent / 100;
}

static const unsigned both = 3;

static bool given_int(const rv__node *n, const char *path, int64_t *out)
{
    return rv__node_given(n, path) && rv__node_int(n, path, out);
}

static unsigned both_given(const rv__node *n, const char *a, const char *b)
{
    return rv__node_given(n, a) && rv__node_given(n, b) ? both : 0;
}

static unsigned given_and_ordered(const rv__node *n, const char *low, const char *high)
{
    int64_t a, b;
    return given_int(n, low, &a) && given_int(n, high, &b) && a >= b ? both : 0;
}

/* A step count above the number of steps. */
static unsigned beyond_steps(const rv__rule_input *in, const rv__node *n, const char *path)
{
    int64_t step, steps;
    return given_int(n, path, &step) && rv__node_int(in->task, "steps", &steps) && step > steps
               ? both
               : 0;
}

/* Start as a step, end as a percentage. */
static unsigned start_after_percent(const rv__rule_input *in, const rv__node *n, const char *start,
                                    const char *end)
{
    int64_t a, b, steps;
    return given_int(n, start, &a) && given_int(n, end, &b) &&
                   rv__node_int(in->task, "steps", &steps) && a >= rv__percent_step(steps, b)
               ? 7
               : 0;
}

/* Start as a percentage, end as a step. */
static unsigned percent_after_end(const rv__rule_input *in, const rv__node *n, const char *start,
                                  const char *end)
{
    int64_t a, b, steps;
    return given_int(n, start, &a) && given_int(n, end, &b) &&
                   rv__node_int(in->task, "steps", &steps) && rv__percent_step(steps, a) >= b
               ? 7
               : 0;
}

/* ---- size -------------------------------------------------------------------------------- */

static bool has_default(const rv__node *n, const char *path)
{
    const rv__field *f = NULL;
    rv__node_find(n, path, &f);
    return f && f->preset;
}

static bool absent(const rv__node *n, const char *path)
{
    const rv__slot *s = rv__node_find(n, path, NULL);
    return s && !s->value && !s->bad;
}

static bool present(const rv__node *n, const char *path)
{
    const rv__slot *s = rv__node_find(n, path, NULL);
    return s && s->value;
}

static unsigned size_pair(const rv__rule_input *in)
{
    const rv__node *n = in->task;
    if (!has_default(n, "width") || !has_default(n, "height"))
        return 0;
    return (present(n, "width") && absent(n, "height")) ||
                   (present(n, "height") && absent(n, "width"))
               ? both
               : 0;
}

/* Provider models may choose the size themselves, as the reference's own example does. */
static unsigned width_needed(const rv__rule_input *in)
{
    const rv__node *n = in->task;
    return absent(n, "width") && !has_default(n, "width") && !present(n, "providerSettings");
}

static unsigned height_needed(const rv__rule_input *in)
{
    const rv__node *n = in->task;
    return absent(n, "height") && !has_default(n, "height") && !present(n, "providerSettings");
}

/* ---- caches ------------------------------------------------------------------------------ */

static unsigned cache_start_forms(const rv__rule_input *in)
{
    return both_given(in->task, ACC "cacheStartStep", ACC "cacheStartStepPercentage");
}

static unsigned cache_end_forms(const rv__rule_input *in)
{
    return both_given(in->task, ACC "cacheEndStep", ACC "cacheEndStepPercentage");
}

static unsigned cache_step_order(const rv__rule_input *in)
{
    return given_and_ordered(in->task, ACC "cacheStartStep", ACC "cacheEndStep");
}

static unsigned cache_percent_order(const rv__rule_input *in)
{
    return given_and_ordered(in->task, ACC "cacheStartStepPercentage",
                             ACC "cacheEndStepPercentage");
}

static unsigned cache_start_steps(const rv__rule_input *in)
{
    return beyond_steps(in, in->task, ACC "cacheStartStep");
}

static unsigned cache_end_steps(const rv__rule_input *in)
{
    return beyond_steps(in, in->task, ACC "cacheEndStep");
}

static unsigned cache_mixed_start(const rv__rule_input *in)
{
    return start_after_percent(in, in->task, ACC "cacheStartStep", ACC "cacheEndStepPercentage");
}

static unsigned cache_mixed_end(const rv__rule_input *in)
{
    return percent_after_end(in, in->task, ACC "cacheStartStepPercentage", ACC "cacheEndStep");
}

/* Set of the caches that are switched on. */
static unsigned caches_on(const rv__node *n)
{
    static const char *const caches[] = {ACC "teaCache", ACC "fbCache", ACC "dbCache",
                                         ACC "deepCache"};
    unsigned set = 0;
    for (unsigned i = 0; i < 4; i++)
        set |= (unsigned)rv__node_true(n, caches[i]) << i;
    return set;
}

static unsigned one_cache(const rv__rule_input *in)
{
    unsigned set = caches_on(in->task);
    return set & (set - 1) ? set : 0;
}

static unsigned cache_stochastic(const rv__rule_input *in)
{
    char room[64];
    const char *scheduler = rv__node_text(in->task, "scheduler", room, sizeof room);
    unsigned set = caches_on(in->task);
    return set && scheduler && rv__scheduler_is_stochastic(scheduler) ? set | 1u << 4 : 0;
}

/* ---- guidance, safety, output ------------------------------------------------------------ */

static unsigned negative_without_guidance(const rv__rule_input *in)
{
    double scale;
    return rv__node_given(in->task, "negativePrompt") &&
                   rv__node_number(in->task, "CFGScale", &scale) && scale <= 1
               ? both
               : 0;
}

static unsigned transparency_format(const rv__rule_input *in)
{
    char room[64];
    const char *format = rv__node_text(in->task, "outputFormat", room, sizeof room);
    return rv__node_true(in->task, "advancedFeatures.layerDiffuse") && format &&
                   strcmp(format, "JPG") == 0
               ? both
               : 0;
}

/* ---- input pictures ---------------------------------------------------------------------- */

static unsigned mask_needs_seed(const rv__rule_input *in)
{
    return present(in->task, "maskImage") && absent(in->task, "seedImage");
}

static unsigned outpaint_needs_seed(const rv__rule_input *in)
{
    return present(in->task, "outpaint") && absent(in->task, "seedImage");
}

static unsigned margin_needs_mask(const rv__rule_input *in)
{
    return present(in->task, "maskMargin") && absent(in->task, "maskImage");
}

static unsigned strength_needs_seed(const rv__rule_input *in)
{
    return rv__node_given(in->task, "strength") && absent(in->task, "seedImage") ? both : 0;
}

/* The start picture needs at least one pixel between the two extensions. */
static unsigned outpaint_leaves_room(const rv__rule_input *in, const char *size, const char *a,
                                     const char *b)
{
    int64_t whole, first = 0, second = 0;
    if (!rv__node_given(in->task, "outpaint") || !given_int(in->task, size, &whole))
        return 0;
    given_int(in->task, a, &first);
    given_int(in->task, b, &second);
    return first >= whole || second >= whole || first + second >= whole ? 7 : 0;
}

static unsigned outpaint_width(const rv__rule_input *in)
{
    return outpaint_leaves_room(in, "width", "outpaint.left", "outpaint.right");
}

static unsigned outpaint_height(const rv__rule_input *in)
{
    return outpaint_leaves_room(in, "height", "outpaint.top", "outpaint.bottom");
}

/* ---- refiner, ControlNet, identity ------------------------------------------------------- */

static unsigned refiner_forms(const rv__rule_input *in)
{
    return both_given(in->task, "refiner.startStep", "refiner.startStepPercentage");
}

static unsigned refiner_steps(const rv__rule_input *in)
{
    return beyond_steps(in, in->task, "refiner.startStep");
}

static unsigned control_start_forms(const rv__rule_input *in)
{
    return both_given(in->item, "startStep", "startStepPercentage");
}

static unsigned control_end_forms(const rv__rule_input *in)
{
    return both_given(in->item, "endStep", "endStepPercentage");
}

static unsigned control_step_order(const rv__rule_input *in)
{
    return given_and_ordered(in->item, "startStep", "endStep");
}

static unsigned control_percent_order(const rv__rule_input *in)
{
    return given_and_ordered(in->item, "startStepPercentage", "endStepPercentage");
}

static unsigned control_start_steps(const rv__rule_input *in)
{
    return beyond_steps(in, in->item, "startStep");
}

static unsigned control_end_steps(const rv__rule_input *in)
{
    return beyond_steps(in, in->item, "endStep");
}

static unsigned control_mixed_start(const rv__rule_input *in)
{
    return start_after_percent(in, in->item, "startStep", "endStepPercentage");
}

static unsigned control_mixed_end(const rv__rule_input *in)
{
    return percent_after_end(in, in->item, "startStepPercentage", "endStep");
}

static unsigned face_start_forms(const rv__rule_input *in)
{
    return both_given(in->task, "puLID.CFGStartStep", "puLID.CFGStartStepPercentage");
}

static unsigned ace_needs_reference(const rv__rule_input *in)
{
    const rv__slot *s = rv__node_find(in->task, "referenceImages", NULL);
    return present(in->task, "acePlusPlus") && s && !s->bad && !rv__json_size(s->value);
}

static unsigned ace_one_reference(const rv__rule_input *in)
{
    const rv__slot *s = rv__node_find(in->task, "referenceImages", NULL);
    return present(in->task, "acePlusPlus") && s && !s->bad && rv__json_size(s->value) > 1 ? both
                                                                                           : 0;
}

static unsigned ace_model(const rv__rule_input *in)
{
    const rv__slot *s = rv__node_find(in->task, "model", NULL);
    const char *model = s ? rv__json_string(s->value) : NULL;
    return present(in->task, "acePlusPlus") && model && strcmp(model, "runware:102@1") != 0 ? both
                                                                                            : 0;
}

/* ---- providers --------------------------------------------------------------------------- */

static unsigned sequence_pictures(const rv__rule_input *in)
{
    int64_t n;
    const rv__slot *s = rv__node_find(in->task, "referenceImages", NULL);
    return given_int(in->task, "providerSettings.bytedance.maxSequentialImages", &n) && s &&
                   !s->bad && rv__json_size(s->value) + (size_t)n > 15
               ? both
               : 0;
}

static unsigned style_code(const rv__rule_input *in)
{
    if (!rv__node_given(in->task, IDEOGRAM "styleCode"))
        return 0;
    unsigned set = (unsigned)rv__node_given(in->task, IDEOGRAM "styleType") << 1 |
                   (unsigned)rv__node_given(in->task, IDEOGRAM "styleReferenceImages") << 2 |
                   (unsigned)rv__node_given(in->task, "referenceImages") << 3;
    return set ? set | 1 : 0;
}

static unsigned palette_forms(const rv__rule_input *in)
{
    return both_given(in->task, IDEOGRAM "colorPalette.name", IDEOGRAM "colorPalette.members");
}

static unsigned palette_order(const rv__rule_input *in)
{
    const rv__slot *s = rv__node_find(in->task, IDEOGRAM "colorPalette.members", NULL);
    double before = 1, weight;
    for (size_t i = 0; s && i < s->count; i++) {
        if (!rv__node_given(&s->nodes[i], "colorWeight") ||
            !rv__node_number(&s->nodes[i], "colorWeight", &weight))
            continue;
        if (weight > before)
            return 1;
        before = weight;
    }
    return 0;
}

/* ---- the table --------------------------------------------------------------------------- */

#define CROSS .code = "incompatibleParameters", .kind = "cross"
#define EXCLUSIVE(a, b) .sentence = a " and " b " are two forms of the same bound: give one of them"

static const char acc[] = "acceleratorOptions", features[] = "advancedFeatures",
                  refiner[] = "refiner", control_net[] = "controlNet", pulid[] = "puLID",
                  provider[] = "providerSettings";

const rv__rule rv__rules[] = {
    {"size-pair", NULL, {"width", "height"}, size_pair, CROSS,
     .sentence = "width and height must be given together"},
    {"width-needed", NULL, {"width"}, width_needed, .code = "missingWidth", .kind = "required",
     .sentence = "width is required"},
    {"height-needed", NULL, {"height"}, height_needed, .code = "missingHeight", .kind = "required",
     .sentence = "height is required"},

    {"cache-start-forms", acc, {ACC "cacheStartStep", ACC "cacheStartStepPercentage"},
     cache_start_forms, CROSS, EXCLUSIVE("cacheStartStep", "cacheStartStepPercentage")},
    {"cache-end-forms", acc, {ACC "cacheEndStep", ACC "cacheEndStepPercentage"}, cache_end_forms,
     CROSS, EXCLUSIVE("cacheEndStep", "cacheEndStepPercentage")},
    {"cache-step-order", acc, {ACC "cacheStartStep", ACC "cacheEndStep"}, cache_step_order, CROSS,
     .sentence = "cacheStartStep must be less than cacheEndStep"},
    {"cache-percent-order", acc, {ACC "cacheStartStepPercentage", ACC "cacheEndStepPercentage"},
     cache_percent_order, CROSS,
     .sentence = "cacheStartStepPercentage must be less than cacheEndStepPercentage"},
    {"cache-start-steps", acc, {ACC "cacheStartStep", "steps"}, cache_start_steps, CROSS,
     .sentence = "cacheStartStep must be at most steps"},
    {"cache-end-steps", acc, {ACC "cacheEndStep", "steps"}, cache_end_steps, CROSS,
     .sentence = "cacheEndStep must be at most steps"},
    {"cache-mixed-start", acc, {ACC "cacheStartStep", ACC "cacheEndStepPercentage", "steps"},
     cache_mixed_start, CROSS,
     .sentence = "cacheStartStep must be less than the step that cacheEndStepPercentage means"},
    {"cache-mixed-end", acc, {ACC "cacheStartStepPercentage", ACC "cacheEndStep", "steps"},
     cache_mixed_end, CROSS,
     .sentence = "the step that cacheStartStepPercentage means must be less than cacheEndStep"},
    {"one-cache", acc, {ACC "teaCache", ACC "fbCache", ACC "dbCache", ACC "deepCache"}, one_cache,
     CROSS, .sentence = "only one cache can be switched on"},
    {"cache-stochastic", acc, {ACC "teaCache", ACC "fbCache", ACC "dbCache", ACC "deepCache",
     "scheduler"}, cache_stochastic, CROSS,
     .sentence = "the cache is left off, because this scheduler adds fresh noise at every step",
     .warning = true},

    {"negative-without-guidance", NULL, {"negativePrompt", "CFGScale"}, negative_without_guidance,
     CROSS, .sentence = "negativePrompt has no effect, because CFGScale is not above 1",
     .warning = true},
    {"transparency-format", features, {"advancedFeatures.layerDiffuse", "outputFormat"},
     transparency_format, CROSS,
     .sentence = "layerDiffuse needs an outputFormat with transparency: PNG or WEBP"},

    {"mask-needs-seed", NULL, {"seedImage"}, mask_needs_seed, .code = "missingSeedImage",
     .kind = "required", .sentence = "seedImage is required with maskImage"},
    {"outpaint-needs-seed", NULL, {"seedImage"}, outpaint_needs_seed, .code = "missingSeedImage",
     .kind = "required", .sentence = "seedImage is required with outpaint"},
    {"margin-needs-mask", NULL, {"maskImage"}, margin_needs_mask, .code = "missingMaskImage",
     .kind = "required", .sentence = "maskImage is required with maskMargin"},
    {"strength-needs-seed", NULL, {"strength", "seedImage"}, strength_needs_seed, CROSS,
     .sentence = "strength has no effect without seedImage", .warning = true},
    {"outpaint-width", NULL, {"width", "outpaint.left", "outpaint.right"}, outpaint_width, CROSS,
     .sentence = "width must be that of the start picture plus left and right"},
    {"outpaint-height", NULL, {"height", "outpaint.top", "outpaint.bottom"}, outpaint_height, CROSS,
     .sentence = "height must be that of the start picture plus top and bottom"},

    {"refiner-forms", refiner, {"refiner.startStep", "refiner.startStepPercentage"}, refiner_forms,
     CROSS, EXCLUSIVE("startStep", "startStepPercentage")},
    {"refiner-steps", refiner, {"refiner.startStep", "steps"}, refiner_steps, CROSS,
     .sentence = "the refiner's startStep must be at most steps"},
    {"control-start-forms", control_net, {"controlNet[].startStep",
     "controlNet[].startStepPercentage"}, control_start_forms, CROSS, EXCLUSIVE("startStep",
     "startStepPercentage")},
    {"control-end-forms", control_net, {"controlNet[].endStep", "controlNet[].endStepPercentage"},
     control_end_forms, CROSS, EXCLUSIVE("endStep", "endStepPercentage")},
    {"control-step-order", control_net, {"controlNet[].startStep", "controlNet[].endStep"},
     control_step_order, CROSS, .sentence = "startStep must be less than endStep"},
    {"control-percent-order", control_net, {"controlNet[].startStepPercentage",
     "controlNet[].endStepPercentage"}, control_percent_order, CROSS,
     .sentence = "startStepPercentage must be less than endStepPercentage"},
    {"control-start-steps", control_net, {"controlNet[].startStep", "steps"}, control_start_steps,
     CROSS, .sentence = "startStep must be at most steps"},
    {"control-end-steps", control_net, {"controlNet[].endStep", "steps"}, control_end_steps, CROSS,
     .sentence = "endStep must be at most steps"},
    {"control-mixed-start", control_net, {"controlNet[].startStep",
     "controlNet[].endStepPercentage", "steps"}, control_mixed_start, CROSS,
     .sentence = "startStep must be less than the step that endStepPercentage means"},
    {"control-mixed-end", control_net, {"controlNet[].startStepPercentage", "controlNet[].endStep",
     "steps"}, control_mixed_end, CROSS,
     .sentence = "the step that startStepPercentage means must be less than endStep"},
    {"face-start-forms", pulid, {"puLID.CFGStartStep", "puLID.CFGStartStepPercentage"},
     face_start_forms, CROSS, EXCLUSIVE("CFGStartStep", "CFGStartStepPercentage")},
    {"ace-needs-reference", NULL, {"referenceImages"}, ace_needs_reference,
     .code = "missingReferenceImages", .kind = "required",
     .sentence = "referenceImages is required with acePlusPlus"},
    {"ace-one-reference", NULL, {"acePlusPlus", "referenceImages"}, ace_one_reference, CROSS,
     .sentence = "acePlusPlus takes one reference picture"},
    {"ace-model", NULL, {"acePlusPlus", "model"}, ace_model, CROSS,
     .sentence = "acePlusPlus works with the model runware:102@1 only"},

    {"sequence-pictures", NULL, {"referenceImages",
     "providerSettings.bytedance.maxSequentialImages"}, sequence_pictures, CROSS,
     .sentence = "reference pictures and maxSequentialImages must be at most 15 together"},
    {"style-code", provider, {IDEOGRAM "styleCode", IDEOGRAM "styleType",
     IDEOGRAM "styleReferenceImages", "referenceImages"}, style_code, CROSS,
     .sentence = "styleCode cannot be used with styleType or with reference pictures"},
    {"palette-forms", provider, {IDEOGRAM "colorPalette.name", IDEOGRAM "colorPalette.members"},
     palette_forms, CROSS, .sentence = "a colour palette has either a name or members"},
    {"palette-order", provider, {IDEOGRAM "colorPalette.members"}, palette_order, CROSS,
     .sentence = "the weights of a colour palette should descend", .warning = true},
    {0},
};

/* ---- checking ---------------------------------------------------------------------------- */

/* The last name of a rule's field as the request spells it. */
static const char *sent_name(const rv__rule_input *in, const char *field, const char *leaf)
{
    const char *below = strstr(field, "[].");
    const rv__slot *s =
        below ? rv__node_find(in->item, below + 3, NULL) : rv__node_find(in->task, field, NULL);
    return s && s->value ? rv__json_key(s->value) : leaf;
}

/* Dotted name of a rule's field, whose list, if it has one, means element `index`. */
static char *dotted_name(rv__pool *pool, const rv__rule_input *in, const char *field, size_t index)
{
    const char *list = strstr(field, "[]"), *dot = strrchr(field, '.');
    const char *leaf = dot ? dot + 1 : field, *sent = sent_name(in, field, leaf);
    if (!list)
        return rv__pool_format(pool, "%.*s%s", (int)(leaf - field), field, sent);
    const char *rest = list + 2;
    return rv__pool_format(pool, "%.*s[%zu]%.*s%s", (int)(list - field), field, index,
                           (int)(leaf - rest), rest, sent);
}

/* "lora[1].weight" below the task's pointer: "/0/lora/1/weight". */
static char *pointer_of(rv__pool *pool, const char *task, const char *dotted)
{
    char *path = rv__pool_format(pool, "%s/%s", task, dotted), *to = path;
    for (const char *c = path; c && *c; c++) {
        if (*c != ']')
            *to++ = *c == '.' || *c == '[' ? '/' : *c;
    }
    if (to)
        *to = '\0';
    return path;
}

static void report(const rv__checker *c, const rv__rule *r, const rv__rule_input *in, unsigned set,
                   size_t index, const rv__place *place)
{
    const char *pointers[RV__RULE_FIELDS], *parameters[RV__RULE_FIELDS];
    rv__pool *pool = c->issues->pool;
    const char *task = rv__place_pointer(pool, place);
    rv__problem p = {.pointers = pointers,
                     .parameters = parameters,
                     .code = r->code,
                     .rule = r->kind,
                     .warning = r->warning};
    for (size_t i = 0; task && i < RV__RULE_FIELDS && r->fields[i]; i++) {
        if (!(set >> i & 1))
            continue;
        const char *dotted = dotted_name(pool, in, r->fields[i], index);
        parameters[p.places] = dotted;
        pointers[p.places] = dotted ? pointer_of(pool, task, dotted) : NULL;
        p.places += pointers[p.places] != NULL;
    }
    rv__issues_add(c->issues, &p, "%s", r->sentence);
}

/* about is the slot of what the rule is about, or NULL. */
static bool check_rule(const rv__checker *c, const rv__rule *r, const rv__node *task,
                       const rv__slot *about, const rv__place *place)
{
    rv__rule_input in = {.task = task};
    size_t count = about ? about->count : 1;
    bool good = true;
    for (size_t i = 0; i < count; i++) {
        in.item = about ? &about->nodes[i] : NULL;
        unsigned set = r->broken(&in);
        if (!set)
            continue;
        report(c, r, &in, set, i, place);
        good &= r->warning;
    }
    return good;
}

bool rv__check_rules(const rv__checker *c, const rv__node *task, const rv__place *place)
{
    bool good = true;
    const char *about = NULL;
    const rv__slot *slot = NULL;
    for (const rv__rule *r = rv__rules; r->name; r++) { /* those about one thing stand together */
        if (r->about && r->about != about)
            slot = rv__node_find(task, r->about, NULL);
        about = r->about;
        if (!about || slot)
            good &= check_rule(c, r, task, about ? slot : NULL, place);
    }
    return good;
}
