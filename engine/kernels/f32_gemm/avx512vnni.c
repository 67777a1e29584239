/* avx512vnni.c: 6 rows x 64 columns. */
#define WN_F32_VEC512
#define NAME  wn_f32_gemm_6x64__avx512vnni
#define NV    4
#define BLOCK 8
#include "engine/kernels/f32_gemm/kernel.inc"
