/* Sizes as the OpenAI protocol and Lumenfall write them: WxH, ratios, tiers. */
#ifndef RV_OPENAI_SIZE_H
#define RV_OPENAI_SIZE_H

#include "table.h"

typedef struct rv__openai_size {
    const rv__field *fields;                    /* of the model: its own size and the steps of a side */
    const rv__value *size, *ratio, *resolution; /* as sent; NULL: absent                              */
    int64_t          input_width, input_height; /* of the picture to edit; 0: none                    */
    /* Result: width 0 leaves the model's own size.  wrong is a static sentence or NULL. */
    int64_t     width, height;
    const char *parameter, *wrong;
} rv__openai_size;

/* The order of the sources: WxH; a ratio with a tier (or the model's own area); the picture to edit, at most a
 * megapixel; nothing.  Limits of a side are the table's business, so results may be outside them; only the size that
 * follows from a picture is brought inside. */
void rv__openai_size_find(rv__openai_size *s);

#endif
