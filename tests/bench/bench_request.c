/* How long a request takes to be checked and normalised, beside cJSON only parsing the same text.
 * Best of many rounds, so that other processes do not count. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "request/task.h"
#include "stopwatch.h"

static void check_once(const rv__check_settings *s, const char *text, size_t len)
{
    rv_batch *b = rv__batch_parse(s, text, len);
    if (!b || rv_batch_issues(b, NULL))
        exit(1);
    rv_batch_unref(b);
}

static void parse_once(const char *text, size_t len)
{
    cJSON *v = cJSON_ParseWithLength(text, len);
    if (!v)
        exit(1);
    cJSON_Delete(v);
}

/* Microseconds of one call: the best of 200 rounds of 50. */
static double time_of(const rv__check_settings *s, const char *text, size_t len)
{
    double best = 1e9;
    for (int round = 0; round < 200; round++) {
        double start = now_us();
        for (int i = 0; i < 50; i++) {
            if (s)
                check_once(s, text, len);
            else
                parse_once(text, len);
        }
        double us = (now_us() - start) / 50;
        best = us < best ? us : best;
    }
    return best;
}

static void bench(const rv__check_settings *s, const char *name)
{
    static char text[65536];
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/requests/%s", SOURCE_ROOT, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        exit(1);
    size_t len = fread(text, 1, sizeof text, f);
    fclose(f);
    double ours = time_of(s, text, len), theirs = time_of(NULL, text, len);
    printf("bench request-check %.14s: %.1f us | cJSON parse only %.1f us | ratio %.1f\n", name,
           ours, theirs, ours / theirs);
}

static int is_seed(const struct dirent *d)
{
    return strncmp(d->d_name, "hidream-", 8) == 0;
}

int main(void)
{
    struct dirent **names;
    int n = scandir(SOURCE_ROOT "/tests/requests", &names, is_seed, alphasort);
    rv__check_settings s = {.models = rv__models_new()};
    rv_error err = {0};
    if (n < 1 ||
        rv__models_add((rv__models *)s.models, SOURCE_ROOT "/config/models", &err) != RV_OK)
        return 1;
    for (int i = 0; i < n; i++) {
        bench(&s, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    rv__models_free((rv__models *)s.models);
    return 0;
}
