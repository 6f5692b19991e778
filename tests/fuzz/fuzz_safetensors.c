/* Safetensors from hostile bytes.  An even first byte: the rest is the file.  An odd one: the
 * second byte times eight is the length of the data, the rest the header, whose length is put
 * before it, so that mutations reach the JSON. */
#include <stdlib.h>
#include <string.h>

#include "engine/safetensors.h"

static void use(const rv__safetensors *s, const unsigned char *data, size_t size)
{
    size_t count;
    unsigned sum = 0;
    const rv__safetensor *list = rv__safetensors_list(s, &count);
    for (size_t i = 0; i < count; i++) {
        const rv__tensor *t = &list[i].tensor;
        const unsigned char *at = t->data;
        if (at < data || t->size > size || at > data + size - t->size)
            abort();
        for (size_t k = 0; k < t->size; k++)
            sum += at[k];
        if (i && strcmp(list[i - 1].tensor.name, t->name) >= 0)
            abort();
        if (rv__safetensors_find(s, t->name) != &list[i])
            abort();
    }
    rv__json_size(rv__safetensors_metadata(s));
    volatile unsigned keep = sum;
    (void)keep;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t header = size - 2, body = data[0] & 1 ? data[1] * 8u : 0;
    size_t whole = data[0] & 1 ? 8 + header + body : size - 1;
    unsigned char *file = calloc(1, whole);
    if (!file)
        return 0;
    if (data[0] & 1) {
        for (int i = 0; i < 8; i++)
            file[i] = (unsigned char)(header >> (8 * i));
        memcpy(file + 8, data + 2, header);
    } else {
        memcpy(file, data + 1, whole);
    }
    rv__safetensors *s;
    rv_error err = {0};
    if (rv__safetensors_parse(file, whole, "input", &s, &err) == RV_OK)
        use(s, file, whole);
    rv__safetensors_close(s);
    free(file);
    return 0;
}
