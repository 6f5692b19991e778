/* A model folder made of texts, for the tests of tokenizers and text encoders. */
#ifndef TOKENIZER_KIT_H
#define TOKENIZER_KIT_H

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/memory.h"
#include "engine/tokenizer.h"
#include "engine/weights.h"

static char kit_root[64];

static inline const char *kit_golden(const char *path)
{
    static char full[4][1024];
    static int next;
    char *out = full[next++ % 4];
    snprintf(out, sizeof full[0], "%s/tests/golden/%s", getenv("SOURCE_ROOT"), path);
    return out;
}

static inline int kit_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static inline void kit_put(const char *path, const void *data, size_t len)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", kit_root, path);
    for (char *slash = strchr(full + strlen(kit_root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *f = fopen(full, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static inline void kit_text(const char *path, const char *text)
{
    kit_put(path, text, strlen(text));
}

/* A new folder with one tensor in it, so that it counts as a model. */
static inline void kit_begin(void)
{
    char file[8 + 64 + 4 + 1] = {64};
    snprintf(file + 8, 65, "%-64s",
             "{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
    snprintf(kit_root, sizeof kit_root, "/tmp/reverie-tokenizer-XXXXXX");
    assert_non_null(mkdtemp(kit_root));
    memset(file + 72, 0, 4);
    kit_put("vae/model.safetensors", file, 8 + 64 + 4);
}

static inline void kit_end(void)
{
    nftw(kit_root, kit_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* Bytes of a file (free). */
static inline char *kit_read(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(*len + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *len, f), *len);
    data[*len] = 0;
    fclose(f);
    return data;
}

/* Copies a golden file into the folder under the same or another name. */
static inline void kit_copy(const char *golden, const char *path)
{
    size_t len;
    char *data = kit_read(kit_golden(golden), &len);
    kit_put(path, data, len);
    free(data);
}

static inline rv__weights *kit_open(const char *path)
{
    rv__weights *w = NULL;
    rv_error err = {0};
    rv_status status = rv__weights_open(path, &w, &err);
    if (status)
        print_message("%s\n", err.message);
    assert_int_equal(status, RV_OK);
    return w;
}

#endif
