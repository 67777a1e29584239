/* f32_avx512vnni.c: sixteen elements per step. */
#define WN_F32_VEC512
#define NAME(kind) wn_elt_f32_##kind##_16__avx512vnni
#include "engine/kernels/eltwise/f32_kernel.inc"
