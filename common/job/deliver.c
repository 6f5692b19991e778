/* Delivery work, on the thread of the executor so that no event loop ever encodes a picture.  The
 * bytes of a file depend on its recipe, format and quality only: identities and times stay in the
 * item. */
#include "deliver.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/base64.h"
#include "base/memory.h"
#include "base/uuid.h"
#include "request/formats.h"

enum { RECIPE_MAX = 1 << 20, ITEM_MAX = 1 << 16 };

bool rv__recipe_leaves_out(const char *key)
{
    static const char *const names[] = {
        "taskType",       "taskUUID",       "numberResults", "outputType",
        "outputFormat",   "outputQuality",  "ttl",           "webhookURL",
        "uploadEndpoint", "deliveryMethod", "includeCost",   "seed"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(key, names[i]) == 0)
            return true;
    }
    return false;
}

/* Pictures sent along are no words: a recipe names those that have a name and leaves others out.  So
 * it does with URLs that have a query, where access keys use to be. */
static bool is_inline_picture(const rv__value *v)
{
    const char *key = rv__json_key(v), *text = rv__json_string(v);
    if (!text || (strcmp(key, "seedImage") != 0 && strcmp(key, "maskImage") != 0))
        return false;
    bool is_name = rv__uuid_valid(text, strlen(text)) || (rv__url_valid(text) && !strchr(text, '?'));
    return !is_name;
}

char *rv__recipe_of(const rv_task *task, size_t index)
{
    rv__buf b;
    rv__buf_init(&b, RECIPE_MAX);
    rv__buf_addf(&b, "{\"seed\":%" PRIu64, rv__task_seed(task, index));
    for (const rv__value *v = rv__json_first(rv__task_value(task)); v; v = rv__json_next(v)) {
        if (rv__recipe_leaves_out(rv__json_key(v)) || is_inline_picture(v))
            continue;
        rv__buf_adds(&b, ",");
        rv__json_write_string(&b, rv__json_key(v));
        rv__buf_adds(&b, ":");
        rv__json_write_value(&b, v);
    }
    rv__buf_adds(&b, "}");
    return rv__buf_take(&b, NULL);
}

static rv_status no_memory(rv_error *err)
{
    return rv__fail(err, RV_MEMORY, "out of memory");
}

/* Everything but the closing brace and the picture itself. */
static void write_facts(rv__buf *b, const rv_task *task, const rv_image_info *facts)
{
    rv__buf_adds(b, "{\"taskType\":");
    rv__json_write_string(b, rv__task_type(task));
    rv__buf_adds(b, ",\"taskUUID\":");
    rv__json_write_string(b, rv__task_uuid(task) ? rv__task_uuid(task) : "");
    rv__buf_adds(b, ",\"imageUUID\":");
    rv__json_write_string(b, facts->uuid);
    rv__buf_addf(b, ",\"seed\":%" PRIu64, facts->seed);
    if (rv__json_get_bool(rv__task_value(task), "includeCost", false) && facts->cost >= 0) {
        rv__buf_adds(b, ",\"cost\":");
        rv__json_write_double(b, facts->cost);
    }
    if (facts->nsfw >= 0)
        rv__buf_adds(b, facts->nsfw ? ",\"NSFWContent\":true" : ",\"NSFWContent\":false");
}

/* {facts,"imageBase64Data":"…"}: allocated once at its final size, since a picture may have many
 * megabytes. */
static char *inline_item(rv__buf *facts, const char *key, const char *prefix, const void *bytes,
                         size_t len)
{
    rv__buf_addf(facts, ",\"%s\":\"%s", key, prefix);
    size_t size = rv__base64_size(len);
    if (facts->failed || size > SIZE_MAX - facts->len - 3)
        return NULL;
    char *item = rv__alloc(facts->len + size + 3);
    if (!item)
        return NULL;
    memcpy(item, facts->data, facts->len);
    rv__base64_encode(bytes, len, item + facts->len);
    memcpy(item + facts->len + size, "\"}", 3);
    return item;
}

static char *data_item(rv__buf *facts, rv__image_format format, bool is_uri, const void *bytes,
                       size_t len)
{
    if (!is_uri)
        return inline_item(facts, "imageBase64Data", "", bytes, len);
    char *prefix = rv__format("data:%s;base64,", rv__format_mime(format));
    char *item = prefix ? inline_item(facts, "imageDataURI", prefix, bytes, len) : NULL;
    rv__free(prefix);
    return item;
}

static rv_status stored_item(const rv_task *task, rv_image *image, const rv__delivery *delivery,
                             rv__store *store, rv__image_format format, const void *bytes,
                             size_t len, rv__buf *facts, rv_error *err)
{
    if (!store)
        return rv__fail_code(err, RV_UNSUPPORTED, NULL, "outputType",
                             "pictures cannot be stored here");
    int64_t ttl = rv__json_get_int(rv__task_value(task), "ttl", delivery->ttl);
    char name[RV__STORE_NAME];
    rv_status s = rv__store_put(store, bytes, len, rv__format_ext(format),
                                ttl > 0 ? time(NULL) + ttl : 0, name, err);
    if (s != RV_OK)
        return s;
    char *url = delivery->results_url ? rv__format("%s%s", delivery->results_url, name)
                                      : rv__format("file://%s/%s", rv__store_folder(store), name);
    bool ok = url && rv__image_set_url(image, url);
    if (ok) {
        rv__buf_adds(facts, ",\"imageURL\":");
        rv__json_write_string(facts, url);
        rv__buf_adds(facts, "}");
    }
    rv__free(url);
    return ok ? RV_OK : no_memory(err);
}

static rv_status make_item(const rv_task *task, rv_image *image, const rv__delivery *delivery,
                           rv__store *store, char **item, rv_error *err)
{
    const rv__value *v = rv__task_value(task);
    const char *type = rv__json_get_string(v, "outputType", "URL");
    rv__image_format format = rv__format_from(rv__json_get_string(v, "outputFormat", "JPG"));
    void *bytes = NULL;
    size_t len = 0;
    rv_status s = rv_image_encode(image, rv__format_name(format),
                                  (int)rv__json_get_int(v, "outputQuality", 95), &bytes, &len, err);
    if (s != RV_OK)
        return s;
    rv__buf facts;
    rv__buf_init(&facts, ITEM_MAX);
    rv_image_info info = rv_image_facts(image);
    write_facts(&facts, task, &info);
    if (strcmp(type, "URL") == 0) {
        s = stored_item(task, image, delivery, store, format, bytes, len, &facts, err);
        *item = s == RV_OK ? rv__buf_take(&facts, NULL) : NULL;
    } else {
        *item = data_item(&facts, format, strcmp(type, "dataURI") == 0, bytes, len);
    }
    if (s == RV_OK && !*item)
        s = no_memory(err);
    rv__buf_free(&facts);
    rv_free(bytes);
    return s;
}

rv_status rv__deliver(const rv_task *task, size_t index, rv_image *image,
                      const rv__delivery *delivery, rv__store *store, char **item, rv_error *err)
{
    *item = NULL;
    char uuid[RV__UUID_SIZE];
    if (!rv__uuid_make(uuid))
        return rv__fail(err, RV_IO, "the system gives no random numbers");
    /* Executors elsewhere know seed and cost better: theirs stand in pictures that have a name already. */
    rv_image_info found = rv_image_facts(image);
    uint64_t seed = *found.uuid ? found.seed : rv__task_seed(task, index);
    double cost = *found.uuid && found.cost >= 0 ? found.cost : rv__task_cost(task);
    rv__image_set_facts(image, uuid, seed, cost, found.nsfw);
    if (!delivery->items)
        return RV_OK; /* the port adds the recipe */
    char *recipe = rv__recipe_of(task, index);
    bool ok = recipe && rv__image_set_recipe(image, recipe);
    rv__free(recipe);
    return ok ? make_item(task, image, delivery, store, item, err) : no_memory(err);
}
