/* f32_avx2.c: eight columns per step. */
#define NAME wn_pool_f32_8__avx2
#define MEAN wn_pool_f32_mean_8__avx2
#include "engine/kernels/pool/f32_kernel.inc"
