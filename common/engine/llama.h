/* Llama as a text encoder: token ids in, the states behind every layer out, padding included. */
#ifndef RV_LLAMA_H
#define RV_LLAMA_H

#include "text_encoder.h"

typedef struct rv__llama rv__llama;

/* Device, weights and the text `part` must outlive it (out; rv__llama_close).  Errors name the
 * tensor or the value of config.json. */
rv_status rv__llama_open(rv__device *d, const rv__weights *w, const char *part, rv__llama **out,
                         rv_error *err);
void rv__llama_close(rv__llama *l);
rv__params *rv__llama_params(rv__llama *l); /* to be changed before the first run */

int64_t rv__llama_layers(const rv__llama *l);
int64_t rv__llama_channels(const rv__llama *l);

/* out: [layers][tokens][channels]; the last layer's states went through the final norm, the others
 * did not. Taps: "embeddings", "layer.0" …. */
rv_status rv__llama_run(rv__llama *l, const rv__text_run *run, float *out, rv_error *err);

/* Rotary frequencies: half as many as a head has channels; borrowed. */
const float *rv__llama_frequencies(const rv__llama *l, int64_t *count);

#endif
