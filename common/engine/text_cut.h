/* Where a prompt that is too long ends for each text encoder, in words for whoever wrote it. */
#ifndef RV_TEXT_CUT_H
#define RV_TEXT_CUT_H

#include "engine/text.h"

/* A sentence (out; rv__free) like "is longer than the model reads: CLIP-L stops after word 57
 * ("hills"), …"; NULL when every encoder sees all of it, or without memory.  length: tokens per
 * encoder, as rv__text_encode gets it.  It quotes the prompt: for its owner, not for logs. */
char *rv__text_cut(const rv__text *t, const char *prompt, size_t length);

#endif
