/* f32_avx2.c: eight elements per step. */
#define NAME(kind) wn_elt_f32_##kind##_8__avx2
#include "engine/kernels/eltwise/f32_kernel.inc"
