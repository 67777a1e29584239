/* neon.c: one row x 48, or 64, 32 and 16 at the end columns; two rows x 32; four rows x 24 or 16. */
#define NAME_1 wn_f32_spmm_1x48__neon
#define NAME_2 wn_f32_spmm_2x32__neon
#define NAME_4 wn_f32_spmm_4x24__neon
#define AHEAD  0
#include "engine/kernels/f32_spmm/kernel.inc"
