/* The stub executor: a deterministic picture from a hash of the task, without any model, for tests
 * and trials.
 *
 * Words in the prompt script its behaviour:
 *     stub:fail=STATUS  fails with this status word ("serverError", "busy", "safety", "memory", …)
 *     stub:after=N      … only after N pictures were delivered
 *     stub:hang         never ends by itself (until cancelled)
 *     stub:nsfw         flags its pictures
 *     stub:warn         warns, and goes on
 *     stub:short        says it is done but delivers one picture less */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "job/deliver.h"
#include "job/executor.h"

enum { DISCS = 6, WORKERS = 4, NAP_MS = 5 };

typedef struct stub {
    int ms; /* per step */
    int preview_steps;
} stub;

typedef struct script {
    rv_status fail; /* RV_OK: no failure */
    size_t after;
    bool hangs, is_flagged, is_short, warns;
} script;

/* ---- hashing ---- */

static uint64_t mix(uint64_t h, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) /* FNV-1a, 64 bit */
        h = (h ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    return h;
}

static uint64_t draw(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Everything that makes the picture what it is, and nothing else, is in its recipe. */
static bool hash_task(const rv_task *t, size_t index, uint64_t *out)
{
    char *recipe = rv__recipe_of(t, index);
    if (recipe)
        *out = mix(UINT64_C(0xcbf29ce484222325), recipe, strlen(recipe));
    bool ok = recipe != NULL;
    rv__free(recipe);
    return ok;
}

/* ---- painting ---- */

typedef struct colour {
    int c[3];
} colour;

typedef struct disc {
    int64_t x, y, r;
    colour colour;
} disc;

static colour draw_colour(uint64_t *state, int darkest)
{
    colour c;
    for (int i = 0; i < 3; i++)
        c.c[i] = darkest + (int)(draw(state) % (uint64_t)(256 - darkest));
    return c;
}

/* One row: a gradient between two colours, under translucent discs.  Integers only, so that every
 * machine agrees. */
static void paint_row(uint8_t *row, int y, int w, int h, const colour ends[2],
                      const disc discs[DISCS])
{
    for (int x = 0; x < w; x++) {
        int64_t t = ((int64_t)x * h + (int64_t)y * w) * 256 / (2 * (int64_t)w * h);
        int rgb[3];
        for (int i = 0; i < 3; i++)
            rgb[i] = (int)((ends[0].c[i] * (256 - t) + ends[1].c[i] * t) / 256);
        for (int d = 0; d < DISCS; d++) {
            int64_t dx = x - discs[d].x, dy = y - discs[d].y, rr = discs[d].r * discs[d].r;
            int64_t left = rr - dx * dx - dy * dy;
            if (left <= 0)
                continue;
            int64_t alpha = 40 + left * 150 / rr; /* of 256; soft towards the rim */
            for (int i = 0; i < 3; i++)
                rgb[i] += (int)((discs[d].colour.c[i] - rgb[i]) * alpha / 256);
        }
        for (int i = 0; i < 3; i++)
            row[3 * x + i] = (uint8_t)rgb[i];
    }
}

static rv_image *paint(uint64_t hash, int w, int h)
{
    uint64_t state = hash;
    colour ends[2] = {draw_colour(&state, 90), draw_colour(&state, 20)};
    disc discs[DISCS];
    int small = w < h ? w : h;
    for (int d = 0; d < DISCS; d++) {
        discs[d].x = (int64_t)(draw(&state) % (uint64_t)w);
        discs[d].y = (int64_t)(draw(&state) % (uint64_t)h);
        discs[d].r = small / 10 + (int64_t)(draw(&state) % (uint64_t)(small / 3 + 1));
        discs[d].colour = draw_colour(&state, 0);
    }
    uint8_t *pixels = rv__alloc((size_t)w * (size_t)h * 3);
    if (!pixels)
        return NULL;
    for (int y = 0; y < h; y++)
        paint_row(pixels + (size_t)y * (size_t)w * 3, y, w, h, ends, discs);
    rv_image *image = rv__image_from_pixels(pixels, w, h, 3);
    rv__free(pixels);
    return image;
}

/* ---- running ---- */

static rv_status status_from(const char *word, size_t len)
{
    for (int s = RV_VALIDATION; s <= RV_MISUSE; s++) {
        const char *name = rv_status_word((rv_status)s);
        if (strlen(name) == len && memcmp(name, word, len) == 0)
            return (rv_status)s;
    }
    return RV_SERVER;
}

static script read_script(const char *prompt)
{
    script s = {0};
    const char *fail = strstr(prompt, "stub:fail="), *after = strstr(prompt, "stub:after=");
    if (fail) {
        fail += strlen("stub:fail=");
        s.fail = status_from(fail, strcspn(fail, " "));
    }
    if (after)
        s.after = strtoul(after + strlen("stub:after="), NULL, 10);
    s.hangs = strstr(prompt, "stub:hang") != NULL;
    s.is_flagged = strstr(prompt, "stub:nsfw") != NULL;
    s.warns = strstr(prompt, "stub:warn") != NULL;
    s.is_short = strstr(prompt, "stub:short") != NULL;
    return s;
}

/* Sleeps in naps; false when cancelled.  ms < 0: until cancelled. */
static bool doze(rv__port *port, int ms)
{
    while (ms) {
        if (port->cancelled(port))
            return false;
        int nap = ms < 0 || ms > NAP_MS ? NAP_MS : ms;
        nanosleep(&(struct timespec){.tv_nsec = nap * 1000000L}, NULL);
        if (ms > 0)
            ms -= nap;
    }
    return !port->cancelled(port);
}

static rv_status make_one(const stub *s, const rv_task *t, size_t index, bool is_flagged,
                          rv__port *port, rv_error *err)
{
    const rv__value *v = rv__task_value(t);
    int steps = (int)rv__json_get_int(v, "steps", 1);
    int w = (int)rv__json_get_int(v, "width", 512), h = (int)rv__json_get_int(v, "height", 512);
    uint64_t hash;
    if (!hash_task(t, index, &hash))
        return rv__fail(err, RV_MEMORY, "out of memory");
    for (int i = 1; i <= steps; i++) {
        if (!doze(port, s->ms))
            return rv__fail(err, RV_CANCELLED, "cancelled");
        int every = s->preview_steps ? s->preview_steps : port->delivery->previews;
        bool is_shown = every && (i % every == 0 || i == steps);
        rv_image *preview = is_shown && w >= 8 && h >= 8 ? paint(hash, w / 8, h / 8) : NULL;
        port->step(port, index, i, steps, preview);
        rv_image_unref(preview);
    }
    rv_image *image = paint(hash, w, h);
    if (!image)
        return rv__fail(err, RV_MEMORY, "out of memory");
    if (is_flagged)
        rv__image_set_facts(image, "", 0, -1, 1);
    port->image(port, index, image);
    return RV_OK;
}

static rv_status stub_run(void *self, const rv_task *t, rv__port *port, rv_error *err)
{
    script s = read_script(rv__json_get_string(rv__task_value(t), "positivePrompt", ""));
    size_t n = rv__task_results(t) - (s.is_short ? 1 : 0);
    if (s.warns)
        port->warn(port, "stubWarning", "positivePrompt", "the stub was told to \"warn\"");
    for (size_t i = 0; i < n; i++) {
        if (s.fail != RV_OK && i == s.after)
            return rv__fail(err, s.fail, "the stub was told to fail");
        if (s.hangs && !doze(port, -1))
            return rv__fail(err, RV_CANCELLED, "cancelled");
        rv_status status = make_one(self, t, i, s.is_flagged, port, err);
        if (status != RV_OK)
            return status;
    }
    return s.fail != RV_OK && s.after >= n ? rv__fail(err, s.fail, "the stub was told to fail")
                                           : RV_OK;
}

static void stub_close(void *self)
{
    rv__free(self);
}

rv_status rv__stub_open(const rv__executor_options *o, const rv__executor **executor, void **self,
                        rv_error *err)
{
    static const rv__executor stub_executor = {
        .name = "stub", .workers = WORKERS, .run = stub_run, .close = stub_close};
    stub *s = rv__calloc(1, sizeof *s);
    if (!s)
        return rv__fail(err, RV_MEMORY, "out of memory");
    s->ms = o->stub_ms;
    s->preview_steps = o->preview_steps;
    *executor = &stub_executor;
    *self = s;
    return RV_OK;
}
