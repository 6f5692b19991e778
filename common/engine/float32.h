/* Products in float32 for processors with AVX-512.  Weights are laid out in panels of 32 outputs, so
 * that 14 rows by 32 outputs stay in registers; inputs are read where they lie.  Sums have one order:
 * blocks of 448 along the summed axis, each from its first number to its last, as OpenBLAS's kernel
 * for these processors has it, so that results depend neither on threads and tiles nor on which of
 * both made a product.  Must not be called where rv__float32_usable says no.  Any thread. */
#ifndef RV_FLOAT32_H
#define RV_FLOAT32_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RV__FLOAT32_PANEL = 32, RV__FLOAT32_ROWS = 14, RV__FLOAT32_ALIGN = 64 };

/* Has this processor the instructions? */
bool rv__float32_usable(void);

/* Floats of the panels of so many outputs. */
static inline int64_t rv__float32_room(int64_t in, int64_t out)
{
    return (out + RV__FLOAT32_PANEL - 1) / RV__FLOAT32_PANEL * RV__FLOAT32_PANEL * in;
}

/* Rows of weights, one per output, to panels. */
void rv__float32_pack(const float *w, int64_t out, int64_t ldw, int64_t in, float *panels);

/* The same from in rows of out numbers. */
void rv__float32_pack_columns(const float *w, int64_t out, int64_t ldw, int64_t in, float *panels);

/* y (rows x out, stride ldy) = scale * x panels^T, or += when add is set. */
void rv__float32_multiply(const float *x, int64_t ldx, int64_t rows, const float *panels,
                          int64_t in, int64_t out, float scale, float *y, int64_t ldy, bool add);

#endif
