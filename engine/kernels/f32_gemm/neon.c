/* neon.c: 6 rows x 16 columns. */
#define NAME  wn_f32_gemm_6x16__neon
#define NV    2
#define BLOCK 1
#include "engine/kernels/f32_gemm/kernel.inc"
