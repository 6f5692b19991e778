/* Streams of the OpenAI images protocol: a few partial pictures, then each finished one. */
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "base/base64.h"
#include "openai_call.h"
#include "image/image.h"
#include "image/raster.h"

enum { PARTIAL_SIDE = 256 }; /* previews are scaled up to this: encoding stays under a few ms */

static const char *family(const rv_call *c)
{
    return c->openai->request.kind == RV_OPENAI_GENERATIONS ? "image_generation" : "image_edit";
}

static void open_event(rv__buf *b, const rv_call *c, const char *name)
{
    rv__buf_addf(b, "event: %s.%s\ndata: {\"type\":\"%s.%s\",\"created_at\":%lld,", family(c), name,
                 family(c), name, (long long)time(NULL));
    rv__openai_facts(b, c);
}

static void add_base64(rv__buf *b, const void *bytes, size_t len)
{
    size_t size = rv__base64_size(len);
    char *text = rv__alloc(size + 1);
    if (!text) {
        b->failed = true;
        return;
    }
    rv__base64_encode(bytes, len, text);
    rv__buf_add(b, text, size);
    rv__free(text);
}

/* Previews have a pixel for 8 x 8 of the picture: larger and smooth they can be looked at. */
static rv_image *enlarge(rv_image *preview)
{
    rv_image_info info = rv_image_facts(preview);
    const uint8_t *pixels = rv_image_pixels(preview);
    int longest = info.width > info.height ? info.width : info.height;
    int factor = longest > 0 ? PARTIAL_SIDE / longest : 1;
    rv__raster in = {(uint8_t *)(uintptr_t)pixels, info.width, info.height, info.channels};
    rv__raster out = {0};
    rv_image *image = NULL;
    factor = factor > 8 ? 8 : factor;
    if (!pixels || factor < 2 ||
        rv__raster_resize(&in, info.width * factor, info.height * factor, &out, NULL) != RV_OK)
        return rv_image_ref(preview);
    rv_image_from_pixels(out.pixels, out.width, out.height, out.channels, &image);
    rv__raster_free(&out);
    return image ? image : rv_image_ref(preview);
}

/* Partial pictures are spread over the steps; the last one comes before the last step. */
static bool is_due(rv__openai_state *s, const rv_event *e)
{
    if (s->partials_of != e->index) {
        s->partials_of = e->index;
        s->partials_told = 0;
    }
    if (!e->preview || s->partials_told >= s->request.partials || e->step >= e->steps)
        return false;
    return e->step * (s->request.partials + 1) >= e->steps * (s->partials_told + 1);
}

static char *partial(rv_call *c, const rv_job *j, const rv_event *e, size_t *len)
{
    const char *format = rv__json_get_string(rv__task_value(j->task), "outputFormat", "PNG");
    void *bytes = NULL;
    size_t size = 0;
    rv_image *image = enlarge(e->preview);
    bool ok = rv_image_encode(image, format, 80, &bytes, &size, NULL) == RV_OK;
    rv_image_unref(image);
    if (!ok)
        return NULL;
    rv__buf b;
    rv__buf_init(&b, 1 << 24);
    open_event(&b, c, "partial_image");
    rv__buf_addf(&b, "\"partial_image_index\":%d,\"b64_json\":\"", c->openai->partials_told++);
    add_base64(&b, bytes, size);
    rv__buf_adds(&b, "\"}\n\n");
    rv_free(bytes);
    return rv__buf_take(&b, len);
}

static void write_completed(rv__buf *b, const rv_call *c, uint64_t seed, const char *data,
                            size_t size)
{
    open_event(b, c, "completed");
    rv__buf_addf(b, "\"seed\":%llu,", (unsigned long long)seed);
    rv__openai_usage(b, c, 1);
    rv__buf_adds(b, ",\"b64_json\":\"");
    rv__buf_add(b, data, size);
    rv__buf_adds(b, "\"}\n\n");
}

static char *completed(rv_call *c, const rv_job *j, size_t index, size_t *len)
{
    size_t size = 0;
    const char *data = rv__openai_base64(j, index, &size);
    if (!data)
        return NULL;
    rv__buf b;
    rv__buf_init(&b, SIZE_MAX / 4);
    write_completed(&b, c, rv_image_facts(j->images[index]).seed, data, size);
    return rv__buf_take(&b, len);
}

/* Pictures of a repeat, which has no job that could tell them. */
static char *completed_before(const rv_call *c, size_t *len)
{
    rv__value *items = c->openai->request.stream ? rv__openai_known(c) : NULL;
    rv__buf b;
    rv__buf_init(&b, SIZE_MAX / 4);
    for (const rv__value *v = rv__json_first(items); v; v = rv__json_next(v)) {
        const char *data = rv__json_get_string(v, "imageBase64Data", NULL);
        uint64_t seed = 0;
        rv__json_uint(rv__json_get(v, "seed"), &seed);
        if (data)
            write_completed(&b, c, seed, data, strlen(data));
    }
    rv__json_free(items);
    return b.len ? rv__buf_take(&b, len) : NULL;
}

char *rv_openai_event(rv_call *c, const rv_job *j, const rv_event *e, size_t *len)
{
    if (!c->openai || !c->openai->request.stream)
        return NULL;
    if (e->kind == RV_EVENT_IMAGE)
        return completed(c, j, e->index, len);
    return e->kind == RV_EVENT_STEP && is_due(c->openai, e) ? partial(c, j, e, len) : NULL;
}

char *rv_openai_stream_error(const rv_call *c, size_t *len)
{
    if (!c->openai)
        return NULL;
    if (c->reply.http_status < 400)
        return completed_before(c, len);
    rv__buf b;
    rv__buf_init(&b, SIZE_MAX / 4);
    rv__buf_adds(&b, "event: error\ndata: ");
    rv__buf_add(&b, c->reply.body, c->reply.len);
    rv__buf_adds(&b, "\n\n");
    return rv__buf_take(&b, len);
}
