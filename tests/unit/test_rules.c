/* rules.c: each rule has one request that breaks only it, and one that just keeps it. */
#include "request_helper.h"

#define IMG "\"" PNG_BASE64 "\""
#define SEED ",\"seedImage\":" IMG
#define ACC(x) ",\"acceleratorOptions\":{" x "}"
#define NET(x) ",\"controlNet\":[{\"model\":\"a:1@1\",\"guideImage\":" IMG "," x "}]"
#define REF(x) ",\"referenceImages\":[" x "]"
#define IDEO(x) ",\"providerSettings\":{\"ideogram\":{" x "}}"
#define FULL "runware:97@1"

typedef struct row {
    const char *rule, *model, *breaks, *keeps;
    const char *parameter; /* of the issue */
} row;

static const row rows[] = {
    {"size-pair", FULL, ",\"width\":512", ",\"width\":512,\"height\":512", "width,height"},
    {"size-pair", FULL, ",\"height\":512", "", "width,height"},
    {"width-needed", "generic", ",\"height\":512", ",\"width\":512,\"height\":512", "width"},
    {"height-needed", "generic", ",\"width\":512", ",\"providerSettings\":{}", "height"},
    {"cache-start-forms", FULL, ACC("\"cacheStartStep\":1,\"cacheStartStepPercentage\":5"),
     ACC("\"cacheStartStep\":1,\"cacheEndStepPercentage\":50"),
     "acceleratorOptions.cacheStartStep,acceleratorOptions.cacheStartStepPercentage"},
    {"cache-end-forms", FULL, ACC("\"cacheEndStep\":9,\"cacheEndStepPercentage\":5"),
     ACC("\"cacheEndStep\":9,\"cacheStartStepPercentage\":5"),
     "acceleratorOptions.cacheEndStep,acceleratorOptions.cacheEndStepPercentage"},
    {"cache-step-order", FULL, ACC("\"cacheStartStep\":9,\"cacheEndStep\":9"),
     ACC("\"cacheStartStep\":9,\"cacheEndStep\":10"),
     "acceleratorOptions.cacheStartStep,acceleratorOptions.cacheEndStep"},
    {"cache-percent-order", FULL,
     ACC("\"cacheStartStepPercentage\":50,\"cacheEndStepPercentage\":50"),
     ACC("\"cacheStartStepPercentage\":50,\"cacheEndStepPercentage\":51"),
     "acceleratorOptions.cacheStartStepPercentage,acceleratorOptions.cacheEndStepPercentage"},
    {"cache-start-steps", FULL, ACC("\"cacheStartStep\":31"), ACC("\"cacheStartStep\":30"),
     "acceleratorOptions.cacheStartStep,steps"},
    {"cache-end-steps", FULL, ",\"steps\":10" ACC("\"cacheEndStep\":11"),
     ",\"steps\":10" ACC("\"cacheEndStep\":10"), "acceleratorOptions.cacheEndStep,steps"},
    {"cache-end-steps", FULL, ACC("\"cacheEndStep\":31"), ACC("\"cacheEndStep\":30"),
     "acceleratorOptions.cacheEndStep,steps"},
    {"cache-mixed-start", FULL,
     ",\"steps\":10" ACC("\"cacheStartStep\":2,\"cacheEndStepPercentage\":29"),
     ",\"steps\":10" ACC("\"cacheStartStep\":2,\"cacheEndStepPercentage\":30"),
     "acceleratorOptions.cacheStartStep,acceleratorOptions.cacheEndStepPercentage,steps"},
    {"cache-mixed-end", FULL,
     ",\"steps\":10" ACC("\"cacheStartStepPercentage\":20,\"cacheEndStep\":2"),
     ",\"steps\":10" ACC("\"cacheStartStepPercentage\":29,\"cacheEndStep\":3"),
     "acceleratorOptions.cacheStartStepPercentage,acceleratorOptions.cacheEndStep,steps"},
    {"one-cache", FULL, ACC("\"teaCache\":true,\"fbCache\":false,\"dbCache\":true"),
     ACC("\"teaCache\":false,\"fbCache\":false,\"dbCache\":true"),
     "acceleratorOptions.teaCache,acceleratorOptions.dbCache"},
    {"one-cache", "generic", ACC("\"teaCache\":true,\"deepCache\":true"), ACC("\"deepCache\":true"),
     "acceleratorOptions.teaCache,acceleratorOptions.deepCache"},
    {"cache-stochastic", FULL, ",\"scheduler\":\"DPM++ SDE Karras\"" ACC("\"fbCache\":true"),
     ",\"scheduler\":\"Euler\"" ACC("\"fbCache\":true"), "acceleratorOptions.fbCache,scheduler"},
    {"cache-stochastic", FULL, ",\"scheduler\":\"euler A\"" ACC("\"teaCache\":true"),
     ",\"scheduler\":\"euler A\"" ACC("\"teaCache\":false"),
     "acceleratorOptions.teaCache,scheduler"},
    {"negative-without-guidance", FULL, ",\"negativePrompt\":\"fog\",\"CFGScale\":1",
     ",\"negativePrompt\":\"fog\",\"CFGScale\":1.01", "negativePrompt,CFGScale"},
    {"negative-without-guidance", "runware:97@3", ",\"negativePrompt\":\"fog\"",
     ",\"negativePrompt\":\"\"", "negativePrompt,CFGScale"},
    {"transparency-format", "generic", ",\"advancedFeatures\":{\"layerDiffuse\":true}",
     ",\"advancedFeatures\":{\"layerDiffuse\":true},\"outputFormat\":\"webp\"",
     "advancedFeatures.layerDiffuse,outputFormat"},
    {"mask-needs-seed", "generic", ",\"maskImage\":" IMG, ",\"maskImage\":" IMG SEED, "seedImage"},
    {"outpaint-needs-seed", "generic", ",\"outpaint\":{\"top\":64}",
     ",\"outpaint\":{\"top\":64}" SEED, "seedImage"},
    {"margin-needs-mask", "generic", ",\"maskMargin\":32",
     ",\"maskMargin\":32,\"maskImage\":" IMG SEED, "maskImage"},
    {"strength-needs-seed", "generic", ",\"strength\":0.5", ",\"strength\":0.5" SEED,
     "strength,seedImage"},
    {"outpaint-width", "generic", SEED ",\"outpaint\":{\"left\":512,\"right\":512}",
     SEED ",\"outpaint\":{\"left\":512,\"right\":448}", "width,outpaint.left,outpaint.right"},
    {"outpaint-height", "generic", SEED ",\"outpaint\":{\"top\":1024}",
     SEED ",\"outpaint\":{\"top\":960}", "height,outpaint.top,outpaint.bottom"},
    {"refiner-forms", "generic",
     ",\"refiner\":{\"model\":\"a:1@1\",\"startStep\":3,\"startStepPercentage\":9}",
     ",\"refiner\":{\"model\":\"a:1@1\",\"startStep\":3}",
     "refiner.startStep,refiner.startStepPercentage"},
    {"refiner-steps", "generic", ",\"refiner\":{\"model\":\"a:1@1\",\"startStep\":21}",
     ",\"refiner\":{\"model\":\"a:1@1\",\"startStep\":20}", "refiner.startStep,steps"},
    {"control-start-forms", "generic", NET("\"startStep\":3,\"startStepPercentage\":9"),
     NET("\"startStep\":3"), "controlNet[0].startStep,controlNet[0].startStepPercentage"},
    {"control-end-forms", "generic", NET("\"endStep\":3,\"endStepPercentage\":9"),
     NET("\"endStep\":3"), "controlNet[0].endStep,controlNet[0].endStepPercentage"},
    {"control-step-order", "generic", NET("\"startStep\":3,\"endStep\":3"),
     NET("\"startStep\":3,\"endStep\":4"), "controlNet[0].startStep,controlNet[0].endStep"},
    {"control-percent-order", "generic", NET("\"startStepPercentage\":3,\"endStepPercentage\":3"),
     NET("\"startStepPercentage\":3,\"endStepPercentage\":4"),
     "controlNet[0].startStepPercentage,controlNet[0].endStepPercentage"},
    {"control-start-steps", "generic", NET("\"startStep\":21"), NET("\"startStep\":20"),
     "controlNet[0].startStep,steps"},
    {"control-end-steps", "generic", NET("\"endStep\":21"), NET("\"endStep\":20"),
     "controlNet[0].endStep,steps"},
    {"control-mixed-start", "generic", NET("\"startStep\":10,\"endStepPercentage\":50"),
     NET("\"startStep\":9,\"endStepPercentage\":50"),
     "controlNet[0].startStep,controlNet[0].endStepPercentage,steps"},
    {"control-mixed-end", "generic", NET("\"startStepPercentage\":50,\"endStep\":10"),
     NET("\"startStepPercentage\":50,\"endStep\":11"),
     "controlNet[0].startStepPercentage,controlNet[0].endStep,steps"},
    {"face-start-forms", "generic",
     ",\"puLID\":{\"inputImages\":[" IMG "],\"CFGStartStep\":1,\"CFGStartStepPercentage\":1}",
     ",\"puLID\":{\"inputImages\":[" IMG "],\"CFGStartStep\":1}",
     "puLID.CFGStartStep,puLID.CFGStartStepPercentage"},
    {"ace-needs-reference", "runware:102@1", ",\"acePlusPlus\":{\"type\":\"portrait\"}",
     ",\"acePlusPlus\":{\"type\":\"portrait\"}" REF(IMG), "referenceImages"},
    {"ace-one-reference", "runware:102@1", ",\"acePlusPlus\":{}" REF(IMG "," IMG),
     ",\"acePlusPlus\":{}" REF(IMG), "acePlusPlus,referenceImages"},
    {"ace-model", "generic", ",\"acePlusPlus\":{}" REF(IMG), REF(IMG), "acePlusPlus,model"},
    {"sequence-pictures", "generic",
     ",\"providerSettings\":{\"bytedance\":{\"maxSequentialImages\":14}}" REF(IMG "," IMG),
     ",\"providerSettings\":{\"bytedance\":{\"maxSequentialImages\":13}}" REF(IMG "," IMG),
     "referenceImages,providerSettings.bytedance.maxSequentialImages"},
    {"style-code", "generic", IDEO("\"styleCode\":\"12abCDef\",\"styleType\":\"AUTO\""),
     IDEO("\"styleCode\":\"12abCDef\""),
     "providerSettings.ideogram.styleCode,providerSettings.ideogram.styleType"},
    {"style-code", "generic", IDEO("\"styleCode\":\"12abCDef\"") REF(IMG),
     IDEO("\"styleType\":\"AUTO\"") REF(IMG),
     "providerSettings.ideogram.styleCode,referenceImages"},
    {"palette-forms", "generic",
     IDEO("\"colorPalette\":{\"name\":\"ember\",\"members\":[{\"colorHex\":\"#fff\"}]}"),
     IDEO("\"colorPalette\":{\"name\":\"ember\"}"),
     "providerSettings.ideogram.colorPalette.name,providerSettings.ideogram.colorPalette.members"},
    {"palette-order", "generic",
     IDEO("\"colorPalette\":{\"members\":[{\"colorHex\":\"#fff\",\"colorWeight\":0.2},{\"colorHex\":\"#000\"," "\"colorWeight\":0.3}]}"),
     IDEO("\"colorPalette\":{\"members\":[{\"colorHex\":\"#fff\",\"colorWeight\":0.3},{\"colorHex\":\"#000\"}," "{\"colorHex\":\"#123456\",\"colorWeight\":0.3}]}"),
     "providerSettings.ideogram.colorPalette.members"},
};

static const rv__rule *rule_named(const char *name)
{
    for (const rv__rule *r = rv__rules; r->name; r++) {
        if (strcmp(r->name, name) == 0)
            return r;
    }
    return NULL;
}

/* The size of generic tasks comes from the row where it matters. */
static rv_batch *parse_row(const char *model, const char *more)
{
    bool size = strcmp(model, "runware:97@1") && strcmp(model, "runware:97@3") && !strstr(more, "\"width\"") &&
                !strstr(more, "\"height\"") && !strstr(more, "\"providerSettings\":{}");
    char *all = rv__format("%s%s", size ? ",\"width\":1024,\"height\":1024" : "", more);
    rv_batch *b = parse_task(model, all);
    rv__free(all);
    return b;
}

static void test_rows(void **state)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const row *r = &rows[i];
        const rv__rule *rule = rule_named(r->rule);
        assert_non_null(rule);
        rv_batch *b = parse_row(r->model, r->breaks);
        size_t others = strcmp(r->model, "runware:102@1") == 0; /* a model nobody serves */
        const rv_issue *issue = find_issue(b, rule->code, r->parameter);
        if (!issue || count_issues(b) != 1 + others) {
            print_message("row %zu, %s breaks:\n", i, r->rule);
            print_issues(b);
        }
        assert_non_null(issue);
        assert_int_equal(count_issues(b), 1 + others);
        assert_int_equal(issue->warning, rule->warning);
        assert_string_equal(issue->message, rule->sentence);
        assert_string_equal(issue->rule, rule->kind);
        rv_batch_unref(b);
        b = parse_row(r->model, r->keeps);
        if (count_issues(b) != others) {
            print_message("row %zu, %s keeps:\n", i, r->rule);
            print_issues(b);
        }
        assert_int_equal(count_issues(b), others);
        rv_batch_unref(b);
    }
}

static void test_every_rule_has_a_row(void **state)
{
    for (const rv__rule *r = rv__rules; r->name; r++) {
        bool found = false;
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            found |= strcmp(rows[i].rule, r->name) == 0;
        if (!found)
            print_message("no row breaks %s\n", r->name);
        assert_true(found);
        assert_true(r->fields[0] && r->sentence && r->code && r->kind);
    }
}

static void test_pointers(void **state)
{
    rv_batch *b = parse_task("generic", ",\"width\":64,\"height\":1024,\"steps\":5,\"controlNet\":["
                             "{\"model\":\"a:1@1\",\"guideImage\":" IMG "},"
                             "{\"model\":\"a:1@1\",\"guideImage\":" IMG ",\"endStep\":6}]");
    const rv_issue *i = find_issue(b, "incompatibleParameters", "controlNet[1].endStep,steps");
    assert_non_null(i);
    assert_string_equal(i->paths[0], "/0/controlNet/1/endStep");
    assert_string_equal(i->paths[1], "/0/steps");
    assert_null(i->paths[2]);
    rv__buf out;
    rv__buf_init(&out, 10000);
    rv__issue_error_json(&out, b, i);
    assert_non_null(strstr(out.data, "\"parameter\":[\"controlNet[1].endStep\",\"steps\"]"));
    rv__buf_free(&out);
    rv_batch_unref(b);
}

/* Places are named as the request spells them. */
static void test_other_spellings(void **state)
{
    rv_batch *b = parse_task(FULL, ACC("\"cacheStartStep\":9,\"cacheStopStep\":9"));
    assert_only_issue(b, "incompatibleParameters",
                      "acceleratorOptions.cacheStartStep,acceleratorOptions.cacheStopStep", "cross",
                      "/0/acceleratorOptions/cacheStartStep");
    assert_string_equal(find_issue(b, "incompatibleParameters", NULL)->paths[1],
                        "/0/acceleratorOptions/cacheStopStep");
    rv_batch_unref(b);
}

/* A bad value has its own issue; rules that would use it keep quiet. */
static void test_bad_values_are_absent(void **state)
{
    rv_batch *b = parse_task(FULL, ACC("\"cacheStartStep\":-1,\"cacheEndStep\":0"));
    assert_int_equal(count_issues(b), 2);
    assert_null(find_issue(b, "incompatibleParameters", NULL));
    rv_batch_unref(b);
    b = parse_task(FULL, ",\"width\":\"wide\",\"height\":512");
    assert_only_issue(b, "invalidCustomWidth", "width", "type", "/0/width");
    rv_batch_unref(b);
}

static void test_stochastic_names(void **state)
{
    size_t n = 0;
    for (const rv__word *w = rv__scheduler_words; w->word; w++)
        n += rv__scheduler_is_stochastic(w->word);
    assert_int_equal(n, 13);
    assert_true(rv__scheduler_is_stochastic("Euler a"));
    assert_false(rv__scheduler_is_stochastic("Euler"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),     cmocka_unit_test(test_every_rule_has_a_row),
        cmocka_unit_test(test_pointers), cmocka_unit_test(test_bad_values_are_absent),
        cmocka_unit_test(test_stochastic_names), cmocka_unit_test(test_other_spellings),
    };
    return cmocka_run_group_tests(tests, load_models, free_models);
}
