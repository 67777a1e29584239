/* avx2.c: one row x 48, or 64, 32 and 16 at the end columns; two rows x 32; four rows x 24 or 16. */
#define NAME_1 wn_f32_spmm_1x48__avx2
#define NAME_2 wn_f32_spmm_2x32__avx2
#define NAME_4 wn_f32_spmm_4x24__avx2
#define AHEAD  WN_F32_SPMM_AHEAD
#include "engine/kernels/f32_spmm/kernel.inc"
