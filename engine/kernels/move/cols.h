/* cols.h (move): tokens as rows <-> tokens as columns: the transposition before the first and after the last linear
 * layer of a transformer. Blocks of 16 x 16 that stay in cache, four by four in registers (v128.h); any number of threads,
 * each on its own features. */
#ifndef WN_MOVE_COLS_H
#define WN_MOVE_COLS_H

#include "engine/kernels/kernels.h"

/** y[f][t] = x[t][f] for features f0 .. f1 - 1; columns n .. round_up(n, WN_COLS) - 1 become 0.
 *  x (n, k)   y (k, stride), stride >= round_up(n, WN_COLS) */
void wn_move_rows_to_cols_f32(const float *x, size_t n, size_t k, float *y, size_t stride, size_t f0, size_t f1);
/** y[t][f] = x[f][t] for features f0 .. f1 - 1. x (k, stride)   y (n, k) */
void wn_move_cols_to_rows_f32(const float *x, size_t stride, float *y, size_t n, size_t k, size_t f0, size_t f1);
/** The same for bytes and quads: y[f / 4][t][f % 4] = x[t][f]. Features f0 .. f1 - 1, f0 a multiple of 4, f1 too or =
 * k; lanes past k and columns past n become 0. x (n, k)   y (ceil(k / 4), stride) bytes, stride >= 4 * round_up(n,
 * WN_COLS) */
void wn_move_rows_to_quads_u8(const uint8_t *x, size_t n, size_t k, uint8_t *y, size_t stride, size_t f0, size_t f1);
/** y[t][f] = x[f / 4][t][f % 4] for features f0 .. f1 - 1. x (ceil(k / 4), stride) bytes   y (n, k) */
void wn_move_quads_to_rows_u8(const uint8_t *x, size_t stride, uint8_t *y, size_t n, size_t k, size_t f0, size_t f1);

#endif
