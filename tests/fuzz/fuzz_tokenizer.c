/* Tokenizers under hostile prompts and hostile files.  The first byte says what the rest is:
 *   0..3  a prompt for one of the golden tokenizers; the second byte is the length to cut or pad to
 *   4     tokenizer.json, tokenizer_config.json, special_tokens_map.json, prompt, separated by NUL
 *   5     vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json, prompt, likewise
 *   6     spiece.model, tried with a prompt of its own */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES = 5 };

typedef struct folder {
    const char *names[FILES];
    char *texts[FILES];
    size_t lens[FILES];
} folder;

static const char *read_folder(const void *source, const char *path, size_t *len)
{
    const folder *f = source;
    const char *name = strrchr(path, '/') + 1;
    for (int i = 0; i < FILES; i++)
        if (f->names[i] && f->texts[i] && strcmp(f->names[i], name) == 0) {
            *len = f->lens[i];
            return f->texts[i];
        }
    return NULL;
}

static void require(int truth)
{
    if (!truth)
        abort();
}

/* What holds for all ids: lengths agree, padding is at the end, and the cut form begins and ends
 * like the whole one. */
static void check(const rv__tokenizer *t, const char *text, size_t len, size_t length)
{
    rv__token_ids whole, cut;
    rv_error err = {0};
    if (rv__tokenizer_encode(t, text, len, 0, &whole, &err)) {
        require(err.message[0] && !whole.ids);
        return;
    }
    require(whole.length == whole.used && whole.used == whole.total);
    if (length && !rv__tokenizer_encode(t, text, len, length, &cut, &err)) {
        require(cut.length == length && cut.total == whole.total && cut.used <= length);
        require(cut.used == (whole.total < length ? whole.total : length));
        for (size_t i = 0; i < cut.used; i++)
            require(cut.mask[i] == 1 &&
                    (i + t->after_count >= cut.used || cut.ids[i] == whole.ids[i]));
        for (size_t i = 0; i < t->after_count; i++)
            require(cut.ids[cut.used - 1 - i] == whole.ids[whole.used - 1 - i]);
        for (size_t i = cut.used; i < length; i++)
            require(cut.mask[i] == 0 && cut.ids[i] == t->pad);
        rv__token_ids_free(&cut);
    }
    for (size_t i = 0; i < whole.length; i++)
        require(whole.ids[i] >= 0);
    rv__token_ids_free(&whole);
}

static const rv__tokenizer *golden(int which)
{
    static const char *const folders[] = {"tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4"};
    static rv__tokenizer *open[4];
    static rv__weights *weights;
    rv_error err = {0};
    if (!weights && rv__weights_open(SOURCE_ROOT "/tests/golden/tiny-hidream", &weights, &err))
        require(0);
    if (!open[which] && rv__tokenizer_open(weights, folders[which], &open[which], &err))
        require(0);
    return open[which];
}

/* Cuts the input at NULs; the last file takes the rest.  Each file gets memory of its own. */
static void fill(folder *f, int count, const uint8_t *data, size_t size)
{
    for (int i = 0; i < count; i++) {
        const uint8_t *zero = i + 1 < count ? memchr(data, 0, size) : NULL;
        size_t n = zero ? (size_t)(zero - data) : size;
        f->texts[i] = malloc(n + 1);
        f->lens[i] = n;
        require(f->texts[i] != NULL);
        if (n)
            memcpy(f->texts[i], data, n);
        f->texts[i][n] = 0;
        data += zero ? n + 1 : n;
        size -= zero ? n + 1 : n;
    }
}

static void try_files(const char *const *names, int count, const uint8_t *data, size_t size)
{
    static const char text[] = "A red fox, caf\xC3\xA9 e\xCC\x81 12 <s></s> \xE7\x8C\xAB!";
    folder f = {0};
    rv__tokenizer *t;
    rv_error err = {0};
    memcpy(f.names, names, (size_t)count * sizeof *names);
    fill(&f, count, data, size);
    if (!rv__tokenizer_open_files(read_folder, &f, "tok", &t, &err)) {
        check(t, text, sizeof text - 1, 7);
        for (int i = 0; i < count; i++)
            if (strcmp(names[i], "prompt") == 0)
                check(t, f.texts[i], f.lens[i], 40);
    } else {
        require(err.message[0] && !t);
    }
    rv__tokenizer_close(t);
    for (int i = 0; i < count; i++)
        free(f.texts[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const fast[] = {"tokenizer.json", "tokenizer_config.json",
                                       "special_tokens_map.json", "prompt"};
    static const char *const clip[] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                       "special_tokens_map.json", "prompt"};
    static const char *const spiece[] = {"spiece.model"};
    if (size < 2)
        return 0;
    switch (data[0] & 7) {
    case 4:
        try_files(fast, 4, data + 1, size - 1);
        break;
    case 5:
        try_files(clip, 5, data + 1, size - 1);
        break;
    case 6:
    case 7:
        try_files(spiece, 1, data + 1, size - 1);
        break;
    default:
        check(golden(data[0] & 3), (const char *)data + 2, size - 2, data[1]);
    }
    return 0;
}
