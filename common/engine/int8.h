/* Products of numbers of eight bits, for processors with AVX-512 VNNI.  Rows and weights are cut
 * into blocks of 64 along the summed axis; each block of a row has a scale of its own, each sum
 * within a block is exact, and blocks are added in float32 in one order, so that results depend
 * neither on threads nor on tiles.  Must not be called where rv__int8_usable says no.  Any thread. */
#ifndef RV_INT8_H
#define RV_INT8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RV__INT8_BLOCK = 64, RV__INT8_PANEL = 64, RV__INT8_ALIGN = 64 };

/* 64 inputs of 64 outputs.  offset takes back the 128 that was added to make inputs unsigned. */
typedef struct rv__int8_block {
    int8_t w[RV__INT8_BLOCK / 4][RV__INT8_PANEL][4];
    float scale[RV__INT8_PANEL];
    int32_t offset[RV__INT8_PANEL];
} rv__int8_block;

/* Has this processor the instructions? */
bool rv__int8_usable(void);

static inline int64_t rv__int8_blocks(int64_t in)
{
    return (in + RV__INT8_BLOCK - 1) / RV__INT8_BLOCK;
}

static inline int64_t rv__int8_panels(int64_t out)
{
    return (out + RV__INT8_PANEL - 1) / RV__INT8_PANEL;
}

/* A row of inputs: its blocks as bytes (value / scale + 128), then a float32 scale per block. */
static inline size_t rv__int8_row_bytes(int64_t in)
{
    return (size_t)rv__int8_blocks(in) * (RV__INT8_BLOCK + sizeof(float));
}
void rv__int8_row(const float *x, int64_t in, uint8_t *out);

/* Numbers from 0 to 1 that need no sign, all with the scale 1/255.  Returns the bytes' sum. */
int64_t rv__int8_shares(const float *x, int64_t in, uint8_t *out);

/* Sixteen outputs of a panel of weights, from the given one on: rows (fewer are filled up with
 * zeros, also none) x in, to blocks of 64-byte alignment.  Inputs will be those of rv__int8_row or,
 * for shares, those of rv__int8_shares. */
enum { RV__INT8_ROWS = 16 };
void rv__int8_pack(const float *w, int64_t rows, int64_t ldw, int64_t in, bool for_shares,
                   int output, rv__int8_block *out);

/* The same from rows of q4_K (tensor_rows.h), stride bytes apart, whose numbers need no floats in
 * between: each half of a block has but 16 values, which are rounded in a table.  The scale is that
 * of the largest value they could have. */
void rv__int8_pack_q4_k(const uint8_t *w, int64_t rows, size_t stride, int64_t in, int output,
                        rv__int8_block *out);

/* A whole panel from in rows of at most 64 columns, which are the outputs. */
void rv__int8_pack_columns(const float *w, int64_t columns, int64_t ldw, int64_t in,
                           bool for_shares, rv__int8_block *out);

/* y (rows x 64, stride ldy) = x panel^T; x: rows of rv__int8_row_bytes(blocks * 128). */
void rv__int8_multiply(const uint8_t *x, int64_t rows, const rv__int8_block *panel, int64_t blocks,
                       float *y, int64_t ldy);

#endif
