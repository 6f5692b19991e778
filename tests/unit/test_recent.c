/* recent.c: which answers are repeated, and to whom. */
#include "job/recent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define UUID "7d3c2b5a-5d1e-4f6a-9b1c-0123456789ab"
#define DONE "{\"taskType\":\"imageInference\",\"status\":\"success\"}"
#define OPEN "{\"taskType\":\"imageInference\",\"status\":\"processing\"}"

static rv *context;
static rv__recent *list;

/* Keeps an answer given to this owner, or (item NULL) looks for one: what is found. */
static char *ask(const char *uuid, const char *owner, const char *url, const char *item)
{
    char *text = rv__format("[{\"taskType\":\"getResponse\",\"taskUUID\":\"%s\"}]", uuid);
    rv_batch *b = rv_batch_parse(context, text, strlen(text));
    rv_call call = {.owner = (char *)owner, .results_url = (char *)url};
    rv__slot slot = {.call = &call, .task = rv_batch_task(b, 0), .item = (char *)item};
    bool found = !item && rv__recent_find(list, &slot);
    if (item)
        rv__recent_keep(&list, &slot);
    else
        assert_true(found == (slot.item != NULL));
    rv_batch_unref(b);
    rv__free(text);
    return slot.item;
}

static bool knows(const char *uuid, const char *owner, const char *url)
{
    char *found = ask(uuid, owner, url, NULL);
    bool is_right = found && strcmp(found, DONE) == 0;
    rv__free(found);
    return is_right;
}

static void test_whom(void **state)
{
    assert_false(knows(UUID, "a", NULL));
    ask(UUID, "a", NULL, DONE);
    assert_true(knows(UUID, "a", NULL));
    assert_true(knows("7D3C2B5A-5d1e-4f6a-9b1c-0123456789ab", "a", NULL));
    assert_false(knows(UUID, "b", NULL));
    assert_false(knows(UUID, NULL, NULL));
    assert_false(knows(UUID, "a", "https://other/"));
    assert_false(knows("8d3c2b5a-5d1e-4f6a-9b1c-0123456789ab", "a", NULL));
}

static void test_which(void **state)
{
    static const char other[] = "9d3c2b5a-5d1e-4f6a-9b1c-0123456789ab";
    ask(other, NULL, NULL, OPEN);
    assert_false(knows(other, NULL, NULL));
    char *large = rv__format("{%5000s}", "");
    ask(other, NULL, NULL, large);
    assert_false(knows(other, NULL, NULL));
    rv__free(large);
    ask(other, NULL, NULL, DONE);
    assert_true(knows(other, NULL, NULL));
    assert_true(knows(UUID, "a", NULL));
    rv__recent_free(list);
    list = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_whom), cmocka_unit_test(test_which)};
    if (rv_open(&context) != RV_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rv_close(context);
    return failed;
}
