/* GGUF models from hostile bytes, through the whole door: a file that is mapped, walked and sorted
 * into parts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/gguf_file.h"
#include "engine/weights.h"

static unsigned sum_of(const void *data, size_t size)
{
    unsigned sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += ((const unsigned char *)data)[i];
    return sum;
}

/* Reads everything the model offers, to its last byte. */
static unsigned use(const rv__weights *w)
{
    unsigned sum = 0;
    const char *name;
    for (size_t p = 0; (name = rv__weights_part_name(w, p)) != NULL; p++) {
        size_t count;
        const rv__tensor *list = rv__weights_list(w, name, &count);
        for (size_t i = 0; i < count; i++) {
            if (rv__weights_find(w, name, list[i].name) != &list[i] || list[i].n_dims > 4)
                abort();
            sum += sum_of(list[i].data, list[i].size);
        }
    }
    for (size_t i = 0; (name = rv__weights_file_name(w, i)) != NULL; i++) {
        size_t len;
        const char *data = rv__weights_file(w, name, &len);
        if (!data || data[len] != '\0')
            abort();
        sum += sum_of(data, len);
    }
    return sum;
}

/* The reader below the model: files that are no models of ours are inspected with it. */
static unsigned use_reader(const uint8_t *data, size_t size)
{
    unsigned char *copy = malloc(size ? size : 1); /* exactly as large, and aligned */
    rv__gguf *g = NULL;
    unsigned sum = 0;
    rv_error err = {0};
    if (copy && size)
        memcpy(copy, data, size);
    if (copy && rv__gguf_parse(copy, size, "input", &g, &err) == RV_OK) {
        size_t count;
        const rv__tensor *tensors = rv__gguf_tensors(g, &count);
        for (size_t i = 0; i < count; i++)
            sum += sum_of(tensors[i].data, tensors[i].size);
        const rv__gguf_pair *pairs = rv__gguf_pairs(g, &count);
        for (size_t i = 0; i < count; i++) {
            uint64_t number = 0;
            rv__gguf_uint(g, pairs[i].key, &number);
            sum += (unsigned)number + sum_of(pairs[i].data, pairs[i].size);
        }
    }
    rv__gguf_close(g);
    free(copy);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    volatile unsigned keep = use_reader(data, size);
    int fd = memfd_create("input", MFD_CLOEXEC);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    rv__weights *w = NULL;
    rv_error err = {0};
    if (fd >= 0 && write(fd, data, size) == (ssize_t)size &&
        rv__weights_open(path, &w, &err) == RV_OK)
        keep += use(w);
    rv__weights_close(w);
    if (fd >= 0)
        close(fd);
    (void)keep;
    return 0;
}
