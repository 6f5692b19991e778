/* T5 encoder (version 1.1): token ids in, one vector per position out, padding included. */
#ifndef RV_T5_H
#define RV_T5_H

#include "text_encoder.h"

typedef struct rv__t5 rv__t5;

/* Device, weights and the text `part` must outlive it (out; rv__t5_close).  Errors name the tensor
 * or the value of config.json. */
rv_status rv__t5_open(rv__device *d, const rv__weights *w, const char *part, rv__t5 **out,
                      rv_error *err);
void rv__t5_close(rv__t5 *t);
rv__params *rv__t5_params(rv__t5 *t); /* to be changed before the first run */

int64_t rv__t5_channels(const rv__t5 *t); /* of the result */
int64_t rv__t5_heads(const rv__t5 *t);

/* out: [tokens][channels].  Taps: "layer.0" ….  Padding is not attended to, but its own rows are
 * computed. */
rv_status rv__t5_run(rv__t5 *t, const rv__text_run *run, float *out, rv_error *err);

/* What is added to the scores, for key - query from 1 - length to length - 1;
 * out: [heads][2 * length - 1]. */
rv_status rv__t5_position_bias(const rv__t5 *t, size_t length, float *out, rv_error *err);

#endif
