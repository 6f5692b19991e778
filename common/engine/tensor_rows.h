/* Stored numbers as the F32 they mean: the one place that knows every way tensors are stored in.
 * Must not keep or copy more than the rows it is asked for. */
#ifndef RV_TENSOR_ROWS_H
#define RV_TENSOR_ROWS_H

#include "weights.h"

/* Whether its numbers can be turned into F32. */
bool rv__tensor_is_float(const rv__tensor *t);

/* Whether ggml may read it where it lies: what it stores is what it means. */
bool rv__tensor_is_plain(const rv__tensor *t);

/* "f16", "q4_K" …; "f8_e4m3" and "f8_e5m2" are not ggml's. */
const char *rv__tensor_type_name(const rv__tensor *t);

/* Where row `row` of the tensor stands in its data.  A row has the length of the last axis; rows
 * are counted over all other axes. */
int64_t rv__tensor_row_place(const rv__tensor *t, int64_t row);

/* Rows [first, first + count) into out.  Any thread. */
void rv__tensor_floats(const rv__tensor *t, int64_t first, int64_t count, float *out);

/* A block of q4_K: 256 numbers of four bits behind their scales.  Of each 64 the first half are the
 * lower halves of 32 bytes and the second half the upper ones; number q of half i is
 * scale[i] * q - least[i]. */
enum { RV__Q4_K_NUMBERS = 256, RV__Q4_K_BYTES = 144, RV__Q4_K_NIBBLES = 16 };
void rv__q4_k_scales(const uint8_t *block, float scale[8], float least[8]);

/* n numbers of one of ggml's types that has a way back to floats. */
void rv__floats_of(enum ggml_type type, const void *from, int64_t n, float *out);

#endif
