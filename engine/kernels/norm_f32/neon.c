/* neon.c: two pairs of vectors, 16 tokens. */
#define NAME(kind) wn_##kind##_8__neon
#include "engine/kernels/norm_f32/kernel.inc"
