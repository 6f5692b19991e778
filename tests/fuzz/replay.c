/* Runs a fuzzer's function over saved inputs, for builds without libFuzzer: every file of the
 * folders given. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return 0;
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    uint8_t *data = size >= 0 ? malloc((size_t)size + 1) : NULL;
    int read = data && fread(data, 1, (size_t)size, f) == (size_t)size;
    fclose(f);
    if (read)
        LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    return read;
}

static int run_folder(const char *folder)
{
    int count = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        char path[4096];
        int len = snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.' && len > 0 && (size_t)len < sizeof path)
            count += run_file(path);
    }
    if (dir)
        closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++)
        count += run_folder(argv[i]);
    printf("%d inputs\n", count);
    return count ? 0 : 1; /* an empty corpus tests nothing */
}
