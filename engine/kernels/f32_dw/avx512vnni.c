/* avx512vnni.c: one channel x 128, 64 or 16 columns. */
#define WN_F32_VEC512
#define NAME  wn_f32_dw_1x128__avx512vnni
#define NAME2 wn_f32_dw2_1x128__avx512vnni
#include "engine/kernels/f32_dw/kernel.inc"
