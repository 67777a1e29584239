/* avx2.c: two vectors of 8 tokens. */
#define NAME(kind) wn_##kind##_8__avx2
#include "engine/kernels/norm_f32/kernel.inc"
