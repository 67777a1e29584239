/* f32_neon.c: eight columns per step. */
#define NAME wn_pool_f32_8__neon
#define MEAN wn_pool_f32_mean_8__neon
#include "engine/kernels/pool/f32_kernel.inc"
