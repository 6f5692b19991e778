/* CLIP text encoder with projection: token ids in, one vector out. */
#ifndef RV_CLIP_H
#define RV_CLIP_H

#include "text_encoder.h"

typedef struct rv__clip rv__clip;

/* Device, weights and the text `part` must outlive it (out; rv__clip_close).  Errors name the
 * tensor or the value of config.json. */
rv_status rv__clip_open(rv__device *d, const rv__weights *w, const char *part, rv__clip **out,
                        rv_error *err);
void rv__clip_close(rv__clip *c);
rv__params *rv__clip_params(rv__clip *c); /* to be changed before the first run */

int64_t rv__clip_channels(const rv__clip *c);  /* of the result                  */

/* out: rv__clip_channels floats.  Taps: "embeddings", "layer.0" …, "last_hidden_state".  Without
 * taps what follows the end of the text is left out, as attention is causal. */
rv_status rv__clip_run(rv__clip *c, const rv__text_run *run, float *out, rv_error *err);

#endif
