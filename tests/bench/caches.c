/* Speed against likeness of the step caches on the model that ships: a table for
 * common/engine/caches.md, the mean over a few prompts.
 *
 *   caches [MODEL.gguf [STEPS [GUIDANCE]]]
 *
 * Speed is told in evaluations, which do not depend on the machine, and as the processor's time for
 * whole pictures against that without a cache, measured in turns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "engine/pipeline.h"

enum { SIDE = 256, BYTES = SIDE * SIDE * 3, PROMPTS = 4 };

static const char *const prompts[PROMPTS] = {
    "a pine forest at sunset with the sun on the right",
    "a city at night with a full moon",
    "snowy mountains at dawn, a red hot air balloon on the left",
    "a large blue square on a yellow background",
};

/* Of all threads: neighbours matter less to it than to the time on the wall. */
static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double squares(const uint8_t *a, const uint8_t *b)
{
    double sum = 0;

    for (int i = 0; i < BYTES; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum / BYTES;
}

static double psnr(double mean_square)
{
    return mean_square > 0 ? 10 * log10(255.0 * 255.0 / mean_square) : HUGE_VAL;
}

typedef struct result {
    double ratio, psnr, worst; /* ratio: time against that without a cache, run by run in pairs */
    int all, skipped;
} result;

static bool paint_one(rv__pipeline *p, int i, int steps, double guidance,
                      const rv__cache_options *cache, uint8_t *out, double *took)
{
    rv__picture_request r = {.prompt = prompts[i], .sequence = 24, .steps = steps,
                             .guidance = guidance, .width = SIDE, .height = SIDE,
                             .seed = (uint64_t)i + 1, .cache = cache};
    rv_error err = {0};
    double start = seconds();

    if (rv__pipeline_run(p, &r, out, NULL, &err) != RV_OK) {
        fprintf(stderr, "caches: %s\n", err.message);
        return false;
    }
    *took += seconds() - start;
    return true;
}

static bool paint(rv__pipeline *p, int steps, double guidance, const rv__cache_options *cache,
                  result *out)
{
    static uint8_t exact[BYTES], bytes[BYTES];
    double plain = 0, cached = 0, sum = 0, worst = 0;

    *out = (result){0};
    for (int i = 0; i < PROMPTS; i++) {
        int all, skipped;
        double d;

        if (!paint_one(p, i, steps, guidance, NULL, exact, &plain) ||
            !paint_one(p, i, steps, guidance, cache, bytes, &cached))
            return false;
        rv__pipeline_evaluations(p, &all, &skipped);
        out->all += all;
        out->skipped += skipped;
        d = squares(bytes, exact);
        sum += d / PROMPTS;
        worst = d > worst ? d : worst;
    }
    out->psnr = psnr(sum);
    out->worst = psnr(worst);
    out->ratio = cached / plain;
    return true;
}

static bool row(rv__pipeline *p, const rv__value *card, int steps, double guidance,
                const char *options)
{
    rv__value *json = rv__json_parse(options, strlen(options), NULL);
    rv__cache_options cache;
    result r;
    bool done;

    if (!json)
        return false;
    rv__cache_read(json, card, 0, steps, &cache);
    rv__json_free(json);
    done = paint(p, steps, guidance, &cache, &r);
    if (done)
        printf("| `%s` | %d of %d | %.2f | %.1f | %.1f |\n", options, r.skipped, r.all,
               r.ratio, r.psnr, r.worst);
    fflush(stdout);
    return done;
}

/* The card's own limits, so that the table tells what its users get. */
static rv__value *read_card(const char *path)
{
    static char text[1 << 16];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;

    if (f)
        fclose(f);
    return rv__json_parse(text, n, NULL);
}

static bool table(rv__pipeline *p, const rv__value *card, int steps, double guidance)
{
    static const char *const names[][2] = {{"teaCache", "teaCacheDistance"},
                                           {"fbCache", "fbCacheThreshold"},
                                           {"dbCache", "dbCacheThreshold"}};
    static const double values[] = {0, 0.1, 0.25, 0.5, 0.75, 1};

    printf("%d steps, guidance %.0f, %dx%d, mean of %d prompts.\n\n", steps, guidance, SIDE, SIDE,
           PROMPTS);
    printf("| options | evaluations skipped | time | PSNR | the worst |\n|---|---|---|---|---|\n");
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
            char options[128];

            snprintf(options, sizeof options, "{\"%s\":true,\"%s\":%.2f}", names[k][0], names[k][1],
                     values[i]);
            if (!row(p, card, steps, guidance, options))
                return false;
        }
    return true;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : SOURCE_ROOT "/config/models/reverie-demo.gguf";
    rv__value *card = read_card(SOURCE_ROOT "/config/models/reverie-demo.json");
    rv__device *d = NULL;
    rv__weights *w = NULL;
    rv__pipeline *p = NULL;
    rv_error err = {0};
    bool done = false;

    if (!getenv("OMP_WAIT_POLICY")) {
        setenv("OMP_WAIT_POLICY", "passive", 1);
        execv("/proc/self/exe", argv);
    }
    if (rv__device_open(2, &d, &err) == RV_OK && rv__weights_open(path, &w, &err) == RV_OK &&
        rv__pipeline_open(d, w, &p, &err) == RV_OK)
        done = table(p, rv__json_get(rv__json_get(card, "engine"), "step_caches"),
                     argc > 2 ? (int)strtol(argv[2], NULL, 10) : 16, argc > 3 ? strtod(argv[3], NULL) : 4);
    if (!done)
        fprintf(stderr, "caches: %s\n", err.message);
    rv__pipeline_close(p);
    rv__weights_close(w);
    rv__device_close(d);
    rv__json_free(card);
    return done ? 0 : 1;
}
