/* How far pictures of a model are from its float32 pictures: precision BASE MODEL [fast]
 * prints one line per prompt and the PSNR over all of them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/pipeline.h"

enum { SIDE = 256, BYTES = SIDE * SIDE * 3, PROMPTS = 4 };

static const char *const prompts[PROMPTS] = {
    "a pine forest at sunset with the sun on the right",
    "a city at night with a full moon",
    "snowy mountains at dawn, a red hot air balloon on the left",
    "a large blue square on a yellow background",
};

static bool paint(const char *path, bool fast, uint8_t out[PROMPTS][BYTES])
{
    rv__device *d = NULL;
    rv__weights *w = NULL;
    rv__pipeline *p = NULL;
    rv_error err = {0};
    bool done = rv__device_open(2, &d, &err) == RV_OK && rv__weights_open(path, &w, &err) == RV_OK &&
                rv__pipeline_open(d, w, &p, &err) == RV_OK;

    if (done)
        rv__pipeline_fast(p, fast);
    for (int i = 0; done && i < PROMPTS; i++) {
        rv__picture_request r = {.prompt = prompts[i], .sequence = 24, .steps = 16, .guidance = 4,
                                 .width = SIDE, .height = SIDE, .seed = (uint64_t)i + 1};

        done = rv__pipeline_run(p, &r, out[i], NULL, &err) == RV_OK;
    }
    if (!done)
        fprintf(stderr, "precision: %s: %s\n", path, err.message);
    rv__pipeline_close(p);
    rv__weights_close(w);
    rv__device_close(d);
    return done;
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

int main(int argc, char **argv)
{
    static uint8_t base[PROMPTS][BYTES], other[PROMPTS][BYTES];
    double all = 0;

    if (argc < 3) {
        fprintf(stderr, "usage: precision BASE MODEL [fast]\n");
        return 2;
    }
    if (!getenv("OMP_WAIT_POLICY")) {
        setenv("OMP_WAIT_POLICY", "passive", 1);
        execv("/proc/self/exe", argv);
    }
    if (!paint(argv[1], false, base) ||
        !paint(argv[2], argc > 3 && strcmp(argv[3], "fast") == 0, other))
        return 1;
    for (int i = 0; i < PROMPTS; i++) {
        double d = squares(base[i], other[i]);

        printf("# %.1f dB  %s\n", psnr(d), prompts[i]);
        all += d / PROMPTS;
    }
    printf("psnr %.2f\n", psnr(all));
    return 0;
}
