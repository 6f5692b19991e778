/* Pictures that come with a request: whatever the bytes are, reading them ends with a picture of the
 * size its header names or with words, and everything is given back. */
#include <stdint.h>
#include <stdlib.h>

#include "image/image.h"
#include "image/raster.h"

/* Small, so that the fuzzer spends its time on forms and not on areas. */
enum { PIXELS = 1 << 16 };

static void look(rv_image *image)
{
    rv_image_info info = rv_image_facts(image);
    const uint8_t *pixels = rv_image_pixels(image);
    unsigned sum = 0;
    if (info.width < 1 || info.height < 1 || (int64_t)info.width * info.height > PIXELS)
        abort();
    for (size_t i = 0; pixels && i < (size_t)info.width * (size_t)info.height *
                                         (size_t)info.channels; i++)
        sum += pixels[i];
    if (sum == UINT32_MAX)
        abort(); /* keeps the loop */
    rv_free(rv_image_recipe(image));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rv_image *image = NULL;
    rv_error err;
    int turned = rv__exif_orientation(data, size);
    if (turned < 1 || turned > 8)
        abort();
    if (rv__image_from_bytes(data, size, PIXELS, &image, &err) == RV_OK) {
        rv__raster raster;
        look(image);
        if (rv__raster_decode(data, size, "seedImage", &raster, &err) == RV_OK) {
            rv__raster_flatten(&raster);
            rv__raster_free(&raster);
        }
    } else if (!*err.message) {
        abort();
    }
    rv_image_unref(image);
    return 0;
}
