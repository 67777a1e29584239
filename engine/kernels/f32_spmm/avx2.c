/* avx2.c: one row x 64, 48, 32 or 16 columns. */
#define NAME wn_f32_spmm_1x64__avx2
#include "engine/kernels/f32_spmm/kernel.inc"
