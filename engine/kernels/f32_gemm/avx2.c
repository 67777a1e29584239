/* avx2.c: 6 rows x 16 columns. BLOCK 2 to 32 were measured: alike. */
#define NAME  wn_f32_gemm_6x16__avx2
#define NV    2
#define BLOCK 8
#include "engine/kernels/f32_gemm/kernel.inc"
