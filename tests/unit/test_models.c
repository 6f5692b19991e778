/* models.c and fields.c: cards right and wrong, overrides, extensions, finding, weights without a
 * card. */
#include "request_helper.h"

#include <sys/stat.h>
#include <unistd.h>

#define CARD(more) "{\"id\":\"local:x@1\",\"name\":\"X\"" more "}"

static rv_status add(rv__models *m, const char *json, rv_error *err)
{
    return rv__models_add_json(m, json, strlen(json), "/cards", err);
}

static void test_wrong_cards(void **state)
{
    static const struct {
        const char *card, *says;
    } rows[] = {
        {"", "ends early"},
        {"[]", "must be an object"},
        {"{\"id\":\"local:x@1\"}", "id and name are required"},
        {"{\"name\":\"X\"}", "id and name are required"},
        {"{\"id\":\"x\",\"name\":\"X\"}", "id must be"},
        {CARD(",\"name\":\"Y\""), "name is there twice"},
        {CARD(",\"color\":1"), "color is not a member"},
        {CARD(",\"aliases\":[1]"), "aliases must be"},
        {CARD(",\"aliases\":\"x\""), "aliases must be"},
        {CARD(",\"family\":\"flux\""), "family must be"},
        {CARD(",\"documentation\":\"x\""), "documentation must be"},
        {CARD(",\"price\":{\"perStep\":-1}"), "price must have"},
        {CARD(",\"price\":{\"perHour\":1}"), "price must have"},
        {CARD(",\"executors\":[\"engine\"]"), "executors must be"},
        {CARD(",\"engine\":[]"), "engine must be"},
        {CARD(",\"parameters\":[]"), "parameters must be"},
        {CARD(",\"extensions\":[\"seedPicture\"]"), "extensions: seedPicture"},
        {CARD(",\"extensions\":[\"lora.color\"]"), "extensions: lora.color"},
        {CARD(",\"parameters\":{\"stepz\":{}}"), "not parameters of this model"},
        {CARD(",\"parameters\":{\"seedImage\":{}}"), "not parameters of this model"},
        {CARD(",\"parameters\":{\"steps\":7}"), "parameters.steps: must be an object"},
        {CARD(",\"parameters\":{\"steps\":{\"highest\":7}}"), "parameters.steps: must have"},
        {CARD(",\"parameters\":{\"steps\":{\"default\":0}}"), "the default is outside"},
        {CARD(",\"parameters\":{\"steps\":{\"default\":\"7\"}}"), "the default is outside"},
        {CARD(",\"parameters\":{\"steps\":{\"max\":10,\"default\":11}}"), "the default is outside"},
        {CARD(",\"parameters\":{\"width\":{\"default\":1000}}"), "the default is outside"},
        {CARD(",\"parameters\":{\"width\":{\"min\":512,\"max\":256}}"), "contradict"},
        {CARD(",\"parameters\":{\"width\":{\"step\":-16}}"), "contradict"},
        {CARD(",\"parameters\":{\"scheduler\":{\"words\":[\"Oiler\"]}}"),
         "words must come from the table"},
        {CARD(",\"parameters\":{\"scheduler\":{\"words\":[\"Euler\"],\"default\":\"Heun\"}}"),
         "outside"},
        {CARD(",\"parameters\":{\"positivePrompt\":{\"maxSize\":-1}}"), "sizes"},
    };
    rv__models *m = rv__models_new();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv_error err = {0};
        rv_status s = add(m, rows[i].card, &err);
        if (s != RV_FORMAT || !strstr(err.message, rows[i].says))
            print_message("%s: %s\n", rows[i].card, err.message);
        assert_int_equal(s, RV_FORMAT);
        assert_non_null(strstr(err.message, rows[i].says));
    }
    assert_int_equal(rv__models_count(m), 0);
    rv__models_free(m);
}

static void test_overrides(void **state)
{
    rv_error err = {0};
    static const char card[] = CARD(
        ",\"aliases\":[\"x\"],\"x-note\":[1],\"extensions\":[\"seedImage\",\"strength\","
        "\"acceleratorOptions.deepCache\"],\"parameters\":{\"steps\":{\"default\":4,\"max\":8},"
        "\"width\":{\"max\":512,\"default\":256,\"step\":32},\"height\":{\"max\":512,\"default\":"
        "256},"
        "\"scheduler\":{\"words\":[\"Euler\",\"Heun\"],\"default\":\"Euler\"},"
        "\"positivePrompt\":{\"maxSize\":20},\"lora.weight\":{\"max\":1},\"strength\":{\"default\":"
        "0.6},"
        "\"outputFormat\":{\"default\":\"PNG\"},\"CFGScale\":{\"default\":3.5}}");
    assert_int_equal(add(models, card, &err), RV_OK);
    rv_batch *b = parse_task("x", ",\"seed\":1,\"seedImage\":\"" TASK_UUID "\"");
    assert_clean(b);
    assert_string_equal(
        rv_task_json(rv_batch_task(b, 0), NULL),
        "{\"taskType\":\"imageInference\",\"taskUUID\":\"" TASK_UUID "\",\"model\":\"local:x@1\","
        "\"positivePrompt\":\"a quiet "
        "harbour\",\"width\":256,\"height\":256,\"seed\":1,\"steps\":4,"
        "\"scheduler\":\"Euler\",\"CFGScale\":3.5,\"numberResults\":1,\"seedImage\":\"" TASK_UUID
        "\",\"strength\":0.6,"
        "\"outputType\":\"URL\",\"outputFormat\":\"PNG\",\"outputQuality\":95,\"deliveryMethod\":"
        "\"sync\","
        "\"includeCost\":false}");
    assert_true(rv__task_cost(rv_batch_task(b, 0)) < 0);
    rv_batch_unref(b);
    b = parse_task(
        "x",
        ",\"width\":528,\"height\":528,\"steps\":9,\"scheduler\":\"UniPC\",\"maskImage\":\"x\","
        "\"lora\":[{\"model\":\"a:1@1\",\"weight\":2}],\"acceleratorOptions\":{\"deepCache\":true,"
        "\"deepCacheInterval\":2}");
    static const char *const codes[][2] = {
        {"invalidCustomWidth", "width"},
        {"invalidCustomHeight", "height"},
        {"invalidSteps", "steps"},
        {"invalidScheduler", "scheduler"},
        {"unsupportedParameter", "maskImage"},
        {"invalidWeight", "lora[0].weight"},
        {"unsupportedParameter", "acceleratorOptions.deepCacheInterval"},
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        assert_non_null(find_issue(b, codes[i][0], codes[i][1]));
    assert_int_equal(rv_batch_issues(b, NULL), sizeof codes / sizeof *codes);
    assert_string_equal(find_issue(b, "invalidCustomWidth", NULL)->nearest, "512");
    rv_batch_unref(b);
}

static void test_find(void **state)
{
    rv__models *m = rv__models_new();
    assert_int_equal(add(m, CARD(",\"aliases\":[\"a\",\"b\"]"), NULL), RV_OK);
    assert_int_equal(add(m, "{\"id\":\"local:y@1\",\"name\":\"Y\",\"aliases\":[\"b\"]}", NULL),
                     RV_OK);
    assert_string_equal(rv__models_find(m, "a")->name, "X");
    assert_string_equal(rv__models_find(m, "b")->name, "Y"); /* the newest wins */
    assert_null(rv__models_find(m, "c"));
    assert_null(rv__models_find(m, "LOCAL:X@1"));
    const rv__model *old = rv__models_find(m, "local:x@1");
    assert_int_equal(add(m, "{\"id\":\"local:x@1\",\"name\":\"X2\"}", NULL), RV_OK);
    assert_string_equal(rv__models_find(m, "local:x@1")->name, "X2");
    assert_string_equal(old->name, "X"); /* still there for those who hold it */
    assert_null(rv__models_find(m, "a"));
    assert_int_equal(rv__models_count(m), 2);
    assert_string_equal(rv__models_at(m, 0)->name, "Y");
    assert_string_equal(rv__models_at(m, 1)->name, "X2");
    assert_null(rv__models_at(m, 2));
    rv__models_free(m);
    rv__models_free(NULL);
}

static void test_shipped_cards(void **state)
{
    static const struct {
        const char *id, *steps, *scale;
    } rows[] = {
        {"runware:97@1", "30", "5"}, {"runware:97@2", "28", "0"}, {"runware:97@3", "16", "0"}};
    for (size_t i = 0; i < 3; i++) {
        const rv__model *m = rv__models_find(models, rows[i].id);
        assert_string_equal(rv__field_find(m->fields, "steps")->preset, rows[i].steps);
        assert_string_equal(rv__field_find(m->fields, "CFGScale")->preset, rows[i].scale);
        assert_string_equal(
            rv__json_get_string(rv__json_first(rv__json_get(m->card, "executors")), "name", ""),
            "engine");
    }
}

/* ---- files ------------------------------------------------------------------------------- */

static char root[] = "/tmp/reverie-models-XXXXXX";

static void write_file(const char *name, const char *text)
{
    char *path = rv__format("%s/%s", root, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    rv__free(path);
}

static rv_status add_path(rv__models *m, const char *below, rv_error *err)
{
    char *path = rv__format("%s/%s", root, below);
    rv_status s = rv__models_add(m, path, err);
    rv__free(path);
    return s;
}

static int make_root(void **state)
{
    if (load_models(state) || !mkdtemp(root))
        return -1;
    static const char *const folders[] = {
        "cards", "weights",          "weights/scheduler", "weights/transformer",
        "other", "other/transformer"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char *path = rv__format("%s/%s", root, folders[i]);
        mkdir(path, 0700);
        rv__free(path);
    }
    return 0;
}

static int drop_root(void **state)
{
    static const char *const paths[] = {
        "cards/1.json",
        "cards/2.json",
        "cards/.hidden.json",
        "cards/readme.txt",
        "broken.json",
        "HiDream-I1-Fast.gguf",
        "plain.gguf",
        "weights/scheduler/scheduler_config.json",
        "weights/scheduler",
        "weights/transformer",
        "weights",
        "other/transformer",
        "other",
        "cards",
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char *path = rv__format("%s/%s", root, paths[i]);
        remove(path);
        rv__free(path);
    }
    rmdir(root);
    return free_models(state);
}

static void test_files(void **state)
{
    rv_error err = {0};
    rv__models *m = rv__models_new();
    write_file("cards/2.json", "{\"id\":\"local:two@1\",\"name\":\"Two\"}");
    write_file("cards/1.json",
               "{\"id\":\"local:one@1\",\"name\":\"One\",\"engine\":{\"weights\":\"one.gguf\"}}");
    write_file("cards/.hidden.json", "nothing");
    write_file("cards/readme.txt", "nothing");
    assert_int_equal(add_path(m, "cards", &err), RV_OK);
    assert_int_equal(rv__models_count(m), 2);
    assert_string_equal(rv__models_at(m, 0)->name, "One");
    char *weights = rv__model_weights(rv__models_at(m, 0)), *real = realpath(root, NULL);
    char *wanted = rv__format("%s/cards/one.gguf", real);
    assert_string_equal(weights, wanted);
    assert_null(rv__model_weights(rv__models_at(m, 1)));
    free(real);
    rv__free(wanted);
    rv__free(weights);
    assert_int_equal(add_path(m, "nowhere", &err), RV_NOT_FOUND);
    assert_non_null(strstr(err.message, "nowhere"));
    write_file("broken.json", "{\"id\":7}");
    assert_int_equal(add_path(m, "broken.json", &err), RV_FORMAT);
    assert_non_null(strstr(err.message, "broken.json: id must be"));
    rv__models_free(m);
}

static void test_weights_without_card(void **state)
{
    rv_error err = {0};
    write_file("weights/scheduler/scheduler_config.json",
               "{\"_class_name\":\"FlowMatchLCMScheduler\",\"shift\":6.0}");
    assert_int_equal(add_path(models, "weights", &err), RV_OK);
    const rv__model *m = rv__models_find(models, "hidream-i1-dev");
    assert_string_equal(m->id, "runware:97@2");
    assert_string_equal(rv__field_find(m->fields, "steps")->preset, "28");
    char *weights = rv__model_weights(m);
    assert_non_null(strstr(weights, "/weights"));
    rv__free(weights);
    assert_int_equal(rv__json_get_int(m->engine, "max_sequence_length", 0), 128);

    write_file("HiDream-I1-Fast.gguf", "GGUF");
    assert_int_equal(add_path(models, "HiDream-I1-Fast.gguf", &err), RV_OK);
    m = rv__models_find(models, "runware:97@3");
    weights = rv__model_weights(m);
    assert_non_null(strstr(weights, "/HiDream-I1-Fast.gguf"));
    rv__free(weights);

    write_file("plain.gguf", "GGUF");
    assert_int_equal(add_path(models, "plain.gguf", &err), RV_OK);
    assert_string_equal(rv__models_find(models, "local:plain@1")->name, "plain");
    assert_int_equal(add_path(models, "other", &err), RV_OK);
    assert_string_equal(rv__models_find(models, "local:other@1")->name, "other");
}

static void test_out_of_memory(void **state)
{
    static const char card[] =
        CARD(",\"aliases\":[\"x\"],\"parameters\":{\"steps\":{\"default\":4},"
             "\"scheduler\":{\"words\":[\"Euler\"],\"default\":\"Euler\"}}");
    bool done = false;
    for (long n = 1; !done && n < 10000; n++) {
        rv_error err = {0};
        rv__alloc_fail_after(n);
        rv__models *m = rv__models_new();
        rv_status s = m ? add(m, card, &err) : RV_MEMORY;
        rv__alloc_fail_after(0);
        assert_true(s == RV_OK || s == RV_MEMORY);
        done = s == RV_OK;
        rv__models_free(m);
    }
    assert_true(done);
}

/* ---- what is derived --------------------------------------------------------------------- */

static void test_schema(void **state)
{
    assert_null(rv__schema_json(models, "nobody"));
    char *text = rv__schema_json(models, "hidream-i1-full");
    rv__value *s = rv__json_parse(text, strlen(text), NULL);
    assert_non_null(s);
    const rv__value *p = rv__json_get(s, "properties");
    const rv__value *width = rv__json_get(p, "width");
    assert_int_equal(rv__json_get_int(width, "minimum", 0), 128);
    assert_int_equal(rv__json_get_int(width, "maximum", 0), 2048);
    assert_int_equal(rv__json_get_int(width, "multipleOf", 0), 16);
    assert_int_equal(rv__json_get_int(width, "default", 0), 1024);
    assert_string_equal(rv__json_get_string(width, "x-unit", ""), "px");
    assert_int_equal(rv__json_size(rv__json_get(rv__json_get(p, "scheduler"), "enum")), 75);
    assert_string_equal(rv__json_digits(rv__json_get(rv__json_get(p, "seed"), "maximum")),
                        "9223372036854776000");
    assert_int_equal(rv__json_size(rv__json_get(s, "required")), 4);
    const rv__value *lora = rv__json_get(rv__json_get(p, "lora"), "items");
    assert_true(rv__json_get_number(rv__json_get(rv__json_get(lora, "properties"), "weight"),
                                    "minimum", 0) == -4);
    assert_null(rv__json_get(p, "seedImage"));
    assert_true(rv__json_size(rv__json_get(s, "x-rules")) > 10);
    for (const rv__value *v = rv__json_first(p); v; v = rv__json_next(v))
        assert_true(rv__json_get_string(v, "description", NULL) &&
                    rv__json_get_string(v, "x-group", NULL) &&
                    rv__json_get_string(v, "title", NULL));
    rv__json_free(s);
    rv__free(text);
    text = rv__schema_json(models, GENERIC_MODEL);
    s = rv__json_parse(text, strlen(text), NULL);
    assert_non_null(rv__json_get(rv__json_get(s, "properties"), "seedImage"));
    rv__json_free(s);
    rv__free(text);
}

static void test_list(void **state)
{
    char *text = rv__models_json(models);
    rv__value *list = rv__json_parse(text, strlen(text), NULL);
    assert_int_equal(rv__json_size(list), rv__models_count(models));
    for (const rv__value *v = rv__json_first(list); v; v = rv__json_next(v))
        assert_true(rv__json_get_string(v, "id", NULL) &&
                    rv__json_is_array(rv__json_get(v, "aliases")));
    rv__json_free(list);
    rv__free(text);
}

/* Names that requests may use: those of the card, then files of its folder. */
static void test_loras(void **state)
{
    char folder[] = "/tmp/reverie-loras-XXXXXX", path[256];
    static const char *const files[] = {"ink.safetensors", "notes.txt", ".hidden.safetensors"};
    static const char card[] =
        "{\"id\": \"a:1@1\", \"name\": \"A\", \"family\": \"hidream\", \"engine\": {\"weights\": "
        "\"a.gguf\", \"loras\": {\"local:wax@1\": \"wax.safetensors\"}, \"lora_folder\": \".\"}}";
    rv__models *m = rv__models_new();
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        fclose(fopen(path, "w"));
    }
    assert_int_equal(rv__models_add_json(m, card, sizeof card - 1, folder, NULL), RV_OK);
    char *text = rv__models_json(m);
    assert_non_null(strstr(text, "\"loras\":[\"local:wax@1\",\"ink\"]"));
    rv__free(text);
    rv__models_free(m);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void test_keep(void **state)
{
    rv__models *m = rv__models_new();
    char *path = source_path("config/models");
    assert_int_equal(rv__models_add(m, path, NULL), RV_OK);
    rv__free(path);
    rv__models_keep(m, "runware:97@1 *-dev");
    assert_int_equal(rv__models_count(m), 2);
    assert_non_null(rv__models_find(m, "hidream-i1-full"));
    assert_non_null(rv__models_find(m, "runware:97@2"));
    assert_null(rv__models_find(m, "runware:97@3"));
    rv__models_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shipped_cards), cmocka_unit_test(test_wrong_cards),
        cmocka_unit_test(test_schema),        cmocka_unit_test(test_list),
        cmocka_unit_test(test_loras),
        cmocka_unit_test(test_overrides),     cmocka_unit_test(test_find),
        cmocka_unit_test(test_files),         cmocka_unit_test(test_weights_without_card),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_keep),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
