/* avx512vnni.c: one row x 128, 64, 48, 32 or 16 columns; two rows x up to 96; four rows x up to 64. */
#define WN_F32_VEC512
#define NAME_1 wn_f32_spmm_1x128__avx512vnni
#define NAME_2 wn_f32_spmm_2x96__avx512vnni
#define NAME_4 wn_f32_spmm_4x64__avx512vnni
#define AHEAD  WN_F32_SPMM_AHEAD
#include "engine/kernels/f32_spmm/kernel.inc"
