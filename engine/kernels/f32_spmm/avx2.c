/* avx2.c: one row x 48, or 64, 32 and 16 at the end columns. */
#define NAME wn_f32_spmm_1x48__avx2
#include "engine/kernels/f32_spmm/kernel.inc"
