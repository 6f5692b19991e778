/* Pictures that come with a request of the OpenAI protocol: from form files, base64, data URIs or URLs to the texts
 * that the Runware parameters take; masks from transparency to white and black. */
#ifndef RV_OPENAI_INPUT_H
#define RV_OPENAI_INPUT_H

#include "openai.h"

enum { RV__OPENAI_PICTURES = 16 };

typedef struct rv__openai_input {
    char   *picture;       /* seedImage (rv__free); NULL: none */
    char   *mask;          /* maskImage                        */
    char   *more[RV__OPENAI_PICTURES]; /* referenceImages      */
    size_t  more_count;
    int64_t width, height; /* of the picture, upright; 0: not known (a URL) */
} rv__openai_input;

/* Reads what is there; what is wrong goes to o->errors.  Decodes pictures that have transparency. */
void rv__openai_input_read(rv__openai *o, const rv__value *image, const rv__value *mask, const rv__part *parts,
                           size_t part_count, bool required, rv__openai_input *out);
void rv__openai_input_free(rv__openai_input *in);

/* openai.c */
void rv__openai_refuse(rv__openai *o, const char *parameter, const char *message);

#endif
