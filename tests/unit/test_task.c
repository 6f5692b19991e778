/* task.c and normal.c: bodies, task types, what a normalised task looks like, seeds, prices, the
 * examples of the documentation, and every failing allocation. */
#include "request_helper.h"

#include "request/describe.h"

#include <cjson/cJSON.h>

#define FAST "runware:97@3"
#define FULL "runware:97@1"
#define HEAD "\"taskType\":\"imageInference\",\"taskUUID\":\"" TASK_UUID "\","

/* ---- the examples ------------------------------------------------------------------------ */

static bool expected(const rv__value *list, const rv_issue *i)
{
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v)) {
        if (strcmp(rv__json_string(rv__json_at(v, 0)), i->code) == 0 &&
            strcmp(rv__json_string(rv__json_at(v, 1)), i->parameter) == 0)
            return true;
    }
    return false;
}

static void check_example(const rv__value *row)
{
    char *path = rv__format("tests/requests/%s.json", rv__json_key(row)), *text = read_source(path);
    rv_batch *b = parse(text);
    const rv_issue *list;
    size_t errors = rv_batch_issues(b, &list);
    bool right = count_issues(b) == rv__json_size(row) && errors == rv__json_size(row);
    for (size_t i = 0; right && i < errors; i++)
        right = expected(row, &list[i]);
    if (!right) {
        print_message("%s\n", path);
        print_issues(b);
    }
    assert_true(right);
    rv_task *t = rv_batch_task(b, 0);
    assert_int_equal(t != NULL, errors == 0);
    if (t)
        assert_string_equal(rv__task_uuid(t),
                            rv__json_get_string(rv__task_value(t), "taskUUID", ""));
    rv_batch_unref(b);
    rv__free(text);
    rv__free(path);
}

static void test_examples(void **state)
{
    char *text = read_source("tests/requests/expected.json");
    rv__value *all = rv__json_parse(text, strlen(text), NULL);
    assert_int_equal(rv__json_size(all), 42);
    for (const rv__value *row = rv__json_first(all); row; row = rv__json_next(row))
        check_example(row);
    rv__json_free(all);
    rv__free(text);
}

/* ---- bodies ------------------------------------------------------------------------------ */

static void test_bodies(void **state)
{
    static const struct {
        const char *text, *code, *rule, *path;
    } rows[] = {
        {"", "invalidRequestBody", "json", ""},
        {"[{]", "invalidRequestBody", "json", ""},
        {"\"text\"", "invalidRequestBody", "type", ""},
        {"7", "invalidRequestBody", "type", ""},
        {"null", "invalidRequestBody", "type", ""},
        {"[]", "arrayTooSmall", "length", ""},
        {"[7]", "invalidRequestBody", "type", "/0"},
        {"[[]]", "invalidRequestBody", "type", "/0"},
        {"[null]", "invalidRequestBody", "type", "/0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv_batch *b = parse(rows[i].text);
        assert_only_issue(b, rows[i].code, NULL, rows[i].rule, rows[i].path);
        assert_null(rv_batch_task(b, 0));
        rv_batch_unref(b);
    }
    rv_batch *b = parse("[{\n  \"taskType\": tru\n}]");
    const rv_issue *i = find_issue(b, "invalidRequestBody", NULL);
    assert_non_null(strstr(i->message, "line 2, byte 15"));
    rv_batch_unref(b);
}

static void test_single_object(void **state)
{
    rv_batch *b = parse("{" HEAD "\"model\":\"" FAST "\",\"positivePrompt\":\"x\"}");
    assert_clean(b);
    assert_int_equal(rv_batch_size(b), 1);
    assert_non_null(rv_batch_task(b, 0));
    assert_null(rv_batch_task(b, 1));
    rv_batch_unref(b);
    b = parse("{" HEAD "\"model\":\"" FAST "\",\"positivePrompt\":\"x\",\"steps\":0}");
    assert_only_issue(b, "invalidSteps", "steps", "range", "/steps");
    rv_batch_unref(b);
}

static void test_task_types(void **state)
{
    rv_batch *b =
        parse("[{\"taskType\":\"videoInference\",\"taskUUID\":\"" TASK_UUID "\",\"image\":\"x\"}]");
    assert_only_issue(b, "unsupportedTaskType", "taskType", "unsupported", "/0/taskType");
    assert_string_equal(find_issue(b, "unsupportedTaskType", NULL)->task_uuid, TASK_UUID);
    rv_batch_unref(b);
    b = parse("[{\"taskType\":\"imageinference\"}]");
    const rv_issue *i = find_issue(b, "unsupportedTaskType", "taskType");
    assert_string_equal(i->nearest, "\"imageInference\"");
    assert_non_null(strstr(i->message, "did you mean imageInference?"));
    rv_batch_unref(b);
    b = parse("[{}]"); /* everything that an image needs is missing */
    assert_int_equal(rv_batch_issues(b, NULL), 6);
    assert_non_null(find_issue(b, "missingTaskType", "taskType"));
    assert_non_null(find_issue(b, "missingTaskUUID", "taskUUID"));
    assert_non_null(find_issue(b, "missingModel", "model"));
    assert_non_null(find_issue(b, "missingPositivePrompt", "positivePrompt"));
    rv_batch_unref(b);
    b = parse("[{\"taskType\":7,\"taskUUID\":\"" TASK_UUID "\",\"model\":\"" FAST
              "\",\"positivePrompt\":\"x\"}]");
    assert_only_issue(b, "unsupportedTaskType", "taskType", "type", "/0/taskType");
    rv_batch_unref(b);
}

static void test_authentication_and_ping(void **state)
{
    rv_batch *b = parse("[{\"apiKey\":\"k\",\"taskType\":\"authentication\"},{\"taskType\":"
                        "\"ping\",\"ping\":true}]");
    assert_clean(b);
    rv_task *t = rv_batch_task(b, 0);
    assert_string_equal(rv__task_type(t), "authentication");
    assert_null(rv__task_uuid(t));
    assert_null(rv__task_model(t));
    assert_int_equal(rv__task_results(t), 0);
    assert_string_equal(rv_task_json(t, NULL),
                        "{\"taskType\":\"authentication\",\"apiKey\":\"k\"}");
    assert_string_equal(rv_task_json(rv_batch_task(b, 1), NULL),
                        "{\"taskType\":\"ping\",\"ping\":true}");
    rv_batch_unref(b);
    b = parse("[{\"taskType\":\"authentication\"}]");
    assert_only_issue(b, "missingApiKey", "apiKey", "required", "/0/apiKey");
    assert_int_equal(rv__issue_status(find_issue(b, "missingApiKey", NULL)), RV_AUTH);
    rv_batch_unref(b);
    b = parse("[{\"taskType\":\"authentication\",\"apiKey\":\"\"}]");
    assert_only_issue(b, "invalidApiKey", "apiKey", "length", "/0/apiKey");
    rv_batch_unref(b);
}

static void test_task_uuids(void **state)
{
    rv_batch *b =
        parse("[{" HEAD "\"model\":\"" FAST "\",\"positivePrompt\":\"x\"},{" HEAD
              "\"model\":\"" FAST "\",\"positivePrompt\":\"y\"},{\"taskType\":\"ping\"}]");
    assert_only_issue(b, "duplicateTaskUUID", "taskUUID", "duplicate", "/1/taskUUID");
    assert_non_null(rv_batch_task(b, 0));
    assert_null(rv_batch_task(b, 1));
    assert_non_null(rv_batch_task(b, 2));
    rv_batch_unref(b);
    static const char upper[] =
        "[{\"taskType\":\"ping\",\"taskUUID\":\"a770f077-f413-47de-9dac-be0b26a35da6\"},"
        "{\"taskType\":\"ping\",\"taskUUID\":\"A770F077-F413-47DE-9DAC-BE0B26A35DA6\"}]";
    b = parse(upper);
    assert_only_issue(b, "duplicateTaskUUID", "taskUUID", "duplicate", "/1/taskUUID");
    rv_batch_unref(b);
    static const char other[] =
        "[{\"taskType\":\"imageInference\",\"taskUUID\":\"a1b2c3d4-e5f6-7890-abcd-ef1234567890\","
        "\"model\":\"" FAST "\",\"positivePrompt\":\"x\"}]";
    b = parse(other);
    assert_clean(b);
    rv_batch_unref(b);
    b = parse_with(other, (rv__check_settings){.strict_uuid = true});
    assert_only_issue(b, "invalidTaskUUID", "taskUUID", "format", "/0/taskUUID");
    rv_batch_unref(b);
}

/* ---- models ------------------------------------------------------------------------------ */

static void test_models(void **state)
{
    static const struct {
        const char *sent, *id;
    } good[] = {
        {"runware:97@1", FULL},
        {"hidream-i1-full", FULL},
        {"fal-ai/hidream-i1-full", FULL},
        {"runware:97@2", "runware:97@2"},
        {"hidream-i1-dev", "runware:97@2"},
        {"runware:97@3", FAST},
        {"hidream-i1-fast", FAST},
        {"fal/hidream-i1-fast", FAST},
        {"replicate/hidream-i1-fast", FAST},
        {"fal-ai/hidream-i1-fast", FAST},
        {"prunaai/hidream-l1-fast", FAST},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        rv_batch *b = parse_task(good[i].sent, "");
        assert_clean(b);
        rv_task *t = rv_batch_task(b, 0);
        assert_string_equal(rv__json_get_string(rv__task_value(t), "model", ""), good[i].id);
        assert_string_equal(rv__task_model(t)->id, good[i].id);
        assert_string_equal(rv__task_model_sent(t), good[i].sent);
        rv_batch_unref(b);
    }
    rv_batch *b = parse_task(
        "runware:100@1", ",\"width\":64,\"height\":1024,\"stepz\":3,\"steps\":101,\"fbCache\":1");
    assert_non_null(find_issue(b, "modelNotFound", "model"));
    assert_int_equal(rv__issue_status(find_issue(b, "modelNotFound", NULL)), RV_NOT_FOUND);
    assert_non_null(find_issue(b, "invalidCustomWidth", "width"));
    assert_non_null(find_issue(b, "unknownParameter", "stepz"));
    assert_non_null(find_issue(b, "invalidSteps", "steps"));
    assert_int_equal(rv_batch_issues(b, NULL), 5);
    rv_batch_unref(b);
    b = parse_task("runware 100",
                   ",\"width\":1024,\"height\":1024,\"acceleratorOptions\":{\"fbCache\":true}");
    assert_only_issue(b, "invalidModel", "model", "model", "/0/model");
    rv_batch_unref(b);
    b = parse_task("hidream-i1-fats", ",\"width\":1024,\"height\":1024");
    assert_string_equal(find_issue(b, "invalidModel", "model")->nearest, "\"hidream-i1-fast\"");
    rv_batch_unref(b);
    b = parse("[{" HEAD "\"model\":97,\"positivePrompt\":\"xy\",\"width\":64,\"height\":1024}]");
    assert_int_equal(rv_batch_issues(b, NULL), 2);
    assert_non_null(find_issue(b, "invalidModel", "model"));
    rv_batch_unref(b);
}

static void test_unsupported(void **state)
{
    rv_batch *b = parse_task(
        FAST, ",\"seedImage\":\"x\",\"acceleratorOptions\":{\"deepCache\":true},\"puLID\":null");
    assert_int_equal(rv_batch_issues(b, NULL), 2);
    assert_non_null(find_issue(b, "unsupportedParameter", "seedImage"));
    assert_non_null(find_issue(b, "unsupportedParameter", "acceleratorOptions.deepCache"));
    rv_batch_unref(b);
    b = parse_task("generic",
                   ",\"width\":1024,\"height\":1024,\"acceleratorOptions\":{\"dbCache\":true}");
    assert_only_issue(b, "unsupportedParameter", "acceleratorOptions.dbCache", "unsupported",
                      "/0/acceleratorOptions/dbCache");
    rv_batch_unref(b);
}

static void test_unknown(void **state)
{
    char *text =
        task_text(FAST, ",\"stepz\":3,\"a/b~c\":1,\"lora\":[{\"model\":\"a:1@1\",\"wait\":1}]");
    rv_batch *b = parse(text);
    assert_int_equal(rv_batch_issues(b, NULL), 3);
    assert_string_equal(find_issue(b, "unknownParameter", "stepz")->message,
                        "stepz is not a parameter (did you mean steps?)");
    assert_string_equal(find_issue(b, "unknownParameter", "stepz")->nearest, "\"steps\"");
    assert_null(find_issue(b, "unknownParameter", "a/b~c")->nearest);
    assert_string_equal(find_issue(b, "unknownParameter", "a/b~c")->paths[0], "/0/a~1b~0c");
    assert_string_equal(find_issue(b, "unknownParameter", "lora[0].wait")->paths[0],
                        "/0/lora/0/wait");
    rv_batch_unref(b);
    b = parse_with(text, (rv__check_settings){.lenient = true});
    assert_int_equal(rv_batch_issues(b, NULL), 0);
    assert_int_equal(count_issues(b), 3);
    assert_non_null(rv_batch_task(b, 0));
    assert_null(strstr(rv_task_json(rv_batch_task(b, 0), NULL), "stepz"));
    rv_batch_unref(b);
    rv__free(text);
}

static void test_duplicates(void **state)
{
    rv_batch *b = parse_task(FAST, ",\"steps\":3,\"steps\":3");
    assert_only_issue(b, "invalidSteps", "steps", "duplicate", "/0/steps");
    rv_batch_unref(b);
    b = parse_task(FAST, ",\"acceleratorOptions\":{\"fbCache\":true,\"fbcache\":true}");
    assert_only_issue(b, "invalidFbCache", "acceleratorOptions.fbcache", "duplicate",
                      "/0/acceleratorOptions/fbcache");
    rv_batch_unref(b);
}

static void test_max_steps(void **state)
{
    char *text = task_text(FAST, ",\"steps\":51");
    rv_batch *b = parse_with(text, (rv__check_settings){.max_steps = 50});
    assert_only_issue(b, "invalidSteps", "steps", "range", "/0/steps");
    char *json = rv_batch_issues_json(b);
    assert_non_null(strstr(json, "\"nearest\":50,\"type\":\"integer\",\"min\":1,\"max\":50"));
    rv_free(json);
    rv_batch_unref(b);
    rv__free(text);
}

/* ---- normalised tasks -------------------------------------------------------------------- */

static void assert_normal(const char *model, const char *more, const char *json)
{
    rv_batch *b = parse_task(model, more);
    if (rv_batch_issues(b, NULL))
        print_issues(b);
    assert_int_equal(rv_batch_issues(b, NULL), 0);
    size_t len;
    const char *text = rv_task_json(rv_batch_task(b, 0), &len);
    assert_string_equal(text, json);
    assert_int_equal(len, strlen(json));
    rv_batch_unref(b);
}

#define NORMAL_HEAD "{\"taskType\":\"imageInference\",\"taskUUID\":\"" TASK_UUID "\","
#define NORMAL_FAST NORMAL_HEAD "\"model\":\"" FAST "\",\"positivePrompt\":\"a quiet harbour\""
#define OUTPUT      ",\"outputType\":\"URL\",\"outputFormat\":\"JPG\",\"outputQuality\":95"
#define DELIVERY    ",\"deliveryMethod\":\"sync\",\"includeCost\":false}"

static void test_normal(void **state)
{
    assert_normal(
        FAST, ",\"seed\":0",
        NORMAL_FAST
        ",\"width\":1024,\"height\":1024,\"seed\":0,\"steps\":16,\"scheduler\":\"Default\","
        "\"CFGScale\":0,\"numberResults\":1" OUTPUT DELIVERY);
    assert_normal(
        FAST,
        ",\"seed\":1e3,\"height\":512.0,\"width\":128,\"negativePrompt\":\"\",\"ttl\":60,"
        "\"CFGScale\":1.50,"
        "\"scheduler\":\"dpm++ 2m karras\",\"outputFormat\":\"Jpeg\",\"outputType\":\"DATAURI\","
        "\"steps\":null,\"webhookURL\":\"http://x/?a=1\"",
        NORMAL_FAST ",\"width\":128,\"height\":512,\"seed\":1000,\"steps\":16,"
                    "\"scheduler\":\"DPM++ 2M Karras\",\"CFGScale\":1.5,\"numberResults\":1,"
                    "\"outputType\":\"dataURI\",\"outputFormat\":\"JPG\",\"outputQuality\":95,"
                    "\"deliveryMethod\":\"sync\",\"webhookURL\":\"http://x/?a=1\",\"ttl\":60,"
                    "\"includeCost\":false}");
    assert_normal(
        FAST,
        ",\"seed\":9223372036854775999,\"lora\":[{\"model\":\"a:1@2\"},{\"weight\":-0.0,\"model\":"
        "\"b:1@2\","
        "\"transformer\":\"HIGH\"}],\"acceleratorOptions\":{\"cacheStopStep\":9,\"cacheDistance\":"
        "0.1,"
        "\"teaCache\":true}",
        NORMAL_FAST
        ",\"width\":1024,\"height\":1024,\"seed\":9223372036854775999,\"steps\":16,"
        "\"scheduler\":\"Default\",\"CFGScale\":0,\"numberResults\":1,"
        "\"lora\":[{\"model\":\"a:1@2\",\"weight\":1,\"transformer\":\"both\"},"
        "{\"model\":\"b:1@2\",\"weight\":0,\"transformer\":\"high\"}],"
        "\"acceleratorOptions\":{\"teaCache\":true,\"teaCacheDistance\":0.1,\"fbCache\":false,"
        "\"fbCacheThreshold\":0.25,\"dbCache\":false,\"dbCacheThreshold\":0.25,"
        "\"dbCacheSkipInterval\":5,\"cacheEndStep\":9,"
        "\"cacheMaxConsecutiveSteps\":3}" OUTPUT DELIVERY);
}

/* The normalised text is itself a valid request with the same meaning. */
static void test_normal_is_stable(void **state)
{
    char *text =
        task_text(FULL, ",\"lora\":[{\"model\":\"a:1@2\"}],\"safety\":{\"checkContent\":true},"
                        "\"acceleratorOptions\":{\"fbcache\":true,\"cacheEndStepPercentage\":80}");
    rv_batch *a = parse(text);
    assert_clean(a);
    rv_batch *b = parse(rv_task_json(rv_batch_task(a, 0), NULL));
    assert_clean(b);
    assert_string_equal(rv_task_json(rv_batch_task(a, 0), NULL),
                        rv_task_json(rv_batch_task(b, 0), NULL));
    rv_batch_unref(b);
    rv_batch_unref(a);
    rv__free(text);
}

static void test_safety(void **state)
{
    static const struct {
        const char *sent, *safety;
    } rows[] = {
        {"", NULL},
        {",\"checkNSFW\":false", NULL},
        {",\"checkNSFW\":true", "{\"checkContent\":true,\"mode\":\"fast\"}"},
        {",\"safety\":{}", "{\"checkContent\":false,\"mode\":\"none\"}"},
        {",\"safety\":{\"checkContent\":true}", "{\"checkContent\":true,\"mode\":\"fast\"}"},
        {",\"safety\":{\"checkContent\":true,\"mode\":\"none\"}",
         "{\"checkContent\":false,\"mode\":\"none\"}"},
        {",\"safety\":{\"checkContent\":false,\"mode\":\"FAST\"}",
         "{\"checkContent\":true,\"mode\":\"fast\"}"},
        {",\"safety\":{\"mode\":\"none\"},\"checkNSFW\":true",
         "{\"checkContent\":false,\"mode\":\"none\"}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv_batch *b = parse_task(FAST, rows[i].sent);
        assert_clean(b);
        const char *json = rv_task_json(rv_batch_task(b, 0), NULL),
                   *at = strstr(json, "\"safety\":");
        assert_int_equal(at != NULL, rows[i].safety != NULL);
        assert_true(!at || strncmp(at + 9, rows[i].safety, strlen(rows[i].safety)) == 0);
        assert_null(strstr(json, "NSFW"));
        rv_batch_unref(b);
    }
    rv_batch *b = parse_task(FAST, ",\"safety\":{\"mode\":\"full\"}");
    assert_only_issue(b, "invalidMode", "safety.mode", "enum", "/0/safety/mode");
    rv_batch_unref(b);
}

static void test_stochastic_switches_caches_off(void **state)
{
    rv_batch *b =
        parse_task(FULL, ",\"scheduler\":\"DPM++ SDE\",\"acceleratorOptions\":{\"dbCache\":true}");
    assert_int_equal(rv_batch_issues(b, NULL), 0);
    assert_int_equal(count_issues(b), 1);
    const rv__value *a = rv__json_get(rv__task_value(rv_batch_task(b, 0)), "acceleratorOptions");
    assert_false(rv__json_get_bool(a, "dbCache", true));
    rv_batch_unref(b);
}

/* ---- seeds, prompts, prices -------------------------------------------------------------- */

static void test_seeds(void **state)
{
    rv_batch *b = parse_task(FAST, ",\"seed\":9223372036854775998,\"numberResults\":5");
    rv_task *t = rv_batch_task(b, 0);
    assert_int_equal(rv__task_results(t), 5);
    assert_true(rv__task_seed(t, 0) == UINT64_C(9223372036854775998));
    assert_true(rv__task_seed(t, 2) == UINT64_C(9223372036854776000));
    assert_true(rv__task_seed(t, 3) == 0);
    assert_true(rv__task_seed(t, 4) == 1);
    rv_batch_unref(b);
    b = parse_task(GENERIC_MODEL, ",\"seed\":9223372036854776000");
    assert_true(rv__task_seed(rv_batch_task(b, 0), 1) == 1);
    rv_batch_unref(b);
    uint64_t seen[8];
    for (int i = 0; i < 8; i++) {
        b = parse_task(FAST, "");
        seen[i] = rv__task_seed(rv_batch_task(b, 0), 0);
        uint64_t written = 0;
        assert_true(
            rv__json_uint(rv__json_get(rv__task_value(rv_batch_task(b, 0)), "seed"), &written));
        assert_true(written == seen[i] && seen[i] >= 1 && seen[i] <= UINT32_MAX);
        assert_true(!i || seen[i] != seen[i - 1]);
        rv_batch_unref(b);
    }
}

static void test_prompt(void **state)
{
    rv_batch *b = parse("[{" HEAD "\"model\":\"" FAST "\",\"positivePrompt\":\"__BLANK__\"}]");
    assert_clean(b);
    assert_string_equal(rv__task_prompt(rv_batch_task(b, 0)), "");
    rv_batch_unref(b);
    b = parse_task(FAST, "");
    assert_string_equal(rv__task_prompt(rv_batch_task(b, 0)), "a quiet harbour");
    rv_batch_unref(b);
}

static void test_cache_steps(void **state)
{
    static const struct {
        const char *sent;
        int64_t start, end;
    } rows[] = {
        {"{}", 0, 30},
        {"{\"cacheStartStep\":4,\"cacheEndStep\":20}", 4, 20},
        {"{\"cacheStartStepPercentage\":10,\"cacheEndStepPercentage\":85}", 3, 25},
        {"{\"cacheStartStep\":2,\"cacheEndStepPercentage\":50}", 2, 15},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *more = rv__format(",\"acceleratorOptions\":%s", rows[i].sent);
        rv_batch *b = parse_task(FULL, more);
        int64_t start, end;
        rv__task_cache_steps(rv_batch_task(b, 0), &start, &end);
        assert_int_equal(start, rows[i].start);
        assert_int_equal(end, rows[i].end);
        rv_batch_unref(b);
        rv__free(more);
    }
}

static void test_cost(void **state)
{
    static const struct {
        const char *model, *more;
        double cost;
    } rows[] = {
        /* the prices listed on the model pages */
        {FAST, "", 0.0038},       {FAST, ",\"steps\":22", 0.0051},
        {FULL, "", 0.009},        {FULL, ",\"steps\":1", 0.0003},
        {"runware:97@2", "", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv_batch *b = parse_task(rows[i].model, rows[i].more);
        assert_true(rv__task_cost(rv_batch_task(b, 0)) == rows[i].cost);
        rv_batch_unref(b);
    }
}

/* ---- many, large, out of memory ---------------------------------------------------------- */

static void test_every_problem_at_once(void **state)
{
    rv_batch *b = parse(
        "[{\"taskType\":\"imageInference\",\"taskUUID\":\"x\",\"model\":\"" FAST "\",\"width\":100,"
        "\"steps\":0,\"seed\":-1,\"lora\":[{\"weight\":5}],\"outputFormat\":\"GIF\"},"
        "{\"taskType\":\"ping\",\"ping\":1},"
        "{" HEAD "\"model\":\"" FULL "\",\"positivePrompt\":\"x\"}]");
    static const char *const codes[][2] = {
        {"invalidTaskUUID", "taskUUID"},
        {"missingPositivePrompt", "positivePrompt"},
        {"invalidCustomWidth", "width"},
        {"invalidSeed", "seed"},
        {"invalidSteps", "steps"},
        {"missingModel", "lora[0].model"},
        {"invalidWeight", "lora[0].weight"},
        {"invalidOutputFormat", "outputFormat"},
        {"incompatibleParameters", "width,height"},
        {"invalidPing", "ping"},
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        assert_non_null(find_issue(b, codes[i][0], codes[i][1]));
    assert_int_equal(rv_batch_issues(b, NULL), sizeof codes / sizeof *codes);
    assert_int_equal(find_issue(b, "invalidPing", NULL)->task, 1);
    assert_non_null(rv_batch_task(b, 2));
    rv_batch_unref(b);
}

static void test_many_problems(void **state)
{
    rv__buf text;
    rv__buf_init(&text, 1 << 24);
    rv__buf_adds(&text, "[{");
    for (int i = 0; i < 20000; i++)
        rv__buf_addf(&text, "\"x%d\":1,", i);
    rv__buf_adds(&text, "\"taskType\":\"ping\"}]");
    rv_batch *b = parse(text.data);
    assert_int_equal(rv_batch_issues(b, NULL), 20000);
    assert_int_equal(count_issues(b), 1001);
    rv_batch_unref(b);
    rv__buf_free(&text);
    rv__buf_init(&text, 1 << 24);
    rv__buf_adds(&text, "[0");
    for (int i = 0; i < 200000; i++)
        rv__buf_adds(&text, ",0");
    rv__buf_adds(&text, "]");
    b = parse(text.data);
    assert_only_issue(b, "invalidRequestBody", NULL, "json", "");
    rv_batch_unref(b);
    rv__buf_free(&text);
}

static void test_long_names(void **state)
{
    char name[5000];
    memset(name, 'x', sizeof name);
    memcpy(name + 79, "\xe2\x82\xac", 3); /* a character across the place where names are cut */
    name[sizeof name - 1] = '\0';
    char *more = rv__format(",\"%s\":1", name);
    rv_batch *b = parse_task(FAST, more);
    const rv_issue *i = find_issue(b, "unknownParameter", NULL);
    assert_true(strlen(i->parameter) < 100);
    assert_true(strlen(i->message) < 200);
    rv_batch_unref(b);
    rv__free(more);
}

static void run_torture(const char *text, size_t least)
{
    rv_batch *b = NULL;
    size_t n = 0;
    while (!b && n < 100000) {
        n++;
        rv__alloc_fail_after((long)n);
        rv__check_settings s = {.models = models};
        b = rv__batch_parse(&s, text, strlen(text));
        if (b && n == 1)
            assert_null(b);
        rv__alloc_fail_after(0);
    }
    assert_true(n > least);
    rv_batch *whole = parse(text); /* what survives is complete */
    char *a = rv_batch_issues_json(b), *c = rv_batch_issues_json(whole);
    assert_string_equal(a, c);
    rv_free(a);
    rv_free(c);
    for (size_t i = 0; i < rv_batch_size(whole); i++)
        assert_int_equal(rv_batch_task(b, i) != NULL, rv_batch_task(whole, i) != NULL);
    rv_batch_unref(whole);
    rv_batch_unref(b);
}

static void test_out_of_memory(void **state)
{
    cJSON_Hooks hooks = {rv__alloc, rv__free};
    cJSON_InitHooks(&hooks);
    char *text = task_text(
        FULL, ",\"seed\":5,\"lora\":[{\"model\":\"a:1@2\"}],\"safety\":{\"checkContent\":true},"
              "\"acceleratorOptions\":{\"teaCache\":true,\"cacheEndStepPercentage\":80}");
    run_torture(text, 60);
    rv__free(text);
    run_torture("[{\"taskType\":\"imageInference\",\"taskUUID\":\"x\",\"model\":\"runware:9@9\","
                "\"width\":100,"
                "\"steps\":0,\"seed\":-1,\"lora\":[{\"weight\":5}],\"outputFormat\":\"GIF\","
                "\"stepz\":1},7]",
                60);
    run_torture("[{\"taskType\":\"imageinference\"},{\"taskType\":\"ping\",\"ping\":3}]", 20);
    run_torture("[{", 5);
    cJSON_InitHooks(NULL);
}

static void test_describe_out_of_memory(void **state)
{
    char *text = NULL;
    for (long n = 1; !text && n < 100000; n += n > 40 ? 17 : 1) {
        rv__alloc_fail_after(n);
        text = rv__parameters_page();
        rv__alloc_fail_after(0);
    }
    char *whole = rv__parameters_page();
    assert_string_equal(text, whole);
    rv__free(whole);
    rv__free(text);
}

static void test_batch_outlives_models(void **state)
{
    rv__models *own = rv__models_new();
    char *path = source_path("config/models");
    assert_int_equal(rv__models_add(own, path, NULL), RV_OK);
    rv__free(path);
    char *text = task_text(FULL, "");
    rv__check_settings s = {.models = own};
    rv_batch *b = rv__batch_parse(&s, text, strlen(text));
    rv__models_free(own);
    assert_string_equal(rv__task_model(rv_batch_task(b, 0))->name, "HiDream-I1 Full");
    rv_batch_ref(b);
    rv_batch_unref(b);
    assert_true(rv__task_batch(rv_batch_task(b, 0)) == b);
    rv_batch_unref(b);
    rv_batch_unref(NULL);
    rv__free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_single_object),
        cmocka_unit_test(test_task_types),
        cmocka_unit_test(test_authentication_and_ping),
        cmocka_unit_test(test_task_uuids),
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_unsupported),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_max_steps),
        cmocka_unit_test(test_normal),
        cmocka_unit_test(test_normal_is_stable),
        cmocka_unit_test(test_safety),
        cmocka_unit_test(test_stochastic_switches_caches_off),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_prompt),
        cmocka_unit_test(test_cache_steps),
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_every_problem_at_once),
        cmocka_unit_test(test_many_problems),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_describe_out_of_memory),
        cmocka_unit_test(test_batch_outlives_models),
    };
    return cmocka_run_group_tests(tests, load_models, free_models);
}
