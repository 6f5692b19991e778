/* Replicate: predictions of one picture each, waited for and then polled.  The HiDream model there
 * knows seven sizes; others are refused, unless the card says "adapt": true, and then the nearest
 * shape is taken with a warning. */
#include "remote/service.h"

#include <math.h>
#include <string.h>

enum { BODY_MAX = 1 << 20 };

static const rv__mapping map[] = {
    {"model", NULL, "said by the address"},
    {"positivePrompt", "prompt", NULL},
    {"negativePrompt", "negative_prompt", NULL},
    {"width", "resolution", "one of seven sizes"},
    {"height", "resolution", "one of seven sizes"},
    {"steps", "speed_mode", "16: the most consistent of the fast modes"},
    {"seed", "seed", NULL},
    {"numberResults", NULL, "as many predictions"},
    {"outputFormat", "output_format", NULL},
    {"outputQuality", "output_quality", NULL},
    {0},
};

static const struct {
    int width, height;
    const char *name;
} sizes[] = {
    {1024, 1024, "1024 \u00d7 1024 (Square)"},  {768, 1360, "768 \u00d7 1360 (Portrait)"},
    {1360, 768, "1360 \u00d7 768 (Landscape)"}, {880, 1168, "880 \u00d7 1168 (Portrait)"},
    {1168, 880, "1168 \u00d7 880 (Landscape)"}, {1248, 832, "1248 \u00d7 832 (Landscape)"},
    {832, 1248, "832 \u00d7 1248 (Portrait)"},
};

enum { SIZES = sizeof sizes / sizeof *sizes };

static int nearest(const rv__value *v)
{
    double ratio = rv__json_get_number(v, "width", 1024) / rv__json_get_number(v, "height", 1024);
    int best = 0;
    for (int i = 1; i < SIZES; i++) {
        double d = fabs(log(ratio * sizes[i].height / sizes[i].width));
        if (d < fabs(log(ratio * sizes[best].height / sizes[best].width)))
            best = i;
    }
    return best;
}

static rv_status check(const rv_task *t, const rv__value *route, rv_error *err)
{
    const rv__value *v = rv__task_value(t);
    int i = nearest(v);
    bool is_exact = rv__json_get_int(v, "width", 0) == sizes[i].width &&
                    rv__json_get_int(v, "height", 0) == sizes[i].height;
    if (!is_exact && !rv__json_get_bool(route, "adapt", false))
        return rv__fail_code(err, RV_UNSUPPORTED, "unsupportedParameter", "width",
                             "Replicate has no pictures of this size; the nearest is %d x %d",
                             sizes[i].width, sizes[i].height);
    if (rv__json_get_int(v, "steps", 16) != 16 && !rv__json_get_bool(route, "adapt", false))
        return rv__fail_code(err, RV_UNSUPPORTED, "unsupportedParameter", "steps",
                             "Replicate has no step count; 16 stands for its usual one");
    if (rv__json_get_number(v, "CFGScale", 0) > 0)
        return rv__fail_code(err, RV_UNSUPPORTED, "unsupportedParameter", "CFGScale",
                             "Replicate has no CFGScale");
    return RV_OK;
}

/* The seed is a signed 64-bit number there, and -1 means random: the sign bit is left out. */
static uint64_t seed_of(const rv__errand *e)
{
    return rv__task_seed(e->task, e->told) & INT64_MAX;
}

static const char *speed_mode(const rv__value *v)
{
    int64_t steps = rv__json_get_int(v, "steps", 16);
    return steps < 12   ? "Juiced \U0001F525 (more speed)"
           : steps > 24 ? "Unsqueezed \U0001F34B (highest quality)"
                        : "Lightly Juiced \U0001F34A (more consistent)";
}

static void ask(rv__errand *e, int delay_ms)
{
    rv__sending s = {.url = rv__format("%s/predictions/%s", e->url, e->id),
                     .is_question = true,
                     .delay_ms = delay_ms};
    rv__errand_send(e, &s);
}

static void begin(rv__errand *e)
{
    if (rv__errand_resume(e)) {
        ask(e, 0);
        return;
    }
    const char *format = rv__json_get_string(e->value, "outputFormat", "JPG");
    rv__buf b;
    rv__buf_init(&b, BODY_MAX);
    rv__buf_adds(&b, "{\"input\":{\"prompt\":");
    rv__json_write_string(&b, rv__task_prompt(e->task));
    if (rv__json_get(e->value, "negativePrompt")) {
        rv__buf_adds(&b, ",\"negative_prompt\":");
        rv__json_write_value(&b, rv__json_get(e->value, "negativePrompt"));
    }
    rv__buf_adds(&b, ",\"model_type\":\"fast\",\"speed_mode\":");
    rv__json_write_string(&b, speed_mode(e->value));
    rv__buf_adds(&b, ",\"resolution\":");
    rv__json_write_string(&b, sizes[nearest(e->value)].name);
    rv__buf_addf(&b, ",\"seed\":%llu,\"output_format\":\"%s\",\"output_quality\":%d}}",
                 (unsigned long long)seed_of(e),
                 strcmp(format, "JPG") == 0   ? "jpg"
                 : strcmp(format, "PNG") == 0 ? "png"
                                              : "webp",
                 (int)rv__json_get_int(e->value, "outputQuality", 95));
    rv__sending s = {.url = rv__format("%s/models/%s/predictions", e->url, e->model),
                     .body = b,
                     .headers = {"Prefer: wait=60"}};
    rv__errand_send(e, &s);
}

static void refuse(rv__errand *e, int http, const rv__value *body)
{
    const rv__value *field = rv__json_first(rv__json_get(body, "invalid_fields"));
    const char *text = rv__json_get_string(
        body, "detail", rv__json_get_string(body, "title", "refused without a reason"));
    rv__errand_fail(e, http == 422 ? RV_VALIDATION : rv__http_status(http), NULL,
                    rv__json_get_string(field, "field", NULL), "%s", text);
}

static void read_output(rv__errand *e, const rv__value *output)
{
    if (rv__json_is_array(output))
        output = rv__json_first(output);
    size_t i = e->told;
    rv__found f = {.url = rv__json_string(output), .cost = -1, .nsfw = -1};
    rv__errand_found(e, i, &f);
    if (e->told == i + 1 && e->told < e->wanted) {
        rv__free(e->id);
        e->id = NULL;
        begin(e);
    }
}

static void answer(rv__errand *e, int http, const rv__value *body)
{
    const char *status = rv__json_get_string(body, "status", "");
    const char *reason = rv__json_get_string(body, "error", "no reason was given");
    if (!e->id && !rv__errand_accepted(e, rv__json_get_string(body, "id", NULL)))
        return;
    if (strcmp(status, "succeeded") == 0) {
        read_output(e, rv__json_get(body, "output"));
    } else if (strcmp(status, "starting") == 0 || strcmp(status, "processing") == 0) {
        ask(e, rv__errand_pause(e));
    } else {
        bool is_blocked = strstr(reason, "NSFW") || strstr(reason, "sensitive");
        rv__errand_fail(e, is_blocked ? RV_SAFETY : RV_PROVIDER, NULL, NULL,
                        "the prediction ended as %.40s: %.200s", *status ? status : "nothing",
                        reason);
    }
}

static bool cancel(rv__errand *e, bool *is_put, char **url)
{
    *is_put = false;
    *url = rv__format("%s/predictions/%s/cancel", e->url, e->id);
    return true;
}

const rv__service rv__replicate = {.name = "replicate",
                                   .label = "Replicate",
                                   .url = "https://api.replicate.com/v1",
                                   .key_env = "REPLICATE_API_TOKEN",
                                   .key_form = "Authorization: Bearer ",
                                   .map = map,
                                   .check = check,
                                   .begin = begin,
                                   .answer = answer,
                                   .refuse = refuse,
                                   .cancel = cancel};
