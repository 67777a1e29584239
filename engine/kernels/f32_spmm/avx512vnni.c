/* avx512vnni.c: one row x 128, 64, 48, 32 or 16 columns. */
#define WN_F32_VEC512
#define NAME wn_f32_spmm_1x128__avx512vnni
#include "engine/kernels/f32_spmm/kernel.inc"
