/* f32_avx512vnni.c: sixteen columns per step. */
#define WN_F32_VEC512
#define NAME wn_pool_f32_16__avx512vnni
#define MEAN wn_pool_f32_mean_16__avx512vnni
#include "engine/kernels/pool/f32_kernel.inc"
