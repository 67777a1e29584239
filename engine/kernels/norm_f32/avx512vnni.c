/* avx512vnni.c: one vector of 16 tokens. */
#define WN_F32_VEC512
#define NAME(kind) wn_##kind##_16__avx512vnni
#include "engine/kernels/norm_f32/kernel.inc"
